"""The one place that knows what the window shows. No Qt.

Wishes (open, colour by, hide, start) come in as method calls; they are resolved into a
frozen `ViewState`; panels hear of the change through `Controller.state_changed` and the
canvas gets the differences through its `MapView`. Everything here runs on the main
thread; slow reads go through `Background`, computing through `ComputeQueue`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.errors import EmbedError
from napari_embed.gui.background import Background, call_now
from napari_embed.gui.choosing import Choosing
from napari_embed.gui.compute import Compute
from napari_embed.gui.deciding import Deciding, OpenDecisions
from napari_embed.gui.jobs import ComputeQueue, Engine
from napari_embed.gui.opening import is_project, new_project_path, project_path
from napari_embed.gui.settings import RecentProjects
from napari_embed.gui.showing import Showing
from napari_embed.gui.shown_again import Remembering
from napari_embed.gui.stacks import save_stack, stack_problem
from napari_embed.gui.state import Message, ViewState
from napari_embed.gui.summary import Snapshot, read_snapshot
from napari_embed.gui.thumbnails import Thumbnails
from napari_embed.gui.undoing import Undoing
from napari_embed.gui.views import MapView
from napari_embed.sources import SourceSpec
from napari_embed.sources.objects.crops import object_name

__all__ = ["Controller"]

logger = logging.getLogger(__name__)


def _cause(error: Exception) -> str:
    if isinstance(error, EmbedError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class Controller(Choosing, Deciding, Remembering, Showing, Undoing):
    """State and wishes of one viewer.

    Parameters
    ----------
    map_view
        The canvas.
    engine_factory
        Starts the engine process; called at the first job only.
    open_project
        ``open_project(path)`` returns a project opened for reading.
    open_decisions
        ``open_decisions(project)`` returns its decisions; None keeps none.
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
    alike_wanted = Signal()  # look for what is like the selection
    review_wanted = Signal()  # go through the selected items by keys
    # "compute" or "explore": what comes next; "curate", "keys", "gallery", "image",
    # "objects"
    panel_wanted = Signal(str)

    def __init__(
        self,
        *,
        map_view: MapView,
        engine_factory: Callable[[], Engine],
        open_project: Callable[[Path], Any],
        open_decisions: OpenDecisions | None = None,
        post: Callable[[Callable[[], None]], None] = call_now,
        threaded: bool = True,
        recent: RecentProjects | None = None,
    ) -> None:
        self.state = ViewState()
        self.recent = recent or RecentProjects()
        self._map = map_view
        self._open = open_project
        self._open_decisions = open_decisions
        self._start_deciding()
        self._start_remembering()
        self._background = Background(post, threaded=threaded)
        self._project: Any | None = None
        self._incoming: Any | None = None  # opened, not shown yet
        self._leaving: list[Any] = []  # projects that are being closed
        self._snapshot: Snapshot | None = None
        self._closed = False
        self._tastes = {}
        self._show_nothing()
        self._follow_map()
        self.colors_settled = True  # no column is being read
        self.compute = Compute(self, ComputeQueue(engine_factory, post=post))

    def prepare(self, work: Callable[[], None]) -> None:
        """Do on the reading thread what the first map would have to wait for."""
        self._background.run("prepare", work, _ignore, _ignore)

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
    def open_one(self) -> Any | None:
        """The open project, for readers on other threads."""
        return self._project

    @property
    def snapshot(self) -> Snapshot | None:
        """What was last read of the project."""
        return self._snapshot

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

    def open_stack(self, layer: Any) -> None:
        """Make a project of the images in an image layer and open it.

        The layer's data are written to a file first, on the reading thread.
        """
        problem = stack_problem(layer)
        if problem:
            self.tell(Message(problem, level="warning"))
            return
        if not self._engine_is_free():
            return
        data, name = layer.data, str(layer.name)
        self.update(busy=f"Reading {name}", message=None, opening=None)
        self._background.run(
            "open", lambda: save_stack(data, name), self.open_path, self._not_opened
        )

    def open_sample(self) -> None:
        """Open the project of the bundled sample, made at the first time."""
        self._make(None, project_path(None))

    def open_described(self, spec: SourceSpec) -> bool:
        """Make a new project of a source with options; return whether it began."""
        if not self._engine_is_free():
            return False
        target = new_project_path(spec)
        self.update(busy=f"Reading {target.stem}", message=None, opening=None)
        self.compute.create(spec.location, target, spec=spec)
        return True

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

    def open_project(
        self,
        path: Path,
        *,
        projection: str | None = None,
        told: Message | None = None,
    ) -> None:
        """Open a project for reading on the background thread; then tell ``told``."""
        if not self._engine_is_free():
            return
        self.remember()
        self.update(busy=f"Opening {Path(path).name}", message=None, opening=None)

        def work() -> tuple[Any, Snapshot]:
            project = self._open(Path(path))
            return project, read_snapshot(project)

        self._background.run(
            "open",
            work,
            lambda result: self._opened(*result, projection=projection, told=told),
            self._not_opened,
            dropped=lambda result: result[0].close(),
        )

    def cancel_opening(self) -> None:
        """Stop making or opening a project."""
        self._background.drop("open")
        self._drop_incoming()
        if self.compute.queue.current_stage in ("create", "source"):
            self.compute.queue.cancel()
        self.update(busy="", opening=None)

    def _not_opened(self, error: Exception) -> None:
        self._drop_incoming()
        self.update(busy="", opening=None)
        self.fail(error, kept="Nothing was changed.")

    def _opened(self, project: Any, snapshot: Snapshot, **wish: Any) -> None:
        """Take the former map away; when it is gone show what was opened."""
        self._drop_incoming()
        self._incoming = project
        # A map of the former project must not come in between.
        self._background.drop("projection")
        self._map.leave(
            lambda: self._adopt(project, snapshot, **wish), self._not_opened
        )

    def _drop_incoming(self) -> None:
        """Close a project that was opened and not shown yet."""
        project, self._incoming = self._incoming, None
        if project is not None:
            project.close()

    def _adopt(
        self,
        project: Any,
        snapshot: Snapshot,
        *,
        projection: str | None,
        told: Message | None = None,
    ) -> None:
        self._incoming = None
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
        if told is not None:
            self.tell(told)
        names = [p.name for p in snapshot.info.projections]
        if not projection or projection in names:
            self.panel_wanted.emit("explore" if names else "compute")
        # Behind the release of the former ones: the same project may be opened again.
        self._reopen_decisions(lambda look: self._first_view(look, projection))

    def _captions(self, ids: NDArray[np.int64]) -> list[str]:
        """Return source and class of items, for the status bar."""
        project, coloring = self._project, self._coloring
        if project is None:
            return [""] * len(ids)
        sources = project.items(columns=["source"], rows=ids)["source"].to_pylist()
        texts = [object_name(str(source)) for source in sources]
        if coloring is not None and coloring.codes.size:
            for row, code in enumerate(coloring.codes[ids]):
                if code >= 0:
                    texts[row] += f" ({coloring.names[code]})"
        return texts

    def _release_project(self) -> None:
        self._release_decisions()
        self._nothing_remembered()
        self._map.clear()
        self._map.set_thumbnails(None)
        self._background.drop("projection")
        self._background.drop("column")
        project, self._project, self._snapshot = self._project, None, None
        self._show_nothing()
        kept = {
            "tool": self.state.tool,
            "select_mode": self.state.select_mode,
            "display": self.state.display,
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
            if self._decisions and self._decisions.n_items != snapshot.info.n_items:
                self._reopen_decisions()
            self.update(project=snapshot.info, stages=self.compute.stage_views())
            if show is not None and snapshot.info.projection(show):
                self.show_projection(show)

        self._background.run("refresh", work, done, self.fail)

    def read(
        self,
        topic: str,
        work: Callable[[Any], Any],
        done: Callable[[Any], None],
        *,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Run ``work(project)`` on the reading thread; the newest of a topic wins."""
        project = self._project
        if project is not None:
            self._background.run(
                f"read {topic}", lambda: work(project), done, failed or self.fail
            )

    # --- end ---------------------------------------------------------------------

    def close(self) -> None:
        """End engine, threads and shared memory; the canvas is closed as well."""
        if self._closed:
            return
        self._closed = True
        self._drop_incoming()
        self.compute.close()
        self._background.close()
        self._close_decisions()
        try:
            self._map.close()
        finally:
            for project in (self._project, *self._leaving):
                if project is not None:
                    project.close()
            self._project = None
            self._leaving.clear()


def _ignore(_: object) -> None:
    """Take an answer that nobody waits for."""
