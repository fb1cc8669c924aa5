"""The k nearest neighbors of every vector, by FAISS.

Three searches: *exact* for small sets (and for large ones on a GPU), *ivf* (an inverted
file over k-means cells, probed until the measured recall is good) for the rest, and
*hnsw* (a navigable graph) where cells do not help because the vectors fill too many
dimensions. The vectors are read block by block; the index holds the only copy.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph
from napari_embed.errors import InputError, MissingDependencyError
from napari_embed.tsne.search import FEWEST_FOR_CELLS, Indexed, SelfSearch, Steps
from napari_embed.tsne.vectors import PreparedVectors, Progress, VectorsLike, prepare

__all__ = ["import_faiss", "neighbor_graph"]

logger = logging.getLogger(__name__)

METHODS = ("auto", "exact", "ivf", "hnsw")

# Measured on two CPU cores, k = 90: exact search costs about n^2 (d + 100), the 100
# for keeping the k best. Below this budget (some ten seconds) it is simply taken.
_EXACT_BUDGET_CPU = 4e11
_EXACT_BUDGET_GPU = 5e14


def neighbor_graph(
    vectors: VectorsLike,
    *,
    n_neighbors: int = 90,
    metric: str = "euclidean",
    method: str = "auto",
    device: str = "auto",
    random_state: int = 0,
    progress: Progress | None = None,
) -> NeighborGraph:
    """Find the nearest neighbors of every vector among all the others.

    Parameters
    ----------
    vectors
        (n, d) real numbers, or anything that gives rows by slice (a memory map, a Zarr
        array); read in blocks, never changed.
    n_neighbors
        k; clipped to n - 1.
    metric
        "euclidean" or "cosine". A zero vector has no direction: under "cosine" it
        counts as orthogonal to all others and equal to other zero vectors.
    method
        "auto" chooses by n, d and device; "exact", "ivf" and "hnsw" force one. "hnsw"
        builds its graph in parallel and can differ slightly from run to run.
    device
        "auto" takes a GPU if FAISS sees one, "cpu" or "cuda".
    random_state
        Seed of the training sample, of k-means and of the recall sample.
    progress
        ``progress(done, total)`` in vectors handled; may raise to stop.

    Returns
    -------
    NeighborGraph
        Squared distances, nearest first, the item itself left out by id. Vectors whose
        typical size lies outside 1e-6 to 1e6 are measured in units of that size (a
        power of two, logged) if their squared distances would not fit float32.
        ``recall`` is measured on a sample for approximate searches.

    Raises
    ------
    InputError
        If the vectors are malformed or hold NaN or Inf (the rows are named), or a
        setting is unknown.
    MissingDependencyError
        If FAISS is not installed, or ``device="cuda"`` and it has no GPU.

    Notes
    -----
    More than k copies of one vector are neighbors of one another in a ring, each of
    the next k, so that no copy becomes the neighbor of all the others.
    """
    _check_settings(n_neighbors, method, device)
    faiss = import_faiss()
    use_gpu = _use_gpu(faiss, device)
    steps = Steps(progress)
    prepared = prepare(
        vectors, metric=metric, random_state=random_state, progress=steps.part(0, 3)
    )
    n = prepared.n
    k = min(n_neighbors, n - 1)
    if k < 1:
        return _empty(n, metric)
    kept, groups = _thin_copies(prepared, k)
    data = Indexed(prepared, kept, n if kept is None else int(kept.size))
    search = SelfSearch(
        faiss, data, k, use_gpu=use_gpu, may_switch=method == "auto",
        random_state=random_state, steps=steps,
    )  # fmt: skip
    ids, squared, recall = search.run(_choose(method, data.size, prepared.dim, use_gpu))
    if kept is not None:
        ids, squared = _spread(ids, squared, kept, n)
        _link_rings(ids, squared, groups)
    squared = _true_distances(squared, prepared.scale)
    return NeighborGraph(ids, squared, metric, recall)


def _check_settings(n_neighbors: int, method: str, device: str) -> None:
    if n_neighbors < 1:
        raise InputError(f"n_neighbors must be 1 or more, got {n_neighbors}.")
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}.")


def import_faiss() -> Any:
    """Return the FAISS module.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or damaged.
    """
    how = (
        'Install exactly one of pip install "napari-embed[cpu]" and '
        '"napari-embed[gpu]"; if both were installed, uninstall faiss-cpu and '
        "faiss-gpu first."
    )
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f"The neighbor search needs FAISS, which cannot be imported: {error}. {how}"
        ) from error
    if not hasattr(faiss, "IndexFlatL2"):
        raise MissingDependencyError(
            f"FAISS is installed but empty or damaged (it has no IndexFlatL2). {how}"
        )
    return faiss


def _use_gpu(faiss: Any, device: str) -> bool:
    count = int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0
    usable = count > 0 and hasattr(faiss, "StandardGpuResources")
    if device == "cuda" and not usable:
        raise MissingDependencyError(
            "device='cuda' was asked for, but this FAISS sees no GPU. Install "
            '"napari-embed[gpu]" in place of [cpu] on a machine with an NVIDIA GPU, or '
            "use device='auto'."
        )
    return usable and device != "cpu"


def _choose(method: str, n: int, dim: int, use_gpu: bool) -> str:
    """Exact while it is affordable, else the inverted file."""
    if method == "auto":
        budget = _EXACT_BUDGET_GPU if use_gpu else _EXACT_BUDGET_CPU
        method = "exact" if float(n) ** 2 * (dim + 100) <= budget else "ivf"
    if method == "ivf" and n < FEWEST_FOR_CELLS:
        logger.info("%d vectors are too few for cells; searched exactly.", n)
        method = "exact"
    return method


def _empty(n: int, metric: str) -> NeighborGraph:
    shape = (n, 0)
    return NeighborGraph(
        np.empty(shape, np.int32), np.empty(shape, np.float32), metric, 1.0
    )


def _row_hashes(block: NDArray[np.float32], odd: NDArray[np.uint64]) -> Any:
    bits = np.ascontiguousarray(block + np.float32(0.0)).view(np.uint32)
    return (bits.astype(np.uint64) * odd).sum(axis=1, dtype=np.uint64)


def _thin_copies(
    prepared: PreparedVectors, k: int
) -> tuple[NDArray[np.int64] | None, list[NDArray[np.int64]]]:
    """Find vectors that occur more than k times; keep k + 1 copies of each.

    Many copies of one vector share a cell, and searching it for each of them would be
    quadratic. Returns the ids to index (None for all) and the ids of each group.
    """
    generator = np.random.default_rng(0x5EED)
    odd = generator.integers(1, 2**63, prepared.dim, dtype=np.uint64) * 2 + 1
    hashes = np.empty(prepared.n, np.uint64)
    for rows, block in prepared.blocks(report=True):
        hashes[rows] = _row_hashes(block, odd)
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[0]]))
    sizes = np.diff(starts, append=prepared.n)
    groups = [
        order[start : start + size]
        for start, size in zip(starts[sizes > k], sizes[sizes > k], strict=True)
    ]
    if not groups:
        return None, []
    keep = np.ones(prepared.n, bool)
    for group in groups:
        keep[group[k + 1 :]] = False
    return np.flatnonzero(keep), groups


def _link_rings(
    ids: NDArray[np.int32],
    squared: NDArray[np.float32],
    groups: list[NDArray[np.int64]],
) -> None:
    """Make each copy the neighbor of the k copies before it, at distance 0."""
    k = ids.shape[1]
    for group in groups:
        ring = np.arange(group.size)
        for step in range(1, k + 1):
            ids[group, step - 1] = group[(ring + step) % group.size]
        squared[group] = 0.0


def _spread(
    ids: NDArray[np.int32],
    squared: NDArray[np.float32],
    kept: NDArray[np.int64],
    n: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Translate index positions to item ids and make room for the items left out."""
    all_ids = np.full((n, ids.shape[1]), -1, np.int32)
    all_squared = np.full((n, ids.shape[1]), np.inf, np.float32)
    names = np.append(kept, -1).astype(np.int32)  # position -1 stays -1
    all_ids[kept] = names[ids]
    all_squared[kept] = squared
    return all_ids, all_squared


def _true_distances(squared: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    if scale == 1.0:
        return squared
    factor = scale * scale
    finite = squared[np.isfinite(squared)]
    largest = float(finite.max(initial=0.0)) * factor
    smallest = float(np.min(finite, where=finite > 0, initial=np.inf)) * factor
    limits = np.finfo(np.float32)
    if largest < float(limits.max) and smallest > float(limits.tiny):
        return (squared.astype(np.float64) * factor).astype(np.float32)
    logger.warning(
        "Squared distances between these vectors do not fit float32; they are given "
        "in units of %g squared.",
        scale,
    )
    return squared
