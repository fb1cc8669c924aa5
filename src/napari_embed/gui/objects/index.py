"""Which item is which label of which picture, and back. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ObjectIndex", "Spot", "read_index"]


@dataclass(frozen=True)
class Spot:
    """Where an object is.

    Attributes
    ----------
    field
        Key of its picture.
    label, t, plane
        Its label, time point and fullest plane.
    y, x
        Centroid in pixels of the image.
    side
        Longest side of its box in pixels of the image.
    name
        For people: well, picture, plane, label.
    """

    field: str
    label: int
    t: int
    plane: int
    y: float
    x: float
    side: float
    name: str


@dataclass(frozen=True)
class ObjectIndex:
    """Objects of a project; all arrays are (n_items,).

    Attributes
    ----------
    fields, wells
        Keys of the pictures, and their wells.
    field, label, t, plane
        Picture (its number), label, time point, fullest plane.
    y, x, side
        Centroid and longest side of the box, in pixels of the image.
    """

    fields: tuple[str, ...]
    wells: tuple[str, ...]
    field: NDArray[np.int32]
    label: NDArray[np.int64]
    t: NDArray[np.int32]
    plane: NDArray[np.int32]
    y: NDArray[np.float32]
    x: NDArray[np.float32]
    side: NDArray[np.float32]

    def rows(self, field: str, t: int = 0) -> NDArray[np.int64]:
        """Return the items of a picture and time point."""
        if field not in self.fields:
            return np.zeros(0, np.int64)
        here = self.field == self.fields.index(field)
        return np.flatnonzero(here & (self.t == t))

    def item_at(self, field: str, t: int, label: int) -> int:
        """Return the item of a label, or -1 where it is none."""
        rows = self.rows(field, t)
        found = rows[self.label[rows] == label]
        return int(found[0]) if found.size else -1

    def spot(self, item: int) -> Spot:
        """Return where an item is."""
        number = int(self.field[item])
        field, well = self.fields[number], self.wells[number]
        parts = [f"well {well}"] if well else []
        if field:
            parts.append(field.rsplit("/", 1)[-1] if not well else f"field {field}")
        if self.plane.any():
            parts.append(f"z {int(self.plane[item])}")
        if self.t.any():
            parts.append(f"t {int(self.t[item])}")
        parts.append(f"object {int(self.label[item])}")
        return Spot(
            field, int(self.label[item]), int(self.t[item]), int(self.plane[item]),
            float(self.y[item]), float(self.x[item]), float(self.side[item]),
            " \N{MIDDLE DOT} ".join(parts),
        )  # fmt: skip


def read_index(project: Any) -> ObjectIndex | None:
    """Return the index of an open project, or None where items are no objects."""
    if project.spec.kind != "objects":
        return None
    n = project.n_items
    names = project.items(rows=slice(0, 0)).column_names

    def numbers(name: str, dtype: Any) -> NDArray[Any]:
        if name not in names:
            return np.zeros(n, dtype)
        column = project.items(columns=[name])[name]
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype(dtype)

    if "field" in names:
        codes, fields = project.categories("field")
    else:
        first = project.items(columns=["source"], rows=slice(0, 1))["source"][0].as_py()
        codes, fields = np.zeros(n, np.int32), [first.split(":t", 1)[0]]
    wells = [""] * len(fields)
    if "well" in names:
        of_well, words = project.categories("well")
        _, at = np.unique(codes, return_index=True)
        wells = [words[of_well[i]] if of_well[i] >= 0 else "" for i in at]
    side = np.maximum(
        numbers("max_y", np.float32) - numbers("min_y", np.float32),
        numbers("max_x", np.float32) - numbers("min_x", np.float32),
    )
    return ObjectIndex(
        tuple(fields), tuple(wells), np.asarray(codes, np.int32),
        numbers("label_id", np.int64), numbers("t", np.int32),
        numbers("plane", np.int32), numbers("centroid_y", np.float32),
        numbers("centroid_x", np.float32), side,
    )  # fmt: skip
