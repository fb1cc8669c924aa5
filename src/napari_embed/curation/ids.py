"""Which items a call is about: some, or all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import Ids, ordered_ids

__all__ = ["Ids", "item_ids", "item_mask"]


def item_ids(ids: Ids | None, n_items: int) -> NDArray[np.int64]:
    """Return ids in the order asked for; all of them when None is given.

    Raises
    ------
    InputError
        If a mask has another length, or an id is no item.
    """
    return np.arange(n_items) if ids is None else ordered_ids(ids, n_items)


def item_mask(ids: Ids | None, n_items: int) -> NDArray[np.bool_]:
    """Return which items are meant, (n,) bool; see `item_ids`."""
    mask = np.zeros(n_items, bool)
    mask[item_ids(ids, n_items)] = True
    return mask
