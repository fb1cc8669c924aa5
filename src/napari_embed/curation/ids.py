"""Which items a call is about: ids or a mask, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["Ids", "item_ids", "item_mask"]

Ids = Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]


def item_ids(ids: Ids | None, n_items: int) -> NDArray[np.int64]:
    """Return ids in the order asked for; all of them when None is given.

    Raises
    ------
    InputError
        If a mask has another length, or an id is no item.
    """
    if ids is None:
        return np.arange(n_items)
    wanted = np.asarray(ids)
    if wanted.dtype == bool:
        if wanted.shape != (n_items,):
            raise InputError(
                f"A mask needs {n_items} values, got shape {wanted.shape}."
            )
        return np.flatnonzero(wanted)
    if wanted.size and wanted.dtype.kind not in "iu":
        raise InputError(f"Ids must be whole numbers, got {wanted.dtype}.")
    wanted = wanted.astype(np.int64).ravel()
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < n_items):
        raise InputError(
            f"Ids must lie in 0 to {n_items - 1}, found {wanted.min()} to "
            f"{wanted.max()}."
        )
    return wanted


def item_mask(ids: Ids | None, n_items: int) -> NDArray[np.bool_]:
    """Return which items are meant, (n,) bool; see `item_ids`."""
    mask = np.zeros(n_items, bool)
    mask[item_ids(ids, n_items)] = True
    return mask
