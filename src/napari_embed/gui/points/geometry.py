"""Which projected points lie in a box, in a lasso, under the cursor.

Everything works on the (n, 3) positions and the 4x4 matrix from positions to canvas
pixels, in blocks of float64 that stay in the processor's cache. No graphics card is
asked, so the same code answers with and without a display.

The lasso is exact: pixels the outline does not touch are wholly inside or outside
and are looked up in a raster; points in pixels that the outline touches are tested
against the edges themselves (even-odd rule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = [
    "Polygon",
    "in_box",
    "in_polygon",
    "nearest",
    "project",
    "row_bounds",
]

FloatArray = npt.NDArray[np.float64]
BoolMask = npt.NDArray[np.bool_]

_BLOCK = 32_768
_MARGIN = 1e-6  # pixels by which the outline is thickened, far above rounding


def row_bounds(positions: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (2, d) smallest and largest value per column; NaN where one is NaN.

    Reduces long rows rather than columns of three, which numpy does ten times
    faster.
    """
    n, d = positions.shape
    if n == 0:
        return np.full((2, d), np.nan, dtype=positions.dtype)
    if not positions.flags.c_contiguous:
        return np.stack([positions.min(axis=0), positions.max(axis=0)])
    width = 256
    n_long = n // width * width
    long_rows = positions[:n_long].reshape(-1, width * d)
    rest = positions[n_long:]
    low, high = [], []
    if n_long:
        low.append(long_rows.min(axis=0).reshape(width, d))
        high.append(long_rows.max(axis=0).reshape(width, d))
    if len(rest):
        low.append(rest)
        high.append(rest)
    return np.stack([np.concatenate(low).min(axis=0), np.concatenate(high).max(axis=0)])


def project(
    positions: npt.NDArray[np.floating], matrix: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Map positions to canvas pixels.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
    matrix : ndarray of float64, shape (4, 4)
        Row-vector convention: ``[x, y, z, 1] @ matrix`` gives canvas x, y, depth and
        w. Smaller depth is nearer.

    Returns
    -------
    x, y, depth : ndarray of float64, shape (n,)
        NaN where a point lies behind the camera.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        out = positions.astype(np.float64) @ matrix[:3] + matrix[3]
        if not _is_affine(matrix):
            w = out[:, 3:]
            out[:, :3] /= np.where(w > 0, w, np.nan)
    return out[:, 0], out[:, 1], out[:, 2]


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK):
        yield slice(start, min(start + _BLOCK, n))


def _is_affine(matrix: FloatArray) -> bool:
    return bool((matrix[:3, 3] == 0).all() and matrix[3, 3] == 1)


def _apply(
    positions: npt.NDArray[np.floating],
    matrix: FloatArray,
    test: Callable[[FloatArray, FloatArray], BoolMask],
) -> BoolMask:
    """Run ``test(x, y)`` on the canvas coordinates of all points, block by block."""
    inside = np.empty(len(positions), dtype=bool)
    affine = _is_affine(matrix)
    columns = [0, 1] if affine else [0, 1, 3]
    linear = np.ascontiguousarray(matrix[:3, columns].T)
    shift = matrix[3, columns][:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(len(positions)):
            # Long rows instead of columns of three: numpy is several times faster.
            out = linear @ np.ascontiguousarray(positions[block].T, dtype=np.float64)
            out += shift
            if not affine:
                out[:2] /= np.where(out[2] > 0, out[2], np.nan)
            inside[block] = test(out[0], out[1])
    return inside


def in_box(
    positions: npt.NDArray[np.floating],
    matrix: FloatArray,
    corner: tuple[float, float],
    opposite: tuple[float, float],
) -> BoolMask:
    """Return which points fall into a rectangle on the canvas, borders included.

    NaN positions are never inside.
    """
    (x0, x1), (y0, y1) = (
        sorted((float(a), float(b))) for a, b in zip(corner, opposite, strict=True)
    )
    return _apply(
        positions,
        matrix,
        lambda x, y: (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1),
    )


def in_polygon(
    positions: npt.NDArray[np.floating], matrix: FloatArray, vertices: npt.ArrayLike
) -> BoolMask:
    """Return which points fall into a polygon on the canvas (even-odd rule).

    NaN positions are never inside; fewer than three vertices hold nothing.
    """
    outline = np.asarray(vertices, dtype=np.float64)
    if len(outline) < 3:
        return np.zeros(len(positions), dtype=bool)
    return _apply(positions, matrix, Polygon(outline).contains)


class Polygon:
    """A closed outline on the canvas that answers for many points at once.

    Parameters
    ----------
    vertices : ndarray of float64, shape (m, 2)
        Canvas x, y in pixels; the last vertex joins the first. The outline may
        cross itself (even-odd rule).
    """

    def __init__(self, vertices: FloatArray) -> None:
        start = np.asarray(vertices, dtype=np.float64)
        extent = float(np.ptp(start, axis=0).max())
        # Coarser cells for outlines far larger than a screen. A power of two changes
        # no digit, so the answer stays exact.
        self._cell = 2.0 ** max(0, int(np.ceil(np.log2(max(extent, 1.0)))) - 11)
        start = start / self._cell
        end = np.roll(start, -1, axis=0)
        self._low = np.floor(start.min(axis=0)) - 1
        width, height = (np.ceil(start.max(axis=0)) + 1 - self._low).astype(int)
        self._shape = (height, width)
        self._x0, self._y0 = start.T
        self._x1, self._y1 = end.T
        self._index_rows()
        self._raster = self._fill()
        touched = self._touched()
        self._raster[touched] = 2

    def _index_rows(self) -> None:
        """List, per pixel row, the edges that pass through it."""
        low = np.minimum(self._y0, self._y1) - self._low[1] - _MARGIN
        high = np.maximum(self._y0, self._y1) - self._low[1] + _MARGIN
        first = np.floor(low).astype(int)
        count = np.floor(high).astype(int) - first + 1
        edge = np.repeat(np.arange(len(first)), count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        row = first[edge] + within
        order = np.argsort(row, kind="stable")
        self._row_edges = edge[order]
        self._row_start = np.searchsorted(row[order], np.arange(self._shape[0] + 1))
        self._pair_row = row[order]

    def _x_at(self, edge: npt.NDArray[np.intp], y: FloatArray) -> FloatArray:
        """Where an edge's line crosses a height (edges that do cross it)."""
        x0, y0 = self._x0[edge], self._y0[edge]
        return (self._x1[edge] - x0) * (y - y0) / (self._y1[edge] - y0) + x0

    def _fill(self) -> npt.NDArray[np.uint8]:
        """Even-odd fill at pixel centres: 1 inside, 0 outside."""
        y = self._pair_row + 0.5 + self._low[1]
        edge = self._row_edges
        crosses = (self._y0[edge] > y) != (self._y1[edge] > y)
        edge, y, row = edge[crosses], y[crosses], self._pair_row[crosses]
        # A pixel centre lies right of the crossing from this column on.
        column = np.ceil(self._x_at(edge, y) - self._low[0] - 0.5).astype(int)
        flips = np.zeros((self._shape[0], self._shape[1] + 1), dtype=np.uint8)
        np.add.at(flips, (row, np.clip(column, 0, self._shape[1])), 1)
        return np.cumsum(flips[:, :-1], axis=1, dtype=np.uint8) & 1

    def _touched(self) -> BoolMask:
        """Pixels that the outline passes through."""
        edge, row = self._row_edges, self._pair_row
        top = row + self._low[1]
        x0, x1 = self._x0[edge], self._x1[edge]
        y0, y1 = self._y0[edge], self._y1[edge]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(y1 != y0, 1 / (y1 - y0), 0.0)
        flat = y1 == y0
        t_in = np.where(flat, 0.0, np.clip((top - _MARGIN - y0) * slope, 0, 1))
        t_out = np.where(flat, 1.0, np.clip((top + 1 + _MARGIN - y0) * slope, 0, 1))
        x_in, x_out = x0 + (x1 - x0) * t_in, x0 + (x1 - x0) * t_out
        left = np.floor(np.minimum(x_in, x_out) - self._low[0] - _MARGIN).astype(int)
        right = np.floor(np.maximum(x_in, x_out) - self._low[0] + _MARGIN).astype(int)
        marks = np.zeros((self._shape[0], self._shape[1] + 1), dtype=np.int32)
        np.add.at(marks, (row, left), 1)
        np.add.at(marks, (row, right + 1), -1)
        return np.cumsum(marks[:, :-1], axis=1) > 0

    def contains(self, x: FloatArray, y: FloatArray) -> BoolMask:
        """Return which points are inside; NaN is outside."""
        x, y = x / self._cell, y / self._cell
        height, width = self._shape
        dx, dy = x - self._low[0], y - self._low[1]
        inside = (dx >= 0) & (dx < width) & (dy >= 0) & (dy < height)
        near = np.flatnonzero(inside)
        column, row = dx[near].astype(np.intp), dy[near].astype(np.intp)
        kind = self._raster[row, column]
        inside[near] = kind == 1
        edge_points = near[kind == 2]
        if len(edge_points):
            inside[edge_points] = self._exact(
                x[edge_points], y[edge_points], row[kind == 2]
            )
        return inside

    def _exact(
        self, x: FloatArray, y: FloatArray, row: npt.NDArray[np.intp]
    ) -> BoolMask:
        """Even-odd test against the edges that pass through each point's row."""
        first = self._row_start[row]
        count = self._row_start[row + 1] - first
        point = np.repeat(np.arange(len(x)), count)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        edge = self._row_edges[np.repeat(first, count) + offset]
        crosses = (self._y0[edge] > y[point]) != (self._y1[edge] > y[point])
        edge, point = edge[crosses], point[crosses]
        right = x[point] < self._x_at(edge, y[point])
        return np.bincount(point[right], minlength=len(x)) % 2 == 1


def nearest(
    positions: npt.NDArray[np.floating],
    matrix: FloatArray,
    cursor: tuple[float, float],
    *,
    pickable: BoolMask | None = None,
    drawn_radius: float = 1.0,
    reach: float = 5.0,
) -> int:
    """Return the id of the point under the cursor, or -1.

    Among points whose drawn disc covers the cursor the front-most wins; if none
    does, the nearest on the canvas within ``reach`` pixels.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
    matrix : ndarray of float64, shape (4, 4)
        See :func:`project`.
    cursor : (x, y)
        Canvas pixels.
    pickable : ndarray of bool, shape (n,), optional
        Points that may be picked; hidden ones are False.
    drawn_radius, reach : float
        Pixels.
    """
    reach = max(reach, drawn_radius)
    near = in_box(
        positions,
        matrix,
        (cursor[0] - reach, cursor[1] - reach),
        (cursor[0] + reach, cursor[1] + reach),
    )
    if pickable is not None:
        near &= pickable
    ids = np.flatnonzero(near)
    x, y, depth = project(positions[ids], matrix)
    distance = np.hypot(x - cursor[0], y - cursor[1])
    ids, distance, depth = (v[distance <= reach] for v in (ids, distance, depth))
    if not len(ids):
        return -1
    covering = np.flatnonzero(distance <= drawn_radius)
    if len(covering):
        front = covering[np.lexsort((distance[covering], depth[covering]))[0]]
        return int(ids[front])
    return int(ids[np.lexsort((depth, distance))[0]])
