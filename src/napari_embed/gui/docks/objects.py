"""The Objects panel: the picture that objects lie in, linked with the map both ways."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.qt import QtViewer
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QSizePolicy,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.new_objects import open_new_objects
from napari_embed.gui.docks.object_layer import LinkedLabels
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import button, elided, label
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.link.sheet_on_canvas import camera_of
from napari_embed.gui.objects.colors import object_colors
from napari_embed.gui.objects.index import ObjectIndex, read_index
from napari_embed.gui.objects.lookup import lookup_colormap
from napari_embed.gui.objects.picture import (
    Picture,
    add_layers,
    channel_layers,
    channel_looks,
    label_at,
    read_picture,
)
from napari_embed.gui.state import ViewState

__all__ = ["ObjectsPanel", "open_objects"]

PLUGIN, WIDGET = "napari-embed", "Objects"
NONE = (
    "Open a project of objects to see them in their image, or make one: of an image "
    "and a labels layer, an OME-Zarr, a plate, or files. On the command line: "
    "napari-embed objects new IMAGE."
)
TRAVEL_PX = 4.0
LOOK_MS = 80
# After a jump so many sides of the object fit along the shorter side of the canvas.
NEAREST, FARTHEST = 3.0, 12.0


class ObjectsPanel(Panel):
    """Click an object to find its point; select points to light up their objects."""

    def _frame(self) -> None:
        """Fill the dock: the canvas takes what is left."""
        self.setLayout(self.content)
        self.message.hide()
        self.setMinimumSize(260, 220)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def build(self) -> None:
        """Make the widgets."""
        self.content.removeWidget(self.message)
        self.message.setParent(None)
        self.content.setContentsMargins(6, 4, 6, 4)
        self.content.setSpacing(GAP_PX)
        self.index: ObjectIndex | None = None
        self.labels: Any = None
        self.item = -1
        self._source: Any = None
        self._project = ""
        # Keys of pictures; that of a single image is "".
        self._shown: str | None = None
        self._wanted: str | None = None
        self._picture: Picture | None = None
        self.model = ViewerModel(title="Objects")
        _show_scale_bar(self.model)
        self.canvas = QtViewer(self.model)
        self.model.mouse_drag_callbacks.append(self._pressed)
        self.empty = label(NONE, "muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack = QStackedWidget()
        self.stack.addWidget(self._build_empty())
        self.stack.addWidget(self._build_split())
        self.content.addLayout(self._build_bar())
        self.content.addWidget(self.stack, 1)
        self.place = elided("muted", Qt.TextElideMode.ElideMiddle)
        self.linked = LinkedLabels(self.session, self)
        low = QHBoxLayout()
        low.setSpacing(GAP_PX)
        low.addWidget(self.place, 1)
        low.addWidget(self.linked.button)
        self.content.addLayout(low)
        self._looks = QTimer(self)
        self._looks.setSingleShot(True)
        self._looks.setInterval(LOOK_MS)
        self._looks.timeout.connect(self._push_looks)
        self._follow_map()

    def _build_empty(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(24, 0, 24, 0)
        column.addStretch(1)
        column.addWidget(self.empty)
        self.make = button(
            "Objects of a labels image\N{HORIZONTAL ELLIPSIS}",
            self._make_project,
            role="primary",
        )
        column.addWidget(self.make, 0, Qt.AlignmentFlag.AlignCenter)
        column.addStretch(1)
        return page

    def _make_project(self) -> None:
        open_new_objects(self.session)

    def _build_split(self) -> QSplitter:
        split = QSplitter(Qt.Orientation.Horizontal)
        self.canvas.controls.setMinimumWidth(0)
        self.canvas.controls.setMaximumWidth(250)
        split.addWidget(self.canvas)
        split.addWidget(self.canvas.controls)
        split.setStretchFactor(0, 1)
        self.canvas.controls.hide()
        return split

    def _build_bar(self) -> QHBoxLayout:
        bar = QHBoxLayout()
        bar.setSpacing(4)

        def tool(sign: str, words: str) -> QToolButton:
            made = QToolButton()
            made.setText(sign)
            made.setToolTip(words)
            made.setAccessibleName(words)
            made.setMinimumSize(QSize(28, 24))
            bar.addWidget(made)
            return made

        self.pictures = QComboBox()
        self.pictures.setToolTip("Picture shown here")
        self.pictures.setAccessibleName("Picture")
        self.pictures.setMinimumContentsLength(8)
        self.pictures.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.pictures.activated.connect(
            lambda _i: self.show_field(self.pictures.currentData())
        )
        bar.addWidget(self.pictures, 1)
        self.back = tool("\u2039", "Selected object before")
        self.back.clicked.connect(lambda _c=False: self.step(-1))
        self.on = tool("\u203a", "Next selected object: to its well, field and plane")
        self.on.clicked.connect(lambda _c=False: self.step(1))
        self.colored = QCheckBox("Colours")
        self.colored.setToolTip("Colour objects as their points on the map")
        self.colored.setChecked(True)
        self.colored.toggled.connect(lambda _on: self.recolor())
        bar.addWidget(self.colored)
        self.look = tool("\u25d0", "Contrast, colours and opacity of the layers")
        self.look.setCheckable(True)
        self.look.toggled.connect(self._show_look)
        return bar

    def _show_look(self, shown: bool) -> None:
        self.canvas.controls.setVisible(shown)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(520, 420)

    def release(self) -> None:
        """Let go of the canvas; the panel is of no use afterwards."""
        self.model.mouse_drag_callbacks.clear()
        self.model.layers.clear()
        self.labels = self._picture = None
        canvas = self.canvas
        del self.canvas
        canvas.close()
        canvas.deleteLater()

    # --- following -----------------------------------------------------------------

    def _follow_map(self) -> None:
        """Follow the points layer, which comes and goes, as long as this widget."""
        me = weakref.ref(self)
        added, changed = self.session.map.layer_added, self.controller.selection_changed

        def on_layer(layer: Any) -> None:
            panel = me()
            if panel is not None:
                panel._watch(layer)

        def on_selection() -> None:
            panel = me()
            if panel is not None:
                panel._selected()

        added.connect(on_layer)
        changed.connect(on_selection)
        model = self.model
        when_gone(self, lambda: added.disconnect(on_layer))
        when_gone(self, lambda: changed.disconnect(on_selection))
        when_gone(self, model.layers.clear)
        if self.session.map.layer is not None:
            self._watch(self.session.map.layer)

    def _watch(self, layer: Any) -> None:
        me = weakref.ref(self)

        def on_click(item: int) -> None:
            panel = me()
            if panel is not None:
                panel.go_to(item)

        def on_visible() -> None:
            panel = me()
            if panel is not None:
                panel.recolor()

        layer.signals.clicked.connect(on_click)
        layer.signals.visibility_changed.connect(on_visible)

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Follow the project and the colours."""
        path = str(new.project.path) if new.project else ""
        if path != self._project:
            self._project = path
            self._forget()
            if path:
                self._read_index()
        colors = ("color_column", "color_kind", "color_limits", "colormap",
                  "color_version", "hidden_classes", "projection")  # fmt: skip
        if any(getattr(new, n) != getattr(old, n) for n in colors):
            self.recolor()
            self.linked.refresh()
        elif new.decisions != old.decisions:
            self.linked.refresh()
        self.linked.show_state(busy=bool(new.busy or new.running))
        self._show_words()

    def _forget(self) -> None:
        self.index = self.labels = self._source = None
        self.item = -1
        self._shown = self._wanted = self._picture = None
        self.linked.show(None, "", None)
        self.pictures.clear()
        self.model.layers.clear()
        self.stack.setCurrentIndex(0)

    def _read_index(self) -> None:
        def work(project: Any) -> Any:
            index = read_index(project)
            return index, project.source() if index is not None else None

        self.controller.read("objects", work, partial(_pass, weakref.ref(self)))

    def _indexed(self, found: Any) -> None:
        self.index, self._source = found
        if self.index is None:
            return
        self.pictures.clear()
        for field, well in zip(self.index.fields, self.index.wells, strict=True):
            name = field.rsplit("/", 1)[-1] or "Image"
            self.pictures.addItem(
                f"{well} \N{MIDDLE DOT} {name}" if well else name, field
            )
        self.stack.setCurrentIndex(1)
        self.show_field(self.index.fields[0])

    # --- a picture -------------------------------------------------------------------

    def show_field(self, field: str, item: int = -1) -> None:
        """Show a picture, and an item in it."""
        if self._source is None:
            return
        if field == self._shown:
            if item >= 0:
                self._centre(item)
            return
        self._wanted = field
        self.item = item
        self.place.setText("Reading the image...")
        source = self._source
        self.controller.read(
            "picture",
            lambda _project: read_picture(source, field),
            partial(_show, weakref.ref(self), item),
        )

    def _arrived(self, picture: Picture, item: int) -> None:
        if picture.field != self._wanted:
            return
        self._shown = picture.field
        self._picture = picture
        self.labels = add_layers(self.model, picture)
        self.pictures.setCurrentIndex(self.pictures.findData(picture.field))
        self._follow_looks()
        self.linked.show(self._source, picture.field, self._rows())
        self.recolor()
        self.model.reset_view()
        if item >= 0:
            self._centre(item)
        self._show_words()

    def _follow_looks(self) -> None:
        """Let the crops of the gallery follow contrast, colours and visibility."""
        for layer in channel_layers(self.model):
            for name in ("contrast_limits", "colormap", "gamma", "visible"):
                getattr(layer.events, name).connect(lambda _e: self._looks.start())

    def _push_looks(self) -> None:
        self.session.map.set_looks(channel_looks(self.model))

    def _t(self) -> int:
        if self._picture is None or "t" not in self._picture.axes[1]:
            return 0
        # The time axis is the first of all.
        return int(self.model.dims.current_step[0])

    def _rows(self) -> Any:
        """Return the items of the picture shown."""
        if self.index is None or self._shown is None:
            return np.zeros(0, np.int64)
        return self.index.rows(self._shown, self._t())

    def recolor(self) -> None:
        """Give each object of the picture the colour of its point."""
        if self.labels is None or self.index is None:
            return
        self.labels.visible = self.colored.isChecked()
        if not self.colored.isChecked():
            return
        rows = self._rows()
        state, points = self.controller.state, self.session.map.layer
        coloring = self.controller.coloring
        if (
            coloring is not None
            and not coloring.codes.size
            and not coloring.values.size
        ):
            coloring = None
        codes, palette = object_colors(
            rows, coloring, self.session.map.selection(),
            None if points is None else points.pickable,
            colormap=state.colormap, limits=state.color_limits,
        )  # fmt: skip
        self.labels.colormap = lookup_colormap(self.index.label[rows], codes, palette)

    def _selected(self) -> None:
        self.recolor()
        chosen = self._chosen()
        if (
            chosen.size
            and self.index is not None
            and self.session.map.layer is not None
        ):
            here = self.index.rows(self._shown, self._t())
            if not np.isin(chosen, here).any():
                self.go_to(int(chosen[0]))
        self._show_words()

    def _chosen(self) -> Any:
        """Return the selected items."""
        if self.index is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.session.map.selection())

    def step(self, by: int) -> None:
        """Go to the next or previous selected object (of all, when none is)."""
        if self.index is None:
            return
        chosen = self._chosen()
        if not chosen.size:
            chosen = np.arange(len(self.index.label))
        at = int(np.searchsorted(chosen, self.item, "left" if by < 0 else "right"))
        at = at - 1 if by < 0 else at
        if 0 <= at < chosen.size:
            item = int(chosen[at])
            self.go_to(item)
            if self.session.map.link is not None:
                self.session.map.link.show_point(item, centre="if hidden")

    def go_to(self, item: int) -> None:
        """Show an item in its picture: well, field, plane and place."""
        if self.index is not None and 0 <= item < len(self.index.label):
            self.show_field(self.index.spot(item).field, item)

    def _centre(self, item: int) -> None:
        picture = self._picture
        if self.index is None or picture is None:
            return
        spot = self.index.spot(item)
        self.item = item
        scale = dict(zip(picture.axes[0], picture.scale, strict=True))
        at = {"t": spot.t, "z": spot.plane * scale.get("z", 1.0)}
        for axis, letter in enumerate(picture.axes[0][:-2]):
            self.model.dims.set_point(axis, at[letter])
        y, x = spot.y * scale["y"], spot.x * scale["x"]
        camera = camera_of(self.model)
        camera.center = (0.0, y, x)
        # As it was zoomed, within a range where the object and its neighbors are seen.
        sides = min(self.canvas.canvas.size) / max(spot.side * scale["y"], 1e-9)
        camera.zoom = float(np.clip(camera.zoom, sides / FARTHEST, sides / NEAREST))
        self._show_words()

    # --- a click ---------------------------------------------------------------------

    def _pressed(self, _model: Any, event: Any) -> Generator[None, None, None]:
        start = np.asarray(event.pos)
        position = tuple(event.position)
        adds = "Shift" in event.modifiers
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - start).max() <= TRAVEL_PX:
            self.clicked(position, adds=adds)

    def clicked(self, position: tuple[float, ...], *, adds: bool = False) -> int:
        """Find the point of the object at a place of the picture; return its item.

        ``adds`` selects it as well.
        """
        if self.index is None or self._shown is None or self._picture is None:
            return -1
        value = label_at(self._picture, position)
        item = -1
        if value > 0:
            item = self.index.item_at(self._shown, self._t(), value)
        if item < 0:
            words = f"Label {value} is no item." if value > 0 else "No object here."
            self.place.setText(words)
            return -1
        self.item = item
        if adds:
            self.session.map.select([item], "add")
        if self.session.map.link is not None:
            self.session.map.link.show_point(item)
        self._show_words()
        return item

    def _show_words(self) -> None:
        if self.index is None:
            self.place.setText("")
            return
        chosen = self._chosen()
        words = self.index.spot(self.item).name if self.item >= 0 else (
            f"{self._rows().size:,} objects. Click one to "
            "find its point."
        )  # fmt: skip
        if chosen.size:
            at = int(np.searchsorted(chosen, self.item))
            inside = at < chosen.size and chosen[at] == self.item
            number = f"{at + 1:,} of " if inside else ""
            words += f" \N{MIDDLE DOT} {number}{chosen.size:,} selected"
        self.place.setText(words)


def _show_scale_bar(model: Any) -> None:
    """Show lengths; napari 0.9 has moved where that is said."""
    overlays = getattr(getattr(model, "canvas", None), "overlays", None)
    bar = overlays.scale_bar if overlays is not None else model.scale_bar
    bar.visible = True


def _pass(panel: Any, found: Any) -> None:
    alive = panel()
    if alive is not None:
        alive._indexed(found)


def _show(panel: Any, item: int, picture: Picture) -> None:
    alive = panel()
    if alive is not None:
        alive._arrived(picture, item)


def open_objects(viewer: Any) -> ObjectsPanel:
    """Open the panel of objects in their image, or find it if it is open."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock.show()
    dock.raise_()
    return panel
