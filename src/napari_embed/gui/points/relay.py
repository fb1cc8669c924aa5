"""Runs a function on the main thread, asked for from any other."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Signal, Slot

__all__ = ["Relay"]


class Relay(QObject):
    """A Qt signal that carries a call to the thread this object was made on.

    Two kinds of news come from other threads: the point under the cursor (napari's
    status thread) and the finished drawing order.
    """

    _posted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._posted.connect(self._run)

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on this object's thread: now, if that is the caller's."""
        self._posted.emit(call)

    @Slot(object)
    def _run(self, call: Callable[[], None]) -> None:
        call()
