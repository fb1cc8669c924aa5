"""The legend of numbers: colours over a histogram, limits to edit, what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

__all__ = ["NumberLegend"]

HEIGHT_PX = 64
BAR_PX = 10
FIELD_PX = 76


class _Bars(QWidget):
    """The numbers as bars in their colours, and a bar of all colours below."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._histogram = np.zeros(0, np.int64)
        self._extent = self._limits = (0.0, 1.0)
        self._colors = np.zeros((0, 4))
        self._colormap = ""

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(200, HEIGHT_PX)

    def show_numbers(
        self,
        histogram: NDArray[np.int64],
        extent: tuple[float, float],
        limits: tuple[float, float],
        colormap: str,
    ) -> None:
        """Take what is to be drawn."""
        if colormap != self._colormap:
            self._colormap = colormap
            self._colors = ensure_colormap(colormap).map(np.linspace(0, 1, 256))
        self._histogram, self._extent, self._limits = histogram, extent, limits
        self.update()

    def color_at(self, value: float) -> QColor:
        """Return the colour of a number."""
        low, high = self._limits
        at = int(np.clip(255 * (value - low) / (high - low), 0, 255))
        return QColor.fromRgbF(*(float(c) for c in self._colors[at]))

    def paintEvent(self, event: Any) -> None:  # noqa: N802  Qt's name
        """Draw the bars; the root makes small ones visible beside large ones."""
        m = len(self._histogram)
        if not m or not len(self._colors):
            return
        painter = QPainter(self)
        low, high = self._extent
        step = self.width() / m
        room = HEIGHT_PX - BAR_PX - 4
        heights = np.sqrt(self._histogram / max(1, int(self._histogram.max()))) * room
        for i, height in enumerate(heights):
            color = self.color_at(low + (high - low) * (i + 0.5) / m)
            bar = QRectF(i * step, room - height, step - 1, height)
            painter.fillRect(bar, color)
            painter.fillRect(QRectF(i * step, room + 4, step + 1, BAR_PX), color)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        for limit in self._limits:
            x = int(np.clip((limit - low) / (high - low), 0, 1) * (self.width() - 1))
            painter.drawLine(x, 0, x, HEIGHT_PX - 1)
        painter.end()


class NumberLegend(QWidget):
    """Which colour stands for which number.

    The limits are the numbers of the first and the last colour; what lies beyond gets
    these colours too. Items without a finite value are grey, counted, and can be
    hidden.

    Notes
    -----
    Signals (psygnal): ``limits_changed((low, high) or None for the first ones)``,
    ``missing_shown(bool)``.
    """

    limits_changed = Signal(object)
    missing_shown = Signal(bool)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._extent = self._limits = (0.0, 1.0)
        self.bars = _Bars()
        self.low = self._field("Number of the first colour")
        self.high = self._field("Number of the last colour")
        self.full = QToolButton()
        self.full.setText("Full range")
        self.full.setToolTip("From the smallest to the largest number")
        self.full.clicked.connect(lambda _=False: self._ask(self._extent))
        self.auto = QToolButton()
        self.auto.setText("Auto")
        self.auto.setToolTip("From the 1st to the 99th percentile")
        self.auto.clicked.connect(lambda _=False: self._ask(None))
        self.missing = QCheckBox()
        self.missing.setToolTip("Grey points: items without a number")
        self.missing.clicked.connect(self.missing_shown.emit)
        self.hint = QLabel()
        self.hint.setTextFormat(Qt.TextFormat.PlainText)
        self.hint.setWordWrap(True)
        self._lay_out()

    def _field(self, tip: str) -> QLineEdit:
        made = QLineEdit()
        made.setToolTip(f"{tip}; Enter takes it")
        made.setAccessibleName(tip)
        made.setFixedWidth(FIELD_PX)
        made.editingFinished.connect(self._edited)
        return made

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.low)
        row.addStretch(1)
        row.addWidget(self.auto)
        row.addWidget(self.full)
        row.addStretch(1)
        row.addWidget(self.high)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.bars)
        column.addLayout(row)
        column.addWidget(self.hint)
        column.addWidget(self.missing)

    def show_numbers(
        self,
        histogram: NDArray[np.int64],
        extent: tuple[float, float],
        limits: tuple[float, float],
        colormap: str,
        *,
        n_missing: int = 0,
        missing_hidden: bool = False,
    ) -> None:
        """Show a column: bins between the ends of ``extent``, colours in ``limits``."""
        self._extent, self._limits = extent, limits
        self.bars.show_numbers(histogram, extent, limits, colormap)
        for made, value in ((self.low, limits[0]), (self.high, limits[1])):
            if not (made.hasFocus() and made.isModified()):
                made.setText(f"{value:.6g}")
        outside = [f"{v:.4g}" for v in extent]
        narrower = limits[0] > extent[0] or limits[1] < extent[1]
        self.hint.setText(f"Numbers from {outside[0]} to {outside[1]}")
        self.hint.setVisible(narrower)
        self.full.setEnabled(limits != extent)
        self.missing.setVisible(n_missing > 0)
        self.missing.setText(f"Show {n_missing:,} without a number, in grey")
        self.missing.setChecked(not missing_hidden)

    def _edited(self) -> None:
        wanted = list(self._limits)
        try:
            for i, made in enumerate((self.low, self.high)):
                if made.isModified():
                    wanted[i] = float(made.text().strip().replace(",", "."))
        except ValueError:
            wanted = [np.nan, np.nan]
        edited = self.low.isModified() or self.high.isModified()
        if not edited:
            return
        for made, value in zip((self.low, self.high), self._limits, strict=True):
            made.setModified(False)
            made.setText(f"{value:.6g}")
        if np.isfinite(wanted).all() and wanted[0] < wanted[1]:
            self._ask((wanted[0], wanted[1]))
        else:
            self.hint.setText("Give two numbers, the smaller one on the left.")
            self.hint.setVisible(True)

    def _ask(self, limits: tuple[float, float] | None) -> None:
        self.limits_changed.emit(limits)
