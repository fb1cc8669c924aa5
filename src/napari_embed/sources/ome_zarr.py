"""OME-Zarr: every plane of an image or plate, or every tile of a large one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from napari_embed.errors import ImageDecodeError, InputError
from napari_embed.sources.images import percentile_limits, to_uint8
from napari_embed.sources.ome_metadata import (
    OmeImage,
    OpenedImage,
    ome_images,
    open_image,
)
from napari_embed.sources.reading import map_in_order
from napari_embed.sources.spec import (
    DEFAULT_SHRINK_TO_PX,
    MAX_ITEMS,
    DecodedItem,
    ProgressCallback,
    SourceSpec,
)

__all__ = ["OmeZarrSource"]

_log = logging.getLogger(__name__)

_WHOLE_UP_TO = 1024
_TILE = 256
_MIN_TILE = 8
_MAX_TILE = 8192
# The rule of brightness is found on so many images, planes of each, and pixels a side.
_SAMPLED_IMAGES = 16
_SAMPLED_PLANES = 4
_LONGEST_SAMPLED = 1024
_PLACES = ("t", "z", "y", "x")
_KEY = re.compile(r"(?P<path>.*):t(?P<t>\d+):z(?P<z>\d+):y(?P<y>\d+):x(?P<x>\d+)")


@dataclass
class _Listing:
    """Columns of the items table while it grows."""

    keys: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    wells: list[str] = field(default_factory=list)
    places: list[tuple[int, ...]] = field(default_factory=list)

    def table(self, *, plate: bool) -> pa.Table:
        """Return the items; columns that say the same everywhere are left out."""
        wells = pa.array([w or None for w in self.wells], pa.string())
        columns: dict[str, Any] = {
            "source": pa.array(self.keys, pa.string()),
            "label": wells.dictionary_encode(),
        }
        if plate:
            columns["well"] = columns["label"]
            columns["field"] = pa.array(self.images, pa.string()).dictionary_encode()
        places = np.asarray(self.places, np.int64).reshape(-1, len(_PLACES))
        for at, name in enumerate(_PLACES):
            if np.ptp(places[:, at]) > 0:
                columns[name] = pa.array(places[:, at])
        return pa.table(columns)


class OmeZarrSource:
    """The planes of an OME-Zarr image, plate or collection (0.4 and 0.5).

    One item per time point, z plane and field of view. Planes longer than 1,024 pixels
    are cut into tiles of 256; the last tile of a row or column is moved inwards, so
    that all have one size and no pixel is lost. In a plate the well is the label.

    One channel gives grey; of several, the first three (or those of the option
    ``channels``) become red, green and blue. 8-bit values are taken as they are. All
    others run between the display limits in the metadata or, without those, between
    the 0.1 and 99.9 percentiles of a sample: **one** rule for all items.

    Options: ``tile`` in pixels (0 keeps whole planes), ``channels`` as numbers from 0
    separated by commas.

    Raises
    ------
    InputError
        If it is no OME-Zarr, nothing in it can be opened, or an option is wrong.
    """

    has_images = True

    def __init__(self, spec: SourceSpec) -> None:
        self.root: Path = spec.location
        self.spec = SourceSpec(spec.kind, str(self.root), spec.options)
        self._tile = _tile_option(spec)
        self._channels = _channels_option(spec)
        self._known = {image.path: image for image in ome_images(self.root)}
        self._opened: dict[str, OpenedImage] = {}
        self._limits: list[tuple[float, float]] | None = None

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return ``source``, ``label`` and, where they differ, well, field, t, z, y, x.

        Raises
        ------
        InputError
            If no image can be opened.
        """
        listing, first_fault = _Listing(), None
        for done, image in enumerate(self._known.values(), 1):
            try:
                self._list_image(image, listing)
            except InputError as error:
                first_fault = first_fault or error
                _log.warning("The image %r is left out: %s", image.path, error)
            if progress:
                progress(len(listing.keys), 0 if done < len(self._known) else done)
        if not listing.keys:
            raise first_fault or InputError(f"{self.root} holds no images.")
        if progress:
            progress(len(listing.keys), len(listing.keys))
        return listing.table(plate=len(self._known) > 1)

    def _list_image(self, image: OmeImage, listing: _Listing) -> None:
        opened = self._open(image.path)
        step = self._step(opened)
        rows = _starts(opened.size("y"), step)
        columns = _starts(opened.size("x"), step)
        count = opened.size("t") * opened.size("z") * len(rows) * len(columns)
        if len(listing.keys) + count > MAX_ITEMS:
            raise InputError(f"{self.root} has more than {MAX_ITEMS:,} planes.")
        for t in range(opened.size("t")):
            for z in range(opened.size("z")):
                for y in rows:
                    for x in columns:
                        listing.keys.append(f"{image.path}:t{t}:z{z}:y{y}:x{x}")
                        listing.images.append(image.path)
                        listing.wells.append(image.well)
                        listing.places.append((t, z, y, x))

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one plane or tile per row, in order; a bad one never raises."""
        self._scaling()  # once, not in every thread

        def decode(key: str) -> DecodedItem:
            return self._try_decode(key, shrink_to)

        return map_in_order(decode, items["source"].to_pylist())

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return one plane or tile, given its ``source`` value, unreduced."""
        decoded = self._try_decode(item, None)
        if decoded.image is None:
            raise ImageDecodeError(decoded.error or "cannot be read")
        return decoded.image

    def vectors(self) -> None:
        """Return None: these are images."""

    def positions(self) -> None:
        """Return None: an OME-Zarr has no map."""

    def _open(self, path: str) -> OpenedImage:
        if path not in self._known:
            raise InputError(f"{self.root} has no image {path!r:.100}.")
        if path not in self._opened:
            self._opened[path] = open_image(self.root, path)
        return self._opened[path]

    def _step(self, opened: OpenedImage) -> int:
        """Return the side of a tile, 0 for whole planes."""
        if self._tile is not None:
            return self._tile
        longest = max(opened.size("y"), opened.size("x"))
        return _TILE if longest > _WHOLE_UP_TO else 0

    def _try_decode(self, key: str, shrink_to: int | None) -> DecodedItem:
        try:
            planes = self._planes(key)
            image = self._as_rgb(planes)
        except InputError as error:
            return DecodedItem(None, str(error))
        except Exception as error:  # noqa: BLE001  codecs of foreign chunks raise anything
            return DecodedItem(None, f"cannot be read: {str(error)[:200]}")
        factor = 1 if shrink_to is None else min(image.shape[:2]) // shrink_to
        if factor > 1:
            image = np.array(Image.fromarray(image).reduce(factor))
        return DecodedItem(image, None)

    def _planes(self, key: str) -> NDArray[Any]:
        """Return (channels, h, w) of one item, in its own type."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise InputError(f"{key!r:.100} names no plane of an OME-Zarr.")
        opened = self._open(found["path"])
        at = {name: int(found[name]) for name in _PLACES}
        if any(at[name] >= opened.size(name) for name in _PLACES):
            raise InputError(f"{key!r:.100} lies outside the image.")
        step = self._step(opened)
        values = _cut(opened, opened.array, at, step)
        picked = self._picked(len(values))
        return values[picked]

    def _picked(self, available: int) -> list[int]:
        wanted = self._channels
        if wanted is None:
            return list(range(min(3, available)))
        if max(wanted) >= available:
            raise InputError(
                f"Channel {max(wanted)} was asked for, but there are only "
                f"{available}, numbered from 0. Change the option 'channels'."
            )
        return wanted

    def _as_rgb(self, planes: NDArray[Any]) -> NDArray[np.uint8]:
        limits = self._scaling()
        shown = np.zeros((*planes.shape[1:], 3), np.uint8)
        for at, plane in enumerate(planes):
            if plane.dtype.kind == "f" and not np.isfinite(plane).any():
                raise ImageDecodeError("no pixel has a finite value")
            grey = to_uint8(plane, limits[at] if at < len(limits) else None)
            shown[..., at if len(planes) > 1 else slice(None)] = (
                grey if len(planes) > 1 else grey[..., None]
            )
        return shown

    def _scaling(self) -> list[tuple[float, float]]:
        """Return the limits of each picked channel; empty where 8-bit stays."""
        if self._limits is None:
            self._limits = self._find_limits()
        return self._limits

    def _find_limits(self) -> list[tuple[float, float]]:
        images = list(self._known)
        chosen = np.unique(
            np.linspace(0, len(images) - 1, min(len(images), _SAMPLED_IMAGES))
        )
        sampled: list[list[NDArray[Any]]] = []
        for number in chosen.astype(int):
            try:
                opened = self._open(images[number])
                if opened.array.dtype.kind == "b" or opened.array.dtype == np.uint8:
                    return []
                picked = self._picked(opened.size("c"))
                if opened.windows and max(picked) < len(opened.windows):
                    return [opened.windows[c] for c in picked]
                sampled.append([_sample(opened, c) for c in picked])
            except InputError as error:
                _log.debug("No sample of %r: %s", images[number], error)
        if not sampled:
            return []
        width = min(map(len, sampled))
        return [
            percentile_limits(np.concatenate([one[c] for one in sampled]))
            for c in range(width)
        ]


def _starts(length: int, step: int) -> list[int]:
    """Return where tiles begin; the last is moved inwards."""
    if step == 0 or length <= step:
        return [0]
    return [*range(0, length - step, step), length - step]


def _cut(
    opened: OpenedImage, array: Any, at: dict[str, int], step: int
) -> NDArray[Any]:
    """Return (channels, h, w) of a tile, or of the whole plane where ``step`` is 0."""
    index: list[int | slice] = []
    for axis in opened.axes:
        if axis in "yx" and step:
            index.append(slice(at[axis], at[axis] + step))
        elif axis in "tz":
            index.append(at[axis])
        else:
            index.append(slice(None))
    values = np.asarray(array[tuple(index)])
    return values if "c" in opened.axes else values[None]


def _sample(opened: OpenedImage, channel: int) -> NDArray[Any]:
    """Return values of one channel at the lowest level, from planes spread evenly."""
    small, axes = opened.small, opened.axes
    length = dict(zip(axes, small.shape, strict=True))
    parts = []
    for t in _spread(length.get("t", 1)):
        for z in _spread(length.get("z", 1)):
            fixed = {"t": t, "z": z, "c": channel}
            index = tuple(fixed.get(axis, slice(_LONGEST_SAMPLED)) for axis in axes)
            parts.append(np.asarray(small[index]).ravel())
    return np.concatenate(parts)


def _spread(length: int) -> list[int]:
    """Return a few numbers below ``length``, the first and the last among them."""
    few = np.linspace(0, length - 1, min(length, _SAMPLED_PLANES))
    return [int(x) for x in np.unique(few.astype(int))]


def _tile_option(spec: SourceSpec) -> int | None:
    given = spec.options.get("tile")
    if given is None:
        return None
    try:
        tile = int(given)
    except ValueError:
        tile = -1
    if tile != 0 and not _MIN_TILE <= tile <= _MAX_TILE:
        raise InputError(
            f"tile is {given!r:.40}; expected 0 for whole planes, or {_MIN_TILE} to "
            f"{_MAX_TILE} pixels."
        )
    return tile


def _channels_option(spec: SourceSpec) -> list[int] | None:
    given = spec.options.get("channels")
    if given is None:
        return None
    try:
        channels = [int(part) for part in str(given).split(",")]
    except ValueError:
        channels = []
    if not 1 <= len(channels) <= 3 or min(channels) < 0:
        raise InputError(
            f"channels is {given!r:.40}; expected one to three numbers from 0, "
            "separated by commas, such as 0,2."
        )
    return channels
