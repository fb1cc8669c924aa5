"""Arrays to what Qt paints."""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter

from napari_embed.sources.objects.preview import scale_bar

__all__ = [
    "fitted",
    "paint_image",
    "paint_scale_bar",
    "plain_tip",
    "qcolor",
    "to_qimage",
]

# Smaller pictures have no room for the words of a scale bar.
BAR_FROM_PX = 64


def to_qimage(rgb: NDArray[np.uint8]) -> QImage:
    """Return a copy of uint8 (h, w, 3) as an image."""
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    return QImage(
        rgb.data, width, height, 3 * width, QImage.Format.Format_RGB888
    ).copy()


def fitted(size: QSize, room: QRect) -> QRect:
    """Return the largest rectangle of a picture's proportions in the middle of room."""
    scaled = size.scaled(room.size(), Qt.AspectRatioMode.KeepAspectRatio)
    left = room.left() + (room.width() - scaled.width()) // 2
    top = room.top() + (room.height() - scaled.height()) // 2
    return QRect(left, top, scaled.width(), scaled.height())


def paint_image(painter: QPainter, image: QImage, place: QRect) -> None:
    """Paint an image into a rectangle: pixels stay sharp, shrunk ones are averaged."""
    shrunk = place.width() < image.width() or place.height() < image.height()
    # Between one and two times, whole pixels would come out unequally wide.
    uneven = place.width() % image.width() and place.width() < 3 * image.width()
    painter.setRenderHint(
        QPainter.RenderHint.SmoothPixmapTransform, bool(shrunk or uneven)
    )
    if shrunk:
        image = image.scaled(
            place.size(),
            Qt.AspectRatioMode.IgnoreAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
    painter.drawImage(place, image)


def paint_scale_bar(painter: QPainter, place: QRect, side: float, in_um: bool) -> None:
    """Paint a bar with its length into a picture whose side is ``side`` long.

    In one with no room for words there is none.
    """
    if place.width() < BAR_FROM_PX:
        return
    per_px = side / place.width()
    unit = "\N{MICRO SIGN}m" if in_um else "px"
    long, words = scale_bar(place.width(), per_px)
    words = f"{words.split()[0]} {unit}"
    painter.save()
    font = QFont(painter.font())
    font.setPixelSize(10)
    painter.setFont(font)
    height = painter.fontMetrics().height()
    wide = max(round(long), painter.fontMetrics().horizontalAdvance(words)) + 6
    box = QRect(place.left(), place.bottom() - height - 4, wide, height + 5)
    painter.fillRect(box, QColor(0, 0, 0, 150))
    white = QColor(255, 255, 255)
    painter.fillRect(box.left() + 3, box.bottom() - 3, round(long), 2, white)
    painter.setPen(white)
    painter.drawText(box.left() + 3, box.bottom() - 6, words)
    painter.restore()


def qcolor(rgb: NDArray[np.floating]) -> QColor:
    """Return a colour of three numbers in 0..1."""
    return QColor.fromRgbF(*(min(1.0, max(0.0, float(c))) for c in rgb[:3]))


def plain_tip(*lines: str) -> str:
    """Return a tool tip that shows text from data as it is, never as HTML."""
    shown = (html.escape(line) for line in lines if line)
    return f"<qt>{'<br>'.join(shown)}</qt>"
