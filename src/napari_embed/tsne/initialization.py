"""Where the points start, and the linear map (PCA) by itself.

A start by principal components keeps the global arrangement of the data (Kobak and
Berens 2019); it is scaled down to a standard deviation of 1e-4 so that early
exaggeration can still rearrange it.
"""

from __future__ import annotations

import logging
import time

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Projection
from napari_embed.errors import InputError
from napari_embed.tsne.vectors import PreparedVectors, Progress, VectorsLike, prepare

__all__ = ["START_STD", "initial_positions", "pca_projection"]

logger = logging.getLogger(__name__)

START_STD = 1e-4
"""Standard deviation of the start along its first axis."""

_JITTER = 0.01
# Up to this width the covariance matrix is small enough to solve whole.
_DENSE_DIM = 2048
_SUBSPACE = 16
_SUBSPACE_ROUNDS = 12
_COMPONENTS = 3
_SAFE_SCALE = (1e-12, 1e12)


def initial_positions(
    vectors: VectorsLike | None,
    n: int,
    *,
    n_components: int,
    init: str | NDArray[np.floating] = "pca",
    std: float = START_STD,
    random_state: int = 0,
) -> NDArray[np.float32]:
    """Return the start of the map.

    Parameters
    ----------
    vectors
        (n, d) real numbers for ``init="pca"``. Without them the start is random.
    n
        Number of items.
    n_components
        2 or 3.
    init
        "pca" (with a jitter of 1 % so that equal vectors part), "random" (Gaussian), or
        an (n, n_components) array that is taken as it is.
    std
        Standard deviation of the start, for "pca" along the first axis.
    random_state
        Seed of the random start and of the jitter.

    Returns
    -------
    ndarray
        (n, n_components) float32, never a view of ``init``.

    Raises
    ------
    InputError
        If ``init`` is unknown, or an array of another shape or with NaN or Inf.
    """
    if not isinstance(init, str):
        return _given_positions(init, n, n_components)
    if init not in ("pca", "random"):
        raise InputError(f"init must be 'pca', 'random' or an array, got {init!r}.")
    noise = np.random.default_rng(random_state).standard_normal((n, n_components))
    if init == "pca" and vectors is None:
        logger.info("There are no vectors to take principal components of.")
        init = "random"
    if init == "random" or vectors is None:
        return (std * noise).astype(np.float32)
    if int(vectors.shape[0]) != n:
        raise InputError(f"There are {vectors.shape[0]} vectors but {n} items.")
    scores = _principal_scores(
        prepare(vectors, random_state=random_state), n_components, random_state
    )[0]
    spread = float(scores[:, 0].std()) if n else 0.0
    if spread == 0.0:  # all vectors equal: jitter alone would hardly part them
        return (std * noise).astype(np.float32)
    start = scores * (std / spread) + _JITTER * std * noise
    return start.astype(np.float32)


def _given_positions(
    init: NDArray[np.floating], n: int, n_components: int
) -> NDArray[np.float32]:
    given = np.asarray(init)
    if given.shape != (n, n_components):
        raise InputError(
            f"The start must have shape ({n}, {n_components}), got {given.shape}."
        )
    if given.dtype.kind not in "fiu":
        raise InputError(f"The start must hold real numbers, found {given.dtype}.")
    with np.errstate(over="ignore"):
        start = given.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(start).all(axis=1))
    if bad.size:
        raise InputError(
            f"The start holds NaN, Inf or values beyond float32 in {bad.size} rows, "
            f"the first is row {bad[0]}."
        )
    return start


def pca_projection(
    vectors: VectorsLike,
    *,
    n_components: int,
    random_state: int = 0,
    progress: Progress | None = None,
) -> Projection:
    """Project vectors on their first two or three principal components.

    Parameters
    ----------
    vectors
        (n, d) real numbers, read in blocks.
    n_components
        2 or 3; the two of a 2D map are the first two of the 3D map.
    random_state
        Seed of the subspace iteration used beyond 2,048 dimensions.
    progress
        ``progress(done, total)``; may raise to stop.

    Returns
    -------
    Projection
        Centred scores; each axis has the sign that makes its largest loading positive.
        ``info["explained_variance_ratio"]`` tells the share of each axis. Vectors of a
        size outside 1e-12 to 1e12 are given in units of that size.

    Raises
    ------
    InputError
        If the vectors are malformed or hold NaN or Inf.

    Notes
    -----
    Exact (covariance and its eigenvectors, in float64) up to 2,048 dimensions, block
    subspace iteration beyond.
    """
    if n_components not in (2, 3):
        raise InputError(f"n_components must be 2 or 3, got {n_components!r}.")
    began = time.perf_counter()
    prepared = prepare(vectors, random_state=random_state, progress=progress)
    scores, ratio = _principal_scores(prepared, n_components, random_state, progress)
    if _SAFE_SCALE[0] <= prepared.scale <= _SAFE_SCALE[1]:
        scores *= prepared.scale
    info = {
        "method": "pca",
        "explained_variance_ratio": [float(share) for share in ratio],
        "seconds": time.perf_counter() - began,
    }
    return Projection(scores.astype(np.float32), info=info)


def _principal_scores(
    prepared: PreparedVectors,
    n_components: int,
    random_state: int,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n, n_components) scores in prepared units, and variance shares."""
    n, dim = prepared.n, prepared.dim
    scores = np.zeros((n, n_components))
    if n < 2:
        return scores, np.zeros(n_components)
    mean = sum(b.sum(axis=0, dtype=np.float64) for _, b in prepared.blocks()) / n
    if dim <= _DENSE_DIM:
        variances, axes, total = _dense_axes(prepared, mean)
    else:
        variances, axes, total = _subspace_axes(prepared, mean, random_state)
    count = min(n_components, axes.shape[1])
    axes = axes[:, :count]
    for rows, block in prepared.blocks():
        scores[rows, :count] = (block - mean) @ axes
        if progress is not None:
            progress(rows.stop, n)
    ratio = np.zeros(n_components)
    if total > 0:
        ratio[:count] = np.maximum(variances[:count], 0.0) / total
    return scores, ratio


def _dense_axes(
    prepared: PreparedVectors, mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    scatter = np.zeros((prepared.dim, prepared.dim))
    for _, block in prepared.blocks():
        centred = block - mean
        scatter += centred.T @ centred
    values, axes = np.linalg.eigh(scatter)
    values, axes = values[::-1], axes[:, ::-1][:, :_COMPONENTS]
    return values[:_COMPONENTS], _fix_signs(axes), float(np.trace(scatter))


def _subspace_axes(
    prepared: PreparedVectors, mean: NDArray[np.float64], random_state: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Block subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4).

    The same subspace serves two and three components, so their axes agree.
    """
    width = min(_SUBSPACE, prepared.dim)
    generator = np.random.default_rng(random_state)
    basis = np.linalg.qr(generator.standard_normal((prepared.dim, width)))[0]
    image = np.zeros_like(basis)
    total = 0.0
    for _ in range(_SUBSPACE_ROUNDS):
        image = np.zeros_like(basis)
        total = 0.0
        for _, block in prepared.blocks():
            centred = block - mean
            image += centred.T @ (centred @ basis)
            total += float(np.vdot(centred, centred))
        previous, basis = basis, np.linalg.qr(image)[0]
    small = previous.T @ image
    values, turn = np.linalg.eigh(0.5 * (small + small.T))
    order = np.argsort(values)[::-1][:_COMPONENTS]
    axes = np.linalg.qr(previous @ turn[:, order])[0]
    return values[order], _fix_signs(axes), total


def _fix_signs(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the largest loading of each axis positive; near ties go to the first."""
    size = np.abs(axes)
    largest = np.argmax(size >= size.max(axis=0) * (1 - 1e-6), axis=0)
    signs = np.sign(axes[largest, np.arange(axes.shape[1])])
    return axes * np.where(signs == 0, 1.0, signs)
