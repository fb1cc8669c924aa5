"""Colours as a short table and one small index per point.

The graphics card gets the table as a texture and the index with each point's state,
so a new colour scheme for a million points is one small upload.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_embed.errors import InputError

__all__ = [
    "CLASS_SHAPES",
    "MISSING",
    "MISSING_COLOR",
    "SHAPES",
    "TABLE_SIZE",
    "Coloring",
    "by_categories",
    "by_rgba",
    "by_values",
    "uniform",
]

TABLE_SIZE = 4096
"""Rows of the colour table: 12 bits of the packed state."""

MISSING = TABLE_SIZE - 1
"""Table row of points without a category or value."""

MISSING_COLOR = (0.5, 0.5, 0.5, 1.0)

SHAPES = (
    "disc",
    "square",
    "diamond",
    "triangle_up",
    "triangle_down",
    "cross",
    "x",
    "ring",
    "star",
)
"""Marker shapes by number, named as in napari."""

CLASS_SHAPES = tuple(
    SHAPES.index(name)
    for name in (
        "disc", "square", "triangle_up", "diamond", "cross", "star",
        "triangle_down", "ring", "x",
    )
)  # fmt: skip
"""Markers that classes take in turn, the easiest to tell apart first."""

_LEVELS = 1024
_BLOCK = 32_768

RGBA = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Coloring:
    """A colour table and each point's row in it.

    Attributes
    ----------
    index : ndarray of uint16, shape (n,)
        Row of each point.
    table : ndarray of float32, shape (TABLE_SIZE, 4)
        RGBA between 0 and 1.
    shapes : ndarray of uint8, shape (TABLE_SIZE,)
        Marker shape of each row, a position in :data:`SHAPES`.
    n_rows : int
        Rows in use; others than these and ``MISSING`` mean nothing.
    by_class : bool
        Whether each row is a category, so that it can have a marker of its own.
    """

    index: npt.NDArray[np.uint16]
    table: RGBA
    shapes: npt.NDArray[np.uint8]
    n_rows: int
    by_class: bool = False

    def rgba(self) -> RGBA:
        """Return one RGBA row per point, float32 (n, 4)."""
        return self.table[self.index]

    def with_shape(self, shape: int) -> Coloring:
        """Return the same colours with one marker shape for all points."""
        shapes = np.full(TABLE_SIZE, shape, dtype=np.uint8)
        return replace(self, shapes=shapes)

    def with_class_shapes(self) -> Coloring:
        """Return the same colours with the markers of CLASS_SHAPES in turn."""
        shapes = np.resize(np.array(CLASS_SHAPES, np.uint8), TABLE_SIZE)
        shapes[MISSING] = SHAPES.index("disc")
        return replace(self, shapes=shapes)


def _table(rows: npt.ArrayLike) -> RGBA:
    rows = np.atleast_2d(np.asarray(rows, dtype=np.float32))
    if rows.ndim != 2 or rows.shape[1] not in (3, 4) or not len(rows):
        raise InputError(
            f"A palette has shape {rows.shape}, expected (m, 4): RGBA from 0 to 1."
        )
    table = np.zeros((TABLE_SIZE, 4), dtype=np.float32)
    table[:, 3] = 1
    n_rows = min(len(rows), TABLE_SIZE)
    table[:n_rows, : rows.shape[1]] = rows[:n_rows]
    return np.clip(np.nan_to_num(table), 0, 1)


def _no_shapes() -> npt.NDArray[np.uint8]:
    return np.zeros(TABLE_SIZE, dtype=np.uint8)


def uniform(n: int, color: npt.ArrayLike) -> Coloring:
    """One RGBA colour for all ``n`` points."""
    return Coloring(np.zeros(n, dtype=np.uint16), _table(color), _no_shapes(), 1)


def by_categories(
    codes: npt.ArrayLike,
    palette: npt.ArrayLike,
    *,
    missing: int = -1,
    shapes: npt.ArrayLike | None = None,
) -> Coloring:
    """Colour by category.

    Parameters
    ----------
    codes : array-like of int, shape (n,)
        Row of ``palette`` for each point. Codes beyond the palette start over.
    palette : array-like, shape (m, 4)
        RGBA between 0 and 1.
    missing : int
        Code of points without a category; these and negative codes are grey.
    shapes : array-like of int, shape (m,), optional
        Marker of each palette row, a position in :data:`SHAPES`.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iub":
        raise InputError(f"Category codes must be whole numbers, found {codes.dtype}.")
    table = _table(palette)
    n_rows = min(len(np.atleast_2d(palette)), MISSING)
    table[MISSING] = MISSING_COLOR
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    index = (codes if high < n_rows else codes % n_rows).astype(np.uint16)
    if low < 0:
        index[codes < 0] = MISSING
    if low <= missing <= high:
        index[codes == missing] = MISSING
    marks = _no_shapes()
    if shapes is not None:
        given = np.asarray(shapes, dtype=np.uint8)[:n_rows]
        marks[: len(given)] = given % len(SHAPES)
    return Coloring(index, table, marks, n_rows, by_class=True)


def by_values(
    values: npt.ArrayLike,
    colors: npt.ArrayLike,
    limits: tuple[float, float] | None = None,
) -> tuple[Coloring, tuple[float, float]]:
    """Colour by number.

    Parameters
    ----------
    values : array-like, shape (n,)
        NaN and infinite values are grey.
    colors : array-like, shape (k, 4)
        Colours from the lower to the upper limit, evenly spaced.
    limits : (low, high), optional
        Values shown in the first and last colour; the finite range by default.

    Returns
    -------
    coloring : Coloring
    limits : (low, high)
        The limits used.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise InputError(f"Values to colour by must be numbers, found {values.dtype}.")
    if limits is None:
        limits = _finite_range(values)
    low, high = float(limits[0]), float(limits[1])
    if not (np.isfinite(low) and np.isfinite(high) and high >= low):
        raise InputError(f"Colour limits are {limits}, expected low <= high.")
    index = _levels(values, low, (_LEVELS - 1) / (high - low) if high > low else 0.0)
    colors = np.atleast_2d(np.asarray(colors, dtype=np.float32))
    at = np.linspace(0, 1, _LEVELS)
    known = np.linspace(0, 1, len(colors))
    rows = np.stack([np.interp(at, known, c) for c in colors.T], axis=1)
    table = _table(rows)
    table[MISSING] = MISSING_COLOR
    return Coloring(index, table, _no_shapes(), _LEVELS), (low, high)


def _finite_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 1) if there is none."""
    low, high = (values.min(), values.max()) if values.size else (np.nan, np.nan)
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _levels(
    values: npt.NDArray[Any], low: float, scale: float
) -> npt.NDArray[np.uint16]:
    """Return each value's table row, in blocks that stay in the processor's cache."""
    index = np.empty(len(values), dtype=np.uint16)
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = values[block].astype(np.float64)
        finite = np.isfinite(part)
        part -= low
        part *= scale
        np.clip(part, 0, _LEVELS - 1, out=part)
        if finite.all():
            index[block] = part
        else:
            index[block] = np.where(finite, part, MISSING)
    return index


def by_rgba(colors: npt.ArrayLike) -> Coloring:
    """Colour each point on its own, float (n, 4).

    Exact up to :data:`TABLE_SIZE` different colours, above that rounded to 16
    levels per channel.
    """
    colors = np.clip(np.nan_to_num(np.asarray(colors, dtype=np.float32)), 0, 1)
    packed = np.ascontiguousarray((colors * 255 + 0.5).astype(np.uint8)).view(np.uint32)
    keys, first, index = np.unique(packed[:, 0], return_index=True, return_inverse=True)
    if len(keys) <= TABLE_SIZE:
        table = _table(colors[first])
        return Coloring(index.astype(np.uint16), table, _no_shapes(), len(keys))
    level = (colors[:, :3] * 15 + 0.5).astype(np.uint16)
    index = level[:, 0] << 8 | level[:, 1] << 4 | level[:, 2]
    rows = np.arange(TABLE_SIZE)
    table = np.stack([rows >> 8, rows >> 4 & 15, rows & 15, np.full_like(rows, 15)], 1)
    return Coloring(index, _table(table / 15), _no_shapes(), TABLE_SIZE)
