"""What an OME-Zarr says about itself: its images, their axes, levels and channels.

Versions 0.4 (Zarr 2) and 0.5 (Zarr 3). Names and numbers are checked by the models of
the package ``ome-zarr-models``; arrays are opened one by one, so that a plate with
missing wells, or a label list that breaks a rule, does not stop the rest.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from napari_embed.errors import InputError, MissingDependencyError, UnsafePathError

__all__ = [
    "OmeImage",
    "OpenedImage",
    "is_ome_zarr",
    "label_names",
    "ome_images",
    "open_image",
    "plate_wells",
]

_log = logging.getLogger(__name__)

_LAYOUT = "bioformats2raw.layout"
_KINDS = ("multiscales", "plate", "well", _LAYOUT)
_AXES = "tczyx"


@dataclass(frozen=True)
class OmeImage:
    """One multiscale image.

    Attributes
    ----------
    path
        Inside the OME-Zarr; "" for the root itself.
    well
        Name of the well, such as "B3"; "" outside a plate.
    """

    path: str
    well: str = ""


@dataclass(frozen=True)
class OpenedImage:
    """The largest and smallest level of an image.

    Attributes
    ----------
    array, small
        Zarr arrays with the axes ``axes``.
    axes
        One letter each of t, c, z, y, x, in the order of the array.
    windows
        Display limits of each channel, or empty where none are given.
    levels
        All levels, the largest first.
    scale
        Length of a pixel of ``array`` along each axis, in ``units``.
    units
        Unit of each axis as the metadata spell it, "" where they give none.
    channels
        Names of the channels, empty where none are given.
    """

    array: Any
    small: Any
    axes: str
    windows: tuple[tuple[float, float], ...]
    levels: tuple[Any, ...] = ()
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def size(self, axis: str) -> int:
        """Return the length of an axis, 1 where there is none."""
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1


def is_ome_zarr(path: Path) -> bool:
    """Return whether a folder is an OME-Zarr image, plate, well or collection."""
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        return False
    try:
        attributes = _attributes(zarr.open_group(str(path), mode="r"))
    except Exception:  # noqa: BLE001  a damaged store is told about when it is opened
        return False
    return any(name in attributes for name in _KINDS)


def ome_images(root: Path) -> list[OmeImage]:
    """Return the images of an OME-Zarr: one, or those of all wells of a plate.

    Wells and fields that a plate names but that are not there are left out with a
    warning in the log.

    Raises
    ------
    InputError
        If it is no OME-Zarr, or its metadata break the specification.
    UnsafePathError
        If a name leaves the OME-Zarr.
    """
    group = _group(root, "")
    attributes = _attributes(group)
    if "multiscales" in attributes:
        return [OmeImage("")]
    if "plate" in attributes:
        return list(_of_plate(root, attributes))
    if "well" in attributes:
        return list(_of_well(root, "", ""))
    if _LAYOUT in attributes:
        series = sorted((n for n in group.group_keys() if n.isdecimal()), key=int)
        return [OmeImage(name) for name in series]
    raise InputError(
        f"{root} is no OME-Zarr image or plate: none of {', '.join(_KINDS)} is in its "
        "metadata."
    )


def open_image(root: Path, path: str) -> OpenedImage:
    """Open one image.

    Raises
    ------
    InputError
        If it is missing, or its metadata break the specification.
    UnsafePathError
        If a name leaves the OME-Zarr.
    """
    group = _group(root, path)
    attributes = _attributes(group)
    listed = attributes.get("multiscales")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{root / path} has no multiscales metadata.")
    model = _models(attributes).Multiscale
    scales = _validated(model, listed[0], root / path)
    axes = "".join(axis.name for axis in scales.axes)
    if not axes.endswith("yx") or any(letter not in _AXES for letter in axes):
        raise InputError(
            f"{root / path} has the axes {axes!r:.60}; expected some of t, c, z, and "
            "y, x last."
        )
    levels = [_array(root, group, path, level.path) for level in scales.datasets]
    for array in levels:
        if array.ndim != len(axes) or array.dtype.kind not in "biuf":
            raise InputError(
                f"{root / path} has an array of shape {array.shape} and type "
                f"{array.dtype} for the axes {axes}."
            )
    return OpenedImage(
        levels[0],
        levels[-1],
        axes,
        _windows(attributes),
        tuple(levels),
        _scale(scales, len(axes)),
        tuple(str(getattr(axis, "unit", None) or "") for axis in scales.axes),
        _channel_names(attributes),
    )


def plate_wells(root: Path) -> list[str]:
    """Return the names of the wells that a plate lists; none if it is no plate."""
    attributes = _attributes(_group(root, ""))
    if "plate" not in attributes:
        return []
    plate = _validated(_models(attributes).Plate, attributes["plate"], root)
    return [well.path.replace("/", "") for well in plate.wells]


def label_names(root: Path, path: str) -> list[str]:
    """Return the labels images beside an image, in the order they are listed.

    Folders that nobody lists count as well: writers forget the list.

    Raises
    ------
    InputError, UnsafePathError
        As for `open_image`.
    """
    group = _group(root, path)
    if "labels" not in group:
        return []
    labels = _group(root, f"{path}/labels" if path else "labels")
    listed = _attributes(labels).get("labels")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    return names + sorted(name for name in labels.group_keys() if name not in names)


def _group(root: Path, path: str) -> zarr.Group:
    _check_inside(root, path)
    try:
        return zarr.open_group(str(root / path), mode="r")
    except Exception as error:  # BLE001: stores raise anything
        raise InputError(
            f"{root / path} cannot be read as a Zarr group: {str(error)[:200]}."
        ) from error


def _array(root: Path, group: zarr.Group, path: str, name: str) -> Any:
    from napari_embed.sources.containers import checked_zarr

    where = f"{path}/{name}" if path else name
    _check_inside(root, where)
    try:
        found = group[name]
    except Exception as error:  # BLE001: stores raise anything
        raise InputError(
            f"{root / path} names the array {name!r:.60}, which cannot be opened: "
            f"{str(error)[:200]}."
        ) from error
    if not isinstance(found, zarr.Array):
        raise InputError(f"{root / where} is a group; an array is expected.")
    return checked_zarr(root / where, found)


def _check_inside(root: Path, path: str) -> None:
    """Names come from a foreign file: they may not lead elsewhere."""
    base = root.resolve()
    if "\\" in path or "\0" in path or not (base / path).resolve().is_relative_to(base):
        raise UnsafePathError(
            f"The OME-Zarr {root} names {path!r:.100}, which lies outside it. It was "
            "not read."
        )


def _attributes(group: zarr.Group) -> dict[str, Any]:
    """Return the OME part of the attributes; 0.5 keeps it under one key."""
    attributes = group.attrs.asdict()
    nested = attributes.get("ome")
    if isinstance(nested, dict):
        return {str(key): value for key, value in nested.items()}
    return {str(key): value for key, value in attributes.items()}


def _models(attributes: dict[str, Any]) -> Any:
    """Return the models of the version at hand."""
    try:
        import ome_zarr_models.v04.multiscales
        import ome_zarr_models.v04.plate
        import ome_zarr_models.v05.multiscales
        import ome_zarr_models.v05.plate
    except ImportError as error:
        raise MissingDependencyError(
            "Reading OME-Zarr needs ome-zarr-models. Install it with: "
            'pip install "napari-embed[ome]"'
        ) from error
    newer = str(attributes.get("version", "0.4")) >= "0.5"
    version = ome_zarr_models.v05 if newer else ome_zarr_models.v04

    class Models:
        Multiscale = version.multiscales.Multiscale
        Plate = version.plate.Plate

    return Models


def _validated(model: Any, values: object, where: Path) -> Any:
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            # A missing version number is common and changes nothing.
            warnings.simplefilter("ignore")
            return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"The OME-Zarr metadata of {where} break the specification at "
            f"{'.'.join(map(str, first['loc']))!s:.80}: {first['msg']!s:.200}."
        ) from error


def _windows(attributes: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """Return the display limits; a wish of the writer, so a bad one is no error."""
    try:
        channels = attributes["omero"]["channels"]
        limits = [(float(c["window"]["start"]), float(c["window"]["end"]))
                  for c in channels]  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(limits) if all(low < high for low, high in limits) else ()


def _scale(scales: Any, n_axes: int) -> tuple[float, ...]:
    """Return the size of a pixel of the largest level; ones where none is given."""
    size = [1.0] * n_axes
    for steps in (
        scales.datasets[0].coordinateTransformations,
        scales.coordinateTransformations or (),
    ):
        for step in steps:
            factors = getattr(step, "scale", None)
            if isinstance(factors, list | tuple) and len(factors) == n_axes:
                size = [a * float(b) for a, b in zip(size, factors, strict=True)]
    return tuple(size)


def _channel_names(attributes: dict[str, Any]) -> tuple[str, ...]:
    try:
        channels = attributes["omero"]["channels"]
        return tuple(str(channel.get("label") or "") for channel in channels)
    except (KeyError, TypeError, AttributeError):
        return ()


def _of_plate(root: Path, attributes: dict[str, Any]) -> Iterator[OmeImage]:
    plate = _validated(_models(attributes).Plate, attributes["plate"], root)
    for well in plate.wells:
        try:
            yield from _of_well(root, well.path, well.path.replace("/", ""))
        except InputError as error:
            _log.warning("The well %s is left out: %s", well.path, error)


def _of_well(root: Path, path: str, name: str) -> Iterator[OmeImage]:
    attributes = _attributes(_group(root, path))
    try:
        fields = [str(field["path"]) for field in attributes["well"]["images"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{root / path} has no list of images.") from error
    for field in fields:
        where = f"{path}/{field}" if path else field
        _check_inside(root, where)
        if (root / where).is_dir():
            yield OmeImage(where, name)
        else:
            _log.warning("The field %s is left out: it is missing.", where)
