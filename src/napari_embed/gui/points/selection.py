"""A set of item ids kept as a boolean mask, so that a million ids cost one array.

napari keeps the selected points in :class:`psygnal.containers.Selection`, a Python
set with one dictionary entry per id. This class offers the same interface over a
mask: every change, however large, is one numpy operation and one event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal.containers import Selection
from psygnal.containers._selection import SelectionEvents

from napari_embed.errors import InputError

__all__ = ["EVENT_IDS_MAX", "MaskSelection", "as_mask"]

EVENT_IDS_MAX = 10_000
"""Changes of more ids than this are announced with empty tuples (read ``mask``)."""

RELAY_IDS_MAX = 5_000
"""Above this many selected ids, listeners to the whole event group hear nothing.

napari's features table is one; it selects its rows one by one in quadratic time, 18 s
for 50,000 of them.
"""

BoolMask = npt.NDArray[np.bool_]


def as_mask(ids: Any, n_items: int) -> BoolMask:
    """Turn ids or a mask into a fresh mask.

    Parameters
    ----------
    ids : array-like of bool (n_items,), array-like of int, or iterable of int
        A mask, or ids between 0 and ``n_items - 1`` in any order.
    n_items : int
        Length of the mask.

    Returns
    -------
    ndarray of bool, shape (n_items,)

    Raises
    ------
    InputError
        If a mask has another length, or an id is not a whole number in range.
    """
    if isinstance(ids, MaskSelection):
        ids = ids.mask
    elif not isinstance(ids, np.ndarray):
        ids = np.asarray(ids if isinstance(ids, list | tuple | range) else list(ids))
    if ids.dtype == np.bool_:
        if ids.shape != (n_items,):
            raise InputError(
                f"The mask has shape {ids.shape}, expected ({n_items},): "
                "one value per item."
            )
        return ids.copy()
    mask = np.zeros(n_items, dtype=bool)
    if ids.size == 0:
        return mask
    if ids.dtype.kind not in "iu":
        raise InputError(f"Ids must be whole numbers, found {ids.dtype}.")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= n_items:
        raise InputError(f"Ids run from {low} to {high}, expected 0 to {n_items - 1}.")
    mask[ids] = True
    return mask


@contextmanager
def _group_is_silent(events: SelectionEvents) -> Iterator[None]:
    """Keep listeners to the whole group out; those to a single signal hear it."""
    group = events.all
    if not len(group):
        yield
        return
    group._disconnect_relay()
    try:
        yield
    finally:
        group._connect_relay()


class MaskSelection(Selection[int]):
    """Selected item ids with the interface of napari's selection.

    Besides the set methods: :attr:`mask`, ``len()`` in constant time, and
    :attr:`version`, which grows with each change. ``events.items_changed`` fires
    once per change with tuples of added and removed ids; above
    :data:`EVENT_IDS_MAX` ids both tuples are empty and listeners read ``mask``.

    Parameters
    ----------
    n_items : int
        Ids run from 0 to ``n_items - 1``.
    ids : array-like, optional
        Ids or mask selected from the start.

    Attributes
    ----------
    recorder : callable or None
        Called with the mask of changed ids before the events of a change.
    """

    def __init__(self, n_items: int, ids: Any = ()) -> None:
        self._mask: BoolMask = as_mask(ids, n_items)
        self._count = int(np.count_nonzero(self._mask))
        self.version = 0
        self.recorder: Callable[[BoolMask], None] | None = None
        super().__init__(())

    # -- what psygnal's base class would do on a Python set

    @property
    def mask(self) -> BoolMask:
        """Read-only view, one bool per item."""
        view = self._mask.view()
        view.flags.writeable = False
        return view

    @property
    def n_items(self) -> int:
        """Number of items that could be selected."""
        return self._mask.size

    def ids(self) -> npt.NDArray[np.intp]:
        """Return the selected ids in ascending order."""
        return np.flatnonzero(self._mask)

    def set_mask(self, mask: BoolMask) -> bool:
        """Replace the whole selection; return whether anything changed.

        ``mask`` is kept, not copied: the caller hands it over.
        """
        changed = mask != self._mask
        n_changed = int(np.count_nonzero(changed))
        if n_changed == 0:
            return False
        added: tuple[int, ...] = ()
        removed: tuple[int, ...] = ()
        if n_changed <= EVENT_IDS_MAX:
            ids = np.flatnonzero(changed)
            is_new = mask[ids]
            added = tuple(ids[is_new].tolist())
            removed = tuple(ids[~is_new].tolist())
        self._mask = mask
        self._count = int(np.count_nonzero(mask))
        self.version += 1
        if self.recorder is not None:
            self.recorder(changed)
        if self._count > RELAY_IDS_MAX:
            with _group_is_silent(self.events):
                self._emit_change(added, removed)
        else:
            self._emit_change(added, removed)
        return True

    def _in_range(self, value: object) -> bool:
        return isinstance(value, int | np.integer) and 0 <= value < self._mask.size

    def _loose_mask(self, other: Any) -> BoolMask:
        """Mask of another set; what cannot be an id of ours is left out."""
        if isinstance(other, MaskSelection) and other.n_items == self.n_items:
            return other.mask
        if isinstance(other, np.ndarray):
            if other.dtype == np.bool_:
                return as_mask(other, self.n_items)
            ids = other
        else:
            ids = np.fromiter((v for v in other if self._in_range(v)), dtype=np.intp)
        return as_mask(ids[(ids >= 0) & (ids < self.n_items)], self.n_items)

    def _strict_mask(self, *others: Iterable[int]) -> BoolMask:
        mask = np.zeros(self.n_items, dtype=bool)
        for other in others:
            mask |= as_mask(other, self.n_items)
        return mask

    def _new(self, mask: BoolMask) -> MaskSelection:
        return MaskSelection(self.n_items, mask)

    @classmethod
    def _from_iterable(cls, it: Iterable[int]) -> set[int]:  # type: ignore[override]
        return set(it)

    # -- reading

    def __contains__(self, value: object) -> bool:
        return self._in_range(value) and bool(self._mask[value])  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids().tolist())

    def __reversed__(self) -> Iterator[int]:
        return iter(self.ids()[::-1].tolist())

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._count:,} of {self.n_items:,} selected>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MaskSelection):
            return np.array_equal(self._mask, other._mask)
        if isinstance(other, set | frozenset | Selection):
            return len(other) == self._count and all(v in self for v in other)
        return NotImplemented

    def __le__(self, other: Any) -> bool:
        if len(other) < self._count:
            return False
        return not bool(np.any(self._mask & ~self._loose_mask(other)))

    def __lt__(self, other: Any) -> bool:
        return self._count < len(other) and self <= other

    def __ge__(self, other: Any) -> bool:
        return all(v in self for v in other)

    def __gt__(self, other: Any) -> bool:
        return self._count > len(other) and self >= other

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Whether no id is in both."""
        return not bool(np.any(self._mask & self._loose_mask(other)))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether every id of this selection is in ``other``."""
        return not bool(np.any(self._mask & ~self._loose_mask(other)))

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether every element of ``other`` is selected."""
        return all(v in self for v in other)

    # -- new sets

    def copy(self) -> MaskSelection:
        """Return an independent selection with the same ids (and no listeners)."""
        return self._new(self._mask)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskSelection:
        return self.copy()

    def union(self, *others: Iterable[int]) -> MaskSelection:
        """Return ids in this or any other set."""
        return self._new(self._mask | self._strict_mask(*others))

    def intersection(self, *others: Iterable[int]) -> MaskSelection:
        """Return ids in this and every other set."""
        mask = self._mask.copy()
        for other in others:
            mask &= self._loose_mask(other)
        return self._new(mask)

    def difference(self, *others: Iterable[int]) -> MaskSelection:
        """Return ids in this set and in none of the others."""
        mask = self._mask.copy()
        for other in others:
            mask &= ~self._loose_mask(other)
        return self._new(mask)

    def symmetric_difference(self, other: Iterable[int]) -> MaskSelection:
        """Return ids in exactly one of both sets."""
        return self._new(self._mask ^ self._strict_mask(other))

    def __or__(self, other: Any) -> MaskSelection:  # type: ignore[override]
        return self.union(other)

    def __and__(self, other: Any) -> MaskSelection:
        return self.intersection(other)

    def __sub__(self, other: Any) -> MaskSelection:
        return self.difference(other)

    def __xor__(self, other: Any) -> MaskSelection:  # type: ignore[override]
        return self.symmetric_difference(other)

    __ror__ = __or__
    __rand__ = __and__
    __rxor__ = __xor__

    def __rsub__(self, other: Any) -> set[int]:  # type: ignore[override]
        return {v for v in other if v not in self}

    # -- changing

    def add(self, item: int) -> None:
        """Select one more id."""
        self.update((item,))

    def discard(self, item: int) -> None:
        """Take an id out, if it is selected."""
        if item in self:
            mask = self._mask.copy()
            mask[item] = False
            self.set_mask(mask)

    def remove(self, item: int) -> None:
        """Take an id out; raise KeyError if it is not selected."""
        if item not in self:
            raise KeyError(item)
        self.discard(item)

    def pop(self) -> int:
        """Take out and return the smallest id; raise KeyError when empty."""
        if not self._count:
            raise KeyError("the selection is empty")
        item = int(np.argmax(self._mask))
        self.discard(item)
        return item

    def update(self, *others: Iterable[int]) -> None:
        """Select the ids of the other sets as well."""
        self.set_mask(self._mask | self._strict_mask(*others))

    def difference_update(self, *others: Iterable[int]) -> None:
        """Take the ids of the other sets out."""
        self.set_mask(self.difference(*others)._mask)

    def intersection_update(self, *others: Iterable[int]) -> None:
        """Keep only ids that are in every other set."""
        self.set_mask(self.intersection(*others)._mask)

    def symmetric_difference_update(self, other: Iterable[int]) -> None:
        """Flip the ids of the other set."""
        self.set_mask(self._mask ^ self._strict_mask(other))

    def __ior__(self, other: Any) -> MaskSelection:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __iand__(self, other: Any) -> MaskSelection:  # type: ignore[override,misc]
        self.intersection_update(other)
        return self

    def __isub__(self, other: Any) -> MaskSelection:  # type: ignore[override,misc]
        self.difference_update(other)
        return self

    def __ixor__(self, other: Any) -> MaskSelection:  # type: ignore[override,misc]
        self.symmetric_difference_update(other)
        return self

    def clear(self, keep_current: bool = False) -> None:
        """Select nothing."""
        if not keep_current:
            self._current = None
        self.set_mask(np.zeros(self.n_items, dtype=bool))

    def toggle(self, obj: int) -> None:
        """Flip one id."""
        self.symmetric_difference_update((obj,))

    def select_only(self, obj: int) -> None:
        """Select this id and no other."""
        self.set_mask(as_mask((obj,), self.n_items))

    def replace_selection(self, new_selection: Any) -> None:
        """Select exactly these ids (or this mask) with one event."""
        self.set_mask(as_mask(new_selection, self.n_items))

    @property
    def active(self) -> int | None:
        """The selected id when exactly one is selected, else None."""
        return self._active

    @active.setter
    def active(self, value: int | None) -> None:
        if value == self._active:
            return
        if value is None:
            self.clear()
        else:
            self.select_only(value)
            self._current = value

    def _update_active(self) -> None:
        active = int(np.argmax(self._mask)) if self._count == 1 else None
        if active != self._active:
            self._active = active
            if active is not None:
                self._current = active
            self.events.active.emit(active)
