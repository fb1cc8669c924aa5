"""A map that forms, beside the map: KL curve, progress, pause and stop."""

from __future__ import annotations

import weakref

from qtpy.QtWidgets import QHBoxLayout

from napari_embed.gui.controller import Controller
from napari_embed.gui.docks.curve import CurvePlan, KLPlot, phase_words
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.parts import Card, ProgressLine, button
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.state import ProgressView, ViewState

__all__ = ["LiveCard"]


class LiveCard(Card):
    """Shown while a layout runs; gone when it is done.

    Parameters
    ----------
    controller
        Whose layout it is.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__("Layout")
        self._compute = controller.compute
        self._paused = False
        self.plot = KLPlot()
        self.progress = ProgressLine()
        self.pause = button("Pause", self._pause_or_resume)
        self.stop = button(
            "Keep this map",
            self._compute.stop,
            tip="End the layout now and keep the map",
        )
        for made in (self.pause, self.stop):
            made.setProperty("compact", "true")
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.progress, 1)
        row.addWidget(self.pause)
        row.addWidget(self.stop)
        self.body.addWidget(self.plot)
        self.body.addLayout(row)
        self._follow(controller)

    def _follow(self, controller: Controller) -> None:
        me, signal = weakref.ref(self), controller.kl_reported

        def follow(iteration: int, value: float) -> None:
            card = me()
            if card is not None:
                card.plot.follow(iteration, value)

        for point in controller.compute.curve:
            self.plot.add(*point)
        signal.connect(follow)
        when_gone(self, lambda: signal.disconnect(follow))

    def _pause_or_resume(self) -> None:
        if self._paused:
            self._compute.resume()
        else:
            self._compute.pause()

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        self.plot.set_colors(colors)

    def show_state(self, state: ViewState) -> None:
        """Show how far the layout is."""
        self.setVisible(self._compute.live)
        if not self._compute.live:
            return
        view = state.stage("projection")
        progress = view.progress or ProgressView()
        self._paused = view.status == "paused"
        words = {"paused": "paused", "cancelling": "stopping"}.get(view.status, "")
        self.set_state(words or phase_words(state.settings.projection, progress.done),
                       "warn" if words else "muted")  # fmt: skip
        self.plot.set_plan(CurvePlan.of(state.settings.projection))
        self.progress.show_progress(progress, paused=self._paused)
        self.pause.setText("Resume" if self._paused else "Pause")
        for made in (self.pause, self.stop):
            made.setEnabled(view.status in ("running", "paused"))
