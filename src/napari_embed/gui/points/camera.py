"""Moves the camera of the viewer that shows a points layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari
import numpy as np

from .hooks import canvas_size, scene_camera

if TYPE_CHECKING:
    from .layer import EmbeddingPoints

__all__ = ["fit_camera"]

_FILL = 0.85
_SAMPLE = 200_000


def fit_camera(layer: EmbeddingPoints, mask: Any = None, *, viewer: Any = None) -> None:
    """Centre and zoom on points; does nothing where they have no extent or viewer.

    Parameters
    ----------
    layer : EmbeddingPoints
    mask : ndarray of bool, shape (n,), optional
        Points to show; all pickable points by default.
    viewer : napari viewer, optional
        The current one by default.
    """
    viewer = napari.current_viewer() if viewer is None else viewer
    if viewer is None or layer not in viewer.layers:
        return
    ends = layer.bounds[:, ::-1] if mask is None else _ends(layer.data[mask])
    if not np.isfinite(ends).all():
        return
    low, high = (np.asarray(layer.data_to_world(end)) for end in ends)
    low, high = np.minimum(low, high), np.maximum(low, high)
    displayed = list(layer.displayed_axes)
    camera = scene_camera(viewer)
    middle = (low + high) / 2
    camera.center = tuple(middle[displayed])
    span = (high - low)[displayed]
    # A cloud that is turned needs the ball around it, which is far smaller than the
    # one around its box; a single point keeps some surroundings.
    size = float(span.max())
    if len(displayed) == 3:
        size = 2 * _farthest(layer, mask, middle)
    whole = float(np.max(np.ptp(layer.extent.world, axis=0)))
    size = max(size, whole / 50, 1e-12)
    camera.zoom = _FILL * min(canvas_size(viewer)) / size


def _farthest(layer: EmbeddingPoints, mask: Any, middle: np.ndarray) -> float:
    """Return the largest distance from ``middle`` (world) in a sample of the points."""
    rows = np.asarray(layer.data if mask is None else layer.data[mask])
    rows = rows[:: max(1, -(-len(rows) // _SAMPLE))].astype(float)
    away = rows * layer.scale + layer.translate - middle
    return float(np.nanmax(np.linalg.norm(away, axis=1), initial=0.0))


def _ends(rows: np.ndarray) -> np.ndarray:
    """Return the smallest and largest finite coordinates, (2, 3)."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return np.full((2, 3), np.nan)
    return np.stack([rows.min(axis=0), rows.max(axis=0)])
