"""The filter card of the Find panel: a form, a histogram, chips, an expression."""

from __future__ import annotations

import math
from collections.abc import Callable

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QCompleter,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QWidget,
)
from superqt import QFlowLayout

from napari_embed.curation.columns import Column
from napari_embed.curation.filters import Filter, Query
from napari_embed.errors import InputError
from napari_embed.gui.docks.histogram import Histogram
from napari_embed.gui.docks.parts import Card, button, set_role
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.filtering import WAYS, filter_of
from napari_embed.gui.found import Bars
from napari_embed.gui.gallery.painting import plain_tip
from napari_embed.gui.searches import Searches
from napari_embed.gui.state import Message

__all__ = ["FilterCard", "text_line"]

FIRST = "label"
CHIP_PX = 290
MOST_SHOWN = 80
SQL_HINT = "Expression: width > 200 AND label = 'cat'"


def text_line(hint: str) -> QLineEdit:
    """Return a line of text with a hint in it."""
    made = QLineEdit()
    made.setPlaceholderText(hint)
    made.setAccessibleName(hint)
    made.setClearButtonEnabled(True)
    return made


class FilterCard(Card):
    """Conditions on columns as chips that can be removed; all of them hold.

    Parameters
    ----------
    searches
        Does the filtering.
    tell
        Shows a message.
    """

    def __init__(self, searches: Searches, tell: Callable[[Message], None]) -> None:
        super().__init__("Filter")
        self.searches, self._tell = searches, tell
        self._columns: dict[str, Column] = {}
        self._about: object = None
        self._drawn = Query()
        self.body.addLayout(self._build_form())
        self.histogram = Histogram()
        self.histogram.brushed.connect(self._brushed)
        self.histogram.hide()
        self.body.addWidget(self.histogram)
        self.sql = text_line(SQL_HINT)
        self.sql.setToolTip(
            "An SQL expression over the columns of the items and tags, excluded, "
            "final_label, note, x, y, z; Enter takes it"
        )
        self.sql.returnPressed.connect(lambda: searches.where(self.sql.text()))
        self.sql.textChanged.connect(self._sql_typed)
        self.body.addWidget(self.sql)
        self.chips = QWidget()
        set_role(self.chips, "plain")
        self.flow = QFlowLayout(self.chips)
        self.flow.setContentsMargins(0, 0, 0, 0)
        self.flow.setSpacing(4)
        self.chips.hide()
        self.body.addWidget(self.chips)

    def _build_form(self) -> QHBoxLayout:
        self.column, self.way = self._box("Column"), self._box("How")
        self.value = self._box("Value")
        self.value.setEditable(True)
        self.value.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        line = self.value.lineEdit()
        assert line is not None
        line.setPlaceholderText("value")
        line.returnPressed.connect(self._add)
        completer = self.value.completer()
        if completer is not None:
            completer.setFilterMode(Qt.MatchFlag.MatchContains)
            completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        self.column.currentIndexChanged.connect(lambda _index: self._column_chosen())
        self.way.currentIndexChanged.connect(lambda _index: self._way_chosen())
        self.add = button("+", self._add, tip="Let this condition hold as well")
        self.add.setAccessibleName("Add the condition")
        set_role(self.add, "true", name="compact")
        self.add.setFixedWidth(28)
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        for widget, share in ((self.column, 1), (self.way, 1), (self.value, 1)):
            row.addWidget(widget, share)
        row.addWidget(self.add)
        return row

    @staticmethod
    def _box(name: str) -> QComboBox:
        made = QComboBox()
        made.setAccessibleName(name)
        made.setToolTip(name)
        made.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        made.setMinimumContentsLength(4)
        made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return made

    # --- the form --------------------------------------------------------------------

    def follow(self, about: object) -> None:
        """Offer the columns of a project; ``about`` differs when they may."""
        if about != self._about:
            self._about = about
            if about is not None:
                self.searches.columns(self._offer)

    def _offer(self, columns: list[Column]) -> None:
        kept = self.column.currentText() or FIRST
        self._columns = {c.name: c for c in columns if c.kind in WAYS}
        with QSignalBlocker(self.column):
            self.column.clear()
            self.column.addItems(list(self._columns))
            self.column.setCurrentIndex(max(0, self.column.findText(kept)))
        self._column_chosen()

    def _chosen_column(self) -> Column | None:
        return self._columns.get(self.column.currentText())

    def _column_chosen(self) -> None:
        column = self._chosen_column()
        if column is None:
            return
        with QSignalBlocker(self.way):
            self.way.clear()
            for words, way in WAYS[column.kind]:
                self.way.addItem(words, way)
        self.value.clear()
        self.value.clearEditText()
        self._way_chosen()
        if column.kind == "bool":
            self.value.addItems(["yes", "no"])
        elif column.kind != "number" and column.name != "id":
            self.searches.values(column.name, self._offer_values)
        self._ask_bars()

    def _offer_values(self, values: list[str]) -> None:
        typed = self.value.currentText()
        self.value.clear()
        for value in values:
            if value:
                self.value.addItem(value[:MOST_SHOWN], value)
        self.value.setEditText(typed)

    def _way_chosen(self) -> None:
        self.value.setEnabled(self.way.currentData() not in ("missing", "present"))

    def _add(self) -> None:
        column = self._chosen_column()
        if column is None:
            return
        text = self.value.currentText()
        place = self.value.findText(text, Qt.MatchFlag.MatchExactly)
        if place >= 0 and self.value.itemData(place) is not None:
            text = str(self.value.itemData(place))
        try:
            chip = filter_of(column, str(self.way.currentData()), text)
        except InputError as error:
            self._tell(Message(str(error), level="warning"))
            return
        self.searches.add_filter(chip)

    # --- the histogram ---------------------------------------------------------------

    def _ask_bars(self) -> None:
        column = self._chosen_column()
        numbers = column is not None and column.kind == "number"
        self.histogram.setVisible(numbers)
        if numbers and column is not None:
            self.searches.bars(column.name, self._show_bars)

    def _show_bars(self, bars: Bars) -> None:
        if bars.column == self.column.currentText():
            self.histogram.show_bars(bars, self._range(bars))

    def _range(self, bars: Bars) -> tuple[float, float] | None:
        for chip in self.searches.query.filters:
            if chip.column == bars.column and chip.op == "between":
                low, high = chip.values
                return (
                    -math.inf if low is None else float(low),
                    math.inf if high is None else float(high),
                )
        return None

    def _brushed(self, low: float, high: float) -> None:
        column = self._chosen_column()
        if column is not None:
            self.searches.add_filter(Filter(column.name, "between", (low, high)))

    def _sql_typed(self, text: str) -> None:
        """Let the expression go when its line was emptied."""
        if not text and self.searches.query.sql:
            self.searches.where("")

    # --- the chips -------------------------------------------------------------------

    def show_query(self) -> None:
        """Show the conditions that hold."""
        query = self.searches.query
        if query is self._drawn:
            return
        before, self._drawn = self._drawn, query
        while self.flow.count():
            item = self.flow.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for chip in query.filters:
            self.flow.addWidget(self._chip(chip))
        self.chips.setVisible(bool(query.filters))
        count = len(query.filters) + bool(query.sql)
        self.set_state(f"{count} hold" if count > 1 else "", "muted")
        if query.sql != before.sql and query.sql != self.sql.text().strip():
            self.sql.setText(query.sql)
        self._ask_bars()

    def _chip(self, chip: Filter) -> QToolButton:
        made = QToolButton()
        words = " ".join(chip.describe()[:1000].split())
        room = CHIP_PX - 40
        shown = self.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, room)
        made.setText(shown.replace("&", "&&") + "  \N{MULTIPLICATION SIGN}")
        made.setToolTip(plain_tip(words, "Press to remove this condition"))
        made.setAccessibleName(f"Remove: {words}")
        set_role(made, "chip")
        made.clicked.connect(lambda _checked=False: self.searches.remove_filter(chip))
        return made
