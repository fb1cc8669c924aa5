"""Sets of item ids in few bytes: gaps or bits, whichever is shorter, then zstd."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_ids
from napari_embed.errors import InputError, StoreError

__all__ = ["Ids", "checked_ids", "ordered_ids", "pack_ids", "packed_mask", "unpack_ids"]

_HEAD = struct.Struct("<cI")  # what follows, and how many ids or bytes it is
_GAPS, _BITS, _ORDERED = b"G", b"B", b"O"
_BYTES_PER_ID = 4


def ordered_ids(ids: Ids, n_items: int) -> NDArray[np.int64]:
    """Return ids as given, checked; those of a mask in order.

    Raises
    ------
    InputError
        If they are no whole numbers, or there is no such item.
    """
    if np.ndim(ids) != 1 and np.size(ids):
        raise InputError(f"Ids must be a list, got {np.ndim(ids)} dimensions.")
    return item_ids(ids, n_items)


def checked_ids(ids: Ids, n_items: int) -> NDArray[np.int64]:
    """Return ids sorted, each once; see `ordered_ids`."""
    wanted = ordered_ids(ids, n_items)
    if wanted.size < 2 or bool(np.all(wanted[1:] > wanted[:-1])):
        return wanted
    mask = np.zeros(n_items, bool)
    mask[wanted] = True
    return np.flatnonzero(mask)


def pack_ids(ids: NDArray[np.int64], *, ordered: bool = False) -> bytes:
    """Return ids as bytes.

    Parameters
    ----------
    ids
        Sorted and each once, unless ``ordered``.
    ordered
        Keep the order, and ids that come twice.
    """
    if ordered:
        return _packed(_ORDERED, ids.size, ids.astype("<i4").tobytes())
    n = int(ids[-1]) + 1 if ids.size else 0
    if _BYTES_PER_ID * ids.size <= n // 8:
        gaps = np.diff(ids, prepend=0).astype("<i4")
        return _packed(_GAPS, ids.size, gaps.tobytes())
    mask = np.zeros(n, bool)
    mask[ids] = True
    bits = np.packbits(mask)
    return _packed(_BITS, bits.size, bits.tobytes())


def _packed(kind: bytes, count: int, content: bytes) -> bytes:
    body = pa.compress(content, codec="zstd", asbytes=True) if count else b""
    return _HEAD.pack(kind, count) + body


def unpack_ids(packed: bytes, n_items: int) -> NDArray[np.int64]:
    """Return the ids that `pack_ids` packed.

    Raises
    ------
    StoreError
        If the bytes are damaged or name an item that does not exist.
    """
    try:
        kind, count = _HEAD.unpack_from(packed)
        size = count if kind == _BITS else _BYTES_PER_ID * count
        # A damaged number must not ask for memory.
        if size > max(_BYTES_PER_ID * n_items, 64) or kind not in b"GBO":
            raise ValueError("the size is impossible")
        if not count:
            return np.zeros(0, np.int64)
        body: Any = packed[_HEAD.size :]
        plain = pa.decompress(body, decompressed_size=size, codec="zstd", asbytes=True)
        if kind == _BITS:
            ids = np.flatnonzero(np.unpackbits(np.frombuffer(plain, np.uint8)))
        else:
            ids = np.frombuffer(plain, "<i4").astype(np.int64)
            ids = np.cumsum(ids) if kind == _GAPS else ids
        if ids.size and not (ids.min() >= 0 and ids.max() < n_items):
            raise ValueError(f"an item beyond {n_items - 1}")
    except (ValueError, struct.error, pa.ArrowException, OSError) as error:
        raise StoreError(
            f"The log of decisions holds a damaged set of items: {error}. Restore "
            "state.sqlite from a backup; images and arrays are not touched."
        ) from error
    return ids


def packed_mask(ids: NDArray[np.int64], n_items: int) -> NDArray[np.uint8]:
    """Return the bits (ceil(n / 8),) of a set of ids."""
    mask = np.zeros(n_items, bool)
    mask[ids] = True
    return np.packbits(mask)
