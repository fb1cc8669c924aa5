"""A histogram to brush over: a drag chooses a range of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_embed.gui.docks.style import Colors
from napari_embed.gui.found import Bars

__all__ = ["Histogram"]

BARS_PX = 46
LEAST_DRAG_PX = 3


class Histogram(QWidget):
    """All numbers of a column in grey, those that the other filters leave in colour.

    Dragging chooses whole bars; the ends of the range are told when the button is
    released.
    """

    brushed = Signal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self._bars: Bars | None = None
        self._colors: Colors | None = None
        self._range: tuple[float, float] | None = None
        self._from: float | None = None
        self._to = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setToolTip("Drag over a range to keep only its items")
        self.setAccessibleName("Histogram")

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(200, BARS_PX + self.fontMetrics().height() + 4)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the theme."""
        self._colors = colors
        self.update()

    def show_bars(self, bars: Bars, chosen: tuple[float, float] | None) -> None:
        """Show a column, and the range that is filtered by."""
        self._bars, self._range = bars, chosen
        self.update()

    def _snapped(self) -> tuple[float, float] | None:
        """Return the range under the drag, widened to whole bars."""
        if self._bars is None or self._from is None:
            return None
        low, high = sorted((self._from, self._to))
        if high - low < LEAST_DRAG_PX:
            return None
        edges, width = self._bars.edges, max(1, self.width())
        m = len(edges) - 1
        first = int(np.clip(low * m / width, 0, m - 1))
        last = int(np.clip(np.ceil(high * m / width), first + 1, m))
        return float(edges[first]), float(edges[last])

    # Qt's names from here on

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Begin a range."""
        if event.button() == Qt.MouseButton.LeftButton and self._bars is not None:
            self._from = self._to = event.position().x()

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Widen it."""
        if self._from is not None:
            self._to = event.position().x()
            self.update()

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """Tell it."""
        chosen, self._from = self._snapped(), None
        self.update()
        if chosen is not None:
            self.brushed.emit(*chosen)

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Draw the bars; the root makes small ones visible beside large ones."""
        bars, colors = self._bars, self._colors
        if bars is None or colors is None:
            return
        painter = QPainter(self)
        edges, top = bars.edges, max(1, int(bars.counts.max()))
        step = self.width() / len(bars.counts)
        span = self._snapped() or self._range
        self._paint_span(painter, span, QColor(colors.accent))
        for counts, color in ((bars.counts, colors.hover), (bars.chosen, colors.text)):
            heights = np.sqrt(counts / top) * BARS_PX
            for i, height in enumerate(heights):
                if height:
                    left = max(height, 1.0)
                    bar = QRectF(i * step, BARS_PX - left, max(step - 1, 1), left)
                    painter.fillRect(bar, QColor(color))
        painter.setPen(QColor(colors.muted))
        words = QRectF(0, BARS_PX + 3, self.width(), self.fontMetrics().height())
        ends = Qt.AlignmentFlag
        painter.drawText(words, int(ends.AlignLeft), f"{edges[0]:.6g}")
        painter.drawText(words, int(ends.AlignRight), f"{edges[-1]:.6g}")
        if span is not None:
            painter.setPen(QColor(colors.text))
            text = f"{span[0]:.6g} to {span[1]:.6g}"
            painter.drawText(words, int(ends.AlignHCenter), text)
        painter.end()

    def _paint_span(
        self, painter: QPainter, span: tuple[float, float] | None, color: QColor
    ) -> None:
        if span is None or self._bars is None:
            return
        edges = self._bars.edges
        width = max(edges[-1] - edges[0], 1e-300)
        low, high = np.clip((np.array(span) - edges[0]) / width, 0, 1) * self.width()
        color.setAlpha(110)
        painter.fillRect(QRectF(low, 0, max(high - low, 1.0), BARS_PX), color)
