"""The legend of classes: click hides, double-click isolates, again restores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.legend.model import MISSING, OTHER, TOP, LegendModel, LegendRow

__all__ = ["CategoryLegend"]

NAME, SELECTED, COUNT = range(3)
HEADERS = ("Class", "Selected", "All")
SWATCH = 14
ROW_PX = 22
ROOT = QModelIndex()


def _swatch(row: LegendRow) -> QIcon:
    """Return a filled square, or only its outline while the class is hidden.

    Many classes in one line have no colour of their own: their square is quartered.
    """
    pixmap = QPixmap(SWATCH, SWATCH)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    color = QColor.fromRgbF(*row.color)
    painter.setPen(color)
    if row.code == OTHER and row.shown is not False:
        half = (SWATCH - 2) // 2
        for i, part in enumerate(row.parts):
            at = (1 + i % 2 * half, 1 + i // 2 * half)
            painter.fillRect(*at, half, half, QColor.fromRgbF(*part))
    else:
        if row.shown is not False:
            painter.setBrush(color)
        painter.drawRect(1, 1, SWATCH - 3, SWATCH - 3)
    painter.end()
    return QIcon(pixmap)


class _Table(QAbstractTableModel):
    """The lines of a `LegendModel`, for Qt."""

    def __init__(self, parent: QWidget):
        super().__init__(parent)
        self.lines: list[LegendRow] = []

    def show(self, lines: list[LegendRow]) -> None:
        """Replace the lines; the view keeps its place if they are the same classes."""
        same = [line.code for line in lines] == [line.code for line in self.lines]
        if not same:
            self.beginResetModel()
            self.lines = lines
            self.endResetModel()
        elif lines:
            self.lines = lines
            self.dataChanged.emit(self.index(0, 0), self.index(len(lines) - 1, COUNT))

    def rowCount(self, parent: QModelIndex = ROOT) -> int:  # noqa: N802  (Qt's name)
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: QModelIndex = ROOT) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(HEADERS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return HEADERS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
            side = left if section == NAME else right
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        line, column = self.lines[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (line.name, f"{line.selected:,}", f"{line.count:,}")[column]
        if role == Qt.ItemDataRole.DecorationRole and column == NAME:
            return _swatch(line)
        if role == Qt.ItemDataRole.ForegroundRole and line.shown is False:
            return QColor(128, 128, 128)
        if role == Qt.ItemDataRole.TextAlignmentRole and column != NAME:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


class _View(QTableView):
    """A table that tells clicks from double-clicks, and answers Space, Enter and C.

    Qt sends a click before and after every double-click; only the one before is
    passed on.
    """

    def __init__(self, parent: CategoryLegend):
        super().__init__(parent)
        self._legend = parent
        self._doubled = False
        self._x = 0
        self.clicked.connect(self._on_clicked)
        self.doubleClicked.connect(self._on_doubled)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802  (Qt's name)
        self._doubled = False
        super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: N802
        self._x = int(event.position().x())
        self._doubled = True
        super().mouseDoubleClickEvent(event)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        index = self.currentIndex()
        if index.isValid() and event.key() == Qt.Key.Key_Space:
            self._legend.click(index.row())
        elif index.isValid() and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._legend.double_click(index.row(), after_click=False)
        elif index.isValid() and event.key() == Qt.Key.Key_C and not event.modifiers():
            self._legend.pick_color(self._legend.table.lines[index.row()].code)
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: Any) -> None:  # noqa: N802
        """Let the keys act on the first line when none was chosen yet."""
        super().focusInEvent(event)
        if not self.currentIndex().isValid() and self._legend.table.lines:
            self.setCurrentIndex(self._legend.table.index(0, NAME))

    def _on_clicked(self, index: QModelIndex) -> None:
        if not self._doubled:
            self._legend.click(index.row())

    def _on_doubled(self, index: QModelIndex) -> None:
        edge = self.visualRect(index.siblingAtColumn(NAME)).left() + SWATCH + 8
        self._legend.double_click(index.row(), on_swatch=self._x < edge)


class CategoryLegend(QWidget):
    """Classes with colour and counts; fast for a thousand of them.

    A click on a line hides its class or shows it again, a double-click shows only this
    class, another one restores. A double-click on the coloured square, or the context
    menu, changes the colour. By key: arrows, Space hides, Enter isolates, C colours;
    Enter in the search shows only what was found.

    Notes
    -----
    Signals (psygnal): ``visibility_changed(frozenset of hidden codes)`` (-1: missing),
    ``color_changed(code, rgba)``, ``colors_reset()``.
    """

    visibility_changed = Signal(object)
    color_changed = Signal(int, object)
    colors_reset = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.model: LegendModel | None = None
        self._unfolded = False
        self._before_click: Any = None
        self.search = QLineEdit(self)
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._refresh)
        self.search.returnPressed.connect(self._isolate_found)
        self.table = _Table(self)
        self.view = self._make_view()
        self.hint = QLabel(self)
        self.hint.setTextFormat(Qt.TextFormat.PlainText)
        self.hint.setWordWrap(True)
        self.show_all_button = QToolButton(self)
        self.show_all_button.setText("Show all")
        self.show_all_button.setToolTip("Show all classes again")
        self.show_all_button.clicked.connect(self._show_all)
        self.fold_button = QToolButton(self)
        self.fold_button.clicked.connect(self._fold)
        self._lay_out()
        self._refresh()

    def set_model(self, model: LegendModel | None) -> None:
        """Show other classes, or none."""
        self.model = model
        self._unfolded = False
        self._before_click = None
        self.search.clear()
        self._refresh()

    def set_selection(self, mask: NDArray[np.bool_] | None) -> None:
        """Show how many items of each class are selected; (n,) mask."""
        if self.model is not None:
            self.model.set_selection(mask)
            self._refresh()

    def set_counted(self, mask: NDArray[np.bool_] | None) -> None:
        """Count only these items; (n,) mask, None for all."""
        if self.model is not None:
            self.model.set_counted(mask)
            self._refresh()

    def set_palette(self, palette: NDArray[np.float32]) -> None:
        """Show all classes in other colours, (m, 4)."""
        if self.model is not None:
            self.model.set_palette(palette)
            self._refresh()

    def pick_color(self, code: int) -> None:
        """Ask for another colour of a class."""
        if self.model is None or code < 0:
            return
        start = QColor.fromRgbF(*self.model.color(code))
        color = QColorDialog.getColor(start, self, f"Colour of {self.model.name(code)}")
        if color.isValid():
            self.set_color(code, (color.redF(), color.greenF(), color.blueF(), 1.0))

    def set_color(self, code: int, rgba: tuple[float, float, float, float]) -> None:
        """Give a class another colour, and tell."""
        assert self.model is not None
        self.model.set_color(code, rgba)
        self._refresh()
        self.color_changed.emit(code, self.model.color(code))

    def _make_view(self) -> QTableView:
        view = _View(self)
        view.setModel(self.table)
        view.setSelectionMode(QTableView.SelectionMode.NoSelection)
        view.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        view.setShowGrid(False)
        view.setWordWrap(False)
        view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        view.setIconSize(QSize(SWATCH, SWATCH))
        view.verticalHeader().hide()
        view.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        view.verticalHeader().setDefaultSectionSize(ROW_PX)
        header = view.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column in (SELECTED, COUNT):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            view.setColumnWidth(column, 72)
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.customContextMenuRequested.connect(self._on_menu)
        return view

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.hint, 1)
        row.addWidget(self.fold_button)
        row.addWidget(self.show_all_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(4)
        column.addWidget(self.search)
        column.addWidget(self.view, 1)
        column.addLayout(row)

    def _refresh(self, *_: Any) -> None:
        model = self.model
        text = self.search.text()
        lines = model.rows(search=text, unfolded=self._unfolded) if model else []
        self.table.show(lines)
        many = bool(model and model.other_codes)
        self.search.setVisible(many)
        self.search.setPlaceholderText(
            f"Search {len(model.names):,} classes" if model else "Search"
        )
        self.fold_button.setVisible(many and not text)
        self.fold_button.setText(f"Top {TOP}" if self._unfolded else "All classes")
        self.show_all_button.setEnabled(bool(model and model.hidden))
        self.hint.setText(self._hint(len(lines)))
        self._limit_height(len(lines))

    def _limit_height(self, rows: int) -> None:
        """Be no higher than the lines need, so that no large empty box is left."""
        header = self.view.horizontalHeader().sizeHint().height()
        needed = header + max(4, rows) * ROW_PX + 6
        layout = self.layout()
        if layout is not None:
            around = layout.sizeHint().height() - self.view.sizeHint().height()
            self.view.setMaximumHeight(needed)
            self.setMaximumHeight(max(around, 60) + needed)

    def _hint(self, shown: int) -> str:
        if self.model is None or not self.model.all_codes:
            return "Choose a column of classes to colour by"
        if not shown:
            return "No class has this name; clear the search to see all"
        if self.search.text().strip():
            return f"{shown:,} found. Enter: only these."
        hidden = len(self.model.hidden)
        if hidden:
            return f"{hidden:,} of {len(self.model.all_codes):,} classes hidden"
        return "Click: hide. Double-click: only this."

    def _isolate_found(self) -> None:
        """Show only the classes that were found; again: what was shown before."""
        if self.model is not None and self.table.lines and self.search.text().strip():
            self.model.isolate_all(self.model.found(self.search.text()))
            self._tell()

    def click(self, row: int) -> None:
        """Hide the class of a line, or show it again."""
        if self.model is None:
            return
        # A double-click begins with a click; it goes back to what was before.
        self._before_click = self.model.state()
        self._act(self.model.toggle, self.table.lines[row].code)

    def double_click(
        self, row: int, *, on_swatch: bool = False, after_click: bool = True
    ) -> None:
        """Show only the class of a line, or restore; on the square: pick a colour."""
        if self.model is None:
            return
        code = self.table.lines[row].code
        if after_click and self._before_click is not None:
            self.model.restore(self._before_click)
        self._before_click = None
        if on_swatch and code >= 0:
            self._tell()
            self.pick_color(code)
        else:
            self._act(self.model.isolate, code)

    def _on_menu(self, position: Any) -> None:
        index = self.view.indexAt(position)
        current = self.view.currentIndex()
        if current.isValid() and not index.isValid():  # the menu key
            index = current
        if self.model is None or not index.isValid():
            return
        code = self.table.lines[index.row()].code
        menu = QMenu(self)
        if code not in (MISSING, OTHER):
            menu.addAction("Change colour…", lambda: self.pick_color(code))
        menu.addAction("Colours as at first", self.colors_reset.emit)
        menu.addAction("Hide or show", lambda: self._act(self.model.toggle, code))
        menu.addAction("Show only this", lambda: self._act(self.model.isolate, code))
        menu.addAction("Show all", self._show_all)
        menu.exec(self.view.viewport().mapToGlobal(position))
        menu.deleteLater()

    def _act(self, action: Any, code: int) -> None:
        action(code)
        self._tell()

    def _show_all(self) -> None:
        if self.model is not None:
            self.model.show_all()
            self._tell()

    def _fold(self) -> None:
        self._unfolded = not self._unfolded
        self._refresh()

    def _tell(self) -> None:
        self._refresh()
        assert self.model is not None
        self.visibility_changed.emit(self.model.hidden)
