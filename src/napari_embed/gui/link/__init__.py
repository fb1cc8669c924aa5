"""Points linked to their images: the contact sheet in the canvas, and its pager.

`ImageLink` keeps one Image layer, "Selected images", beside the points: the current
page of thumbnails of the selected points, at a fixed place of the screen.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ImageLink": "napari_embed.gui.link.image_link",
    "Pager": "napari_embed.gui.link.pager",
}
__all__ = ["ImageLink", "Pager"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
