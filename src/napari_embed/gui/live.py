"""Positions that t-SNE publishes while it runs, read without waiting. No Qt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.positions import PositionsBuffer

__all__ = ["LivePositions"]


class LivePositions:
    """The window's end of a shared buffer: owns it, reads what is new.

    Parameters
    ----------
    n, d
        Number of items and of dimensions (2 or 3).
    """

    def __init__(self, n: int, d: int) -> None:
        self._buffer = PositionsBuffer.create(n, d)
        self._seen = 0
        self.n_components = d

    @property
    def name(self) -> str:
        """What the engine attaches to."""
        return self._buffer.name

    def poll(self) -> NDArray[np.float32] | None:
        """Return positions newer than the last ones returned, or None."""
        newest = self._buffer.read(after=self._seen)
        if newest is None:
            return None
        self._seen, positions = newest
        return positions

    def close(self) -> None:
        """Remove the shared memory."""
        self._buffer.close()
