"""Which points are seen: of those in one cell of the canvas, the nearest.

Computed from positions and matrix like everything in
:mod:`napari_embed.gui.points.geometry`, so that it needs no graphics card.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .geometry import project

__all__ = ["front_ids", "front_mask"]

BoolMask = npt.NDArray[np.bool_]

_BLOCK = 262_144
_MOST_CELLS = 1 << 24


def front_ids(
    positions: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    *,
    cell: float = 2.0,
    pickable: BoolMask | None = None,
    inside: BoolMask | None = None,
) -> npt.NDArray[np.intp]:
    """Return the ids of the points nobody hides, in ascending order.

    The canvas is cut into square cells from its upper left corner; of all pickable
    points that project into one cell only the nearest counts, and of equally near
    ones that with the smallest id.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Points that are not finite, or behind the camera, hide nothing.
    matrix : ndarray of float64, shape (4, 4)
        See :func:`napari_embed.gui.points.geometry.project`.
    cell : float
        Side of a cell in pixels; about the diameter a point is drawn with.
    pickable : ndarray of bool, shape (n,), optional
        Points that are drawn; the others hide nothing.
    inside : ndarray of bool, shape (n,), optional
        Points asked for. All pickable points hide others, also those outside.
    """
    ids, cells, depth, n_cells = _project_to_cells(
        positions, matrix, float(cell), pickable, inside
    )
    nearest = np.full(n_cells, np.inf)
    np.minimum.at(nearest, cells, depth)
    winners = np.flatnonzero(depth == nearest[cells])
    owner = np.full(n_cells, -1, dtype=np.intp)
    # Of several writes to one place the last one stays: the smallest id.
    owner[cells[winners[::-1]]] = ids[winners[::-1]]
    front = np.sort(owner[owner >= 0])
    return front if inside is None else front[inside[front]]


def front_mask(
    positions: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    *,
    cell: float = 2.0,
    pickable: BoolMask | None = None,
    inside: BoolMask | None = None,
) -> BoolMask:
    """Return :func:`front_ids` as a mask, bool (n,)."""
    mask = np.zeros(len(positions), dtype=bool)
    mask[front_ids(positions, matrix, cell=cell, pickable=pickable, inside=inside)] = (
        True
    )
    return mask


def _project_to_cells(
    positions: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    cell: float,
    pickable: BoolMask | None,
    inside: BoolMask | None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64], int]:
    """Return id, cell number and depth of each point on the canvas, and all cells.

    Only the part of the canvas that holds the points asked for is looked at.
    """
    asked = pickable if inside is None else inside
    low, high = _extent(positions, matrix, asked)
    if not np.isfinite(low).all():
        none = np.zeros(0, dtype=np.intp)
        return none, none, np.zeros(0), 1
    first = np.floor(low / cell)
    n_columns, n_rows = (np.floor(high / cell) - first + 1).astype(np.int64)
    if n_columns * n_rows > _MOST_CELLS:
        return _numbered(positions, matrix, cell, pickable)
    parts = []
    for start in range(0, len(positions), _BLOCK):
        block = slice(start, start + _BLOCK)
        x, y, depth = project(positions[block], matrix)
        with np.errstate(invalid="ignore"):
            column = np.floor(x / cell) - first[0]
            row = np.floor(y / cell) - first[1]
            kept = (column >= 0) & (column < n_columns) & (row >= 0) & (row < n_rows)
            kept &= np.isfinite(depth)
        if pickable is not None:
            kept &= pickable[block]
        at = np.flatnonzero(kept)
        number = row[at].astype(np.intp) * n_columns + column[at].astype(np.intp)
        parts.append((at + start, number, depth[at]))
    ids, cells, depth = (np.concatenate(p) for p in zip(*parts, strict=True))
    return ids, cells, depth, int(n_columns * n_rows)


def _extent(
    positions: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    asked: BoolMask | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the smallest and largest canvas x and y of the points asked for."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for start in range(0, len(positions), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = positions[block]
        if asked is not None:
            part = part[asked[block]]
        x, y, depth = project(part, matrix)
        finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(depth)
        if finite.any():
            at = np.stack([x[finite], y[finite]])
            low = np.minimum(low, at.min(axis=1))
            high = np.maximum(high, at.max(axis=1))
    return low, high


def _numbered(
    positions: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    cell: float,
    pickable: BoolMask | None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64], int]:
    """Return the same for maps far larger than a screen, by sorting the cells."""
    x, y, depth = project(positions, matrix)
    kept = np.isfinite(x) & np.isfinite(y) & np.isfinite(depth)
    if pickable is not None:
        kept &= pickable
    ids = np.flatnonzero(kept)
    at = np.stack([np.floor(x[ids] / cell), np.floor(y[ids] / cell)], axis=1)
    cells, number = np.unique(at, axis=0, return_inverse=True)
    return ids, number.reshape(-1), depth[ids], max(len(cells), 1)
