"""From vectors to a map: neighbors, affinities, start, optimizer.

The heavy parts (FAISS, Taichi, torch) are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Eager, because a submodule of the same name would otherwise hide the function.
from napari_embed.tsne.affinities import affinities

_HOME = {
    "TSNE": "estimator",
    "initial_positions": "initialization",
    "neighbor_graph": "neighbors",
    "pca_projection": "initialization",
}

__all__ = [
    "TSNE",
    "affinities",
    "initial_positions",
    "neighbor_graph",
    "pca_projection",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
