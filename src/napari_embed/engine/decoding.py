"""Decoding ahead of the encoder, in pieces.

The images of a chunk are decoded in order by a thread and handed over in small pieces.
Pieces do not depend on where a run was interrupted, nor on which machine decodes them,
so that every run gives the same bytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_embed.sources.images import letterbox
from napari_embed.sources.objects.crops import as_rgb
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX

if TYPE_CHECKING:
    import pyarrow as pa

    from napari_embed.sources.spec import ImageReader

__all__ = ["PIECE_IMAGES", "Items", "Piece", "decode_ahead"]

# Images per piece: enough for a forward pass, few enough to answer Cancel soon.
PIECE_IMAGES = 128
# Pieces decoded ahead; with images of 512 x 512 about 100 MiB each.
PIECES_AHEAD = 2


class Items(Protocol):
    """Whatever knows the items of some rows: a project, or a part of its table."""

    def items(self, *, rows: slice) -> pa.Table:
        """Return one row per item."""
        ...


@dataclass(frozen=True)
class Piece:
    """Some consecutive items of one chunk, decoded.

    Attributes
    ----------
    chunk
        Number of the chunk.
    ids
        Item ids.
    images
        One uint8 (h, w, 3) image per id, None where it could not be read.
    thumbnails
        uint8 (m, s, s, 3), zeros where there is no image; None when not wanted.
    errors
        {item id: reason} of the images that could not be read.
    last
        Whether the chunk ends with this piece.
    """

    chunk: int
    ids: range
    images: list[NDArray[np.uint8] | None]
    thumbnails: NDArray[np.uint8] | None
    errors: dict[int, str]
    last: bool


def _decode_chunk(
    listed: Items,
    source: ImageReader,
    chunk: int,
    rows: slice,
    thumbnail_px: int,
    shrink_to: int,
) -> Iterator[Piece]:
    """Decode one chunk, piece by piece; ``thumbnail_px`` 0 makes no thumbnails."""
    items = source.read(listed.items(rows=rows), shrink_to=shrink_to)
    images: list[NDArray[np.uint8] | None] = []
    errors: dict[int, str] = {}
    first = rows.start
    for index, (image, reason) in enumerate(items):
        number = rows.start + index
        images.append(image)
        if image is None:
            errors[number] = reason or "The image could not be read."
        last = number + 1 == rows.stop
        if len(images) == PIECE_IMAGES or last:
            small = None
            if thumbnail_px:
                small = np.zeros((len(images), thumbnail_px, thumbnail_px, 3), np.uint8)
                for i, picture in enumerate(images):
                    if picture is not None:
                        small[i] = letterbox(as_rgb(picture), thumbnail_px)
            ids = range(first, number + 1)
            yield Piece(chunk, ids, images, small, errors, last)
            images, errors, first = [], {}, number + 1


@dataclass
class _Feed:
    """The thread that decodes, and the queue between it and the encoder."""

    pieces: queue.Queue[Piece | BaseException | None] = field(
        default_factory=lambda: queue.Queue(PIECES_AHEAD)
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    def put(self, item: Piece | BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self.pieces.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def fill(self, pieces: Iterator[Piece]) -> None:
        try:
            for piece in pieces:
                self.put(piece)
                if self.stopped.is_set():
                    return
            self.put(None)
        except BaseException as error:  # noqa: BLE001  thread boundary: raised there
            self.put(error)


def decode_ahead(
    listed: Items,
    source: ImageReader,
    chunks: Sequence[tuple[int, slice, int]],
    *,
    shrink_to: int = DEFAULT_SHRINK_TO_PX,
) -> Iterator[Piece]:
    """Yield the pieces of ``chunks`` (number, rows, thumbnail size) in order.

    Large images may be reduced while decoding, to no less than ``shrink_to`` pixels on
    the shorter side.

    Decoding runs on a thread, ahead of whoever takes the pieces; what it raises is
    raised here. Leaving the loop early ends the thread.
    """
    feed = _Feed()
    pieces = (
        piece
        for chunk, rows, size in chunks
        for piece in _decode_chunk(listed, source, chunk, rows, size, shrink_to)
    )
    thread = threading.Thread(
        target=feed.fill, args=(pieces,), name="napari-embed-decode", daemon=True
    )
    thread.start()
    try:
        while (item := feed.pieces.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        feed.stopped.set()
        thread.join()
