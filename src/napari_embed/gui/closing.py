"""Hear of a window that is about to close, while its layers are still there."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject

__all__ = ["CloseWatcher"]


class CloseWatcher(QObject):
    """Calls ``act`` when ``window`` is asked to close; lives as long as that.

    Parameters
    ----------
    window
        A window of Qt.
    act
        Called without arguments.
    """

    def __init__(self, window: QObject, act: Callable[[], None]) -> None:
        super().__init__(window)
        self._act: Callable[[], None] | None = act
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Look at what comes to the window; everything goes on to it."""
        closing = event is not None and event.type() == QEvent.Type.Close
        if closing and self._act is not None:
            self._act()
        return False

    def leave(self) -> None:
        """Call nobody any more; a window keeps what watches it."""
        self._act = None
