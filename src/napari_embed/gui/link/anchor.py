"""Hold a picture at a place of the screen: camera and rectangle to an affine.

Works on napari's public camera model alone. Coordinates of the canvas are logical
pixels, x to the right, y downwards, origin at the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ScreenPlace", "View", "read_view", "sheet_affine", "world_at"]


@dataclass(frozen=True)
class ScreenPlace:
    """Where the page stands: corner (x, y) in canvas pixels, pixels per texel."""

    left: float
    top: float
    scale: float

    def to_texel(self, x: float, y: float) -> tuple[float, float]:
        """Return (row, column) in texels of a place of the canvas."""
        return (y - self.top) / self.scale, (x - self.left) / self.scale


@dataclass(frozen=True)
class View:
    """What of a viewer decides where things are on the screen.

    Attributes
    ----------
    center
        World coordinates at the middle of the canvas, one per axis of ``displayed``.
    right, down
        World directions of the screen axes, unit length, one entry per displayed axis.
    into
        Direction of view, unit length; empty in 2D.
    zoom
        Canvas pixels per world unit.
    size
        (height, width) of the canvas (of one cell in grid mode).
    displayed
        Displayed axes in display order, among the last three.
    hidden
        The axis that is not displayed, or None in 3D.
    point
        World coordinate of the slice along ``hidden``.
    gridded
        Whether every layer has its own place on the canvas.
    """

    center: NDArray[np.float64]
    right: NDArray[np.float64]
    down: NDArray[np.float64]
    into: NDArray[np.float64]
    zoom: float
    size: tuple[float, float]
    displayed: tuple[int, ...]
    hidden: int | None
    point: float
    gridded: bool


def _camera(viewer: Any) -> Any:
    return getattr(viewer, "scene", viewer).camera


def _canvas_size(viewer: Any) -> tuple[tuple[float, float], bool]:
    """Return the size of the place of one layer, and whether the grid is on."""
    canvas = getattr(viewer, "canvas", None)
    if canvas is not None and hasattr(canvas, "viewbox_size"):
        gridded = bool(canvas.grid.enabled)
        height, width = canvas.viewbox_size(viewer.layers) if gridded else canvas.size
        return (float(height), float(width)), gridded
    height, width = viewer._canvas_size  # napari before 0.9 has no public size
    if not viewer.grid.enabled:
        return (float(height), float(width)), False
    rows, columns = viewer.grid.actual_shape(len(viewer.layers))
    return (height / rows, width / columns), True


def _screen_axes(
    camera: Any, ndisplay: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    if ndisplay == 2:
        vertical, horizontal = (str(o) for o in camera.orientation[1:])
        down = np.array([1.0 if vertical.endswith("down") else -1.0, 0.0])
        right = np.array([0.0, 1.0 if horizontal.endswith("right") else -1.0])
        return right, down, np.zeros(0)
    into = np.asarray(camera.view_direction, dtype=np.float64)
    up = np.asarray(camera.up_direction, dtype=np.float64)
    right = np.cross(into, up)
    if str(camera.handedness).endswith("left"):
        right = -right
    return (v / np.linalg.norm(v) for v in (right, -up, into))  # type: ignore[return-value]


def read_view(viewer: Any) -> View:
    """Return the view of a napari viewer model."""
    camera, dims = _camera(viewer), viewer.dims
    ndisplay = dims.ndisplay
    order = [axis - (dims.ndim - 3) for axis in dims.order if axis >= dims.ndim - 3]
    displayed = tuple(order[-ndisplay:])
    hidden = order[0] if ndisplay == 2 and len(order) == 3 else None
    point = 0.0 if hidden is None else float(dims.point[hidden + dims.ndim - 3])
    right, down, into = _screen_axes(camera, ndisplay)
    size, gridded = _canvas_size(viewer)
    center = np.asarray(camera.center, dtype=np.float64)[-ndisplay:]
    return View(
        center, right, down, into, float(camera.zoom), size, displayed, hidden, point,
        gridded,
    )  # fmt: skip


def world_at(view: View, x: float, y: float) -> NDArray[np.float64]:
    """Return the world point (displayed axes) at a place of the canvas.

    In 3D it is the point of the plane through the camera's centre that faces the
    camera; perspective does not move points of that plane.
    """
    height, width = view.size
    across, along = x - width / 2, y - height / 2
    return view.center + (view.right * across + view.down * along) / view.zoom


def sheet_affine(view: View, place: ScreenPlace) -> NDArray[np.float64]:
    """Return the (4, 4) affine from texel indices of the page to the world.

    The page has one axis per world axis: rows along the vertical, columns along the
    horizontal displayed axis, one texel along the remaining axis. Index 0 is the
    middle of the first texel.
    """
    corner = world_at(view, place.left + place.scale / 2, place.top + place.scale / 2)
    texel = place.scale / view.zoom
    affine = np.eye(4)
    if view.hidden is not None:
        rows, columns = view.displayed
        affine[view.hidden, 3] = view.point
        for value, axis in zip(range(2), view.displayed, strict=True):
            affine[axis, :3] = 0.0
            affine[axis, rows] = view.down[value] * texel
            affine[axis, columns] = view.right[value] * texel
            affine[axis, 3] = corner[value]
        return affine
    depth, rows, columns = view.displayed
    for value, axis in enumerate(view.displayed):
        affine[axis, depth] = view.into[value] * texel
        affine[axis, rows] = view.down[value] * texel
        affine[axis, columns] = view.right[value] * texel
        affine[axis, 3] = corner[value]
    return affine
