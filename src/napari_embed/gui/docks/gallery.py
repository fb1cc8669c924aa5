"""The gallery panel: the pictures of the selected points, or of all, in a grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, QSize, Qt, QTimer, QUrl
from qtpy.QtGui import (
    QAction,
    QDesktopServices,
    QGuiApplication,
    QKeySequence,
    QShortcut,
)
from qtpy.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QSlider,
    QStackedWidget,
    QToolButton,
)

from napari_embed.gui.docks.following import follow_link
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import elided, label
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.gallery.delegate import GalleryDelegate
from napari_embed.gui.gallery.model import GalleryModel
from napari_embed.gui.gallery.ordering import by_column, by_likeness, by_place
from napari_embed.gui.gallery.view import GalleryView
from napari_embed.gui.state import ColumnInfo, ViewState

__all__ = ["GalleryPanel", "open_gallery"]

PLUGIN, WIDGET = "napari-embed", "Gallery"
HEIGHT_PX = 264
FIT_AFTER_MS = 150

SMALLEST_PX, LARGEST_PX = 32, 256
# Thumbnails up to this size are only shown at whole multiples, so that their pixels
# stay square and sharp.
TINY_PX = 40
ONE_ROW_PX = 560  # from this width on title and controls stand in one row
MOST_PATHS = 10_000
SETTLE_MS = 60  # scrolling faster than this asks for no pictures


class GalleryPanel(Panel):
    """Scroll through pictures, sort them, find their points, open them."""

    # --- widgets -------------------------------------------------------------------

    def _frame(self) -> None:
        """Fill the dock: the grid scrolls itself."""
        self.setLayout(self.content)
        self.content.setSpacing(GAP_PX)
        self.message.hide()
        # In a low dock along the bottom every line counts.
        self.content.setContentsMargins(8, 4, 4, 4)
        self.setMinimumSize(220, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def build(self) -> None:
        """Make the widgets."""
        self.content.removeWidget(self.message)
        self.message.setParent(None)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._ask)
        self.title = elided()
        self.title.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.bar = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self.bar.setContentsMargins(0, 0, 4, 0)
        self.bar.setSpacing(GAP_PX)
        self.bar.addWidget(self.title, 1)
        self.bar.addLayout(self._build_controls())
        self.content.addLayout(self.bar)
        self.model = GalleryModel(self)
        self.view = GalleryView()
        self.delegate = GalleryDelegate(self.session.colors, self.view)
        self.view.setItemDelegate(self.delegate)
        self.view.setModel(self.model)
        self.view.setAccessibleName("Pictures")
        self._connect_view()
        self.empty = label("", "muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.view)
        self.stack.addWidget(self.empty)
        self.content.addWidget(self.stack, 1)
        self._resize_cells()
        follow_link(
            self,
            self.session.map,
            {
                "browse_changed": "_show_pictures",
                "changed": "_show_words",
                "look_changed": "_repaint",
                "pictures_arrived": "_arrived",
            },
            "_show_pictures",
        )

    def _build_controls(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        self.sort = QComboBox()
        self.sort.setToolTip("Order of the pictures, here and on the canvas")
        self.sort.setAccessibleName("Order")
        self.sort.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.sort.setMinimumContentsLength(14)
        self.sort.activated.connect(lambda _index: self._sort_chosen())
        self.direction = QToolButton()
        self.direction.setCheckable(True)
        self.direction.setText("\N{UPWARDS ARROW}")
        self.direction.toggled.connect(self._turned)
        self._turned(False)
        self.size_slider = QSlider(Qt.Orientation.Horizontal)
        self.size_slider.setRange(SMALLEST_PX, LARGEST_PX)
        self.size_slider.setValue(72)
        self.size_slider.setPageStep(16)
        self.size_slider.setToolTip("Size of the pictures")
        self.size_slider.setAccessibleName("Size of the pictures")
        self.size_slider.setMinimumWidth(60)
        self.size_slider.setMaximumWidth(140)
        self.size_slider.valueChanged.connect(lambda _value: self._resize_cells())
        row.addWidget(self.sort, 2)
        row.addWidget(self.direction)
        row.addWidget(self.size_slider, 1)
        return row

    def _connect_view(self) -> None:
        view = self.view
        view.scrolled.connect(lambda: self._settle.start())
        view.opened.connect(self._open)
        view.pointed.connect(self._point_at)
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.customContextMenuRequested.connect(self._menu)
        view.selectionModel().currentChanged.connect(
            lambda new, _old: new.isValid() and self._point_at(new.row(), "if hidden")
        )
        view.clicked.connect(lambda index: self._point_at(index.row()))
        for key in range(1, 10):
            made = QShortcut(QKeySequence(str(key)), view)
            made.setContext(Qt.ShortcutContext.WidgetShortcut)
            made.activated.connect(lambda key=key: self._tag_by_key(key))

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(358, 250)

    def resizeEvent(self, event: Any) -> None:  # noqa: N802  Qt's name
        """Put title and controls in one row where there is room."""
        super().resizeEvent(event)
        way = QBoxLayout.Direction
        wide = self.width() >= ONE_ROW_PX
        self.bar.setDirection(way.LeftToRight if wide else way.TopToBottom)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        super().set_colors(colors)
        self.delegate.colors = colors
        self.view.viewport().update()

    # --- following the map ---------------------------------------------------------

    def _show_pictures(self) -> None:
        link = self.session.map.link
        self.model.show(link, link.browse_ids if link is not None else _NOTHING)
        self._show_words()
        self._resize_cells()
        self._settle.start(0)

    def _repaint(self) -> None:
        self.model.repaint_all()
        self.view.viewport().update()

    def _arrived(self, ids: Any) -> None:
        self.model.forget(ids)
        if self._side() != self.delegate.side:
            self._resize_cells()
        self.view.viewport().update()

    def _ask(self) -> None:
        """Ask for the pictures in the window, and then for those after it."""
        link, rows = self.model.link, self.view.rows_in_window()
        if link is None or not self.isVisible():
            return
        after = range(rows.stop, min(rows.stop + len(rows), len(self.model.ids)))
        wanted = [*rows, *after]
        link.pictures.want("gallery", self.model.ids[wanted])

    def showEvent(self, event: Any) -> None:  # noqa: N802  Qt's name
        """Ask for pictures when there is somebody to see them."""
        super().showEvent(event)
        self._settle.start(0)

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what can be sorted by, and what to do when there is nothing to see."""
        columns = new.project.columns if new.project else ()
        if columns != (old.project.columns if old.project else ()) or (
            not self.sort.count()
        ):
            self._fill_sort(columns)
        self._show_words()

    def _show_words(self) -> None:
        count, link = len(self.model.ids), self.model.link
        words = self._empty_words() if not count else ""
        self.empty.setText(words)
        self.stack.setCurrentIndex(1 if words else 0)
        for control in (self.sort, self.size_slider):
            control.setEnabled(bool(count))
        self._show_order()
        if not count:
            self.title.setText("")
        elif link is not None and len(link.ids):
            noun = "image" if count == 1 else "images"
            self.title.setText(f"{count:,} selected {noun}")
        else:
            self.title.setText(
                f"All {count:,} images. Select points on the map to see only theirs."
            )

    def _empty_words(self) -> str:
        state = self.controller.state
        if state.project is None:
            return "Open images or a project in the Project panel to see them here."
        if not state.project.has_images:
            return "These vectors came without images, so there is nothing to show."
        if state.projection is None:
            return (
                "This project has no map yet. Press Run all in the Compute panel; the "
                "images appear here with it."
            )
        if self.session.map.layer is None:
            return "The map was removed. Choose it again in the Explore panel."
        return "All points are hidden. Press Shift+H on the map to show them again."

    # --- order ---------------------------------------------------------------------

    def _fill_sort(self, columns: tuple[ColumnInfo, ...]) -> None:
        self.sort.clear()
        self.sort.addItem("In item order", "item")
        self.sort.addItem("In random order", "random")
        for column in columns:
            self.sort.addItem(f"By {column.name}", column)
        self.sort.insertSeparator(self.sort.count())
        self.sort.addItem("Nearest on the map to the picked one", "place")
        self.sort.addItem("Most alike to the picked one", "alike")

    def _turned(self, descending: bool) -> None:
        arrow = "\N{DOWNWARDS ARROW}" if descending else "\N{UPWARDS ARROW}"
        self.direction.setText(arrow)
        words = "Largest first" if descending else "Smallest first"
        self.direction.setToolTip(f"{words}; press to turn round")
        self.direction.setAccessibleName(words)
        if self.sort.count():
            self._sort_chosen()

    def _sort_chosen(self) -> None:
        link, wish = self.session.map.link, self.sort.currentData()
        if link is None:
            return
        if isinstance(wish, ColumnInfo):
            descending = self.direction.isChecked()
            words = "descending" if descending else "ascending"
            self._order(
                lambda project: by_column(project, wish, descending=descending),
                f"By {wish.name}, {words}",
            )
        elif wish in ("item", "random"):
            link.order = wish
        elif wish in ("place", "alike"):
            self._sort_from(self.current_item(), wish)

    def _sort_from(self, item: int, how: str) -> None:
        """Sort by the distance to an item, on the map or of the vectors."""
        if item < 0:
            self._show_order()
            self.title.setText("Click a picture first, then choose this order again.")
            return
        if how == "place":
            positions = self.session.map.layer.positions.copy()
            self._order(
                lambda _project: by_place(positions, item),
                f"Nearest on the map to #{item:,}",
            )
        else:
            names = self.controller.state.project.encoders
            if not names:
                self.title.setText("This needs vectors: run Embed in Compute first.")
                return
            self._order(
                lambda project: _likeness(project, names[0], item),
                f"Most alike to #{item:,}",
            )

    def _order(self, work: Callable[[Any], Any], title: str) -> None:
        link = self.session.map.link
        self.title.setText("Sorting...")

        def done(sequence: Any) -> None:
            if self.session.map.link is link and link is not None:
                link.set_sequence(sequence, title)

        self.controller.read("order", work, done)

    def _show_order(self) -> None:
        """Show the order in use, whoever chose it."""
        link, chosen = self.model.link, self.sort.currentData()
        self.direction.setEnabled(
            link is not None
            and isinstance(chosen, ColumnInfo)
            and self.sort.isEnabled()
        )
        if link is None:
            return
        extra = self.sort.findData("shown")
        if link.order in ("item", "random"):
            self.sort.setCurrentIndex(self.sort.findData(link.order))
            return
        words = link.paging.title if link.order == "given" else "By class"
        if isinstance(chosen, ColumnInfo) and words.startswith(f"By {chosen.name},"):
            return
        if extra < 0:
            self.sort.addItem("", "shown")
            extra = self.sort.count() - 1
        self.sort.setItemText(extra, words)
        self.sort.setCurrentIndex(extra)

    # --- cells ---------------------------------------------------------------------

    def _side(self) -> int:
        """Return the side of a picture for the slider."""
        side = self.size_slider.value()
        shape = self._thumbnail_shape()
        longest = max(shape) if shape else 0
        if 0 < longest <= TINY_PX:
            return longest * max(1, round(side / longest))
        return side

    def _thumbnail_shape(self) -> tuple[int, int] | None:
        for row in self.view.rows_in_window():
            picture = self.model.picture(row)
            if picture is not None and picture.values is not None:
                return picture.values.shape[:2]
        return None

    def _resize_cells(self) -> None:
        self.delegate.side = self._side()
        self.view.set_cell(self.delegate.cell_size(self.view.font()))

    # --- one picture ---------------------------------------------------------------

    def current_item(self) -> int:
        """Return the id of the current picture, or -1."""
        index = self.view.currentIndex()
        return int(self.model.ids[index.row()]) if index.isValid() else -1

    def chosen_items(self) -> Any:
        """Return the ids of the pictures selected in the grid, in the order shown."""
        ranges = self.view.selectionModel().selection()
        rows = [np.arange(r.top(), r.bottom() + 1) for r in ranges]
        return self.model.ids[np.sort(np.concatenate(rows))] if rows else _NOTHING

    def _tag_by_key(self, key: int) -> None:
        chosen = self.chosen_items()
        current = self.current_item()
        if not len(chosen) and current >= 0:
            chosen = np.array([current])
        self.controller.tag_by_key(key, chosen)

    def show_item(self, item: int) -> None:
        """Make a picture the current one, if it is among those shown."""
        row = self.model.row_of(item)
        if row >= 0:
            self.view.select_rows(row)

    def _point_at(self, row: int, centre: str = "always") -> None:
        """Pulse the point of a picture; see `ImageLink.show_point`."""
        link, item = self.model.link, int(self.model.ids[row])
        if link is not None and not link.show_point(item, centre=centre):
            self.title.setText(f"Image {item:,} has no place on the map.")

    def _open(self, row: int) -> None:
        if self.model.link is not None:
            self.model.link.image_opened.emit(int(self.model.ids[row]))

    # --- context menu --------------------------------------------------------------

    def _menu(self, place: QPoint) -> None:
        index = self.view.indexAt(place)
        if index.isValid():
            menu = self.menu_for(index.row())
            menu.exec(self.view.viewport().mapToGlobal(place))
            menu.deleteLater()

    def menu_for(self, row: int) -> QMenu:
        """Return what can be done with the picture of a row and the selected ones."""
        menu, item = QMenu(self), int(self.model.ids[row])
        chosen = self.chosen_items()
        many = len(chosen) if len(chosen) > 1 else 0
        paths = "Copy path" if not many else f"Copy {many:,} paths"

        def add(text: str, act: Callable[[], None], *, enabled: bool = True) -> None:
            action = QAction(text, menu)
            action.triggered.connect(lambda _checked=False: act())
            action.setEnabled(enabled)
            menu.addAction(action)

        add("Show on the map\tSpace", lambda: self._point_at(row))
        add("Open at full size\tEnter", lambda: self._open(row))
        menu.addSeparator()
        these = f"these {many:,}" if many else "this one"
        add(f"Select only {these}", lambda: self.controller.select(chosen))
        add(
            f"Take {these} out of the selection",
            lambda: self.controller.select(chosen, "subtract"),
            enabled=bool(self.controller.state.n_selected),
        )
        menu.addSeparator()
        add("Sort: nearest on the map first", lambda: self._sort_from(item, "place"))
        add("Sort: most alike first", lambda: self._sort_from(item, "alike"))
        menu.addSeparator()
        add(paths, self._copy_paths, enabled=len(chosen) <= MOST_PATHS)
        add("Open its folder", lambda: self._reveal(item))
        return menu

    def _locations(self, ids: Any, done: Callable[[list[str]], None]) -> None:
        link = self.model.link
        read = getattr(link.read_thumbnails, "locations", None) if link else None
        if read is not None:
            self.controller.read("paths", lambda _project: read(ids), done)

    def _copy_paths(self) -> None:
        def done(paths: list[str]) -> None:
            clipboard = QGuiApplication.clipboard()
            if clipboard is not None:
                clipboard.setText("\n".join(paths))
            noun = "path" if len(paths) == 1 else "paths"
            self.title.setText(f"Copied {len(paths):,} {noun}.")

        self._locations(self.chosen_items(), done)

    def _reveal(self, item: int) -> None:
        def done(paths: list[str]) -> None:
            place = Path(paths[0].rpartition("[")[0] or paths[0])
            folder = place if place.is_dir() else place.parent
            if folder.is_dir():
                # The folder, never the file: a file may be a program.
                QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
            else:
                self.title.setText(f"There is no folder {folder} any more.")

        self._locations(np.array([item]), done)


_NOTHING = np.zeros(0, dtype=np.int64)


def open_gallery(viewer: Any) -> GalleryPanel:
    """Open the gallery along the bottom of the window, or find it if it is open."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    known = set(viewer.window.dock_widgets)
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock.show()
    dock.raise_()
    if set(viewer.window.dock_widgets) != known:
        window, area = dock.parentWidget(), Qt.DockWidgetArea
        # Below the canvas only: the panels at the sides keep their height.
        window.setCorner(Qt.Corner.BottomLeftCorner, area.LeftDockWidgetArea)
        window.setCorner(Qt.Corner.BottomRightCorner, area.RightDockWidgetArea)
        window.addDockWidget(area.BottomDockWidgetArea, dock)
        share = min(HEIGHT_PX, window.height() // 4)
        window.resizeDocks([dock], [share], Qt.Orientation.Vertical)
        # When the canvas has its new size.
        QTimer.singleShot(FIT_AFTER_MS, panel.session.map.fit_again)
    return panel


def _likeness(project: Any, name: str, item: int) -> Any:
    stored = project.embeddings(name)
    info = project.stage_info(f"embeddings/{name}").info
    return by_likeness(
        stored.blocks(),
        stored[item],
        n=project.n_items,
        cosine=info.get("metric") == "cosine",
    )
