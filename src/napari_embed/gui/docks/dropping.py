"""A frame that takes a file or folder dropped on it."""

from __future__ import annotations

from qtpy.QtCore import QMimeData, Signal
from qtpy.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from qtpy.QtWidgets import QFrame

from napari_embed.gui.docks.parts import set_role

__all__ = ["DropFrame"]


class DropFrame(QFrame):
    """A frame that takes one dropped folder or file; dashed by default."""

    dropped = Signal(str)

    def __init__(self, role: str = "drop") -> None:
        super().__init__()
        self.setAcceptDrops(True)
        set_role(self, role)

    @staticmethod
    def _path(mime: QMimeData | None) -> str:
        urls = mime.urls() if mime is not None else []
        return urls[0].toLocalFile() if len(urls) == 1 else ""

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802
        """Accept one local path."""
        if event is not None and self._path(event.mimeData()):
            set_role(self, "true", name="over")
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent | None) -> None:  # noqa: N802
        """Show that nothing hovers any more."""
        set_role(self, "false", name="over")

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802
        """Report the path."""
        set_role(self, "false", name="over")
        if event is not None and (path := self._path(event.mimeData())):
            event.acceptProposedAction()
            self.dropped.emit(path)
