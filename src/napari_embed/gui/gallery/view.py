"""A grid of equal cells over any number of rows: places are computed, not stored.

Qt's own list view lays out every row (0.6 s for a million, again at every resize);
here only what is in the window costs anything.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import (
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QPainter, QPalette, QRegion
from qtpy.QtWidgets import (
    QAbstractItemView,
    QStyle,
    QStyleOptionViewItem,
)

__all__ = ["GalleryView"]

MOST_SCROLL = 2**30


class GalleryView(QAbstractItemView):
    """Shows a list model as a grid that fills the width, row by row.

    Keys: arrows, Home, End, Page up and down move; Shift extends, Ctrl+A selects all;
    Enter opens, Space points at.
    """

    opened = Signal(int)  # row: Enter or double-click
    pointed = Signal(int)  # row: Space
    scrolled = Signal()  # other rows may be in the window

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._cell = QSize(80, 96)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setMouseTracking(True)
        self.setFrameShape(QAbstractItemView.Shape.NoFrame)
        self._band = QRect()
        self.doubleClicked.connect(lambda index: self.opened.emit(index.row()))

    # Geometry

    @property
    def cell(self) -> QSize:
        """Smallest size of a cell; cells share what is left of the width."""
        return self._cell

    def set_cell(self, size: QSize) -> None:
        """Change the size of the cells; the first row of the window stays first."""
        first = self.first_row()
        self._cell = size
        self._keep_first(first)

    def columns(self) -> int:
        """Return the number of cells side by side."""
        return max(1, self.viewport().width() // max(1, self._cell.width()))

    def _count(self) -> int:
        model = self.model()
        return model.rowCount() if model is not None else 0

    def _lines(self) -> int:
        return -(-self._count() // self.columns())

    def _unit(self) -> int:
        """Return pixels per step of the scroll bar; 1 but for absurd heights."""
        return max(1, -(-self._lines() * self._cell.height() // MOST_SCROLL))

    def _place(self, row: int) -> QRect:
        columns = self.columns()
        line, column = divmod(row, columns)
        width = self.viewport().width()
        left = column * width // columns
        right = (column + 1) * width // columns
        top = line * self._cell.height() - self.verticalOffset()
        far = 2 * MOST_SCROLL - 1  # Qt's rectangles are of 32 bits
        top = min(max(top, -far), far - self._cell.height())
        return QRect(left, top, right - left, self._cell.height())

    def _row_at(self, point: QPoint) -> int:
        """Return the row at a point of the window, or -1."""
        line = (point.y() + self.verticalOffset()) // self._cell.height()
        if not 0 <= point.x() < self.viewport().width() or line < 0:
            return -1
        row = line * self.columns() + self._column_at(point.x())
        return row if row < self._count() else -1

    def _column_at(self, x: int) -> int:
        """Return the column that holds a pixel; inverse of `_place`."""
        columns, width = self.columns(), max(1, self.viewport().width())
        return min(max(((x + 1) * columns - 1) // width, 0), columns - 1)

    def first_row(self) -> int:
        """Return the first row in the window."""
        return self.verticalOffset() // self._cell.height() * self.columns()

    def rows_in_window(self) -> range:
        """Return the rows that are at least partly to be seen."""
        first = self.first_row()
        height = self.viewport().height()
        lines = (self.verticalOffset() % self._cell.height() + height - 1) // (
            self._cell.height()
        ) + 1
        return range(first, min(first + lines * self.columns(), self._count()))

    def _keep_first(self, first: int) -> None:
        self.updateGeometries()
        top = first // self.columns() * self._cell.height()
        self.verticalScrollBar().setValue(top // self._unit())
        self.viewport().update()
        self.scrolled.emit()

    # Qt's names from here on

    def visualRect(self, index: QModelIndex) -> QRect:  # noqa: N802
        """Return the place of a row in the window."""
        return self._place(index.row()) if index.isValid() else QRect()

    def indexAt(self, point: QPoint) -> QModelIndex:  # noqa: N802
        """Return the row at a point of the window."""
        row = self._row_at(point)
        return self.model().index(row, 0) if row >= 0 else QModelIndex()

    def scrollTo(  # noqa: N802
        self,
        index: QModelIndex,
        hint: Any = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        """Scroll until a row is in the window."""
        if not index.isValid():
            return
        height, cell = self.viewport().height(), self._cell.height()
        above = index.row() // self.columns() * cell
        top = above - self.verticalOffset()
        move = 0
        if hint == QAbstractItemView.ScrollHint.PositionAtCenter:
            move = top + (cell - height) // 2
        elif top < 0:
            move = top
        elif top + cell > height:
            move = min(top, top + cell - height)
        if move:
            to = self.verticalOffset() + move
            self.verticalScrollBar().setValue(-(-to // self._unit()))

    def moveCursor(self, action: Any, modifiers: Any) -> QModelIndex:  # noqa: N802
        """Return the row that a key leads to."""
        moves = QAbstractItemView.CursorAction
        columns, count = self.columns(), self._count()
        if not count:
            return QModelIndex()
        now = self.currentIndex().row() if self.currentIndex().isValid() else -1
        page = columns * max(1, self.viewport().height() // self._cell.height())
        steps = {
            moves.MoveLeft: -1, moves.MovePrevious: -1,
            moves.MoveRight: 1, moves.MoveNext: 1,
            moves.MoveUp: -columns, moves.MoveDown: columns,
            moves.MovePageUp: -page, moves.MovePageDown: page,
        }  # fmt: skip
        if action == moves.MoveHome:
            to = 0
        elif action == moves.MoveEnd:
            to = count - 1
        elif now < 0:
            to = self.first_row()
        else:
            to = now + steps.get(action, 0)
            if not 0 <= to < count:
                # A whole line or page that is not there: stay in the column.
                paging = action in (moves.MovePageUp, moves.MovePageDown)
                to = min(max(to, now % columns), count - 1) if paging else now
        return self.model().index(to, 0)

    def horizontalOffset(self) -> int:  # noqa: N802
        """Return 0: the grid is as wide as the window."""
        return 0

    def verticalOffset(self) -> int:  # noqa: N802
        """Return how many pixels are above the window."""
        return self.verticalScrollBar().value() * self._unit()

    def isIndexHidden(self, index: QModelIndex) -> bool:  # noqa: N802
        """Return False: no row is hidden."""
        return False

    def setSelection(self, rect: QRect, command: Any) -> None:  # noqa: N802
        """Select a rectangle of cells when dragging, else a run of rows."""
        selection = QItemSelection()
        dragging = self.state() == QAbstractItemView.State.DragSelectingState
        if dragging:
            self._band = rect.normalized()
            for run in self._runs(self._band):
                selection.select(*(self.model().index(r, 0) for r in run))
        else:
            ends = [self._row_at(p) for p in (rect.topLeft(), rect.bottomRight())]
            if min(ends) >= 0:
                low, high = sorted(ends)
                selection.select(
                    self.model().index(low, 0), self.model().index(high, 0)
                )
        self.selectionModel().select(selection, command)

    def _runs(self, band: QRect) -> list[tuple[int, int]]:
        """Return (first, last) row of each line of cells that a rectangle touches."""
        columns = self.columns()
        left, right = self._column_at(band.left()), self._column_at(band.right())
        height, offset = self._cell.height(), self.verticalOffset()
        first = max(0, (band.top() + offset) // height)
        last = min(self._lines() - 1, (band.bottom() + offset) // height)
        count = self._count()
        runs = []
        for line in range(first, last + 1):
            start = line * columns + left
            if start < count:
                runs.append((start, min(line * columns + right, count - 1)))
        return runs

    def visualRegionForSelection(self, selection: Any) -> QRegion:  # noqa: N802
        """Return the window: painting it is cheaper than to add up places."""
        return QRegion(self.viewport().rect())

    def updateGeometries(self) -> None:  # noqa: N802
        """Set the range of the scroll bar."""
        super().updateGeometries()
        unit, height = self._unit(), self.viewport().height()
        whole = self._lines() * self._cell.height()
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, -(-(whole - height) // unit)))
        bar.setPageStep(max(1, height // unit))
        bar.setSingleStep(max(1, self._cell.height() // 3 // unit))

    def reset(self) -> None:
        """Show a model that is another as a whole, from its beginning."""
        super().reset()
        self._band = QRect()
        self.updateGeometries()
        self.verticalScrollBar().setValue(0)
        self.scrolled.emit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Keep the first row first."""
        old = event.oldSize().width()
        columns = max(1, old // max(1, self._cell.width()))
        first = self.verticalOffset() // self._cell.height() * columns
        super().resizeEvent(event)
        self._keep_first(first)

    def scrollContentsBy(self, dx: int, dy: int) -> None:  # noqa: N802
        """Paint anew: other rows are in the window."""
        self.viewport().update()
        self.scrolled.emit()

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Paint the rows in the window."""
        painter = QPainter(self.viewport())
        model, delegate = self.model(), self.itemDelegate()
        chosen, current = self.selectionModel(), self.currentIndex()
        under = self._row_at(self.viewport().mapFromGlobal(self.cursor().pos()))
        for row in self.rows_in_window():
            place = self._place(row)
            if not event.region().intersects(place):
                continue
            index = model.index(row, 0)
            option = QStyleOptionViewItem()
            option.initFrom(self)
            option.rect = place
            states = QStyle.StateFlag
            option.state &= ~(states.State_MouseOver | states.State_HasFocus)
            if chosen.isSelected(index):
                option.state |= states.State_Selected
            if row == under and self.viewport().underMouse():
                option.state |= states.State_MouseOver
            if index == current and self.hasFocus():
                option.state |= states.State_HasFocus
            delegate.paint(painter, option, index)
        if self.state() == QAbstractItemView.State.DragSelectingState:
            self._paint_band(painter)
        painter.end()

    def _paint_band(self, painter: QPainter) -> None:
        color = QColor(self.palette().color(QPalette.ColorRole.Highlight))
        painter.setPen(color)
        color.setAlpha(60)
        painter.fillRect(self._band, color)
        painter.drawRect(self._band)

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Mark the cell under the cursor."""
        super().mouseMoveEvent(event)
        self.viewport().update()

    def leaveEvent(self, event: Any) -> None:  # noqa: N802
        """Mark no cell."""
        super().leaveEvent(event)
        self.viewport().update()

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """Take the rubber band away."""
        super().mouseReleaseEvent(event)
        self.viewport().update()

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Enter opens, Space points at; the rest is Qt's."""
        row = self.currentIndex().row() if self.currentIndex().isValid() else -1
        if row >= 0 and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.opened.emit(row)
        elif row >= 0 and event.key() == Qt.Key.Key_Space and not event.modifiers():
            self.pointed.emit(row)
        else:
            super().keyPressEvent(event)

    def keyboardSearch(self, search: str) -> None:  # noqa: N802
        """Do nothing: Qt's search would walk through all rows for a letter."""

    def select_rows(self, row: int) -> None:
        """Make a row the current and only selected one, and scroll to it."""
        index = self.model().index(row, 0)
        flag = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.selectionModel().setCurrentIndex(index, flag)
        self.scrollTo(index)
