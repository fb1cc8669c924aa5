"""How different two pictures are, whatever encoder sees them.

Vectors are made to overlook what copies often differ in, and small images of one class
lie closer together than an image and its copy that was moved by a pixel. So neighbors
in the vectors are candidates only, and their thumbnails are laid on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_embed.project.reader import ProjectReader

__all__ = ["MOST_DIFFERENT", "SUGGESTED", "differences", "grey_pictures"]

SUGGESTED = 0.005
"""Up to here pictures are copies; docs/curation.md has what this finds."""
MOST_DIFFERENT = 0.05
"""Pictures that differ more are not looked at: the end of the slider."""

_SIDES = (32, 12)
_MOST_BYTES = 1 << 30
_BLOCK = 512
# Both are halved for a first look; what differs more there is no copy.
_COARSE_SHIFT, _COARSE_LIMIT = 1, 0.4
_SHIFT = 2

Progress = Callable[[int, int], None]
Grey = NDArray[np.uint8]


def grey_pictures(
    project: ProjectReader, *, progress: Progress | None = None
) -> Grey | None:
    """Return small grey pictures (n, s, s) uint8, or None if some item has none."""
    n = project.n_items
    ids = np.arange(n)
    if not n or not project.thumbnail_available(ids).all():
        return None
    stored = project.thumbnail_shape[0]
    room = math.isqrt(_MOST_BYTES // n)
    side = max(_SIDES[1], min(_SIDES[0], stored, room))
    grey = np.empty((n, side, side), np.uint8)
    for start in range(0, n, _BLOCK):
        rows = ids[start : start + _BLOCK]
        light = project.read_thumbnails(rows).mean(axis=-1, dtype=np.float32)
        grey[rows] = np.round(_shrunk(light, side))
        if progress:
            progress(int(rows[-1]) + 1, n)
    return grey


def _shrunk(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return (m, h, w) images as (m, side, side), each pixel a mean of its area."""
    for axis in (1, 2):
        size = images.shape[axis]
        if size != side:
            images = np.moveaxis(
                np.tensordot(images, _areas(size, side), axes=(axis, 0)), -1, axis
            )
    return images


def _areas(size: int, side: int) -> NDArray[np.float32]:
    """Return (size, side) shares of each old pixel in each new one."""
    ends = np.arange(side + 1) * size / side
    old = np.arange(size)[:, None]
    low, high = np.maximum(ends[:-1], old), np.minimum(ends[1:], old + 1)
    shares: NDArray[np.float32] = (np.maximum(high - low, 0) * side / size).astype(
        np.float32
    )
    return shares


def differences(
    grey: Grey,
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    *,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return how different pairs of pictures are: 0 for equal ones, Inf far beyond.

    One less the largest correlation of the two when one is moved by up to two pixels
    each way; brightness and contrast do not count.
    """
    coarse = _halved(grey)
    found = np.full(len(left), np.inf, np.float32)
    for start in range(0, len(left), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(left)))
        first = _difference(coarse, left[rows], right[rows], _COARSE_SHIFT)
        rows = rows[first <= _COARSE_LIMIT]
        found[rows] = _difference(grey, left[rows], right[rows], _SHIFT)
        if progress:
            progress(min(start + _BLOCK, len(left)), len(left))
    return found


def _halved(grey: Grey) -> Grey:
    side = grey.shape[1] // 2
    half = np.empty((len(grey), side, side), np.uint8)
    for start in range(0, len(grey), _BLOCK):
        rows = slice(start, start + _BLOCK)
        half[rows] = np.round(_shrunk(grey[rows].astype(np.float32), side))
    return half


def _difference(
    grey: Grey, left: NDArray[np.integer], right: NDArray[np.integer], shift: int
) -> NDArray[np.float32]:
    side = grey.shape[1]
    inner = side - 2 * shift
    fixed = grey[left][:, shift : shift + inner, shift : shift + inner]
    fixed = fixed.astype(np.float32)
    fixed -= fixed.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt(np.einsum("ijk,ijk->i", fixed, fixed))
    moved = grey[right].astype(np.float32)
    moved -= moved.mean(axis=(1, 2), keepdims=True)
    sums, squares = _corner_sums(moved), _corner_sums(moved**2)
    best = np.full(len(left), -1.0, np.float32)
    for down in range(2 * shift + 1):
        for across in range(2 * shift + 1):
            window = moved[:, down : down + inner, across : across + inner]
            total = _inside(sums, down, across, inner)
            spread = _inside(squares, down, across, inner) - total**2 / inner**2
            both = length * np.sqrt(np.maximum(spread, 0)).astype(np.float32)
            # Pictures of one grey have nothing to be laid on each other by.
            same = np.einsum("ijk,ijk->i", fixed, window) / np.maximum(both, 1.0)
            np.maximum(best, same, out=best)
    apart: NDArray[np.float32] = np.maximum(1 - best, 0)
    return apart


def _corner_sums(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (m, h + 1, w + 1) sums of everything above and left."""
    sums = np.zeros((len(images), *(side + 1 for side in images.shape[1:])))
    np.cumsum(images, axis=1, out=sums[:, 1:, 1:])
    np.cumsum(sums[:, 1:, 1:], axis=2, out=sums[:, 1:, 1:])
    return sums


def _inside(
    sums: NDArray[np.float64], top: int, left: int, side: int
) -> NDArray[np.float64]:
    """Return (m,) sums of a square window."""
    low, right = top + side, left + side
    inside: NDArray[np.float64] = (
        sums[:, low, right] - sums[:, top, right]
        - sums[:, low, left] + sums[:, top, left]
    )  # fmt: skip
    return inside
