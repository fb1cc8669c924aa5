"""The Export panel: which items, in which format, where to."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_embed.curation.export import FORMATS
from napari_embed.engine.exporting import DECISIONS, ExportWish
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import Card, ProgressLine, button, elided, label
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.exports import REPLACE, Exported
from napari_embed.gui.state import ProgressView, ViewState
from napari_embed.gui.summary import format_bytes

__all__ = ["ExportPanel"]

EMPTY = "Open images or a project in the Project panel first."
WORDS = {
    "parquet": "Everything known of the items, in a compact table that pandas, "
    "Arrow and DuckDB read.",
    "csv": "x, y, z, image path and label. Text that a spreadsheet would run as a "
    "formula gets an apostrophe.",
    "jsonl": "Everything known of the items, one JSON object a line.",
    "paths": "One image path a line.",
    "coco": "Images with their size and one box per label. Images that were not "
    "measured yet are measured first.",
    "fiftyone": "labels.json of a FiftyOne classification data set; no image is "
    "copied.",
    "folder": "One picture per item in a new folder, and items.csv that says where "
    "each was.",
    "h5ad": "Columns, vectors and maps in one file that scanpy and cellxgene read.",
    "zarr": "The same as a Zarr folder, which SpatialData reads as well.",
    "report": "One page with map, labels and up to 500 pictures; it opens in any "
    "browser and loads nothing.",
    DECISIONS: "Tags, labels, notes and exclusion alone, with who and when. Another "
    "person takes them over with: napari-embed decisions merge.",
}


@dataclass(frozen=True)
class _Kind:
    """A format as the panel offers it."""

    key: str
    title: str
    suffix: str
    is_folder: bool


KINDS = (
    *(_Kind(f.key, f.title, f.suffix, f.is_folder) for f in FORMATS),
    _Kind(DECISIONS, "Decisions to merge", ".decisions.csv", False),
)


class ExportPanel(Panel):
    """Take items elsewhere; images are never changed."""

    def build(self) -> None:
        """Make the widgets."""
        self.exports = self.session.exports
        self.empty = label(EMPTY, "muted", wrap=True)
        self.content.addWidget(self.empty)
        self.body = QWidget()
        column = QVBoxLayout(self.body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP_PX + 2)
        for card in (self._build_what(), self._build_format(), self._build_target()):
            column.addWidget(card)
        column.addWidget(self._build_done())
        self.content.addWidget(self.body)
        self.content.addStretch(1)
        self._suggested = ""
        me = weakref.ref(self)

        def relay() -> None:
            panel = me()
            if panel is not None:
                panel._show_export()

        for signal in (self.exports.changed, self.session.searches.changed):
            signal.connect(relay)
            when_gone(self, lambda signal=signal: signal.disconnect(relay))

    # --- widgets -------------------------------------------------------------------

    def _build_what(self) -> Card:
        self.what_card = card = Card("Items")
        self.scope = self._combo("Which items")
        self.scope.activated.connect(lambda _index: self._show_export())
        self.excluded = QCheckBox("Excluded ones, too")
        self.excluded.toggled.connect(lambda _on: self._show_export())
        card.body.addWidget(self.scope)
        card.body.addWidget(self.excluded)
        return card

    def _build_format(self) -> Card:
        card = Card("Format")
        self.kind = self._combo("Format")
        for kind in KINDS:
            self.kind.addItem(kind.title, kind)
        self.kind.currentIndexChanged.connect(lambda _index: self._kind_chosen())
        self.words = label("", "muted", wrap=True)
        self.all_columns = QCheckBox("All columns")
        self.all_columns.setToolTip("Also id, tags, notes and every other column")
        self.links = QCheckBox("Links, no copies")
        self.links.setToolTip("Symbolic links to the image files")
        self.by_label = QCheckBox("A folder per label")
        self.by_label.setChecked(True)
        card.body.addWidget(self.kind)
        card.body.addWidget(self.words)
        for box in (self.all_columns, self.links, self.by_label):
            card.body.addWidget(box)
        return card

    def _build_target(self) -> Card:
        card = Card("Write to")
        self.path = QLineEdit()
        self.path.setAccessibleName("File or folder to write")
        self.path.textChanged.connect(lambda _text: self._enable())
        self.path.returnPressed.connect(self._start)
        browse = QToolButton()
        browse.setText("\N{HORIZONTAL ELLIPSIS}")
        browse.setToolTip("Choose where to")
        browse.setAccessibleName("Choose where to")
        browse.clicked.connect(lambda _checked=False: self._browse())
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.path, 1)
        row.addWidget(browse)
        card.body.addLayout(row)
        self.run = button("Export", self._start, role="primary")
        self.line = ProgressLine()
        self.cancel = button(
            "Cancel", self.exports.cancel, tip="Nothing half-written stays"
        )
        card.body.addWidget(self.run)
        card.body.addWidget(self.line)
        card.body.addWidget(self.cancel)
        return card

    def _build_done(self) -> Card:
        self.done_card = card = Card("Exported")
        self.done = label("", wrap=True)
        self.done_place = elided("muted")
        self.open_folder = button("Open folder", self._open_folder)
        row = QHBoxLayout()
        row.addWidget(self.open_folder)
        row.addStretch(1)
        card.body.addWidget(self.done)
        card.body.addWidget(self.done_place)
        card.body.addLayout(row)
        return card

    @staticmethod
    def _combo(name: str) -> QComboBox:
        made = QComboBox()
        made.setAccessibleName(name)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        return made

    # --- what is pressed -------------------------------------------------------------

    def _kind(self) -> _Kind:
        found: _Kind = self.kind.currentData()
        return found

    def _options(self) -> dict[str, Any]:
        key = self._kind().key
        if key == "csv":
            return {"all_columns": self.all_columns.isChecked()}
        if key == "folder":
            how = "link" if self.links.isChecked() else "copy"
            return {"how": how, "by_label": self.by_label.isChecked()}
        return {}

    def _start(self) -> None:
        text = self.path.text().strip()
        if not text or not self.run.isEnabled():
            return
        shown = self.controller.state.projection
        wish = ExportWish(
            Path(text),
            self._kind().key,
            projection=shown.name if shown else None,
            options=self._options(),
        )
        self.exports.start(
            wish, self.scope.currentData(), with_excluded=self.excluded.isChecked()
        )

    def act(self, action: str) -> None:
        """Replace the file that is there."""
        if action == REPLACE:
            self.exports.replace_file()

    def _browse(self) -> None:
        kind, now = self._kind(), self.path.text()
        if kind.is_folder:
            parent = QFileDialog.getExistingDirectory(
                self, "Make the new folder in", str(Path(now).parent)
            )
            path = str(Path(parent) / Path(now).name) if parent else ""
        else:
            path, _ = QFileDialog.getSaveFileName(
                self, "Export to", now, f"{kind.title} (*{kind.suffix})",
                # Asked in the panel, whichever way the path was given.
                options=QFileDialog.Option.DontConfirmOverwrite,
            )  # fmt: skip
        if path:
            self.path.setText(path)

    def _open_folder(self) -> None:
        done = self.exports.done
        if done is not None:
            folder = done.path if done.n_bytes is None else done.path.parent
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def _kind_chosen(self) -> None:
        kind = self._kind()
        self.words.setText(WORDS[kind.key])
        self.all_columns.setVisible(kind.key == "csv")
        self.links.setVisible(kind.key == "folder")
        self.by_label.setVisible(kind.key == "folder")
        self._suggest()
        self._show_export()

    def _suggest(self) -> None:
        """Write a name that fits, unless the user has written another one."""
        info, kind = self.controller.state.project, self._kind()
        text = self.path.text().strip()
        if info is None:
            return
        if text and text != self._suggested:
            # Keep place and name, change the ending.
            path = Path(text)
            known = sorted((k.suffix for k in KINDS), key=len, reverse=True)
            ending = next((s for s in known if s and path.name.endswith(s)), "")
            stem = path.name.removesuffix(ending) if ending else path.name
            self.path.setText(str(path.with_name(stem + kind.suffix)))
            return
        ending = kind.suffix or " pictures"
        self._suggested = str(info.path.parent / f"{info.name}{ending}")
        self.path.setText(self._suggested)

    # --- what is shown ---------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what can be exported now."""
        self.empty.setVisible(new.project is None)
        self.body.setVisible(new.project is not None)
        if new.project is None:
            return
        if old.project is None or new.project.path != old.project.path:
            self.path.clear()
            self._kind_chosen()
        self._show_export()

    def _show_export(self) -> None:
        self._show_scopes()
        exports, busy = self.exports, self.exports.busy
        self.line.setVisible(busy)
        self.cancel.setVisible(busy)
        self.run.setVisible(not busy)
        if busy:
            told = exports.progress
            self.line.show_progress(
                ProgressView(message="Starting")
                if told is None
                else ProgressView(done=told.done, total=told.total, unit=told.unit)
            )
        self.done_card.setVisible(exports.done is not None)
        if exports.done is not None:
            self._show_done(exports.done)
        self._enable()

    def _show_done(self, done: Exported) -> None:
        size = "" if done.n_bytes is None else f", {format_bytes(done.n_bytes)}"
        self.done.setText(f"{done.n_items:,} {done.what} in {done.path.name}{size}")
        self.done_place.setText(str(done.path.parent))

    def _show_scopes(self) -> None:
        """List what can be exported; what was chosen stays chosen while it exists."""
        chosen, rows = self.scope.currentData(), list(self.exports.scopes())
        texts = [f"{words} ({count:,})" for _, words, count in rows]
        if texts != [self.scope.itemText(i) for i in range(self.scope.count())]:
            self.scope.clear()
            for (scope, _, _), text in zip(rows, texts, strict=True):
                self.scope.addItem(text, scope)
            places = [scope for scope, _, _ in rows]
            if chosen in places:
                self.scope.setCurrentIndex(places.index(chosen))
        alone = self._kind().key == DECISIONS
        self.what_card.setVisible(not alone)
        out = self.controller.state.n_excluded
        self.excluded.setVisible(out > 0)
        self.excluded.setText(f"The {out:,} excluded, too")

    def _enable(self) -> None:
        free = not self.exports.busy and bool(self.path.text().strip())
        self.run.setEnabled(free and self.scope.count() > 0)
