"""The legend of a column of classes: colours, counts, hide, isolate, search."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CategoryLegend": "napari_embed.gui.legend.widget",
    "LegendModel": "napari_embed.gui.legend.model",
    "category_palette": "napari_embed.gui.legend.palettes",
}
__all__ = ["CategoryLegend", "LegendModel", "category_palette"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
