"""One image with zoom: fitted to the window, at 100 %, or in between."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QFrame, QGraphicsPixmapItem, QGraphicsScene, QGraphicsView

__all__ = ["ImageView"]

STEP = 1.25
LARGEST_ZOOM = 64.0


class ImageView(QGraphicsView):
    """Shows an image; the wheel zooms, dragging moves, a double-click fits or unfits.

    Keys: + and - zoom, 0 fits, 1 is 100 %, Left and Right ask for the neighbours.
    """

    zoomed = Signal(float)  # screen pixels per image pixel
    stepped = Signal(int)  # -1 or 1

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = QGraphicsScene(self)
        self._item = QGraphicsPixmapItem()
        self._scene.addItem(self._item)
        self.setScene(self._scene)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setDragMode(QGraphicsView.DragMode.ScrollHandDrag)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.AnchorUnderMouse)
        self.setResizeAnchor(QGraphicsView.ViewportAnchor.AnchorViewCenter)
        self.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self._fitting = True

    def show_image(self, image: QImage) -> None:
        """Show an image; the zoom stays when it has the size of the one before."""
        before = self._item.pixmap().size()
        self._item.setPixmap(QPixmap.fromImage(image))
        self._scene.setSceneRect(QRectF(0, 0, image.width(), image.height()))
        if before != image.size() or self._fitting:
            self.fit()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image, zeros without one."""
        size = self._item.pixmap().size()
        return size.height(), size.width()

    @property
    def zoom(self) -> float:
        """Screen pixels per image pixel."""
        return float(self.transform().m11())

    @property
    def fitting(self) -> bool:
        """Whether the image follows the size of the window."""
        return self._fitting

    def set_background(self, color: str) -> None:
        """Set the colour around the image."""
        self.setBackgroundBrush(QColor(color))

    def fit(self) -> None:
        """Show the whole image, as large as the window allows."""
        height, width = self.image_size
        if not height:
            return
        room = self.viewport().size()
        scale = min(room.width() / width, room.height() / height)
        if scale > 1:
            # Whole multiples keep the pixels of small images square.
            scale = float(int(scale))
        self._set_zoom(max(scale, 1e-3))
        self.centerOn(self._item)
        self._fitting = True

    def actual(self) -> None:
        """Show one image pixel as one screen pixel."""
        self._set_zoom(1.0)

    def zoom_by(self, factor: float) -> None:
        """Zoom about the cursor."""
        self._set_zoom(min(max(self.zoom * factor, 0.01), LARGEST_ZOOM))

    def _set_zoom(self, zoom: float) -> None:
        self._fitting = False
        factor = zoom / self.zoom
        self.scale(factor, factor)
        mode = Qt.TransformationMode
        self._item.setTransformationMode(
            mode.SmoothTransformation if zoom < 1 else mode.FastTransformation
        )
        self.zoomed.emit(zoom)

    # Qt's names from here on

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Keep a fitted image fitted."""
        super().resizeEvent(event)
        if self._fitting:
            self.fit()

    def wheelEvent(self, event: Any) -> None:  # noqa: N802
        """Zoom."""
        turn = event.angleDelta().y()
        if turn:
            self.zoom_by(STEP ** (turn / 120))
        event.accept()

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: N802
        """Change between the whole image and its pixels."""
        (self.actual if self._fitting else self.fit)()

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Zoom, or ask for another image."""
        keys = Qt.Key
        actions = {
            keys.Key_Plus: lambda: self.zoom_by(STEP),
            keys.Key_Equal: lambda: self.zoom_by(STEP),
            keys.Key_Minus: lambda: self.zoom_by(1 / STEP),
            keys.Key_0: self.fit,
            keys.Key_1: self.actual,
            keys.Key_Left: lambda: self.stepped.emit(-1),
            keys.Key_Right: lambda: self.stepped.emit(1),
        }
        action = actions.get(event.key())
        if action is None:
            super().keyPressEvent(event)
        else:
            action()
