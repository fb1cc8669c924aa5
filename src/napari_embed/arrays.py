"""Frozen results that travel between stations: arrays with checked shape and dtype.

No behaviour lives here beyond the checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["Affinities", "NeighborGraph", "Projection"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclass(frozen=True)
class NeighborGraph:
    """The k nearest neighbors of each of n items, nearest first, self excluded.

    Attributes
    ----------
    indices
        (n, k) int32. Neighbor ids in ``[0, n)``; -1 where fewer than k exist.
    distances
        (n, k) float32, **squared** distances in the metric's own space (cosine is the
        squared euclidean distance of unit vectors); Inf where ``indices`` is -1.
    metric
        "euclidean" or "cosine".
    recall
        Measured share of true neighbors found, on a sample; 1.0 for exact search,
        NaN when it was not measured.

    Raises
    ------
    InputError
        If shapes, dtypes or the range of ids do not fit.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    metric: str = "euclidean"
    recall: float = float("nan")

    def __post_init__(self) -> None:
        i, d = self.indices, self.distances
        _require(
            i.ndim == 2 and i.shape == d.shape,
            f"A neighbor graph needs two (n, k) arrays, got ids of shape {i.shape} "
            f"and distances of shape {d.shape}.",
        )
        _require(
            i.dtype == np.int32 and d.dtype == np.float32,
            f"A neighbor graph needs int32 ids and float32 distances, got {i.dtype} "
            f"and {d.dtype}. Convert them with .astype().",
        )
        if i.size:
            low, high = int(i.min()), int(i.max())
            _require(
                low >= -1 and high < i.shape[0],
                f"Neighbor ids must lie in [0, {i.shape[0]}) or be -1, found "
                f"{low} to {high}.",
            )

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Neighbors per item."""
        return int(self.indices.shape[1])


@dataclass(frozen=True)
class Affinities:
    """Symmetric sparse affinities P in CSR form; all entries together sum to 1.

    Attributes
    ----------
    indptr
        (n + 1,) int64 row starts.
    indices
        (nnz,) int32 column ids, no self entries.
    values
        (nnz,) float32, p_ij >= 0 with sum 1.
    perplexity
        The perplexity that was reached (clipped when k is small).

    Raises
    ------
    InputError
        If shapes, dtypes or the sum do not fit.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    perplexity: float = float("nan")

    def __post_init__(self) -> None:
        p, i, v = self.indptr, self.indices, self.values
        _require(
            p.ndim == i.ndim == v.ndim == 1 and i.shape == v.shape and p.size >= 1,
            "Affinities need 1-D indptr, indices and values, the last two of one "
            f"length; got shapes {p.shape}, {i.shape} and {v.shape}.",
        )
        _require(
            p.dtype == np.int64 and i.dtype == np.int32 and v.dtype == np.float32,
            "Affinities need int64 indptr, int32 indices and float32 values, got "
            f"{p.dtype}, {i.dtype} and {v.dtype}.",
        )
        _require(
            int(p[0]) == 0 and int(p[-1]) == i.size,
            f"indptr must run from 0 to {i.size}, it runs from {p[0]} to {p[-1]}.",
        )
        if v.size:
            total = float(v.sum(dtype=np.float64))
            _require(
                abs(total - 1.0) < 1e-3,
                f"Affinities must sum to 1, they sum to {total:g}. Divide by the sum.",
            )

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.indptr.size - 1)


@dataclass(frozen=True)
class Projection:
    """A 2D or 3D map of n items.

    Attributes
    ----------
    positions
        (n, 2) or (n, 3) float32; a row of NaN for an item that has no position
        (an image that could not be read, say).
    kl_divergence
        KL(P || Q) of the final map, NaN when the method has none.
    n_iter
        Iterations run.
    info
        Anything worth showing: method, parameters, device, seconds.

    Raises
    ------
    InputError
        If the shape or dtype does not fit.
    """

    positions: NDArray[np.float32]
    kl_divergence: float = float("nan")
    n_iter: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        y = self.positions
        _require(
            y.ndim == 2 and y.shape[1] in (2, 3) and y.dtype == np.float32,
            "A projection is an (n, 2) or (n, 3) float32 array, got shape "
            f"{y.shape} of {y.dtype}.",
        )

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.positions.shape[0])

    @property
    def n_components(self) -> int:
        """2 or 3."""
        return int(self.positions.shape[1])
