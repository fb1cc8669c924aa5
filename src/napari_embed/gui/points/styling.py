"""How the points of one frame look: sizes, opacity and exposure from the density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import density
from .density import Exposure
from .look import FIT_PIXELS
from .visual import Style

if TYPE_CHECKING:
    from .layer import EmbeddingPoints

__all__ = ["Frame", "drawn_diameter", "frame_style"]

FOG = 0.32
"""Share of the background in the colour of the farthest points."""

_OPAQUE = 0.99


@dataclass(frozen=True)
class Frame:
    """What a frame is drawn on.

    Attributes
    ----------
    axes
        Row-vector matrix (3, 3) from x, y, z to the node's coordinates.
    background
        RGB between 0 and 1.
    pixel_scale
        Framebuffer pixels per canvas pixel.
    size
        (width, height) of the canvas in canvas pixels.
    depth_tested
        Whether near points cover far ones.
    n_drawn
        Points that are drawn, in drawing order.
    """

    axes: npt.NDArray[np.float64]
    background: tuple[float, float, float]
    pixel_scale: float
    size: tuple[int, int]
    depth_tested: bool
    n_drawn: int

    @property
    def dark(self) -> bool:
        """Whether the background is dark."""
        return float(np.mean(self.background)) < 0.5


def frame_style(
    layer: EmbeddingPoints, matrix: npt.NDArray[np.float64], frame: Frame
) -> Style:
    """Return sizes, opacities and colours for the next frame.

    Parameters
    ----------
    layer : EmbeddingPoints
    matrix : ndarray of float64, shape (4, 4)
        From x, y, z to canvas pixels, see
        :func:`napari_embed.gui.points.geometry.project`.
    frame : Frame
    """
    in_3d = len(layer.displayed_axes) == 3
    scale = frame.pixel_scale
    size, per_unit, w = _size_on_canvas(layer, matrix)
    low, high = layer.canvas_size_limits
    diameter = float(np.clip(size, low, high))
    covered = _coverage(layer, per_unit, layer.n_visible, diameter)
    chosen = _coverage(layer, per_unit, layer.n_selected, diameter)
    opaque = in_3d and frame.depth_tested
    # Few selected points may grow; many would run into one blot.
    room = float(np.clip(0.4 / chosen, 0.0, 1.0))
    alpha = 1.0 if opaque else float(np.clip(1.1 / covered, 0.12, 0.9))
    dimmed = float(np.clip(0.45 / covered, 0.06, 0.55))
    selected = 1.0 if opaque else float(np.clip(1.6 / chosen, 0.3, 1.0))
    if layer.point_opacity is not None:
        alpha = layer.point_opacity
        dimmed, selected = 0.5 * alpha, max(selected, alpha)
    return Style(
        axes=frame.axes,
        size=size * scale,
        size_limits=(low * scale, high * scale),
        center_w=w,
        depth=_depth_range(_finite_bounds(layer), matrix),
        fog=FOG if in_3d else 0.0,
        shading=0.35 if in_3d and alpha > _OPAQUE else 0.0,
        background=frame.background,
        rim=tuple(float(v) for v in layer._rim),
        alpha=alpha,
        dimmed_alpha=dimmed,
        selected_alpha=selected,
        selected_size=1.0 + 0.35 * room,
        selected_growth=(0.3 + 0.9 * room) * scale,
        exposure=_exposure(layer, matrix, frame, diameter, (covered, chosen)),
    )


def drawn_diameter(layer: EmbeddingPoints, matrix: npt.NDArray[np.float64]) -> float:
    """Return the canvas pixels across a point in the middle of the map."""
    low, high = layer.canvas_size_limits
    return float(np.clip(_size_on_canvas(layer, matrix)[0], low, high))


def _size_on_canvas(
    layer: EmbeddingPoints, matrix: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return a point's pixels across, pixels per unit, and w, in the map's middle."""
    w = float(np.append(_finite_bounds(layer).mean(axis=0), 1) @ matrix[:, 3])
    w = w if w > 0 else 1.0
    per_unit = float(np.linalg.norm(matrix[:3, :2]) / np.sqrt(2) / w)
    return layer.point_size * float(np.sqrt(per_unit * layer.pixel)), per_unit, w


def _finite_bounds(layer: EmbeddingPoints) -> npt.NDArray[np.float64]:
    return np.nan_to_num(layer.bounds.astype(float))


def _coverage(
    layer: EmbeddingPoints, per_unit: float, n_points: int, diameter: float
) -> float:
    """Return the summed area of points over that of the map on the canvas."""
    map_pixels = layer.occupied * (layer.pixel * FIT_PIXELS * per_unit) ** 2
    covered = max(n_points, 1) * np.pi * diameter**2 / 4
    return float(covered / max(map_pixels, 1.0))


def _exposure(
    layer: EmbeddingPoints,
    matrix: npt.NDArray[np.float64],
    frame: Frame,
    diameter: float,
    coverage: tuple[float, float],
) -> Exposure | None:
    if layer.density == "off" or not frame.n_drawn:
        return None
    rows = layer._order[: density.SAMPLE]
    if layer.pickable is not None:
        rows = rows[layer.pickable[rows]]
    covered, chosen = coverage
    hill = density.hill_diameter(covered, diameter * frame.pixel_scale)
    peak = density.peak_weight(
        layer._xyz[rows],
        matrix,
        n_points=layer.n_visible,
        diameter=hill / frame.pixel_scale,
        size=frame.size,
    )
    opacity = layer.opacity
    if layer.point_opacity is not None:
        opacity *= layer.point_opacity
    return Exposure(
        diameter=hill,
        peak=peak,
        gain=layer.n_items / frame.n_drawn,
        mode=layer.density,
        dark=frame.dark,
        opacity=opacity,
        selected_on_top=chosen < 0.5,
    )


def _depth_range(
    bounds: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return the depths between which a cloud in this box fades.

    A round cloud fills the middle of its box: the outer fifths are left out.
    """
    corners = (
        np.array(
            [
                [bounds[i, 0], bounds[j, 1], bounds[k, 2], 1.0]
                for i in (0, 1)
                for j in (0, 1)
                for k in (0, 1)
            ]
        )
        @ matrix
    )
    w = np.where(corners[:, 3] > 0, corners[:, 3], np.nan)
    depth = corners[:, 2] / w
    low, high = float(np.nanmin(depth)), float(np.nanmax(depth))
    margin = 0.22 * (high - low)
    return (low + margin, high - margin) if high > low else (low - 1.0, low + 1.0)
