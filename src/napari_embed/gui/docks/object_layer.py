"""The labels layer in the main window that a project of objects was made of."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.parts import button
from napari_embed.gui.objects.features import object_features
from napari_embed.gui.objects.layers import is_own_copy, linked_layer, take_over_labels
from napari_embed.gui.session import ViewerSession

__all__ = ["LinkedLabels"]

SETTLE_MS = 300


class LinkedLabels:
    """Fills the layer's features table, and takes edits of its labels over.

    Parameters
    ----------
    session
        Of the viewer.
    owner
        Widget that ends it.
    """

    def __init__(self, session: ViewerSession, owner: QWidget) -> None:
        self.session = session
        self.layer: Any = None
        self._source: Any = None
        self._picture = ""
        self._rows: Any = None
        self.button = button(
            "Take over edits", self.take_over,
            tip="Reads the labels layer again: only objects that were painted, merged "
            "or split are embedded anew; tags stay",
        )  # fmt: skip
        self.button.hide()
        self._timer = QTimer(owner)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._fill)
        events = session.viewer.layers.events
        for emitter in (events.inserted, events.removed):
            emitter.connect(self._layers_changed)
            when_gone(owner, partial(emitter.disconnect, self._layers_changed))

    def show(self, source: Any, picture: str, rows: Any) -> None:
        """Look for the layer of a picture; None as the source forgets it."""
        self._source, self._picture, self._rows = source, picture, rows
        self._layers_changed()

    def refresh(self) -> None:
        """Fill the features anew soon."""
        if self.layer is not None:
            self._timer.start()

    def show_state(self, *, busy: bool) -> None:
        """Wait while something is computed."""
        self.button.setEnabled(not busy)

    def _layers_changed(self, _event: Any = None) -> None:
        source = self._source
        self.layer = None if source is None else linked_layer(
            self.session.viewer, source, self._picture
        )  # fmt: skip
        own = source is not None and is_own_copy(source.spec)
        self.button.setVisible(self.layer is not None and own)
        self.refresh()

    def _fill(self) -> None:
        controller, rows = self.session.controller, self._rows
        layer = None if self.layer is None else weakref.ref(self.layer)
        if layer is None or rows is None:
            return
        shown = controller.state.projection
        known = controller.state.project
        name = shown.name if shown else ""
        stored = known is not None and known.projection(name) is not None
        column, coloring = controller.state.color_column or "", controller.coloring
        decisions = controller.decisions

        def work(project: Any) -> Any:
            return object_features(
                project, rows, projection=name if stored else None,
                decisions=decisions, column=column, coloring=coloring,
            )  # fmt: skip

        def done(frame: Any) -> None:
            there = layer()
            if there is not None:
                there.features = frame

        controller.read("object features", work, done)

    def take_over(self) -> None:
        """Write the layer's labels into the copy and embed what they change."""
        source, layer = self._source, self.layer
        if source is None or layer is None:
            return
        spec = source.spec
        self.session.controller.compute.mend_objects(
            lambda: take_over_labels(spec, layer)
        )
