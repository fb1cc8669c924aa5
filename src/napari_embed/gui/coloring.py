"""Columns of the items table to colours: classes with a palette, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.legend import category_palette
from napari_embed.gui.state import ColumnInfo

__all__ = [
    "Coloring",
    "categories",
    "column_info",
    "numbers",
    "read_coloring",
]

MOST_CLASSES_OF_NUMBERS = 64


@dataclass(frozen=True)
class Coloring:
    """How a column colours n points.

    Attributes
    ----------
    kind
        "category" or "number".
    codes
        (n,) int32 class per point, -1 where missing; empty for numbers.
    palette
        (m, 4) float32 RGBA in 0..1; empty for numbers.
    names, counts
        One per class.
    values
        (n,) float32; empty for classes.
    limits
        Smallest and largest finite value.
    """

    kind: str
    codes: NDArray[np.int32]
    palette: NDArray[np.float32]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    values: NDArray[np.float32]
    limits: tuple[float, float]


def column_info(name: str, dtype_text: str) -> ColumnInfo | None:
    """Return what a column offers from its Arrow type, or None if it cannot colour."""
    text = dtype_text.lower()
    if text.startswith(("dictionary", "string", "large_string", "bool")):
        return ColumnInfo(name, "category")
    if text.startswith(("int", "uint", "float", "double", "halffloat", "decimal")):
        return ColumnInfo(name, "number")
    return None


def read_coloring(project: Any, column: ColumnInfo) -> Coloring:
    """Return the colouring of a column of an open project.

    Text and booleans become classes, and whole numbers with at most 64 different
    values; everything else is a range of numbers.
    """
    if column.kind == "category":
        codes, names = project.categories(column.name)
        return categories(codes, names)
    values = np.asarray(project.column_values(column.name))
    if values.dtype.kind in "iu":
        unique, codes = np.unique(values, return_inverse=True)
        if len(unique) <= MOST_CLASSES_OF_NUMBERS:
            return categories(codes, [str(v) for v in unique])
    return numbers(values)


def categories(codes: NDArray[Any], names: Sequence[str]) -> Coloring:
    """Return the colouring of classes: codes (n,), -1 missing, and their names."""
    codes = np.asarray(codes, dtype=np.int32)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return Coloring(
        "category",
        codes,
        category_palette(len(names)),
        tuple(names),
        tuple(int(c) for c in counts),
        np.zeros(0, np.float32),
        (0.0, 1.0),
    )


def numbers(values: NDArray[Any]) -> Coloring:
    """Return the colouring of numbers (n,)."""
    values = np.asarray(values, dtype=np.float32)
    finite = values[np.isfinite(values)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if limits[0] == limits[1]:
        limits = (limits[0], limits[0] + 1.0)
    none = np.zeros(0, np.int32)
    palette = np.zeros((0, 4), np.float32)
    return Coloring("number", none, palette, (), (), values, limits)
