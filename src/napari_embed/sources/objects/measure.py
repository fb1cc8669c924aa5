"""What a labels image says about its objects, from its runs along x.

An object is a few runs per line, so runs are far fewer than pixels; boxes, areas,
centroids and checksums all follow from them. Blocks are measured one by one and merged:
an object that crosses a border between blocks is the sum of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["OBJECT_DTYPE", "PART_DTYPE", "measure_block", "merge_objects"]

PART_DTYPE = np.dtype(
    [
        ("label", "<i8"), ("z", "<i4"), ("area", "<i8"),
        ("sum_y", "<f8"), ("sum_x", "<f8"),
        ("y0", "<i4"), ("y1", "<i4"), ("x0", "<i4"), ("x1", "<i4"),
        ("check", "<u8"),
    ]
)  # fmt: skip
"""One object in one plane of one block."""

OBJECT_DTYPE = np.dtype(
    [
        ("label", "<i8"), ("t", "<i4"), ("plane", "<i4"), ("area", "<i8"),
        ("z", "<f4"), ("y", "<f4"), ("x", "<f4"),
        ("z0", "<i4"), ("z1", "<i4"), ("y0", "<i4"), ("y1", "<i4"),
        ("x0", "<i4"), ("x1", "<i4"), ("check", "<u4"), ("edge", "?"),
    ]
)  # fmt: skip
"""One object: half-open box, centroid, pixels, fullest plane, checksum of its shape."""

_LARGEST_LABEL = 2**63 - 1


def measure_block(
    block: NDArray[np.integer], origin: tuple[int, int, int]
) -> NDArray[np.void]:
    """Return the objects of a (z, y, x) block as `PART_DTYPE`, one per plane.

    Parameters
    ----------
    block
        Labels; 0 and below are background.
    origin
        Where the block begins in the image, in pixels.

    Raises
    ------
    InputError
        If a label does not fit into a signed 64-bit number.
    """
    if block.size == 0:
        return np.zeros(0, PART_DTYPE)
    if block.dtype == bool:
        block = block.view(np.uint8)
    ids, line, start, end = _runs(block)
    if ids.dtype == np.uint64 and ids.size and int(ids.max()) > _LARGEST_LABEL:
        raise InputError(
            f"A label is {int(ids.max())}; numbers up to 2^63 - 1 can be used. "
            "Number the objects anew, from 1."
        )
    parts = np.zeros(ids.size, PART_DTYPE)
    plane, row = np.divmod(line, block.shape[1])
    length = (end - start).astype(np.int64)
    first = start + origin[2]
    parts["label"], parts["area"] = ids, length
    parts["z"], parts["y0"] = plane + origin[0], row + origin[1]
    parts["y1"], parts["x0"] = parts["y0"] + 1, first
    parts["x1"] = end + origin[2]
    parts["sum_y"] = parts["y0"] * length.astype(np.float64)
    parts["sum_x"] = (first + (length - 1) / 2) * length
    parts["check"] = _checks(parts)
    return _merge(parts, "label", "z")


def _runs(block: NDArray[np.integer]) -> tuple[NDArray[np.integer], ...]:
    """Return label, line, first and end column of each run of a label above 0."""
    width = block.shape[-1]
    lines = block.reshape(-1, width)
    begins = np.empty(lines.shape, bool)
    begins[:, 0] = True
    np.not_equal(lines[:, 1:], lines[:, :-1], out=begins[:, 1:])
    at = np.flatnonzero(begins)
    length = np.diff(at, append=lines.size)
    ids = lines.ravel()[at]
    kept = ids > 0
    ids, at, length = ids[kept], at[kept], length[kept]
    line, start = np.divmod(at, width)
    return ids, line, start, start + length


def _checks(parts: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return a number per run that adds up to the same whatever the blocks.

    A pixel's number is one of its line times one of its column (both look random), so
    a run's is a product with a difference of sums.
    """
    if not parts.size:
        return np.zeros(0, np.uint64)
    sums = np.zeros(int(parts["x1"].max()) + 1, np.uint64)
    np.cumsum(_scrambled(np.arange(sums.size - 1, dtype=np.uint64)), out=sums[1:])
    place = parts["z"].astype(np.uint64) << np.uint64(32)
    lines = _scrambled(place | parts["y0"].astype(np.uint64))
    return np.asarray(lines * (sums[parts["x1"]] - sums[parts["x0"]]))


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64 of the numbers."""
    with np.errstate(over="ignore"):
        mixed = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _merge(parts: NDArray[np.void], *keys: str) -> NDArray[np.void]:
    """Return one part for all that have the same keys, ordered by these."""
    if parts.size == 0:
        return parts
    parts = parts[np.lexsort([parts[key] for key in reversed(keys)])]
    new = np.zeros(parts.size, bool)
    new[0] = True
    for key in keys:
        new[1:] |= parts[key][1:] != parts[key][:-1]
    at = np.flatnonzero(new)
    merged = np.zeros(at.size, parts.dtype)
    for key in keys:
        merged[key] = parts[key][at]
    for name in ("area", "sum_y", "sum_x", "check"):
        merged[name] = np.add.reduceat(parts[name], at)
    for name in ("y0", "x0"):
        merged[name] = np.minimum.reduceat(parts[name], at)
    for name in ("y1", "x1"):
        merged[name] = np.maximum.reduceat(parts[name], at)
    return merged


def merge_objects(
    parts: Sequence[NDArray[np.void]], *, t: int, shape: tuple[int, int, int]
) -> NDArray[np.void]:
    """Return the objects of a (z, y, x) image from the parts of all its blocks.

    Returns
    -------
    `OBJECT_DTYPE`, ordered by label. ``edge`` is for the borders in y and x: a stack
    begins and ends somewhere in most cells.
    """
    planes = _merge(np.concatenate([np.zeros(0, PART_DTYPE), *parts]), "label", "z")
    whole = _merge(planes, "label")
    found = np.zeros(whole.size, OBJECT_DTYPE)
    if whole.size == 0:
        return found
    at = np.flatnonzero(np.diff(planes["label"], prepend=-1))
    end = np.append(at[1:], planes.size)
    area = whole["area"].astype(np.float64)
    for name in ("label", "area", "y0", "y1", "x0", "x1"):
        found[name] = whole[name]
    found["t"] = t
    found["y"], found["x"] = whole["sum_y"] / area, whole["sum_x"] / area
    depth = planes["z"] * planes["area"].astype(np.float64)
    found["z"] = np.add.reduceat(depth, at) / area
    found["z0"], found["z1"] = planes["z"][at], planes["z"][end - 1] + 1
    found["check"] = whole["check"] >> np.uint64(32)
    # The fullest plane: the last of each object when sorted by area.
    order = np.lexsort((-planes["z"], planes["area"], planes["label"]))
    found["plane"] = planes["z"][order][end - 1]
    found["edge"] = (
        (found["y0"] == 0) | (found["x0"] == 0)
        | (found["y1"] == shape[1]) | (found["x1"] == shape[2])
    )  # fmt: skip
    return found
