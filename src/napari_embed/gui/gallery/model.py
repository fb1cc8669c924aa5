"""The items of the gallery as a Qt model: an array of ids, nothing else is kept."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt
from qtpy.QtGui import QColor, QImage

from napari_embed.gui.gallery.painting import plain_tip, qcolor, to_qimage
from napari_embed.gui.link.pictures import Picture

__all__ = ["GalleryModel"]

# Painted pictures that are kept; more than fit on a large screen.
MOST_IMAGES = 2048


class GalleryModel(QAbstractListModel):
    """Rows are ids in the order shown; pictures come from the link's store.

    Memory is one integer per id and a bounded number of pictures.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._link: Any = None
        self._ids = np.zeros(0, dtype=np.int64)
        self._images: dict[int, QImage] = {}

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) ids in the order shown."""
        return self._ids

    @property
    def link(self) -> Any:
        """The image link, or None."""
        return self._link

    @property
    def crop_side(self) -> tuple[float, bool] | None:
        """Length of each picture's side and whether it is micrometres, if known."""
        read = getattr(self._link, "read_thumbnails", None)
        return getattr(read, "crop_side", None)

    def show(self, link: Any, ids: NDArray[np.int64]) -> None:
        """Show other ids, of a link or of none."""
        self.beginResetModel()
        if link is not self._link:
            self._images.clear()
        self._link, self._ids = link, ids
        self.endResetModel()

    def repaint_all(self) -> None:
        """Paint the pictures again, because contrast, colours or sizes changed."""
        self._images.clear()
        self._announce(0, len(self._ids) - 1)

    def forget(self, ids: NDArray[np.int64]) -> None:
        """Paint some pictures again, because they arrived."""
        for item in ids.tolist():
            self._images.pop(item, None)

    def _announce(self, first: int, last: int) -> None:
        if last >= first:
            self.dataChanged.emit(self.index(first), self.index(last))

    def row_of(self, item: int) -> int:
        """Return the row of an id, or -1."""
        rows = np.flatnonzero(self._ids == item)
        return int(rows[0]) if rows.size else -1

    # Qt's names below

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return the number of pictures."""
        return 0 if parent is not None and parent.isValid() else len(self._ids)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return caption or tool tip of a row."""
        if not index.isValid() or index.row() >= len(self._ids):
            return None
        row = index.row()
        if role == Qt.ItemDataRole.DisplayRole:
            return "  ".join(self.captions(row))
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"Image {self._ids[row]} {'  '.join(self.captions(row))}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row)
        return None

    # What the delegate paints

    def picture(self, row: int) -> Picture | None:
        """Return the picture of a row if it has been read."""
        if self._link is None:
            return None
        return self._link.pictures.get(int(self._ids[row]))

    def image(self, row: int) -> QImage | None:
        """Return the picture of a row as it is painted, if it has been read."""
        item = int(self._ids[row])
        image = self._images.get(item)
        if image is None:
            picture = self.picture(row)
            if picture is None or picture.values is None:
                return None
            if len(self._images) >= MOST_IMAGES:
                self._images.clear()
            image = to_qimage(self._link.look.to_rgb(picture.values))
            self._images[item] = image
        return image

    def captions(self, row: int) -> tuple[str, ...]:
        """Return what a row is found by, class and file name, as far as known."""
        item = int(self._ids[row])
        picture = self.picture(row)
        name = self._link.class_name(item) if self._link is not None else ""
        # A row of an array has its number for a name, which says as much as the id.
        file = PurePath(picture.source).name if picture is not None else ""
        file = f"#{item:,}" if not file or file == str(item) else file
        score = self._link.score(item) if self._link is not None else ""
        return tuple(" ".join(text.split()) for text in (score, name, file) if text)

    def color(self, row: int) -> QColor | None:
        """Return the colour of a row's class, or None."""
        if self._link is None:
            return None
        classed, colors = self._link.class_colors(self._ids[row : row + 1])
        return qcolor(colors[0]) if classed[0] else None

    def _tip(self, row: int) -> str:
        item = int(self._ids[row])
        picture = self.picture(row)
        name = self._link.class_name(item) if self._link is not None else ""
        lines = [f"#{item:,}" + (f"  {name}" if name else "")]
        if picture is not None:
            if picture.source != str(item):
                lines.append(picture.source)
            lines.append(picture.error)
        return plain_tip(*lines)
