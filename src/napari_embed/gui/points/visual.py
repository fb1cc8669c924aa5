"""The vispy visual: every point is one GL_POINTS vertex of 16 bytes.

Twelve bytes are the position, four are the packed state: a row of the colour table
(12 bits) and two flags. A float32 holds these numbers exactly, and vispy passes no
integers. The colour table and the marker shapes are a small texture, so recolouring,
hiding and selecting upload four bytes per point or less.

With a selection two draws are made from the same buffers: the unselected points,
dimmed and without writing depth, then the selected ones on top of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vispy import gloo
from vispy.scene.visuals import create_visual_node
from vispy.visuals import Visual

from .coloring import TABLE_SIZE

__all__ = ["PointCloud", "Style", "pack_flags", "pack_state"]

SELECTED = 1 << 12
HIDDEN = SELECTED << 1

_VERTEX = """
attribute vec3 a_position;
attribute float a_state;
uniform mat3 u_axes;
uniform sampler2D u_table;
uniform float u_pass;
uniform float u_size;
uniform float u_size_min;
uniform float u_size_max;
uniform float u_center_w;
uniform float u_depth_near;
uniform float u_depth_far;
uniform float u_fog;
uniform vec3 u_background;
uniform float u_alpha;
uniform float u_selected_size;
uniform float u_selected_growth;
varying vec4 v_color;
varying float v_size;
varying float v_shape;
varying float v_selected;

void main() {
    float hidden = floor(a_state / 8192.0);
    float rest = a_state - hidden * 8192.0;
    float selected = floor(rest / 4096.0);
    float row = rest - selected * 4096.0;
    bool skipped = hidden > 0.5
        || (u_pass > 0.5 && u_pass < 1.5 && selected > 0.5)
        || (u_pass > 1.5 && selected < 0.5);
    v_color = vec4(0.0);
    v_size = 0.0;
    v_shape = 0.0;
    v_selected = 0.0;
    if (skipped) {
        gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
        gl_PointSize = 1.0;
        return;
    }
    gl_Position = $transform(vec4(u_axes * a_position, 1.0));
    float depth = gl_Position.z / gl_Position.w;
    float far = clamp((depth - u_depth_near) / (u_depth_far - u_depth_near), 0.0, 1.0);

    float size = u_size * u_center_w / gl_Position.w;
    size *= 1.0 + u_fog * (0.35 - 0.5 * far);
    size = clamp(size, u_size_min, u_size_max);
    if (u_pass > 1.5) {
        size = size * u_selected_size + u_selected_growth;
        v_selected = 1.0;
    }
    gl_PointSize = size;
    v_size = size;

    float column = (row + 0.5) / 4096.0;
    vec4 color = texture2D(u_table, vec2(column, 0.25));
    v_shape = floor(texture2D(u_table, vec2(column, 0.75)).r * 255.0 + 0.5);
    color.rgb = mix(color.rgb, u_background, u_fog * far);
    if (u_pass > 0.5 && u_pass < 1.5) {
        float grey = dot(color.rgb, vec3(0.3, 0.6, 0.1));
        color.rgb = mix(mix(vec3(grey), vec3(0.5), 0.5), color.rgb, 0.65);
    }
    color.a *= u_alpha;
    v_color = color;
}
"""

_FRAGMENT = """
uniform float u_shading;
uniform vec4 u_rim;
varying vec4 v_color;
varying float v_size;
varying float v_shape;
varying float v_selected;

float radius_of(vec2 p) {
    // Distance from the centre, 1 on the outline of the marker.
    vec2 q = abs(p);
    if (v_shape < 0.5) return length(p);
    if (v_shape < 1.5) return max(q.x, q.y) * 1.13;
    if (v_shape < 2.5) return q.x + q.y;
    if (v_shape < 3.5) return max(q.x * 1.15 - p.y * 0.57 + 0.2, p.y * 1.15 + 0.2);
    if (v_shape < 4.5) return max(q.x * 1.15 + p.y * 0.57 + 0.2, -p.y * 1.15 + 0.2);
    if (v_shape < 5.5) return max(max(q.x, q.y), 0.62 + min(q.x, q.y) * 1.2);
    if (v_shape < 6.5) {
        vec2 r = abs(vec2(p.x + p.y, p.x - p.y)) * 0.7071;
        return max(max(r.x, r.y), 0.62 + min(r.x, r.y) * 1.2);
    }
    float d = length(p);
    return max(d, 1.0 - (d - 0.55) * 2.0);
}

void main() {
    if (v_size < 0.5) discard;
    vec2 p = gl_PointCoord * 2.0 - 1.0;
    float r = radius_of(p);
    float inside = (1.0 - r) * v_size * 0.5;
    float alpha = v_size > 2.5 ? clamp(inside + 0.5, 0.0, 1.0) : 1.0;
    if (alpha < 0.2) discard;
    vec3 rgb = v_color.rgb;
    if (v_size > 4.5) {
        rgb *= 1.0 - u_shading * r * r;
    }
    if (v_selected > 0.5) {
        float rim = clamp(1.4 - inside, 0.0, 1.0);
        rim *= clamp((v_size - 6.0) / 6.0, 0.0, 1.0);
        rgb = mix(rgb, u_rim.rgb, rim * u_rim.a);
    }
    gl_FragColor = vec4(rgb, v_color.a * alpha);
}
"""


@dataclass(frozen=True)
class Style:
    """How the points of one frame look; set before each draw.

    Sizes are framebuffer pixels, depths are normalised device coordinates.
    """

    axes: npt.NDArray[np.float32]
    size: float
    size_limits: tuple[float, float]
    center_w: float = 1.0
    depth: tuple[float, float] = (-1.0, 1.0)
    fog: float = 0.0
    shading: float = 0.0
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rim: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    alpha: float = 1.0
    dimmed_alpha: float = 0.3
    selected_alpha: float = 1.0
    selected_size: float = 1.0
    selected_growth: float = 0.0


def pack_flags(
    selected: npt.NDArray[np.bool_] | None, drawable: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.uint8] | None:
    """Pack the flags of each point, uint8 (n,): 1 selected, 2 hidden.

    ``None`` for ``selected`` means no point, for ``drawable`` all; both give None.
    """
    if drawable is None:
        return None if selected is None else selected.view(np.uint8)
    hidden = (~drawable).view(np.uint8)
    hidden <<= 1
    return hidden if selected is None else hidden | selected.view(np.uint8)


def pack_state(
    rows: npt.NDArray[np.uint16], flags: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.float32]:
    """Join table rows and flags to the number each vertex gets, float32 (n,)."""
    state = rows.astype(np.float32)
    if flags is not None:
        scaled = flags.astype(np.float32)
        scaled *= SELECTED
        state += scaled
    return state


class PointCloudVisual(Visual):
    """Points from one position and one state buffer; see the module's text."""

    def __init__(self) -> None:
        Visual.__init__(self, vcode=_VERTEX, fcode=_FRAGMENT)
        self._positions = gloo.VertexBuffer(np.zeros((1, 3), np.float32))
        self._state = gloo.VertexBuffer(np.full(1, HIDDEN, np.float32))
        self._table = gloo.Texture2D(
            np.zeros((2, TABLE_SIZE, 4), np.uint8), interpolation="nearest"
        )
        self.n_points = 0
        self.n_drawn = 0
        self.has_selection = False
        self.before_draw: Any = None
        self._style: Style | None = None
        self._draw_mode = "points"
        self.shared_program["u_table"] = self._table
        self.shared_program["u_pass"] = 0.0
        self.set_gl_state("translucent", depth_test=True)
        self._bind(1)

    def set_positions(self, positions: npt.NDArray[np.float32]) -> None:
        """Upload (n, 3) positions, already in drawing order and finite."""
        self.n_points = len(positions)
        if self.n_points:
            self._positions.set_data(positions)
        self._bind(max(self.n_drawn, 1))

    def set_state(self, state: npt.NDArray[np.float32]) -> None:
        """Upload (n,) packed state in drawing order."""
        if len(state):
            self._state.set_data(state)
        self._bind(max(self.n_drawn, 1))

    def set_table(
        self, table: npt.NDArray[np.float32], shapes: npt.NDArray[np.uint8]
    ) -> None:
        """Upload colours (TABLE_SIZE, 4) and marker shapes (TABLE_SIZE,)."""
        texture = np.zeros((2, TABLE_SIZE, 4), np.uint8)
        texture[0] = np.round(table * 255)
        texture[1, :, 0] = shapes
        self._table.set_data(texture)

    def set_prefix(self, n_drawn: int) -> None:
        """Draw only the first points of the buffers from now on."""
        if n_drawn != self.n_drawn:
            self.n_drawn = n_drawn
            self._bind(max(n_drawn, 1))

    def set_style(self, style: Style) -> None:
        """Use these sizes, colours and depths for the next draw."""
        self._style = style
        program = self.shared_program
        program["u_axes"] = style.axes.astype(np.float32).ravel()
        program["u_size"] = style.size
        program["u_size_min"], program["u_size_max"] = style.size_limits
        program["u_center_w"] = style.center_w
        program["u_depth_near"], program["u_depth_far"] = style.depth
        program["u_fog"] = style.fog
        program["u_background"] = style.background
        program["u_selected_size"] = style.selected_size
        program["u_selected_growth"] = style.selected_growth
        program["u_shading"] = style.shading
        program["u_rim"] = style.rim

    def _bind(self, n: int) -> None:
        if n <= min(self._positions.size, self._state.size):
            self.shared_program["a_position"] = self._positions[:n]
            self.shared_program["a_state"] = self._state[:n]

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.get_transform()

    def _prepare_draw(self, view: Any = None) -> bool:
        if self.before_draw is not None:
            self.before_draw()
        return self.n_drawn > 0 and self._style is not None

    def draw(self) -> None:
        """Draw all points, or the unselected and then the selected ones."""
        if not self.visible or not self._prepare_draw(view=self):
            return
        self._configure_gl_state()
        style = self._style
        if not self.has_selection:
            self._draw_pass(0.0, style.alpha)
            return
        gloo.set_depth_mask(False)
        self._draw_pass(1.0, style.dimmed_alpha)
        gloo.set_depth_mask(True)
        self._draw_pass(2.0, style.selected_alpha)

    def _draw_pass(self, number: float, alpha: float) -> None:
        self.shared_program["u_pass"] = number
        self.shared_program["u_alpha"] = alpha
        self._program.draw("points")

    def _compute_bounds(self, axis: int, view: Any) -> None:
        return None


PointCloud = create_visual_node(PointCloudVisual)
