"""Joins the points layer to napari's canvas (a subclass of its private visual).

Overridden: ``_on_data_change``, ``_on_highlight_change``, ``_update_text``,
``_on_blending_change``, ``_on_canvas_size_limits_change``, ``_on_opacity_change``,
``close``; relied on: ``node``, ``layer``, and that ``_on_matrix_change`` gives the
node's children an identity matrix. :mod:`napari_embed.gui.points.hooks` lists the
model side.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from napari._vispy.layers.points import VispyPointsLayer
from qtpy.QtCore import QTimer
from vispy import gloo
from vispy.scene.visuals import Line
from vispy.visuals.transforms import MatrixTransform

from . import coloring
from .appearance import FIT_PIXELS
from .ordering import refine_order
from .visual import PointCloud, Style, pack_flags, pack_state

__all__ = ["VispyEmbeddingPoints"]

MOVING_POINTS = 500_000
MOVING_POINTS_SOFTWARE = 120_000
"""Points drawn while the camera moves, with and without a graphics card."""

FOG = 0.32
"""Share of the background in the colour of the farthest points."""

REST_MS = 150
_PULSE_S = 1.4
_PULSE_STEP_MS = 60


class VispyEmbeddingPoints(VispyPointsLayer):
    """Draws an :class:`EmbeddingPoints` layer.

    The layer calls :meth:`positions_changed`, :meth:`state_changed`,
    :meth:`table_changed` and :meth:`marks_changed`; the next frame uploads what
    changed since the last one.
    """

    def __init__(self, layer: Any, *args: Any, **kwargs: Any) -> None:
        self._cloud: Any = None
        super().__init__(layer, *args, **kwargs)
        node = self.node
        # napari's own markers stay in the scene with one point of no size.
        node.points_markers.set_data(np.zeros((1, 3), np.float32), size=0)
        self._cloud = PointCloud(parent=node)
        self._cloud.transform = MatrixTransform()
        self._cloud.before_draw = self._before_draw
        self._ring = PointCloud(parent=node)
        self._ring.transform = MatrixTransform()
        self._ring.order = 5
        self._ring.set_gl_state("translucent", depth_test=False)
        self._ring.visible = False
        self._line: Any = None
        self._dirty = {"positions", "state", "table"}
        self._state_order: Any = None
        self._rows_source: Any = None
        self._flags_source: tuple[Any, Any] | None = None
        self._moving = False
        self._seen_matrix: npt.NDArray[np.float64] | None = None
        self._moving_points: int | None = None
        self.drawn_radius = 1.0
        self._pulse: tuple[int, float] | None = None
        self._make_timers()
        layer._link = self
        if layer.n_items > MOVING_POINTS_SOFTWARE:
            refine_order(layer)
        self.reset()

    def _make_timers(self) -> None:
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._on_rest)
        self._beat = QTimer()
        self._beat.setInterval(_PULSE_STEP_MS)
        self._beat.timeout.connect(self._on_beat)

    # -- what the layer calls

    def positions_changed(self) -> None:
        """Upload positions with the next frame."""
        self._mark("positions")

    def state_changed(self) -> None:
        """Upload selection, visibility and colour rows with the next frame."""
        self._mark("state")

    def table_changed(self) -> None:
        """Upload the colour table with the next frame."""
        self._mark("table")

    def marks_changed(self) -> None:
        """Draw the ring around the hovered point with the next frame."""
        self.update()

    def _mark(self, what: str) -> None:
        self._dirty.add(what)
        self.update()

    def update(self) -> None:
        """Ask for a new frame."""
        self.node.update()

    def pulse(self, item: int) -> None:
        """Start a ring around one point that grows and fades."""
        self._pulse = (item, time.monotonic())
        self._beat.start()
        self.update()

    def draw_outline(self, outline: npt.NDArray[np.float64] | None) -> None:
        """Draw a line in canvas pixels on top of the points, or remove it."""
        if outline is None or len(outline) < 2:
            if self._line is not None:
                self._line.visible = False
            return
        canvas = self.node.get_transform("visual", "canvas")
        depth = canvas.map(np.zeros(3))[2]
        pixels = np.column_stack([outline, np.full(len(outline), depth)])
        at = canvas.imap(np.column_stack([pixels, np.ones(len(pixels))]))
        at = (at[:, :3] / at[:, 3:]).astype(np.float32)
        color = (1.0, 1.0, 1.0, 0.9) if self._is_dark() else (0.0, 0.0, 0.0, 0.9)
        if self._line is None:
            self._line = Line(parent=self.node, pos=at, color=color, width=1.5)
            self._line.transform = MatrixTransform()
            self._line.order = 10
            self._line.set_gl_state("translucent", depth_test=False)
        self._line.set_data(pos=at, color=color)
        self._line.visible = True

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the 4x4 matrix from x, y, z to canvas x, y, depth, w."""
        axes = self._axes()
        canvas = self.node.get_transform("visual", "canvas").map(np.eye(4))
        screen = self.node.get_transform("visual", "render").map(np.eye(4))
        full = np.column_stack([canvas[:, 0], canvas[:, 1], screen[:, 2], screen[:, 3]])
        if np.allclose(full[:, 3], (0, 0, 0, 1), rtol=0, atol=1e-12):
            full[:, 3] = (0, 0, 0, 1)  # without perspective, exactly
        return axes @ full

    def _axes(self) -> npt.NDArray[np.float64]:
        """Row-vector matrix from x, y, z to the node's coordinates."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for place, axis in enumerate(self.layer.displayed_axes[::-1]):
            matrix[2 - axis, place] = 1
        return matrix

    # -- napari's events

    def _on_data_change(self) -> None:
        if self._cloud is not None:
            self.reset()

    def _on_highlight_change(self) -> None:
        """Do nothing: selected points are drawn by our visual."""

    def _update_text(self, *, update_node: bool = True) -> None:
        """Points have no text."""

    def _on_opacity_change(self) -> None:
        super()._on_opacity_change()
        if self._cloud is not None:
            self._cloud.opacity = self.layer.opacity

    def _on_blending_change(self, event: Any = None) -> None:
        super()._on_blending_change(event)
        if self._cloud is not None:
            state = dict(self.node.points_markers._vshare.gl_state)
            self._cloud.set_gl_state(**state)

    def _on_canvas_size_limits_change(self) -> None:
        self.update()

    def close(self) -> None:
        """Leave the scene without dangling vertex arrays.

        vispy leaves vertex attributes enabled after a draw; once their buffers are
        deleted the next draw call of another visual would read freed memory and,
        with Mesa, crash.
        """
        self._rest.stop()
        self._beat.stop()
        self.layer._link = None
        canvas = self.node.canvas
        for child in (self._cloud, self._ring, self._line):
            if child is not None:
                child.parent = None
        super().close()
        if canvas is not None:
            canvas.set_current()
            for index in range(16):
                gloo.gl.glDisableVertexAttribArray(index)

    # -- a frame

    def _on_rest(self) -> None:
        self._moving = False
        self.update()

    def _on_beat(self) -> None:
        if self._pulse is None or time.monotonic() - self._pulse[1] > _PULSE_S:
            self._pulse = None
            self._beat.stop()
        self.update()

    def upload(self) -> None:
        """Send to the graphics card what changed since the last frame."""
        layer, order = self.layer, self.layer._order
        if "positions" in self._dirty:
            at = np.take(layer._xyz, order, axis=0)
            if layer._finite is not None:
                at[~layer._finite[order]] = 0
            self._cloud.set_positions(at)
        if "state" in self._dirty:
            self._upload_state()
        if "table" in self._dirty:
            self._cloud.set_table(layer.coloring.table, layer.coloring.shapes)
        self._dirty.clear()

    def _upload_state(self) -> None:
        """Gather what changed into drawing order: scattered reads are what costs."""
        layer, order = self.layer, self.layer._order
        selected = layer.mask if layer.n_selected else None
        reordered = order is not self._state_order
        if reordered or layer.coloring.index is not self._rows_source:
            self._rows_source = layer.coloring.index
            self._rows = np.take(layer.coloring.index, order)
        source = (layer.selected_data.version, layer.pickable)
        if reordered or not _same(self._flags_source, source):
            self._flags_source = source
            flags = pack_flags(selected, layer.pickable)
            self._flags = None if flags is None else np.take(flags, order)
        self._state_order = order
        self._cloud.has_selection = selected is not None
        self._cloud.set_state(pack_state(self._rows, self._flags))

    def _before_draw(self) -> None:
        """Bring the visual up to date; called by it just before it draws."""
        layer = self.layer
        self.upload()
        matrix = self.matrix()
        layer._matrix = matrix
        self._follow_camera(matrix)
        budget = self._budget() if self._moving else layer.n_items
        self._cloud.set_prefix(min(budget, layer.n_items))
        self._cloud.set_style(self._style(matrix))
        layer.set_drawn(self._count_drawn())
        self._place_ring()

    def _follow_camera(self, matrix: npt.NDArray[np.float64]) -> None:
        moved = self._seen_matrix is not None and not np.allclose(
            matrix, self._seen_matrix, rtol=1e-6
        )
        self._seen_matrix = matrix
        if moved and self.layer.n_items > self._budget():
            self._moving = True
            self._rest.start()

    def _budget(self) -> int:
        if self._moving_points is None:
            name = str(gloo.gl.glGetParameter(gloo.gl.GL_RENDERER)).lower()
            software = any(word in name for word in ("llvmpipe", "softpipe", "swrast"))
            self._moving_points = MOVING_POINTS_SOFTWARE if software else MOVING_POINTS
        return self._moving_points

    def _count_drawn(self) -> int:
        n = self._cloud.n_drawn
        pickable = self.layer.pickable
        if pickable is None:
            return n
        if n == self.layer.n_items:
            return int(np.count_nonzero(pickable))
        return int(np.count_nonzero(pickable[self.layer._order[:n]]))

    def _is_dark(self) -> bool:
        return float(np.mean(self._background())) < 0.5

    def _background(self) -> tuple[float, float, float]:
        canvas = self.node.canvas
        if canvas is None:
            return (0.0, 0.0, 0.0)
        return tuple(float(v) for v in canvas.bgcolor.rgb)

    def _style(self, matrix: npt.NDArray[np.float64]) -> Style:
        layer = self.layer
        in_3d = len(layer.displayed_axes) == 3
        bounds = np.nan_to_num(layer.bounds.astype(float))
        w = float(np.append(bounds.mean(axis=0), 1) @ matrix[:, 3])
        w = w if w > 0 else 1.0
        per_unit = np.linalg.norm(matrix[:3, :2]) / np.sqrt(2) / w
        zoom = per_unit * layer.pixel
        size = layer.point_size * np.sqrt(zoom)
        low, high = layer.canvas_size_limits
        self.drawn_radius = float(np.clip(size, low, high)) / 2
        scale = self.node.transforms.pixel_scale
        tested = bool(self._cloud._vshare.gl_state.get("depth_test", True))
        density = self._density(per_unit, layer.n_visible)
        chosen = self._density(per_unit, layer.n_selected)
        opaque = in_3d and tested
        # Few selected points may grow; many would run into one blot.
        room = float(np.clip(0.4 / chosen, 0.0, 1.0))
        return Style(
            axes=self._axes()[:3, :3],
            size=size * scale,
            size_limits=(low * scale, high * scale),
            center_w=w,
            depth=_depth_range(bounds, matrix),
            fog=FOG if in_3d else 0.0,
            shading=0.35 if in_3d else 0.0,
            background=self._background(),
            rim=tuple(float(v) for v in layer._rim),
            alpha=1.0 if opaque else float(np.clip(1.1 / density, 0.12, 0.9)),
            dimmed_alpha=float(np.clip(0.45 / density, 0.06, 0.55)),
            selected_alpha=1.0 if opaque else float(np.clip(1.6 / chosen, 0.3, 1.0)),
            selected_size=1.0 + 0.35 * room,
            selected_growth=(0.3 + 0.9 * room) * scale,
        )

    def _density(self, per_unit: float, n_points: int) -> float:
        """Return the summed area of points over that of the map on the canvas."""
        layer = self.layer
        map_pixels = layer.occupied * (layer.pixel * FIT_PIXELS * per_unit) ** 2
        covered = max(n_points, 1) * np.pi * self.drawn_radius**2
        return float(covered / max(map_pixels, 1.0))

    def _place_ring(self) -> None:
        layer = self.layer
        item, growth, alpha = layer.hovered, 0.0, 0.9
        if self._pulse is not None:
            item = self._pulse[0]
            passed = (time.monotonic() - self._pulse[1]) / _PULSE_S
            growth = 26.0 * abs(np.sin(passed * np.pi * 1.5))
            alpha = max(0.0, 1.0 - passed * 0.6)
        known = 0 <= item < layer.n_items and np.isfinite(layer._xyz[item]).all()
        self._ring.visible = bool(known)
        if not known:
            return
        tone = 1.0 if self._is_dark() else 0.0
        table = np.full((coloring.TABLE_SIZE, 4), tone, np.float32)
        table[:, 3] = 1
        ring = coloring.SHAPES.index("ring")
        self._ring.set_table(table, np.full(coloring.TABLE_SIZE, ring, np.uint8))
        self._ring.set_positions(layer._xyz[item : item + 1].copy())
        self._ring.set_state(np.zeros(1, np.float32))
        self._ring.set_prefix(1)
        size = (2 * self.drawn_radius + 9 + growth) * self.node.transforms.pixel_scale
        self._ring.set_style(
            Style(
                axes=self._axes()[:3, :3],
                size=size,
                size_limits=(size, size),
                alpha=alpha,
            )
        )


def _same(first: tuple[Any, Any] | None, second: tuple[Any, Any]) -> bool:
    return first is not None and first[0] == second[0] and first[1] is second[1]


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
