"""The Project panel: open something, see what is in it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.docks.dropping import DropFrame
from napari_embed.gui.docks.new_objects import NewObjects, open_new_objects
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import (
    Card,
    Fold,
    ProgressLine,
    button,
    elided,
    label,
    set_role,
)
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.state import ProgressView, ProjectInfo, ViewState
from napari_embed.gui.summary import format_bytes

__all__ = ["ProjectPanel"]

SAMPLE_TEXT = "Try the sample: 4,000 fashion images"
FILES = (
    "Arrays and tables (*.npy *.npz *.csv *.tsv *.parquet);;All files (*)"  # Qt's form
)


class ProjectPanel(Panel):
    """Open images, arrays, tables, vectors or a project; see what is in it."""

    def build(self) -> None:
        """Make the widgets."""
        self._build_info()
        self._build_busy()
        self._build_opener()
        self.content.addStretch(1)

    # --- making ------------------------------------------------------------------

    def _build_opener(self) -> None:
        self.open_heading = label("Open images", "heading")
        self.hint = label(
            "Drop a folder of images here, an array (.npy, .npz, .zarr), a table "
            "(.csv, .parquet) or a project (.embed). Your files are never changed.",
            "muted",
            wrap=True,
        )
        self.open_folder = button(
            "Open folder of images\N{HORIZONTAL ELLIPSIS}",
            self.choose_folder,
            role="primary",
            tip="Sub-folder names become labels",
        )
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(
            button(
                "Array or table\N{HORIZONTAL ELLIPSIS}",
                self.choose_file,
                tip="Images or vectors in .npy, .npz; items in .csv, .tsv, .parquet",
            )
        )
        row.addWidget(
            button(
                "Project\N{HORIZONTAL ELLIPSIS}",
                self.choose_project,
                tip="A folder that ends in .embed",
            )
        )
        row.addWidget(
            button(
                "Layer",
                self.open_layer,
                tip="The selected image layer: a stack (n, h, w), or in colour, "
                "becomes n items",
            )
        )
        self.objects = button(
            "Objects of a labels image\N{HORIZONTAL ELLIPSIS}",
            self.new_objects,
            tip="Every cell of a segmentation becomes an item: of layers that are "
            "open, or of an OME-Zarr, a plate, image and labels files",
        )
        self.path_edit = QLineEdit()
        self.path_edit.setPlaceholderText("or type a path and press Enter")
        self.path_edit.returnPressed.connect(self._typed)
        self.sample = button(SAMPLE_TEXT, self.controller.open_sample)
        frame = DropFrame()
        frame.dropped.connect(self.controller.open_path)
        inner = QVBoxLayout(frame)
        inner.setContentsMargins(10, 10, 10, 10)
        inner.setSpacing(GAP_PX)
        inner.addWidget(self.open_heading)
        inner.addWidget(self.hint)
        inner.addWidget(self.open_folder)
        inner.addLayout(row)
        inner.addWidget(self.objects)
        inner.addWidget(self.path_edit)
        inner.addWidget(self.sample)
        self.recent_heading = label("Recent projects", "heading")
        self.recent_list = QVBoxLayout()
        self.recent_list.setSpacing(0)
        self.opener = QWidget()
        column = QVBoxLayout(self.opener)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX)
        column.addWidget(frame)
        column.addWidget(self.recent_heading)
        column.addLayout(self.recent_list)
        self.content.addWidget(self.opener)
        self._fill_recent()

    def _build_busy(self) -> None:
        self.busy_card = Card("")
        self.busy_line = ProgressLine()
        row = QHBoxLayout()
        row.addWidget(button("Cancel", self.controller.cancel_opening))
        row.addStretch(1)
        self.busy_card.body.addWidget(self.busy_line)
        self.busy_card.body.addLayout(row)
        self.content.addWidget(self.busy_card)

    def _build_info(self) -> None:
        self.info_card = Card("")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(10)
        form.setVerticalSpacing(3)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self.facts = {}
        for key in ("Items", "Source", "Vectors", "Maps", "On disk", "Folder"):
            value = elided(mode=Qt.TextElideMode.ElideMiddle)
            self.facts[key] = value
            form.addRow(label(key, "muted"), value)
        self.info_card.body.addLayout(form)
        self.error_list = QListWidget()
        self.error_list.setUniformItemSizes(True)
        self.error_list.setHorizontalScrollBarPolicy(
            Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        )
        self.error_list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.error_fold = Fold("", self.error_list)
        self.info_card.body.addWidget(self.error_fold)
        self.lost = label(
            "The source is not where it was. Maps and thumbnails work without it.",
            "warn",
            wrap=True,
        )
        self.find = button(
            "Find the source\N{HORIZONTAL ELLIPSIS}", self.choose_place,
            tip="Choose where the images are now; nothing is computed again",
        )  # fmt: skip
        self.look = button(
            "Look for changes", self.controller.compute.look_for_changes,
            tip="Finds files that were added, changed or lost; only these are computed",
        )  # fmt: skip
        row = QHBoxLayout()
        row.addWidget(self.find)
        row.addWidget(self.look)
        row.addStretch(1)
        self.info_card.body.addWidget(self.lost)
        self.info_card.body.addLayout(row)
        self.content.addWidget(self.info_card)

    # --- choosing ----------------------------------------------------------------

    def choose_folder(self) -> None:
        """Ask for a folder of images (or a .zarr or .embed folder)."""
        path = QFileDialog.getExistingDirectory(self, "Open a folder of images")
        if path:
            self.controller.open_path(path)

    def choose_file(self) -> None:
        """Ask for an array or a table."""
        path, _ = QFileDialog.getOpenFileName(self, "Open an array or table", "", FILES)
        if path:
            self.controller.open_path(path)

    def choose_project(self) -> None:
        """Ask for a project folder."""
        path = QFileDialog.getExistingDirectory(self, "Open a project (.embed)")
        if path:
            self.controller.open_path(path)

    def open_layer(self) -> None:
        """Make a project of the selected image layer."""
        self.controller.open_stack(self.session.viewer.layers.selection.active)

    def new_objects(self) -> NewObjects:
        """Make a project of labelled objects, after a look at some of them."""
        return open_new_objects(self.session)

    def choose_place(self) -> None:
        """Ask where the source of the open project is now."""
        snapshot = self.controller.snapshot
        if snapshot is None:
            return
        title = "Where is the source now?"
        if snapshot.is_folder:
            path = QFileDialog.getExistingDirectory(self, title)
        else:
            path, _ = QFileDialog.getOpenFileName(self, title, "", FILES)
        if path:
            self.controller.compute.move_source(path)

    def _typed(self) -> None:
        text = self.path_edit.text().strip()
        if text:
            self.controller.open_path(text)

    # --- showing -----------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what is open, or how to open something."""
        self.busy_card.setVisible(bool(new.busy))
        if new.busy:
            self.busy_card.title.setText(new.busy)
            self.busy_line.show_progress(new.opening or ProgressView())
        self.opener.setEnabled(not new.busy)
        if new.project is not None and old.project is None:
            self.path_edit.clear()
        if new.project != old.project or new.project is None:
            self._show_project(new.project)
        self.look.setEnabled(not new.busy and not new.running)
        self.find.setEnabled(not new.busy and not new.running)

    def _show_project(self, info: ProjectInfo | None) -> None:
        self.info_card.setVisible(info is not None)
        self.hint.setVisible(info is None)
        self.open_heading.setText("Open images" if info is None else "Open another")
        set_role(self.open_folder, "primary" if info is None else "")
        self._fill_recent()
        if info is None:
            return
        self.info_card.title.setText(info.name)
        self.info_card.set_state("open", "good")
        vectors = ", ".join(info.encoders) or "none yet: press Run all in Compute"
        maps = ", ".join(p.title for p in info.projections) or "none yet"
        facts = {
            "Items": f"{info.n_items:,}" + ("" if info.has_images else " (no images)"),
            "Source": info.source,
            "Vectors": vectors,
            "Maps": maps,
            "On disk": format_bytes(info.size_bytes),
            "Folder": str(info.path),
        }
        for key, text in facts.items():
            self.facts[key].setText(text)
            self.facts[key].setToolTip(text)
        self.lost.setVisible(not info.source_is_there)
        self.find.setVisible(not info.source_is_there)
        self.look.setVisible(info.has_files and info.source_is_there)
        self._show_errors(info)

    def _show_errors(self, info: ProjectInfo) -> None:
        self.error_fold.setVisible(info.n_errors > 0)
        if not info.n_errors:
            return
        noun = "image" if info.n_errors == 1 else "images"
        self.error_fold.toggle.setText(f"{info.n_errors:,} {noun} could not be used")
        self.error_list.clear()
        self.error_list.addItems([f"{e.source}: {e.reason}" for e in info.errors])
        for row, error in enumerate(info.errors):
            item = self.error_list.item(row)
            if item is not None:
                item.setToolTip(f"{error.source}\n{error.reason}")
        hidden = info.n_errors - len(info.errors)
        if hidden:
            self.error_list.addItem(f"and {hidden:,} more, all in errors.csv")
        self.error_fold.toggle.setToolTip(
            "All of them, with reasons: errors.csv in the project's folder"
        )
        rows = self.error_list.count() * self.error_list.sizeHintForRow(0)
        self.error_list.setFixedHeight(min(140, rows + 8))

    def _fill_recent(self) -> None:
        while (item := self.recent_list.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        current = self.controller.state.project
        paths = [
            p
            for p in self.controller.recent.paths()
            if current is None or p != current.path.resolve()
        ]
        self.recent_heading.setVisible(bool(paths))
        for path in paths[:5]:
            self.recent_list.addWidget(self._recent_button(path))

    def _recent_button(self, path: Path) -> QWidget:
        made = button(path.stem, lambda: self.controller.open_path(path), role="link")
        made.setToolTip(str(path))
        return made
