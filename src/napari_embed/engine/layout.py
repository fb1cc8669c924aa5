"""From stored vectors to a map over all items of a project.

Items without a vector take part in nothing: vectors and graph are compacted to the
others, and what is found is spread over all items again (ids -1, positions NaN).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.engine.progress import JobControl
from napari_embed.errors import InputError, JobCancelled
from napari_embed.params import ProjectionParams
from napari_embed.project import Project

if TYPE_CHECKING:
    from napari_embed.arrays import Affinities
    from napari_embed.engine.checkpoint import Checkpoint
    from napari_embed.project.stages import StoredRows
    from napari_embed.tsne.optimizer import IterationReport, OptimizerState
    from napari_embed.tsne.vectors import VectorsLike

__all__ = [
    "NEIGHBORS_PER_PERPLEXITY",
    "Publish",
    "lay_out",
    "over_all_items",
    "valid_vectors",
]

FEWEST_ITEMS = 4
NEIGHBORS_PER_PERPLEXITY = 3
MOST_BYTES_IN_MEMORY = 1 << 30

Publish = Callable[[int, float, "NDArray[np.float32] | None"], None]
"""``publish(iteration, kl_divergence, positions)``: KL may be NaN, positions (over all
items, NaN where there is none) may be None."""


def valid_vectors(
    project: Project, name: str, control: JobControl
) -> tuple[VectorsLike, NDArray[np.int64]]:
    """Return the finite vectors (m, d) float32 and their item ids (m,).

    More than 1 GiB of them are left on the disk and read by slices.

    Raises
    ------
    InputError
        If there are too few for a map.
    """
    stored = project.embeddings(name)
    small = 4 * math.prod(stored.shape) <= MOST_BYTES_IN_MEMORY
    vectors = np.empty(stored.shape if small else (0,), np.float32)
    valid = np.empty(len(stored), bool)
    for first, block in stored.blocks():
        rows = slice(first, first + len(block))
        valid[rows] = np.isfinite(block).all(axis=1)
        if small:
            vectors[rows] = block
        control.progress("reading", rows.stop, len(stored), unit="rows")
    ids = np.flatnonzero(valid)
    if ids.size < FEWEST_ITEMS:
        raise InputError(
            f"At least {FEWEST_ITEMS} items with vectors are needed, {name} has "
            f"{ids.size} of {len(stored)}. Make a project of more images; "
            "`napari-embed status` says why any could not be read."
        )
    if not small:
        return RowsOnDisk(stored, ids), ids
    return (vectors if ids.size == len(stored) else vectors[valid]), ids


class RowsOnDisk:
    """Some rows of stored vectors, in rising order, as an array read by slices.

    Parameters
    ----------
    stored
        The vectors on disk.
    ids
        Which of them, rising.
    """

    def __init__(self, stored: StoredRows, ids: NDArray[np.int64]) -> None:
        self._stored, self._ids = stored, ids
        self.shape = (int(ids.size), *stored.shape[1:])
        # Whole chunks at a time: none is then decoded twice.
        self.chunks = (stored.chunk_rows, *stored.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Return rows as float32."""
        ids = self._ids[rows]
        if not ids.size:
            return np.empty((0, *self.shape[1:]), np.float32)
        # Few rows are missing: reading through them is quicker than picking.
        block = self._stored[int(ids[0]) : int(ids[-1]) + 1]
        return block if len(block) == ids.size else block[ids - ids[0]]


def over_all_items(
    graph: NeighborGraph, ids: NDArray[np.int64], n: int
) -> NeighborGraph:
    """Return a graph of some items as one of all; -1 and Inf for the others."""
    if ids.size == n:
        return graph
    indices = np.full((n, graph.k), -1, np.int32)
    distances = np.full((n, graph.k), np.inf, np.float32)
    indices[ids] = np.where(graph.indices >= 0, ids[graph.indices], -1)
    distances[ids] = graph.distances
    return NeighborGraph(indices, distances, graph.metric, graph.recall)


def _of_valid_items(graph: NeighborGraph, ids: NDArray[np.int64]) -> NeighborGraph:
    """Undo `over_all_items`."""
    if ids.size == graph.n:
        return graph
    number = np.full(graph.n, -1, np.int32)
    number[ids] = np.arange(ids.size, dtype=np.int32)
    indices = graph.indices[ids]
    indices = np.where(indices >= 0, number[indices], -1).astype(np.int32)
    return NeighborGraph(indices, graph.distances[ids], graph.metric, graph.recall)


def lay_out(
    project: Project,
    embeddings: str,
    params: ProjectionParams,
    control: JobControl,
    publish: Publish | None,
    *,
    checkpoint: Checkpoint,
) -> Projection:
    """Return the map over all items; goes on from ``checkpoint`` if it holds one."""
    vectors, ids = valid_vectors(project, embeddings, control)
    places = _Places(ids, project.n_items)
    if params.method == "pca":
        found = _pca(vectors, params, control)
    else:
        graph = project.read_neighbors(embeddings)
        run = _Tsne(params, control, places, publish, checkpoint)
        found = run.lay_out(vectors, graph)
    return replace(found, positions=places.over_all(found.positions))


def _perplexity(wanted: float, n: int, control: JobControl) -> float:
    """Return the perplexity that ``n`` items allow, at most the one wanted."""
    most = (n - 1) / NEIGHBORS_PER_PERPLEXITY
    if wanted <= most:
        return wanted
    control.log(
        f"A perplexity of {wanted:g} needs more than "
        f"{math.ceil(NEIGHBORS_PER_PERPLEXITY * wanted)} items with vectors; for these "
        f"{n} it is lowered to {most:.3g}."
    )
    return most


class _Places:
    """Spreads positions of the valid items over all items."""

    def __init__(self, ids: NDArray[np.int64], n: int) -> None:
        self.ids, self._n = ids, n

    def over_all(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, d) positions, NaN for items that have none."""
        if self.ids.size == self._n:
            return positions
        result = np.full((self._n, positions.shape[1]), np.nan, np.float32)
        result[self.ids] = positions
        return result


def _pca(
    vectors: VectorsLike, params: ProjectionParams, control: JobControl
) -> Projection:
    from napari_embed.tsne import pca_projection

    control.progress("PCA", 0, 1, unit="maps")
    found: Projection = pca_projection(
        vectors, n_components=params.n_components, random_state=params.random_state,
        progress=control.reporter("PCA", unit="rows"),
    )  # fmt: skip
    control.progress("PCA", 1, 1, unit="maps")
    return found


class _Tsne:
    """One t-SNE, from a neighbor graph to its end."""

    def __init__(
        self,
        params: ProjectionParams,
        control: JobControl,
        places: _Places,
        publish: Publish | None,
        checkpoint: Checkpoint,
    ) -> None:
        self._params, self._control, self._places = params, control, places
        self._publish, self._checkpoint = publish, checkpoint
        self._moving = False

    def lay_out(self, vectors: VectorsLike, graph: NeighborGraph) -> Projection:
        """Return the map of the valid items."""
        joint = self._affinities(graph)
        state = self._checkpoint.load()
        try:
            if state is None:
                return self._optimize(joint, vectors, None)
            try:
                return self._optimize(joint, vectors, state)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                if self._moving:
                    raise
                self._checkpoint.refuse(f"cannot be used: {error}")
            return self._optimize(joint, vectors, None)
        finally:
            self._checkpoint.close()

    def _affinities(self, graph: NeighborGraph) -> Affinities:
        from napari_embed.tsne import affinities

        ids, control = self._places.ids, self._control
        perplexity = _perplexity(self._params.perplexity, ids.size, control)
        # The map must not depend on how many more neighbors happen to be stored.
        k = min(graph.k, math.ceil(NEIGHBORS_PER_PERPLEXITY * perplexity))
        graph = _of_valid_items(graph, ids)
        graph = replace(
            graph,
            indices=np.ascontiguousarray(graph.indices[:, :k]),
            distances=np.ascontiguousarray(graph.distances[:, :k]),
        )
        control.progress("affinities", 0, ids.size, unit="rows")
        joint: Affinities = affinities(graph, perplexity=perplexity)
        control.progress("affinities", ids.size, ids.size, unit="rows")
        return joint

    def _optimize(
        self,
        joint: Affinities,
        vectors: VectorsLike,
        state: OptimizerState | None,
    ) -> Projection:
        from napari_embed.tsne.optimizer import optimize

        start = self._start(vectors) if state is None else self._kept(state)
        words = ""
        if state is not None:
            words = f"Going on from iteration {state.iteration} of "
            words += f"{self._params.max_iter}."
            self._control.log(words)
        # The first iteration builds the kernels: its time says nothing about the
        # others, so the rate of the stage "t-SNE" is counted from its end.
        self._control.progress("starting t-SNE", 0, 1, unit="steps", message=words)
        return optimize(
            joint, start, self._params, device=self._params.device,
            callback=self._follow, checkpoint=state,
        )  # fmt: skip

    def _start(self, vectors: VectorsLike) -> NDArray[np.float32]:
        from napari_embed.tsne import initial_positions
        from napari_embed.tsne.presets import start_of

        how = start_of(self._params)
        found: NDArray[np.float32] = initial_positions(
            vectors if how["init"] == "pca" else None,
            self._places.ids.size,
            n_components=self._params.n_components,
            random_state=self._params.random_state,
            **how,
        )
        return found

    def _kept(self, state: OptimizerState) -> NDArray[np.float32]:
        """Return the positions of a state, which stand for a start of that shape."""
        positions = np.asarray(state.arrays["positions"], np.float32)
        expected = (self._places.ids.size, self._params.n_components)
        if positions.shape != expected:
            raise InputError(f"it is of {positions.shape} numbers, not {expected}")
        return positions

    def _follow(self, report: IterationReport) -> bool:
        """Report, publish and keep; return whether to end now."""
        self._moving = True
        control = self._control
        try:
            if control.paused:
                self._checkpoint.save(report)
            control.progress(
                "t-SNE", report.iteration, report.max_iter, unit="iterations"
            )
        except JobCancelled:
            self._checkpoint.save(report)
            raise
        stop = control.stop_requested
        if stop:
            self._checkpoint.save(report)
        if self._publish is not None:
            positions = report.positions
            self._publish(
                report.iteration,
                report.kl_divergence,
                None if positions is None else self._places.over_all(positions),
            )
        self._checkpoint.follow(report)
        return stop
