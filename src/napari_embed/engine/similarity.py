"""Similar items by a plain search over all vectors, in the engine process.

The vectors of one project stay in memory between searches: as float32 where they fit
under a cap, else as float16, else they are read from disk block by block each time.
Every item is compared, so nothing is missed; one pass over a million 128-d vectors is
half a gigabyte of reading. The best are compared again in float64.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.problems.given import newest
from napari_embed.engine.likeness import Likeness, array_to_text
from napari_embed.engine.progress import JobControl
from napari_embed.engine.query_vector import foreign_vector
from napari_embed.errors import InputError, NumericalError
from napari_embed.project.reader import ProjectReader

if TYPE_CHECKING:
    from napari_embed.project import StoredRows

__all__ = ["MOST_ANY", "SimilarityEngine", "cache_bytes"]

MOST_ANY = 32
"""Items that "any" compares with; of more, these are chosen to lie far apart."""

CACHE_VARIABLE = "NAPARI_EMBED_SEARCH_MB"
_SHARE_OF_MEMORY = 0.35
_BLOCK_BYTES = 32 << 20
_MORE_THAN_ASKED = 64


def cache_bytes() -> int:
    """Return how much memory vectors may take, by default a third of the machine's."""
    wish = os.environ.get(CACHE_VARIABLE, "")
    if wish.isdecimal():
        return int(wish) << 20
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        total = 8 << 30
    return int(_SHARE_OF_MEMORY * total)


@dataclass
class _Vectors:
    """All vectors of one project's embeddings, ready to be searched.

    ``kept`` is (n, d) float32 or float16, or None to read ``stored``. ``norms`` are
    squared lengths; ``valid`` marks rows that are finite (and for cosine not zero).
    """

    key: tuple[Any, ...]
    metric: str
    stored: StoredRows
    kept: NDArray[Any] | None
    norms: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, float32 rows), finite everywhere."""
        source: Any = self.stored if self.kept is None else self.kept
        step = max(1, _BLOCK_BYTES // (4 * source.shape[1]))
        if self.kept is None:
            chunk = self.stored.chunk_rows
            step = max(chunk, step // chunk * chunk)
        for start in range(0, source.shape[0], step):
            block = np.asarray(source[start : start + step], np.float32)
            if self.kept is None:
                block = np.where(self.valid[start : start + step, None], block, 0)
            yield start, block

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the vectors of some items in float64, of unit length for cosine.

        Where float32 is kept no file is read: scattered rows would cost whole chunks.
        """
        source: Any = self.stored
        if self.kept is not None and self.kept.dtype == np.float32:
            source = self.kept
        return _prepared(source[ids].astype(np.float64), self.metric)


class SimilarityEngine:
    """Answers the job "similar"; keeps the vectors it searched last."""

    def __init__(self) -> None:
        self._vectors: _Vectors | None = None

    def search(
        self, project: ProjectReader, likeness: Likeness, control: JobControl
    ) -> dict[str, Any]:
        """Return ids, distances and a note, as plain values for a message.

        Raises
        ------
        InputError
            If what to look for has no vector.
        IncompleteStageError
            If the embeddings are not complete.
        """
        vectors = self.load(project, likeness.embeddings, control)
        query, note = _query(project, vectors, likeness, control)
        allowed = vectors.valid.copy()
        if likeness.within is not None:
            inside = np.zeros(allowed.size, bool)
            inside[np.asarray(likeness.within)] = True
            allowed &= inside
        if likeness.ids is not None and not likeness.keep_query:
            allowed[np.asarray(likeness.ids)] = False
        ids, distances = _nearest(vectors, query, allowed, likeness.k, control)
        return {
            "ids": array_to_text(ids.astype("<i8")),
            "distances": array_to_text(distances.astype("<f4")),
            "note": note,
        }

    def load(
        self, project: ProjectReader, embeddings: str | None, control: JobControl
    ) -> _Vectors:
        """Return the vectors, from memory if they are those searched last."""
        name = newest(project, "embeddings/", embeddings, "embeddings")
        stage = project.stage_info(f"embeddings/{name}")
        key = (
            str(project.path), name, stage.fingerprint, stage.revision,
            project.n_items, cache_bytes(),
        )  # fmt: skip
        if self._vectors is None or self._vectors.key != key:
            self._vectors = None  # before the new ones take memory
            metric = str(stage.info.get("metric") or "euclidean")
            self._vectors = _loaded(project, name, metric, key, control)
        return self._vectors


def _loaded(
    project: ProjectReader,
    name: str,
    metric: str,
    key: tuple[Any, ...],
    control: JobControl,
) -> _Vectors:
    stored = project.embeddings(name)
    n, d = stored.shape
    most = cache_bytes()
    dtype: Any = np.float32 if 4 * n * d <= most else np.float16
    kept = np.empty((n, d), dtype) if np.dtype(dtype).itemsize * n * d <= most else None
    norms, valid = np.zeros(n, np.float32), np.zeros(n, bool)
    for start, block in stored.blocks():
        rows = slice(start, start + block.shape[0])
        good = np.isfinite(block).all(axis=1)
        block = np.where(good[:, None], block, np.float32(0))
        lengths = np.einsum("ij,ij->i", block, block)
        if metric == "cosine":
            good &= lengths > 0
            # Kept as directions; from disk they are divided by their length.
            scale = np.where(good, np.sqrt(lengths), 1)
            stored_block = block / scale[:, None]
        else:
            stored_block = block
        if kept is not None:
            kept[rows] = np.clip(stored_block, -65504, 65504)
        norms[rows], valid[rows] = lengths, good & np.isfinite(lengths)
        control.progress("vectors", rows.stop, n, unit="rows")
    if not valid.any():
        raise NumericalError(f"No vector of the embeddings {name} can be compared.")
    return _Vectors(key, metric, stored, kept, norms, valid)


def _prepared(rows: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    if metric != "cosine":
        return rows
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def _query(
    project: ProjectReader, vectors: _Vectors, likeness: Likeness, control: JobControl
) -> tuple[NDArray[np.float64], str]:
    """Return (m, d) vectors to be near to, and what to tell about them."""
    if likeness.ids is None:
        name = vectors.key[1]
        vector = foreign_vector(project, name, likeness, control)
        return _prepared(vector[None].astype(np.float64), vectors.metric), ""
    ids = np.asarray(likeness.ids)
    usable = ids[vectors.valid[ids]]
    if usable.size == 0:
        raise InputError(
            "What is selected has no vectors (these images could not be read), so "
            "nothing can be compared with it."
        )
    lost = ids.size - usable.size
    note = f"{lost:,} selected items have no vector and are left out." if lost else ""
    if likeness.mode == "mean" or usable.size == 1:
        mean = _mean(vectors, usable)
        return _prepared(mean[None], vectors.metric), note
    if usable.size > MOST_ANY:
        note = note + f" {MOST_ANY} of {usable.size:,} selected items stand for all."
        usable = _far_apart(vectors, usable)
    return vectors.rows(usable), note.strip()


def _mean(vectors: _Vectors, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(vectors.stored.shape[1])
    for start in range(0, ids.size, 16_384):
        total += vectors.rows(ids[start : start + 16_384]).sum(axis=0)
    return total / ids.size


def _far_apart(vectors: _Vectors, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose `MOST_ANY` of many items, each the farthest from those before it."""
    most = 20_000
    if ids.size > most:
        ids = ids[np.linspace(0, ids.size - 1, most).astype(np.int64)]
    rows = vectors.rows(ids)
    chosen = [int(np.argmin(((rows - rows.mean(axis=0)) ** 2).sum(axis=1)))]
    nearest = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < MOST_ANY:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return ids[np.unique(chosen)]


def _nearest(
    vectors: _Vectors,
    query: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    k: int,
    control: JobControl,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest allowed items with their distances, nearest first.

    Distances are 1 - cosine or Euclidean, to the nearest row of ``query``.
    """
    rough = _rough_distances(vectors, query, control)
    rough[~allowed] = np.inf
    count = min(k, int(np.count_nonzero(allowed)))
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    more = min(count + _MORE_THAN_ASKED, rough.size)
    best = np.argpartition(rough, more - 1)[:more]
    best = np.sort(best[allowed[best]])
    exact = _exact_distances(vectors, query, best)
    order = np.argsort(exact, kind="stable")[:count]
    return best[order], exact[order].astype(np.float32)


def _rough_distances(
    vectors: _Vectors, query: NDArray[np.float64], control: JobControl
) -> NDArray[np.float32]:
    """Return something (n,) that grows with the distance, in float32."""
    targets = np.ascontiguousarray(query, np.float32)
    own = np.einsum("ij,ij->i", targets, targets)[:, None]
    rough = np.empty(vectors.valid.size, np.float32)
    cosine = vectors.metric == "cosine"
    for start, block in vectors.blocks():
        control.check()
        rows = slice(start, start + block.shape[0])
        if len(targets) == 1:
            products = (block @ targets[0])[None]
        else:  # (m, rows): its extreme over m is found along memory
            products = targets @ block.T
        if not cosine:
            products = products * 2 - own
        best = products[0] if len(products) == 1 else products.max(axis=0)
        if cosine and vectors.kept is None:
            best = best / np.sqrt(np.where(vectors.valid[rows], vectors.norms[rows], 1))
        rough[rows] = -best if cosine else vectors.norms[rows] - best
    return rough


def _exact_distances(
    vectors: _Vectors, query: NDArray[np.float64], ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the distances of some items to the nearest row of ``query``."""
    distances = np.empty(ids.size)
    step = max(1, _BLOCK_BYTES // (8 * query.shape[1]))
    for start in range(0, ids.size, step):
        rows = vectors.rows(ids[start : start + step])
        squared = np.full(len(rows), np.inf)
        for target in query:
            squared = np.minimum(squared, ((rows - target) ** 2).sum(axis=1))
        # Of unit vectors, half the squared distance is 1 - cosine, without cancelling.
        part = squared / 2 if vectors.metric == "cosine" else np.sqrt(squared)
        distances[start : start + step] = part
    return distances
