"""Arrays in npy, npz and Zarr files, opened without trusting them.

Nothing is unpickled, object arrays are refused, and shapes and chunk sizes are checked
before any data are read: a 12 KB Zarr chunk can otherwise decode to hundreds of MiB.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.sources.spec import MAX_ITEMS

__all__ = [
    "array_shapes",
    "checked_zarr",
    "is_zarr",
    "label_column",
    "open_arrays",
    "pick_array",
]

_MAX_CHUNK_BYTES = 256 << 20
_MAX_DIMENSIONS = 5
_LABEL_NAMES = ("labels", "label", "y", "targets")
_CLASS_NAMES = ("label_names", "class_names", "classes")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group, version 2 or 3."""
    return path.is_dir() and any(
        (path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")
    )


def open_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name; a single one has the name "".

    Arrays of npy and Zarr are read when they are sliced; those of npz when they are
    converted by `numpy.asarray`.

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds pickled objects.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}. Check the path.")
    try:
        if is_zarr(path):
            return _open_zarr(path)
        if path.suffix.lower() == ".npz":
            return _open_npz(path)
        if path.suffix.lower() == ".npy":
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory.") from error
    except Exception as error:  # BLE001: readers raise anything
        raise InputError(
            f"{path} cannot be read as an array: {str(error)[:300]}. Arrays of Python "
            "objects are refused; save plain numbers."
        ) from error
    raise InputError(f"{path} is no array file. Expected .npy, .npz or a .zarr folder.")


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each numeric array in a file."""
    arrays = open_arrays(path)
    return {
        name: tuple(a.shape) for name, a in arrays.items() if a.dtype.kind in "biuf"
    }


class _NpzMember:
    """One array of an npz file, read on demand; shape and dtype from its header."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise InputError(f"{path}: array {name!r} has npy version {version}.")
            self.shape, _, self.dtype = read(file)
        self.ndim = len(self.shape)
        self._values: NDArray[Any] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._values is None:
            with np.load(self.path, allow_pickle=False) as data:
                self._values = data[self.name]
        return np.asarray(self._values, dtype=dtype)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Any:
        return np.asarray(self)[rows]


def _open_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        names = [
            n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")
        ]
    members = {name: _NpzMember(path, name) for name in names}
    return {
        name: member for name, member in members.items() if not member.dtype.hasobject
    }


def _open_zarr(path: Path) -> dict[str, Any]:
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return {"": checked_zarr(path, node)}
    if isinstance(node.attrs.asdict().get("multiscales"), list) or "ome" in node.attrs:
        raise InputError(
            f"{path} is an OME-Zarr. Open it as kind 'ome-zarr', or give the path of "
            "one of its arrays."
        )
    return {name: checked_zarr(path, a) for name, a in node.arrays()}


def checked_zarr(path: Path, array: Any) -> Any:
    """Return the array, unless a chunk decodes to more memory than is reasonable.

    Raises
    ------
    InputError
        If one does, or there are too many dimensions.
    """
    outer = array.shards or array.chunks
    size = math.prod(outer) * array.dtype.itemsize
    inner = math.prod(array.chunks) * array.dtype.itemsize
    if array.ndim > _MAX_DIMENSIONS or inner > _MAX_CHUNK_BYTES or size > 1 << 40:
        raise InputError(
            f"{path} has chunks of {inner / 2**20:,.0f} MiB in {array.ndim} "
            "dimensions; at most 256 MiB and 5 dimensions are read. Store it with "
            "smaller chunks."
        )
    return array


def pick_array(
    path: Path,
    arrays: dict[str, Any],
    *,
    option: str | None,
    names: Sequence[str],
    fits: Callable[[Any], bool],
    expected: str,
) -> tuple[str, Any]:
    """Choose one array: the named one, else a well-known name, else the only one.

    Raises
    ------
    InputError
        If none fits, or several do and none has a well-known name.
    """
    shapes = {name or "array": tuple(a.shape) for name, a in arrays.items()}
    found = f"{path} holds {shapes!s:.300}"
    if option is not None:
        if option not in arrays:
            raise InputError(f"There is no array {option!r}: {found}.")
        candidates = [option]
    else:
        candidates = [n for n in names if n in arrays and fits(arrays[n])]
        candidates = candidates[:1] or [n for n, a in arrays.items() if fits(a)]
    if not candidates or not fits(arrays[candidates[0]]):
        raise InputError(f"{found}; expected {expected}.")
    if len(candidates) > 1:
        raise InputError(
            f"{found}; several could be meant ({', '.join(candidates)}). Name one with "
            "the option 'array'."
        )
    array = arrays[candidates[0]]
    if not 1 <= array.shape[0] <= MAX_ITEMS:
        raise InputError(f"{found}; from 1 to {MAX_ITEMS:,} items are read.")
    return candidates[0], array


def label_column(
    path: Path, arrays: dict[str, Any], n: int, option: str | None
) -> list[str | None] | None:
    """Return n labels as text from an array beside the items, or None.

    Whole numbers are looked up in an array of names when there is one.

    Raises
    ------
    InputError
        If a named array is missing or has the wrong length.
    """
    if option is not None and option not in arrays:
        raise InputError(f"{path} has no array {option!r} of labels.")
    flat = [x for x in _LABEL_NAMES if x in arrays and arrays[x].ndim == 1]
    name = option or next(iter(flat), None)
    if name is None:
        return None
    if tuple(arrays[name].shape) != (n,):
        raise InputError(
            f"{path}: {name!r} has shape {tuple(arrays[name].shape)}, expected ({n},): "
            "one label per item."
        )
    values = np.asarray(arrays[name][:])
    names = next((x for x in _CLASS_NAMES if x in arrays), None)
    if names is not None and values.dtype.kind in "iu":
        classes = np.asarray(arrays[names][:])
        good = (values >= 0) & (values < classes.size)
        texts = [_text(c) for c in classes.ravel()]
        return [texts[v] if ok else None for v, ok in zip(values, good, strict=True)]
    if values.dtype.kind == "f":
        return [None if np.isnan(v) else _number(v) for v in values]
    return [_text(value) for value in values.tolist()]


def _text(value: object) -> str:
    """Return a label as text; byte strings come from HDF5 and older files."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: np.floating[Any]) -> str:
    """Return all digits of a label, without the ".0" of a whole number."""
    return str(int(value)) if value.is_integer() else str(value)
