"""The slider of the Find panel: how far apart near-duplicates may be."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QHBoxLayout, QSlider, QWidget

from napari_embed.gui.docks.parts import label, set_role
from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.found import Found
from napari_embed.gui.searches import Searches

__all__ = ["DistanceSlider"]

STEPS = 400


class DistanceSlider(QWidget):
    """Counts groups while it is moved, and selects their items when let go.

    Parameters
    ----------
    searches
        Holds the pairs that groups are cut from.
    """

    def __init__(self, searches: Searches) -> None:
        super().__init__()
        set_role(self, "plain")
        self.searches = searches
        self._found: Found | None = None
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setPageStep(STEPS // 20)
        words = "How far apart copies may be"
        self.slider.setToolTip(words)
        self.slider.setAccessibleName(words)
        self.slider.valueChanged.connect(lambda _value: self._moved())
        self.slider.sliderReleased.connect(self._take)
        self.number = label("", "muted")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP_PX)
        row.addWidget(label("Distance", "muted"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        self.hide()

    def follow(self, found: Found | None) -> None:
        """Serve what was found; hidden where it has no distance to choose."""
        if found is self._found:
            return
        self._found = found
        self.setVisible(found is not None and found.pairs is not None)
        if found is not None and found.pairs is not None:
            largest = max(found.pairs.largest, 1e-12)
            if not self.slider.isSliderDown():
                with QSignalBlocker(self.slider):
                    self.slider.setValue(round(STEPS * found.distance / largest))
            self.number.setText(f"{found.distance:.3g}")

    def _distance(self) -> float:
        pairs = self._found.pairs if self._found is not None else None
        return pairs.largest * self.slider.value() / STEPS if pairs is not None else 0.0

    def _moved(self) -> None:
        self.number.setText(f"{self._distance():.3g}")
        if self.slider.isSliderDown():
            self.searches.try_distance(self._distance())
        else:
            self._take()

    def _take(self) -> None:
        self.searches.take_distance(self._distance())
