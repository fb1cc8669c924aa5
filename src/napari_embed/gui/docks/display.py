"""The Display section: how points look and what a frame and a lasso take in."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_embed.gui.controller import Controller
from napari_embed.gui.display import DisplaySettings
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.parts import Fold, elided, label, set_role
from napari_embed.gui.docks.style import GAP_PX

__all__ = ["DisplaySection"]

DENSITY = (
    ("off", "off", "Every point as a marker"),
    ("colors", "mixed colours", "Points added up: mean colour, stronger where denser"),
    ("heat", "heat", "Points added up: a colour scale for the density alone"),
)
FRAME_POINTS = (None, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000)
ALL_POINTS = 2_000_000_000
SIZE_STEPS, LARGEST = 20, 20.0  # slider steps per pixel, pixels


class _AutoSlider(QWidget):
    """A slider with a box "auto"; moving the slider takes the value over by hand."""

    def __init__(
        self, name: str, tip: str, most: int, changed: Callable[[int | None], None]
    ) -> None:
        super().__init__()
        set_role(self, "plain")
        self._changed = changed
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, most)
        self.slider.setPageStep(max(most // 10, 1))
        self.slider.setToolTip(tip)
        self.slider.setAccessibleName(name)
        self.auto = QCheckBox("auto")
        self.auto.setToolTip(f"{name} from the number and density of the points")
        self.auto.setAccessibleName(f"{name} automatic")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP_PX)
        row.addWidget(self.slider, 1)
        row.addWidget(self.auto)
        self.slider.valueChanged.connect(lambda value: self._changed(value))
        self.auto.toggled.connect(self._toggled)

    def _toggled(self, auto: bool) -> None:
        self._changed(None if auto else self.slider.value())

    def show_value(self, value: float, *, auto: bool) -> None:
        """Show a value without telling anybody."""
        for widget in (self.slider, self.auto):
            widget.blockSignals(True)
        self.slider.setValue(round(value))
        self.auto.setChecked(auto)
        for widget in (self.slider, self.auto):
            widget.blockSignals(False)


class DisplaySection(Fold):
    """Size, opacity, density, markers, points per frame and front surface, folded."""

    def __init__(self, controller: Controller, map_view: Any) -> None:
        content = QWidget()
        set_role(content, "plain")
        super().__init__("Display", content)
        self.toggle.setToolTip("How the points look, and how many are drawn")
        self._controller = controller
        self._map = map_view
        column = QVBoxLayout(content)
        column.setContentsMargins(2, 0, 0, 0)
        column.setSpacing(GAP_PX)
        column.addLayout(self._build_form())
        column.addLayout(self._build_boxes())
        self.drawn = elided("muted")
        column.addWidget(self.drawn)
        self._follow()

    def _build_form(self) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(GAP_PX)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.size = _AutoSlider(
            "Size",
            "Size of the points",
            round(LARGEST * SIZE_STEPS),
            lambda v: self._set(size=None if v is None else v / SIZE_STEPS),
        )
        self.opacity = _AutoSlider(
            "Opacity",
            "Opacity of each point; points that let others through show overlaps",
            100,
            lambda v: self._set(opacity=None if v is None else v / 100),
        )
        self.density = self._combo(
            "Density", "Add points up to a picture of how dense they lie"
        )
        for value, text, tip in DENSITY:
            self.density.addItem(text, value)
            self.density.setItemData(
                self.density.count() - 1, tip, Qt.ItemDataRole.ToolTipRole
            )
        self.density.activated.connect(
            lambda _i: self._set(density=self.density.currentData())
        )
        self.frame = self._combo(
            "Points while moving",
            "Most points drawn while the view moves. At rest all are drawn",
        )
        for most in FRAME_POINTS:
            text = "automatic" if most is None else f"up to {most:,}"
            self.frame.addItem(text, most)
        self.frame.addItem("all points", ALL_POINTS)
        self.frame.activated.connect(
            lambda _i: self._set(frame_points=self.frame.currentData())
        )
        form.addRow(label("Size"), self.size)
        form.addRow(label("Opacity"), self.opacity)
        form.addRow(label("Density"), self.density)
        form.addRow(label("While moving"), self.frame)
        return form

    @staticmethod
    def _combo(name: str, tip: str) -> QComboBox:
        made = QComboBox()
        made.setToolTip(tip)
        made.setAccessibleName(name)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        return made

    def _build_boxes(self) -> QHBoxLayout:
        self.shapes = QCheckBox("Marker per class")
        self.shapes.setToolTip(
            "Give each class a marker of its own: disc, square, triangle, diamond, "
            "cross, star and more"
        )
        self.shapes.toggled.connect(lambda on: self._set(shapes=on))
        self.front = QCheckBox("Front surface only")
        self.front.setToolTip("Box and lasso leave out points that others hide")
        self.front.toggled.connect(lambda on: self._set(front_only=on))
        row = QHBoxLayout()
        row.setSpacing(GAP_PX)
        row.addWidget(self.shapes)
        row.addWidget(self.front)
        row.addStretch(1)
        return row

    def _set(self, **changes: Any) -> None:
        self._controller.set_display(**changes)

    def _follow(self) -> None:
        me = weakref.ref(self)
        signal = self._map.drawn_changed

        def tell(words: str) -> None:
            section = me()
            if section is not None:
                section.show_drawn(words)

        signal.connect(tell)
        when_gone(self, lambda: signal.disconnect(tell))

    def show_drawn(self, words: str) -> None:
        """Say how many points the last frame shows."""
        self.drawn.setText(words)

    def show_settings(self, settings: DisplaySettings) -> None:
        """Show settings; automatic ones as the value in use."""
        layer = self._map.layer
        size = settings.size
        if size is None:
            size = layer.point_size if layer is not None else 4.0
        self.size.show_value(size * SIZE_STEPS, auto=settings.size is None)
        opacity = 1.0 if settings.opacity is None else settings.opacity
        self.opacity.show_value(100 * opacity, auto=settings.opacity is None)
        self.density.setCurrentIndex(self.density.findData(settings.density))
        found = self.frame.findData(settings.frame_points)
        if found < 0:  # set from elsewhere
            self.frame.addItem(
                f"up to {settings.frame_points:,}", settings.frame_points
            )
            found = self.frame.count() - 1
        self.frame.setCurrentIndex(found)
        for box, on in (
            (self.shapes, settings.shapes),
            (self.front, settings.front_only),
        ):
            box.blockSignals(True)
            box.setChecked(on)
            box.blockSignals(False)
