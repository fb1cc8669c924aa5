"""One thing after another, each in a turn of the event loop of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from qtpy.QtCore import QTimer

__all__ = ["Turns"]

PAUSE_MS = 1  # with none, Qt would take the next step before any event of the window


class Turns:
    """Does steps one by one; between two of them the window answers its user."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()
        self._failed: Callable[[Exception], None] | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._turn)

    @property
    def busy(self) -> bool:
        """Whether there is something left to do."""
        return bool(self._steps)

    def start(
        self,
        steps: Iterable[Callable[[], None]],
        failed: Callable[[Exception], None],
    ) -> None:
        """Drop what is waiting and do these; an error ends them and is told."""
        self.drop()
        self._steps.extend(steps)
        self._failed = failed
        self._timer.start()

    def drop(self) -> None:
        """Do nothing more."""
        self._timer.stop()
        self._steps.clear()
        self._failed = None

    def _turn(self) -> None:
        if not self._steps:
            return
        step, failed = self._steps.popleft(), self._failed
        try:
            step()
        except Exception as error:  # noqa: BLE001 (a step may fail in any way)
            self.drop()
            if failed is not None:
                failed(error)
            return
        if self._steps:
            self._timer.start()
