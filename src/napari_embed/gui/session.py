"""One viewer's controller, canvas and timers, shared by all panels of that viewer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from napari_embed.curation.decisions import Decisions
from napari_embed.engine.client import EngineClient
from napari_embed.gui.background import Background
from napari_embed.gui.canvas import NapariMap
from napari_embed.gui.closing import CloseWatcher
from napari_embed.gui.controller import Controller
from napari_embed.gui.docks.style import Colors, theme_colors
from napari_embed.gui.exports import Exports
from napari_embed.gui.gallery.hover import HoverPreview
from napari_embed.gui.keys import bind_keys
from napari_embed.gui.review import Review
from napari_embed.gui.searches import Searches
from napari_embed.gui.state import Message, ViewState
from napari_embed.project import Project

__all__ = ["ViewerSession", "close_session", "session_for"]

logger = logging.getLogger(__name__)
LIVE_MS, LIVE_MOST_MS = 60, 2000
REMEMBER_MS = 5000
_sessions: dict[int, ViewerSession] = {}


class _Mailbox(QObject):
    """Carries callables from any thread to the main thread by a queued signal."""

    arrived = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.open = True
        self.arrived.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the main thread soon."""
        if self.open:
            self.arrived.emit(call)

    def _run(self, call: Callable[[], None]) -> None:
        if self.open:
            call()


class ViewerSession(QObject):
    """Everything of this plugin that belongs to one viewer.

    Ends with the viewer's window: engine process, timers, threads and shared memory.
    """

    theme_changed = Signal(object)  # Colors
    hover_changed = Signal(bool)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self._mailbox = _Mailbox()
        self.map = NapariMap(viewer)
        self.controller = Controller(
            map_view=self.map,
            engine_factory=_start_engine,
            open_project=_open_for_reading,
            open_decisions=_open_decisions,
            post=self._mailbox.post,
        )
        self.searches = Searches(self.controller, _side_engine, self._mailbox.post)
        self.controller.remember_also(
            "filters", self.searches.plain_query, self.searches.put_query
        )
        self.exports = Exports(
            self.controller, self.searches, _side_engine, self._mailbox.post
        )
        self.controller.alike_wanted.connect(self.searches.alike)
        self.review = Review(self.controller)
        self.controller.review_wanted.connect(self.review_selected)
        self.map.on_tool = self.controller.tool_changed
        self.map.link_changed.connect(self._follow_link)
        self.map.layer_added.connect(self._layer_added)
        self.map.drawing_failed.connect(self._drawing_failed)
        self._title = viewer.title
        self.controller.state_changed.connect(self._name_window)
        self._due = 0.0  # when the next poll is to be, in seconds
        self.controller.panel_wanted.connect(self._open_panel)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._poll)
        self.controller.state_changed.connect(self._watch_live)
        # A window that is killed loses no more than that of its look.
        self._remember = QTimer(self)
        self._remember.timeout.connect(self.controller.remember)
        self._remember.start(REMEMBER_MS)
        viewer.events.theme.connect(self._theme)
        window = getattr(getattr(viewer, "window", None), "_qt_window", None)
        self._hover: HoverPreview | None = None
        if window is not None:
            self._hover = HoverPreview(self.map, window, self.colors)
        self._closing: CloseWatcher | None = None
        if window is not None:
            self._closing = CloseWatcher(
                window, lambda: self.controller.remember(now=True)
            )
        self._unwatch = _when_window_goes(viewer, self.close)
        self.controller.prepare(_load_what_layers_need)

    @property
    def colors(self) -> Colors:
        """The panel colours of the viewer's theme."""
        return theme_colors(get_theme(self.viewer.theme))

    def background(self) -> Background:
        """Return a thread of its own for a window that reads; close it with that."""
        return Background(self._mailbox.post)

    def _layer_added(self, layer: Any) -> None:
        bind_keys(layer, self.controller)

    def _drawing_failed(self, text: str) -> None:
        self.controller.tell(Message(text, level="warning"))

    def _open_panel(self, name: str) -> None:
        """Open the panels that are docks of their own."""
        if name == "gallery":
            # They import this module.
            from napari_embed.gui.docks.gallery import open_gallery

            open_gallery(self.viewer).view.setFocus()
        elif name == "objects":
            from napari_embed.gui.docks.objects import open_objects

            open_objects(self.viewer)

    def _follow_link(self) -> None:
        link = self.map.link
        if link is not None:
            link.image_opened.connect(self.open_image)

    def open_image(self, item: int) -> None:
        """Show the image of an item at full size."""
        from napari_embed.gui.docks.image import open_image

        open_image(self.viewer).show_item(item)

    def review_selected(self) -> None:
        """Go through the selected items by keys, in the order of the gallery."""
        link = self.map.link
        self.review_items(link.ids if link is not None else np.zeros(0, np.int64))

    def review_items(self, ids: NDArray[np.int64]) -> None:
        """Go through items by keys, from where it was left."""
        from napari_embed.gui.docks.review import open_review

        if self.review.start(ids):
            open_review(self.viewer)

    @property
    def hover_shown(self) -> bool:
        """Whether the picture of the point under the cursor is shown."""
        return self._hover is not None and self._hover.enabled

    def show_hover(self, shown: bool) -> None:
        """Show pictures at the cursor, or none."""
        if self._hover is not None:
            self._hover.enabled = shown
            self.hover_changed.emit(shown)

    def _name_window(self, new: ViewState, old: ViewState) -> None:
        """Put the project's name into the title, unless the user has changed it."""
        if new.project == old.project or self.viewer.title != self._title:
            return
        self._title = f"{new.project.name} - napari" if new.project else "napari"
        self.viewer.title = self._title

    def _theme(self, event: Any = None) -> None:
        if self._hover is not None:
            self._hover.set_colors(self.colors)
        self.theme_changed.emit(self.colors)

    def _watch_live(self, new: ViewState, old: ViewState) -> None:
        if self.controller.compute.live and not self._timer.isActive():
            self._due = time.monotonic() + LIVE_MS / 1000
            self._timer.start(LIVE_MS)

    def _poll(self) -> None:
        # Drawing the map before has made this poll late; with its preparation it may
        # take at most half of the time, whatever the number of points.
        late_ms = 1000 * (time.monotonic() - self._due)
        started = time.thread_time()
        self.controller.compute.poll_live()
        spent_ms = 1000 * (time.thread_time() - started)
        if self.controller.compute.live:
            wait_ms = round(np.clip(spent_ms + late_ms, LIVE_MS, LIVE_MOST_MS))
            self._due = time.monotonic() + wait_ms / 1000
            self._timer.start(wait_ms)

    def close(self) -> None:
        """End everything; safe to call twice."""
        if _sessions.get(id(self.viewer)) is self:
            del _sessions[id(self.viewer)]
        if not self._mailbox.open:
            return
        self._mailbox.open = False
        self._unwatch()
        self.searches.close()
        self.exports.close()
        self.review.leave()
        self.controller.close()
        self._timer.stop()
        self._remember.stop()
        self._closing = None
        if self._hover is not None:
            self._hover.close()
            self._hover = None
        self.viewer.events.theme.disconnect(self._theme)


def _start_engine() -> EngineClient:
    client = EngineClient()
    client.start()
    return client


def _side_engine() -> EngineClient:
    return EngineClient()


def _load_what_layers_need() -> None:
    """Load what napari loads at its first 3D layer, seconds on a slow machine.

    Done on the reading thread, so that the window does not stand still for it.
    """
    import pint
    import scipy.spatial.transform  # noqa: F401

    getattr(pint.get_application_registry(), "pixel", None)


def _open_for_reading(path: Path) -> Project:
    return Project.open(path, mode="r")


def _open_decisions(project: Project) -> Decisions:
    return Decisions.open(project)


def _when_window_goes(viewer: Any, act: Callable[[], None]) -> Callable[[], None]:
    """Call ``act`` when the viewer's window is gone or the program ends."""
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    application = QCoreApplication.instance()

    def go(*_: Any) -> None:
        try:
            act()
        except RuntimeError:
            # When the program ends Qt may have deleted its own objects already; what
            # must not be lost is closed before anything of Qt's is touched.
            logger.debug("Qt's objects were gone already", exc_info=True)

    watched = [] if window is None else [window.destroyed]
    watched += [] if application is None else [application.aboutToQuit]
    for signal in watched:
        signal.connect(go)

    def unwatch() -> None:
        # A window keeps what is connected to it, and through it the whole session.
        for signal in watched:
            try:
                signal.disconnect(go)
            except (RuntimeError, TypeError):
                logger.debug("the window or the application is gone already")

    return unwatch


def _unwrapped(viewer: Any) -> Any:
    """Return the viewer itself; plugins are handed a proxy without private names."""
    return getattr(viewer, "__wrapped__", viewer)


def session_for(viewer: Any) -> ViewerSession:
    """Return the session of ``viewer``, made at the first time."""
    viewer = _unwrapped(viewer)
    session = _sessions.get(id(viewer))
    if session is None:
        session = _sessions[id(viewer)] = ViewerSession(viewer)
    return session


def close_session(viewer: Any) -> None:
    """End the session of ``viewer`` if it has one."""
    session = _sessions.get(id(_unwrapped(viewer)))
    if session is not None:
        session.close()
