"""The window that makes items of labelled objects: choose, look at crops, go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_embed.errors import EmbedError, JobCancelled
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.parts import button, label, set_role
from napari_embed.gui.docks.style import GAP_PX, style_sheet
from napari_embed.gui.objects.layers import (
    discard_copy,
    images_for,
    labels_layers,
    pair_problem,
    pixel_size_of,
    save_layers,
)
from napari_embed.gui.session import ViewerSession
from napari_embed.sources.objects.preview import Preview, preview_objects, sheet
from napari_embed.sources.spec import SourceSpec

__all__ = ["NewObjects", "open_new_objects"]

LAYERS, FILES = "Layers of this window", "Files"
COLUMNS, CELL_PX = 5, 116
SETTLE_MS = 500
Key = tuple[Any, ...]

_BRIGHTNESS = (
    ("The same for all pictures", "channel"),
    ("Each picture by itself", "image"),
    ("Fixed limits", "fixed"),
)


class NewObjects(QDialog):
    """Asks for image and labels and how to cut; shows ten crops before it begins.

    Parameters
    ----------
    session
        Of the viewer whose layers are offered.
    """

    def __init__(self, session: ViewerSession) -> None:
        parent = getattr(session.viewer.window, "_qt_window", None)
        super().__init__(parent)
        self.session = session
        self.setWindowTitle("Objects of a labels image")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setStyleSheet(style_sheet(session.colors))
        self._thread = session.background()
        self._copy: tuple[Key, SourceSpec] | None = None
        self._edits = 0
        self._stop = False
        self._watched: list[Any] = []
        self.spec: SourceSpec | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._look)
        self._build()
        self._fill_labels()
        self._turn()
        thread = self._thread
        when_gone(self, lambda: thread.close(wait=False))

    # --- widgets -------------------------------------------------------------------

    def _build(self) -> None:
        columns = QHBoxLayout(self)
        columns.setContentsMargins(14, 12, 14, 12)
        columns.setSpacing(16)
        left = QWidget()
        left.setFixedWidth(380)
        form = QFormLayout(left)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(GAP_PX)
        form.setHorizontalSpacing(10)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self.form = form
        self._build_source(form)
        self._build_crops(form)
        columns.addWidget(left)
        columns.addLayout(self._build_preview(), 1)

    def _build_source(self, form: QFormLayout) -> None:
        self.place = _combo([(LAYERS, LAYERS), (FILES, FILES)], self._turn)
        form.addRow(label("From"), self.place)
        self.labels = QComboBox()
        self.labels.activated.connect(lambda _i: self._labels_chosen())
        form.addRow(label("Labels"), self.labels)
        self.images = QListWidget()
        self.images.setFixedHeight(64)
        self.images.setToolTip("Tick the channels that crops are cut from")
        self.images.itemChanged.connect(lambda _item: self._changed())
        form.addRow(label("Image"), self.images)
        self.path = _line("OME-Zarr, folder, or table of files", self._changed)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.path, 1)
        row.addWidget(button("Folder", self._choose_folder, tip="OME-Zarr or folder"))
        row.addWidget(button("Table", self._choose_table))
        self.path_row = QWidget()
        set_role(self.path_row, "plain")
        self.path_row.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        form.addRow(label("Files"), self.path_row)
        self.labels_name = _line("the only ones there are", self._changed)
        self.labels_name.setToolTip(
            "Name of the labels in the OME-Zarr; of a table its column, or a pattern "
            "such as labels/{id}.png"
        )
        form.addRow(label("Labels named"), self.labels_name)

    def _build_crops(self, form: QFormLayout) -> None:
        form.addRow(label("Crops", "heading"))
        self.size = _line("found, such as 20um or 48px", self._changed)
        self.size.setToolTip("Side of the crops; fit takes each object's own box")
        form.addRow(label("Side"), self.size)
        self.pixel = _line("not known", self._changed)
        self.pixel.setToolTip("Micrometres a pixel, such as 0.65")
        form.addRow(label("Pixel, \N{MICRO SIGN}m"), self.pixel)
        self.mask = QCheckBox("Black out what is not the object")
        self.mask.toggled.connect(lambda _on: self._changed())
        form.addRow(label("Background"), self.mask)
        self.combine = _combo(
            [("Up to three as red, green, blue", "rgb"),
             ("A vector for each, joined", "concat")],
            self._changed,
        )  # fmt: skip
        form.addRow(label("Channels"), self.combine)
        self.channels = _line("the first ones; or numbers such as 0,2", self._changed)
        form.addRow(label("Which"), self.channels)
        self.brightness = _combo(_BRIGHTNESS, self._changed)
        self.brightness.setToolTip(
            "The same for all: layers as they are shown now, files by their metadata, "
            "or by the darkest and brightest thousandth of a sample"
        )
        form.addRow(label("Brightness"), self.brightness)
        self.limits = _line("such as 100-4000,50-900", self._changed)
        form.addRow(label("Limits"), self.limits)
        form.addRow(label("Leave out", "heading"))
        self.edge = QCheckBox("Objects that touch the border")
        self.edge.toggled.connect(lambda _on: self._changed())
        form.addRow(self.edge)
        self.least = _line("no limit, such as 20um2 or 60px", self._changed)
        form.addRow(label("Smaller than"), self.least)
        self.most = _line("no limit", self._changed)
        form.addRow(label("Larger than"), self.most)

    def _build_preview(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(GAP_PX)
        column.addWidget(label("Ten of them, as they will be", "heading"))
        self.crops = QLabel()
        rows = 2
        self.crops.setFixedSize(
            COLUMNS * (CELL_PX + 6) + 6, rows * (CELL_PX + 6) + 6
        )  # fmt: skip
        self.crops.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.crops.setAccessibleName("Sample crops")
        set_role(self.crops, "muted")
        column.addWidget(self.crops)
        self.words = label("", wrap=True)
        self.notes = label("", "muted", wrap=True)
        column.addWidget(self.words)
        column.addWidget(self.notes)
        column.addStretch(1)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(button("Cancel", self.reject))
        self.go = button("Make project", self._accept, role="primary")
        row.addWidget(self.go)
        column.addLayout(row)
        return column

    # --- choosing ------------------------------------------------------------------

    def _fill_labels(self) -> None:
        self.labels.clear()
        for layer in labels_layers(self.session.viewer):
            self.labels.addItem(str(layer.name), layer)
        if not self.labels.count():
            self.labels.addItem("No labels layer is open")
        self._labels_chosen()

    def _labels_chosen(self) -> None:
        layer = self.labels.currentData()
        self.images.blockSignals(True)
        self.images.clear()
        found = [] if layer is None else images_for(self.session.viewer, layer)
        wanted = {id(a) for a in found if a.visible and not a.rgb} or {
            id(a) for a in found[:1]
        }
        for image in found:
            item = QListWidgetItem(str(image.name))
            item.setData(Qt.ItemDataRole.UserRole, image)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            states = Qt.CheckState
            item.setCheckState(
                states.Checked if id(image) in wanted else states.Unchecked
            )
            self.images.addItem(item)
        self.images.blockSignals(False)
        self._unwatch()
        if layer is not None:
            for name in ("paint", "data"):
                emitter = getattr(layer.events, name)
                emitter.connect(self._edited)
                self._watched.append(emitter)
        self._show_pixel()
        self._changed()

    def _show_pixel(self) -> None:
        """Say how large a pixel is; a number without a unit is offered as a wish."""
        chosen = self._chosen_images()
        size, known = pixel_size_of(chosen[0]) if chosen else (None, False)
        self.pixel.setPlaceholderText(f"{size:.4g}" if size and known else "not known")
        self.pixel.setText("" if known or size is None else f"{size:.4g}")

    def _edited(self, _event: Any = None) -> None:
        """Look at the labels as they are now."""
        self._edits += 1
        self._changed()

    def _unwatch(self) -> None:
        for emitter in self._watched:
            emitter.disconnect(self._edited)
        self._watched.clear()

    def _chosen_images(self) -> list[Any]:
        items = [self.images.item(row) for row in range(self.images.count())]
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item is not None and item.checkState() == Qt.CheckState.Checked
        ]

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "An OME-Zarr, or a folder")
        if path:
            self.path.setText(path)

    def _choose_table(self) -> None:
        kinds = "Tables (*.csv *.tsv *.parquet);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "A table of files", "", kinds)
        if path:
            self.path.setText(path)

    def _turn(self) -> None:
        """Show the rows of layers or those of files."""
        layers = self.place.currentData() == LAYERS
        for widget in (self.labels, self.images):
            self.form.setRowVisible(widget, layers)
        for widget in (self.path_row, self.labels_name):
            self.form.setRowVisible(widget, not layers)
        self._changed()

    def _options(self) -> dict[str, str]:
        """Return the options of the source; what is left empty is not among them."""
        given = {
            "size": self.size, "pixel_size": self.pixel, "channels": self.channels,
            "min_area": self.least, "max_area": self.most,
        }  # fmt: skip
        options = {name: line.text().strip() for name, line in given.items()}
        options["combine"] = str(self.combine.currentData())
        way = str(self.brightness.currentData())
        if way == "fixed":
            options["limits"] = self.limits.text().strip()
        if way != "channel":
            options["normalize"] = way
        options["mask"] = "on" if self.mask.isChecked() else ""
        options["edge"] = "leave-out" if self.edge.isChecked() else ""
        return {name: text for name, text in options.items() if text}

    # --- looking -------------------------------------------------------------------

    def _changed(self) -> None:
        fixed = self.brightness.currentData() == "fixed"
        self.form.setRowVisible(self.limits, fixed)
        self.spec = None
        self.go.setEnabled(False)
        self._thread.drop("look")
        self._timer.start()

    def _look(self) -> None:
        """Cut ten crops on the thread, of a copy of the layers or of files."""
        if self.place.currentData() == FILES:
            self._look_at_files()
            return
        labels, images = self.labels.currentData(), self._chosen_images()
        problem = pair_problem(images, labels)
        if problem:
            self._say(problem)
            return
        key: Key = (id(labels), *(id(i) for i in images), self._edits)

        def base() -> SourceSpec:
            if self._copy is not None and self._copy[0] == key:
                return self._copy[1]
            return save_layers(images, labels, check=self._check)

        self._start(key, base)

    def _look_at_files(self) -> None:
        text = self.path.text().strip()
        if not text:
            self._say("Choose an OME-Zarr with labels, a folder with the folders "
                      "images and labels, or a table of such files.")  # fmt: skip
            return
        path = str(Path(text).expanduser().absolute())
        name = self.labels_name.text().strip()
        spec = SourceSpec("objects", path, {"labels": name} if name else {})
        self._start(None, lambda: spec)

    def _check(self) -> None:
        if self._stop:
            raise JobCancelled("The window was closed.")

    def _start(self, key: Key | None, base: Callable[[], SourceSpec]) -> None:
        options = self._options()
        self._say("Looking\N{HORIZONTAL ELLIPSIS}", role="muted")

        def work() -> tuple[SourceSpec, Preview | str]:
            spec = base()
            try:
                return spec, preview_objects(spec.with_options(**options))
            except (EmbedError, OSError) as error:
                return spec, str(error)

        def late(found: tuple[SourceSpec, Preview | str]) -> None:
            # What was copied stays known, so that it is not left behind.
            if key is not None:
                self._take_copy(key, found[0])

        def done(found: tuple[SourceSpec, Preview | str]) -> None:
            late(found)
            if isinstance(found[1], str):
                self._say(found[1], role="bad")
            else:
                self._show(found[1])

        def failed(error: Exception) -> None:
            self._say(str(error), role="bad")

        self._thread.run("look", work, done, failed, dropped=late)

    def _take_copy(self, key: Key, spec: SourceSpec) -> None:
        """Remember a copy; one that it replaces, or that nobody needs, is removed."""
        old = self._copy[1] if self._copy is not None else None
        if old is not None and old != spec:
            discard_copy(old)
        self._copy = None if self._stop else (key, spec)
        if self._stop:
            discard_copy(spec)

    def _say(self, text: str, role: str = "warn") -> None:
        self.crops.clear()
        self.words.setText(text)
        set_role(self.words, role)
        self.notes.setText("")

    def _show(self, preview: Preview) -> None:
        colors = self.session.colors
        page = sheet(preview, columns=COLUMNS, side=CELL_PX, around=colors.background)
        height, width = page.shape[:2]
        image = QImage(page.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self.crops.setPixmap(QPixmap.fromImage(image))
        self.words.setText(preview.words()[:1].upper() + preview.words()[1:] + ".")
        set_role(self.words, "")
        self.notes.setText("\n".join(preview.notes))
        self.spec = preview.spec
        self.go.setEnabled(True)

    # --- the end -------------------------------------------------------------------

    def _accept(self) -> None:
        if self.spec is not None and self.session.controller.open_described(self.spec):
            self._copy = None
            self.accept()

    def done(self, result: int) -> None:
        """End the reading and leave nothing behind that nobody needs."""
        self._stop = True
        self._timer.stop()
        self._unwatch()
        self._thread.close(wait=False)
        if self._copy is not None:
            discard_copy(self._copy[1])
        super().done(result)


def _line(hint: str, changed: Callable[[], None]) -> QLineEdit:
    made = QLineEdit()
    made.setPlaceholderText(hint)
    made.textChanged.connect(lambda _text: changed())
    return made


def _combo(choices: Any, changed: Callable[[], None]) -> QComboBox:
    made = QComboBox()
    for words, value in choices:
        made.addItem(words, value)
    made.activated.connect(lambda _i: changed())
    return made


def open_new_objects(session: ViewerSession) -> NewObjects:
    """Show the window; does not block."""
    made = NewObjects(session)
    made.show()
    return made
