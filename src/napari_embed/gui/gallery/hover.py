"""The picture of the point under the cursor, beside the cursor."""

from __future__ import annotations

import contextlib
from pathlib import PurePath
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt, QTimer
from qtpy.QtGui import QCursor, QPixmap
from qtpy.QtWidgets import QApplication, QFrame, QLabel, QVBoxLayout, QWidget

from napari_embed.gui.docks.style import Colors
from napari_embed.gui.gallery.painting import to_qimage

__all__ = ["HoverPreview"]

# The cursor must rest so long on a point before its picture appears.
REST_MS = 70
SIDE_PX = 128
AWAY_PX = 18
WIDEST_TEXT_PX = 200
GOES_AT = (
    QEvent.Type.Leave, QEvent.Type.MouseButtonPress, QEvent.Type.Wheel,
    QEvent.Type.Hide, QEvent.Type.WindowDeactivate,
)  # fmt: skip


class HoverPreview(QObject):
    """Shows picture, class and file name of the point under the cursor.

    It takes neither clicks nor the focus, reads in the link's thread, and goes when
    the cursor leaves the point or the canvas, or a drag begins.

    Parameters
    ----------
    map_view
        Has ``layer``, ``link`` and the signals ``layer_added`` and ``link_changed``.
    window
        The main window; the picture stays within its central widget.
    colors
        Of the theme.
    """

    def __init__(self, map_view: Any, window: Any, colors: Colors) -> None:
        super().__init__(window)
        self._map, self._window = map_view, window
        self._enabled = True
        self._item = -1
        self._followed: Any = None
        self._layer: Any = None
        self._watched: QWidget | None = None
        self.card = _Card(window)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._rested)
        self.set_colors(colors)
        map_view.layer_added.connect(self._follow_layer)
        map_view.link_changed.connect(self._follow_link)

    @property
    def enabled(self) -> bool:
        """Whether pictures appear."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        if not enabled:
            self.hide()

    @property
    def item(self) -> int:
        """Id of the item under the cursor, or -1."""
        return self._item

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the theme."""
        self.card.setStyleSheet(
            f"_Card {{ background: {colors.card}; border: 1px solid {colors.hover};"
            " border-radius: 6px; }"
            f" QLabel {{ background: transparent; color: {colors.text}; }}"
            f' QLabel[role="muted"] {{ color: {colors.muted}; }}'
        )

    def close(self) -> None:
        """Let go of the map and the window."""
        self._map.layer_added.disconnect(self._follow_layer)
        self._map.link_changed.disconnect(self._follow_link)
        if self._followed is not None:
            self._followed.pictures_arrived.disconnect(self._arrived)
        if self._layer is not None:
            self._layer.signals.hovered.disconnect(self._hovered)
        self._followed = self._layer = None
        # A window that is gone has taken its widgets along.
        with contextlib.suppress(RuntimeError):
            self._timer.stop()
            if self._watched is not None:
                self._watched.removeEventFilter(self)
            self.card.hide()
            self.card.deleteLater()
            self.deleteLater()
        self._watched = self._window = None

    def hide(self) -> None:
        """Show nothing until the cursor is on another point."""
        self._item = -1
        self._timer.stop()
        self.card.hide()

    # --- news ------------------------------------------------------------------------

    def _follow_layer(self, layer: Any) -> None:
        if self._layer is not None:
            self._layer.signals.hovered.disconnect(self._hovered)
        self._layer = layer
        layer.signals.hovered.connect(self._hovered)

    def _follow_link(self) -> None:
        if self._followed is not None:
            self._followed.pictures_arrived.disconnect(self._arrived)
        self._followed = self._map.link
        if self._followed is not None:
            self._followed.pictures_arrived.connect(self._arrived)
        self.hide()

    def _hovered(self, item: int) -> None:
        if item < 0 or not self._enabled or self._map.link is None:
            self.hide()
            return
        self._item = item
        self._timer.start()

    def _rested(self) -> None:
        """Ask for the picture of the point the cursor rests on, and show it."""
        link = self._map.link
        if link is None or self._item < 0 or not self._over_canvas():
            self.hide()
            return
        link.pictures.want("hover", np.array([self._item], dtype=np.int64))
        self._show()

    def _arrived(self, ids: Any) -> None:
        if self._item >= 0 and not self._timer.isActive() and self._item in ids:
            if self._over_canvas():
                self._show()
            else:
                self.hide()

    def _over_canvas(self) -> bool:
        """Return whether the cursor is on the canvas and no button is pressed."""
        widget = QApplication.widgetAt(QCursor.pos())
        middle = self._window.centralWidget()
        if widget is None or middle is None or not middle.isAncestorOf(widget):
            return False
        if QApplication.mouseButtons() != Qt.MouseButton.NoButton:
            return False
        if self._watched is not widget:
            if self._watched is not None:
                self._watched.removeEventFilter(self)
            widget.installEventFilter(self)
            widget.destroyed.connect(self._unwatched)
            self._watched = widget
        return True

    def _unwatched(self, _gone: Any = None) -> None:
        self._watched = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Go when the cursor leaves the canvas or does something on it."""
        if event.type() in GOES_AT:
            self.hide()
        return False

    # --- showing ---------------------------------------------------------------------

    def _show(self) -> None:
        link, item = self._map.link, self._item
        picture = link.pictures.get(item)
        if picture is None:
            return
        if picture.values is not None:
            rgb = link.look.to_rgb(picture.values)
            self.card.show_picture(QPixmap.fromImage(to_qimage(rgb)))
        else:
            self.card.show_picture(None)
        file = PurePath(picture.source).name
        file = f"#{item:,}" if not file or file == str(item) else file
        self.card.show_words(link.class_name(item), file)
        self.card.adjustSize()
        self.card.move(self._place())
        self.card.show()
        self.card.raise_()

    def _place(self) -> QPoint:
        """Return where the card goes: beside the cursor, inside the canvas."""
        middle = self._window.centralWidget()
        room = QRect(middle.mapTo(self._window, QPoint(0, 0)), middle.size())
        at = self._window.mapFromGlobal(QCursor.pos())
        width, height = self.card.width(), self.card.height()
        left, top = at.x() + AWAY_PX, at.y() + AWAY_PX
        if left + width > room.right():
            left = at.x() - AWAY_PX - width
        if top + height > room.bottom():
            top = at.y() - AWAY_PX - height
        return QPoint(max(left, room.left()), max(top, room.top()))


class _Card(QFrame):
    """A picture with two lines of text; neither mouse nor keys see it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.picture, self.name, self.file = QLabel(), QLabel(), QLabel()
        self.file.setProperty("role", "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 5)
        layout.setSpacing(2)
        for part in (self.picture, self.name, self.file):
            part.setTextFormat(Qt.TextFormat.PlainText)
            part.setAlignment(Qt.AlignmentFlag.AlignCenter)
            layout.addWidget(part)
        self.hide()

    def show_picture(self, pixmap: QPixmap | None) -> None:
        """Show a picture, magnified by a whole number or shrunk; None: unreadable."""
        if pixmap is None:
            self.picture.setText("This image cannot be read.")
            return
        longest = max(pixmap.width(), pixmap.height())
        times = SIDE_PX // longest if longest <= SIDE_PX else SIDE_PX / longest
        mode = Qt.TransformationMode
        self.picture.setPixmap(
            pixmap.scaled(
                max(1, round(pixmap.width() * times)),
                max(1, round(pixmap.height() * times)),
                Qt.AspectRatioMode.IgnoreAspectRatio,
                mode.FastTransformation if times >= 1 else mode.SmoothTransformation,
            )
        )

    def show_words(self, name: str, file: str) -> None:
        """Show class and file name, shortened where they are long."""
        for part, text in ((self.name, name), (self.file, file)):
            metrics, plain = part.fontMetrics(), " ".join(text.split())
            elide = Qt.TextElideMode.ElideMiddle
            part.setText(metrics.elidedText(plain, elide, WIDEST_TEXT_PX))
            part.setVisible(bool(text))
