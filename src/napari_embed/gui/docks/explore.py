"""The Explore panel: choose map and colours, select, page through the images."""

from __future__ import annotations

import weakref

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.docks.display import DisplaySection
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.keys import show_keys
from napari_embed.gui.docks.legends import Legends
from napari_embed.gui.docks.live_card import LiveCard
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import (
    Card,
    button,
    elided,
    label,
    plain_tip,
)
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.link import Pager
from napari_embed.gui.state import ViewState

__all__ = ["ExplorePanel"]

COLORMAPS = ("viridis", "magma", "turbo", "cividis", "gray", "RdBu")
ONE_COLOR = "one colour"
TOOLS = (
    ("pan", "Pan", "Drag turns and moves the view (Esc)"),
    ("box", "Box", "Drag a rectangle around points (B). Shift adds, Alt takes away"),
    ("lasso", "Lasso", "Drag around points (L). Shift adds, Alt takes away"),
)
MODES = (
    ("replace", "New selection"),
    ("add", "Add"),
    ("subtract", "Subtract"),
    ("intersect", "Intersect"),
)


class ExplorePanel(Panel):
    """Look at a map: colours, classes, selection and the images of selected points."""

    def build(self) -> None:
        """Make the widgets."""
        self.empty = label("", "muted", wrap=True)
        self.content.addWidget(self.empty)
        self.body = QWidget()
        column = QVBoxLayout(self.body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX + 2)
        column.addLayout(self._build_choice())
        self.live = LiveCard(self.controller)
        column.addWidget(self.live)
        self.legends = Legends(self.controller)
        self.legend, self.numbers = self.legends.categories, self.legends.numbers
        column.addWidget(self.legend, 100)
        column.addWidget(self.numbers)
        column.addWidget(self._build_selection())
        self.rest = QWidget()  # takes the room that the legend does not need
        self.rest.setSizePolicy(
            QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding
        )
        self.status = elided("muted")
        column.addWidget(self.status)
        self.display = DisplaySection(self.controller, self.session.map)
        column.addWidget(self.display)
        column.addWidget(self.rest, 1)
        self.content.addWidget(self.body, 1)
        self.content.addStretch(0)
        self._follow_others()

    def _build_choice(self) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(GAP_PX)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self.projection = self._combo("Which map is on the canvas")
        self.projection.activated.connect(
            lambda _i: self.controller.show_projection(self.projection.currentText())
        )
        self.color = self._combo("What the colours stand for")
        self.color.activated.connect(lambda _i: self._color_chosen())
        self.colormap = self._combo("Colours of small to large numbers")
        self.colormap.addItems(COLORMAPS)
        self.colormap.activated.connect(
            lambda _i: self.controller.set_colormap(self.colormap.currentText())
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.projection, 1)
        self.dimensions = QButtonGroup(self)
        for d in (2, 3):
            made = QToolButton()
            made.setText(f"{d}D")
            made.setCheckable(True)
            made.setToolTip(f"See the {d}D map (Ctrl+Y turns from one to the other)")
            made.setAccessibleName(f"{d}D map")
            self.dimensions.addButton(made, d)
            row.addWidget(made)
        self.dimensions.idClicked.connect(self.controller.show_dimensions)
        form.addRow(label("Map"), row)
        form.addRow(label("Colour by"), self.color)
        self.colormap_label = label("Colours")
        form.addRow(self.colormap_label, self.colormap)
        self.choice = form
        return form

    @staticmethod
    def _combo(tip: str) -> QComboBox:
        made = QComboBox()
        made.setToolTip(tip)
        made.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        made.setMinimumContentsLength(7)
        return made

    def _build_selection(self) -> Card:
        card = Card("Selection")
        tools = QHBoxLayout()
        tools.setSpacing(4)
        self.tools = QButtonGroup(self)
        for index, (_, text, tip) in enumerate(TOOLS):
            made = QToolButton()
            made.setText(text)
            made.setToolTip(tip)
            made.setCheckable(True)
            made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.tools.addButton(made, index)
            tools.addWidget(made, 1)
        self.tools.idClicked.connect(
            lambda index: self.controller.set_tool(TOOLS[index][0])
        )
        self.keys = QToolButton()
        self.keys.setText("?")
        self.keys.setToolTip("List of keys (?)")
        self.keys.setAccessibleName("List of keys")
        self.keys.clicked.connect(lambda _checked=False: show_keys(self))
        tools.addWidget(self.keys)
        actions = QHBoxLayout()
        actions.setSpacing(4)
        wishes = (
            ("Invert", "Select what is not selected (I)", "invert_selection"),
            ("Clear", "Select nothing (Esc)", "clear_selection"),
            ("Hide", "Hide the selected points (H)", "hide_selected"),
            ("Isolate", "Show the selected points only (O)", "isolate_selected"),
            ("Show all", "Show every point and class (Shift+H)", "show_all"),
        )
        self.actions = {}
        for text, tip, method in wishes:
            made = button(text, getattr(self.controller, method), tip=tip)
            made.setProperty("compact", "true")
            self.actions[method] = made
            actions.addWidget(made, 1)
        card.body.addLayout(tools)
        card.body.addLayout(actions)
        card.body.addLayout(self._build_history())
        self.pager = Pager()
        self.pager.gallery_wanted.connect(
            lambda: self.controller.panel_wanted.emit("gallery")
        )
        self.pager.hover_wanted.connect(self.session.show_hover)
        self.pager.hover_box.setChecked(self.session.hover_shown)
        self.session.hover_changed.connect(self.pager.hover_box.setChecked)
        layout = self.pager.layout()
        if layout is not None:
            layout.setContentsMargins(0, 0, 0, 0)
        for box in (self.pager.size_box, self.pager.order_box):
            box.setMinimumContentsLength(6)
        card.body.addWidget(self.pager)
        self.no_images = label("These vectors came without images.", "muted", wrap=True)
        card.body.addWidget(self.no_images)
        self.selection_card = card
        return card

    def _build_history(self) -> QHBoxLayout:
        """Make the row of selection mode, undo, redo and exclude."""
        row = QHBoxLayout()
        row.setSpacing(4)
        self.mode = self._combo(
            "What a box or lasso does without a key; Shift adds, Alt takes away"
        )
        self.mode.setMinimumContentsLength(9)
        for how, text in MODES:
            self.mode.addItem(text, how)
        self.mode.activated.connect(
            lambda _i: self.controller.set_select_mode(self.mode.currentData())
        )
        row.addWidget(self.mode, 2)
        for text, method in (
            ("Undo", "undo"),
            ("Redo", "redo"),
            ("Exclude", "exclude_selected"),
        ):
            made = button(text, getattr(self.controller, method))
            made.setProperty("compact", "true")
            self.actions[method] = made
            row.addWidget(made, 1)
        self.actions["exclude_selected"].setToolTip(
            "Take the selected items out of the map; nothing is deleted (X)"
        )
        return row

    def _follow_others(self) -> None:
        """Follow the link, which comes and goes with the map, and the selection."""
        map_view, pager = self.session.map, self.pager

        def relink() -> None:
            pager.set_link(map_view.link)

        def count() -> None:
            panel = me()
            if panel is not None:
                panel.legends.count_selected()

        me = weakref.ref(self)
        selection = self.controller.selection_changed
        selection.connect(count)
        when_gone(self, lambda: selection.disconnect(count))
        map_view.link_changed.connect(relink)
        when_gone(self, lambda: map_view.link_changed.disconnect(relink))
        relink()

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        super().set_colors(colors)
        self.live.set_colors(colors)

    def _color_chosen(self) -> None:
        self.controller.color_by(self.color.currentData())

    def act(self, action: str) -> None:
        """Put a map back that was removed from the viewer."""
        shown = self.controller.state.projection
        if action == "show_map" and shown is not None:
            self.controller.tell(None)
            self.controller.show_projection(shown.name)

    # --- showing -----------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show map, colours and selection, or what to do to get a map."""
        has_map = new.projection is not None
        self.body.setVisible(has_map)
        self.empty.setVisible(not has_map)
        self.empty.setText(
            "Open images or a project in the Project panel first."
            if new.project is None
            else "This project has no map yet. Press Run all in the Compute panel."
        )
        if not has_map:
            return
        self._show_choice(new, old)
        self._show_selection(new)
        self.live.show_state(new)
        self.display.show_settings(new.display)
        self.status.setText(status_words(new))

    def _show_choice(self, new: ViewState, old: ViewState) -> None:
        names = [p.name for p in new.project.projections] if new.project else []
        shown = new.projection.name if new.projection else ""
        if shown not in names:  # still being computed, or cancelled
            names = [*names, shown]
        if [self.projection.itemText(i) for i in range(self.projection.count())] != (
            names
        ):
            self.projection.clear()
            self.projection.addItems(names)
        self.projection.setCurrentText(shown)
        self.dimensions.button(new.ndisplay).setChecked(True)
        self.projection.setEnabled(not self.controller.compute.live)
        wanted: list[str | None] = [None, *(c.name for c in new.columns)]
        if [self.color.itemData(i) for i in range(self.color.count())] != wanted:
            self.color.clear()
            for name in wanted:
                self.color.addItem(name or ONE_COLOR, name)
        self.color.setCurrentIndex(max(self.color.findData(new.color_column), 0))
        for widget in (self.colormap, self.colormap_label):
            widget.setVisible(new.color_kind == "number")
        self.colormap.setCurrentText(new.colormap)
        self.legends.show(new, old)

    def _show_selection(self, new: ViewState) -> None:
        has_images = new.project is None or new.project.has_images
        self.pager.setVisible(has_images)
        self.no_images.setVisible(not has_images)
        some = new.n_selected > 0
        self.selection_card.set_state(
            f"{new.n_selected:,} selected" if some else "nothing selected",
            "heading" if some else "muted",
        )
        for method in (
            "clear_selection",
            "hide_selected",
            "isolate_selected",
            "exclude_selected",
        ):
            self.actions[method].setEnabled(some)
        for method, what, key in (
            ("undo", new.undo_label, "Ctrl+Z"),
            ("redo", new.redo_label, "Ctrl+Shift+Z"),
        ):
            self.actions[method].setEnabled(bool(what))
            tip = f"{method.capitalize()}: {what} ({key})" if what else f"({key})"
            self.actions[method].setToolTip(plain_tip(tip))
        self.mode.setCurrentIndex(max(self.mode.findData(new.select_mode), 0))
        self.actions["show_all"].setEnabled(new.n_drawn < new.n_loaded)
        index = [name for name, _, _ in TOOLS].index(new.tool)
        chosen = self.tools.button(index)
        if chosen is not None:
            chosen.setChecked(True)


def status_words(state: ViewState) -> str:
    """Return "900 of 1,000 shown, 12 selected, 3 without a place"."""
    drawn, loaded = f"{state.n_drawn:,}", f"{state.n_loaded:,}"
    words = [f"{drawn} shown" if drawn == loaded else f"{drawn} of {loaded} shown"]
    words.append(f"{state.n_selected:,} selected")
    nowhere = state.project.n_items - state.n_loaded if state.project else 0
    if nowhere > 0:
        words.append(f"{nowhere:,} without a place")
    if state.n_excluded:
        words.append(f"{state.n_excluded:,} excluded")
    shown = state.projection
    if shown is not None and shown.title != shown.name:
        words.append(shown.title)
    return ", ".join(words)
