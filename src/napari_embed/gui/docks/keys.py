"""The list of keys, as a small window."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QFormLayout, QWidget

from napari_embed.gui.docks.parts import button, label
from napari_embed.gui.keys import key_list

__all__ = ["KeyList", "show_keys"]


class KeyList(QDialog):
    """Every key and what it does; a click or Esc closes it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of napari-embed")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        form = QFormLayout(self)
        form.setContentsMargins(20, 16, 20, 16)
        form.setHorizontalSpacing(18)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignRight)
        for key, words in key_list():
            form.addRow(label(key, "heading"), label(words))
        form.addRow(button("Close", self.close, role="primary"))


def show_keys(parent: QWidget) -> KeyList:
    """Show the list of keys; does not block."""
    keys = KeyList(parent)
    keys.show()
    return keys
