"""From neighbor distances to the symmetric affinities P of t-SNE.

Each item spreads a Gaussian over its neighbors, as wide as gives the wanted perplexity
(van der Maaten and Hinton 2008, eq. 1); P averages both directions (section 3.1).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.errors import InputError

__all__ = [
    "affinities",
    "conditional_probabilities",
    "largest_perplexity",
    "row_probabilities",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

MAX_STEPS = 64
_TOLERANCE = 1e-6
_BLOCK_ROWS = 4096
_NEVER = 1e200


def largest_perplexity(k: int) -> float:
    """Return the largest perplexity that k neighbors support.

    A Gaussian of perplexity u reaches about 3 u neighbors; with fewer it is cut off
    and flattens until P no longer tells neighbors apart. Very small k, where a third
    means nothing, allow up to 2.
    """
    return max(k / 3.0, min(2.0, (k + 1) / 2.0))


def affinities(
    graph: NeighborGraph,
    *,
    perplexity: float = 30.0,
    progress: Progress | None = None,
) -> Affinities:
    """Compute symmetric affinities that sum to 1.

    Parameters
    ----------
    graph
        Squared distances to k neighbors; entries with id -1 are ignored.
    perplexity
        Effective number of neighbors, clipped to `largest_perplexity` of k (logged).
        Items with fewer than k neighbors are clipped one by one.
    progress
        ``progress(done, n)`` in items; may raise to stop.

    Returns
    -------
    Affinities
        Exactly symmetric in float32, column ids sorted in each row. An item without
        neighbors, whom nobody names either, has an empty row. ``perplexity`` is the
        mean that was reached.

    Raises
    ------
    InputError
        If the perplexity is not positive or distances are NaN or negative.

    Notes
    -----
    Source: van der Maaten and Hinton, Visualizing Data using t-SNE (JMLR 2008).
    """
    if not perplexity > 0:
        raise InputError(f"perplexity must be positive, got {perplexity!r}.")
    wanted = min(perplexity, largest_perplexity(graph.k))
    if wanted < perplexity and graph.n > 1:
        logger.warning(
            "Perplexity %g was lowered to %g: %d neighbors per item allow no more. "
            "Use about 3 x perplexity neighbors.",
            perplexity, wanted, graph.k,
        )  # fmt: skip
    given, reached = conditional_probabilities(
        graph, perplexity=wanted, progress=progress
    )
    indptr, indices, values = _symmetrise(graph.indices, given)
    return Affinities(indptr, indices, values, reached)


def conditional_probabilities(
    graph: NeighborGraph,
    *,
    perplexity: float,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return p(j | i) as an (n, k) array, and the mean perplexity that was reached.

    Parameters
    ----------
    graph
        Squared distances to k neighbors; entries with id -1 get probability 0.
    perplexity
        Effective number of neighbors, not larger than `largest_perplexity` of k.
    progress
        ``progress(done, n)`` in items; may raise to stop.

    Raises
    ------
    InputError
        If distances are NaN or negative.
    """
    n = graph.n
    given = np.zeros((n, graph.k), np.float32)
    if graph.k == 0:
        return given, 1.0
    total, count = 0.0, 0

    def work(start: int) -> tuple[float, int]:
        rows = slice(start, min(start + _BLOCK_ROWS, n))
        present = _neighbors_of(graph.indices[rows], rows.start)
        probabilities, entropy = _search_block(
            graph.distances[rows], present, perplexity, start
        )
        given[rows] = probabilities
        some = present.any(axis=1)
        return float(np.exp(entropy[some]).sum()), int(some.sum())

    starts = range(0, n, _BLOCK_ROWS)
    with ThreadPoolExecutor(max_workers=_workers()) as pool:
        try:
            for start, (part, rows) in zip(starts, pool.map(work, starts), strict=True):
                total, count = total + part, count + rows
                if progress is not None:
                    progress(min(start + _BLOCK_ROWS, n), n)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return given, total / count if count else 1.0


def row_probabilities(
    squared: NDArray[np.float32], perplexity: float
) -> NDArray[np.float64]:
    """Return (m, k) probabilities of the neighbors of each row; rows sum to 1.

    Parameters
    ----------
    squared
        (m, k) squared distances, all present.
    perplexity
        Effective number of neighbors, at most `largest_perplexity` of k.

    Raises
    ------
    InputError
        If distances are NaN, infinite or negative.
    """
    result = np.empty(squared.shape)
    for start in range(0, len(squared), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        part = squared[rows]
        present = np.ones(part.shape, bool)
        result[rows] = _search_block(part, present, perplexity, start)[0]
    return result


def _neighbors_of(ids: NDArray[np.int32], first: int) -> NDArray[np.bool_]:
    """Mask of entries that name another item."""
    own = np.arange(first, first + len(ids))[:, None]
    mask: NDArray[np.bool_] = (ids >= 0) & (ids != own)
    return mask


def _workers() -> int:
    # NumPy lets go of the interpreter while it computes, so threads do help.
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), 16)
    return min(os.cpu_count() or 1, 16)


def _search_block(
    squared: NDArray[np.float32],
    present: NDArray[np.bool_],
    perplexity: float,
    first: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find each row's precision; return its probabilities and entropy (nats)."""
    wrong = present & ~((squared >= 0) & np.isfinite(squared))
    if wrong.any():
        row = first + int(np.flatnonzero(wrong.any(axis=1))[0])
        raise InputError(
            f"Distances of row {row} hold NaN, Inf or negative values; squared "
            "distances must be finite and 0 or more wherever an id is given."
        )
    away = _relative(squared, present)
    counts = present.sum(axis=1)
    allowed = np.maximum(counts / 3.0, np.minimum(2.0, (counts + 1) / 2.0))
    target = np.log(np.minimum(perplexity, np.maximum(allowed, 1.0)))
    beta = _precisions(away, target)
    return _gaussian(away, beta)[:2]


def _relative(
    squared: NDArray[np.float32], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Distances beyond the nearest one, in units of their mean; absent ones huge.

    Neither step changes the probabilities; both keep exp() in range whatever the unit.
    """
    away = np.where(present, squared, np.inf).astype(np.float64)
    nearest = away.min(axis=1, keepdims=True)
    away -= np.where(np.isfinite(nearest), nearest, 0.0)
    mean = away.sum(axis=1, where=present) / np.maximum(present.sum(axis=1), 1)
    away /= np.where(mean > 0, mean, 1.0)[:, None]
    away[~present] = _NEVER
    return away


def _gaussian(
    away: NDArray[np.float64], beta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return p, entropy and its slope against log(beta), of each row."""
    scaled = np.minimum(away * beta[:, None], 745.0)
    weights = np.exp(-scaled)
    weights[away >= _NEVER] = 0.0
    sums = weights.sum(axis=1)
    weights /= np.where(sums > 0, sums, 1.0)[:, None]
    mean = np.einsum("ij,ij->i", weights, scaled)
    square = np.einsum("ij,ij,ij->i", weights, scaled, scaled)
    entropy = np.log(np.where(sums > 0, sums, 1.0)) + mean
    return weights, entropy, mean * mean - square


def _precisions(
    away: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve entropy(beta) = target for each row by guarded Newton steps in log(beta).

    Entropy falls as beta grows. Where ties at the nearest distance keep it above the
    target, or the row is empty, beta ends at its bound, which is the right limit.
    """
    rows = np.arange(len(away))
    guess = np.zeros(len(away))
    low, high = np.full(len(away), -40.0), np.full(len(away), 80.0)
    result = np.ones(len(away))
    for _ in range(MAX_STEPS):
        _, entropy, slope = _gaussian(away, np.exp(guess))
        error = entropy - target
        low = np.where(error > 0, guess, low)
        high = np.where(error > 0, high, guess)
        result[rows] = np.exp(guess)
        open_rows = (np.abs(error) > _TOLERANCE) & (high - low > 1e-9)
        if not open_rows.any():
            break
        step = -error / np.minimum(slope, -1e-12)
        trial = guess + np.clip(step, -3.0, 3.0)
        outside = (trial <= low) | (trial >= high)
        trial = np.where(outside, 0.5 * (low + high), trial)
        guess = np.where(open_rows, trial, guess)
        if open_rows.mean() < 0.75:
            away, target = away[open_rows], target[open_rows]
            guess, low, high = guess[open_rows], low[open_rows], high[open_rows]
            rows = rows[open_rows]
    return result


def _symmetrise(
    ids: NDArray[np.int32], given: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return (P + P^T) / its sum in CSR form, without zeros."""
    from scipy import sparse

    n = len(ids)
    used = given > 0
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(used.sum(axis=1), out=indptr[1:])
    one_way = sparse.csr_matrix((given[used], ids[used], indptr), shape=(n, n))
    one_way.sort_indices()
    both = one_way + one_way.T.tocsr()
    del one_way
    both.sort_indices()
    total = float(both.data.sum(dtype=np.float64))
    if total > 0:
        # float32 products first: P of ten million items is far from its smallest.
        both.data *= np.float32(1.0 / total)
    return (
        both.indptr.astype(np.int64, copy=False),
        both.indices.astype(np.int32, copy=False),
        both.data.astype(np.float32, copy=False),
    )
