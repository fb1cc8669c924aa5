"""Images of any size to one block of pixels of the size an encoder works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

__all__ = ["crop_centre", "image_problem", "prepare", "squash"]

STACK_PIXELS = 1 << 18
"""Larger images are resized one by one, so that they are not copied into a block."""

MAX_ASPECT = 4
"""Beyond this the ends of a long image, which a centre crop never shows, are cut."""


def image_problem(image: Any) -> str | None:
    """Return why an image cannot be encoded, or None if it can."""
    if not isinstance(image, np.ndarray):
        return f"expected an array, found {type(image).__name__}"
    if image.dtype != np.uint8:
        return f"expected 8-bit pixels (uint8), found {image.dtype}"
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        return f"expected shape (h, w), (h, w, 1) or (h, w, 3), found {image.shape}"
    if image.size == 0:
        return f"the image is empty, shape {image.shape}"
    return None


def prepare(
    images: Sequence[NDArray[Any]],
    resize: Callable[[torch.Tensor], torch.Tensor],
    size: int,
) -> torch.Tensor:
    """Bring images to one size; images of equal shape go together.

    Parameters
    ----------
    images
        Arrays without an :func:`image_problem`; grey ones become three channels.
    resize
        Maps (b, 3, h, w) uint8 to (b, 3, size, size) uint8.
    size
        Side of the result.

    Returns
    -------
    (n, 3, size, size) uint8 on the CPU, channels last.
    """
    result = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    groups: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        large = image.shape[0] * image.shape[1] > STACK_PIXELS
        groups.setdefault((image.shape, row if large else -1), []).append(row)
    for (shape, _), rows in groups.items():
        block = np.stack([images[row].reshape(*shape[:2], -1) for row in rows])
        pixels = torch.from_numpy(block).permute(0, 3, 1, 2)
        resized = resize(pixels).permute(0, 2, 3, 1)
        # Grey images are broadcast to three channels here.
        result[torch.as_tensor(rows)] = resized.expand(-1, -1, -1, 3)
    return result.permute(0, 3, 1, 2)


def squash(pixels: torch.Tensor, size: int, mode: str = "bilinear") -> torch.Tensor:
    """Resize to (size, size), antialiased; the aspect ratio is not kept."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    return interpolate(pixels, size=(size, size), mode=mode, antialias=True)


def crop_centre(
    pixels: torch.Tensor, resize_size: int, crop_size: int, mode: str
) -> torch.Tensor:
    """Bring the shorter side to ``resize_size`` and cut the centre square.

    The preprocessing of torchvision's classification models.
    """
    pixels = _cut_ends(pixels)
    h, w = pixels.shape[-2:]
    short = min(h, w)
    if short != resize_size:
        height = resize_size if h == short else int(resize_size * h / w)
        width = resize_size if w == short else int(resize_size * w / h)
        pixels = interpolate(pixels, size=(height, width), mode=mode, antialias=True)
    top = round((pixels.shape[-2] - crop_size) / 2)
    left = round((pixels.shape[-1] - crop_size) / 2)
    return pixels[..., top : top + crop_size, left : left + crop_size]


def _cut_ends(pixels: torch.Tensor) -> torch.Tensor:
    """Cut the ends off a very long image: resizing it whole could fill the memory."""
    h, w = pixels.shape[-2:]
    if h > MAX_ASPECT * w:
        top = (h - MAX_ASPECT * w) // 2
        return pixels[..., top : top + MAX_ASPECT * w, :]
    if w > MAX_ASPECT * h:
        left = (w - MAX_ASPECT * h) // 2
        return pixels[..., left : left + MAX_ASPECT * h]
    return pixels
