"""The Curate panel: tags, corrected labels, notes, exclusion, and undo of all."""

from __future__ import annotations

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QListWidget,
    QMenu,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import Card, button, label, plain_tip
from napari_embed.gui.docks.saved import SavedCard, when_words
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.state import DecisionsView, TagView, ViewState

__all__ = ["CuratePanel"]

SWATCH_PX = 12
TAG_ROWS, STEP_ROWS = 5, 6
EMPTY = "Open images or a project in the Project panel first."
NO_TAGS = (
    "No tags yet. Type a name and press Enter; then select points and tag them. Number "
    "keys 1 to 9 tag while the gallery has the focus."
)
NO_STEPS = "Nothing was decided yet. Every decision is kept and can be undone here."


def _swatch(color: str) -> QIcon:
    picture = QPixmap(SWATCH_PX, SWATCH_PX)
    picture.fill(QColor(color))
    return QIcon(picture)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(GAP_PX)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


class CuratePanel(Panel):
    """Decide about the selected items; everything is kept and can be undone."""

    def build(self) -> None:
        """Make the widgets."""
        self.empty = label(EMPTY, "muted", wrap=True)
        self.content.addWidget(self.empty)
        self.read_only = label("", "warn", wrap=True)
        self.content.addWidget(self.read_only)
        self.body = QWidget()
        column = QVBoxLayout(self.body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX + 2)
        self.saved = SavedCard(self.controller)
        for card in (
            self._build_tags(),
            self._build_words(),
            self._build_excluded(),
            self.saved,
            self._build_steps(),
        ):
            column.addWidget(card)
        self.content.addWidget(self.body)
        self.content.addStretch(1)

    # --- widgets -----------------------------------------------------------------

    def _build_tags(self) -> Card:
        self.tags_card = card = Card("Tags")
        self.no_tags = label(NO_TAGS, "muted", wrap=True)
        card.body.addWidget(self.no_tags)
        self.tags = QTreeWidget()
        self.tags.setAccessibleName("Tags")
        self.tags.setHeaderLabels(["Tag", "Key", "Items"])
        self.tags.setRootIsDecorated(False)
        self.tags.setUniformRowHeights(True)
        self.tags.setIconSize(QSize(SWATCH_PX, SWATCH_PX))
        self.tags.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        header = self.tags.header()
        assert header is not None
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.tags.currentItemChanged.connect(lambda *_: self._enable())
        self.tags.itemDoubleClicked.connect(lambda *_: self._select_tagged())
        self.tags.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tags.customContextMenuRequested.connect(self._tag_menu)
        card.body.addWidget(self.tags)
        self.tag_selected = button(
            "Tag selected", self._tag, tip="Give the selected items this tag (T)"
        )
        self.untag_selected = button(
            "Take off", self._untag, tip="Take this tag off the selected items"
        )
        self.select_tagged = button(
            "Select", self._select_tagged, tip="Select the items that have this tag"
        )
        card.body.addLayout(
            _row(self.tag_selected, self.untag_selected, self.select_tagged)
        )
        self.new_tag = self._line("New tag", self._make_tag, "Make a tag of this name")
        card.body.addWidget(self.new_tag)
        return card

    @staticmethod
    def _line(hint: str, entered: object, tip: str) -> QLineEdit:
        made = QLineEdit()
        made.setPlaceholderText(f"{hint}, then Enter")
        made.setToolTip(tip)
        made.setAccessibleName(hint)
        made.setMaxLength(1000)
        made.returnPressed.connect(entered)
        return made

    def _build_words(self) -> Card:
        self.words_card = card = Card("Label and note")
        self.label = QComboBox()
        self.label.setEditable(True)
        self.label.setAccessibleName("Corrected label")
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.label.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        line = self.label.lineEdit()
        assert line is not None
        line.setPlaceholderText("Right label")
        line.returnPressed.connect(self._set_label)
        self.set_label = button("Set", self._set_label, tip="Correct their label")
        self.reset_label = button(
            "Take back",
            lambda: self.controller.set_label(None),
            tip="The label they came with holds again",
        )
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.label, 1)
        row.addWidget(self.set_label)
        row.addWidget(self.reset_label)
        card.body.addLayout(row)
        self.note = self._line(
            "Note", self._set_note, "A note to the selected items; empty removes it"
        )
        card.body.addWidget(self.note)
        return card

    def _build_excluded(self) -> Card:
        self.excluded_card = card = Card("Excluded")
        self.exclude = button(
            "Exclude selected",
            self.controller.exclude_selected,
            tip="Take them out of map, gallery and exports (X); nothing is deleted",
        )
        self.include = button(
            "Include all again", self.controller.include_all, tip="Take all back in"
        )
        card.body.addLayout(_row(self.exclude, self.include))
        return card

    def _build_steps(self) -> Card:
        self.steps_card = card = Card("Decisions")
        self.no_steps = label(NO_STEPS, "muted", wrap=True)
        card.body.addWidget(self.no_steps)
        self.steps = QListWidget()
        self.steps.setAccessibleName("Decisions, newest first")
        self.steps.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.steps.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.steps.setTextElideMode(Qt.TextElideMode.ElideRight)
        card.body.addWidget(self.steps)
        self.undo = button("Undo", self.controller.undo_decision)
        self.redo = button("Redo", self.controller.redo_decision)
        card.body.addLayout(_row(self.undo, self.redo))
        return card

    # --- what is pressed -----------------------------------------------------------

    def _tag_name(self) -> str:
        item = self.tags.currentItem()
        return item.data(0, Qt.ItemDataRole.UserRole) if item is not None else ""

    def _tag(self) -> None:
        self.controller.tag_items(self._tag_name())

    def _untag(self) -> None:
        self.controller.untag_items(self._tag_name())

    def _select_tagged(self) -> None:
        if self._tag_name():
            self.controller.select_tagged(self._tag_name())

    def _make_tag(self) -> None:
        self.controller.new_tag(self.new_tag.text())
        self.new_tag.clear()

    def _set_label(self) -> None:
        text = self.label.currentText().strip()
        if text:
            self.controller.set_label(text)

    def _set_note(self) -> None:
        self.controller.set_note(self.note.text())
        self.note.clear()

    def _tag_menu(self, place: QPoint) -> None:
        name = self._tag_name()
        if name:
            menu = self.menu_for(name)
            menu.exec(self.tags.viewport().mapToGlobal(place))
            menu.deleteLater()

    def menu_for(self, name: str) -> QMenu:
        """Return what can be done with a tag."""
        menu = QMenu(self)
        menu.addAction("Colour...", lambda: self._choose_color(name))
        keys = menu.addMenu("Number key")
        for key in range(1, 10):
            keys.addAction(
                str(key),
                lambda key=key: self.controller.change_tag(name, shortcut=key),
            )
        keys.addAction("None", lambda: self.controller.change_tag(name, shortcut=0))
        menu.addSeparator()
        menu.addAction("Delete", lambda: self.controller.delete_tag(name))
        menu.setEnabled(self.controller.can_decide)
        return menu

    def _choose_color(self, name: str) -> None:
        view = self.controller.state.decisions
        old = next((t.color for t in view.tags if t.name == name), "") if view else ""
        color = QColorDialog.getColor(QColor(old), self, "Colour of the tag")
        if color.isValid():
            self.controller.change_tag(name, color=color.name())

    # --- what is shown -------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show tags, counts and steps."""
        self.empty.setVisible(new.project is None)
        self.body.setVisible(new.project is not None)
        view = new.decisions or DecisionsView()
        if new.decisions != old.decisions or new.project != old.project:
            self.read_only.setText(f"Decisions can be looked at only. {view.read_only}")
            self.read_only.setVisible(bool(view.read_only))
            self._show_tags(view.tags)
            self._show_labels(view.labels)
            self._show_steps(view)
        selected = f"{new.n_selected:,} selected" if new.n_selected else ""
        self.tags_card.set_state(selected, "muted")
        self.words_card.set_state(selected, "muted")
        out = f"{new.n_excluded:,}" if new.n_excluded else "none"
        self.excluded_card.set_state(out, "muted")
        self.saved.show_state(new, old)
        self._enable()

    def _show_tags(self, tags: tuple[TagView, ...]) -> None:
        chosen = self._tag_name()
        self.tags.clear()
        for tag in tags:
            key = str(tag.shortcut) if tag.shortcut else ""
            item = QTreeWidgetItem([tag.name, key, f"{tag.count:,}"])
            item.setData(0, Qt.ItemDataRole.UserRole, tag.name)
            item.setIcon(0, _swatch(tag.color))
            item.setTextAlignment(2, Qt.AlignmentFlag.AlignRight)
            self.tags.addTopLevelItem(item)
            if tag.name == chosen:
                self.tags.setCurrentItem(item)
        if tags and self.tags.currentItem() is None:
            self.tags.setCurrentItem(self.tags.topLevelItem(len(tags) - 1))
        self.no_tags.setVisible(not tags)
        self.tags.setVisible(bool(tags))
        rows = min(max(len(tags), 2), TAG_ROWS) + 1
        self.tags.setFixedHeight(rows * (self.fontMetrics().height() + 8) + 4)

    def _show_labels(self, labels: tuple[str, ...]) -> None:
        typed = self.label.currentText()
        coloring = self.controller.coloring
        known = coloring.names if coloring and coloring.kind == "category" else ()
        self.label.clear()
        self.label.addItems(sorted({*labels, *map(str, known)}))
        self.label.setEditText(typed)

    def _show_steps(self, view: DecisionsView) -> None:
        self.steps.clear()
        for step in view.done:
            self.steps.addItem(step.label)
            item = self.steps.item(self.steps.count() - 1)
            assert item is not None
            told = f"{step.label}\n{step.who}, {when_words(step.when)}"
            item.setToolTip(plain_tip(told))
        self.no_steps.setVisible(not view.done)
        self.steps.setVisible(bool(view.done))
        rows = min(max(len(view.done), 2), STEP_ROWS)
        self.steps.setFixedHeight(rows * (self.fontMetrics().height() + 6) + 6)
        for made, steps, word in (
            (self.undo, view.done, "Undo"),
            (self.redo, view.undone, "Redo"),
        ):
            made.setToolTip(plain_tip(f"{word}: {steps[0].label}") if steps else "")

    def _enable(self) -> None:
        state, may = self.controller.state, self.controller.can_decide
        view = state.decisions or DecisionsView()
        some, tag = may and state.n_selected > 0, bool(self._tag_name())
        for widget, on in (
            (self.tag_selected, some and tag),
            (self.untag_selected, some and tag),
            (self.select_tagged, tag),
            (self.new_tag, may),
            (self.label, some),
            (self.set_label, some),
            (self.reset_label, some),
            (self.note, some),
            (self.exclude, state.n_selected > 0),
            (self.include, state.n_excluded > 0),
            (self.undo, may and bool(view.done)),
            (self.redo, may and bool(view.undone)),
        ):
            widget.setEnabled(on)
