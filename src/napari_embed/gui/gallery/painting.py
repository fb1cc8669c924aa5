"""Arrays to what Qt paints."""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter

__all__ = ["fitted", "paint_image", "plain_tip", "qcolor", "to_qimage"]


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


def qcolor(rgb: NDArray[np.floating]) -> QColor:
    """Return a colour of three numbers in 0..1."""
    return QColor.fromRgbF(*(min(1.0, max(0.0, float(c))) for c in rgb[:3]))


def plain_tip(*lines: str) -> str:
    """Return a tool tip that shows text from data as it is, never as HTML."""
    shown = (html.escape(line) for line in lines if line)
    return f"<qt>{'<br>'.join(shown)}</qt>"
