"""A picture and its labels, cut by t, z, y and x whatever their axes and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = [
    "UNITS_UM",
    "Geometry",
    "Opened",
    "Span",
    "Volume",
    "micrometres",
    "pair_up",
]

Span = tuple[int, int]
UNITS_UM = {
    "micrometer": 1.0, "micrometre": 1.0, "micron": 1.0, "um": 1.0,
    "\u00b5m": 1.0, "\u03bcm": 1.0, "nanometer": 1e-3, "nanometre": 1e-3, "nm": 1e-3,
    "millimeter": 1e3, "millimetre": 1e3, "mm": 1e3, "meter": 1e6, "metre": 1e6,
    "m": 1e6, "angstrom": 1e-4, "picometer": 1e-6, "centimeter": 1e4,
}  # fmt: skip
# Scales of image and labels are multiples of each other up to this.
_SHAPE_SLACK = 0.02


@dataclass(frozen=True)
class Volume:
    """An array with some of the axes t, c, z, y, x, the last two of them always.

    Attributes
    ----------
    array
        NumPy or Zarr array.
    axes
        One letter each, in the order of the array.
    """

    array: Any
    axes: str

    def size(self, axis: str) -> int:
        """Return the length of an axis, 1 where there is none."""
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lengths along z, y, x."""
        return self.size("z"), self.size("y"), self.size("x")

    def chunks(self) -> tuple[int, int, int]:
        """Return the lengths of a chunk along z, y, x; all where there are none."""
        array = self.array
        sides = getattr(array, "shards", None) or getattr(array, "chunks", None)
        if not sides:
            return self.shape
        known = dict(zip(self.axes, sides, strict=True))
        return known.get("z", 1), known["y"], known["x"]

    def cut(
        self,
        t: int,
        z: Span,
        y: Span,
        x: Span,
        *,
        channels: Sequence[int] | None = None,
    ) -> NDArray[Any]:
        """Return (c, z, y, x) of a box that lies inside; some channels, or all."""
        spans: dict[str, int | slice] = {
            "t": t, "z": slice(*z), "y": slice(*y), "x": slice(*x)
        }  # fmt: skip
        if "c" not in self.axes:
            return self._ordered(self._read(spans), "")[None]
        if channels is None:
            return self._ordered(self._read(spans | {"c": slice(None)}), "c")
        parts = [self._ordered(self._read(spans | {"c": c}), "") for c in channels]
        return np.stack(parts)

    def _read(self, spans: dict[str, int | slice]) -> NDArray[Any]:
        return np.asarray(self.array[tuple(spans[axis] for axis in self.axes)])

    def _ordered(self, values: NDArray[Any], channel: str) -> NDArray[Any]:
        """Return (c,) z, y, x; c and z may stand in either order in the file."""
        left = [a for a in self.axes if a != "t" and (a != "c" or channel)]
        if channel and "z" in left and left.index("z") < left.index("c"):
            values = np.swapaxes(values, left.index("z"), left.index("c"))
        if "z" not in left:
            values = np.expand_dims(values, 1 if channel else 0)
        return values


@dataclass(frozen=True)
class Geometry:
    """How labels lie on their picture, and how large it is.

    Attributes
    ----------
    factor
        Pixels of the image along z, y, x for one of the labels.
    pixel_um
        Micrometres a pixel of the image along z, y, x; None where it is not known.
    planes
        Planes of the labels.
    """

    factor: tuple[float, float, float]
    pixel_um: tuple[float, float, float] | None
    planes: int

    def with_pixel(self, um: float | None) -> Geometry:
        """Return it with another size of a pixel, unless that is None."""
        if um is None:
            return self
        return replace(
            self, pixel_um=(self.pixel_um[0] if self.pixel_um else um, um, um)
        )


@dataclass(frozen=True)
class Opened:
    """A picture and its labels.

    Attributes
    ----------
    image, labels
        Their arrays.
    geometry
        How they lie on each other.
    small
        The image at its lowest level, to find limits on.
    windows
        Display limits of each channel, or empty.
    color
        Whether the channels are the red, green and blue of a photograph.
    levels, label_levels
        All levels of both, the largest first; empty where there is one.
    """

    image: Volume
    labels: Volume
    geometry: Geometry
    small: Volume
    windows: tuple[tuple[float, float], ...] = ()
    color: bool = False
    levels: tuple[Any, ...] = ()
    label_levels: tuple[Any, ...] = ()

    @property
    def n_channels(self) -> int:
        """Number of channels of the image."""
        return self.image.size("c")


def micrometres(
    axes: str, scale: Sequence[float], units: Sequence[str]
) -> tuple[float, float, float] | None:
    """Return the size of a pixel along z, y, x, or None where it has no unit.

    Without a z axis, or a unit for it, the first number is 1.
    """
    known = {
        axis: size * UNITS_UM[unit.lower()]
        for axis, size, unit in zip(axes, scale, units, strict=False)
        if unit.lower() in UNITS_UM and size > 0
    }
    if "y" not in known or "x" not in known:
        return None
    return known.get("z", 1.0), known["y"], known["x"]


def pair_up(
    where: str,
    image: Volume,
    labels: Volume,
    *,
    image_scale: Sequence[float] = (),
    labels_scale: Sequence[float] = (),
) -> tuple[float, float, float]:
    """Return how many image pixels along z, y, x are one of the labels.

    Parameters
    ----------
    where
        For messages.
    image, labels
        The two.
    image_scale, labels_scale
        Size of a pixel along each of their axes, where the metadata say it.

    Raises
    ------
    InputError
        If the labels are no whole numbers, have channels, or do not fit the image.
    """
    _check_labels(where, labels)
    if labels.size("t") not in (1, image.size("t")):
        raise InputError(
            f"{where}: the image has {image.size('t')} time points, its labels "
            f"{labels.size('t')}."
        )
    ratio = tuple(a / b for a, b in zip(image.shape, labels.shape, strict=True))
    if labels.size("z") == 1:
        # Labels of one plane go with all planes of the image.
        ratio = (float(image.size("z")), *ratio[1:])
    elif ratio[0] != 1:
        raise _misfit(where, image, labels, "their numbers of planes differ")
    across = ratio[1:]
    if abs(across[0] - across[1]) > _SHAPE_SLACK * max(across):
        raise _misfit(where, image, labels, "they are not scaled copies of each other")
    if max(across) == min(across) == 1:
        return (ratio[0], 1.0, 1.0)
    if not image_scale or not labels_scale:
        raise _misfit(where, image, labels, "neither says how it is scaled")
    stated = tuple(
        labels_scale[labels.axes.index(a)] / image_scale[image.axes.index(a)]
        for a in "yx"
    )
    if any(abs(s / r - 1) > _SHAPE_SLACK for s, r in zip(stated, across, strict=True)):
        raise _misfit(
            where, image, labels,
            f"by their metadata one label pixel is {stated[0]:g} image pixels",
        )  # fmt: skip
    return ratio[0], stated[0], stated[1]


def _check_labels(where: str, labels: Volume) -> None:
    kind = np.dtype(labels.array.dtype)
    if kind.kind not in "biu":
        raise InputError(
            f"{where}: the labels are numbers of type {kind}; whole numbers are "
            "expected, 0 for background. Convert a copy, for instance with "
            "labels.astype('uint32'), or choose the labels image."
        )
    if labels.size("c") != 1:
        raise InputError(
            f"{where}: the labels have {labels.size('c')} channels; one is expected. "
            "Is this the image instead of its labels?"
        )


def _misfit(where: str, image: Volume, labels: Volume, why: str) -> InputError:
    def size(volume: Volume) -> str:
        return " x ".join(str(side) for side in volume.shape)

    return InputError(
        f"{where}: the image has {size(image)} pixels (z, y, x), its labels "
        f"{size(labels)}, and {why}. Choose the labels that were made from this image."
    )
