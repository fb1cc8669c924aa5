"""FAISS searches of a set of vectors in itself: exact, inverted file, graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.tsne.vectors import PreparedVectors, Progress

__all__ = ["FEWEST_FOR_CELLS", "RECALL_TARGET", "Indexed", "SelfSearch", "Steps"]

logger = logging.getLogger(__name__)

RECALL_TARGET = 0.96
"""Approximate searches widen until a sample finds this share of its true neighbors."""

_RECALL_SAMPLE = 500
_QUERY_ROWS = 8192
# Cells of the inverted file: 4 sqrt(n) cells searched about 16 at a time beat fewer,
# larger cells (1M x 50: 87 s against 410 s at the same recall).
_CELLS_PER_SQRT = 4
_TRAIN_PER_CELL = 40
_KMEANS_ITERATIONS = 6
FEWEST_FOR_CELLS = 2 * _TRAIN_PER_CELL
"""Fewer vectors than this are not worth an inverted file."""
_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_PROBE_SHARE = 16
_HNSW_LINKS = 16
_HNSW_BUILD_WIDTH = 64
_HNSW_WIDTHS = (128, 192, 256, 384, 512, 768)
_HNSW_MOST = 2_000_000
# Candidates beyond k, so that re-measured distances can still change the order.
_SPARE = 8
_REFINE_VALUES = 1 << 18
# FAISS on a GPU finds no more per query.
_GPU_MOST_FOUND = 2048


class Steps:
    """Several passes over the vectors told to the caller as one count."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def part(self, index: int, parts: int) -> Progress | None:
        """Return the progress callback of pass ``index`` of ``parts``."""
        outer = self._progress
        if outer is None:
            return None

        def report(done: int, total: int) -> None:
            outer(index * total + done, parts * total)

        return report


@dataclass(frozen=True)
class Indexed:
    """The vectors that go into the index, by position."""

    prepared: PreparedVectors
    kept: NDArray[np.int64] | None
    size: int

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of source rows read, block of kept rows)."""
        for rows, block in self.prepared.blocks():
            if self.kept is None:
                yield rows.stop, block
                continue
            low, high = np.searchsorted(self.kept, (rows.start, rows.stop))
            yield rows.stop, block[self.kept[low:high] - rows.start]

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at sorted positions, in one pass."""
        parts, start = [np.empty((0, self.prepared.dim), np.float32)], 0
        for _, block in self.blocks():
            stop = start + len(block)
            low, high = np.searchsorted(positions, (start, stop))
            parts.append(block[positions[low:high] - start])
            start = stop
        return np.concatenate(parts)


class SelfSearch:
    """One neighbor search of an indexed set in itself."""

    def __init__(
        self,
        faiss: Any,
        data: Indexed,
        k: int,
        *,
        use_gpu: bool,
        may_switch: bool,
        random_state: int,
        steps: Steps,
    ) -> None:
        self._faiss = faiss
        self._data = data
        self._k = k
        self._gpu = use_gpu
        self._may_switch = may_switch and data.size <= _HNSW_MOST
        self._generator = np.random.default_rng(random_state)
        self._seed = int(random_state) % (1 << 31)
        self._steps = steps
        m = data.size
        self._ids = np.full((m, k), -1, np.int32)
        self._squared = np.full((m, k), np.inf, np.float32)

    def run(self, method: str) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
        """Search; return positions, squared distances and measured recall."""
        if method == "exact":
            self._run_exact()
            return self._ids, self._squared, 1.0
        recall = self._run_hnsw() if method == "hnsw" else self._run_ivf()
        logger.info("Neighbor search by %s: recall %.3f.", method, recall)
        if recall < RECALL_TARGET:
            logger.warning(
                "The neighbor search found %.1f %% of the true neighbors of a sample "
                "(aim: %.0f %%). These vectors are hard to index; method='exact' finds "
                "all, in more time.",
                100 * recall, 100 * RECALL_TARGET,
            )  # fmt: skip
        return self._ids, self._squared, recall

    # -- building ---------------------------------------------------------------

    def _fill(self, index: Any) -> None:
        report = self._steps.part(1, 3)
        for done, block in self._data.blocks():
            index.add(block)
            if report is not None:
                report(done, self._data.prepared.n)

    def _on_device(self, index: Any) -> Any:
        """Return a copy on the GPU, or the index itself."""
        if not self._gpu or self._k + 1 + _SPARE > _GPU_MOST_FOUND:
            return index
        try:
            resources = self._faiss.StandardGpuResources()
            return self._faiss.index_cpu_to_gpu(resources, 0, index)
        except RuntimeError as error:
            logger.warning("The GPU cannot hold the index (%s); using the CPU.", error)
            return index

    def _stored(self, index: Any) -> NDArray[np.float32]:
        """View of the vectors inside a flat index."""
        m, dim = self._data.size, self._data.prepared.dim
        flat: NDArray[np.float32] = self._faiss.rev_swig_ptr(index.get_xb(), m * dim)
        return flat.reshape(m, dim)

    # -- the three methods --------------------------------------------------------

    def _run_exact(self) -> None:
        index = self._faiss.IndexFlatL2(self._data.prepared.dim)
        self._fill(index)
        stored = self._stored(index)
        searcher = self._on_device(index)
        found = min(self._k + 1 + _SPARE, self._data.size)

        def search(queries: NDArray[np.float32]) -> Any:
            # Products of long vectors cancel: differences are measured again.
            _, ids = searcher.search(queries, found)
            return _refine(stored, queries, ids)

        self._run_blocks(_row_blocks(stored), search)

    def _run_hnsw(self) -> float:
        index, stored = self._build_hnsw()
        picked = self._generator.permutation(len(stored))[:_RECALL_SAMPLE]
        queries = stored[np.sort(picked)]
        limits, _ = self._faiss.knn(queries, stored, self._k + 1)
        recall = self._widen_hnsw(index, queries, limits[:, -1])
        self._search_hnsw(index, stored)
        return recall

    def _build_hnsw(self) -> tuple[Any, NDArray[np.float32]]:
        index = self._faiss.IndexHNSWFlat(self._data.prepared.dim, _HNSW_LINKS)
        index.hnsw.efConstruction = _HNSW_BUILD_WIDTH
        self._fill(index)
        return index, self._stored(self._faiss.downcast_index(index.storage))

    def _widen_hnsw(
        self, index: Any, queries: NDArray[np.float32], limits: NDArray[np.float32]
    ) -> float:
        def widen(width: int) -> None:
            index.hnsw.efSearch = max(width, 2 * self._k)

        return self._tune(index, widen, _HNSW_WIDTHS, queries, limits)

    def _search_hnsw(self, index: Any, stored: NDArray[np.float32]) -> None:
        self._run_blocks(_row_blocks(stored), lambda q: index.search(q, self._k + 1))

    def _run_ivf(self) -> float:
        index, queries = self._train_ivf()
        self._fill(index)
        # Probing every cell is an exact search, by differences.
        index.nprobe = index.nlist
        limits = index.search(queries, self._k + 1)[0][:, -1]
        searcher = self._on_device(index)

        def probe(cells: int) -> None:
            searcher.nprobe = min(cells, index.nlist)

        most = max(index.nlist // _PROBE_SHARE, _PROBES[2])
        ladder = tuple(p for p in _PROBES if p <= most)
        recall = self._tune(searcher, probe, ladder, queries, limits)
        if self._may_switch and recall < RECALL_TARGET and searcher is index:
            graph, stored = self._build_hnsw()
            graph_recall = self._widen_hnsw(graph, queries, limits)
            if graph_recall > recall:
                self._search_hnsw(graph, stored)
                return graph_recall
        self._run_blocks(
            _cell_blocks(self._faiss, index),
            lambda q: self._search_cells(searcher, index, q),
        )
        return recall

    def _train_ivf(self) -> tuple[Any, NDArray[np.float32]]:
        """Return a trained, empty inverted file and rows to measure recall with."""
        faiss, dim, m = self._faiss, self._data.prepared.dim, self._data.size
        cells = int(np.clip(_CELLS_PER_SQRT * m**0.5, 1, m // _TRAIN_PER_CELL))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells)
        index.cp.niter = _KMEANS_ITERATIONS
        index.cp.max_points_per_centroid = _TRAIN_PER_CELL
        index.cp.min_points_per_centroid = 1
        index.cp.seed = self._seed
        count = max(cells * _TRAIN_PER_CELL, min(m, _RECALL_SAMPLE))
        rows = self._data.rows(np.sort(self._generator.permutation(m)[:count]))
        index.train(rows)
        queries = self._generator.permutation(len(rows))[:_RECALL_SAMPLE]
        return index, rows[np.sort(queries)]

    def _search_cells(
        self, searcher: Any, index: Any, queries: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search; rows whose cells hold too few vectors are searched in all cells."""
        squared, ids = searcher.search(queries, self._k + 1)
        short = np.flatnonzero((ids < 0).any(axis=1))
        if short.size:
            before, index.nprobe = index.nprobe, index.nlist
            squared[short], ids[short] = index.search(queries[short], self._k + 1)
            index.nprobe = before
        return squared, ids

    # -- shared -------------------------------------------------------------------

    def _tune(
        self,
        searcher: Any,
        widen: Callable[[int], None],
        ladder: tuple[int, ...],
        queries: NDArray[np.float32],
        limits: NDArray[np.float32],
    ) -> float:
        """Widen the search until a sample finds its true neighbors.

        ``limits`` holds the true squared distance of the last neighbor; counting by
        distance, not by id, treats equal distances fairly.
        """
        recall = 0.0
        slack = limits[:, None] * np.float32(1 + 1e-5)
        for width in ladder:
            widen(width)
            squared, ids = searcher.search(queries, self._k + 1)
            hits = ((squared <= slack) & (ids >= 0)).sum(axis=1) - 1  # itself
            recall = float(np.clip(hits / self._k, 0.0, 1.0).mean())
            logger.debug("Search width %d: recall %.4f.", width, recall)
            if recall >= RECALL_TARGET:
                break
        return recall

    def _run_blocks(
        self,
        blocks: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]],
        search: Callable[[NDArray[np.float32]], Any],
    ) -> None:
        report = self._steps.part(2, 3)
        n, m, done = self._data.prepared.n, self._data.size, 0
        for positions, queries in blocks:
            squared, ids = search(queries)
            keep = _others(ids, positions, self._k)
            self._ids[positions] = ids[keep].reshape(-1, self._k)
            nearest = np.maximum(squared[keep], 0.0).reshape(-1, self._k)
            self._squared[positions] = nearest
            done += len(positions)
            if report is not None:
                report(done * n // m, n)


def _others(
    ids: NDArray[np.int64], positions: NDArray[np.int64], k: int
) -> NDArray[np.bool_]:
    """Mask of the first k candidates of each row that are not the row itself."""
    keep: NDArray[np.bool_] = ids != positions[:, None]
    keep &= np.cumsum(keep, axis=1) <= k
    return keep


def _row_blocks(
    stored: NDArray[np.float32],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for start in range(0, len(stored), _QUERY_ROWS):
        stop = min(start + _QUERY_ROWS, len(stored))
        yield np.arange(start, stop), stored[start:stop]


def _cell_blocks(
    faiss: Any, index: Any
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield the indexed vectors cell by cell: neighbors together probe the same cells.

    At a million vectors this halves the time of searching in the given order.
    """
    lists, dim = index.invlists, index.d
    positions: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.float32]] = []
    held = 0
    for cell in range(index.nlist):
        size = int(lists.list_size(cell))
        if size:
            positions.append(faiss.rev_swig_ptr(lists.get_ids(cell), size).copy())
            codes = faiss.rev_swig_ptr(lists.get_codes(cell), size * 4 * dim)
            rows.append(codes.view(np.float32).reshape(size, dim).copy())
            held += size
        if held and (held >= _QUERY_ROWS or cell == index.nlist - 1):
            all_positions, all_rows = np.concatenate(positions), np.concatenate(rows)
            for start in range(0, held, 2 * _QUERY_ROWS):
                part = slice(start, start + 2 * _QUERY_ROWS)
                yield all_positions[part], all_rows[part]
            positions, rows, held = [], [], 0


def _refine(
    stored: NDArray[np.float32],
    queries: NDArray[np.float32],
    ids: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Measure the candidates again by differences and put them in that order."""
    squared = np.empty(ids.shape, np.float32)
    step = max(_REFINE_VALUES // max(ids.shape[1] * stored.shape[1], 1), 1)
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        away = stored[ids[part]] - queries[part, None, :]
        squared[part] = np.einsum("ijk,ijk->ij", away, away)
    order = np.argsort(squared, axis=1, kind="stable")
    return (
        np.take_along_axis(squared, order, axis=1),
        np.take_along_axis(ids, order, axis=1),
    )
