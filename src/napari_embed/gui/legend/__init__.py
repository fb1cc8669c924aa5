"""The legends: classes with colours and counts to hide and search; numbers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CategoryLegend": "napari_embed.gui.legend.widget",
    "NumberLegend": "napari_embed.gui.legend.numbers",
    "LegendModel": "napari_embed.gui.legend.model",
    "category_palette": "napari_embed.gui.legend.palettes",
}
__all__ = ["CategoryLegend", "LegendModel", "NumberLegend", "category_palette"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
