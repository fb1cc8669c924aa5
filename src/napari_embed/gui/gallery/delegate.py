"""Paints one cell of the gallery: picture, frame of its class, caption."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QModelIndex, QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen
from qtpy.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_embed.gui.docks.style import Colors
from napari_embed.gui.gallery.painting import fitted, paint_image, paint_scale_bar

__all__ = ["GalleryDelegate"]

PAD_PX = 5
FRAME_PX = 2
# Below this there is no room for words, from the other one on for two lines.
ONE_LINE_PX, TWO_LINES_PX = 52, 96


class GalleryDelegate(QStyledItemDelegate):
    """Paints cells of a `GalleryModel`.

    Parameters
    ----------
    colors
        Of the theme.
    """

    def __init__(self, colors: Colors, parent: Any = None) -> None:
        super().__init__(parent)
        self.colors = colors
        self.side = 72

    def lines(self) -> int:
        """Return the number of lines of a caption."""
        return int(self.side >= ONE_LINE_PX) + int(self.side >= TWO_LINES_PX)

    def cell_size(self, font: QFont) -> QSize:
        """Return the size of a cell."""
        words = self.lines() * QFontMetrics(small(font)).height()
        around = 2 * (PAD_PX + FRAME_PX)
        return QSize(self.side + around, self.side + around + words)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Paint a cell."""
        model, row, colors = index.model(), index.row(), self.colors
        states = QStyle.StateFlag
        chosen = bool(option.state & states.State_Selected)
        over = bool(option.state & states.State_MouseOver)
        painter.save()
        cell = option.rect.adjusted(1, 1, -1, -1)
        if chosen or over:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colors.accent if chosen else colors.control))
            painter.drawRoundedRect(cell, 4, 4)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        room = QRect(0, cell.top() + PAD_PX + FRAME_PX - 1, self.side, self.side)
        room.moveLeft(cell.left() + (cell.width() - self.side) // 2)
        self._paint_picture(painter, room, model, row)
        if option.state & states.State_HasFocus:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(colors.text), 1, Qt.PenStyle.DotLine))
            painter.drawRect(cell.adjusted(0, 0, -1, -1))
        painter.setFont(small(option.font))
        self._paint_words(painter, room, cell, model.captions(row), chosen)
        painter.restore()

    def _paint_picture(
        self, painter: QPainter, room: QRect, model: Any, row: int
    ) -> None:
        image = model.image(row)
        place = fitted(image.size(), room) if image is not None else room
        color = model.color(row) or QColor(self.colors.hover)
        around = place.adjusted(-FRAME_PX, -FRAME_PX, FRAME_PX, FRAME_PX)
        painter.fillRect(around, color)
        if image is not None:
            paint_image(painter, image, place)
            if model.crop_side is not None:
                paint_scale_bar(painter, place, *model.crop_side)
            return
        painter.fillRect(place, QColor(self.colors.card))
        picture = model.picture(row)
        if picture is not None:
            painter.setPen(QColor(self.colors.bad))
            painter.drawText(place, Qt.AlignmentFlag.AlignCenter, "!")

    def _paint_words(
        self,
        painter: QPainter,
        room: QRect,
        cell: QRect,
        words: tuple[str, ...],
        chosen: bool,
    ) -> None:
        colors, metrics = self.colors, painter.fontMetrics()
        main = colors.on_accent if chosen else colors.text
        quiet = colors.on_accent if chosen else colors.muted
        top = room.bottom() + FRAME_PX + 2
        for line, text in enumerate(words[: self.lines()]):
            place = QRect(cell.left() + 3, top, cell.width() - 6, metrics.height())
            last = line > 0 or len(words) == 1
            painter.setPen(QColor(quiet if last else main))
            # The end of a file name tells more than its beginning.
            mode = Qt.TextElideMode.ElideMiddle if last else Qt.TextElideMode.ElideRight
            shown = metrics.elidedText(text, mode, place.width())
            painter.drawText(place, Qt.AlignmentFlag.AlignCenter, shown)
            top += metrics.height()


def small(font: QFont) -> QFont:
    """Return a font one size smaller."""
    made = QFont(font)
    if made.pixelSize() > 0:
        made.setPixelSize(max(9, made.pixelSize() - 1))
    else:
        made.setPointSizeF(max(7.0, made.pointSizeF() - 1))
    return made
