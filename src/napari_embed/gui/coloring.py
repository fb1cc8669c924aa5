"""Columns of the items table to colours: classes with a palette, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
PERCENTILES = (1.0, 99.0)
"""Between these lie the colours of numbers at first: a few outliers do not count."""
BINS = 64


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
        Values in the first and the last colour at first: the 1st and the 99th
        percentile.
    extent
        Smallest and largest finite value.
    bins
        (n,) uint8: in which of 64 bins of equal width between the two a value lies,
        64 where it is not finite; empty for classes.
    """

    kind: str
    codes: NDArray[np.int32]
    palette: NDArray[np.float32]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    values: NDArray[np.float32]
    limits: tuple[float, float]
    extent: tuple[float, float] = (0.0, 1.0)
    bins: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))

    @property
    def n_missing(self) -> int:
        """Items without a class or with a value that is not finite."""
        if self.kind == "category":
            return len(self.codes) - sum(self.counts)
        return int(self.tally()[BINS])

    def tally(self, mask: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return (65,) how many numbers are in each bin, the last for those without.

        Of the items in ``mask`` (n,), or of all.
        """
        bins = self.bins if mask is None else self.bins[mask]
        return np.bincount(bins, minlength=BINS + 1).astype(np.int64)

    def missing(self) -> NDArray[np.bool_]:
        """Return (n,) which items have no class, or no finite value."""
        if self.kind == "category":
            return self.codes < 0
        return ~np.isfinite(self.values)


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
    field_type = project.items(columns=[column.name], rows=slice(0, 0)).schema.types[0]
    if "int" in str(field_type):
        # With empty cells whole numbers arrive as floats with NaN.
        empty = ~np.isfinite(values)
        unique = np.unique(values[~empty])
        if len(unique) <= MOST_CLASSES_OF_NUMBERS:
            codes = np.where(empty, -1, np.searchsorted(unique, values))
            return categories(codes, [str(int(v)) for v in unique])
    return numbers(values)


def categories(codes: NDArray[Any], names: Sequence[str]) -> Coloring:
    """Return the colouring of classes: codes (n,), -1 missing, and their names.

    An empty cell of a table may arrive as a class without a name; its items count as
    missing.
    """
    codes = np.asarray(codes, dtype=np.int32)
    names = list(names)
    empty = [i for i, name in enumerate(names) if not name.strip()]
    if empty:
        kept = [i for i in range(len(names)) if i not in empty]
        new = np.full(len(names) + 1, -1, np.int32)
        new[kept] = np.arange(len(kept), dtype=np.int32)
        codes, names = new[codes], [names[i] for i in kept]
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
    extent = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if extent[0] == extent[1]:
        extent = (extent[0], extent[0] + 1.0)
    limits = extent
    if finite.size:
        low, high = (float(v) for v in np.percentile(finite, PERCENTILES))
        limits = (low, high) if low < high else extent
    none = np.zeros(0, np.int32)
    palette = np.zeros((0, 4), np.float32)
    bins = _bins(values, extent)
    return Coloring("number", none, palette, (), (), values, limits, extent, bins)


def _bins(
    values: NDArray[np.float32], extent: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return the bin of each value; its own for values that are not finite."""
    low, high = extent
    with np.errstate(invalid="ignore"):
        at = (values.astype(np.float64) - low) * (BINS / (high - low))
    at = np.where(np.isfinite(values), np.clip(at, 0, BINS - 1), BINS)
    return at.astype(np.uint8)
