"""Layers of the viewer as a source of objects: what fits together, and a copy on disk.

No Qt. Layers that show an OME-Zarr on disk are taken from there; others are written
beside the projects of the user, so that computing needs no window and does not see
edits half-way.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_embed.errors import EmbedError, InputError
from napari_embed.gui.settings import data_folder
from napari_embed.sources.objects import ObjectsSource
from napari_embed.sources.objects.copying import Pixels, replace_labels, write_pair
from napari_embed.sources.objects.fields import PHOTOGRAPH
from napari_embed.sources.objects.volume import UNITS_UM
from napari_embed.sources.ome_metadata import is_ome_zarr
from napari_embed.sources.spec import SourceSpec

__all__ = [
    "discard_copy",
    "images_for",
    "is_own_copy",
    "labels_layers",
    "linked_layer",
    "pair_problem",
    "pixel_size_of",
    "save_layers",
    "take_over_labels",
]

SUFFIX = ".ome.zarr"
_AXES = ("yx", "zyx", "tzyx")


def labels_layers(viewer: Any) -> list[Any]:
    """Return the labels layers of a viewer, the selected one first, then the newest."""
    found = [a for a in reversed(viewer.layers) if type(a).__name__ == "Labels"]
    active = viewer.layers.selection.active
    return sorted(found, key=lambda layer: layer is not active)


def images_for(viewer: Any, labels: Any) -> list[Any]:
    """Return the image layers that labels may be of, those of their shape first."""
    found = [a for a in viewer.layers if type(a).__name__ == "Image"]
    shape = _shape(labels)[-2:]
    return sorted(found, key=lambda layer: _shape(layer)[-2:] != shape)


def _level(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _shape(layer: Any) -> tuple[int, ...]:
    """Return the shape of the largest level without the colours of a photograph."""
    shape = tuple(int(n) for n in _level(layer).shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape


def pair_problem(images: Sequence[Any], labels: Any | None) -> str:
    """Return why layers are no image with labels, or "" when they are.

    Whether their pixels fit is said by the source that is made of them.
    """
    if labels is None:
        return (
            "There is no labels layer. Open or make a segmentation; every label in it "
            "becomes an item."
        )
    if not images:
        return "Choose the image layers that the crops are cut from."
    if not 2 <= len(_shape(labels)) <= 4:
        return (
            f"{labels.name} has {len(_shape(labels))} dimensions; 2 to 4 can be used."
        )
    first = images[0]
    for layer in (labels, *images):
        if not 2 <= len(_shape(layer)) <= 4:
            return f"{layer.name} has {len(_shape(layer))} axes; 2 to 4 can be used."
    for image in images:
        if _shape(image) != _shape(first):
            return (
                f"{image.name} has the shape {_shape(image)}, {first.name} "
                f"{_shape(first)}. Channels of one image have the same shape."
            )
        if getattr(image, "rgb", False) and len(images) > 1:
            return f"{image.name} is a photograph; choose it alone."
        if not 2 <= len(_shape(image)) <= 4:
            return (
                f"{image.name} has {len(_shape(image))} dimensions; 2 to 4 can be used."
            )
    return _shift_problem(first, labels)


def _shift_problem(image: Any, labels: Any) -> str:
    step = np.maximum(np.abs(image.scale[-2:]), np.abs(labels.scale[-2:]))
    apart = np.abs(np.subtract(image.translate[-2:], labels.translate[-2:]))
    if (apart > step).any():
        return (
            f"{labels.name} is shifted against {image.name} by {apart[0]:g}, "
            f"{apart[1]:g} (y, x). Give both the same translate."
        )
    return ""


def pixel_size_of(image: Any) -> tuple[float | None, bool]:
    """Return a pixel's side along y in the layer's unit, and whether that is a length.

    None where the layer says nothing at all.
    """
    size, unit = float(image.scale[-2]), _unit(image)
    if unit:
        return size * UNITS_UM[unit], True
    return (size if size != 1.0 else None), False


def _unit(layer: Any) -> str:
    """Return the unit of y and x if it is a length, else ""."""
    units = [str(u).lower() for u in (getattr(layer, "units", None) or ())[-2:]]
    return units[0] if units and units[0] == units[-1] and units[0] in UNITS_UM else ""


def save_layers(
    images: Sequence[Any],
    labels: Any,
    *,
    check: Callable[[], None] | None = None,
) -> SourceSpec:
    """Return the source of layers that `pair_problem` has nothing against.

    Slow: it writes all pixels, unless they are those of an OME-Zarr on disk.

    Raises
    ------
    InputError
        If they cannot be written.
    """
    on_disk = _on_disk(images, labels)
    if on_disk is not None:
        return on_disk
    name = _plain(str(labels.name))
    folder = data_folder() / "layers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Layers cannot be kept in {folder}: {error}.") from error
    number = 1
    while (path := folder / f"{name}{f' {number}' * (number > 1)}{SUFFIX}").exists():
        number += 1
    channels = [p for image in images for p in _channels(image)]
    windows = [w for image in images for w in _windows(image)]
    names = PHOTOGRAPH if images[0].rgb else [str(image.name) for image in images]
    write_pair(
        path, channels, _pixels(labels, _level(labels)), name=name,
        windows=windows, names=names, check=check,
    )  # fmt: skip
    return SourceSpec("objects", str(path), {"labels": name})


def _on_disk(images: Sequence[Any], labels: Any) -> SourceSpec | None:
    """Return the OME-Zarr that the layers show, if there is one and it is all."""
    paths = {str(layer.source.path or "") for layer in (*images, labels)}
    path = Path(next(iter(paths)))
    if len(paths) > 1 or not str(path).strip(".") or not path.is_dir():
        return None
    # Labels in memory may have been edited.
    if isinstance(_level(labels), np.ndarray) or not is_ome_zarr(path):
        return None
    spec = SourceSpec("objects", str(path.absolute()), {"labels": str(labels.name)})
    try:
        ObjectsSource(spec)
    except EmbedError:
        return None
    return spec


def _plain(name: str) -> str:
    return re.sub(r"[^\w +-]+", "_", name).strip(" _") or "labels"


def _pixels(layer: Any, array: Any) -> Pixels:
    axes = _AXES[array.ndim - 2]
    words = [str(a).lower() for a in getattr(layer, "axis_labels", ())]
    if axes == "zyx" and words[:1] and words[0] in ("t", "time"):
        axes = "tyx"
    scale = tuple(float(abs(s)) or 1.0 for s in layer.scale)
    return Pixels(array, axes, scale, _unit(layer))


def _channels(image: Any) -> list[Pixels]:
    """Return one channel, or the three of a photograph."""
    level = _level(image)
    if not getattr(image, "rgb", False):
        return [_pixels(image, level)]
    return [_pixels(image, level[..., c]) for c in range(3)]


def _windows(image: Any) -> list[tuple[float, float]]:
    """Return what is black and white as the layer is shown now."""
    if getattr(image, "rgb", False):
        whole = np.dtype(_level(image).dtype).kind in "biu"
        return [(0.0, 255.0 if whole else 1.0)] * 3
    low, high = (float(v) for v in image.contrast_limits)
    return [(low, high if high > low else low + 1.0)]


# --- edits ---------------------------------------------------------------------------


def is_own_copy(spec: SourceSpec) -> bool:
    """Return whether a source is a copy of layers, which may be written to."""
    inside = spec.location.parent == data_folder() / "layers"
    return spec.kind == "objects" and inside and spec.location.name.endswith(SUFFIX)


def discard_copy(spec: SourceSpec) -> None:
    """Remove a copy that no project was made of."""
    if is_own_copy(spec):
        shutil.rmtree(spec.location, ignore_errors=True)


def linked_layer(viewer: Any, source: Any, key: str) -> Any | None:
    """Return the labels layer of the viewer that shows the labels of a picture.

    It has their name and shape; with other pictures beside it the name is not enough.
    """
    if len(source.fields.names) > 1:
        return None
    wanted = _plain(source.fields.labels)
    named = [a for a in labels_layers(viewer) if _plain(str(a.name)) == wanted]
    if not named:
        return None
    field = next(f for f in source.fields.names if f.key == key)
    shape = tuple(source.fields.open(field).labels.array.shape)
    return next((a for a in named if _shape(a) == shape), None)


def take_over_labels(spec: SourceSpec, layer: Any) -> None:
    """Write the labels of a layer into its copy. Slow.

    Raises
    ------
    InputError
        If the layer has another shape than the copy, or it cannot be written.
    """
    source = ObjectsSource(spec)
    kept = source.fields.open(source.fields.names[0]).labels.array
    pixels = _pixels(layer, _level(layer))
    if tuple(kept.shape) != tuple(pixels.array.shape):
        raise InputError(
            f"{layer.name} has the shape {tuple(pixels.array.shape)}, the labels of "
            f"this project {tuple(kept.shape)}. Make a new project of it."
        )
    replace_labels(spec.location, pixels, name=source.fields.labels)
