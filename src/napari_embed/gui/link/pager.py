"""The pager: where we are in the pages of selected images, and how to move."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QShortcut,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_embed.gui.link.paging import ORDERS, PAGE_SIZES

__all__ = ["Pager"]

ORDER_WORDS = {
    "item": "In item order",
    "random": "In random order",
    "label": "By label",
}
# Signs of Latin-1 and general punctuation: every font has them.
BUTTONS = (
    ("first", "\u00ab", "First page"),
    ("prev", "\u2039", "Previous page (Shift+N)"),
    ("next", "\u203a", "Next page (N)"),
    ("last", "\u00bb", "Last page"),
)


class Pager(QWidget):
    """Buttons, page field, page size and order for an `ImageLink`.

    Parameters
    ----------
    link
        The image link, or None until `set_link` is called.
    """

    gallery_wanted = Signal()
    hover_wanted = Signal(bool)

    def __init__(self, link: Any = None, parent: QWidget | None = None):
        super().__init__(parent)
        self._link: Any = None
        self.label = QLabel(self)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setWordWrap(True)
        self.buttons = {name: self._button(*row) for name, *row in BUTTONS}
        for name, button in self.buttons.items():
            button.clicked.connect(lambda _=False, name=name: self._go(name))
        self.page_field = QSpinBox(self)
        self.page_field.setKeyboardTracking(False)
        self.page_field.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.page_field.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.page_field.setToolTip("Type a page and press Enter")
        self.page_field.setAccessibleName("Page")
        self.page_field.valueChanged.connect(self._on_page_typed)
        self.pages = QLabel(self)
        self.pages.setTextFormat(Qt.TextFormat.PlainText)
        self.size_box = QComboBox(self)
        for size in PAGE_SIZES:
            self.size_box.addItem(f"{size} per page", size)
        self.size_box.currentIndexChanged.connect(self._on_size)
        self.order_box = QComboBox(self)
        for order in ORDERS:
            self.order_box.addItem(ORDER_WORDS[order], order)
        self.order_box.currentIndexChanged.connect(self._on_order)
        for box in (self.size_box, self.order_box):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(10)
        self.gallery_button = self._button("Gallery", "Open the gallery: scroll, sort")
        self.gallery_button.clicked.connect(lambda _=False: self.gallery_wanted.emit())
        self.hover_box = QCheckBox("Show the picture at the cursor", self)
        self.hover_box.setToolTip("Picture, class and file of the point you are on")
        self.hover_box.setChecked(True)
        self.hover_box.toggled.connect(self.hover_wanted)
        self.fit_button = self._button("Fit", "Fit the points in beside the images")
        self.fit_button.clicked.connect(lambda: self._link and self._link.fit_view())
        self._lay_out()
        self._keys = [self._key("N", "next"), self._key("Shift+N", "prev")]
        self.set_link(link)

    def set_link(self, link: Any) -> None:
        """Serve another image link, or none."""
        if self._link is not None:
            self._link.changed.disconnect(self.refresh)
        self._link = link
        if link is not None:
            link.changed.connect(self.refresh)
        self.refresh()

    def closeEvent(self, event: Any) -> None:  # noqa: N802  (Qt's name)
        """Let the link go."""
        self.set_link(None)
        super().closeEvent(event)

    def refresh(self) -> None:
        """Show where the link is now."""
        link = self._link
        paging = link.paging if link is not None else None
        text = link.message if link is not None else "Open a map to see its images"
        self.label.setText(text)
        n_pages = paging.n_pages if paging is not None else 0
        back = paging is not None and paging.can_go_back
        on = paging is not None and paging.can_go_on
        for name, enabled in zip(self.buttons, (back, back, on, on), strict=True):
            self.buttons[name].setEnabled(enabled)
        with QSignalBlocker(self.page_field):
            self.page_field.setRange(min(1, n_pages), n_pages)
            self.page_field.setValue(paging.page + 1 if n_pages and paging else 0)
        self.page_field.setEnabled(n_pages > 1)
        self.pages.setText(f"of {n_pages:,}" if n_pages else "")
        self.fit_button.setEnabled(link is not None)
        for box in (self.size_box, self.order_box):
            box.setEnabled(link is not None)
        if link is not None:
            self._choose(self.size_box, link.page_size, f"{link.page_size} per page")
            self._choose(self.order_box, link.order, link.paging.title)

    def _choose(self, box: QComboBox, value: Any, words: str) -> None:
        with QSignalBlocker(box):
            index = box.findData(value)
            if index < 0:
                box.addItem(words, value)
                index = box.count() - 1
            elif value == "given":
                box.setItemText(index, words)
            box.setCurrentIndex(index)

    def _button(self, sign: str, words: str) -> QToolButton:
        button = QToolButton(self)
        button.setText(sign)
        button.setToolTip(words)
        button.setAccessibleName(words)
        button.setMinimumSize(QSize(28, 24))
        return button

    def _key(self, key: str, step: str) -> QShortcut:
        shortcut = QShortcut(QKeySequence(key), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(lambda: self._go(step))
        return shortcut

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(2)
        row.addWidget(self.buttons["first"])
        row.addWidget(self.buttons["prev"])
        row.addWidget(self.page_field, 1)
        row.addWidget(self.pages)
        row.addWidget(self.buttons["next"])
        row.addWidget(self.buttons["last"])
        row.addWidget(self.fit_button)
        grid = QGridLayout(self)
        grid.setContentsMargins(6, 6, 6, 6)
        grid.setSpacing(4)
        top = QHBoxLayout()
        top.addWidget(self.label, 1)
        top.addWidget(self.gallery_button)
        grid.addLayout(top, 0, 0, 1, 2)
        grid.addLayout(row, 1, 0, 1, 2)
        grid.addWidget(self.size_box, 2, 0)
        grid.addWidget(self.order_box, 2, 1)
        grid.addWidget(self.hover_box, 3, 0, 1, 2)

    def _go(self, step: str) -> None:
        if self._link is not None:
            getattr(self._link, step)()

    def _on_page_typed(self, page: int) -> None:
        if self._link is not None:
            self._link.jump(page - 1)

    def _on_size(self, index: int) -> None:
        if self._link is not None:
            self._link.page_size = self.size_box.itemData(index)

    def _on_order(self, index: int) -> None:
        if self._link is not None:
            self._link.order = self.order_box.itemData(index)
