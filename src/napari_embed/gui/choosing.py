"""The controller's half that the user changes: selected, hidden, excluded.

No Qt. Selection and exclusion live in the canvas, which records them in its history;
hidden points and classes live here and are recorded in the same history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import SignalInstance

from napari_embed.gui.coloring import Coloring
from napari_embed.gui.display import DisplaySettings
from napari_embed.gui.history import PackedMask
from napari_embed.gui.state import Message, ViewState
from napari_embed.gui.views import MapView

__all__ = ["Choosing"]

EXCLUDED = "Nothing is deleted. Undo (Ctrl+Z) takes them back in."


class Choosing:
    """Mixin of `Controller`: tools, selection, hiding and exclusion."""

    state: ViewState
    update: Callable[..., None]
    tell: Callable[[Message | None], None]
    selection_changed: SignalInstance
    _ndisplay_changed: Callable[[int], None]
    _follow_excluded: Callable[[], None]
    _tell_undo: Callable[[], None]
    can_decide: bool
    _map: MapView
    _coloring: Coloring | None
    _placed: NDArray[np.bool_]
    _hidden_points: NDArray[np.bool_]
    _hidden_classes: frozenset[int]

    def _follow_map(self) -> None:
        self._map.on_selection = self._selection_changed
        self._map.on_excluded = self._excluded_changed
        self._map.on_removed = self._map_removed
        self._map.on_ndisplay = self._ndisplay_changed
        self._map.on_display = self._display_changed
        self._map.history.changed.connect(self._tell_undo)

    def _map_removed(self) -> None:
        if self.state.projection is not None:
            self.tell(
                Message(
                    "The layer of the map was removed from the viewer.",
                    kept="The project is as it was; only the selection is gone.",
                    action="show_map",
                    action_label="Show the map again",
                )
            )

    # --- tools -------------------------------------------------------------------

    def set_tool(self, tool: str) -> None:
        """Choose what a drag on the canvas does."""
        self._map.set_tool(tool)
        self.update(tool=tool)

    def tool_changed(self, tool: str) -> None:
        """Take note that the canvas chose a tool itself."""
        self.update(tool=tool)

    def set_display(self, **changes: Any) -> None:
        """Change how points look, by the names of `DisplaySettings`."""
        settings = replace(self.state.display, **changes)
        self.update(display=settings)
        self._map.set_display(settings)

    def _display_changed(self, settings: DisplaySettings) -> None:
        self.update(display=settings)

    def set_select_mode(self, how: str) -> None:
        """Choose what a box, lasso or click does: "replace", "add", ..."""
        self._map.set_select_mode(how)
        self.update(select_mode=how)

    # --- selection ---------------------------------------------------------------

    def _selection_changed(self, count: int) -> None:
        self.update(n_selected=int(count))
        self.selection_changed.emit()

    def invert_selection(self) -> None:
        """Select what is not selected."""
        self._map.invert_selection()

    def clear_selection(self) -> None:
        """Select nothing."""
        self._map.clear_selection()

    def fit_selection(self) -> None:
        """Look at the selected points, or at all."""
        self._map.fit_selection()

    def selection(self) -> NDArray[np.bool_]:
        """Return the mask of selected points."""
        return self._map.selection()

    def select(self, what: Any, how: str = "replace") -> None:
        """Select by mask or ids."""
        self._map.select(what, how)

    def select_class(self, code: int, how: str = "replace") -> None:
        """Select the points of one class."""
        if self._coloring is not None and self._coloring.codes.size:
            with self._map.history.step("select a class"):
                self._map.select((self._coloring.codes == code) & self._visible(), how)

    # --- hidden points and classes -----------------------------------------------

    def _visible(self) -> NDArray[np.bool_]:
        visible = self._placed & ~self._hidden_points
        coloring, hidden = self._coloring, self._hidden_classes
        if coloring is None or not hidden:
            return visible
        if coloring.kind == "category":
            shown = np.ones(len(coloring.names) + 1, dtype=bool)
            shown[list(hidden)] = False  # -1, the missing, is the last
            visible &= shown[coloring.codes]
        elif -1 in hidden:
            visible &= ~coloring.missing()
        return visible

    def _push_visible(self) -> None:
        if not self._placed.size:
            return
        visible = self._visible()
        self._map.set_visible(visible)
        self._count_drawn(visible)

    def _count_drawn(self, visible: NDArray[np.bool_]) -> None:
        self.update(n_drawn=int(np.count_nonzero(self._included(visible))))

    def drawn(self) -> NDArray[np.bool_]:
        """Return (n,) which items the map shows now; empty without a map."""
        return self._included(self._visible())

    def _included(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the items of ``mask`` that are not excluded."""
        excluded = self._map.excluded()
        if len(excluded) == len(mask) and excluded.any():
            return mask & ~excluded
        return mask

    def counted(self) -> NDArray[np.bool_]:
        """Return (n,) which items a legend counts: those on the map, hidden or not."""
        return self._included(self._placed)

    def set_hidden_classes(self, codes: Iterable[int]) -> None:
        """Hide exactly these classes; -1 is what has no class or no value."""
        codes = frozenset(codes)
        label = "hide classes" if codes - self._hidden_classes else "show classes"
        self._hide(label, self._hidden_points, codes)

    def hide_selected(self) -> None:
        """Hide the selected points and select nothing."""
        selected = self._map.selection()
        if selected.any():
            with self._map.history.step("hide"):
                points = self._hidden_points | selected
                self._map.clear_selection()
                self._hide("hide", points, self._hidden_classes)

    def isolate_selected(self) -> None:
        """Hide all points that are not selected."""
        selected = self._map.selection()
        if selected.any():
            self._hide("isolate", ~selected, self._hidden_classes)

    def show_all(self) -> None:
        """Show every point and every class; excluded items stay away."""
        none = np.zeros(len(self._placed), dtype=bool)
        self._hide("show all", none, frozenset())

    def _hide(
        self, label: str, points: NDArray[np.bool_], classes: frozenset[int]
    ) -> None:
        """Hide other points and classes, as a step that can be undone."""
        before = self._hidden_classes
        if classes == before and np.array_equal(points, self._hidden_points):
            return
        old, new = PackedMask(self._hidden_points), PackedMask(points)
        # Codes mean something in the column only that gives the colours now.
        codes = None if self._coloring is None else self._coloring.codes

        def put(packed: PackedMask, hidden: frozenset[int]) -> None:
            same = self._coloring is not None and self._coloring.codes is codes
            unpacked = packed.unpack()
            assert unpacked is not None
            self._put_hidden(unpacked, hidden if same else self._hidden_classes)

        self._map.history.record(
            label,
            lambda: put(old, before),
            lambda: put(new, classes),
            nbytes=old.nbytes + new.nbytes,
        )
        self._put_hidden(points, classes)

    def _put_hidden(self, points: NDArray[np.bool_], classes: frozenset[int]) -> None:
        if len(points) == len(self._placed):
            self._hidden_points = points
        self._hidden_classes = classes
        self.update(hidden_classes=classes)
        self._push_visible()

    def excluded(self) -> NDArray[np.bool_]:
        """Return the mask of excluded items, empty without a map."""
        return self._map.excluded()

    # --- exclusion ---------------------------------------------------------------

    def exclude_selected(self) -> None:
        """Take the selected items out of the map; nothing is deleted."""
        self._map.exclude_selected()

    def include_all(self) -> None:
        """Take excluded items back in."""
        self._map.include_all()

    def _excluded_changed(self, count: int) -> None:
        more = count - self.state.n_excluded
        self._count_drawn(self._visible())
        self.update(n_excluded=count)
        self._follow_excluded()
        message = self.state.message
        if more > 0:
            items = "1 item" if more == 1 else f"{more:,} items"
            until = "" if self.can_decide else ", until the project is closed"
            text = f"{items} excluded from the map{until}."
            view = self.state.decisions
            why = f" {view.read_only}" if view is not None and view.read_only else ""
            self.tell(Message(text, kept=EXCLUDED + why))
        elif message is not None and message.kept.startswith(EXCLUDED):
            self.tell(None)
