"""The image panel: one source image at full size, with the ones before and after."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
)

from napari_embed.gui.docks.following import follow_link
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import elided, label, set_role
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.gallery.image_view import ImageView
from napari_embed.gui.gallery.painting import plain_tip, to_qimage
from napari_embed.gui.link.look import Look
from napari_embed.gui.state import ViewState
from napari_embed.gui.thumbnails import FullImage

__all__ = ["ImagePanel", "open_beside", "open_image"]

PLUGIN, WIDGET, ALL = "napari-embed", "Image", "All panels"
# A window of this height has room for the image below the other panels.
TALL_PX = 900
HEIGHT_PX = 370
HINT = "Double-click a picture or a point to see its image at full size."


class ImagePanel(Panel):
    """Shows the source image of an item, read off the main thread."""

    def _frame(self) -> None:
        """Fill the dock: the image scrolls itself."""
        self.setLayout(self.content)
        self.message.hide()
        self.setMinimumSize(220, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def build(self) -> None:
        """Make the widgets."""
        self.content.removeWidget(self.message)
        self.message.setParent(None)
        self.content.setSpacing(GAP_PX)
        self.item = -1
        self._full: FullImage | None = None
        self.title = elided("heading", Qt.TextElideMode.ElideMiddle)
        self.view = ImageView()
        self.view.setAccessibleName("Image")
        self.view.stepped.connect(self.step)
        self.empty = label(HINT, "muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.view)
        self.facts = elided("muted", Qt.TextElideMode.ElideMiddle)
        self.problem = label("", "warn", wrap=True)
        self.content.addWidget(self.title)
        self.content.addWidget(self.stack, 1)
        self.content.addWidget(self.problem)
        self.content.addWidget(self.facts)
        self.content.addWidget(self._build_controls())
        self._show_place()
        self.problem.hide()
        follow_link(
            self,
            self.session.map,
            {
                "browse_changed": "_show_place",
                "look_changed": "_show_again",
                "pictures_arrived": "_show_thumbnail",
            },
            "_relinked",
        )

    def _build_controls(self) -> QFrame:
        bar = QFrame()
        set_role(bar, "plain")
        row = QHBoxLayout(bar)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)

        def add(sign: str, words: str, act: Callable[[], None]) -> QToolButton:
            made = QToolButton()
            made.setText(sign)
            made.setToolTip(words)
            made.setAccessibleName(words)
            made.setMinimumSize(QSize(28, 24))
            made.clicked.connect(lambda _checked=False: act())
            row.addWidget(made)
            return made

        self.back = add("\u2039", "Image before (Left)", lambda: self.step(-1))
        self.on = add("\u203a", "Next image (Right)", lambda: self.step(1))
        self.place = label("", "muted")
        row.addWidget(self.place)
        row.addStretch(1)
        self.percent = label("", "muted")
        row.addWidget(self.percent)
        self.fit = add("Fit", "Show the whole image (0)", self.view.fit)
        self.actual = add("100 %", "Show its pixels as they are (1)", self.view.actual)
        self.view.zoomed.connect(lambda zoom: self.percent.setText(f"{zoom:.0%}"))
        return bar

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(358, HEIGHT_PX)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        super().set_colors(colors)
        self.view.set_background(colors.background)

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Forget the image of another project."""
        if new.project is None or (
            old.project is not None and new.project.path != old.project.path
        ):
            self._forget()

    def _relinked(self) -> None:
        self._show_place()

    def _forget(self) -> None:
        self.item, self._full = -1, None
        self.title.setText("")
        self.facts.setText("")
        self.problem.hide()
        self.stack.setCurrentIndex(0)
        self._show_place()

    # --- an item ---------------------------------------------------------------------

    def show_item(self, item: int) -> None:
        """Show the image of an item: its thumbnail at once, the source when read."""
        link = self.session.map.link
        full = getattr(link.read_thumbnails, "full", None) if link else None
        if link is None or full is None:
            return
        self.item, self._full = int(item), None
        self.problem.hide()
        self.title.setText(self._name(item, ""))
        self.facts.setText("Reading the image...")
        link.pictures.want("hover", np.array([item], dtype=np.int64))
        self._show_thumbnail()
        self._show_place()
        me = weakref.ref(self)
        self.controller.read(
            "image", lambda _project: full(int(item)), partial(_arrive, me)
        )

    def step(self, by: int) -> None:
        """Go to the image before or after, in the order of the gallery."""
        link, row = self.session.map.link, self._row()
        if link is None or row < 0 or not 0 <= row + by < len(link.browse_ids):
            return
        item = int(link.browse_ids[row + by])
        self.show_item(item)
        link.show_point(item, centre="if hidden")

    def _row(self) -> int:
        link = self.session.map.link
        if link is None or self.item < 0:
            return -1
        rows = np.flatnonzero(link.browse_ids == self.item)
        return int(rows[0]) if rows.size else -1

    def _show_place(self) -> None:
        link, row = self.session.map.link, self._row()
        count = len(link.browse_ids) if link is not None else 0
        self.back.setEnabled(row > 0)
        self.on.setEnabled(0 <= row < count - 1)
        self.place.setText(f"{row + 1:,} of {count:,}" if row >= 0 else "")
        for control in (self.fit, self.actual):
            control.setEnabled(self.item >= 0)
        if self.item < 0:
            self.percent.setText("")

    def _name(self, item: int, source: str) -> str:
        link = self.session.map.link
        class_name = link.class_name(item) if link is not None else ""
        file = PurePath(source).name
        parts = [file if file and file != str(item) else f"#{item:,}"]
        if class_name:
            parts.append(class_name)
        return " ".join(" \N{MIDDLE DOT} ".join(parts).split())

    def _show_thumbnail(self, ids: Any = None) -> None:
        """Show the thumbnail as long as the image is not there."""
        link = self.session.map.link
        if self._full is not None or self.item < 0 or link is None:
            return
        picture = link.pictures.get(self.item)
        if picture is not None and picture.values is not None:
            self.view.show_image(to_qimage(link.look.to_rgb(picture.values)))
            self.stack.setCurrentIndex(1)

    def _arrived(self, full: FullImage) -> None:
        if full.item != self.item:
            return
        self._full = full
        self.title.setText(self._name(full.item, full.source))
        self.problem.setVisible(bool(full.error))
        if full.error:
            self.problem.setText(
                f"The source image cannot be shown: {full.error.rstrip(' .')}. This is "
                "its thumbnail."
            )
        self._show_again()
        self.stack.setCurrentIndex(1)
        height, width = full.values.shape[:2]
        kind = "" if full.values.dtype == np.uint8 else f", {full.values.dtype}"
        place = full.source if full.source != str(full.item) else ""
        facts = (f"{width:,} x {height:,} pixels{kind}", " ".join(place.split()))
        self.facts.setText(" \N{MIDDLE DOT} ".join(f for f in facts if f))
        self.facts.setToolTip(plain_tip(full.location))

    def _show_again(self) -> None:
        """Paint the image with the contrast and colours of the page."""
        if self._full is not None:
            link = self.session.map.link
            look = link.look if link is not None else Look()
            self.view.show_image(to_qimage(look.to_rgb(self._full.values)))


def _arrive(panel: Callable[[], ImagePanel | None], full: FullImage) -> None:
    alive = panel()
    if alive is not None:
        alive._arrived(full)


def open_image(viewer: Any) -> ImagePanel:
    """Open the image panel, or find it."""
    panel: ImagePanel = open_beside(viewer, WIDGET)
    return panel


def open_beside(viewer: Any, widget: str) -> Any:
    """Open a panel below the other panels, or as a tab in a low window."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    known = set(viewer.window.dock_widgets)
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, widget)
    window = dock.parentWidget()
    if set(viewer.window.dock_widgets) != known:
        panels = viewer.window.dock_widgets.get(f"{ALL} ({PLUGIN})")
        other = panels.parent() if panels is not None else None
        while other is not None and other.parentWidget() is not window:
            other = other.parentWidget()
        if other is not None and window.height() < TALL_PX:
            window.tabifyDockWidget(other, dock)
        elif other is not None:
            # When the new dock has its place: now the two would share by their hints.
            sizes = [max(1, other.height() - HEIGHT_PX), HEIGHT_PX]
            QTimer.singleShot(0, partial(_share, window, [other, dock], sizes))
    dock.show()
    dock.raise_()
    return panel


def _share(window: Any, docks: list[Any], sizes: list[int]) -> None:
    window.resizeDocks(docks, sizes, Qt.Orientation.Vertical)
