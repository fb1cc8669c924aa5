"""The folded form of settings that few people change, made with magicgui."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox, SpinBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_embed.gui.docks.parts import label
from napari_embed.gui.state import ComputeSettings
from napari_embed.params import PRESETS

__all__ = ["AdvancedForm"]


class AdvancedForm:
    """Settings of neighbours and projection as a form.

    Parameters
    ----------
    changed
        Called with a function that turns old settings into new ones.
    """

    def __init__(
        self, changed: Callable[[Callable[[ComputeSettings], ComputeSettings]], None]
    ) -> None:
        self._changed = changed
        self._quiet = False
        self._fields = self._make()
        self.native = QWidget()
        form = QFormLayout(self.native)
        form.setContentsMargins(6, 0, 0, 0)
        form.setHorizontalSpacing(12)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        for widget in self._fields.values():
            form.addRow(label(widget.label), widget.native)
            widget.changed.connect(self._edited)

    def field(self, name: str) -> Any:
        """Return one magicgui widget by the name of its setting."""
        return self._fields[name]

    @staticmethod
    def _make() -> dict[str, Any]:
        def number(text: str, tip: str, low: int, high: int) -> SpinBox:
            return SpinBox(label=text, tooltip=tip, min=low, max=high)

        def choice(text: str, tip: str, choices: tuple[str, ...]) -> ComboBox:
            return ComboBox(label=text, tooltip=tip, choices=choices)

        return {
            "perplexity": FloatSpinBox(
                label="Perplexity",
                tooltip="Effective number of neighbours each point keeps close",
                min=1.0,
                max=1000.0,
                step=5.0,
            ),
            "preset": choice(
                "Accuracy",
                "How exactly the repulsion is computed; paper is the published method",
                PRESETS,
            ),
            "max_iter": number(
                "Iterations", "Steps of the layout; 750 is enough for most", 1, 100_000
            ),
            "n_neighbors": number(
                "Neighbours", "Nearest neighbours found; about 3 x perplexity", 1, 1000
            ),
            "metric": choice(
                "Distance",
                "auto takes the one that suits the encoder",
                ("auto", "euclidean", "cosine"),
            ),
            "device": choice(
                "Device",
                "auto takes the GPU when there is one",
                ("auto", "cpu", "cuda"),
            ),
            "random_state": number(
                "Seed", "Equal seeds give equal maps on one machine", 0, 2**31 - 1
            ),
        }

    def show(self, settings: ComputeSettings) -> None:
        """Fill the form without reporting a change."""
        projection, neighbors = settings.projection, settings.neighbors
        values = {
            "perplexity": projection.perplexity,
            "preset": projection.preset,
            "max_iter": projection.max_iter,
            "n_neighbors": neighbors.n_neighbors,
            "metric": neighbors.metric,
            "device": projection.device,
            "random_state": projection.random_state,
        }
        self._quiet = True
        try:
            for name, value in values.items():
                if self._fields[name].value != value:
                    self._fields[name].value = value
        finally:
            self._quiet = False

    def _edited(self, _value: Any = None) -> None:
        if self._quiet:
            return
        values = {name: widget.value for name, widget in self._fields.items()}

        def apply(old: ComputeSettings) -> ComputeSettings:
            device, seed = values["device"], values["random_state"]
            return ComputeSettings(
                embed=replace(old.embed, device=device, random_state=seed),
                neighbors=replace(
                    old.neighbors,
                    n_neighbors=values["n_neighbors"],
                    metric=values["metric"],
                    device=device,
                    random_state=seed,
                ),
                projection=replace(
                    old.projection,
                    perplexity=float(values["perplexity"]),
                    preset=values["preset"],
                    max_iter=values["max_iter"],
                    device=device,
                    random_state=seed,
                ),
            )

        self._changed(apply)
