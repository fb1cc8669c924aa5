"""Selections and views that were kept under a name, as a card of the Curate panel."""

from __future__ import annotations

from datetime import datetime

from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLineEdit,
    QMenu,
    QTreeWidget,
    QTreeWidgetItem,
)

from napari_embed.curation.decisions import SavedSelection, SavedView
from napari_embed.gui.controller import Controller
from napari_embed.gui.docks.parts import Card, button, label, plain_tip
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.state import DecisionsView, ViewState

__all__ = ["SavedCard", "when_words"]

MOST_ROWS = 5
NOTHING = (
    "Nothing is saved yet. A selection or a view gets a name and stays in the project."
)
ROLE = Qt.ItemDataRole.UserRole


def when_words(moment: str) -> str:
    """Return a moment of the log (UTC) in the clock of this place."""
    try:
        found = datetime.fromisoformat(moment).astimezone()
    except ValueError:
        return moment
    return found.strftime("%Y-%m-%d %H:%M")


class SavedCard(Card):
    """Keep, apply, rename and delete named selections and views.

    Parameters
    ----------
    controller
        Whose they are.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__("Saved selections and views")
        self._controller = controller
        self.nothing = label(NOTHING, "muted", wrap=True)
        self.list = QTreeWidget()
        self.list.setAccessibleName("Saved selections and views")
        self.list.setHeaderHidden(True)
        self.list.setColumnCount(2)
        self.list.setRootIsDecorated(False)
        self.list.setUniformRowHeights(True)
        header = self.list.header()
        assert header is not None
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.list.itemDoubleClicked.connect(lambda *_: self.apply())
        self.list.currentItemChanged.connect(lambda *_: self._enable())
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._show_menu)
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name to save under")
        self.name.setAccessibleName("Name to save under")
        self.name.setMaxLength(1000)
        self.name.textChanged.connect(lambda _text: self._enable())
        self.keep_selection = button(
            "Save selection", self._keep_selection, tip="Under this name"
        )
        self.keep_view = button(
            "Save view",
            self._keep_view,
            tip="Map, camera, colours and what is hidden, under this name",
        )
        self.use = button("Apply", self.apply, tip="Select these, or look like that")
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        for made in (self.keep_selection, self.keep_view, self.use):
            row.addWidget(made, 1)
        self.body.addWidget(self.nothing)
        self.body.addWidget(self.list)
        self.body.addWidget(self.name)
        self.body.addLayout(row)

    # --- what is pressed -------------------------------------------------------------

    def _keep_selection(self) -> None:
        self._controller.save_selection(self.name.text())
        self.name.clear()

    def _keep_view(self) -> None:
        self._controller.save_view(self.name.text())
        self.name.clear()

    def _current(self) -> tuple[str, str]:
        item = self.list.currentItem()
        return item.data(0, ROLE) if item is not None else ("", "")

    def apply(self) -> None:
        """Select what is kept, or look as it was kept."""
        kind, name = self._current()
        if kind == "selection":
            self._controller.apply_selection(name)
        elif kind == "view":
            self._controller.apply_view(name)

    def _show_menu(self, place: QPoint) -> None:
        kind, name = self._current()
        if kind:
            menu = self.menu_for(kind, name)
            menu.exec(self.list.viewport().mapToGlobal(place))
            menu.deleteLater()

    def menu_for(self, kind: str, name: str) -> QMenu:
        """Return what can be done with a kept selection or view."""
        menu = QMenu(self)
        menu.addAction("Apply", self.apply)
        rename = menu.addAction("Rename...", lambda: self._rename(kind, name))
        delete = menu.addAction(
            "Delete", lambda: self._controller.delete_saved(kind, name)
        )
        for action in (rename, delete):
            if action is not None:
                action.setEnabled(self._controller.can_decide)
        return menu

    def _rename(self, kind: str, name: str) -> None:
        new, given = QInputDialog.getText(self, "Rename", "New name:", text=name)
        if given and new.strip():
            self._controller.rename_saved(kind, name, new)

    # --- what is shown ---------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what is kept."""
        if new.decisions != old.decisions or new.project != old.project:
            view = new.decisions or DecisionsView()
            self._fill(view)
        self._enable()

    def _fill(self, view: DecisionsView) -> None:
        chosen = self._current()
        self.list.clear()
        for kept in view.selections:
            self._add("selection", kept, f"{kept.n_items:,} items", chosen)
        for look in view.views:
            self._add("view", look, "view", chosen)
        count = self.list.topLevelItemCount()
        if count and self.list.currentItem() is None:
            self.list.setCurrentItem(self.list.topLevelItem(0))
        self.nothing.setVisible(not count)
        self.list.setVisible(count > 0)
        rows = min(max(count, 2), MOST_ROWS)
        self.list.setFixedHeight(rows * (self.fontMetrics().height() + 8) + 4)

    def _add(
        self,
        kind: str,
        kept: SavedSelection | SavedView,
        words: str,
        chosen: tuple[str, str],
    ) -> None:
        item = QTreeWidgetItem([kept.name, words])
        item.setData(0, ROLE, (kind, kept.name))
        told = f"{kept.name}\n{kept.who}, {when_words(kept.when)}"
        item.setToolTip(0, plain_tip(told))
        item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
        self.list.addTopLevelItem(item)
        if (kind, kept.name) == chosen:
            self.list.setCurrentItem(item)

    def _enable(self) -> None:
        state, may = self._controller.state, self._controller.can_decide
        named = may and bool(self.name.text().strip())
        self.keep_selection.setEnabled(named and state.n_selected > 0)
        self.keep_view.setEnabled(named and state.projection is not None)
        self.use.setEnabled(bool(self._current()[0]))
        self.name.setEnabled(may)
