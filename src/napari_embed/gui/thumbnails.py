"""Pictures of items: thumbnails, and the images themselves. No Qt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import EmbedError
from napari_embed.gui.link.contact_sheet import fit_values
from napari_embed.gui.link.look import Look
from napari_embed.sources.images import letterbox
from napari_embed.sources.objects.crops import as_rgb, object_name
from napari_embed.sources.objects.options import crop_options
from napari_embed.sources.spec import ValueRange

__all__ = ["FullImage", "Thumbnails"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FullImage:
    """The source image of an item, or its thumbnail and why it is only that.

    Attributes
    ----------
    item
        Id.
    values
        (h, w) or (h, w, 3) of any number type.
    source
        Path or location as in the items table.
    location
        Where that is, for people: a path, or an array and its row.
    error
        Why ``values`` are those of the thumbnail, or "".
    """

    item: int
    values: NDArray[np.generic]
    source: str
    location: str
    error: str = ""


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
        self._mutex = threading.Lock()
        self._decided = False
        self._range: ValueRange | None = None
        # Channels of objects and how they are shown; None as they were embedded.
        self.looks: tuple[tuple[int, Look], ...] | None = None
        self.crop_side: tuple[float, bool] | None = None
        """Side of the crops of objects and whether that is micrometres."""

    @property
    def value_range(self) -> ValueRange | None:
        """Range of the numbers of one-channel pictures, None for 8-bit colour.

        Known after the first call.
        """
        return self._range

    def __call__(self, ids: Sequence[int]) -> NDArray[np.generic]:
        """Return (m, h, w, 3) uint8; black where an image cannot be read.

        Images of one channel that 8 bits cannot hold come as numbers of their own
        type, (m, h, w), as long as their array is there.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        numbers = self._numbers(wanted)
        if numbers is not None:
            return numbers
        return self._stored(wanted) if self.looks is None else self._looked(wanted)

    def _numbers(self, ids: NDArray[np.int64]) -> NDArray[np.generic] | None:
        """Return the pictures as numbers, or None where there are none."""
        with self._mutex:
            first, self._decided = not self._decided, True
            try:
                if first and self._project.spec.kind == "objects":
                    self.crop_side = self._find_side()
                if first and self._project.spec.kind in ("images", "sample"):
                    ask = getattr(self._open_source(), "value_range", None)
                    self._range = ask() if ask is not None else None
                if self._range is None:
                    return None
                values = self._open_source().values(self._project.items(rows=ids))
            except (EmbedError, OSError, ValueError) as error:
                # For good: pages of two kinds would make the layer come and go.
                logger.info("The stored thumbnails are shown: %s", error)
                self._range = None
                return None
        side = self._project.thumbnail_shape[0]
        return fit_values(values, side, background=self._range.limits[0])

    def _open_source(self) -> Any:
        if self._source is None:
            self._source = self._project.source()
        return self._source

    def _find_side(self) -> tuple[float, bool] | None:
        """Return how long the side of each crop is, None where they differ."""
        size = crop_options(self._project.spec).size
        if size is None or size.in_um:
            return None if size is None else (size.value, True)
        names = ["centroid_x", "centroid_x_um"]
        if names[1] not in self._project.columns():
            return size.value, False
        px, um = (c[0].as_py() for c in self._project.items(names, [0]).columns)
        return (size.value * um / px, True) if um and px else (size.value, False)

    def _looked(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return crops with contrast and colours of the layers of their picture."""
        side = self._project.thumbnail_shape[0]
        pictures = np.zeros((len(wanted), side, side, 3), np.uint8)
        for row, crop in enumerate(self._composed(self._keys(wanted))):
            if crop is not None:
                pictures[row] = letterbox(crop, side)
        return pictures

    def _composed(self, keys: Sequence[str]) -> list[NDArray[np.uint8] | None]:
        looks = self.looks or ()
        channels = [channel for channel, _ in looks]
        limits = [look.limits or (0.0, 255.0) for _, look in looks]
        tables = [look.table for _, look in looks]
        if not channels:  # every channel is hidden
            return [None] * len(keys)
        found = self._open_source().crops(keys, channels, limits)
        return [None if crop is None else _added(crop, tables) for crop in found]

    def _stored(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        pictures = self._project.read_thumbnails(wanted)
        missing = np.flatnonzero(~self._project.thumbnail_available(wanted))
        if not missing.size:
            return pictures
        try:
            items = self._project.items(rows=wanted[missing])
            read = self._open_source().read(items)
            for row, item in zip(missing, read, strict=True):
                if item.image is not None:
                    pictures[row] = letterbox(as_rgb(item.image), pictures.shape[1])
        except EmbedError as error:
            logger.info("Pictures are not shown: %s", error)
        return pictures

    def sources(self, ids: NDArray[np.int64]) -> list[str]:
        """Return where each of the (m,) ids comes from; of objects its name."""
        return [object_name(key) for key in self._keys(ids)]

    def _keys(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the sources of the items table."""
        wanted = np.asarray(ids, dtype=np.int64)
        column = self._project.items(columns=["source"], rows=wanted)["source"]
        return [str(source) for source in column.to_pylist()]

    def locations(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the path of each image, or its array and row."""
        return [self._location(source) for source in self.sources(ids)]

    def _location(self, source: str) -> str:
        spec = self._project.spec
        if spec.kind in ("folder", "table"):
            root = Path(spec.path) if spec.kind == "folder" else Path(spec.path).parent
            return str(root / str(spec.options.get("root") or "") / source)
        return f"{spec.path}[{source}]"

    def full(self, item: int) -> FullImage:
        """Return the source image of an item, its thumbnail where that is not there.

        Raises
        ------
        EmbedError
            If the project itself cannot be read.
        """
        ids = np.array([item], dtype=np.int64)
        key = self._keys(ids)[0]
        source = object_name(key)
        try:
            if self._range is not None:
                rows = self._project.items(rows=ids)
                values = self._open_source().values(rows)[0]
            elif self.looks and (crop := self._composed([key])[0]) is not None:
                values = crop
            else:
                values = self._open_source().full_resolution(key)
            return FullImage(item, values, source, self._location(source))
        except (EmbedError, OSError, ValueError, MemoryError) as error:
            reason = str(error).strip() or type(error).__name__
            logger.info("The thumbnail is shown instead of %s: %s", source, reason)
        picture = self(ids)[0]
        return FullImage(item, picture, source, self._location(source), reason)


def _added(
    crop: NDArray[np.uint8], tables: Sequence[NDArray[np.uint8] | None]
) -> NDArray[np.uint8]:
    """Return (h, w, 3) of (h, w, c): the colours of the channels added up."""
    total = np.zeros((*crop.shape[:2], 3), np.uint16)
    for channel, table in enumerate(tables):
        values = crop[..., channel]
        total += values[..., None] if table is None else table[values]
    return np.minimum(total, 255).astype(np.uint8)
