"""Joins the points layer to napari's canvas (a subclass of its private visual).

Overridden: ``_on_data_change``, ``_on_highlight_change``, ``_update_text``,
``_on_blending_change``, ``_on_canvas_size_limits_change``, ``_on_opacity_change``,
``close``; relied on: ``node``, ``layer``, and that ``_on_matrix_change`` gives the
node's children an identity matrix. :mod:`napari_embed.gui.points.hooks` lists the
model side.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from napari._vispy.layers.points import VispyPointsLayer
from qtpy.QtCore import QTimer
from vispy import gloo
from vispy.scene.visuals import Line
from vispy.visuals.transforms import MatrixTransform

from . import coloring
from .ordering import refine_order
from .styling import Frame, drawn_diameter, frame_style
from .visual import PointCloud, Style

__all__ = ["VispyEmbeddingPoints", "make_visual"]

logger = logging.getLogger(__name__)

MOVING_POINTS = 500_000
MOVING_POINTS_SOFTWARE = 120_000
"""Points drawn while the camera moves, with and without a graphics card."""

MOST_FAILURES = 2
"""Times that buffers and programs are made anew before napari draws the points."""

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
        self._failures = 0
        super().__init__(layer, *args, **kwargs)
        # napari's own visuals stay in the scene unseen: hidden ones cost no programs
        # of the graphics card, which take long to build.
        for visual in self._own_visuals():
            visual.visible = False
        self._line: Any = None
        self._make_clouds()
        self._moving = False
        self._seen_matrix: npt.NDArray[np.float64] | None = None
        self._moving_points: int | None = None
        self._error: Exception | None = None
        self.drawn_radius = 1.0
        self._pulse: tuple[int, float] | None = None
        self._make_timers()
        layer._link = self
        if layer.n_items > MOVING_POINTS_SOFTWARE:
            refine_order(layer)
        self.reset()

    def _own_visuals(self) -> tuple[Any, ...]:
        node = self.node
        markers = (node.points_markers, node.selection_markers)
        return (*markers, node.highlight_lines, node.text)

    def _make_clouds(self) -> None:
        """Make the visual of the points, with nothing uploaded, and no ring yet."""
        self._cloud = PointCloud(parent=self.node)
        self._cloud.transform = MatrixTransform()
        self._cloud.before_draw = self._before_draw
        self._cloud.on_failure = self._on_failure
        self._ring: Any = None
        self._dirty = {"positions", "state", "table"}
        self._uploaded_order: Any = None

    def _make_timers(self) -> None:
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._on_rest)
        self._beat = QTimer()
        self._beat.setInterval(_PULSE_STEP_MS)
        self._beat.timeout.connect(self._on_beat)
        self._repair = QTimer()
        self._repair.setSingleShot(True)
        self._repair.timeout.connect(self._on_repair)

    # -- what the layer calls

    def positions_changed(self) -> None:
        """Upload positions with the next frame."""
        self._mark("positions")

    def order_changed(self) -> None:
        """Upload positions in another order with the next frame, whenever that is."""
        self._dirty.add("positions")

    def state_changed(self) -> None:
        """Upload selection, visibility and colour rows with the next frame."""
        self._mark("state")

    def table_changed(self) -> None:
        """Upload the colour table with the next frame."""
        self._mark("table")

    def display_changed(self) -> None:
        """Use the layer's new :attr:`display` with the next frame."""
        self.update()

    def marks_changed(self) -> None:
        """Draw the ring around the hovered point with the next frame."""
        if self.layer.hovered >= 0:
            self._make_ring()
        self.update()

    def _mark(self, what: str) -> None:
        self._dirty.add(what)
        if self.failed:
            self._feed_napari()
        self.update()

    def update(self) -> None:
        """Ask for a new frame."""
        self.node.update()

    def pulse(self, item: int) -> None:
        """Start a ring around one point that grows and fades."""
        self._make_ring()
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
        if self._cloud is None:
            return
        if self.failed:
            self._feed_napari()
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
        self._repair.stop()
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

    # -- when drawing fails

    @property
    def failed(self) -> bool:
        """Whether napari's own markers draw the points because ours cannot."""
        return self._failures > MOST_FAILURES

    def _on_failure(self, error: Exception) -> None:
        """Take note of an error in the middle of a frame; mend it after the frame."""
        if self._repair.isActive() or self.failed:
            return
        self._error = error
        self._repair.start(0)

    def _on_repair(self) -> None:
        """Start with fresh buffers and programs; when that failed too, use napari's.

        A graphics context that was lost takes all buffers with it; a new context
        only needs them again.
        """
        logger.warning("The points could not be drawn: %s", self._error)
        with_density = self.layer.density != "off"
        if with_density:
            self.layer.density = "off"
            self._tell(
                f"The graphics card could not draw the density ({self._error}): the "
                "points are shown instead."
            )
        else:
            self._failures += 1
        self.draw_outline(None)
        for visual in (self._cloud, self._ring, self._line):
            if visual is not None:
                visual.parent = None
        self._line = None
        self._make_clouds()
        self._on_blending_change()
        if self.failed:
            self._cloud.visible = False
            self._feed_napari()
            self._tell(
                "The graphics card could not draw the points in the fast way "
                f"({self._error}). napari draws them itself now, which is slow above "
                "100,000 points. Selection, colours and project are unharmed; start "
                "napari anew to try again."
            )
        self.update()

    def _tell(self, text: str) -> None:
        """Say what is drawn otherwise than wished, also to users without panels."""
        self.layer.signals.drawing_failed.emit(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _feed_napari(self) -> None:
        """Hand the visible points to napari's own markers."""
        layer = self.layer
        shown = layer.pickable
        rows = slice(None) if shown is None else shown
        at = (layer._xyz[rows] @ self._axes()[:3, :3]).astype(np.float32)
        colors = layer.face_color[rows].copy()
        if layer.n_selected:
            colors[~layer.mask[rows], 3] *= 0.25
        markers = self.node.points_markers
        markers.visible = bool(len(at))
        if len(at):
            markers.set_data(
                at,
                size=layer.point_size * layer.pixel,
                face_color=colors,
                edge_width=0,
                symbol="disc",
            )

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
            if order is not self._uploaded_order:
                self._uploaded_order = order
                self._cloud.set_order(order)
        if "state" in self._dirty:
            selected = layer.mask if layer.n_selected else None
            self._cloud.has_selection = selected is not None
            self._cloud.set_state(layer.coloring.index, selected, layer.pickable)
        if "table" in self._dirty:
            self._cloud.set_table(layer.coloring.table, layer.coloring.shapes)
        self._dirty.clear()

    def _before_draw(self) -> None:
        """Bring the visual up to date; called by it just before it draws."""
        layer = self.layer
        self.upload()
        matrix = self.matrix()
        layer._matrix = matrix
        self._follow_camera(matrix)
        self._cloud.set_prefix(self._prefix())
        self.drawn_radius = drawn_diameter(layer, matrix) / 2
        self._cloud.set_style(frame_style(layer, matrix, self._frame()))
        layer.set_drawn(self._count_drawn())
        self._place_ring()

    def _follow_camera(self, matrix: npt.NDArray[np.float64]) -> None:
        # The first frame counts as a move: a part of the points is there at once.
        moved = self._seen_matrix is None or not np.allclose(
            matrix, self._seen_matrix, rtol=1e-6
        )
        self._seen_matrix = matrix
        if moved and self.layer.n_items > self._budget():
            self._moving = True
            self._rest.start()

    def _budget(self) -> int:
        """Return how many points are drawn while the camera moves."""
        if self.layer.frame_points is not None:
            return self.layer.frame_points
        if self._moving_points is None:
            name = str(gloo.gl.glGetParameter(gloo.gl.GL_RENDERER)).lower()
            software = any(word in name for word in ("llvmpipe", "softpipe", "swrast"))
            self._moving_points = MOVING_POINTS_SOFTWARE if software else MOVING_POINTS
        return self._moving_points

    def _prefix(self) -> int:
        """Return the length of the part of the buffers that this frame draws.

        Hidden points cost little: where many are, a longer part is taken.
        """
        n = self.layer.n_items
        if not self._moving:
            return n
        hidden = n / max(self.layer.n_visible, 1)
        return int(min(self._budget() * min(hidden, 4.0), n))

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

    def _frame(self) -> Frame:
        width, height = (0, 0) if self.node.canvas is None else self.node.canvas.size
        tested = bool(self._cloud._vshare.gl_state.get("depth_test", True))
        return Frame(
            axes=self._axes()[:3, :3],
            background=self._background(),
            pixel_scale=float(self.node.transforms.pixel_scale),
            size=(int(width), int(height)),
            depth_tested=tested,
            n_drawn=self._cloud.n_drawn,
        )

    def _make_ring(self) -> None:
        """Make the ring, between frames: what a frame adds to the scene, it misses."""
        if self._ring is not None:
            return
        self._ring = PointCloud(parent=self.node)
        self._ring.transform = MatrixTransform()
        self._ring.order = 5
        self._ring.set_gl_state("translucent", depth_test=False)
        self._ring.on_failure = self._on_failure

    def _place_ring(self) -> None:
        layer = self.layer
        item, growth, alpha = layer.hovered, 0.0, 0.9
        if self._pulse is not None:
            item = self._pulse[0]
            passed = (time.monotonic() - self._pulse[1]) / _PULSE_S
            growth = 26.0 * abs(np.sin(passed * np.pi * 1.5))
            alpha = max(0.0, 1.0 - passed * 0.6)
        known = 0 <= item < layer.n_items and np.isfinite(layer._xyz[item]).all()
        if self._ring is None:
            return
        self._ring.visible = bool(known)
        if not known:
            return
        tone = 1.0 if self._is_dark() else 0.0
        table = np.full((coloring.TABLE_SIZE, 4), tone, np.float32)
        table[:, 3] = 1
        ring = coloring.SHAPES.index("ring")
        self._ring.set_table(table, np.full(coloring.TABLE_SIZE, ring, np.uint8))
        self._ring.set_positions(layer._xyz[item : item + 1].copy())
        self._ring.set_order(np.zeros(1, np.intp))
        self._ring.set_state(np.zeros(1, np.uint16))
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


def make_visual(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Return our visual of a layer, or napari's own when ours cannot be made.

    napari calls this instead of a class.
    """
    waiting, layer.waiting_visual = layer.waiting_visual, None
    if waiting is not None:
        return waiting
    try:
        return VispyEmbeddingPoints(layer, *args, **kwargs)
    except Exception as error:  # noqa: BLE001 (private classes may fail in any way)
        layer._link = None
        warnings.warn(
            f"The fast points visual failed ({error}); napari draws the points "
            "itself, which is slow above 100,000 points.",
            RuntimeWarning,
            stacklevel=2,
        )
        return VispyPointsLayer(layer, *args, **kwargs)
