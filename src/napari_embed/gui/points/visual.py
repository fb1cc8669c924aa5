"""The vispy visual: every point is one GL_POINTS vertex of 16 bytes.

Twelve bytes are the position, four the point's place in the *state texture*. That
texture holds two bytes for each point in the order of ids: a row of the colour table
(12 bits) and two flags. The vertex buffers are in drawing order and stay as they are
when points are coloured, hidden or selected: what changes then is written straight
into the texture, two bytes per point, with nothing to sort.

With a selection two draws are made from the same buffers: the unselected points,
dimmed and without writing depth, then the selected ones on top of them. In density
mode the points are added up off the screen, see
:mod:`napari_embed.gui.points.density`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vispy import gloo
from vispy.scene.visuals import create_visual_node
from vispy.visuals import Visual

from .coloring import TABLE_SIZE
from .density import DensityScreen, Exposure
from .shaders import FRAGMENT, VERTEX

__all__ = ["PointCloud", "Style", "pack_state"]

SELECTED_BIT, HIDDEN_BIT = 12, 13
HIDDEN = 1 << HIDDEN_BIT

LINE = 4096
"""Points in a line of the state texture."""

_EXACT = 1 << 24  # whole numbers that a float32 holds
_BLOCK = 65_536


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
    exposure: Exposure | None = None


def pack_state(
    rows: npt.NDArray[np.uint16],
    selected: npt.NDArray[np.bool_] | None,
    drawable: npt.NDArray[np.bool_] | None,
    out: npt.NDArray[np.uint16],
) -> None:
    """Write table row and flags of each point into ``out``, uint16 (n,).

    ``None`` for ``selected`` means no point, for ``drawable`` all.
    """
    if selected is None and drawable is None:
        np.copyto(out, rows)
        return
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        flags = np.zeros(len(rows[block]), np.uint16)
        if drawable is not None:
            np.logical_not(drawable[block], out=flags, casting="unsafe")
            flags <<= np.uint16(1)
        if selected is not None:
            flags |= selected[block].view(np.uint8)
        flags <<= np.uint16(SELECTED_BIT)
        np.bitwise_or(flags, rows[block], out=out[block])


class PointCloudVisual(Visual):
    """Points from two vertex buffers and a state texture; see the module's text."""

    def __init__(self) -> None:
        Visual.__init__(self, vcode=VERTEX, fcode=FRAGMENT)
        self._positions = gloo.VertexBuffer(np.zeros((1, 3), np.float32))
        self._places = gloo.VertexBuffer(np.zeros(1, np.float32))
        self._packed = np.full((1, LINE), HIDDEN, np.uint16)
        self._state = gloo.Texture2D(
            _as_bytes(self._packed), interpolation="nearest", resizable=True
        )
        self._table = gloo.Texture2D(
            np.zeros((2, TABLE_SIZE, 4), np.uint8), interpolation="nearest"
        )
        self.n_points = 0
        self.n_drawn = 0
        self.has_selection = False
        self.before_draw: Any = None
        self.on_failure: Callable[[Exception], None] | None = None
        self._style: Style | None = None
        self._screen: DensityScreen | None = None
        self._draw_mode = "points"
        program = self.shared_program
        program["u_table"] = self._table
        program["u_state"] = self._state
        program["u_lines"] = 1.0
        program["u_first_line"] = 0.0
        program["u_has_shapes"] = 0.0
        program["u_pass"] = 0.0
        program["u_hill"] = 2.0
        self.set_gl_state("translucent", depth_test=True)
        self._bind(1)

    def set_order(self, order: npt.NDArray[np.intp]) -> None:
        """Upload the drawing order, ids (n,)."""
        n = len(order)
        first = 0 if n <= _EXACT else _EXACT  # a float32 holds these and their negative
        self.shared_program["u_first_line"] = float(first // LINE)
        if n:
            self._places.set_data((order - first).astype(np.float32))
        self._bind(max(self.n_drawn, 1))

    def set_positions(self, positions: npt.NDArray[np.float32]) -> None:
        """Upload (n, 3) positions, already in drawing order and finite."""
        self.n_points = len(positions)
        if self.n_points:
            self._positions.set_data(positions)
        self._bind(max(self.n_drawn, 1))

    def set_state(
        self,
        rows: npt.NDArray[np.uint16],
        selected: npt.NDArray[np.bool_] | None = None,
        drawable: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Upload table row and flags of each point, in the order of ids."""
        lines = max(-(-len(rows) // LINE), 1)
        if len(self._packed) != lines:
            self._packed = np.full((lines, LINE), HIDDEN, np.uint16)
            self.shared_program["u_lines"] = float(lines)
        pack_state(rows, selected, drawable, self._packed.reshape(-1)[: len(rows)])
        self._state.set_data(_as_bytes(self._packed))

    def set_table(
        self, table: npt.NDArray[np.float32], shapes: npt.NDArray[np.uint8]
    ) -> None:
        """Upload colours (TABLE_SIZE, 4) and marker shapes (TABLE_SIZE,)."""
        texture = np.zeros((2, TABLE_SIZE, 4), np.uint8)
        texture[0] = np.round(table * 255)
        texture[1, :, 0] = shapes
        self._table.set_data(texture)
        self.shared_program["u_has_shapes"] = float(shapes.any())

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
        if n <= min(self._positions.size, self._places.size):
            self.shared_program["a_position"] = self._positions[:n]
            self.shared_program["a_place"] = self._places[:n]

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.get_transform()

    def _prepare_draw(self, view: Any = None) -> bool:
        if self.before_draw is not None:
            self.before_draw()
        return self.n_drawn > 0 and self._style is not None

    def draw(self) -> None:
        """Draw the points; a failure is told to ``on_failure`` if that is set."""
        if not self.visible:
            return
        if self.on_failure is None:
            self._draw_if_ready()
            return
        try:
            self._draw_if_ready()
        except Exception as error:  # noqa: BLE001 (a driver may fail in any way)
            self.on_failure(error)

    def _draw_if_ready(self) -> None:
        if self._prepare_draw(view=self):
            self._draw_points()

    def _draw_points(self) -> None:
        """Draw all points, or the unselected and then the selected ones."""
        self._configure_gl_state()
        style = self._style
        if style.exposure is not None:
            self._draw_density(style, style.exposure)
            return
        if not self.has_selection:
            # Points that let others through must not hide them.
            gloo.set_depth_mask(style.alpha > 0.99)
            self._draw_pass(0.0, style.alpha)
            gloo.set_depth_mask(True)
            return
        gloo.set_depth_mask(False)
        self._draw_pass(1.0, style.dimmed_alpha)
        gloo.set_depth_mask(True)
        self._draw_pass(2.0, style.selected_alpha)

    def _draw_density(self, style: Style, exposure: Exposure) -> None:
        if self._screen is None:
            self._screen = DensityScreen()
        self.shared_program["u_hill"] = exposure.diameter
        with self._screen.collecting():
            self._draw_pass(3.0, 1.0)
        self._screen.show(exposure)
        self._configure_gl_state()
        if self.has_selection and exposure.selected_on_top:
            gloo.set_state(depth_test=False)
            self._draw_pass(2.0, style.selected_alpha)
            self._configure_gl_state()

    def _draw_pass(self, number: float, alpha: float) -> None:
        program = self.shared_program
        program["u_pass"] = number
        program["u_alpha"] = alpha
        program["u_dim"] = 1.0 if self.has_selection else 0.0
        self._program.draw("points")

    def _compute_bounds(self, axis: int, view: Any) -> None:
        return None


def _as_bytes(packed: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return low and high byte of each number, (lines, LINE, 2), without a copy."""
    return packed.view(np.uint8).reshape(len(packed), LINE, 2)


PointCloud = create_visual_node(PointCloudVisual)
