"""Hear of a window that is about to close, while its layers are still there."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject

__all__ = ["CloseWatcher"]


class CloseWatcher(QObject):
    """Calls ``act`` when ``window`` is asked to close, as long as somebody holds it.

    The window does not own it: that may outlive whoever wants to hear of it.

    Parameters
    ----------
    window
        A window of Qt.
    act
        Called without arguments.
    """

    def __init__(self, window: QObject, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Look at what comes to the window; everything goes on to it."""
        if event is not None and event.type() == QEvent.Type.Close:
            self._act()
        return False
