"""Every object of a labels image as an item."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import EmbedError, ImageDecodeError, InputError
from napari_embed.sources.images import percentile_limits
from napari_embed.sources.objects.crops import (
    Place,
    as_rgb,
    check_channels,
    cut_run,
    field_limits,
    parse_place,
    reduced,
    runs_of,
)
from napari_embed.sources.objects.fields import Field, open_fields
from napari_embed.sources.objects.listing import Listing
from napari_embed.sources.objects.options import CropOptions, crop_options
from napari_embed.sources.objects.scan import scan_fields
from napari_embed.sources.objects.volume import Opened
from napari_embed.sources.reading import map_in_order
from napari_embed.sources.spec import (
    DEFAULT_SHRINK_TO_PX,
    DecodedItem,
    ProgressCallback,
    SourceSpec,
)

__all__ = ["ObjectsSource"]

_log = logging.getLogger(__name__)

_SAMPLED_FIELDS = 16
_SAMPLED_VALUES = 1 << 16
_REASONS_SHOWN = 3


class ObjectsSource:
    """The objects of labels images, one item each, with crops of the image.

    The path is an OME-Zarr (0.4 or 0.5; image, plate or collection) with a labels
    group; a folder with the folders ``images`` and ``labels`` and files of equal
    names; or a table of image and labels files. Pictures may be stacks and time
    series; the labels may be coarser than the image if both say how they are scaled.

    Options: ``labels`` names the labels group, or the column or pattern
    (``labels/{id}.png``) of labels files, ``image`` that of image files, ``label`` the
    column with the class of a picture, ``root`` where a table's paths start. See
    `CropOptions` for ``size``, ``margin``, ``mask``, ``channels``, ``combine``,
    ``normalize``, ``limits``, ``plane``, ``edge``, ``min_area``, ``max_area`` and
    ``pixel_size``. Listing decides what was left open (size and limits) and writes it
    into the options.

    Raises
    ------
    InputError
        If there are no labels, or an option is wrong.
    """

    has_images = True

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = SourceSpec(spec.kind, str(spec.location), spec.options)
        self.fields = open_fields(spec)
        self.options: CropOptions = crop_options(
            self.spec, normalize=self.fields.normalize
        )
        self._by_key = {field.key: field for field in self.fields.names}
        self._of_picture: dict[str, list[tuple[float, float]]] = {}
        if not self._by_key:
            raise InputError(
                f"{self.spec.path} has no picture with labels. "
                + " ".join(self.fields.notes)
            )

    @property
    def notes(self) -> list[str]:
        """What was left out, in sentences."""
        return self.fields.notes

    @property
    def channels_each(self) -> int:
        """Channels of the arrays that `read` gives; 0 where they are RGB."""
        return len(self._channels(self._first)) if self.options.concat else 0

    @cached_property
    def _first(self) -> Opened:
        """The first picture that can be opened."""
        fault: InputError | None = None
        for field in self.fields.names:
            try:
                return self.fields.open(field)
            except InputError as error:
                fault = fault or error
        raise fault or InputError(f"{self.spec.path} has no pictures.")

    @property
    def pixel_um(self) -> tuple[float, float, float] | None:
        """Micrometres a pixel along z, y, x of the first picture, where it is known."""
        return self._first.geometry.with_pixel(self.options.pixel_size).pixel_um

    @property
    def n_channels(self) -> int:
        """Channels of the first picture."""
        return self._first.n_channels

    def _channels(self, opened: Opened) -> list[int]:
        chosen = self.options.channels
        if chosen is None:
            most = opened.n_channels if self.options.concat else 3
            return list(range(min(most, opened.n_channels)))
        check_channels(opened.n_channels, chosen)
        return list(chosen)

    # listing

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return one row per object: where it is and how large.

        Columns: ``source``, ``label`` (the well, or the class of the picture),
        ``plate``, ``well``, ``field``, ``label_id``, ``t``, ``plane`` (where a stack's
        object is largest), ``centroid_*`` in pixels and ``centroid_*_um``,
        ``area_px``, ``area_um2`` or ``volume_um3``, ``min_*`` and ``max_*`` (half-open
        box in pixels of the image), ``touches_edge``. Those that say nothing here are
        left out.

        Raises
        ------
        InputError
            If no object is found.
        """
        self._channels(self._first)
        listing = Listing(self.fields, self.options)
        problems: list[str] = []
        for found in scan_fields(self.fields, place=self.spec.path, progress=progress):
            if found.problem:
                problems.append(found.problem)
                _log.warning("%r is left out: %s", found.field.key, found.problem)
            elif found.objects.size:
                listing.add(found.field, found.objects, found.geometry)
        self._note(listing, problems)
        if not len(listing):
            raise self._nothing(problems)
        self._decide(listing)
        items = listing.table(self.spec.location)
        if progress is not None:
            progress(items.num_rows, items.num_rows)
        return items

    def _note(self, listing: Listing, problems: list[str]) -> None:
        if problems:
            shown = "; ".join(problems[:_REASONS_SHOWN])
            self.notes.append(f"Pictures left out: {len(problems)}. {shown}")
        if listing.left_out:
            shown = ", ".join(f"{n:,} {why}" for why, n in listing.left_out.items())
            self.notes.append(f"Left out by the rules: {shown}.")
        if len(listing) and not self.pixel_um:
            self.notes.append(
                "The image does not say how large a pixel is, so all measures are in "
                "pixels. The option pixel_size gives it in micrometres."
            )

    def _nothing(self, problems: list[str]) -> InputError:
        if problems:
            return InputError(
                f"None of the pictures of {self.spec.path} can be used: {problems[0]}"
            )
        notes = " ".join(self.notes)
        return InputError(
            f"The labels {self.fields.labels!r} of {self.spec.path} hold no objects: "
            f"every pixel is background, or the rules leave all out. {notes}".strip()
        )

    def _decide(self, listing: Listing) -> None:
        """Write what was left open into the options, so that crops stay the same."""
        decided: dict[str, str] = {}
        if self.options.size_open:
            size = listing.size()
            decided["size"] = f"{size.value:.4g}{'um' if size.in_um else 'px'}"
        if self.options.normalize == "channel" and not self.options.limits:
            pairs = self._find_limits()
            decided["limits"] = ",".join(f"{low:.6g}-{high:.6g}" for low, high in pairs)
            decided["normalize"] = "channel"
        self.spec = self.spec.with_options(**decided)
        self.options = crop_options(self.spec, normalize=self.fields.normalize)

    # pictures

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield the crop of each object, in order; a bad one never raises.

        Arrays are (h, w, 3), or (h, w, `channels_each`) where channels are
        concatenated.
        """
        self._ready()
        for results in map_in_order(
            self._cut, list(_tasks(items["source"].to_pylist())), group=1
        ):
            for image in results:
                if isinstance(image, str):
                    yield DecodedItem(None, image)
                else:
                    yield DecodedItem(reduced(image, shrink_to), None)

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return the crop of an object, given its ``source`` value, for people."""
        self._ready()
        [image] = self._cut([parse_place(item)])
        if isinstance(image, str):
            raise ImageDecodeError(image)
        return as_rgb(image)

    def crops(
        self,
        keys: Sequence[str],
        channels: Sequence[int],
        limits: Sequence[tuple[float, float]],
    ) -> list[NDArray[np.uint8] | None]:
        """Return (h, w, c) of objects as they look with other limits, in order.

        Parameters
        ----------
        keys
            Values of ``source``.
        channels, limits
            Which ones, and what becomes 0 and 255; channels that are not there are
            black.
        """
        self._ready()
        given = list(channels), list(limits)
        runs = list(_tasks(list(keys)))
        found = map_in_order(lambda run: self._cut(run, given), runs, group=1)
        return [None if isinstance(i, str) else i for images in found for i in images]

    def vectors(self) -> None:
        """Return None: these are images."""

    def positions(self) -> None:
        """Return None: objects have no map."""

    def _ready(self) -> None:
        """Decide what threads would decide several times over."""
        if self.options.size_open:
            # A sample before anything is listed: each object fits its own box.
            self.options = replace(self.options, size=None)
        if self.options.normalize == "channel" and not self.options.limits:
            self.options = replace(self.options, limits=tuple(self._find_limits()))

    def _cut(
        self,
        run: list[Place] | str,
        given: tuple[list[int], list[tuple[float, float]]] | None = None,
    ) -> Sequence[NDArray[np.uint8] | str]:
        """Return the crops of a run, or why there are none.

        ``given`` are channels and limits instead of those of the options.
        """
        if isinstance(run, str):
            return [run]
        try:
            field = self._by_key.get(run[0].field)
            if field is None:
                raise InputError(f"There is no picture {run[0].field!r:.100} any more.")
            opened = self.fields.open(field)
            geometry = opened.geometry.with_pixel(self.options.pixel_size)
            opened = replace(opened, geometry=geometry)
            if given is not None:
                check_channels(opened.n_channels, given[0])
                return cut_run(opened, run, self.options, *given)
            channels = self._channels(opened)
            if self.options.concat and len(channels) != self.channels_each:
                raise InputError(
                    f"{field.key!r:.100} has {len(channels)} channels, the first "
                    f"picture {self.channels_each}; concatenated vectors need the same."
                )
            limits = self._limits_of(field, opened, channels)
            images = cut_run(opened, run, self.options, channels, limits)
        except (EmbedError, OSError) as error:
            return [str(error)] * len(run)
        except Exception as error:  # noqa: BLE001  codecs of foreign chunks raise anything
            if len(run) > 1:  # one damaged chunk must not cost its neighbours
                return [image for place in run for image in self._cut([place], given)]
            return [f"cannot be read: {str(error)[:200]}"]
        if self.options.concat:
            return images
        return [i if isinstance(i, str) else as_rgb(i) for i in images]

    def _limits_of(
        self, field: Field, opened: Opened, channels: list[int]
    ) -> list[tuple[float, float]]:
        if self.options.normalize == "image":
            if field.key not in self._of_picture:
                self._of_picture[field.key] = field_limits(opened, channels)
            return self._of_picture[field.key]
        limits = self.options.limits
        if len(limits) == 1:
            return list(limits) * len(channels)
        if len(limits) < len(channels):
            raise InputError(
                f"limits has {len(limits)} pairs for {len(channels)} channels. Give "
                "one pair for each, or one for all."
            )
        return list(limits[: len(channels)])

    def _find_limits(self) -> list[tuple[float, float]]:
        """Return limits of each channel, found on a sample of the pictures."""
        names = self.fields.names
        few = np.linspace(0, len(names) - 1, min(len(names), _SAMPLED_FIELDS))
        sampled: list[NDArray[Any]] = []
        for number in np.unique(few.astype(int)):
            try:
                opened = self.fields.open(names[number])
                channels = self._channels(opened)
                if opened.windows and max(channels) < len(opened.windows):
                    return [opened.windows[c] for c in channels]
                sampled.append(_sample(opened, channels))
            except (InputError, OSError) as error:
                _log.debug("No sample of %r: %s", names[number].key, error)
        if not sampled:
            raise InputError(f"No picture of {self.spec.path} can be read.")
        width = min(len(values) for values in sampled)
        limits = [
            percentile_limits(np.concatenate([values[c] for values in sampled]))
            for c in range(width)
        ]
        return [(low, high) if low < high else (low, low + 1.0) for low, high in limits]


def _tasks(keys: list[str]) -> Iterator[list[Place] | str]:
    """Yield runs of neighbors, and a sentence for each key that names nothing."""
    places: list[Place] = []
    for key in keys:
        try:
            places.append(parse_place(key))
        except InputError as error:
            yield from runs_of(places)
            places = []
            yield str(error)
    yield from runs_of(places)


def _sample(opened: Opened, channels: list[int]) -> NDArray[Any]:
    """Return (c, m) values of a picture, from its lowest level and middle plane."""
    depth, height, width = opened.small.shape
    z = depth // 2
    values = opened.small.cut(
        0, (z, z + 1), (0, height), (0, width), channels=channels
    ).reshape(len(channels), -1)
    return values[:, :: max(1, values.shape[1] // _SAMPLED_VALUES)]
