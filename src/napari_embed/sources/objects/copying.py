"""Pixels that lie in no file as an OME-Zarr: an image of some channels and its labels.

It is written aside and renamed when it is complete; labels are replaced in the same
way, so that a reader sees the old or the new ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_embed.errors import InputError

__all__ = ["Pixels", "replace_labels", "write_pair"]

_CHUNK_PX = 512
_BLOCK_BYTES = 64 << 20
# Smaller pictures need no lower levels.
_LEAST_LEVEL_PX = 512


@dataclass(frozen=True)
class Pixels:
    """An array that is read piece by piece, and how it lies in space.

    Attributes
    ----------
    array
        NumPy, Dask or Zarr array.
    axes
        Some of t, z, y, x in this order, the last two of them always.
    scale
        Size of a pixel along each axis.
    unit
        Such as "micrometer", of z, y and x; "" where it is not known.
    """

    array: Any
    axes: str
    scale: tuple[float, ...]
    unit: str = ""


def write_pair(
    path: Path,
    channels: Sequence[Pixels],
    labels: Pixels,
    *,
    name: str,
    windows: Sequence[tuple[float, float]] = (),
    names: Sequence[str] = (),
    check: Callable[[], None] | None = None,
) -> None:
    """Write channels of one shape, and their labels, as a new OME-Zarr 0.5.

    Parameters
    ----------
    path
        Must not exist.
    channels, labels
        Their pixels; whole numbers for the labels.
    name
        Of the labels.
    windows, names
        Display limits and name of each channel.
    check
        Called between blocks; may raise to stop, nothing is left then.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        first = channels[0]
        kind = np.result_type(*(np.dtype(c.array.dtype) for c in channels))
        omero = {"channels": [
            {"label": label, "color": "FFFFFF",
             "window": {"start": low, "end": high, "min": low, "max": high}}
            for label, (low, high) in zip(names, windows, strict=True)
        ]}  # fmt: skip
        _write(part, channels, first, kind, check, {"omero": omero} if windows else {})
        import zarr

        group = zarr.open_group(str(part / "labels"), mode="w", zarr_format=3)
        group.attrs.update({"ome": {"version": "0.5", "labels": [name]}})
        _write(part / "labels" / name, [labels], labels, _whole(labels), check, {})
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"The pixels cannot be kept in {path}: {error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace_labels(path: Path, labels: Pixels, *, name: str) -> None:
    """Put other labels in the place of those of an OME-Zarr by `write_pair`.

    Raises
    ------
    InputError
        If it cannot be written; the old labels are there then.
    """
    target = path / "labels" / name
    part, old = (target.with_name(f".{name}.{word}") for word in ("part", "old"))
    try:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
        _write(part, [labels], labels, _whole(labels), None, {})
        os.replace(target, old)
        try:
            os.replace(part, target)
        except OSError:
            os.replace(old, target)
            raise
    except OSError as error:
        raise InputError(f"The labels cannot be kept in {target}: {error}.") from error
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


def _whole(labels: Pixels) -> np.dtype[Any]:
    kind = np.dtype(labels.array.dtype)
    return np.dtype(np.uint8) if kind.kind == "b" else kind


def _write(
    path: Path,
    channels: Sequence[Pixels],
    like: Pixels,
    kind: np.dtype[Any],
    check: Callable[[], None] | None,
    more: dict[str, Any],
) -> None:
    """Write one multiscale group; several channels get an axis of their own."""
    import zarr

    many = len(channels) > 1
    lead = like.axes[:-2]
    axes = "".join(a for a in "tczyx" if a in like.axes or (many and a == "c"))
    size = dict(zip(like.axes, like.array.shape, strict=True)) | {"c": len(channels)}
    scale = dict(zip(like.axes, like.scale, strict=True))
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    factors = _factors(size["y"], size["x"])
    shapes = [
        tuple(-(-size[a] // f) if a in "yx" else size[a] for a in axes) for f in factors
    ]
    chunks = tuple(min(_CHUNK_PX, size[a]) if a in "yx" else 1 for a in axes)
    arrays = [
        group.create_array(str(i), shape=shape, dtype=kind,
                           chunks=tuple(map(min, chunks, shape)))
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    for number, pixels in enumerate(channels):
        for at, rows in _blocks(pixels, kind.itemsize):
            if check is not None:
                check()
            block = np.asarray(pixels.array[(*at, rows)]).astype(kind, copy=False)
            place = dict(zip(lead, at, strict=True)) | {"c": number}
            index = tuple(place[a] for a in axes[:-2])
            for factor, array in zip(factors, arrays, strict=True):
                # Blocks begin at multiples of the largest factor.
                start = rows.start // factor
                level = block[::factor, ::factor]
                array[(*index, slice(start, start + len(level)))] = level
    steps = [
        [scale.get(a, 1.0) * (f if a in "yx" else 1) for a in axes] for f in factors
    ]
    group.attrs.update({"ome": _attributes(axes, like.unit, steps) | more})


def _factors(height: int, width: int) -> list[int]:
    factors = [1]
    while max(height, width) // factors[-1] > _LEAST_LEVEL_PX:
        factors.append(2 * factors[-1])
    return factors


def _blocks(pixels: Pixels, bytes_each: int) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Yield where to read: leading indices, and rows from a multiple of a chunk on."""
    *lead, height, width = pixels.array.shape
    most = max(factor := _factors(height, width)[-1], _CHUNK_PX)
    rows = max(1, _BLOCK_BYTES // max(1, width * bytes_each))
    step = max(1, rows // most) * most
    assert step % factor == 0
    for at in product(*(range(n) for n in lead)):
        for start in range(0, height, step):
            yield at, slice(start, min(start + step, height))


def _attributes(axes: str, unit: str, steps: list[list[float]]) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    named = []
    for a in axes:
        axis = {"name": a, "type": kinds.get(a, "space")}
        named.append(axis | ({"unit": unit} if unit and a in "zyx" else {}))
    datasets = [
        {"path": str(i),
         "coordinateTransformations": [{"type": "scale", "scale": step}]}
        for i, step in enumerate(steps)
    ]  # fmt: skip
    return {"version": "0.5", "multiscales": [{"axes": named, "datasets": datasets}]}
