"""What the points layer shows and does under the mouse.

Everything is computed from the positions and the 4x4 matrix of the last frame, never
read back from the graphics card.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from napari.layers import Points
from napari.layers.points._points_constants import Mode

from napari_embed.errors import InputError

from . import geometry, tools
from .front import front_mask

__all__ = ["PICK_PIXELS", "Interaction"]

BoolMask = npt.NDArray[np.bool_]

PICK_PIXELS = 5.0
"""How far from the cursor a point may be and still be picked."""


class Interaction:
    """Mixin of :class:`EmbeddingPoints`: picking, box, lasso, tools, status."""

    # -- the point under the cursor

    def describe(self, item: int) -> str:
        """Return what the status bar says about a point."""
        text = f"#{item:,}"
        table = self.features
        columns = list(table.columns)
        if columns:
            column = "label" if "label" in columns else columns[0]
            value = table[column].iloc[item]
            if not pd.isna(value):
                text += f" {value}"
        return text

    def get_value(
        self,
        position: npt.ArrayLike,
        *,
        view_direction: npt.ArrayLike | None = None,
        dims_displayed: list[int] | None = None,
        world: bool = False,
    ) -> int | None:
        """Return the id of the point on the screen at a position, or None."""
        if not self.visible or not self._n:
            return None
        matrix = self.canvas_matrix()
        if matrix is None:
            return Points.get_value(
                self,
                position,
                view_direction=view_direction,
                dims_displayed=dims_displayed,
                world=world,
            )
        at = np.asarray(self.world_to_data(position) if world else position)
        row = np.array([at[-3:][::-1]], dtype=float)
        x, y, _ = geometry.project(row, matrix)
        item = self.pick((x[0], y[0]))
        return None if item < 0 else item

    def get_status(
        self,
        position: npt.ArrayLike | None = None,
        *,
        view_direction: npt.ArrayLike | None = None,
        dims_displayed: list[int] | None = None,
        world: bool = False,
        value: Any = None,
    ) -> dict[str, str]:
        """Return the status bar's text: point under the cursor, number selected.

        napari calls this on its own thread.
        """
        text = ""
        if position is not None:
            value = self.get_value(
                position,
                view_direction=view_direction,
                dims_displayed=dims_displayed,
                world=world,
            )
            self._report_hovered(-1 if value is None else int(value))
            if value is not None:
                text = self.describe(int(value))
        if self.n_selected:
            text += f"{' · ' if text else ''}{self.n_selected:,} selected"
        if drawn := self.drawn_words():
            text += f"{' · ' if text else ''}{drawn}"
        return {
            "layer_name": self.name,
            "layer_base": self.name,
            "source_type": "",
            "plugin": "",
            "coordinates": text,
            "coords": "",
            "value": text,
        }

    @property
    def hovered(self) -> int:
        """Id of the point under the cursor, or -1."""
        return self._hovered

    def _report_hovered(self, item: int) -> None:
        """Pass the point under the cursor on to the main thread, if it is news."""
        if item == self._reported:
            return
        self._reported = item
        weak = weakref.ref(self)

        def deliver() -> None:
            layer = weak()
            if layer is not None:
                layer.set_hovered(item)

        self._relay.post(deliver)

    def set_hovered(self, item: int) -> None:
        """Mark a point as being under the cursor (-1: none)."""
        if item != self._hovered:
            self._hovered = item
            if self._link is not None:
                self._link.marks_changed()
            self.signals.hovered.emit(item)

    def pulse(self, item: int) -> None:
        """Draw the eye to one point with a ring that grows and fades."""
        if not 0 <= item < self._n:
            raise InputError(f"There is no item {item}; ids run to {self._n - 1}.")
        if self._link is not None:
            self._link.pulse(item)

    # -- the screen

    def canvas_matrix(self) -> npt.NDArray[np.float64] | None:
        """Return the 4x4 matrix from x, y, z to canvas pixels, None if not drawn.

        See :func:`napari_embed.gui.points.geometry.project`. Away from the main
        thread the matrix of the last frame is returned.
        """
        main = threading.current_thread() is threading.main_thread()
        if self._link is not None and (main or self._matrix is None):
            self._matrix = self._link.matrix()
        return self._matrix

    def _require_matrix(self) -> npt.NDArray[np.float64]:
        matrix = self.canvas_matrix()
        if matrix is None:
            raise InputError(
                "The points are not drawn in a viewer, so nothing is on the screen."
            )
        return matrix

    def pick(self, cursor: tuple[float, float]) -> int:
        """Return the visible point at a canvas position in pixels, or -1."""
        matrix = self.canvas_matrix()
        if matrix is None:
            return -1
        radius = self._link.drawn_radius if self._link is not None else 1.0
        return geometry.nearest(
            self._xyz,
            matrix,
            cursor,
            pickable=self.pickable,
            drawn_radius=radius,
            reach=PICK_PIXELS,
        )

    def select_box(
        self,
        corner: tuple[float, float],
        opposite: tuple[float, float],
        how: tools.How = "replace",
        *,
        matrix: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Select visible points in a rectangle on the canvas (pixels).

        ``matrix`` is the view meant, :meth:`canvas_matrix` by default.
        """
        matrix = self._require_matrix() if matrix is None else matrix
        inside = geometry.in_box(self._xyz, matrix, corner, opposite)
        with self.history.step("box"):
            self._select_inside(inside, how, matrix)

    def select_lasso(
        self,
        vertices: npt.ArrayLike,
        how: tools.How = "replace",
        *,
        matrix: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Select visible points in a polygon (m, 2) on the canvas (pixels).

        ``matrix`` is the view meant, :meth:`canvas_matrix` by default.
        """
        matrix = self._require_matrix() if matrix is None else matrix
        inside = geometry.in_polygon(self._xyz, matrix, vertices)
        with self.history.step("lasso"):
            self._select_inside(inside, how, matrix)

    def _select_inside(
        self, inside: BoolMask, how: tools.How, matrix: npt.NDArray[np.float64]
    ) -> None:
        if self.pickable is not None:
            inside &= self.pickable
        if self.front_only:
            inside = front_mask(
                self._xyz,
                matrix,
                cell=self.front_cell,
                pickable=self.pickable,
                inside=inside,
            )
        self.select(inside, how=how)

    def fit_view(self) -> None:
        """Zoom the camera to the selected points, or to all if none is."""
        from .camera import fit_camera

        fit_camera(self, self.mask if self.n_selected else None)

    @property
    def drawn(self) -> int:
        """Points in the last frame; fewer than visible while the camera moves."""
        return self._drawn

    def set_drawn(self, n_drawn: int) -> None:
        """Take note of how many points the last frame shows."""
        if n_drawn != self._drawn:
            self._drawn = n_drawn
            self.signals.drawn_changed.emit(n_drawn)

    # -- tools

    @property
    def select_mode(self) -> tools.How:
        """What a box, lasso or click does when no key is held, "replace" at first."""
        return self._select_mode

    @select_mode.setter
    def select_mode(self, how: tools.How) -> None:
        if how not in tools.MODES:
            raise InputError(f"select_mode is {how!r}, expected one of {tools.MODES}.")
        self._select_mode = how

    @property
    def tool(self) -> str:
        """What dragging does: "pan", "box" or "lasso"."""
        return self._tool

    @tool.setter
    def tool(self, tool: str) -> None:
        if tool not in tools.TOOLS:
            raise InputError(f"tool is {tool!r}, expected one of {tools.TOOLS}.")
        if tool != "pan":
            self._last_select_tool = tool
        self._take_tool(tool)
        Points.mode.fset(self, Mode.PAN_ZOOM if tool == "pan" else Mode.SELECT)

    def _take_tool(self, tool: str) -> None:
        if tool != self._tool:
            self._tool = tool
            self.signals.tool_changed.emit(tool)

    @property
    def mode(self) -> str:
        """The mode in napari: select means the box or lasso used last."""
        return Points.mode.fget(self)

    @mode.setter
    def mode(self, mode: Any) -> None:
        if str(mode).lower() == "add":
            self.refuse("added")
            self.events.mode(mode=self.mode)
            return
        Points.mode.fset(self, mode)
        selecting = self.mode == "select"
        self._take_tool(self._last_select_tool if selecting else "pan")

    @property
    def dragging(self) -> bool:
        """Whether a box or lasso is being drawn."""
        return self._dragging

    def begin_drag(self) -> None:
        """Start a box or lasso."""
        self._dragging = True

    def end_drag(self) -> None:
        """Finish a box or lasso and remove its outline."""
        self._dragging = False
        self.draw_outline(None)

    cancel_drag = end_drag

    def draw_outline(self, outline: npt.NDArray[np.float64] | None) -> None:
        """Show a line (m, 2) in canvas pixels, or none."""
        if self._link is not None:
            self._link.draw_outline(outline)
