"""How good a map is: labels that agree, neighborhoods that survive."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_embed.arrays import NeighborGraph
from napari_embed.errors import InputError

__all__ = ["knn_label_agreement", "map_neighbors", "neighborhood_preservation"]

_BLOCK_ROWS = 1024


def map_neighbors(
    positions: NDArray[np.floating],
    k: int,
    *,
    rows: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Return ids of the k nearest points of the map, the point itself left out.

    Parameters
    ----------
    positions
        (n, 2) or (n, 3) finite positions.
    k
        Neighbors per point, at most n - 1.
    rows
        Points to answer for, all by default.

    Returns
    -------
    ndarray
        (len(rows), k) ids, nearest first.

    Raises
    ------
    InputError
        If k does not fit, or positions are NaN or Inf.
    """
    from scipy.spatial import KDTree

    y = np.asarray(positions, np.float64)
    n = len(y)
    if not 1 <= k < n:
        raise InputError(f"k must lie in 1 to {n - 1} for {n} points, got {k}.")
    if not np.isfinite(y).all():
        raise InputError("Positions hold NaN or Inf; leave those points out.")
    asked = np.arange(n) if rows is None else np.asarray(rows)
    _, found = KDTree(y).query(y[asked], k=k + 1, workers=-1)
    # Among equal points the point itself can stand anywhere, or be missing.
    keep = found != asked[:, None]
    keep &= np.cumsum(keep, axis=1) <= k
    nearest: NDArray[np.int64] = found[keep].reshape(-1, k)
    return nearest


def knn_label_agreement(
    positions: NDArray[np.floating], labels: ArrayLike, *, k: int = 10
) -> float:
    """Return the share of points whose k nearest neighbors elect their own label.

    This is the leave-one-out accuracy of a k-nearest-neighbor classifier on the map.
    A tie goes to the label of the nearest neighbor among those tied.

    Parameters
    ----------
    positions
        (n, 2) or (n, 3) map, or vectors of few dimensions.
    labels
        (n,) labels of any kind.
    k
        Neighbors that vote.

    Raises
    ------
    InputError
        If lengths or k do not fit.
    """
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    n = len(positions)
    if codes.shape != (n,):
        raise InputError(f"There are {n} positions but {codes.size} labels.")
    near = map_neighbors(positions, k)
    # All bonuses together stay below one vote; each outweighs all those after it.
    weight = 1.0 + 0.25 * 0.5 ** np.arange(k)
    right = 0
    for rows in _row_blocks(n):
        votes = np.zeros((rows.stop - rows.start, len(names)))
        lines = np.arange(len(votes))
        for rank in range(k):
            votes[lines, codes[near[rows, rank]]] += weight[rank]
        right += int((votes.argmax(axis=1) == codes[rows]).sum())
    return right / n


def neighborhood_preservation(
    graph: NeighborGraph,
    positions: NDArray[np.floating],
    *,
    k_max: int | None = None,
    n_sample: int | None = None,
    random_state: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the precision and recall of the map's neighborhoods of growing size.

    For each k, T counts the k nearest points of the map that are among the true
    ``k_max`` neighbors: precision is T / k, recall T / k_max, averaged over points.

    Parameters
    ----------
    graph
        True neighbors (of the vectors); an exact graph for figures to be published.
    positions
        (n, 2) or (n, 3) map.
    k_max
        Size of the true neighborhood (3 x perplexity as a rule); by default all of
        the graph.
    n_sample
        Points to average over, drawn at random; all by default.
    random_state
        Seed of that draw.

    Returns
    -------
    precision, recall
        (k_max,) each, for k = 1, ..., k_max.

    Raises
    ------
    InputError
        If sizes do not fit.

    Notes
    -----
    Source: van de Ruit, Billeter and Eisemann 2021, section 6.4, after Pezotti et al.
    """
    n = graph.n
    if len(positions) != n:
        raise InputError(f"There are {n} items but {len(positions)} positions.")
    size = graph.k if k_max is None else k_max
    if not 1 <= size <= graph.k:
        raise InputError(f"k_max must lie in 1 to {graph.k}, got {size}.")
    rows = np.arange(n)
    if n_sample is not None and n_sample < n:
        generator = np.random.default_rng(random_state)
        rows = np.sort(generator.choice(n, n_sample, replace=False))
    near = map_neighbors(positions, size, rows=rows)
    hits = np.zeros(size)
    for block in _row_blocks(len(rows)):
        true = graph.indices[rows[block], :size]
        found = (near[block, :, None] == true[:, None, :]).any(axis=2)
        hits += found.sum(axis=0)
    kept = np.cumsum(hits) / len(rows)
    return kept / np.arange(1, size + 1), kept / size


def _row_blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK_ROWS):
        yield slice(start, min(start + _BLOCK_ROWS, n))
