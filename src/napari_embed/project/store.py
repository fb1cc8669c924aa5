"""Arrays on disk: one Zarr v3 layout for all, checked before it is trusted.

Every array is split along its rows only. Every chunk carries a crc32c, the fill value
is NaN, -1 or 0, and all-fill chunks are written, so that "empty" and "missing" differ.
Metadata is data from outside: shape, chunks, type and codecs must be exactly those this
module writes, before Zarr sees a byte.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from napari_embed.errors import (
    CorruptChunkError,
    IncompleteStageError,
    InputError,
    StoreError,
)
from napari_embed.project.atomic import (
    checksum_bytes,
    checksum_file,
    store_errors,
    sync_folder,
    write_atomic,
)
from napari_embed.project.ledger import ChunkRecord

__all__ = ["ArraySpec", "DiskArray", "create_root"]

_FILL: dict[str, float | int] = {"uint8": 0, "float32": math.nan, "int32": -1}
_MAX_METADATA_BYTES = 1 << 20
_MAX_CHUNK_BYTES = 256 << 20
_ZSTD_LEVEL = 1
_CRC32C: dict[str, Any] = {"name": "crc32c"}
_GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}\n'


def create_root(root: Path) -> None:
    """Make folder ``root`` a Zarr v3 group, unless it is one."""
    path = root / "zarr.json"
    if not path.is_file():
        with store_errors("create", root):
            root.mkdir(exist_ok=True)
        write_atomic(path, _GROUP)


@dataclass(frozen=True)
class ArraySpec:
    """What an array looks like; two equal ones have byte-equal metadata.

    Attributes
    ----------
    shape
        Rows first.
    dtype
        "uint8", "float32" or "int32".
    chunk_rows
        Rows per file.
    inner_rows
        Rows per inner chunk of a shard, or 0 for plain chunks.
    attributes
        Small facts stored with the array, such as its fingerprint.
    """

    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int
    inner_rows: int = 0
    attributes: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in _FILL:
            raise InputError(
                f"Arrays are stored as {', '.join(_FILL)}, got {self.dtype}."
            )
        if not 1 <= len(self.shape) <= 5 or any(side < 1 for side in self.shape):
            raise InputError(f"An array of shape {self.shape} cannot be stored.")
        if self.chunk_bytes > _MAX_CHUNK_BYTES:
            raise InputError(
                f"A chunk of {self.chunk_rows} rows would take "
                f"{self.chunk_bytes / 2**20:.0f} MiB, at most 256 MiB are allowed. "
                "Use fewer rows per chunk."
            )

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk."""
        tail = math.prod(self.shape[1:])
        return self.chunk_rows * tail * np.dtype(self.dtype).itemsize

    @property
    def n_chunks(self) -> int:
        """Files the array is split into."""
        return -(-self.shape[0] // self.chunk_rows)

    def rows(self, chunk: int) -> slice:
        """Return the rows of one chunk."""
        if not 0 <= chunk < self.n_chunks:
            raise InputError(f"There are {self.n_chunks} chunks, not chunk {chunk}.")
        start = chunk * self.chunk_rows
        return slice(start, min(start + self.chunk_rows, self.shape[0]))

    def metadata(self) -> dict[str, Any]:
        """Return the content of ``zarr.json``.

        Written by us, not by Zarr, so that the bytes do not depend on Zarr's version.
        """
        tail = list(self.shape[1:])
        fill = _FILL[self.dtype]
        bytes_codec: dict[str, Any] = {"name": "bytes"}
        if np.dtype(self.dtype).itemsize > 1:
            bytes_codec["configuration"] = {"endian": "little"}
        zstd = {"level": _ZSTD_LEVEL, "checksum": False}
        codecs = [bytes_codec, {"name": "zstd", "configuration": zstd}, _CRC32C]
        if self.inner_rows:
            little = {"name": "bytes", "configuration": {"endian": "little"}}
            shard = {
                "chunk_shape": [self.inner_rows, *tail],
                "codecs": codecs,
                "index_codecs": [little, _CRC32C],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": shard}]
        outer = {"chunk_shape": [self.chunk_rows, *tail]}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": outer},
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": "."},  # one flat folder to flush
            },
            "fill_value": "NaN" if math.isnan(fill) else fill,
            "codecs": codecs,
            "attributes": dict(self.attributes),
        }

    def metadata_bytes(self) -> bytes:
        """Return ``zarr.json`` as written; equal specs give equal bytes."""
        return json.dumps(self.metadata(), indent=1, allow_nan=False).encode()


class DiskArray:
    """One array of a project: whole chunks in, checked rows out.

    Made by `create` and `open`; ``zarr`` is the Zarr array itself.
    """

    def __init__(self, root: Path, name: str, spec: ArraySpec) -> None:
        self.root, self.name, self.spec = root, name, spec
        self.path = root / name
        with _zarr_errors("open", self.path):
            array = zarr.open_array(self.path, mode="r+", zarr_format=3)
            self.zarr = array.with_config({"write_empty_chunks": True})

    @classmethod
    def create(cls, root: Path, name: str, spec: ArraySpec) -> DiskArray:
        """Write the metadata of an array; chunk files already there stay."""
        path = root / name
        between = [p for p in path.parents if root in p.parents]
        for folder in reversed(between):
            create_root(folder)
        with store_errors("create", path):
            path.mkdir(exist_ok=True)
        write_atomic(path / "zarr.json", spec.metadata_bytes())
        with store_errors("create", path):
            sync_folder(path.parent)
        return cls(root, name, spec)

    @classmethod
    def open(
        cls, root: Path, name: str, *, rows: int, dtype: str, inner_rows: int = 0
    ) -> DiskArray:
        """Open an array after checking its metadata.

        Raises
        ------
        IncompleteStageError
            If there is no such array.
        StoreError
            If the metadata are not such as `create` writes for ``rows`` rows.
        """
        path = root / name / "zarr.json"
        if not path.exists():
            raise IncompleteStageError(f"{name} is not in this project yet.")
        spec = _read_spec(path, inner_rows)
        if spec.shape[0] != rows or spec.dtype != dtype:
            raise StoreError(
                f"{path} is damaged or foreign: {spec.shape[0]} rows of {spec.dtype}, "
                f"expected {rows} of {dtype}. Compute this stage again."
            )
        return cls(root, name, spec)

    def chunk_path(self, chunk: int) -> Path:
        """Return the file of one chunk."""
        self.spec.rows(chunk)
        return chunk_file(self.path, chunk, len(self.spec.shape))

    def write_chunk(self, chunk: int, values: NDArray[Any]) -> ChunkRecord:
        """Write one whole chunk, flush it to the disk and return its record.

        It is encoded in memory and appears whole. The ledger must not hold the chunk
        while this runs.
        """
        rows = self.spec.rows(chunk)
        expected = (rows.stop - rows.start, *self.spec.shape[1:])
        if values.shape != expected or values.dtype != np.dtype(self.spec.dtype):
            raise InputError(
                f"Chunk {chunk} of {self.name} needs {expected} {self.spec.dtype}, got "
                f"{values.shape} {values.dtype}."
            )
        path = self.chunk_path(chunk)
        with _zarr_errors("write", path):
            if path.is_dir() and not path.is_symlink():  # damaged, and in the way
                shutil.rmtree(path)
            content = self._encoded(path.name, rows, values)
            write_atomic(path, content)
        return ChunkRecord(chunk, len(content), checksum_bytes(content))

    def _encoded(self, key: str, rows: slice, values: NDArray[Any]) -> bytes:
        """Return the bytes of one chunk as Zarr would store them under ``key``."""
        metadata = cpu.Buffer.from_bytes(self.spec.metadata_bytes())
        stored = {"zarr.json": metadata}
        array = zarr.open_array(MemoryStore(stored), mode="r+", zarr_format=3)
        array.with_config({"write_empty_chunks": True})[rows] = values
        return bytes(stored[key].to_bytes())

    def damage(self, record: ChunkRecord, *, deep: bool = True) -> str:
        """Return what is wrong with a finished chunk, or "" when nothing is.

        ``deep`` reads and hashes the bytes; otherwise only the file's presence, kind
        and size are compared.
        """
        path = self.chunk_path(record.chunk)
        return file_damage(path, record.size, record.checksum if deep else None)

    def read(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return rows as stored; damaged bytes raise.

        Raises
        ------
        CorruptChunkError
            If a chunk does not decode or its crc32c differs.
        """
        with _zarr_errors("read", self.path):
            values = (
                self.zarr[rows] if isinstance(rows, slice) else self.zarr.oindex[rows]
            )
        return np.asarray(values)


def chunk_file(array: Path, chunk: int, ndim: int) -> Path:
    """Return the file of a chunk of an array that is split along its rows only."""
    return array / ".".join(["c", str(chunk), *["0"] * (ndim - 1)])


def file_damage(path: Path, size: int, checksum: str | None) -> str:
    """Compare a file with its record; return what is wrong, or ""."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size != size:
        return "empty" if found.st_size == 0 else "size differs"
    if checksum is None:
        return ""
    try:
        return "" if checksum_file(path)[1] == checksum else "content differs"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _read_spec(path: Path, inner_rows: int) -> ArraySpec:
    """Read ``zarr.json`` and insist that it is exactly what we write."""
    with store_errors("read", path):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_METADATA_BYTES:
            raise StoreError(f"{path} is no metadata file of ours.")
        text = path.read_bytes()
    try:
        values = json.loads(text)
        shape = tuple(_whole(side) for side in values["shape"])
        grid = values["chunk_grid"]["configuration"]["chunk_shape"]
        attributes = tuple(values["attributes"].items())
        dtype = str(values["data_type"])
        spec = ArraySpec(shape, dtype, _whole(grid[0]), inner_rows, attributes)
        same = spec.metadata() == values
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: {error!r:.200}.") from error
    except RecursionError as error:
        raise StoreError(f"{path} is damaged: too deeply nested.") from error
    if not same:
        raise StoreError(
            f"{path} is damaged or foreign: layout or codecs are not those of this "
            "format. Verify the project and compute this stage again."
        )
    return spec


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r:.50} is not a positive whole number")
    return value


@contextlib.contextmanager
def _zarr_errors(action: str, path: Path) -> Iterator[None]:
    """Turn what Zarr and its codecs raise into errors of ours."""
    try:
        with store_errors(action, path):
            yield
    except (StoreError, InputError):
        raise
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        raise CorruptChunkError(
            f"Could not {action} {path}: {error} The bytes on disk are damaged. Run "
            "`napari-embed verify` to find what, and compute that stage again."
        ) from error
