"""The Find panel: search, likeness and problems, each a selection in its order."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import Card, ProgressLine, button, label
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.searches import PROBLEMS, Problem
from napari_embed.gui.state import ProgressView, ViewState

__all__ = ["FindPanel"]

EMPTY = "Open images or a project in the Project panel first."
NOTHING = "Nothing was found."
HINT = (
    "What is found becomes the selection, best or worst first in the gallery; tag, "
    "label or exclude it in Curate."
)
IMAGES = "Images (*.jpg *.jpeg *.png *.tif *.tiff *.webp *.bmp *.gif)"


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


class FindPanel(Panel):
    """Look for items in words, by likeness, or by what may be wrong with them."""

    def build(self) -> None:
        """Make the widgets."""
        self.searches = self.session.searches
        self.empty = label(EMPTY, "muted", wrap=True)
        self.content.addWidget(self.empty)
        self.body = QWidget()
        column = QVBoxLayout(self.body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX + 2)
        for card in (
            self._build_words(),
            self._build_alike(),
            self._build_problems(),
            self._build_found(),
        ):
            column.addWidget(card)
        self.content.addWidget(self.body)
        self.content.addStretch(1)
        self._shown: object = None
        me = weakref.ref(self)

        def relay() -> None:
            panel = me()
            if panel is not None:
                panel._show_search()

        self.searches.changed.connect(relay)
        when_gone(self, lambda: self.searches.changed.disconnect(relay))

    def _build_words(self) -> Card:
        card = Card("Search")
        self.text = self._line("Id, part of a path, label or tag")
        self.text.returnPressed.connect(lambda: self.searches.find(self.text.text()))
        self.sql = self._line("width > 200 AND label = 'cat'")
        self.sql.setToolTip(
            "An SQL expression over the columns of the items and tags, excluded, "
            "final_label, note, x, y, z"
        )
        self.sql.returnPressed.connect(lambda: self.searches.where(self.sql.text()))
        card.body.addWidget(self.text)
        card.body.addWidget(self.sql)
        return card

    @staticmethod
    def _line(hint: str) -> QLineEdit:
        made = QLineEdit()
        made.setPlaceholderText(hint)
        made.setAccessibleName(hint)
        made.setClearButtonEnabled(True)
        return made

    def _build_alike(self) -> Card:
        self.alike_card = card = Card("Alike")
        self.like_mean = button(
            "Like selected", self.searches.alike, tip="Nearest to their mean (K)"
        )
        self.like_any = button(
            "Like any", lambda: self.searches.alike("any"), tip="Nearest to any of them"
        )
        self.like_image = button(
            "Like a file...", self._choose_image, tip="Nearest to an image file"
        )
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        for made in (self.like_mean, self.like_any, self.like_image):
            row.addWidget(made, 1)
        card.body.addLayout(row)
        return card

    def _build_problems(self) -> Card:
        card = Card("Problems")
        self.problem = QComboBox()
        self.problem.setAccessibleName("Problem")
        self.problem.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        for problem in PROBLEMS:
            self.problem.addItem(problem.title, problem)
        self.problem.currentIndexChanged.connect(lambda _index: self._enable())
        self.count = QSpinBox()
        self.count.setRange(1, 1_000_000)
        self.count.setValue(100)
        self.count.setToolTip("How many items")
        self.run = button("Find", self._find_problem)
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.problem, 1)
        row.addWidget(self.count)
        row.addWidget(self.run)
        card.body.addLayout(row)
        return card

    def _build_found(self) -> Card:
        self.found_card = card = Card("Found")
        self.line = ProgressLine()
        self.cancel = button("Cancel", self.searches.cancel)
        self.title = label(HINT, "muted", wrap=True)
        self.note = label("", "muted", wrap=True)
        self.again = button("Select again", self.searches.select_found)
        self.exclude = button(
            "Exclude the copies",
            self.searches.exclude_extra,
            tip="All but the best of each group; nothing is deleted",
        )
        self.take = button(
            "Take the suggested labels",
            self.searches.take_suggestions,
            tip="Correct their labels; can be undone in Curate",
        )
        for widget in (
            self.line, self.cancel, self.title, self.note, self.again, self.exclude,
            self.take,
        ):  # fmt: skip
            card.body.addWidget(widget)
        return card

    # --- what is pressed -----------------------------------------------------------

    def _choose_image(self) -> None:
        path, _kind = QFileDialog.getOpenFileName(self, "Like which image?", "", IMAGES)
        if path:
            self.searches.like_image(Path(path))

    def _find_problem(self) -> None:
        self.searches.problem(self._problem(), count=self.count.value())

    def _problem(self) -> Problem:
        return PROBLEMS[max(self.problem.currentIndex(), 0)]

    # --- what is shown -------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what can be done."""
        self.empty.setVisible(new.project is None)
        self.body.setVisible(new.project is not None)
        selected = f"{new.n_selected:,} selected" if new.n_selected else ""
        self.alike_card.set_state(selected, "muted")
        self._show_search()

    def _show_search(self) -> None:
        searches = self.searches
        found, busy = searches.found, bool(searches.busy)
        self.line.setVisible(busy)
        self.cancel.setVisible(busy)
        if busy:
            told = searches.progress
            view = ProgressView(message=searches.busy)
            if told is not None:
                view = ProgressView(
                    done=told.done, total=told.total, unit=told.unit,
                    rate=_known(told.rate), eta_s=_known(told.eta_s),
                )  # fmt: skip
            self.line.show_progress(view)
        count = len(found.ids) if found is not None else 0
        self.found_card.set_state(f"{count:,}" if found is not None else "", "muted")
        if found is not None:
            self.title.setText(found.title if count else f"{NOTHING} ({found.title})")
        else:
            self.title.setText(HINT)
        self.note.setText(found.note if found is not None else "")
        self.note.setVisible(bool(self.note.text()))
        self.again.setVisible(count > 0)
        self.exclude.setVisible(found is not None and found.extra.size > 0)
        self.take.setVisible(found is not None and bool(found.suggestions))
        self._enable()
        self._order(found)

    def _order(self, found: object) -> None:
        """Show the pictures in the order in which they were found, once."""
        link = self.session.map.link
        if found is self._shown or found is None or link is None:
            return
        self._shown = found
        ids = found.ids  # type: ignore[attr-defined]
        if len(ids):
            rest = np.ones(len(self.controller.placed), dtype=bool)
            rest[ids] = False
            order = np.concatenate([ids, np.flatnonzero(rest)]).astype(np.int32)
            link.set_sequence(order, "As found")

    def _enable(self) -> None:
        state = self.controller.state
        free = not self.searches.busy and state.project is not None
        vectors = free and bool(state.project and state.project.encoders)
        some = state.n_selected > 0
        self.count.setVisible(self._problem().counts)
        for widget, on in (
            (self.like_mean, vectors and some),
            (self.like_any, vectors and some),
            (self.like_image, vectors),
            (self.run, free),
            (self.take, self.controller.can_decide),
        ):
            widget.setEnabled(on)
