"""Watch how long a Qt program keeps its event loop, in CPU time of the main thread.

CPU time, for on a shared machine the clock also counts what others do. A span runs from
one falling asleep of the loop to the next, so it can hold several events: what is
reported is never too little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["LoopWatch", "without_drawing"]


class LoopWatch:
    """Longest spans for which the event loop was busy."""

    def __init__(self) -> None:
        from qtpy.QtCore import QAbstractEventDispatcher

        self.spans_ms: list[float] = []
        self._began = time.thread_time()
        dispatcher = QAbstractEventDispatcher.instance()
        dispatcher.aboutToBlock.connect(self._asleep)

    def _asleep(self) -> None:
        now = time.thread_time()  # sleeping costs none of it
        self.spans_ms.append(1000 * (now - self._began))
        self._began = now

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Let the loop work until ``condition``; forget the spans before."""
        from qtpy.QtCore import QEventLoop, QTimer

        self.spans_ms.clear()
        self._began = time.thread_time()
        loop, answer = QEventLoop(), []
        timer = QTimer()
        end = time.monotonic() + limit_s

        def look() -> None:
            if condition():
                answer.append(True)
                loop.quit()
            elif time.monotonic() > end:
                loop.quit()

        timer.timeout.connect(look)
        timer.start(5)
        loop.exec()
        timer.stop()
        self._asleep()
        return bool(answer)

    def worst_ms(self) -> float:
        """Return the longest span since the last `until` began."""
        return max(self.spans_ms, default=0.0)


def without_drawing(viewer: Any) -> None:
    """Hide the canvas: everything happens but the drawing of frames."""
    viewer.window._qt_viewer.canvas.native.hide()
