"""All panels in one dock, as tabs; what the application and the demo open."""

from __future__ import annotations

import weakref
from typing import Any

import napari
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_embed.gui.docks.compute import ComputePanel
from napari_embed.gui.docks.curate import CuratePanel
from napari_embed.gui.docks.explore import ExplorePanel
from napari_embed.gui.docks.export import ExportPanel
from napari_embed.gui.docks.find import FindPanel
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.keys import show_keys
from napari_embed.gui.docks.panel import PANEL_WIDTH_PX
from napari_embed.gui.docks.project import ProjectPanel
from napari_embed.gui.docks.style import Colors, style_sheet
from napari_embed.gui.session import session_for
from napari_embed.gui.state import ViewState

__all__ = ["AllPanels", "open_all_panels"]

PLUGIN = "napari-embed"
WIDGET = "All panels"
# In a window of at least this size the gallery is opened with the first map.
ROOMY_PX = (1600, 900)


class AllPanels(QWidget):
    """The six panels as tabs; turns to the one that comes next."""

    def __init__(self, napari_viewer: Any = None) -> None:
        super().__init__()
        viewer = napari_viewer if napari_viewer is not None else napari.current_viewer()
        self.session = session_for(viewer)
        self.controller = self.session.controller
        self.project = ProjectPanel(viewer)
        self.compute = ComputePanel(viewer)
        self.explore = ExplorePanel(viewer)
        self.find = FindPanel(viewer)
        self.curate = CuratePanel(viewer)
        self.export = ExportPanel(viewer)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        bar = self.tabs.tabBar()
        if bar is not None:
            bar.setDrawBase(False)
            # All six names fit; arrows would hide the last one.
            bar.setUsesScrollButtons(False)
        for name, panel in self._panels().items():
            self.tabs.addTab(panel, name.capitalize())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        self.setMinimumWidth(PANEL_WIDTH_PX)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.session.theme_changed.connect(self.set_colors)
        self.set_colors(self.session.colors)
        self._follow()

    def _panels(self) -> dict[str, QWidget]:
        return {
            "project": self.project,
            "compute": self.compute,
            "explore": self.explore,
            "find": self.find,
            "curate": self.curate,
            "export": self.export,
        }

    def _follow(self) -> None:
        me = weakref.ref(self)
        signal = self.controller.panel_wanted

        def relay(name: str) -> None:
            panels = me()
            if panels is not None:
                panels.turn_to(name)

        changed, offered = self.controller.state_changed, False

        def offer(new: ViewState, old: ViewState) -> None:
            nonlocal offered
            panels = me()
            if panels is not None and new.projection is not None and not offered:
                offered = True
                panels._offer_gallery()

        signal.connect(relay)
        changed.connect(offer)
        when_gone(self, lambda: signal.disconnect(relay))
        when_gone(self, lambda: changed.disconnect(offer))

    def _offer_gallery(self) -> None:
        """Open the gallery where there is room for it."""
        window, state = self.window(), self.controller.state
        roomy = window.width() >= ROOMY_PX[0] and window.height() >= ROOMY_PX[1]
        if roomy and state.project is not None and state.project.has_images:
            self.controller.panel_wanted.emit("gallery")

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(PANEL_WIDTH_PX + 10, 600)

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        self.setStyleSheet(style_sheet(colors))

    def turn_to(self, name: str) -> None:
        """Show the panel called ``name``, or the list of keys."""
        if name == "keys":
            show_keys(self)
        elif name in self._panels():
            self.tabs.setCurrentWidget(self._panels()[name])


def open_all_panels(viewer: Any) -> AllPanels:
    """Open the dock with all panels in ``viewer``, or find it if it is open."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    _dock, panels = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return panels
