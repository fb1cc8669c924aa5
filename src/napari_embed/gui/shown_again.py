"""The controller's half that remembers: the last look, named views and selections.

No Qt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.errors import EmbedError
from napari_embed.gui.background import Background
from napari_embed.gui.coloring import Coloring
from napari_embed.gui.state import Message, ViewState
from napari_embed.gui.views import MapView
from napari_embed.gui.window_view import WindowView

__all__ = ["Remembering"]


class Remembering:
    """Mixin of `Controller`: what the window looks like lasts in the project."""

    state: ViewState
    update: Callable[..., None]
    fail: Callable[..., None]
    tell: Callable[[Message | None], None]
    decide: Callable[..., None]
    select: Callable[..., None]
    color_by: Callable[[str | None], None]
    show_projection: Callable[[str], None]
    set_display: Callable[..., None]
    can_decide: bool
    _put_hidden: Callable[[NDArray[np.bool_], frozenset[int]], None]
    _taste: Callable[[str | None], Any]
    _wants_items: Callable[[NDArray[np.int64], str], bool]
    _chosen: Callable[..., NDArray[np.int64]]
    _color_by_default: Callable[[], None]
    _map: MapView
    _background: Background
    _decisions: Decisions | None
    _coloring: Coloring | None
    _hidden_classes: frozenset[int]
    _hidden_points: NDArray[np.bool_]
    _shown_live: bool
    _project: Any | None

    def _start_remembering(self) -> None:
        self.remembers = True
        """Whether the last look is kept; not for a program that makes pictures."""
        self._nothing_remembered()
        # Further parts of the window, by name: how to read and to put them.
        self._parts: dict[
            str, tuple[Callable[[], Any], Callable[[Mapping[str, Any]], None]]
        ] = {}

    def _nothing_remembered(self) -> None:
        self._coming: WindowView | None = None  # its map is not shown yet
        self._coming_colors: WindowView | None = None
        self._remembered: tuple[Any, ...] | None = None

    def remember_also(
        self,
        name: str,
        read: Callable[[], Any],
        put: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Remember plain values of another part of the window under a name."""
        self._parts[name] = (read, put)

    # --- the look --------------------------------------------------------------------

    def window_view(self) -> WindowView:
        """Return what the window shows now."""
        state, coloring = self.state, self._coloring
        names: tuple[str, ...] = coloring.names if coloring is not None else ()
        hidden = {names[c] if c >= 0 else None for c in self._hidden_classes}
        return WindowView(
            projection=state.projection.name if state.projection else None,
            ndisplay=state.ndisplay,
            camera=self._map.stand(),
            column=state.color_column,
            colormap=state.colormap,
            limits=self._taste(state.color_column).limits,
            class_colors=dict(self._taste(state.color_column).colors),
            hidden=frozenset(hidden),
            hidden_points=np.flatnonzero(self._hidden_points),
            selection=np.flatnonzero(self._map.selection()),
            page=self._map.page(),
            display=state.display,
        )

    def remember(self, *, now: bool = False) -> None:
        """Keep what the window looks like, where that has changed.

        ``now`` waits for the disk, for a window that is about to go.
        """
        kept, decisions = self._look_to_keep(), self._decisions
        if kept is None or decisions is None:
            return
        if now:
            with contextlib.suppress(EmbedError):  # the look of before holds
                decisions.remember(kept())
            return
        self._background.run(
            "remember", lambda: decisions.remember(kept()), _nothing, _nothing
        )

    def _look_to_keep(self) -> Callable[[], dict[str, Any]] | None:
        """Return what makes plain values of the look, None if it is kept already."""
        shown = self.state.projection
        if (
            not (self.remembers and self.can_decide)
            or shown is None
            or self._shown_live
            # Somebody has taken the layer away, with the selection.
            or len(self._map.selection()) != len(self._hidden_points)
            or self._coming is not None
            or self._coming_colors is not None
        ):
            return None
        view = self.window_view()
        parts = {name: read() for name, (read, _) in self._parts.items()}
        mark = (
            replace(view, hidden_points=_EMPTY, selection=None).to_dict(),
            view.hidden_points.tobytes(),
            view.selection.tobytes() if view.selection is not None else b"",
            parts,
        )
        if mark == self._remembered:
            return None
        self._remembered = mark
        return lambda: view.to_dict() | {"parts": parts}

    def _first_view(
        self, remembered: Mapping[str, Any], projection: str | None
    ) -> None:
        """Show a project that was just opened as it was left, or all of it."""
        info = self.state.project
        if info is None:
            return
        names = [p.name for p in info.projections]
        view = WindowView.from_dict(remembered, info.n_items) if names else None
        if view is not None and projection not in (None, view.projection):
            view = replace(view, projection=projection, camera=None)
        parts = remembered.get("parts")
        if isinstance(parts, dict):
            for name, (_, put) in self._parts.items():
                if isinstance(parts.get(name), dict):
                    put(parts[name])
        if projection and projection not in names:
            known = ", ".join(names) or "none yet"
            text = f"This project has no map called {projection}. It has: {known}."
            self.tell(Message(text, level="error"))
            self._color_by_default()
        elif view is not None:
            self.show_view(view)
        else:
            self._color_by_default()
            if names:
                self.show_projection(projection or names[0])

    def show_view(self, view: WindowView) -> None:
        """Let the window look like that, as far as the project has what it names."""
        info, shown = self.state.project, self.state.projection
        if info is None or not info.projections:
            return
        names = [p.name for p in info.projections]
        if view.projection not in names:
            view = replace(view, projection=names[0], camera=None)
        columns = [c.name for c in self.state.columns]
        column = view.column if view.column in columns else None
        if view.column is not None and column is None:
            self._color_by_default()
        else:
            taste = self._taste(column)
            taste.limits = view.limits
            taste.colors.clear()
            taste.colors.update(view.class_colors)
            self.update(colormap=view.colormap)
            self._coming_colors = view
            self.color_by(column)
        if view.display != self.state.display:
            self.set_display(**vars(view.display))
        self._coming = view
        if shown is not None and shown.name == view.projection:
            self._restore_map()
        else:
            self.show_projection(str(view.projection))

    def _restore_colors(self) -> None:
        """Hide the classes again, once the column has been read."""
        view, self._coming_colors = self._coming_colors, None
        coloring = self._coloring
        if view is None or coloring is None or view.column != self.state.color_column:
            return
        codes = {name: code for code, name in enumerate(coloring.names)}
        wanted = {-1 if name is None else codes.get(name) for name in view.hidden}
        self._put_hidden(
            self._hidden_points, frozenset(c for c in wanted if c is not None)
        )

    def _restore_map(self) -> None:
        """Put hidden points, selection, camera and page as they were."""
        view, self._coming = self._coming, None
        shown = self.state.projection
        if view is None or shown is None or shown.name != view.projection:
            return
        hidden = np.zeros(len(self._hidden_points), bool)
        hidden[view.hidden_points] = True
        self._put_hidden(hidden, self._hidden_classes)
        with self._map.history.paused():
            if view.selection is not None:
                self.select(view.selection)
        if view.ndisplay == 2 and shown.n_components == 3:
            self._map.set_ndisplay(2)
            self.update(ndisplay=2)
        if view.page is not None:
            self._map.turn_to(view.page)
        if view.camera is not None:
            self._map.look_from(view.camera)

    # --- with a name -----------------------------------------------------------------

    def save_view(self, name: str) -> None:
        """Keep map, camera, colours and what is hidden under a name."""
        if self.state.projection is None:
            self.tell(Message("There is no map to keep a view of yet."))
        elif name.strip():
            view = self.window_view().without_selection()
            self.decide(lambda d: d.save_view(name, view.to_dict()))

    def apply_view(self, name: str) -> None:
        """Look as under that name."""

        def done(view: WindowView | None) -> None:
            if view is not None:
                self.show_view(view)

        self._look_up(lambda d: WindowView.from_dict(d.view(name), d.n_items), done)

    def save_selection(self, name: str) -> None:
        """Keep the selection under a name."""
        items = self._chosen()
        if name.strip() and self._wants_items(items, "keep"):
            self.decide(lambda d: d.save_selection(name, items))

    def apply_selection(self, name: str) -> None:
        """Select what was kept under a name."""
        self._look_up(lambda d: d.selection(name), self.select)

    def _look_up(
        self, read: Callable[[Decisions], Any], done: Callable[[Any], None]
    ) -> None:
        decisions = self._decisions
        if decisions is not None:
            self._background.run("named", lambda: read(decisions), done, self.fail)

    def rename_saved(self, kind: str, name: str, new_name: str) -> None:
        """Give a kept "selection" or "view" another name."""
        self.decide(lambda d: getattr(d, f"rename_{kind}")(name, new_name))

    def delete_saved(self, kind: str, name: str) -> None:
        """Forget a kept "selection" or "view"; undo brings it back."""
        self.decide(lambda d: getattr(d, f"delete_{kind}")(name))


_EMPTY = np.zeros(0, np.int64)


def _nothing(_: object) -> None:
    """Take an answer that nobody waits for."""
