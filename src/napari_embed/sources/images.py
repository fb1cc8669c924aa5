"""Decoding foreign image files safely, and making thumbnails.

Six formats and no others, first frame only, a cap on pixels and bytes, EXIF rotation
applied; whatever the decoders raise becomes one reason. JPEG goes through simplejpeg
where it is installed (2 to 10 times faster, equal up to rounding), else Pillow.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from napari_embed.errors import ImageDecodeError, UnsafePathError
from napari_embed.sources.paths import read_confined
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX, DecodedItem

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "decode_file",
    "decode_image",
    "letterbox",
    "to_uint8",
    "try_decode_file",
]

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
)
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 1 << 30
_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.1, 99.9
_EXIF_SEARCH_BYTES = 1 << 16


def decode_image(
    data: bytes, *, shrink_to: int | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode the bytes of one image file.

    Transparent pixels are laid on white; CMYK, palettes and grey become RGB; 16-bit
    and floating-point grey is stretched by `to_uint8`.

    Parameters
    ----------
    data
        The whole file.
    shrink_to
        Reduce by a whole factor while the shorter side stays at least this long, in
        pixels; None keeps every pixel.
    max_pixels
        Larger images are refused before they are decoded.

    Returns
    -------
    uint8 (h, w, 3).

    Raises
    ------
    ImageDecodeError
        With the reason, whatever it is.
    """
    try:
        image = None
        if data[:3] == b"\xff\xd8\xff":
            image = _decode_jpeg(data, shrink_to, max_pixels)
        return _decode_pillow(data, shrink_to, max_pixels) if image is None else image
    except ImageDecodeError:
        raise
    except Exception as error:  # BLE001: decoders raise anything
        raise ImageDecodeError(_reason(error)) from error


def decode_file(
    root: Path, name: str, *, shrink_to: int | None = None
) -> NDArray[np.uint8]:
    """Decode one image file inside ``root``; see `decode_image`.

    Raises
    ------
    UnsafePathError
        If the name leaves ``root`` or is no regular file.
    ImageDecodeError
        If it cannot be read or decoded.
    """
    data = read_confined(root, name, max_bytes=MAX_FILE_BYTES)
    return decode_image(data, shrink_to=shrink_to)


def try_decode_file(
    root: Path, name: str | None, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
) -> DecodedItem:
    """Decode one image file; a failure becomes the item's reason."""
    if not name:
        return DecodedItem(None, "The item has no image path.")
    try:
        return DecodedItem(decode_file(root, name, shrink_to=shrink_to), None)
    except (ImageDecodeError, UnsafePathError) as error:
        return DecodedItem(None, str(error))
    except MemoryError:
        return DecodedItem(None, "not enough memory to decode it")
    except OSError as error:
        return DecodedItem(None, f"cannot be read: {error.strerror or error}")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known format ({', '.join(FORMATS)})"
    return f"damaged or unsupported: {text or type(error).__name__}"


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg  # type: ignore[no-any-return]


def _decode_jpeg(
    data: bytes, shrink_to: int | None, max_pixels: int
) -> NDArray[np.uint8] | None:
    """Decode with simplejpeg, or return None where Pillow has to judge."""
    module = _simplejpeg()
    if module is None:
        return None
    try:
        height, width, space, _ = module.decode_jpeg_header(data)
        if space not in ("YCbCr", "Gray", "GRAY"):
            return None
        _check_size(width, height, max_pixels)
        factor = _jpeg_factor(width, height, shrink_to)
        pixels = module.decode_jpeg(
            data, "RGB", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ImageDecodeError:
        raise
    except ValueError:  # truncated or odd: Pillow's verdict is the one we report
        return None
    upright = _upright(pixels, data)
    if shrink_to is None or min(upright.shape[:2]) < 2 * shrink_to:
        return upright
    return _shrink(Image.fromarray(upright), shrink_to)


def _upright(pixels: NDArray[np.uint8], data: bytes) -> NDArray[np.uint8]:
    """Apply the EXIF rotation, which only Pillow can read."""
    if b"Exif\0\0" not in data[:_EXIF_SEARCH_BYTES]:
        return pixels
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as header:
        orientation = header.getexif().get(0x0112, 1)
    if orientation not in range(2, 9):
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _decode_pillow(
    data: bytes, shrink_to: int | None, max_pixels: int
) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
        width, height = image.size
        _check_size(width, height, max_pixels)
        factor = _jpeg_factor(width, height, shrink_to)
        if image.format == "JPEG" and factor > 1:
            image.draft(image.mode, (width // factor, height // factor))
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _shrink(_to_rgb(upright), shrink_to)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ImageDecodeError(
            f"{width} x {height} pixels; from 1 to {max_pixels / 1e6:.0f} million are "
            "read"
        )


def _jpeg_factor(width: int, height: int, shrink_to: int | None) -> int:
    """Return the largest of 1, 2, 4, 8 that keeps the shorter side long enough."""
    if shrink_to is None:
        return 1
    return max(
        f for f in (1, 2, 4, 8) if f == 1 or min(width, height) // f >= shrink_to
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_uint8(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _shrink(image: Image.Image, shrink_to: int | None) -> NDArray[np.uint8]:
    factor = 1 if shrink_to is None else max(1, min(image.size) // shrink_to)
    pixels: NDArray[np.uint8] = np.array(image.reduce(factor) if factor > 1 else image)
    return pixels


def to_uint8(
    values: NDArray[Any], limits: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Scale numbers to 0..255.

    uint8 stays; bool becomes 0 and 255; all else runs linearly between ``limits``, by
    default the 0.1 and 99.9 percentiles of the finite values, so that a 12-bit camera
    is not black and one hot pixel does not darken the rest. NaN becomes 0.

    Raises
    ------
    ImageDecodeError
        If no value is finite.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise ImageDecodeError(f"pixels of type {values.dtype} cannot be shown")
    low, high = limits or percentile_limits(values)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled: NDArray[np.float32] = (
        values.astype(np.float32) - np.float32(low)
    ) * np.float32(scale)
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)


def percentile_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles of the finite values.

    Raises
    ------
    ImageDecodeError
        If no value is finite.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if finite.size == 0:
        raise ImageDecodeError("no pixel has a finite value")
    low, high = np.percentile(finite, [_LOW_PERCENTILE, _HIGH_PERCENTILE])
    return float(low), float(high)


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Fit an image into a black square, keeping its proportions.

    Parameters
    ----------
    image
        uint8 (h, w, 3).
    size
        Side of the result in pixels; smaller images are not enlarged beyond it but
        fill it.

    Returns
    -------
    uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(image)
    scale = size / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    # Enlarging by nearest keeps the pixels of tiny images visible as they are.
    method = Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST
    small = Image.fromarray(image).resize((new_w, new_h), method, reducing_gap=2.0)
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new_h) // 2, (size - new_w) // 2
    square[top : top + new_h, left : left + new_w] = np.asarray(small)
    return square
