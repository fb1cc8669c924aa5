"""One picture and its labels as layers: read off the main thread, then shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.link.look import Look, look_of_layer
from napari_embed.sources.objects.crops import field_limits
from napari_embed.sources.objects.volume import Volume

__all__ = [
    "LABELS_LAYER",
    "Picture",
    "add_layers",
    "channel_layers",
    "channel_looks",
    "label_at",
    "read_picture",
]

LABELS_LAYER = "Objects"
# Pictures up to this size are held in memory: they turn and zoom without a wait.
HELD_BYTES = 256 << 20
MOST_CHANNELS = 8
SINGLE = ("gray",)
SEVERAL = ("blue", "green", "red", "magenta", "cyan", "yellow", "gray", "gray")


@dataclass(frozen=True)
class Picture:
    """What the layers of one picture are made of.

    Attributes
    ----------
    field
        Its key.
    channels
        Levels of each channel, the largest first; of a photograph one with RGB last.
    limits
        Contrast limits of each channel.
    labels
        Levels of the labels.
    axes
        Letters of the image's axes without c, and those of the labels.
    scale, labels_scale, labels_shift
        Of the layers, along their axes: micrometres, or pixels where none are known.
    rgb
        Whether it is a photograph.
    in_um
        Whether lengths are micrometres.
    """

    field: str
    channels: list[list[Any]]
    limits: list[tuple[float, float]]
    labels: list[Any]
    axes: tuple[str, str]
    scale: list[float]
    labels_scale: list[float]
    labels_shift: list[float]
    rgb: bool
    in_um: bool


def read_picture(source: Any, key: str) -> Picture:
    """Open a picture of an `ObjectsSource`; small ones are read as a whole.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    field = next(field for field in source.fields.names if field.key == key)
    opened = source.fields.open(field)
    geometry = opened.geometry.with_pixel(source.options.pixel_size)
    um = geometry.pixel_um or (1.0, 1.0, 1.0)
    image, labels = opened.image, opened.labels
    images = list(opened.levels or (image.array,))
    marks = list(opened.label_levels or (labels.array,))
    if sum(int(a.nbytes) for a in (images[0], marks[0])) <= HELD_BYTES:
        images = [np.asarray(a) for a in images]
        marks = [np.asarray(a) for a in marks]
    several = range(min(MOST_CHANNELS, opened.n_channels))
    limits = field_limits(opened, list(several))
    if opened.color:
        channels = [[np.moveaxis(a, image.axes.index("c"), -1) for a in images]]
    else:
        channels = [[_channel(a, image, c) for a in images] for c in several]
    axes = image.axes.replace("c", ""), labels.axes.replace("c", "")
    size = {"t": 1.0, "z": um[0], "y": um[1], "x": um[2]}
    factor = dict(zip("tzyx", (1.0, *geometry.factor), strict=True))
    if labels.size("z") == 1:
        factor["z"] = 1.0
    return Picture(
        key, channels, limits, [_wide(_channel(a, labels, 0)) for a in marks], axes,
        [size[a] for a in axes[0]],
        [size[a] * factor[a] for a in axes[1]],
        [size[a] * (factor[a] - 1) / 2 for a in axes[1]],
        opened.color, geometry.pixel_um is not None,
    )  # fmt: skip


class _Lazy:
    """An array on disk, one channel of it, or in another type; read when sliced."""

    def __init__(
        self, array: Any, *, axis: int | None = None, at: int = 0, dtype: Any = None
    ) -> None:
        self._array, self._axis, self._at = array, axis, at
        shape = list(array.shape)
        if axis is not None:
            del shape[axis]
        self.shape, self.ndim = tuple(shape), len(shape)
        self.dtype = np.dtype(dtype or array.dtype)
        self.size = int(np.prod(shape))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = list(index) if isinstance(index, tuple) else [index]
        named = [i for i, part in enumerate(parts) if part is Ellipsis] or [len(parts)]
        rest = parts[named[0] + 1 :]
        whole = [slice(None)] * (self.ndim - len(rest) - named[0])
        parts = [*parts[: named[0]], *whole, *rest]
        if self._axis is not None:
            parts.insert(self._axis, self._at)
        return np.asarray(self._array[tuple(parts)]).astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype=dtype)

    def __len__(self) -> int:
        return int(self.shape[0])


def _wide(labels: Any) -> Any:
    """Return labels of 32 bits or more.

    napari draws 16-bit labels by a texture of 65,536 colours, which some drivers leave
    black; wider ones by the number of their colour.
    """
    if labels.dtype.itemsize > 2:
        return labels
    if isinstance(labels, np.ndarray):
        return labels.astype(np.int32)
    return _Lazy(labels, dtype=np.int32)


def _channel(array: Any, volume: Volume, channel: int) -> Any:
    """Return one channel of a level, lazily where the level is lazy."""
    if "c" not in volume.axes:
        return array
    index = volume.axes.index("c")
    if isinstance(array, np.ndarray):
        return np.take(array, channel, axis=index)
    return _Lazy(array, axis=index, at=channel)


def add_layers(model: Any, picture: Picture) -> Any:
    """Replace the layers of a viewer model by those of a picture; return the labels.

    Contrast, colours and visibility of channels stay as they were set.
    """
    kept = {
        layer.name: (layer.contrast_limits, layer.colormap, layer.visible, layer.gamma)
        for layer in channel_layers(model)
    }
    model.layers.clear()
    units = ["micrometer" if picture.in_um else "pixel"] * 2
    count = len(picture.channels)
    for number, levels in enumerate(picture.channels):
        name = "Image" if count == 1 else f"Channel {number}"
        made = model.add_image(
            _data(levels), multiscale=len(levels) > 1, name=name, rgb=picture.rgb,
            scale=picture.scale, units=["pixel"] * (len(picture.scale) - 2) + units,
            **({} if picture.rgb else {
                "contrast_limits": _apart(picture.limits[number]),
                "colormap": (SINGLE if count == 1 else SEVERAL)[number],
                "blending": "additive",
            }),
        )  # fmt: skip
        if name in kept and not picture.rgb:
            made.contrast_limits, made.colormap, made.visible, made.gamma = kept[name]
    return model.add_labels(
        _data(picture.labels), multiscale=len(picture.labels) > 1, name=LABELS_LAYER,
        scale=picture.labels_scale, translate=picture.labels_shift, opacity=0.6,
        units=["pixel"] * (len(picture.labels_scale) - 2) + units,
    )  # fmt: skip


def channel_layers(model: Any) -> list[Any]:
    """Return the layers of the channels in order; none of a photograph."""
    return [
        layer for layer in model.layers
        if hasattr(layer, "contrast_limits") and not layer.rgb
    ]  # fmt: skip


def channel_looks(model: Any) -> tuple[tuple[int, Look], ...]:
    """Return number, contrast and colours of the channels that are visible."""
    return tuple(
        (number, look_of_layer(layer))
        for number, layer in enumerate(channel_layers(model)) if layer.visible
    )  # fmt: skip


def label_at(picture: Picture, position: Sequence[float]) -> int:
    """Return the label at a place in the space of the layers, 0 where there is none."""
    finest = picture.labels[0]
    at = [
        round((place - shift) / scale)
        for place, shift, scale in zip(
            position[-finest.ndim :], picture.labels_shift, picture.labels_scale,
            strict=True,
        )
    ]  # fmt: skip
    inside = all(0 <= i < n for i, n in zip(at, finest.shape, strict=True))
    return int(np.asarray(finest[tuple(at)])) if inside else 0


def _data(levels: list[Any]) -> Any:
    return levels if len(levels) > 1 else levels[0]


def _apart(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if low < high else (low, low + 1.0)
