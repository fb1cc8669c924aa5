"""Clean up after a widget that is gone."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject

__all__ = ["when_gone"]

# A callable that only its widget holds would be garbage together with it; collected
# first, it is called while it is taken apart, and the program crashes.
_waiting: set[Callable[..., None]] = set()


def when_gone(widget: QObject, act: Callable[[], None]) -> None:
    """Call ``act`` once when a widget is destroyed; it must not hold the widget."""

    def run(*_: object) -> None:
        _waiting.discard(run)
        act()

    _waiting.add(run)
    widget.destroyed.connect(run)
