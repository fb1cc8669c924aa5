"""Density mode: points are added up off the screen, then shown as a picture.

Each point adds its colour and a weight to a floating-point texture of the size of the
view. The picture shows the mean colour of each pixel, or a colour scale, and the
logarithm of the weight between one point and the densest places: no place saturates
and single points stay visible, with a thousand points or with ten million. The
weight of the densest places comes from a sample of the points (:func:`peak_weight`),
so nothing is read back from the graphics card.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from napari.utils.colormaps import ensure_colormap
from vispy import gloo

from .geometry import project

__all__ = ["DensityScreen", "Exposure", "hill_diameter", "peak_weight"]

SAMPLE = 65_536
"""Points whose places tell how dense the densest places are."""

LAYERS = 25.0
"""Points that lie over one another on average: so large are they drawn."""

_DIAMETERS = (2.0, 36.0)  # framebuffer pixels
_CELL = 6.0  # canvas pixels
_PEAK_SHARE = 97.0  # per cent of the points that lie in places below the peak

_SCALES: dict[bool, tuple[str, float, float]] = {
    # colour map and the part of it that stands out from a dark or light background
    True: ("inferno", 0.22, 1.0),
    False: ("magma", 0.94, 0.06),
}

_VERTEX = """
attribute vec2 a_corner;
varying vec2 v_at;

void main() {
    v_at = a_corner * 0.5 + 0.5;
    gl_Position = vec4(a_corner, 0.0, 1.0);
}
"""

_FRAGMENT = """
uniform sampler2D u_sum;
uniform sampler2D u_scale;
uniform float u_gain;
uniform float u_peak;
uniform float u_heat;
uniform float u_opacity;
uniform vec3 u_extreme;
uniform float u_extreme_share;
varying vec2 v_at;

void main() {
    vec4 sum = texture2D(u_sum, v_at);
    float weight = sum.a * u_gain;
    if (weight < 0.02) discard;
    float t = clamp(log(1.0 + weight) / log(1.0 + u_peak), 0.0, 1.0);
    float cover = clamp(weight * 1.5, 0.0, 1.0);
    vec3 mean = sum.rgb / sum.a;
    vec3 mixed = mix(mean, u_extreme, u_extreme_share * smoothstep(0.75, 1.0, t));
    vec3 scaled = texture2D(u_scale, vec2((t * 255.0 + 0.5) / 256.0, 0.5)).rgb;
    float alpha = cover * mix(0.3, 1.0, smoothstep(0.0, 0.65, t));
    alpha = mix(alpha, cover * smoothstep(-0.1, 0.15, t), u_heat);
    gl_FragColor = vec4(mix(mixed, scaled, u_heat), alpha * u_opacity);
}
"""


@dataclass(frozen=True)
class Exposure:
    """How sums become a picture.

    Attributes
    ----------
    diameter
        Framebuffer pixels across the hill that a point adds.
    peak
        Weight that gets the strongest colour, see :func:`peak_weight`.
    gain
        All points over the points drawn, so that a part looks like the whole.
    mode
        "colors" mixes the points' colours, "heat" uses a colour scale.
    dark
        Whether the background is dark.
    opacity
        Of the whole picture.
    selected_on_top
        Draw the selected points as points over the picture.
    """

    diameter: float
    peak: float
    gain: float = 1.0
    mode: Literal["colors", "heat"] = "colors"
    dark: bool = True
    opacity: float = 1.0
    selected_on_top: bool = True


def hill_diameter(covered: float, diameter: float) -> float:
    """Return how large points are drawn so that they overlap to a smooth picture.

    Parameters
    ----------
    covered : float
        Summed area of all points over that of the map, at ``diameter``.
    diameter : float
        Framebuffer pixels.
    """
    wanted = diameter * np.sqrt(LAYERS / max(covered, 1e-9))
    return float(np.clip(wanted, *_DIAMETERS))


def peak_weight(
    sample: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.float64],
    *,
    n_points: int,
    diameter: float,
    size: tuple[int, int] | None = None,
) -> float:
    """Return the weight that points add up to in the densest places on the canvas.

    Parameters
    ----------
    sample : ndarray, shape (m, 3)
        An even sample of the points; those not finite are left out.
    matrix : ndarray of float64, shape (4, 4)
        See :func:`napari_embed.gui.points.geometry.project`.
    n_points : int
        Points that the sample stands for.
    diameter : float
        Canvas pixels a point is drawn with.
    size : (width, height), optional
        Pixels of the canvas; points outside do not count.
    """
    x, y, _ = project(sample, matrix)
    known = np.isfinite(x) & np.isfinite(y)
    share = n_points / max(int(known.sum()), 1)
    if size is not None:
        with np.errstate(invalid="ignore"):
            known &= (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1])
    if not known.any():
        return 1.0
    column = np.floor(x[known] / _CELL)
    row = np.floor(y[known] / _CELL)
    number = (row - row.min()) * (np.ptp(column) + 1) + (column - column.min())
    _, where, count = np.unique(number, return_inverse=True, return_counts=True)
    crowded = float(np.percentile(count[where.reshape(-1)], _PEAK_SHARE))
    per_pixel = crowded * share / _CELL**2
    # Each point adds a hill of height 1, the square of a paraboloid, over its disc.
    return max(per_pixel * np.pi * diameter**2 / 12, 1.0)


class DensityScreen:
    """The texture that points are added up in, and the program that shows it."""

    def __init__(self) -> None:
        self._program = gloo.Program(_VERTEX, _FRAGMENT)
        corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)
        self._program["a_corner"] = gloo.VertexBuffer(corners)
        self._scale = gloo.Texture2D(
            np.zeros((1, 256, 3), np.uint8), interpolation="nearest"
        )
        self._program["u_scale"] = self._scale
        self._scale_shown: bool | None = None
        self._size: tuple[int, int] | None = None
        self._frame: Any = None

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Add up what is drawn meanwhile, seen as in the present viewport."""
        gloo.flush()  # the viewport may still be on its way
        viewport = tuple(int(v) for v in gloo.gl.glGetParameter(gloo.gl.GL_VIEWPORT))
        self._resize(viewport[2:])
        try:
            with self._frame:
                gloo.set_viewport(0, 0, *viewport[2:])
                gloo.clear(color=(0, 0, 0, 0), depth=False)
                # vispy clears the window's alpha channel with this after each frame.
                gloo.set_clear_color((0, 0, 0, 1))
                gloo.set_state(
                    depth_test=False,
                    blend=True,
                    cull_face=False,
                    blend_func=("one", "one"),
                )
                yield
        finally:
            gloo.set_viewport(*viewport)

    def _resize(self, size: tuple[int, ...]) -> None:
        width, height = (max(v, 1) for v in size)
        if (width, height) == self._size:
            return
        sums = gloo.Texture2D(
            (height, width, 4),
            format="rgba",
            internalformat="rgba32f",
            interpolation="nearest",
            wrapping="clamp_to_edge",
        )
        self._program["u_sum"] = sums
        self._frame = gloo.FrameBuffer(color=sums)
        self._size = (width, height)

    def show(self, exposure: Exposure) -> None:
        """Put the sums on the canvas as a picture."""
        if exposure.dark != self._scale_shown:
            name, first, last = _SCALES[exposure.dark]
            colors = ensure_colormap(name).map(np.linspace(first, last, 256))
            picture = np.round(colors[None, :, :3] * 255).astype(np.uint8)
            self._scale.set_data(np.ascontiguousarray(picture))
            self._scale_shown = exposure.dark
        program = self._program
        program["u_gain"] = exposure.gain
        program["u_peak"] = max(exposure.peak, 1.0)
        program["u_heat"] = 1.0 if exposure.mode == "heat" else 0.0
        program["u_opacity"] = exposure.opacity
        program["u_extreme"] = (1.0, 1.0, 1.0) if exposure.dark else (0.0, 0.0, 0.0)
        program["u_extreme_share"] = 0.45 if exposure.dark else 0.28
        gloo.set_state(
            depth_test=False,
            blend=True,
            cull_face=False,
            blend_func=(
                "src_alpha",
                "one_minus_src_alpha",
                "one",
                "one_minus_src_alpha",
            ),
        )
        program.draw("triangle_strip")
