"""The KL divergence over iterations: a small plot with axes, drawn by Qt alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_embed.gui.docks.parts import set_role
from napari_embed.gui.docks.style import Colors
from napari_embed.params import ProjectionParams

__all__ = ["CurvePlan", "KLPlot", "nice_ticks", "phase_words", "tick_words"]

HEIGHT_PX = 112
GAP_PX = 4


@dataclass(frozen=True)
class CurvePlan:
    """What a layout is going to do.

    Attributes
    ----------
    max_iter
        Iterations at most: the end of the axis.
    exaggerated_until
        Iterations with exaggerated attraction, at the start.
    exaggeration
        Its factor.
    """

    max_iter: int
    exaggerated_until: int = 0
    exaggeration: float = 1.0

    @classmethod
    def of(cls, params: ProjectionParams) -> CurvePlan | None:
        """Return what the settings of a t-SNE ask for; None for other maps."""
        if params.method != "tsne":
            return None
        until = min(params.early_exaggeration_iter, params.max_iter)
        return cls(params.max_iter, until, params.early_exaggeration)


def phase_words(params: ProjectionParams, iteration: int) -> str:
    """Return what a t-SNE is at: exaggeration or, without a word for it, the rest."""
    if params.method != "tsne" or iteration <= 0:
        return ""
    if iteration < params.early_exaggeration_iter and params.early_exaggeration > 1:
        return f"early exaggeration until {params.early_exaggeration_iter:,}"
    late = params.late_exaggeration_iter if params.late_exaggeration > 1 else 0
    if late and iteration >= params.max_iter - late:
        return f"late exaggeration \N{MULTIPLICATION SIGN}{params.late_exaggeration:g}"
    return "settling"


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` (2 or more) round numbers within ``low`` and ``high``.

    One value in the middle when no two round numbers fit.
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [i * step for i in range(first, last + 1)] or [(low + high) / 2]
    return [(low + high) / 2]


class KLPlot(QWidget):
    """How the KL divergence of a forming map falls.

    The horizontal axis runs to the last iteration that may come, so the plot tells
    progress too; the part with exaggerated attraction is shaded, for there the KL is
    not what is minimised.
    """

    def __init__(self) -> None:
        super().__init__()
        set_role(self, "plain")
        self._points: list[tuple[float, float]] = []
        self._plan: CurvePlan | None = None
        self._phase = ""
        self._line, self._text, self._muted = "#5a78e0", "#f0f1f2", "#a0a4a8"
        self._band, self._grid = "#30353b", "#3c434a"
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("KL divergence over iterations")

    @property
    def points(self) -> list[tuple[float, float]]:
        """What is drawn: (iteration, value)."""
        return list(self._points)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        self._line, self._text, self._muted = colors.accent, colors.text, colors.muted
        self._band, self._grid = colors.background, colors.control
        self.update()

    def set_plan(self, plan: CurvePlan | None, phase: str = "") -> None:
        """Say how long the layout runs, how it begins, and what it is at."""
        if (plan, phase) != (self._plan, self._phase):
            self._plan, self._phase = plan, phase
            self.update()

    def follow(self, iteration: int, value: float) -> None:
        """Take a report of the controller; iteration 0 starts a new curve."""
        if iteration == 0:
            self.clear()
        else:
            self.add(iteration, value)

    def clear(self) -> None:
        """Forget all points."""
        self._points.clear()
        self.setToolTip("")
        self.update()

    def add(self, x: float, y: float) -> None:
        """Append a point; what is not finite is left out."""
        if math.isfinite(y):
            self._points.append((x, y))
            self.setToolTip(f"KL divergence {y:.3f} at iteration {x:,.0f}")
            self.update()

    def headline(self) -> str:
        """Return the newest value in words."""
        if not self._points:
            return "KL divergence: not measured yet"
        return f"KL divergence {self._points[-1][1]:.3f}"

    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the ends of the horizontal and of the vertical axis."""
        xs, ys = zip(*self._points, strict=True) if self._points else ((0.0,), (0.0,))
        end = max(float(self._plan.max_iter) if self._plan else 0.0, *xs, 1.0)
        low, high = min(ys), max(ys)
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        return (0.0, end), (max(0.0, low - room), high + room)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(240, HEIGHT_PX)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802  Qt's name
        """Draw headline, axes, exaggeration and the line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        small = painter.font()
        small.setPointSizeF(max(7.0, font.pointSizeF() * 0.88))
        head = painter.fontMetrics().height() + GAP_PX
        painter.setPen(QColor(self._text))
        top = QRectF(0, 0, self.width(), head)
        painter.drawText(top, int(Qt.AlignmentFlag.AlignLeft), self.headline())
        painter.setFont(small)
        painter.setPen(QColor(self._muted))
        painter.drawText(top, int(Qt.AlignmentFlag.AlignRight), self._phase)
        metrics = painter.fontMetrics()
        x_range, y_range = self.ranges()
        y_ticks = nice_ticks(*y_range, 4) if self._points else []
        words = tick_words(y_ticks)
        wide = max((metrics.horizontalAdvance(word) for word in words), default=20)
        area = QRectF(
            wide + 2 * GAP_PX,
            head + GAP_PX,
            self.width() - wide - 3 * GAP_PX,
            self.height() - head - metrics.height() - 3 * GAP_PX,
        )
        self._draw_band(painter, area, x_range[1], metrics)
        self._draw_axes(painter, area, (x_range, y_range), y_ticks, metrics)
        self._draw_line(painter, area, x_range, y_range)
        painter.end()

    def _draw_band(
        self, painter: QPainter, area: QRectF, end: float, metrics: QFontMetrics
    ) -> None:
        plan = self._plan
        if plan is None or plan.exaggerated_until <= 0 or plan.exaggeration <= 1:
            return
        width = min(1.0, plan.exaggerated_until / end) * area.width()
        band = QRectF(area.left(), area.top(), width, area.height())
        painter.fillRect(band, QColor(self._band))
        words = f"exaggeration \N{MULTIPLICATION SIGN}{plan.exaggeration:g}"
        if metrics.horizontalAdvance(words) > width - 2 * GAP_PX:
            words = f"\N{MULTIPLICATION SIGN}{plan.exaggeration:g}"
        if metrics.horizontalAdvance(words) <= width - 2 * GAP_PX:
            painter.setPen(QColor(self._muted))
            inner = band.adjusted(GAP_PX, 1, -GAP_PX, -2)
            low = Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft
            painter.drawText(inner, int(low), words)

    def _draw_axes(
        self,
        painter: QPainter,
        area: QRectF,
        ranges: tuple[tuple[float, float], tuple[float, float]],
        y_ticks: list[float],
        metrics: QFontMetrics,
    ) -> None:
        (_, end), (low, high) = ranges
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        line, half = metrics.height(), metrics.height() / 2
        for tick, words in zip(y_ticks, tick_words(y_ticks), strict=True):
            y = area.bottom() - (tick - low) / (high - low) * area.height()
            painter.setPen(QPen(QColor(self._grid), 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(QColor(self._muted))
            box = QRectF(0, y - half, area.left() - GAP_PX, line)
            painter.drawText(box, int(right), words)
        painter.setPen(QPen(QColor(self._muted), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        for tick in nice_ticks(0, end, 5):
            x = area.left() + tick / end * area.width()
            painter.drawLine(QPointF(x, area.bottom()), QPointF(x, area.bottom() + 3))
            words = f"{tick:,.0f}"
            width = metrics.horizontalAdvance(words)
            left = min(max(x - width / 2, 0.0), self.width() - width)
            painter.drawText(QPointF(left, area.bottom() + 3 + metrics.ascent()), words)

    def _draw_line(
        self,
        painter: QPainter,
        area: QRectF,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> None:
        if not self._points:
            return
        (_, end), (low, high) = x_range, y_range
        line = [
            QPointF(
                area.left() + x / end * area.width(),
                area.bottom() - (y - low) / (high - low) * area.height(),
            )
            for x, y in self._points
        ]
        painter.setPen(QPen(QColor(self._line), 1.8))
        painter.drawPolyline(QPolygonF(line))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._line))
        painter.drawEllipse(line[-1], 3, 3)


def tick_words(ticks: list[float]) -> list[str]:
    """Return ticks with as few decimals as tell them apart exactly."""
    for digits in range(5):
        words = [f"{tick:,.{digits}f}" for tick in ticks]
        if all(
            math.isclose(float(word.replace(",", "")), tick, abs_tol=1e-9)
            for word, tick in zip(words, ticks, strict=True)
        ):
            return words
    return [f"{tick:.4g}" for tick in ticks]
