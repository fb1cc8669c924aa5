"""What is drawn around the pictures of a page, and the matrix that pins the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.link.sheet_layer import SheetDecoration

__all__ = ["frame_mesh", "pin_matrix"]


def _quads(rectangles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (6 k, 3) corners of two triangles per (top, left, bottom, right)."""
    top, left, bottom, right = rectangles.T
    x = np.stack([left, right, right, left, right, left], axis=1)
    y = np.stack([top, top, bottom, top, bottom, bottom], axis=1)
    z = np.zeros_like(x)
    return np.stack([x, y, z], axis=2).reshape(-1, 3).astype(np.float32)


def frame_mesh(
    decoration: SheetDecoration,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vertices (6 k, 3) and colours (6 k, 4) of everything that is no picture.

    The panel fills gaps and empty cells, a frame goes around every picture.
    """
    g = decoration.geometry
    height, width = g.shape
    down, right = g.pitch
    rectangles: list[tuple[float, float, float, float]] = []
    colors: list[tuple[float, float, float]] = []

    def add(box: tuple[float, float, float, float], color: Any) -> None:
        rectangles.append(box)
        colors.append((float(color[0]), float(color[1]), float(color[2])))

    for row in range(g.rows + 1):
        add((row * down, 0, row * down + g.gap, width), decoration.panel)
    for column in range(g.columns + 1):
        add((0, column * right, height, column * right + g.gap), decoration.panel)
    for index in range(g.count, g.rows * g.columns):
        top, left = (value - g.frame for value in g.origin(index))
        add((top, left, top + down, left + right), decoration.panel)
    for index in range(g.count):
        top, left = g.origin(index)
        bottom, end = top + g.cell_height, left + g.cell_width
        hovered = index == decoration.hovered
        color = decoration.accent if hovered else decoration.frames[index]
        wide = g.frame + (g.gap // 2 if hovered else 0)
        add((top - wide, left - wide, top, end + wide), color)
        add((bottom, left - wide, bottom + wide, end + wide), color)
        add((top, left - wide, bottom, left), color)
        add((top, end, bottom, end + wide), color)
    rgba = np.ones((len(colors), 4), dtype=np.float32)
    rgba[:, :3] = colors
    return _quads(np.asarray(rectangles, dtype=np.float64)), rgba.repeat(6, axis=0)


def pin_matrix(
    to_canvas: NDArray[np.float64], place: tuple[float, float, float], depth: float
) -> NDArray[np.float64]:
    """Return the (4, 4) row-vector matrix that puts texels at a place of the canvas.

    Parameters
    ----------
    to_canvas
        (4, 4) matrix from the scene to homogeneous canvas coordinates, row vectors.
    place
        Left, top and pixels per texel.
    depth
        Canvas depth the page is given.
    """
    left, top, scale = place
    on_canvas = np.diag([scale, scale, 1.0, 1.0])
    on_canvas[3] = (left, top, depth, 1.0)
    on_canvas[2, 2] = 0.0
    matrix: NDArray[np.float64] = on_canvas @ np.linalg.inv(to_canvas)
    # The third row is free, because the page has no depth; vispy inverts the matrix,
    # so it must not be zero. The direction of view through the page serves.
    matrix[2] = np.linalg.inv(to_canvas)[2]
    return matrix
