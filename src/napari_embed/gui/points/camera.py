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
    rows = layer.data if mask is None else layer.data[mask]
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return
    low = layer.data_to_world(rows.min(axis=0))
    high = layer.data_to_world(rows.max(axis=0))
    low, high = np.minimum(low, high), np.maximum(low, high)
    displayed = list(layer.displayed_axes)
    camera = scene_camera(viewer)
    middle = (low + high) / 2
    camera.center = tuple(middle[displayed])
    span = (high - low)[displayed]
    # A turned cloud shows its diagonal; a single point keeps some surroundings.
    size = float(np.linalg.norm(span)) if len(displayed) == 3 else float(span.max())
    whole = float(np.max(np.ptp(layer.extent.world, axis=0)))
    size = max(size, whole / 50, 1e-12)
    camera.zoom = _FILL * min(canvas_size(viewer)) / size
