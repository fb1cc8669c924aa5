"""t-SNE as a scikit-learn estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne.affinities import affinities as compute_affinities
from napari_embed.tsne.initialization import initial_positions
from napari_embed.tsne.neighbors import neighbor_graph
from napari_embed.tsne.placement import FittedVectors, place, placed
from napari_embed.tsne.presets import start_of

if TYPE_CHECKING:
    from napari_embed.tsne.optimizer import IterationReport, OptimizerState

__all__ = ["TSNE"]


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Dual-hierarchy t-SNE in two or three dimensions.

    Parameters
    ----------
    n_components
        2 or 3.
    perplexity
        Effective number of neighbors of each item; lowered where there are too few
        items (a third of n - 1).
    early_exaggeration, early_exaggeration_iter
        Factor on P at the start, and for how many iterations.
    late_exaggeration, late_exaggeration_iter
        Factor on P in the last iterations of ``max_iter``, and in how many; 1 is off.
        It draws groups together and apart from others. KL is of P itself, and
        ``early_stop`` has no effect.
    learning_rate
        A number, or "auto" for max(200, n / early_exaggeration); "paper" takes 800.
    max_iter
        Iterations in all, early exaggeration included.
    early_stop
        Stop once KL hardly falls any more (relative gain below 1e-4 in 50 iterations).
    metric
        "euclidean" or "cosine", for input vectors.
    neighbors
        Neighbor search: "auto", "exact", "ivf" or "hnsw".
    init
        "pca", "random", or an (n, n_components) array taken as it is. Without vectors
        (input of a graph or of P) "pca" is random. "auto" is "pca", and with the preset
        "paper" random with a standard deviation of 0.1.
    preset
        "fast", "default" or "accurate"; or "paper", which does what was published, for
        comparison.
    theta, cell_size, target
        Override the preset: opening parameter, cell size of the field in map units,
        and "auto", "cells" or "points".
    device
        "auto", "cpu" or "cuda", for the optimizer; the neighbor search takes a GPU
        when FAISS sees one, unless this is "cpu".
    callback
        Called with an `IterationReport` now and then; returning True stops and keeps
        the map.
    random_state
        Seed, generator or None, as in scikit-learn.

    Attributes
    ----------
    embedding_
        (n, n_components) float32 map.
    kl_divergence_
        KL(P || Q) of the map.
    kl_trace_
        (m, 2) iteration and KL of each check on the way.
    n_iter_
        Iterations run.
    n_features_in_
        Length of the vectors, if vectors were given.

    Notes
    -----
    Taichi keeps one program per process. Where another library's is live, the map is
    computed in a child process (logged as a warning), which leaves that one unharmed;
    callbacks still run here.

    Source: van de Ruit, Billeter and Eisemann, An Efficient Dual-Hierarchy t-SNE
    Minimization (2021); van der Maaten and Hinton 2008 for the objective.

    Examples
    --------
    >>> from napari_embed import TSNE
    >>> positions = TSNE(n_components=3, random_state=0).fit_transform(vectors)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        perplexity: float = 30.0,
        early_exaggeration: float = 12.0,
        early_exaggeration_iter: int = 250,
        late_exaggeration: float = 1.0,
        late_exaggeration_iter: int = 250,
        learning_rate: float | str = "auto",
        max_iter: int = 750,
        early_stop: bool = True,
        metric: str = "euclidean",
        neighbors: str = "auto",
        init: str | NDArray[np.floating] = "auto",
        preset: str = "default",
        theta: float | None = None,
        cell_size: float | None = None,
        target: str = "auto",
        device: str = "auto",
        callback: Callable[[IterationReport], bool | None] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.early_exaggeration = early_exaggeration
        self.early_exaggeration_iter = early_exaggeration_iter
        self.late_exaggeration = late_exaggeration
        self.late_exaggeration_iter = late_exaggeration_iter
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.early_stop = early_stop
        self.metric = metric
        self.neighbors = neighbors
        self.init = init
        self.preset = preset
        self.theta = theta
        self.cell_size = cell_size
        self.target = target
        self.device = device
        self.callback = callback
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike | NeighborGraph | Affinities,
        y: object = None,
        *,
        pinned: ArrayLike | None = None,
        checkpoint: OptimizerState | None = None,
    ) -> Self:
        """Compute the map; `y` is ignored.

        Parameters
        ----------
        X
            (n, d) vectors (an array, a memory map, a Zarr array), a `NeighborGraph` or
            `Affinities`; never changed.
        y
            Ignored, present for scikit-learn's pipelines.
        pinned
            (n,) bool: points that stay exactly where ``init``, an array, puts them.
        checkpoint
            A state to go on from, taken by ``report.snapshot()`` in the callback of a
            fit with the same input and settings. On one CPU thread the map is, to the
            bit, that of a run without a break.

        Raises
        ------
        InputError
            If the input or a setting cannot be used.
        """
        from napari_embed.tsne import separate
        from napari_embed.tsne.optimizer import optimize

        seed = self._seed()
        params = self._settings(seed)
        held = self._pinned(pinned)
        vectors, affinities = self._affinities(X, seed)
        how = start_of(params)
        if not isinstance(self.init, str):
            how["init"] = self.init
        start = initial_positions(
            vectors,
            affinities.n,
            n_components=params.n_components,
            random_state=seed,
            **how,
        )
        if separate.needed():
            result = separate.optimize_apart(
                affinities, start, params, callback=self.callback,
                checkpoint=checkpoint, pinned=held,
            )  # fmt: skip
        else:
            result = optimize(
                affinities, start, params, device=params.device,
                callback=self.callback, checkpoint=checkpoint, pinned=held,
            )  # fmt: skip
        self.embedding_ = result.positions
        self.kl_divergence_ = result.kl_divergence
        self.kl_trace_ = np.reshape(result.info.get("kl_trace", ()), (-1, 2))
        self.n_iter_ = result.n_iter
        self._fitted = (
            None
            if vectors is None
            else FittedVectors(vectors, self.metric, self.perplexity, seed)
        )
        self._params = params
        return self

    def fit_transform(
        self,
        X: ArrayLike | NeighborGraph | Affinities,
        y: object = None,
        *,
        pinned: ArrayLike | None = None,
        checkpoint: OptimizerState | None = None,
    ) -> NDArray[np.float32]:
        """Compute the map and return it; see `fit`."""
        self.fit(X, y, pinned=pinned, checkpoint=checkpoint)
        positions: NDArray[np.float32] = self.embedding_
        return positions

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Place new vectors on the finished map, which does not change.

        Each is drawn to its nearest fitted vectors and repelled by all points of the
        map; new points do not see each other, so a row's place does not depend on the
        other rows. A vector that was fitted gets its position on the map.

        Parameters
        ----------
        X
            (m, d) vectors of the fitted kind.

        Returns
        -------
        ndarray
            (m, n_components) float32.

        Raises
        ------
        InputError
            If the map was not fitted on vectors, or the new ones do not fit them or
            hold NaN or Inf.

        Notes
        -----
        The fitted vectors are kept by reference and read again: leave them as they
        were. The search for neighbors is exact.
        """
        check_is_fitted(self, "embedding_")
        if self._fitted is None:
            raise InputError(
                "transform needs the vectors that the map was made of, but it was "
                "fitted on a graph or on affinities. Fit it on vectors."
            )
        vectors = self._vectors(X, reset=False)
        from napari_embed.tsne import separate

        mover = separate.place_apart if separate.needed() else place
        return placed(self._fitted, vectors, self.embedding_, self._params, mover=mover)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _pinned(self, pinned: ArrayLike | None) -> NDArray[np.bool_] | None:
        if pinned is None:
            return None
        held = np.asarray(pinned)
        if held.dtype != bool or held.ndim != 1:
            raise InputError(
                "pinned must be (n,) True or False, one for each item, got "
                f"{held.dtype} of shape {held.shape}."
            )
        if isinstance(self.init, str):
            raise InputError(
                f"pinned holds points where init puts them; init={self.init!r} puts "
                "all near 0. Give init as an (n, n_components) array of positions."
            )
        return held

    def _settings(self, seed: int) -> ProjectionParams:
        values: dict[str, Any] = {
            "n_components": self.n_components,
            "perplexity": self.perplexity,
            "early_exaggeration": self.early_exaggeration,
            "early_exaggeration_iter": self.early_exaggeration_iter,
            "late_exaggeration": self.late_exaggeration,
            "late_exaggeration_iter": self.late_exaggeration_iter,
            "learning_rate": self.learning_rate,
            "max_iter": self.max_iter,
            "early_stop": self.early_stop,
            "preset": self.preset,
            "theta": self.theta,
            "cell_size": self.cell_size,
            "target": self.target,
            "device": self.device,
            "random_state": seed,
        }
        if isinstance(self.init, str):
            values["init"] = self.init
        return ProjectionParams(**values)

    def _affinities(self, given: Any, seed: int) -> tuple[Any, Affinities]:
        """Return the vectors, if there are any, and P."""
        if isinstance(given, Affinities):
            return None, given
        if isinstance(given, NeighborGraph):
            return None, compute_affinities(given, perplexity=self.perplexity)
        vectors = self._vectors(given)
        graph = neighbor_graph(
            vectors,
            n_neighbors=max(math.ceil(3 * self.perplexity), 1),
            metric=self.metric,
            method=self.neighbors,
            device="cpu" if self.device == "cpu" else "auto",
            random_state=seed,
        )
        return vectors, compute_affinities(graph, perplexity=self.perplexity)

    def _vectors(self, given: Any, *, reset: bool = True) -> Any:
        # Arrays on disk are read in blocks later; scikit-learn would load them whole.
        lazy = hasattr(given, "chunks") and not hasattr(given, "__array_function__")
        if lazy:
            if len(given.shape) != 2:
                raise InputError(
                    f"Vectors must have shape (n, d), got {tuple(given.shape)}."
                )
            if reset:
                self.n_features_in_ = int(given.shape[1])
            return given
        # NaN and Inf are looked for in blocks, and named by row, further on.
        return validate_data(
            self, given, reset=reset, dtype="numeric", ensure_all_finite=False
        )

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
