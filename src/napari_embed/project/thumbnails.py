"""Thumbnails of any items, fast enough to turn pages of a gallery.

Zarr reads a hundred scattered rows of a sharded array through as many tasks of its
event loop. The layout is our own and known, so a page is read directly here: two small
reads per inner chunk, its crc32c, one zstd call. A test compares the two ways.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import CorruptChunkError, StoreError
from napari_embed.project.ledger import ChunkRecord, Ledger
from napari_embed.project.store import DiskArray

__all__ = ["ThumbnailReader"]

_log = logging.getLogger(__name__)

_INDEX_ENTRY_BYTES = 16  # offset and length, two little-endian uint64
_CRC_BYTES = 4
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


class ThumbnailReader:
    """Reads rows of the thumbnails array; safe to use from several threads.

    Parameters
    ----------
    disk
        The array, (n, h, w, 3) uint8, in shards.
    ledger
        Says which chunks exist and how long their files are.
    """

    def __init__(self, disk: DiskArray, ledger: Ledger) -> None:
        self._disk = disk
        self._records = ledger.chunks(disk.name)
        self._done = np.zeros(disk.spec.n_chunks, dtype=bool)
        self._done[[c for c in self._records if 0 <= c < self._done.size]] = True
        self._warned: set[int] = set()
        self._mutex = threading.Lock()

    def available(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each id whether its thumbnail has been written."""
        return np.asarray(self._done[ids // self._disk.spec.chunk_rows])

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (m, h, w, 3) uint8; zeros where there is none or it is damaged."""
        spec = self._disk.spec
        result = np.zeros((ids.size, *spec.shape[1:]), np.uint8)
        chunks = ids // spec.chunk_rows
        for chunk in np.unique(chunks[self._done[chunks]]).tolist():
            member = np.flatnonzero(chunks == chunk)
            try:
                rows = ids[member] - chunk * spec.chunk_rows
                self._read_shard(self._records[chunk], rows, member, result)
            except StoreError as error:
                # One damaged chunk must not blank the page.
                result[member] = 0
                self._warn(chunk, error)
        return result

    def _warn(self, chunk: int, error: StoreError) -> None:
        with self._mutex:
            if chunk not in self._warned:
                self._warned.add(chunk)
                _log.warning("Thumbnails are shown black: %s", error)

    def _read_shard(
        self,
        record: ChunkRecord,
        rows: NDArray[np.int64],
        where: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Copy some rows of one shard to ``out[where]``."""
        path = self._disk.chunk_path(record.chunk)
        inner = self._disk.spec.inner_rows
        shape = (inner, *self._disk.spec.shape[1:])
        with _Shard(path, record.size, self._disk.spec.chunk_rows // inner) as shard:
            numbers = rows // inner
            for number in np.unique(numbers).tolist():
                block = shard.inner_chunk(number, shape)
                member = numbers == number
                out[where[member]] = block[rows[member] - number * inner]


class _Shard:
    """One open shard file: its index, then inner chunks, all checked."""

    def __init__(self, path: Path, size: int, n_inner: int) -> None:
        self._path, self._size = path, size
        try:
            self._file = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise self._damaged(error.strerror or "unreadable") from error
        try:
            found = os.fstat(self._file)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                raise self._damaged("not the file that was written")
            length = n_inner * _INDEX_ENTRY_BYTES + _CRC_BYTES
            content = self._checked(size - length, length)
            self._index = np.frombuffer(content, "<u8").reshape(n_inner, 2)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def inner_chunk(self, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return one decoded inner chunk."""
        offset, length = (int(value) for value in self._index[number])
        content = self._checked(offset, length)
        expected = int(np.prod(shape))
        try:
            plain: Any = pa.decompress(
                content, decompressed_size=expected, codec="zstd"
            )
            return np.frombuffer(plain, np.uint8, expected).reshape(shape)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(str(error)) from error

    def _checked(self, offset: int, length: int) -> bytes:
        """Return bytes without the crc32c they end with, which must fit."""
        if not (offset >= 0 and _CRC_BYTES < length <= self._size - offset):
            raise self._damaged("an entry lies outside the file")
        try:
            content = _read_at(self._file, length, offset)
        except OSError as error:
            raise self._damaged(error.strerror or "unreadable") from error
        body, crc = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
        if google_crc32c.value(body) != int.from_bytes(crc, "little"):
            raise self._damaged("the checksum differs")
        return body

    def _damaged(self, reason: str) -> CorruptChunkError:
        return CorruptChunkError(
            f"{self._path} is damaged: {reason}. Run `napari-embed verify` and make "
            "the thumbnails again."
        )


def _read_at(file: int, length: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, length, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, length)
