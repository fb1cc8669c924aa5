"""Plain arrays in one file: npz without pickle, written whole, read with a limit."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import CorruptChunkError, InputError
from napari_embed.project.atomic import atomic_file

__all__ = ["npz_bytes", "read_npz", "write_npz"]


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace ``path`` by a file of these arrays, uncompressed.

    Raises
    ------
    InputError
        If an array holds objects.
    StoreError
        If the file cannot be written.
    """
    plain = {name: np.asarray(values) for name, values in arrays.items()}
    for name, values in plain.items():
        if values.dtype.hasobject:
            raise InputError(f"{name!r} holds objects, not numbers.")
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **plain)


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return what `write_npz` would write."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_npz(path: Path, *, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that was written by `write_npz`.

    Parameters
    ----------
    path
        The file, from outside: nothing in it is trusted.
    most_bytes
        Arrays larger than this together are refused before any is read.

    Raises
    ------
    CorruptChunkError
        If it is anything else, or larger.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most_bytes:
            raise ValueError(f"{size:,} bytes are more than the {most_bytes:,} allowed")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (
        OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError,
        RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise CorruptChunkError(f"{path} cannot be read: {error}.") from error
