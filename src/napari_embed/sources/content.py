"""Reading images together with what identifies them: a hash, the size, the bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from napari_embed.errors import ImageDecodeError, UnsafePathError
from napari_embed.sources.folder import FolderSource
from napari_embed.sources.images import FORMATS, MAX_FILE_BYTES, decode_image
from napari_embed.sources.paths import read_confined
from napari_embed.sources.reading import map_in_order
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX, Source
from napari_embed.sources.table import TableSource

__all__ = ["DIGEST_BYTES", "Content", "content_digest", "read_content"]

DIGEST_BYTES = 16

Measure = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Content(NamedTuple):
    """What one image is made of.

    Attributes
    ----------
    measured
        What ``measure`` returned, or None where the image cannot be decoded.
    digest
        BLAKE2b of the file, or of the pixels where the item is no file of its own;
        None where it cannot be read.
    height, width
        In pixels, before any reduction; 0 without an image.
    n_bytes
        Of the file or of the pixels.
    """

    measured: NDArray[np.float32] | None
    digest: bytes | None
    height: int = 0
    width: int = 0
    n_bytes: int = 0


def content_digest(*pieces: bytes) -> bytes:
    """Return the 16 bytes that stand for a content."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def read_content(
    source: Source, items: pa.Table, measure: Measure
) -> Iterator[Content]:
    """Yield one `Content` per row, in order; a bad image never raises.

    Files are read once, for the hash and the picture; large ones are reduced while
    decoding, as for an encoder. ``measure`` may run on several threads.
    """
    if isinstance(source, FolderSource | TableSource) and source.has_images:
        read = partial(_of_file, source.root, measure)
        return map_in_order(read, items["source"].to_pylist())
    return (
        _of_pixels(item.image, measure) for item in source.read(items, shrink_to=None)
    )


def _of_file(root: Path, measure: Measure, name: str | None) -> Content:
    if not name:
        return Content(None, None)
    try:
        data = read_confined(root, name, max_bytes=MAX_FILE_BYTES)
    except (ImageDecodeError, UnsafePathError, OSError, MemoryError):
        return Content(None, None)
    digest = content_digest(data)
    try:
        image = decode_image(data, shrink_to=DEFAULT_SHRINK_TO_PX)
        height, width = _true_size(data, image)
    except (ImageDecodeError, OSError, MemoryError):
        return Content(None, digest, n_bytes=len(data))
    return Content(measure(image), digest, height, width, len(data))


def _true_size(data: bytes, image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width as shown, before the image was reduced."""
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as header:
        width, height = header.size
    # A picture turned by its EXIF entry lies across its header.
    if (height > width) != (image.shape[0] > image.shape[1]) and height != width:
        height, width = width, height
    return height, width


def _of_pixels(image: NDArray[np.uint8] | None, measure: Measure) -> Content:
    if image is None:
        return Content(None, None)
    shape = f"{image.shape}".encode()
    digest = content_digest(shape, np.ascontiguousarray(image).tobytes())
    height, width = image.shape[:2]
    return Content(measure(image), digest, height, width, image.nbytes)
