"""The Find panel: search, likeness and problems, each a selection in its order."""

from __future__ import annotations

import weakref
from functools import cache
from pathlib import Path

import numpy as np
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
)

from napari_embed.encoders import list_encoders
from napari_embed.gui.docks.distance import DistanceSlider
from napari_embed.gui.docks.dropping import DropFrame
from napari_embed.gui.docks.filters import FilterCard, text_line
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import Card, ProgressLine, button, label
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.found import PROBLEMS, Problem, scores_of
from napari_embed.gui.state import ProgressView, ProjectInfo, ViewState

__all__ = ["FindPanel"]

EMPTY = "Open images or a project in the Project panel first."
NOTHING = "Nothing was found."
HINT = (
    "What is found becomes the selection, best or worst first in the gallery; tag, "
    "label or exclude it in Curate."
)
WORDS = "In words: a red bus at night"
WORDLESS = "To look for words, embed with CLIP (open_clip)."
IMAGES = "Images (*.jpg *.jpeg *.png *.tif *.tiff *.webp *.bmp *.gif)"


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _reads_words(project: ProjectInfo | None) -> bool:
    """Return whether the vectors that are compared came from an encoder with words."""
    return bool(project and project.encoders) and project.encoders[0] in _with_words()


@cache
def _with_words() -> frozenset[str]:
    return frozenset(info.name for info in list_encoders() if info.finds_text)


class FindPanel(Panel):
    """Look for items in words, by likeness, or by what may be wrong with them."""

    def build(self) -> None:
        """Make the widgets."""
        self.searches = self.session.searches
        self.empty = label(EMPTY, "muted", wrap=True)
        self.content.addWidget(self.empty)
        self.body = DropFrame("quiet drop")
        self.body.dropped.connect(lambda path: self.searches.like_image(Path(path)))
        column = QVBoxLayout(self.body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX + 2)
        for card in (
            self._build_words(),
            self._build_filters(),
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
        self.text = text_line("Id, part of a path, label or tag")
        self.text.returnPressed.connect(lambda: self.searches.find(self.text.text()))
        card.body.addWidget(self.text)
        return card

    def _build_filters(self) -> Card:
        self.filters = FilterCard(self.searches, self.controller.tell)
        return self.filters

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
        self.words = text_line(WORDS)
        self.words.returnPressed.connect(
            lambda: self.searches.like_text(self.words.text())
        )
        self.wordless = label(WORDLESS, "muted", wrap=True)
        card.body.addWidget(self.words)
        card.body.addWidget(self.wordless)
        return card

    def _build_problems(self) -> Card:
        card = Card("Problems")
        self.problem = QComboBox()
        self.problem.setAccessibleName("Problem")
        self.problem.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.problem.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.problem.setMinimumContentsLength(12)
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
        self.distance = DistanceSlider(self.searches)
        self.review = button(
            "Review",
            lambda: self.session.review_items(self.searches.found.ids),
            tip="One after the other by keys: tag, exclude, skip",
        )
        self.again = button("Select again", self.searches.select_found)
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.review, 1)
        row.addWidget(self.again, 1)
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
        for widget in (self.line, self.cancel, self.title, self.note, self.distance):
            card.body.addWidget(widget)
        card.body.addLayout(row)
        for made in (self.exclude, self.take):
            card.body.addWidget(made)
        return card

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        super().set_colors(colors)
        self.filters.histogram.set_colors(colors)

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
        self.filters.follow((new.project, new.projection) if new.project else None)
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
        if searches.preview:
            self.title.setText(searches.preview)
        self.note.setText(found.note if found is not None else "")
        self.note.setVisible(bool(self.note.text()))
        for made in (self.again, self.review):
            made.setVisible(count > 0)
        self.distance.follow(found)
        self.filters.show_query()
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
            scores = scores_of(found)
            link.set_scores(scores.text if scores is not None else None)
            link.set_sequence(order, "As found")

    def _enable(self) -> None:
        state = self.controller.state
        free = not self.searches.busy and state.project is not None
        vectors = free and bool(state.project and state.project.encoders)
        some = state.n_selected > 0
        reads_words = _reads_words(state.project)
        embedded = bool(state.project and state.project.encoders)
        self.wordless.setVisible(embedded and not reads_words)
        self.words.setVisible(self.wordless.isHidden())
        self.count.setVisible(self._problem().counts)
        for widget, on in (
            (self.like_mean, vectors and some),
            (self.like_any, vectors and some),
            (self.like_image, vectors),
            (self.words, vectors and reads_words),
            (self.run, free),
            (self.take, self.controller.can_decide),
        ):
            widget.setEnabled(on)
