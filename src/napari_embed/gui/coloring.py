"""Columns of the items table to colours: classes with a palette, or numbers."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.state import ColumnInfo, LegendEntry

__all__ = ["Coloring", "category_palette", "color_column", "column_info"]

MOST_CLASSES_OF_NUMBERS = 64
# Okabe and Ito's eight colours for the colour-blind, black replaced by a light grey
# that can be seen on a dark canvas; ordered so that neighbours differ most.
_OKABE_ITO = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
    "#BBBBBB",
)  # fmt: skip
# Ten of even lightness that stay apart on dark and light canvases.
_TEN = (
    "#4E9BE6", "#F2933B", "#4FB86A", "#E5585C", "#A583E0", "#B98365", "#EF83C6",
    "#9FB0BD", "#C9C93B", "#3FC8D4",
)  # fmt: skip


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

    def legend(self, hidden: frozenset[int] = frozenset()) -> tuple[LegendEntry, ...]:
        """Return one entry per class, in order of code."""
        return tuple(
            LegendEntry(
                code=code,
                name=name,
                count=count,
                color=tuple(float(c) for c in self.palette[code]),  # type: ignore[arg-type]
                visible=code not in hidden,
            )
            for code, (name, count) in enumerate(
                zip(self.names, self.counts, strict=True)
            )
        )


def _rgba(text: str) -> tuple[float, float, float, float]:
    r, g, b = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return (r, g, b, 1.0)


def category_palette(m: int) -> NDArray[np.float32]:
    """Return (m, 4) RGBA: safe for the colour-blind up to 8, spread hues beyond 10."""
    if m <= len(_OKABE_ITO):
        colors = [_rgba(c) for c in _OKABE_ITO[:m]]
    elif m <= len(_TEN):
        colors = [_rgba(c) for c in _TEN[:m]]
    else:
        golden = 0.61803398875
        colors = []
        for i in range(m):
            lightness = (0.62, 0.48, 0.74)[i % 3]
            r, g, b = colorsys.hls_to_rgb((i * golden) % 1.0, lightness, 0.62)
            colors.append((r, g, b, 1.0))
    return np.asarray(colors, dtype=np.float32).reshape(m, 4)


def column_info(name: str, dtype_text: str) -> ColumnInfo | None:
    """Return what a column offers from its Arrow type, or None if it cannot colour."""
    text = dtype_text.lower()
    if text.startswith(("dictionary", "string", "large_string", "bool")):
        return ColumnInfo(name, "category")
    if text.startswith(("int", "uint", "float", "double", "halffloat", "decimal")):
        return ColumnInfo(name, "number")
    return None


def _classes(values: NDArray[Any]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if values.dtype.kind in "OU":
        missing = np.array([v is None or v != v for v in values], dtype=bool)
        text = np.where(missing, "", values).astype(str)
    else:
        missing = np.zeros(len(values), dtype=bool)
        text = values.astype(str)
    names, codes = np.unique(text, return_inverse=True)
    codes = codes.astype(np.int32)
    codes[missing] = -1
    used = np.unique(codes[codes >= 0])
    table = np.full(len(names) + 1, -1, dtype=np.int32)
    table[used] = np.arange(len(used), dtype=np.int32)
    return table[codes], tuple(str(names[i]) for i in used)


def color_column(values: NDArray[Any]) -> Coloring:
    """Return the colouring of one column of n values.

    Text, booleans and integers with at most 64 different values become classes,
    everything else a range of numbers.
    """
    values = np.asarray(values)
    empty_f, empty_i = np.zeros(0, np.float32), np.zeros(0, np.int32)
    as_classes = values.dtype.kind in "OUb" or (
        values.dtype.kind in "iu" and len(np.unique(values)) <= MOST_CLASSES_OF_NUMBERS
    )
    if as_classes:
        numeric = values.dtype.kind in "iu"
        if numeric:
            unique, codes = np.unique(values, return_inverse=True)
            names = tuple(str(v) for v in unique)
            codes = codes.astype(np.int32)
        else:
            codes, names = _classes(values)
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        return Coloring(
            "category", codes, category_palette(len(names)), names,
            tuple(int(c) for c in counts), empty_f, (0.0, 1.0),
        )  # fmt: skip
    numbers = values.astype(np.float32)
    finite = numbers[np.isfinite(numbers)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if limits[0] == limits[1]:
        limits = (limits[0], limits[0] + 1.0)
    return Coloring(
        "number", empty_i, np.zeros((0, 4), np.float32), (), (), numbers, limits
    )
