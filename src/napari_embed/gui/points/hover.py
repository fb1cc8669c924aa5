"""Brings the point under the cursor from napari's status thread to the main thread."""

from __future__ import annotations

import weakref
from typing import Any

from qtpy.QtCore import QObject, Signal, Slot

__all__ = ["HoverRelay"]


class HoverRelay(QObject):
    """A Qt signal from any thread to ``layer.set_hovered`` on the main thread.

    Parameters
    ----------
    layer : EmbeddingPoints
        Held weakly: a report that arrives too late is dropped.
    """

    _found = Signal(int)

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = weakref.ref(layer)
        self._last = -1
        self._found.connect(self._deliver)

    def report(self, item: int) -> None:
        """Tell which point is under the cursor (-1: none), from any thread."""
        if item != self._last:
            self._last = item
            self._found.emit(item)

    @Slot(int)
    def _deliver(self, item: int) -> None:
        layer = self._layer()
        if layer is not None:
            layer.set_hovered(item)
