"""New vectors on a finished map, which stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne.affinities import largest_perplexity, row_probabilities
from napari_embed.tsne.neighbors import import_faiss
from napari_embed.tsne.vectors import PreparedVectors, prepare

__all__ = ["FittedVectors", "nearest_fitted", "place", "placed"]

_MAX_ITER = 100
# Affinities to a fixed map go one way, so few neighbors do: on 3,000 real images 10 put
# known vectors half as far from their places as 30, new ones as well among their class.
_PERPLEXITY = 10.0
# Values of new vectors held at a time; each batch reads the fitted vectors once.
_BATCH_VALUES = 1 << 26
_MEASURE_VALUES = 1 << 20
# Products of long vectors cancel; this share of their squared length may be wrong.
_ROUNDING = 4e-6
# Fewer queries than this FAISS measures one by one, by differences.
_FEW_QUERIES = 16


Positions = NDArray[np.float32]
Mover = Callable[
    [Positions, Positions, Positions, Positions, ProjectionParams], Positions
]


@dataclass(frozen=True)
class FittedVectors:
    """What a later `place` needs to know of a fit.

    Attributes
    ----------
    vectors
        (n, d) as they were fitted, not a copy.
    metric, perplexity
        As fitted.
    random_state
        Seed of the fit: it decides the sample that sets centre and scale.
    """

    vectors: Any
    metric: str
    perplexity: float
    random_state: int


def placed(
    fitted: FittedVectors,
    new: Any,
    positions: NDArray[np.float32],
    params: ProjectionParams,
    *,
    mover: Mover,
) -> NDArray[np.float32]:
    """Return (m, dim) float32 positions of new vectors on a fixed map.

    Parameters
    ----------
    fitted
        What the map was made of.
    new
        (m, d) vectors; each row's place depends on no other row.
    positions
        (n, dim) float32 map; not changed.
    params
        Of the fit; device and accuracy are used.
    mover
        `place`, or what does the same in another process.

    Notes
    -----
    Affinities as in the fit, at a perplexity of at most 10, each row normalised on its
    own. A vector that was fitted goes to its own position (of several copies, to that
    of the first); any other starts at the mean of its neighbors, weighted by affinity.
    """
    old = prepare(
        fitted.vectors, metric=fitted.metric, random_state=fitted.random_state
    )
    queries = _alike(old, new)
    wanted = min(fitted.perplexity, _PERPLEXITY)
    k = min(max(int(np.ceil(3 * wanted)), 1), old.n)
    perplexity = min(wanted, largest_perplexity(k))
    result = np.empty((queries.n, positions.shape[1]), np.float32)
    for rows, batch in _batches(queries):
        ids, squared = nearest_fitted(old, batch, k)
        weights = row_probabilities(squared, perplexity)
        anchors = positions[ids]
        result[rows] = np.einsum("ij,ijk->ik", weights, anchors.astype(np.float64))
        known = squared[:, 0] == 0
        result[rows][known] = anchors[known, 0]
        away = np.flatnonzero(~known)
        if away.size:
            result[rows.start + away] = mover(
                positions, anchors[away], weights[away].astype(np.float32),
                result[rows.start + away], params,
            )  # fmt: skip
    return result


def place(
    positions: NDArray[np.float32],
    anchors: NDArray[np.float32],
    weights: NDArray[np.float32],
    start: NDArray[np.float32],
    params: ProjectionParams,
) -> NDArray[np.float32]:
    """Move points downhill on a fixed map, in this process.

    Parameters
    ----------
    positions
        (n, dim) float32 fixed map.
    anchors, weights, start
        See :meth:`napari_embed.kernels.placement.FixedMap.place`.
    params
        Accuracy and device.

    Raises
    ------
    ComputeError
        If the device cannot be used.
    """
    from napari_embed.kernels import runtime

    where = runtime.start(params.device)
    from napari_embed.kernels.placement import FixedMap
    from napari_embed.tsne.presets import accuracy_of

    fixed = FixedMap(positions, where, accuracy_of(params))
    found: NDArray[np.float32] = fixed.place(
        anchors, weights, start, max_iter=_MAX_ITER
    )
    return found


def nearest_fitted(
    fitted: PreparedVectors, queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the exact k nearest fitted vectors of each query.

    Parameters
    ----------
    fitted
        n vectors, read in blocks once.
    queries
        (m, d) prepared as the fitted ones were.
    k
        At most n.

    Returns
    -------
    ids, squared
        (m, k) nearest first, equal distances by id; the same for a query alone as for
        the same query among others.
    """
    faiss = import_faiss()
    ids = np.empty((len(queries), 0), np.int64)
    squared = np.empty((len(queries), 0), np.float32)
    for rows, block in fitted.blocks():
        here, near = _nearest_in(faiss, block, queries, min(k, len(block)))
        ids = np.concatenate([ids, here + rows.start], axis=1)
        squared = np.concatenate([squared, near], axis=1)
        order = np.lexsort((ids, squared), axis=1)[:, :k]
        ids = np.take_along_axis(ids, order, axis=1)
        squared = np.take_along_axis(squared, order, axis=1)
    return ids, squared


def _nearest_in(
    faiss: Any, block: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k nearest in one block, measured by differences."""
    found = min(2 * k + 16, len(block))
    _, ids = faiss.knn(queries, block, found)
    near = _measure(block, queries, ids)
    order = np.lexsort((ids, near), axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    near = np.take_along_axis(near, order, axis=1)
    if found < len(block):
        # Where the spare candidates end too close, rounding may have lost a neighbor.
        size = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
        slack = _ROUNDING * (size + near[:, -1])
        doubtful = np.flatnonzero(~(near[:, -1] - near[:, k - 1] > 4 * slack))
        for some in range(0, len(doubtful), _FEW_QUERIES):
            rows = doubtful[some : some + _FEW_QUERIES]
            _, few = faiss.knn(np.ascontiguousarray(queries[rows]), block, found)
            ids[rows] = np.sort(few, axis=1)
            near[rows] = _measure(block, queries[rows], ids[rows])
            by_distance = np.argsort(near[rows], axis=1, kind="stable")
            ids[rows] = np.take_along_axis(ids[rows], by_distance, axis=1)
            near[rows] = np.take_along_axis(near[rows], by_distance, axis=1)
    return ids[:, :k], near[:, :k]


def _measure(
    block: NDArray[np.float32], queries: NDArray[np.float32], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    squared = np.empty(ids.shape, np.float32)
    step = max(_MEASURE_VALUES // max(ids.shape[1] * block.shape[1], 1), 1)
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        away = block[ids[part]] - queries[part, None, :]
        squared[part] = np.einsum("ijk,ijk->ij", away, away)
    return squared


def _alike(fitted: PreparedVectors, new: Any) -> PreparedVectors:
    """Check new vectors and give them the centre and scale of the fitted ones."""
    own = prepare(new, metric=fitted.metric)
    if own.source.shape[1] != fitted.source.shape[1]:
        raise InputError(
            f"The map was fitted on vectors of length {fitted.source.shape[1]}, these "
            f"have {own.source.shape[1]}."
        )
    return replace(own, centre=fitted.centre, scale=fitted.scale)


def _batches(
    queries: PreparedVectors,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    parts: list[NDArray[np.float32]] = []
    start = held = 0
    for rows, block in queries.blocks():
        parts.append(block)
        held += block.size
        if held >= _BATCH_VALUES or rows.stop == queries.n:
            yield slice(start, rows.stop), np.concatenate(parts)
            parts, start, held = [], rows.stop, 0
