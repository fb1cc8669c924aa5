"""The columns a query can name: of the items, of the decisions, of the map.

A column is read when it is first named and kept, up to some memory, as Arrow data.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["Column", "ColumnKind", "Columns", "tag_lists"]

ColumnKind = Literal["text", "number", "bool", "list", "time", "other"]
_AXES = "xyz"
_DECIDED: dict[str, ColumnKind] = {
    "tags": "list",
    "excluded": "bool",
    "corrected_label": "text",
    "final_label": "text",
    "note": "text",
}
_MOST_CACHED_BYTES = 512 << 20


@dataclass(frozen=True)
class Column:
    """A column: its name in a query, and what it holds."""

    name: str
    kind: ColumnKind


class Columns:
    """Columns of one project as Arrow data; safe to use from several threads.

    Parameters
    ----------
    project
        The project.
    decisions
        What people decided; without it nothing is tagged, excluded or corrected.
    """

    def __init__(self, project: ProjectReader, decisions: Decisions | None) -> None:
        self._project, self._decisions = project, decisions
        self._projection: str | None = None
        self._axes = ""
        self._mutex = threading.RLock()
        self._kept: OrderedDict[tuple[str, object], Any] = OrderedDict()
        self._list()

    def use_projection(self, name: str | None) -> None:
        """Let x, y and z be those of a map, or be no columns."""
        axes = ""
        if name is not None:
            axes = _AXES[: self._project.read_projection(name).positions.shape[1]]
        with self._mutex:
            self._projection, self._axes = name, axes
            self._list()

    def _list(self) -> None:
        """Name all columns; one of the items whose name is taken is ``source.NAME``."""
        schema = self._project.items(rows=slice(0, 0)).schema
        found: dict[str, tuple[ColumnKind, Callable[[], Any]]] = {}

        def add(name: str, kind: ColumnKind, read: Callable[[], Any]) -> None:
            free = name if name.lower() not in taken else f"source.{name}"
            number = 2
            while free.lower() in taken:
                free, number = f"source.{name}.{number}", number + 1
            taken.add(free.lower())
            found[free] = (kind, read)

        taken: set[str] = set()
        first = ("id", "source", "label")
        for name in first:
            add(name, _kind(schema.field(name).type), self._item_reader(name))
        for name, kind in _DECIDED.items():
            add(name, kind, self._decided_reader(name))
        for axis in self._axes:
            add(axis, "number", self._axis_reader(axis))
        for name in schema.names:
            if name not in first:
                add(name, _kind(schema.field(name).type), self._item_reader(name))
        self._found = found

    def all(self) -> list[Column]:
        """Return all columns: of items, decisions, map, then further ones of items."""
        with self._mutex:
            return [Column(name, kind) for name, (kind, _) in self._found.items()]

    def kind(self, name: str) -> ColumnKind:
        """Return what a column holds.

        Raises
        ------
        InputError
            If there is no such column.
        """
        with self._mutex:
            if name not in self._found:
                known = ", ".join(list(self._found)[:30])
                raise InputError(f'There is no column "{name:.100}". Columns: {known}.')
            return self._found[name][0]

    def table(self, names: Sequence[str]) -> pa.Table:
        """Return columns as a table with one row per item."""
        with self._mutex:
            return pa.table({name: self._read(name) for name in names})

    def tagged(self, name: str) -> NDArray[np.bool_]:
        """Return which items have a tag of that name, (n,)."""
        decisions = self._decisions
        if decisions is None or all(tag.name != name for tag in decisions.tags()):
            return np.zeros(self._project.n_items, bool)
        return decisions.tagged(name).copy()

    def _read(self, name: str) -> Any:
        decided = name in _DECIDED and self._decisions is not None
        version = self._decisions.version if decided and self._decisions else 0
        state = (version, self._projection if name in _AXES else None)
        key = (name, state)
        if key not in self._kept:
            for old in [k for k in self._kept if k[0] == name]:
                del self._kept[old]
            self._kept[key] = self._found[name][1]()
            total = sum(column.nbytes for column in self._kept.values())
            while total > _MOST_CACHED_BYTES and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(key)
        return self._kept[key]

    def _item_reader(self, name: str) -> Callable[[], Any]:
        return lambda: self._project.items([name])[name]

    def _axis_reader(self, axis: str) -> Callable[[], Any]:
        def read() -> Any:
            assert self._projection is not None
            positions = self._project.read_projection(self._projection).positions
            values = np.ascontiguousarray(positions[:, _AXES.index(axis)])
            return pa.array(values, from_pandas=True)

        return read

    def _decided_reader(self, name: str) -> Callable[[], Any]:
        return lambda: self._decided(name)

    def _decided(self, name: str) -> Any:
        n, decisions = self._project.n_items, self._decisions
        if name == "tags":
            tags = [] if decisions is None else decisions.tags()
            return tag_lists(
                [(t.name, np.flatnonzero(decisions.tagged(t.name))) for t in tags
                 if decisions], n
            )  # fmt: skip
        if name == "excluded":
            return pa.array(np.zeros(n, bool) if decisions is None else
                            decisions.excluded())  # fmt: skip
        if name == "final_label":
            codes, names = final_labels(self._project, decisions)
        elif decisions is None:
            codes, names = np.full(n, -1, np.int32), []
        else:
            codes, names = (
                decisions.notes() if name == "note" else decisions.corrected()
            )
        return _dictionary(codes, names)


def final_labels(
    project: ProjectReader, decisions: Decisions | None
) -> tuple[NDArray[np.int32], list[str]]:
    """Return labels with corrections: codes (n,) int32, -1 for none, and names."""
    codes, names = project.categories("label")
    if decisions is None:
        return codes, names
    corrected, new_names = decisions.corrected()
    held = corrected >= 0
    if not held.any():
        return codes, names
    merged = names + [name for name in new_names if name not in names]
    place = np.array([merged.index(name) for name in new_names], np.int32)
    codes = codes.copy()
    codes[held] = place[corrected[held]]
    return codes, merged


def _dictionary(codes: NDArray[np.int32], names: list[str]) -> Any:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=codes < 0), pa.array(names, pa.string())
    )


def tag_lists(members: Sequence[tuple[str, NDArray[np.int64]]], n: int) -> Any:
    """Return the names of the tags of n rows as a column of lists, empty for none.

    ``members`` are the rows of each tag.
    """
    none = np.zeros(0, np.int64)
    rows = np.concatenate([none, *(found for _, found in members)])
    sizes = [found.size for _, found in members]
    codes = np.repeat(np.arange(len(members), dtype=np.int32), sizes)
    order = np.argsort(rows, kind="stable")
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=n), out=offsets[1:])
    names = pa.array([name for name, _ in members], pa.string())
    values = names.take(pa.array(codes[order]))
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _kind(kind: Any) -> ColumnKind:
    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_temporal(kind):
        return "time"
    if types.is_list(kind) or types.is_large_list(kind):
        return "list"
    return "other"
