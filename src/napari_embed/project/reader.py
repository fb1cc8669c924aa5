"""Everything a project can be asked without changing it."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
)
from napari_embed.project import results
from napari_embed.project.checkpoints import KINDS, read_checkpoint
from napari_embed.project.items import ITEMS_NAME, ItemsTable, Rows
from napari_embed.project.ledger import STALE, Ledger
from napari_embed.project.lock import WriterLock
from napari_embed.project.manifest import Manifest, read_manifest
from napari_embed.project.shared import ChunkTarget, StateFile
from napari_embed.project.stages import StageInfo, StoredRows, stage_infos
from napari_embed.project.store import DiskArray
from napari_embed.project.thumbnails import ThumbnailReader
from napari_embed.project.verify import Problem, verify
from napari_embed.sources import Source, SourceSpec, open_source

__all__ = ["THUMBNAILS", "ProjectReader", "check_key"]

THUMBNAILS = "thumbnails"
_INNER_ROWS = 64
# Far more than positions, velocities, gains and orders in 3D take.
_MOST_BYTES_PER_ITEM = 512
_MOST_BYTES_BESIDE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+ -]{0,99}")

Progress = Callable[[int, int], None]


class ProjectReader:
    """The reading half of `Project`; safe to use from several threads.

    Attributes
    ----------
    path
        The folder.
    manifest
        Its unchanging facts.
    """

    def __init__(self, path: Path, lock: WriterLock | None) -> None:
        """Open the parts; use `create` or `open` instead."""
        self.path = path
        self._lock = lock
        self._mutex = threading.RLock()
        self._thumbnails: ThumbnailReader | None = None
        self.manifest: Manifest = read_manifest(path)
        self._ledger = Ledger(path, writable=lock is not None)
        try:
            self._items = ItemsTable(path / ITEMS_NAME, self.manifest.n_items)
        except BaseException:
            self._ledger.close()
            raise

    def close(self) -> None:
        """Close all files and give the lock back; calling it twice does no harm."""
        with self._mutex:
            self._ledger.close()
            self._items.close()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Project {self.name!r}, {self.n_items:,} items, {self.path}>"

    def refresh(self) -> None:
        """Look again at what a writer has finished since (for a reader)."""
        with self._mutex:
            if self._ledger.is_copy:
                self._ledger.reopen()
            self._thumbnails = None

    def _reread(self) -> None:
        """Look at manifest and items anew, after they have changed."""
        with self._mutex:
            self._items.close()
            self.manifest = read_manifest(self.path)
            self._items = ItemsTable(self.path / ITEMS_NAME, self.manifest.n_items)
        self.refresh()

    # facts

    @property
    def name(self) -> str:
        """Shown to people."""
        return self.manifest.name

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.manifest.n_items

    @property
    def spec(self) -> SourceSpec:
        """Where the items came from."""
        return self.manifest.source

    @property
    def has_images(self) -> bool:
        """False for a source of bare vectors."""
        return self.manifest.has_images

    @property
    def writable(self) -> bool:
        """Whether this object holds the writer's lock."""
        return self._lock is not None

    @property
    def thumbnail_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of every thumbnail."""
        return (self.manifest.thumbnail_px, self.manifest.thumbnail_px, 3)

    @property
    def chunk_rows(self) -> int:
        """Items per chunk."""
        return self.manifest.chunk_rows

    @property
    def n_chunks(self) -> int:
        """Chunks of a chunked stage."""
        return -(-self.n_items // self.chunk_rows)

    def source(self) -> Source:
        """Open the source the items came from."""
        return open_source(self.spec)

    def size_on_disk(self) -> int:
        """Return the bytes of all files of the project."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size
        return total

    # items

    def columns(self) -> list[str]:
        """Return the names of the items' columns."""
        return self._items.columns

    def items(
        self, columns: Sequence[str] | None = None, rows: Rows = None
    ) -> pa.Table:
        """Return items in the order asked for: all, a slice, or a list of ids."""
        return self._items.read(columns, rows)

    def column_values(self, name: str) -> NDArray[Any]:
        """Return one column as a NumPy array of n values (None or NaN where empty)."""
        column = self._items.read([name])[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def categories(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column as codes (n,) int32, -1 where empty, and their names.

        Names are sorted, numbers by value.
        """
        column = self._items.read([name])[name]
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        merged = column.unify_dictionaries().combine_chunks()
        if isinstance(merged, pa.ChunkedArray):
            merged = merged.chunk(0)
        names = [str(value) for value in merged.dictionary.to_pylist()]
        codes = np.asarray(merged.indices.fill_null(-1)).astype(np.int32)
        order = sorted(range(len(names)), key=lambda i: _natural(names[i]))
        rank = np.full(len(names) + 1, -1, np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        return rank[codes], [names[i] for i in order]

    def errors(self) -> pa.Table:
        """Return the failed items: id, source, stage, reason."""
        rows = [
            r for r in self._ledger.errors()
            if 0 <= r[0] < self.n_items and not r[1].startswith(STALE)
        ]  # fmt: skip
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        sources = self._items.read(["source"], ids)["source"]
        return pa.table(
            {
                "id": pa.array(ids),
                "source": sources,
                "stage": pa.array([row[1] for row in rows], pa.string()),
                "reason": pa.array([row[2] for row in rows], pa.string()),
            }
        )

    def stale_items(self, key: str) -> NDArray[np.int64]:
        """Return the ids whose vector or thumbnail is of what they were before.

        Their chunks are complete; only these rows are to be computed again.
        """
        stale = [i for i in self._ledger.stale(key) if 0 <= i < self.n_items]
        return np.array(stale, np.int64)

    # stages and results

    def stage_info(self, key: str) -> StageInfo:
        """Return how far one stage is; state "missing" when it never began."""
        return stage_infos(self._ledger).get(key, StageInfo(key, "missing"))

    def stages(self) -> list[StageInfo]:
        """Return all stages that have begun, by key."""
        return list(stage_infos(self._ledger).values())

    def embeddings(self, name: str, *, partial: bool = False) -> StoredRows:
        """Return the (n, d) float32 vectors, read from disk by slices.

        Parameters
        ----------
        name
            The encoder's name as in the stage's key.
        partial
            Allow an unfinished stage; rows not written yet are NaN.

        Raises
        ------
        IncompleteStageError
            If there is no such stage, or it is unfinished and ``partial`` is false.
        """
        key = f"embeddings/{name}"
        record = self._ledger.stage(key)
        if record is None or not (record.sealed or partial):
            raise IncompleteStageError(
                f"{key} is not complete in this project. Compute the embeddings first."
            )
        check_key(key, ("embeddings/",))
        disk = DiskArray.open(self.path, key, rows=self.n_items, dtype="float32")
        return StoredRows(disk, self._ledger, partial=partial)

    def measures(self, name: str, *, dtype: str = "float32") -> StoredRows:
        """Return what was measured on every item, (n, m), read from disk by slices.

        Raises
        ------
        IncompleteStageError
            If it was not measured, or not to the end.
        """
        key = f"measures/{name}"
        check_key(key, ("measures/",))
        record = self._ledger.stage(key)
        if record is None or not record.sealed:
            raise IncompleteStageError(
                "The images of this project are not measured yet. Measure them first: "
                f"napari-embed quality {self.path}"
            )
        disk = DiskArray.open(self.path, key, rows=self.n_items, dtype=dtype)
        return StoredRows(disk, self._ledger, partial=False)

    def embeddings_names(self) -> list[str]:
        """Return the names of all embeddings, finished or not."""
        keys = (stage.key for stage in self._ledger.stages())
        kind = "embeddings/"
        return [key.removeprefix(kind) for key in keys if key.startswith(kind)]

    def read_encoder_state(
        self, name: str, *, fingerprint: str | None = None
    ) -> dict[str, NDArray[Any]] | None:
        """Return it, or None when there is none or its fingerprint is another."""
        check_key(f"encoders/{name}", ("encoders/",))
        return results.read_encoder_state(self.path, self._ledger, name, fingerprint)

    def is_encoder_state(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether these arrays are, to the bit, what an encoder had learned."""
        return results.is_encoder_state(self._ledger, name, arrays)

    def chunks_done(self, key: str) -> set[int]:
        """Return the numbers of the finished chunks of a stage."""
        return set(self._ledger.chunks(key))

    def chunk_target(self, key: str) -> ChunkTarget:
        """Return where other machines write chunks of vectors or thumbnails."""
        check_key(key, (THUMBNAILS, "embeddings/"))
        dtype = "uint8" if key == THUMBNAILS else "float32"
        disk = DiskArray.open(
            self.path, key, rows=self.n_items, dtype=dtype,
            inner_rows=self._inner_rows(key),
        )  # fmt: skip
        return ChunkTarget(key, disk.spec)

    def encoder_state_file(self, name: str) -> StateFile | None:
        """Return the file of what an encoder learned, for other machines."""
        check_key(f"encoders/{name}", ("encoders/",))
        return results.encoder_state_file(self._ledger, name)

    def read_neighbors(self, name: str, *, most: int | None = None) -> NeighborGraph:
        """Return a neighbor graph, or only the ``most`` nearest neighbors of each item.

        Raises
        ------
        IncompleteStageError
            If there is none of that name.
        """
        check_key(f"neighbors/{name}", ("neighbors/",))
        key = f"neighbors/{name}"
        return results.read_neighbors(self.path, self._ledger, key, self.n_items, most)

    def read_projection(self, name: str) -> Projection:
        """Return a map.

        Raises
        ------
        IncompleteStageError
            If there is none of that name.
        """
        check_key(f"projections/{name}", ("projections/",))
        key = f"projections/{name}"
        return results.read_projection(self.path, self._ledger, key, self.n_items)

    def read_checkpoint(
        self, name: str, *, kind: str = "checkpoints", most_bytes: int | None = None
    ) -> dict[str, NDArray[Any]] | None:
        """Return how far the unfinished map ``name`` is, or None.

        What it was made of says ``stage_info(f"checkpoints/{name}")``. The kind
        "pieces" is what was kept of an encoder's open chunk. More than ``most_bytes``
        are refused, by default 512 per item.

        Raises
        ------
        CorruptChunkError
            If the file is damaged or missing.
        """
        key = f"{kind}/{name}"
        check_key(key, KINDS)
        if most_bytes is None:
            most_bytes = _MOST_BYTES_PER_ITEM * self.n_items + _MOST_BYTES_BESIDE
        return read_checkpoint(self.path, self._ledger, key, most_bytes)

    def projection_names(self) -> list[str]:
        """Return the names of all finished maps, the newest last."""
        done = [s for s in self.stages() if s.key.startswith("projections/")]
        done = [s for s in done if s.chunks_done == s.chunks_total > 0]
        done.sort(key=lambda s: (s.updated, s.key))
        return [s.key.removeprefix("projections/") for s in done]

    # thumbnails

    def read_thumbnails(self, ids: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Return (m, h, w, 3) uint8 thumbnails; zeros where there is none yet."""
        wanted = self._item_ids(ids)
        reader = self._thumbnail_reader()
        if reader is None:
            return np.zeros((wanted.size, *self.thumbnail_shape), np.uint8)
        return reader.read(wanted)

    def thumbnail_available(
        self, ids: Sequence[int] | NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Return for each id whether its thumbnail has been written."""
        wanted = self._item_ids(ids)
        reader = self._thumbnail_reader()
        if reader is None:
            return np.zeros(wanted.size, bool)
        stale = self.stale_items("thumbnails")
        return reader.available(wanted) & ~np.isin(wanted, stale)

    def _item_ids(self, ids: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        wanted = np.asarray(ids, dtype=np.int64).ravel()
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.n_items):
            raise InputError(
                f"Ids must lie in 0 to {self.n_items - 1}, found {wanted.min()} to "
                f"{wanted.max()}."
            )
        return wanted

    def _thumbnail_reader(self) -> ThumbnailReader | None:
        with self._mutex:
            if self._thumbnails is None and self._ledger.stage(THUMBNAILS) is not None:
                disk = DiskArray.open(
                    self.path,
                    THUMBNAILS,
                    rows=self.n_items,
                    dtype="uint8",
                    inner_rows=self._inner_rows(THUMBNAILS),
                )
                self._thumbnails = ThumbnailReader(disk, self._ledger)
            return self._thumbnails

    def _inner_rows(self, key: str) -> int:
        """Return the largest divisor of the chunk's rows up to 64, for thumbnails."""
        if key != THUMBNAILS:
            return 0
        return max(d for d in range(1, _INNER_ROWS + 1) if self.chunk_rows % d == 0)

    # health

    def verify(self, *, progress: Progress | None = None) -> list[Problem]:
        """Read every recorded byte and return exactly what is damaged or missing."""
        return verify(
            self.path,
            self.manifest,
            self._ledger,
            progress=progress,
        )


def check_key(key: str, allowed: Sequence[str]) -> None:
    """Insist on a known kind and a harmless name: keys become folder names."""
    kind, slash, name = key.partition("/")
    if kind + slash not in allowed or (slash and not _NAME.fullmatch(name)):
        raise InputError(
            f"{key!r} is not a valid key here. Expected {' or '.join(allowed)} and a "
            "name of letters, digits, space and . _ + - (at most 100)."
        )


def _natural(text: str) -> tuple[int, float, str]:
    """Sort key: numbers by value before words."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if not math.isnan(number):  # which no order knows where to put
            return (0, number, text)
    return (1, 0.0, text)
