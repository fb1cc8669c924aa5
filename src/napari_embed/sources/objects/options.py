"""How objects are found and cut out: the options of the source, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, cast

from napari_embed.errors import InputError
from napari_embed.sources.spec import SourceSpec

__all__ = ["OPTION_NAMES", "CropOptions", "Length", "crop_options"]

OPTION_NAMES = (
    "labels", "image", "label", "root", "size", "margin", "mask", "channels",
    "combine", "normalize", "limits", "plane", "edge", "min_area", "max_area",
    "pixel_size",
)  # fmt: skip
"""All options of the source."""

Choice = TypeVar("Choice")

_MICROMETRES = ("um", "\u00b5m", "\u03bcm", "micrometer", "micrometre")
_QUANTITY = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([^\d\s.]*?)2?\s*")
_MOST_CHANNELS = 16
_MOST_PX = 4096


@dataclass(frozen=True)
class Length:
    """A length or an area, in pixels or micrometres."""

    value: float
    in_um: bool

    def px(self, um_per_px: float | None, what: str) -> float:
        """Return it in pixels, given the size of one (of an area: its area).

        Raises
        ------
        InputError
            If it is in micrometres and the size of a pixel is not known.
        """
        if not self.in_um:
            return self.value
        if um_per_px is None:
            raise InputError(
                f"{what} is in micrometres, but the image does not say how large a "
                "pixel is. Give it with the option pixel_size (in micrometres, such "
                "as 0.65), or give lengths in pixels, such as 40px."
            )
        return self.value / um_per_px


@dataclass(frozen=True)
class CropOptions:
    """How the picture of an object is made.

    Attributes
    ----------
    size
        Side of the square, the same for all; None fits each object's own box.
    margin
        Around the box, where ``size`` is None or not decided yet.
    mask
        Make everything black that is not the object.
    channels
        Numbers from 0; None takes the first three (all of them when concatenated).
    concat
        Each channel gets a vector of its own, and these are joined; otherwise up to
        three channels become red, green and blue.
    normalize
        "channel" finds limits on the whole collection, "image" on each picture,
        "fixed" takes ``limits``.
    limits
        What becomes black and white, one pair for each channel.
    plane
        "best" takes the plane where the object is largest, "max" the brightest value
        over its planes.
    keep_edge
        Whether objects that touch the border of the image are items too.
    min_area, max_area
        Objects beyond are left out.
    pixel_size
        Micrometres a pixel, where the metadata do not say it or are wrong.
    size_open
        Whether nothing was said about the size, so that it is to be found.
    """

    size: Length | None
    margin: Length
    mask: bool
    channels: tuple[int, ...] | None
    concat: bool
    normalize: Literal["channel", "image", "fixed"]
    limits: tuple[tuple[float, float], ...]
    plane: Literal["best", "max"]
    keep_edge: bool
    min_area: Length | None
    max_area: Length | None
    pixel_size: float | None
    size_open: bool


def crop_options(spec: SourceSpec, *, normalize: str = "channel") -> CropOptions:
    """Return the options of a source, or say which of them is wrong.

    Raises
    ------
    InputError
        If a value cannot be understood.
    """
    given = {name: str(value) for name, value in spec.options.items()}
    limits = _limits(given.get("limits"))
    norm = given.get("normalize", "fixed" if limits else normalize)
    options = CropOptions(
        size=_size(given.get("size")),
        margin=_quantity(given.get("margin", "2px"), "margin", least=0),
        mask=_choice(given, "mask", {"off": False, "on": True}),
        channels=_channels(given.get("channels")),
        concat=_choice(given, "combine", {"rgb": False, "concat": True}),
        normalize=cast(Literal["channel", "image", "fixed"], norm),
        limits=limits,
        plane=_choice(given, "plane", {"best": "best", "max": "max"}),
        keep_edge=_choice(given, "edge", {"keep": True, "leave-out": False}),
        min_area=_optional(given, "min_area"),
        max_area=_optional(given, "max_area"),
        pixel_size=_pixel_size(given.get("pixel_size")),
        size_open="size" not in given,
    )
    if norm not in ("channel", "image", "fixed"):
        raise _wrong("normalize", norm, "channel, image or fixed")
    if norm == "fixed" and not limits:
        raise InputError(
            "normalize=fixed needs limits, one pair for each channel, such as "
            "limits=100-4000,50-900."
        )
    channels = options.channels
    if channels and not options.concat and len(channels) > 3:
        raise InputError(
            f"{len(channels)} channels cannot be red, green and blue. Choose at most "
            "three, or give each its own vector with combine=concat."
        )
    return replace(options, limits=limits if norm != "image" else ())


def _wrong(name: str, given: object, expected: str) -> InputError:
    return InputError(f"{name} is {given!r:.60}; expected {expected}.")


def _choice(given: dict[str, str], name: str, known: dict[str, Choice]) -> Choice:
    """Return what a word stands for; the first is the default."""
    word = given.get(name, next(iter(known)))
    if word not in known:
        raise _wrong(name, word, " or ".join(known))
    return known[word]


def _quantity(text: str, name: str, *, least: float) -> Length:
    found = _QUANTITY.fullmatch(text)
    unit = found[2].lower() if found else ""
    if not found or unit not in ("", "px", *_MICROMETRES) or float(found[1]) < least:
        kind = "an area such as 30um2 or 200px" if "area" in name else (
            "a length such as 20um or 48px"
        )  # fmt: skip
        raise _wrong(name, text, kind)
    return Length(float(found[1]), unit in _MICROMETRES)


def _size(text: str | None) -> Length | None:
    if text is None or text == "fit":
        return None
    size = _quantity(text, "size", least=1e-6)
    if not size.in_um and not 4 <= size.value <= _MOST_PX:
        raise _wrong("size", text, f"4 to {_MOST_PX} pixels")
    return size


def _optional(given: dict[str, str], name: str) -> Length | None:
    return _quantity(given[name], name, least=0) if name in given else None


def _channels(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(parts) > _MOST_CHANNELS:
        raise _wrong("channels", text, "numbers from 0, such as 0,2")
    return tuple(int(part) for part in parts)


def _limits(text: str | None) -> tuple[tuple[float, float], ...]:
    if not text:
        return ()
    pairs = []
    for part in text.split(","):
        numbers = re.findall(r"(?:^|(?<=-))-?\d+\.?\d*(?:e[+-]?\d+)?", part.strip())
        low, high = map(float, numbers) if len(numbers) == 2 else (0.0, 0.0)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise _wrong("limits", text, "pairs such as 100-4000,50-900")
        pairs.append((low, high))
    return tuple(pairs)


def _pixel_size(text: str | None) -> float | None:
    if text is None:
        return None
    size = _quantity(text, "pixel_size", least=1e-9)
    return size.value
