"""What holds now: who has which tag, label, note; which items are out.

Every value changes through `State.apply`, forward or back, so undo, redo and the replay
of the log are the same few lines.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import pack_ids, packed_mask, unpack_ids
from napari_embed.errors import StoreError
from napari_embed.project.journal import JournalChange, Value

__all__ = ["COLUMNS", "EXCLUDED", "TAG", "State", "is_mask"]

EXCLUDED = "excluded"
TAG = "tag:"
COLUMNS = ("label", "note")
"""Keys with a number of a text per item; 0 is none."""


def is_mask(key: str) -> bool:
    """Return whether a key's value is yes or no for each item."""
    return key == EXCLUDED or key.startswith(TAG)


class State:
    """The values of all keys for ``n_items`` items.

    Masks are kept as bits (an eighth of a byte per item and tag), labels and notes as
    numbers of texts from the first one on, documents (definitions of tags, named
    selections and views) as they are.
    """

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self._masks: dict[str, NDArray[np.uint8]] = {}
        self._columns: dict[str, NDArray[np.int32]] = {}
        self.documents: dict[str, str | bytes] = {}

    # reading

    def mask(self, key: str) -> NDArray[np.bool_]:
        """Return (n,) bool."""
        bits = self._masks.get(key)
        if bits is None:
            return np.zeros(self.n_items, bool)
        return np.unpackbits(bits, count=self.n_items).view(bool)

    def has(self, key: str, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each id whether the mask holds."""
        bits = self._masks.get(key)
        if bits is None:
            return np.zeros(ids.size, bool)
        held = bits[ids >> 3] & (128 >> (ids & 7))
        return np.asarray(held != 0)

    def count(self, key: str) -> int:
        """Return for how many items the mask holds."""
        bits = self._masks.get(key)
        return 0 if bits is None else int(np.unpackbits(bits).sum(dtype=np.int64))

    def column(self, key: str) -> NDArray[np.int32]:
        """Return (n,) int32 numbers of texts, 0 for none; not to be written to."""
        found = self._columns.get(key)
        return np.zeros(self.n_items, np.int32) if found is None else found

    def values(self, key: str, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the number of each id's text."""
        found = self._columns.get(key)
        return np.zeros(ids.size, np.int32) if found is None else found[ids]

    # changing

    def apply(self, change: JournalChange, *, forward: bool = True) -> None:
        """Make a change, or take it back.

        Raises
        ------
        StoreError
            If it is damaged or does not fit what holds.
        """
        value = change.new if forward else change.old
        before = change.old if forward else change.new
        if change.ids is None:
            self._put_document(change.key, value, before)
            return
        ids = unpack_ids(change.ids, self.n_items)
        if not (isinstance(value, int) and isinstance(before, int)):
            raise _unfit(change.key)
        if is_mask(change.key):
            self._flip(change.key, ids, bool(before))
        elif change.key in COLUMNS:
            column = self._columns.get(change.key)
            if column is None:
                column = self._columns[change.key] = np.zeros(self.n_items, np.int32)
            if not (column[ids] == before).all():
                raise _unfit(change.key)
            column[ids] = value
        else:
            raise _unfit(change.key)

    def _flip(self, key: str, ids: NDArray[np.int64], before: bool) -> None:
        if not (self.has(key, ids) == before).all():
            raise _unfit(key)
        bits = self._masks.get(key)
        if bits is None:
            bits = self._masks[key] = np.zeros(-(-self.n_items // 8), np.uint8)
        # at: several ids may share a byte.
        np.bitwise_xor.at(bits, ids >> 3, (128 >> (ids & 7)).astype(np.uint8))

    def _put_document(self, key: str, value: Value, before: Value) -> None:
        if self.documents.get(key) != before or isinstance(value, int):
            raise _unfit(key)
        if value is None:
            del self.documents[key]
        else:
            self.documents[key] = value

    # snapshots

    def to_values(self) -> dict[str, Value]:
        """Return everything as rows of a snapshot."""
        values: dict[str, Value] = {
            f"document:{k}": v for k, v in self.documents.items()
        }
        for key in self._masks:
            values[key] = pack_ids(np.flatnonzero(self.mask(key)))
        for key, column in self._columns.items():
            ids = np.flatnonzero(column)
            values[f"{key}:ids"] = pack_ids(ids)
            content = column[ids].astype("<i4").tobytes()
            values[f"{key}:texts"] = pa.compress(content, codec="zstd", asbytes=True)
        return values

    @classmethod
    def from_values(cls, values: Mapping[str, Value], n_items: int) -> State:
        """Return the state of a snapshot; items that came later have nothing.

        Raises
        ------
        StoreError
            If it is damaged.
        """
        state = cls(n_items)
        for key, value in values.items():
            if key.startswith("document:") and isinstance(value, str | bytes):
                state.documents[key.removeprefix("document:")] = value
            elif is_mask(key) and isinstance(value, bytes):
                state._masks[key] = packed_mask(unpack_ids(value, n_items), n_items)
            elif key.endswith(":ids") and isinstance(value, bytes):
                column = key.removesuffix(":ids")
                texts = values.get(f"{column}:texts")
                if column not in COLUMNS or not isinstance(texts, bytes):
                    raise _unfit(key)
                ids = unpack_ids(value, n_items)
                state._columns[column] = np.zeros(n_items, np.int32)
                state._columns[column][ids] = _numbers(texts, ids.size, column)
            elif not key.endswith(":texts"):
                raise _unfit(key)
        return state


def _numbers(packed: bytes, count: int, key: str) -> NDArray[np.int32]:
    if not count:
        return np.zeros(0, np.int32)
    try:
        plain = pa.decompress(
            packed, decompressed_size=4 * count, codec="zstd", asbytes=True
        )
        return np.frombuffer(plain, "<i4", count)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unfit(key) from error


def _unfit(key: str) -> StoreError:
    return StoreError(
        f"The log of decisions does not fit together at {key!r:.80}. Restore "
        "state.sqlite from a backup; images and arrays are not touched."
    )
