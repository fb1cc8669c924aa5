"""Cutting objects out of their pictures, many at once and with one look."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_embed.errors import InputError
from napari_embed.sources.images import percentile_limits, to_uint8
from napari_embed.sources.objects.options import CropOptions
from napari_embed.sources.objects.volume import Opened, Span

__all__ = [
    "TILE_PX",
    "Place",
    "as_rgb",
    "check_channels",
    "cut_run",
    "field_limits",
    "object_name",
    "parse_place",
    "reduced",
    "runs_of",
]

_KEY = re.compile(
    r"(?P<field>.*):t(?P<t>\d+):(?P<label>\d+)@"
    r"z(?P<z0>\d+)-(?P<z1>\d+),y(?P<y0>\d+)-(?P<y1>\d+),x(?P<x0>\d+)-(?P<x1>\d+),"
    r"p(?P<plane>\d+)#[0-9a-f]{8}",
    re.DOTALL,
)
# Objects are cut together as long as they lie in one square of this many pixels.
TILE_PX = 1024
_RUN_BYTES = 64 << 20
_LONGEST_SAMPLED = 1024


@dataclass(frozen=True)
class Place:
    """Where an object is: its box in pixels of the labels, half-open."""

    field: str
    t: int
    label: int
    z: Span
    y: Span
    x: Span
    plane: int

    @property
    def tile(self) -> tuple[int, int]:
        """Which square of the labels its middle lies in."""
        return (
            (self.y[0] + self.y[1]) // (2 * TILE_PX),
            (self.x[0] + self.x[1]) // (2 * TILE_PX),
        )


def parse_place(key: str) -> Place:
    """Return the place that the ``source`` of an item names.

    Raises
    ------
    InputError
        If it names none.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        raise InputError(f"{key!r:.100} names no object of a labels image.")
    n = {name: int(text) for name, text in found.groupdict().items() if name != "field"}
    place = Place(
        found["field"], n["t"], n["label"],
        (n["z0"], n["z1"]), (n["y0"], n["y1"]), (n["x0"], n["x1"]), n["plane"],
    )  # fmt: skip
    if not (place.z[0] < place.z[1] and place.y[0] < place.y[1]
            and place.x[0] < place.x[1]):  # fmt: skip
        raise InputError(f"{key!r:.100} names an empty box.")
    return place


def object_name(key: str) -> str:
    """Return the ``source`` of an item for people: its picture and its label."""
    found = _KEY.fullmatch(key)
    if found is None:
        return key
    time = f" t{found['t']}" if found["t"] != "0" else ""
    return f"{found['field']}{time} #{found['label']}".strip()


def runs_of(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Group neighbors in a list that can be cut from one piece of their picture."""
    run: list[Place] = []
    for place in places:
        if run and (
            (place.field, place.t, place.tile, place.plane)
            != (run[0].field, run[0].t, run[0].tile, run[0].plane)
        ):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


@dataclass(frozen=True)
class _Window:
    """The square around an object, in pixels of the image; it may reach outside."""

    place: Place
    y: Span
    x: Span
    z: Span


def _window(opened: Opened, place: Place, options: CropOptions) -> _Window:
    fz, fy, fx = opened.geometry.factor
    if (place.z[1] > opened.labels.size("z") or place.y[1] > opened.labels.size("y")
            or place.x[1] > opened.labels.size("x")
            or place.t >= opened.image.size("t")):  # fmt: skip
        raise InputError(f"Object {place.label} lies outside its picture.")
    um = opened.geometry.pixel_um[1] if opened.geometry.pixel_um else None
    y, x = (place.y[0] * fy, place.y[1] * fy), (place.x[0] * fx, place.x[1] * fx)
    if options.size is None:
        margin = options.margin.px(um, "margin")
        side = max(y[1] - y[0], x[1] - x[0]) + 2 * margin
    else:
        side = options.size.px(um, "size")
    px = max(4, round(side))
    top = round((y[0] + y[1]) / 2 - px / 2)
    left = round((x[0] + x[1]) / 2 - px / 2)
    if fz == 1 and options.plane == "best":
        z = (place.plane, place.plane + 1)
    else:
        z = (round(place.z[0] * fz), round(place.z[1] * fz))
    return _Window(place, (top, top + px), (left, left + px), z)


def cut_run(
    opened: Opened,
    run: Sequence[Place],
    options: CropOptions,
    channels: Sequence[int],
    limits: Sequence[tuple[float, float]],
) -> list[NDArray[np.uint8] | str]:
    """Return (h, w, c) of each object, or why there is none.

    Parameters
    ----------
    opened
        Their picture.
    run
        Objects of one picture and time point.
    options
        How to cut.
    channels
        Which ones, numbers from 0.
    limits
        What becomes 0 and 255, for each of them.
    """
    results: list[NDArray[np.uint8] | str] = []
    good: list[_Window] = []
    for place in run:
        try:
            good.append(_window(opened, place, options))
        except InputError as error:
            return [str(error)] if len(run) == 1 else [
                one for place in run
                for one in cut_run(opened, [place], options, channels, limits)
            ]  # fmt: skip
    if not good:
        return results
    z, y, x = (
        (min(getattr(w, a)[0] for w in good), max(getattr(w, a)[1] for w in good))
        for a in "zyx"
    )
    y = max(0, y[0]), min(opened.image.size("y"), y[1])
    x = max(0, x[0]), min(opened.image.size("x"), x[1])
    size = (z[1] - z[0]) * (y[1] - y[0]) * (x[1] - x[0]) * len(channels)
    size *= np.dtype(opened.image.array.dtype).itemsize
    if size > _RUN_BYTES and len(good) > 1:
        half = len(run) // 2
        return cut_run(opened, run[:half], options, channels, limits) + cut_run(
            opened, run[half:], options, channels, limits
        )
    t = run[0].t
    values = opened.image.cut(t, z, y, x, channels=channels)
    masks = _masks(opened, good, y, x) if options.mask else None
    for window in good:
        box = _inside(window, z, y, x)
        picture = values[(slice(None), *box)].max(axis=1)
        shown = np.stack(
            [_scaled(p, pair) for p, pair in zip(picture, limits, strict=True)], axis=-1
        )
        if masks is not None:
            shown[~next(masks)] = 0
        results.append(_padded(shown, window, y, x))
    return results


def _scaled(plane: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    if plane.dtype == np.uint8 and limits == (0.0, 255.0):
        return plane
    if plane.dtype == np.uint8:
        plane = plane.astype(np.uint16)
    return to_uint8(plane, limits)


def _inside(window: _Window, z: Span, y: Span, x: Span) -> tuple[slice, slice, slice]:
    """Return where a window lies in the piece that was read."""
    return (
        slice(window.z[0] - z[0], window.z[1] - z[0]),
        slice(max(window.y[0], y[0]) - y[0], min(window.y[1], y[1]) - y[0]),
        slice(max(window.x[0], x[0]) - x[0], min(window.x[1], x[1]) - x[0]),
    )


def _masks(
    opened: Opened, windows: Sequence[_Window], y: Span, x: Span
) -> Iterator[NDArray[np.bool_]]:
    """Yield which pixels of each window, as far as it is in the image, are its own."""
    fz, fy, fx = opened.geometry.factor
    flat = fz == 1 and all(w.z[1] - w.z[0] == 1 for w in windows)
    near = [w.z if flat else w.place.z for w in windows]
    z = min(a for a, _ in near), max(b for _, b in near)
    top = min(w.place.y[0] for w in windows)
    left = min(w.place.x[0] for w in windows)
    bottom = max(w.place.y[1] for w in windows)
    right = max(w.place.x[1] for w in windows)
    labels = opened.labels.cut(windows[0].place.t, z, (top, bottom), (left, right))[0]
    for window, own_z in zip(windows, near, strict=True):
        place = window.place
        box = labels[
            own_z[0] - z[0] : own_z[1] - z[0],
            place.y[0] - top : place.y[1] - top,
            place.x[0] - left : place.x[1] - left,
        ]
        # A frame of background, for what lies beyond the box.
        own = np.pad((box == place.label).any(axis=0), 1)
        rows = np.arange(max(window.y[0], y[0]), min(window.y[1], y[1]))
        columns = np.arange(max(window.x[0], x[0]), min(window.x[1], x[1]))
        at_y = np.clip((rows / fy).astype(int) - place.y[0], -1, own.shape[0] - 2)
        at_x = np.clip((columns / fx).astype(int) - place.x[0], -1, own.shape[1] - 2)
        yield own[np.ix_(at_y + 1, at_x + 1)]


def _padded(
    shown: NDArray[np.uint8], window: _Window, y: Span, x: Span
) -> NDArray[np.uint8]:
    before = max(0, y[0] - window.y[0]), max(0, x[0] - window.x[0])
    side = window.y[1] - window.y[0]
    if shown.shape[:2] == (side, side):
        return np.ascontiguousarray(shown)
    whole = np.zeros((side, side, shown.shape[2]), np.uint8)
    whole[before[0] : before[0] + shown.shape[0],
          before[1] : before[1] + shown.shape[1]] = shown  # fmt: skip
    return whole


def field_limits(opened: Opened, channels: Sequence[int]) -> list[tuple[float, float]]:
    """Return the 0.1 and 99.9 percentiles of each channel of one picture.

    The three channels of a photograph have one pair in common, so that colours stay;
    those of an 8-bit photograph stay as they are.
    """
    if opened.color and np.dtype(opened.image.array.dtype) == np.uint8:
        return [(0.0, 255.0)] * len(channels)
    small = opened.small
    depth, height, width = small.shape
    steps = [max(1, n // _LONGEST_SAMPLED) for n in (height, width)]
    z = depth // 2
    values = small.cut(
        0, (z, z + 1), (0, height), (0, width), channels=channels
    )[:, 0, :: steps[0], :: steps[1]]  # fmt: skip
    if opened.color:
        return [percentile_limits(values)] * len(channels)
    return [percentile_limits(plane) for plane in values]


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (h, w, 3) for people to see, of (h, w, c).

    One channel is grey, two are green and magenta, of more the first three are shown.
    """
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 2:
        return np.ascontiguousarray(image[..., [1, 0, 1]])
    return np.ascontiguousarray(image[..., :3])


def reduced(image: NDArray[np.uint8], shrink_to: int | None) -> NDArray[np.uint8]:
    """Halve, third and so on while the shorter side stays long enough."""
    factor = 1 if shrink_to is None else min(image.shape[:2]) // shrink_to
    if factor < 2:
        return image
    planes = [
        np.asarray(Image.fromarray(plane).reduce(factor))
        for plane in np.moveaxis(image, 2, 0)
    ]
    return np.stack(planes, axis=-1)


def check_channels(available: int, channels: Sequence[int]) -> None:
    """Raise an `InputError` if a channel is not there."""
    if max(channels) >= available:
        raise InputError(
            f"Channel {max(channels)} was asked for, but there are only {available}, "
            "numbered from 0. Change the option channels."
        )
