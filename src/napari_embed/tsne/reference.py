"""Exact t-SNE in float64 NumPy: every pair, no approximation.

Slow on purpose and written for reading: the yardstick of the tests, and a usable
optimiser for a few thousand points. Notation as in the field: y are the positions,
w_ij = 1 / (1 + |y_i - y_j|^2), Z the sum of w over all ordered pairs, q = w / Z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Affinities, Projection
from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne.schedule import Schedule

__all__ = [
    "exact_attraction",
    "exact_gradient",
    "exact_kl",
    "exact_optimize",
    "exact_repulsion",
]

_BLOCK_PAIRS = 1 << 21


def exact_repulsion(
    positions: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Sum the repulsion of all other points on each point.

    Parameters
    ----------
    positions
        (n, d) y.

    Returns
    -------
    V
        (n, d) sum over j of w_ij^2 (y_i - y_j): it points away from the others. The
        repulsive force is V / Z.
    S
        (n,) sum over j != i of w_ij.
    Z
        Sum of S.

    Notes
    -----
    Source: van der Maaten and Hinton 2008, eq. 5; S and V as in the field formulation
    of Pezotti et al. 2020, eqs. 12 and 13, with the self term left out of S.
    """
    y = np.asarray(positions, np.float64)
    v, s = np.zeros_like(y), np.zeros(len(y))
    for rows in _row_blocks(len(y)):
        away = y[rows, None, :] - y[None, :, :]
        w = 1.0 / (1.0 + np.einsum("ijk,ijk->ij", away, away))
        s[rows] = w.sum(axis=1) - 1.0  # w_ii is 1
        v[rows] = np.einsum("ij,ijk->ik", w * w, away)
    return v, s, float(s.sum())


def exact_attraction(
    affinities: Affinities, positions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (n, d): sum over j of p_ij w_ij (y_i - y_j), the pull to be undone."""
    y = np.asarray(positions, np.float64)
    i, j, p = _entries(affinities)
    away = y[i] - y[j]
    pull = (p / (1.0 + (away * away).sum(axis=1)))[:, None] * away
    return np.stack(
        [np.bincount(i, pull[:, axis], len(y)) for axis in range(y.shape[1])], axis=1
    )


def exact_gradient(
    affinities: Affinities,
    positions: NDArray[np.floating],
    *,
    exaggeration: float = 1.0,
) -> NDArray[np.float64]:
    """Return the (n, d) gradient of KL, divided by 4 as most programs do.

    Parameters
    ----------
    affinities
        P.
    positions
        (n, d) y.
    exaggeration
        Factor on P.

    Notes
    -----
    Source: van der Maaten and Hinton 2008, eq. 5.
    """
    v, _, z = exact_repulsion(positions)
    pull = exact_attraction(affinities, positions)
    return exaggeration * pull - (v / z if z > 0 else 0.0)


def exact_kl(affinities: Affinities, positions: NDArray[np.floating]) -> float:
    """Return KL(P || Q) with the exact Z.

    Parameters
    ----------
    affinities
        P; its entries sum to 1.
    positions
        (n, d) y.

    Notes
    -----
    KL = sum p ln p + sum p ln(1 + d^2) + ln Z.
    """
    y = np.asarray(positions, np.float64)
    i, j, p = _entries(affinities)
    some = p > 0
    i, j, p = i[some], j[some], p[some]
    if not p.size:
        return 0.0
    away = y[i] - y[j]
    log_w = -np.log1p((away * away).sum(axis=1))
    return float((p * (np.log(p) - log_w)).sum() + p.sum() * np.log(_exact_z(y)))


def _exact_z(y: NDArray[np.float64]) -> float:
    """Z alone, one axis at a time: large maps need the little memory."""
    total = 0.0
    for rows in _row_blocks(len(y)):
        later = y[rows.start :]  # each pair once: the square block, then what follows
        squared = np.ones((rows.stop - rows.start, len(later)))
        for axis in range(y.shape[1]):
            away = y[rows, axis, None] - later[None, :, axis]
            squared += away * away
        w = np.reciprocal(squared, out=squared)
        inside = rows.stop - rows.start
        total += float(w[:, :inside].sum()) - inside + 2.0 * float(w[:, inside:].sum())
    return total


def exact_optimize(
    affinities: Affinities,
    init: NDArray[np.floating],
    params: ProjectionParams,
    *,
    callback: Callable[[int, NDArray[np.float64]], None] | None = None,
) -> Projection:
    """Run the whole optimisation with exact gradients, for a few thousand points.

    The engine's own schedule of exaggeration, rate and momentum, with per-coordinate
    gains and steps of at most 5.

    Parameters
    ----------
    affinities
        P.
    init
        (n, d) start.
    params
        Iterations, exaggeration and learning rate are used; all of ``max_iter`` runs.
    callback
        Called as ``callback(iterations_done, positions)`` after each iteration.

    Raises
    ------
    InputError
        If ``init`` does not fit P.
    """
    y = np.array(init, np.float64)
    n = affinities.n
    if y.ndim != 2 or len(y) != n:
        raise InputError(f"The start must have {n} rows, got shape {y.shape}.")
    schedule = Schedule.of(params, n)
    update, gains = np.zeros_like(y), np.ones_like(y)
    for iteration in range(params.max_iter):
        gradient = exact_gradient(
            affinities, y, exaggeration=schedule.exaggeration_at(iteration)
        )
        kept_on = gradient * update > 0  # uphill, so the last step went too far
        gains = np.where(kept_on, np.maximum(gains * 0.8, 0.01), gains + 0.2)
        update = (
            schedule.momentum_at(iteration) * update
            - schedule.rate_at(iteration) * gains * gradient
        )
        length = np.linalg.norm(update, axis=1, keepdims=True)
        update *= np.minimum(1.0, 5.0 / np.maximum(length, 1e-300))
        y += update
        y -= y.mean(axis=0)
        if callback is not None:
            callback(iteration + 1, y)
    return Projection(
        y.astype(np.float32),
        kl_divergence=exact_kl(affinities, y),
        n_iter=params.max_iter,
        info={"method": "tsne", "engine": "exact"},
    )


def _entries(
    affinities: Affinities,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Rows, columns and values of P."""
    counts = np.diff(affinities.indptr)
    rows = np.repeat(np.arange(affinities.n), counts)
    return rows, affinities.indices, affinities.values.astype(np.float64)


def _row_blocks(n: int) -> Iterator[slice]:
    step = max(_BLOCK_PAIRS // max(n, 1), 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
