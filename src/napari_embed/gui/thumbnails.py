"""Pictures of items: thumbnails, or the images themselves before that. No Qt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import EmbedError
from napari_embed.sources.images import letterbox

__all__ = ["Thumbnails"]

logger = logging.getLogger(__name__)


class Thumbnails:
    """Reads pictures of items of a project; used on the reading thread.

    A table may bring its map, so that points are selected before any image was
    embedded and has a thumbnail.

    Parameters
    ----------
    project
        Open for reading.
    """

    def __init__(self, project: Any) -> None:
        self._project = project
        self._source: Any = None

    def __call__(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return (m, h, w, 3) uint8; black where an image cannot be read."""
        wanted = np.asarray(ids, dtype=np.int64)
        pictures = self._project.read_thumbnails(wanted)
        missing = np.flatnonzero(~self._project.thumbnail_available(wanted))
        if not missing.size:
            return pictures
        try:
            if self._source is None:
                self._source = self._project.source()
            items = self._project.items(rows=wanted[missing])
            for row, item in zip(missing, self._source.read(items), strict=True):
                if item.image is not None:
                    pictures[row] = letterbox(item.image, pictures.shape[1])
        except EmbedError as error:
            logger.info("Pictures are not shown: %s", error)
        return pictures
