"""The one place that knows what the window shows. No Qt.

Wishes (open, colour by, hide, start) come in as method calls; they are resolved into a
frozen `ViewState`; panels hear of the change through `Controller.state_changed` and the
canvas gets the differences through its `MapView`. Everything here runs on the main
thread; slow reads go through `Background`, computing through `ComputeQueue`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.errors import EmbedError
from napari_embed.gui.background import Background, call_now
from napari_embed.gui.coloring import Coloring, read_coloring
from napari_embed.gui.compute import Compute
from napari_embed.gui.jobs import ComputeQueue, Engine
from napari_embed.gui.opening import is_project, project_path
from napari_embed.gui.settings import RecentProjects
from napari_embed.gui.state import Message, ProjectionInfo, ViewState
from napari_embed.gui.summary import Snapshot, read_snapshot
from napari_embed.gui.thumbnails import Thumbnails
from napari_embed.gui.views import MapView

__all__ = ["Controller"]

logger = logging.getLogger(__name__)


def _cause(error: Exception) -> str:
    if isinstance(error, EmbedError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class Controller:
    """State and wishes of one viewer.

    Parameters
    ----------
    map_view
        The canvas.
    engine_factory
        Starts the engine process; called at the first job only.
    open_project
        ``open_project(path)`` returns a project opened for reading.
    post
        Hands a callable to the main thread.
    threaded
        False reads in the call itself, for tests without an event loop.
    recent
        The remembered projects.
    """

    state_changed = Signal(object, object)  # new, old
    kl_reported = Signal(int, float)  # iteration, KL divergence; (0, nan) starts anew
    selection_changed = Signal()
    panel_wanted = Signal(str)  # "compute" or "explore": what comes next; "keys"

    def __init__(
        self,
        *,
        map_view: MapView,
        engine_factory: Callable[[], Engine],
        open_project: Callable[[Path], Any],
        post: Callable[[Callable[[], None]], None] = call_now,
        threaded: bool = True,
        recent: RecentProjects | None = None,
    ) -> None:
        self.state = ViewState()
        self.recent = recent or RecentProjects()
        self._map = map_view
        self._map.on_selection = self._selection_changed
        self._open = open_project
        self._background = Background(post, threaded=threaded)
        self._project: Any | None = None
        self._leaving: list[Any] = []  # projects that are being closed
        self._snapshot: Snapshot | None = None
        self._placed = np.zeros(0, dtype=bool)
        self._hidden_points = np.zeros(0, dtype=bool)
        self._hidden_classes: frozenset[int] = frozenset()
        self._coloring: Coloring | None = None
        self._shown_live = False
        self._closed = False
        self.colors_settled = True  # no column is being read
        self.compute = Compute(self, ComputeQueue(engine_factory, post=post))

    # --- state -----------------------------------------------------------------

    def update(self, **changes: Any) -> None:
        """Replace parts of the state and tell the panels when something differs."""
        new = replace(self.state, **changes)
        if new != self.state and not self._closed:
            old, self.state = self.state, new
            self.state_changed.emit(new, old)

    def tell(self, message: Message | None) -> None:
        """Show a message in the panels, or take it away."""
        self.update(message=message)

    def fail(self, error: Exception, *, kept: str = "") -> None:
        """Show what went wrong."""
        logger.info("Shown to the user: %s", error)
        self.tell(Message(_cause(error), kept=kept, level="error"))

    @property
    def snapshot(self) -> Snapshot | None:
        """What was last read of the project."""
        return self._snapshot

    @property
    def coloring(self) -> Coloring | None:
        """The colours in use."""
        return self._coloring

    # --- project ---------------------------------------------------------------

    def open_path(self, path: str | Path, *, projection: str | None = None) -> None:
        """Open a project, or make one of a folder, array or table and open that."""
        path = Path(path).expanduser()
        if is_project(path):
            self.open_project(path, projection=projection)
            return
        try:
            target = project_path(path)
        except EmbedError as error:
            self.fail(error)
            return
        self._make(path, target)

    def open_sample(self) -> None:
        """Open the project of the bundled sample, made at the first time."""
        self._make(None, project_path(None))

    def _make(self, source: Path | None, target: Path) -> None:
        if is_project(target):
            self.open_project(target)
        elif not self._engine_is_free():
            return
        else:
            name = target.stem
            self.update(busy=f"Reading {name}", message=None, opening=None)
            self.compute.create(source, target)

    def _engine_is_free(self) -> bool:
        if not self.compute.queue.busy:
            return True
        self.tell(
            Message(
                "A computation is running in the open project.",
                kept="Cancel it first; finished work is kept.",
                level="warning",
            )
        )
        return False

    def open_project(self, path: Path, *, projection: str | None = None) -> None:
        """Open a project for reading on the background thread."""
        if not self._engine_is_free():
            return
        self.update(busy=f"Opening {Path(path).name}", message=None, opening=None)

        def work() -> tuple[Any, Snapshot]:
            project = self._open(Path(path))
            return project, read_snapshot(project)

        self._background.run(
            "open",
            work,
            lambda result: self._opened(*result, projection=projection),
            self._not_opened,
            dropped=lambda result: result[0].close(),
        )

    def cancel_opening(self) -> None:
        """Stop making or opening a project."""
        self._background.drop("open")
        if self.compute.queue.current_stage == "create":
            self.compute.queue.cancel()
        self.update(busy="", opening=None)

    def _not_opened(self, error: Exception) -> None:
        self.update(busy="", opening=None)
        self.fail(error, kept="Nothing was changed.")

    def _opened(
        self, project: Any, snapshot: Snapshot, *, projection: str | None
    ) -> None:
        self._release_project()
        self._project, self._snapshot = project, snapshot
        self.recent.add(snapshot.info.path)
        self.compute.adopt(snapshot)
        self._map.set_thumbnails(
            Thumbnails(project) if snapshot.info.has_images else None,
            self._captions,
        )
        self.update(
            project=snapshot.info,
            stages=self.compute.stage_views(),
            settings=self.compute.settings,
            busy="",
            opening=None,
            message=None,
        )
        self._color_by_default()
        names = [p.name for p in snapshot.info.projections]
        if projection and projection not in names:
            known = ", ".join(names) or "none yet"
            text = f"This project has no map called {projection}. It has: {known}."
            self.tell(Message(text, level="error"))
        elif names:
            self.show_projection(projection or names[0])
            self.panel_wanted.emit("explore")
        else:
            self.panel_wanted.emit("compute")

    def _captions(self, ids: NDArray[np.int64]) -> list[str]:
        """Return source and class of items, for the status bar."""
        project, coloring = self._project, self._coloring
        if project is None:
            return [""] * len(ids)
        sources = project.items(columns=["source"], rows=ids)["source"].to_pylist()
        texts = [str(source) for source in sources]
        if coloring is not None and coloring.codes.size:
            for row, code in enumerate(coloring.codes[ids]):
                if code >= 0:
                    texts[row] += f" ({coloring.names[code]})"
        return texts

    def _release_project(self) -> None:
        self._map.clear()
        self._map.set_thumbnails(None)
        self._background.drop("projection")
        self._background.drop("column")
        project, self._project, self._snapshot = self._project, None, None
        self._coloring = None
        self._hidden_classes = frozenset()
        self._placed = self._hidden_points = np.zeros(0, dtype=bool)
        self._shown_live = False
        kept = {
            "tool": self.state.tool,
            "busy": self.state.busy,
            "settings": self.state.settings,
            "device": self.state.device,
        }
        self.update(**(vars(ViewState()) | kept))
        if project is not None:
            # On the reading thread: a read that is under way ends first.
            self._leaving.append(project)
            self._background.run(
                f"release {id(project)}",
                project.close,
                lambda _: self._leaving.remove(project),
                _ignore,
            )

    def refresh(self, *, show: str | None = None) -> None:
        """Read the project anew after it grew; then show the map ``show``."""
        project = self._project
        if project is None:
            return

        def work() -> Snapshot:
            project.refresh()
            return read_snapshot(project)

        def done(snapshot: Snapshot) -> None:
            self._snapshot = snapshot
            self.update(project=snapshot.info, stages=self.compute.stage_views())
            if show is not None and snapshot.info.projection(show):
                self.show_projection(show)

        self._background.run("refresh", work, done, self.fail)

    # --- map -------------------------------------------------------------------

    def show_projection(self, name: str) -> None:
        """Put the map called ``name`` on the canvas."""
        project, info = self._project, self.state.project
        chosen = info.projection(name) if info else None
        if project is None or chosen is None:
            return

        def done(result: Any) -> None:
            self._show(result.positions, chosen)

        self._background.run(
            "projection", lambda: project.read_projection(name), done, self.fail
        )

    def _show(self, positions: NDArray[np.float32], info: ProjectionInfo) -> None:
        placed = np.isfinite(positions).all(axis=1)
        seamless = self._shown_live and self._same_layout(positions, info)
        self._shown_live = False
        self._placed = placed
        if len(self._hidden_points) != len(placed):
            self._hidden_points = np.zeros(len(placed), dtype=bool)
        if seamless:
            self._map.update_positions(positions)
        else:
            self._map.show(positions, name=info.name, n_components=info.n_components)
            self._push_colors()
        self._push_visible()
        self.update(
            projection=info,
            data_version=self.state.data_version + 1,
            n_loaded=int(placed.sum()),
            n_selected=int(self._map.selection().sum()),
        )

    def _same_layout(
        self, positions: NDArray[np.float32], info: ProjectionInfo
    ) -> bool:
        shown = self.state.projection
        return (
            shown is not None
            and shown.n_components == info.n_components
            and shown.name == info.name
            and len(self._placed) == len(positions)
        )

    def show_live(self, positions: NDArray[np.float32], name: str) -> None:
        """Show positions that are still being computed."""
        d = positions.shape[1]
        info = ProjectionInfo(name, d, name)
        if self._shown_live and self._same_layout(positions, info):
            self._map.update_positions(positions)
            self.update(data_version=self.state.data_version + 1)
        else:
            self._show(positions, info)
            self._shown_live = True

    def drop_live(self, before: ProjectionInfo | None) -> None:
        """Go back to the map ``before``; without one keep the unfinished in view."""
        shown = self.state.projection
        if not self._shown_live or shown is None:
            return
        if before is not None and self.state.project is not None:
            stored = self.state.project.projection(before.name)
            if stored is not None:
                self.show_projection(stored.name)
                return
        self.update(projection=replace(shown, title=f"{shown.name}, not saved"))

    # --- colours and classes -----------------------------------------------------

    def _color_by_default(self) -> None:
        columns = self.state.project.columns if self.state.project else ()
        label = next((c.name for c in columns if c.name == "label"), None)
        self.color_by(label)

    def color_by(self, column: str | None) -> None:
        """Colour the points by a column of the items table; None gives one colour."""
        project, info = self._project, self.state.project
        if project is None or info is None:
            return
        self.colors_settled = False
        chosen = next((c for c in info.columns if c.name == column), None)
        if chosen is None:
            self._background.drop("column")
            self._colored(None, None)
            return

        def done(coloring: Coloring) -> None:
            # A label column without any label colours nothing.
            empty = coloring.kind == "category" and not coloring.names
            self._colored(None if empty else chosen.name, None if empty else coloring)

        def failed(error: Exception) -> None:
            self.colors_settled = True
            self.fail(error)

        self._background.run(
            "column",
            lambda: read_coloring(project, chosen),
            done,
            failed,
        )

    def _colored(self, column: str | None, coloring: Coloring | None) -> None:
        self.colors_settled = True
        self._coloring = coloring
        self._hidden_classes = frozenset()
        kind = coloring.kind if coloring else "none"
        self.update(
            color_column=column,
            color_kind=kind,
            color_limits=coloring.limits if coloring else (0.0, 1.0),
            hidden_classes=frozenset(),
        )
        self._push_colors()
        self._push_visible()

    def set_colormap(self, name: str) -> None:
        """Choose the colours of numbers."""
        self.update(colormap=name)
        self._push_colors()

    def _push_colors(self) -> None:
        if not self._placed.size:
            return
        coloring = self._coloring
        if coloring is None:
            self._map.color_plain()
        elif coloring.kind == "category":
            self._map.color_by_categories(
                coloring.codes,
                coloring.palette,
                column=self.state.color_column or "",
                names=coloring.names,
            )
        else:
            self._map.color_by_values(
                coloring.values, self.state.colormap, coloring.limits
            )

    def set_hidden_classes(self, codes: Iterable[int]) -> None:
        """Hide exactly these classes."""
        self._hidden_classes = frozenset(codes)
        self.update(hidden_classes=self._hidden_classes)
        self._push_visible()

    def set_class_color(self, code: int, rgba: Sequence[float]) -> None:
        """Give a class another colour (RGBA in 0..1)."""
        if self._coloring is None or not 0 <= code < len(self._coloring.palette):
            return
        palette = self._coloring.palette.copy()
        palette[code] = rgba
        self._coloring = replace(self._coloring, palette=palette)
        self._push_colors()

    def select_class(self, code: int, how: str = "replace") -> None:
        """Select the points of one class."""
        if self._coloring is not None and self._coloring.codes.size:
            self._map.select((self._coloring.codes == code) & self._visible(), how)

    def _visible(self) -> NDArray[np.bool_]:
        visible = self._placed & ~self._hidden_points
        coloring = self._coloring
        if coloring is not None and self._hidden_classes and coloring.codes.size:
            visible &= ~np.isin(coloring.codes, list(self._hidden_classes))
        return visible

    def _push_visible(self) -> None:
        if not self._placed.size:
            return
        visible = self._visible()
        self._map.set_visible(visible)
        self.update(n_drawn=int(visible.sum()))

    # --- selection ---------------------------------------------------------------

    def _selection_changed(self, count: int) -> None:
        self.update(n_selected=int(count))
        self.selection_changed.emit()

    def set_tool(self, tool: str) -> None:
        """Choose what a drag on the canvas does."""
        self._map.set_tool(tool)
        self.update(tool=tool)

    def tool_changed(self, tool: str) -> None:
        """Take note that the canvas chose a tool itself."""
        self.update(tool=tool)

    def invert_selection(self) -> None:
        """Select what is not selected."""
        self._map.invert_selection()

    def clear_selection(self) -> None:
        """Select nothing."""
        self._map.clear_selection()

    def fit_selection(self) -> None:
        """Look at the selected points, or at all."""
        self._map.fit_selection()

    def hide_selected(self) -> None:
        """Hide the selected points and select nothing."""
        selected = self._map.selection()
        if selected.any():
            self._hidden_points = self._hidden_points | selected
            self._map.clear_selection()
            self._push_visible()

    def isolate_selected(self) -> None:
        """Hide all points that are not selected."""
        selected = self._map.selection()
        if selected.any():
            self._hidden_points = ~selected
            self._push_visible()

    def show_all(self) -> None:
        """Show every point and every class."""
        self._hidden_points = np.zeros(len(self._placed), dtype=bool)
        self.set_hidden_classes(())

    def selection(self) -> NDArray[np.bool_]:
        """Return the mask of selected points."""
        return self._map.selection()

    def select(self, what: Any, how: str = "replace") -> None:
        """Select by mask or ids."""
        self._map.select(what, how)

    # --- end ---------------------------------------------------------------------

    def close(self) -> None:
        """End engine, threads and shared memory; the canvas is closed as well."""
        if self._closed:
            return
        self._closed = True
        self.compute.close()
        self._background.close()
        self._map.close()
        for project in (self._project, *self._leaving):
            if project is not None:
                project.close()
        self._project = None
        self._leaving.clear()


def _ignore(_: object) -> None:
    """Take an answer that nobody waits for."""
