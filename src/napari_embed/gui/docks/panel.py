"""What all panels have in common: session, state, theme, messages."""

from __future__ import annotations

import weakref
from typing import Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_embed.errors import InputError
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.parts import MessageBar, set_role
from napari_embed.gui.docks.style import GAP_PX, MARGIN_PX, Colors, style_sheet
from napari_embed.gui.session import session_for
from napari_embed.gui.state import ViewState

__all__ = ["PANEL_WIDTH_PX", "Panel"]

PANEL_WIDTH_PX = 348


class Panel(QWidget):
    """A dock widget bound to the shared controller of its viewer.

    Subclasses fill `content` in `build` and follow the state in `show_state`.

    Parameters
    ----------
    napari_viewer
        The viewer; None takes the current one.
    """

    def __init__(self, napari_viewer: Any = None) -> None:
        super().__init__()
        viewer = napari_viewer if napari_viewer is not None else napari.current_viewer()
        if viewer is None:
            raise InputError("There is no napari viewer. Open one, then this panel.")
        self.session = session_for(viewer)
        self.controller = self.session.controller
        self.message = MessageBar(self.act, lambda: self.controller.tell(None))
        self.content = QVBoxLayout()
        self.content.setContentsMargins(MARGIN_PX, MARGIN_PX, MARGIN_PX, MARGIN_PX)
        self.content.setSpacing(GAP_PX + 2)
        self._frame()
        self.content.addWidget(self.message)
        self.build()
        self._follow()
        self.set_colors(self.session.colors)
        self._apply(self.controller.state, ViewState())

    def _frame(self) -> None:
        inner = QWidget()
        inner.setLayout(self.content)
        set_role(inner, "plain")
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(PANEL_WIDTH_PX)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _follow(self) -> None:
        """Follow state and theme until the widget is gone."""
        me = weakref.ref(self)
        signal, theme = self.controller.state_changed, self.session.theme_changed

        def relay(new: ViewState, old: ViewState) -> None:
            panel = me()
            if panel is not None:
                panel._apply(new, old)

        signal.connect(relay)
        theme.connect(self.set_colors)
        when_gone(self, lambda: signal.disconnect(relay))

    def _apply(self, new: ViewState, old: ViewState) -> None:
        self.message.show_message(new.message)
        self.show_state(new, old)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        self.setStyleSheet(style_sheet(colors))

    def act(self, action: str) -> None:
        """Do what the button of a message offers."""

    def build(self) -> None:
        """Make the widgets."""
        raise NotImplementedError

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show what differs between two states."""
        raise NotImplementedError
