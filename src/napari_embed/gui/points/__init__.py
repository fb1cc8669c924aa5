"""The points layer: millions of items in 2D and 3D, with box and lasso selection."""

from __future__ import annotations

from .layer import EmbeddingPoints, PointsSignals

__all__ = ["EmbeddingPoints", "PointsSignals"]
