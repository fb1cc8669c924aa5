"""See, understand and clean huge image collections in napari.

Names are resolved on first use, so that importing the package loads neither torch,
Taichi, FAISS nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Affinities": "napari_embed.arrays",
    "Collection": "napari_embed.collection",
    "EmbedParams": "napari_embed.params",
    "NeighborGraph": "napari_embed.arrays",
    "NeighborParams": "napari_embed.params",
    "Project": "napari_embed.project",
    "Projection": "napari_embed.arrays",
    "ProjectionParams": "napari_embed.params",
    "TSNE": "napari_embed.tsne",
    "affinities": "napari_embed.tsne",
    "errors": "napari_embed",
    "neighbor_graph": "napari_embed.tsne",
    "open_project": "napari_embed.collection",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("napari_embed.errors")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
