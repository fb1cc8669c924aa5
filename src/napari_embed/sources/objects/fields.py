"""Pictures with labels: the images of an OME-Zarr, or pairs of files in a table."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from napari_embed.errors import ImageDecodeError, InputError, UnsafePathError
from napari_embed.sources.images import EXTENSIONS, FORMATS, MAX_FILE_BYTES, MAX_PIXELS
from napari_embed.sources.objects.volume import (
    Geometry,
    Opened,
    Volume,
    micrometres,
    pair_up,
)
from napari_embed.sources.ome_metadata import (
    is_ome_zarr,
    label_names,
    ome_images,
    open_image,
    plate_wells,
)
from napari_embed.sources.paths import read_confined
from napari_embed.sources.spec import SourceSpec
from napari_embed.sources.table import read_plain_table

__all__ = ["PHOTOGRAPH", "Field", "Fields", "open_fields"]

_log = logging.getLogger(__name__)

PHOTOGRAPH = ("Red", "Green", "Blue")
"""Names of channels that are shown together, in these colours."""
_IMAGE_FOLDERS = ("images", "image")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask")
_IMAGE_COLUMNS = ("image_path", "image", "path", "file", "filename")
_LABEL_COLUMNS = ("labels_path", "labels", "label_path", "masks", "mask", "mask_path")
_KEPT_OPEN = 8
_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Field:
    """One picture and what is known of it.

    Attributes
    ----------
    key
        Names it; the path inside an OME-Zarr, the path of an image file.
    well
        Such as "B3", "" outside a plate.
    row
        Other columns of its table.
    """

    key: str
    well: str = ""
    row: dict[str, Any] = field(default_factory=dict)


class Fields(Protocol):
    """All pictures of a source."""

    names: list[Field]
    label_column: str | None
    """Which column of `Field.row` is the class, if any."""
    notes: list[str]
    """What was left out, in sentences."""
    labels: str
    """Name of the labels."""
    normalize: str
    """The default of the option."""

    def open(self, field: Field) -> Opened:
        """Open one. Raises `InputError` where that is not possible."""
        ...

    def signature(self, field: Field) -> str:
        """Return what changes when the labels of a picture change on disk."""
        ...


def open_fields(spec: SourceSpec) -> Fields:
    """Return the pictures at the path of a source.

    Raises
    ------
    InputError
        If there is nothing with labels.
    """
    where = spec.location
    if not where.exists():
        raise InputError(f"There is nothing at {where}. Check the path.")
    if where.is_dir() and is_ome_zarr(where):
        return OmeFields(where, spec)
    return PairFields(where, spec)


def _stamp(path: Path) -> str:
    """Return sizes and times of all files below a folder, or of one file."""
    digest = hashlib.sha256()
    pending = [path]
    while pending:
        folder = pending.pop()
        if not folder.is_dir():
            found = folder.stat()
            digest.update(f"{found.st_size}:{found.st_mtime_ns}".encode())
            continue
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    found = entry.stat()
                    text = f"{entry.name}:{found.st_size}:{found.st_mtime_ns};"
                    digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class OmeFields:
    """The images of an OME-Zarr that have labels of one name."""

    def __init__(self, root: Path, spec: SourceSpec) -> None:
        self._root = root
        self.label_column: str | None = None
        self.notes: list[str] = []
        self.normalize = "channel"
        if spec.options.get("image") or spec.options.get("label"):
            raise InputError(
                "The options image and label name columns of a table of files; "
                f"{root} is an OME-Zarr."
            )
        found = ome_images(root)
        wanted = spec.options.get("labels")
        self.labels = self._choose([i.path for i in found], wanted)
        self.names = []
        for image in found:
            if self._has_labels(image.path):
                self.names.append(Field(image.path, image.well))
        missing = len(found) - len(self.names)
        if missing:
            self.notes.append(
                f"{missing} of {len(found)} images have no labels {self.labels!r}; "
                "they are left out."
            )
        self.notes += _missing_wells(root, {f.well for f in self.names})
        self._opened: dict[str, Opened] = {}

    def _has_labels(self, path: str) -> bool:
        return (self._root / path / "labels" / self.labels).is_dir()

    def _choose(self, paths: list[str], wanted: object) -> str:
        """Return the name of the labels: the wanted one, or the only one."""
        known: list[str] = []
        for path in paths:
            known = label_names(self._root, path)
            if known:
                break
        if wanted is not None:
            name = str(wanted)
            if name not in known and not any(
                (self._root / path / "labels" / name).is_dir()
                and name not in ("", ".", "..") and "/" not in name
                for path in paths
            ):  # fmt: skip
                raise InputError(
                    f"{self._root} has no labels {name!r:.60}. It has: "
                    f"{', '.join(known) or 'none'}."
                )
            return name
        if not known:
            raise InputError(
                f"{self._root} has no labels. Objects need a segmentation: write it "
                "as an OME-Zarr labels group, or open image and labels in napari and "
                "use the Objects panel."
            )
        if len(known) > 1:
            raise InputError(
                f"{self._root} has the labels {', '.join(known)!s:.300}. Choose one "
                "with the option labels."
            )
        return known[0]

    def open(self, field: Field) -> Opened:
        """Open one image with its labels."""
        if field.key not in self._opened:
            self._opened[field.key] = self._open(field.key)
        return self._opened[field.key]

    def _open(self, path: str) -> Opened:
        below = f"{path}/labels/{self.labels}" if path else f"labels/{self.labels}"
        found, marked = open_image(self._root, path), open_image(self._root, below)
        image = Volume(found.array, found.axes)
        labels = Volume(marked.array, marked.axes)
        factor = pair_up(
            str(self._root / path), image, labels,
            image_scale=found.scale, labels_scale=marked.scale,
        )  # fmt: skip
        return Opened(
            image, labels,
            Geometry(factor, micrometres(found.axes, found.scale, found.units),
                     labels.size("z")),
            Volume(found.small, found.axes), found.windows,
            color=tuple(n.capitalize() for n in found.channels) == PHOTOGRAPH,
            levels=found.levels, label_levels=marked.levels,
        )  # fmt: skip

    def signature(self, field: Field) -> str:
        """Return sizes and times of the files of the labels."""
        return _stamp(self._root / field.key / "labels" / self.labels)


def _missing_wells(root: Path, found: set[str]) -> list[str]:
    """Return a note on wells that a plate names and that are not there."""
    missing = [well for well in plate_wells(root) if well not in found]
    if not missing:
        return []
    shown = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
    return [f"Wells without a labelled image, left out: {len(missing)} ({shown})."]


class PairFields:
    """Image files with labels files, by a table, or by two folders of equal names."""

    def __init__(self, where: Path, spec: SourceSpec) -> None:
        self.notes: list[str] = []
        self.normalize = "image"
        self.labels = str(spec.options.get("labels") or "")
        label = spec.options.get("label")
        self.label_column = str(label) if label else None
        self._cache: OrderedDict[str, Opened] = OrderedDict()
        self._mutex = threading.Lock()
        self._files: dict[str, str] = {}
        if where.is_dir():
            self.root = where
            self.names = self._of_folder(spec)
        else:
            root = spec.options.get("root")
            self.root = where.parent / str(root) if root else where.parent
            self.names = self._of_table(where, spec)

    def _of_folder(self, spec: SourceSpec) -> list[Field]:
        images = _subfolder(self.root, spec.options.get("image"), _IMAGE_FOLDERS)
        labels = _subfolder(self.root, spec.options.get("labels"), _LABEL_FOLDERS)
        if images is None or labels is None:
            raise InputError(
                f"{self.root} is no OME-Zarr and has no folders images and labels. "
                "Objects come from an OME-Zarr with labels, from two such folders with "
                "files of the same names, or from a table of image and labels files."
            )
        marked = {Path(n).stem: n for n in _image_files(self.root / labels)}
        found = _image_files(self.root / images)
        pairs = {n: marked[Path(n).stem] for n in found if Path(n).stem in marked}
        if len(pairs) < len(found):
            self.notes.append(
                f"{len(found) - len(pairs)} of {len(found)} images have no labels file "
                "of the same name; they are left out."
            )
        self._files = {f"{images}/{a}": f"{labels}/{b}" for a, b in pairs.items()}
        if not pairs:
            raise InputError(
                f"No file in {self.root / labels} has the name of one in "
                f"{self.root / images}."
            )
        return [Field(name) for name in sorted(self._files)]

    def _of_table(self, where: Path, spec: SourceSpec) -> list[Field]:
        wishes = [str(spec.options.get(name) or "") for name in ("image", "labels")]
        names = [n for wish in wishes for n in (wish, *_FIELD.findall(wish))]
        known = (*_IMAGE_COLUMNS, *_LABEL_COLUMNS)
        table = read_plain_table(where, text=[n for n in (*names, *known) if n])
        images = _paths(table, where, wishes[0], _IMAGE_COLUMNS, "image")
        labels = _paths(table, where, wishes[1], _LABEL_COLUMNS, "labels")
        if self.label_column and self.label_column not in table.column_names:
            raise InputError(
                f"{where} has no column {self.label_column!r:.60}. It has "
                f"{', '.join(table.column_names)!s:.300}."
            )
        plain = [
            name for name in table.column_names
            if not pa.types.is_nested(table[name].type)
        ]  # fmt: skip
        rows = table.select(plain).to_pylist()
        self._files = dict(zip(images, labels, strict=True))
        if len(self._files) < len(images):
            raise InputError(f"{where} names an image twice; each may stand once.")
        return [Field(name, row=row) for name, row in zip(images, rows, strict=True)]

    def open(self, field: Field) -> Opened:
        """Read both files; the last few are kept."""
        with self._mutex:
            if field.key in self._cache:
                self._cache.move_to_end(field.key)
                return self._cache[field.key]
        opened = self._read(field.key)
        with self._mutex:
            self._cache[field.key] = opened
            while len(self._cache) > _KEPT_OPEN:
                self._cache.popitem(last=False)
        return opened

    def _read(self, name: str) -> Opened:
        if name not in self._files:
            raise InputError(f"There is no image {name!r:.100} in {self.root}.")
        values, marks = self._pixels(name), self._pixels(self._files[name])
        color = values.ndim == 3
        image = Volume(np.moveaxis(values, -1, 0) if color else values,
                       "cyx" if color else "yx")  # fmt: skip
        labels = Volume(np.moveaxis(marks, -1, 0) if marks.ndim == 3 else marks,
                        "cyx" if marks.ndim == 3 else "yx")  # fmt: skip
        factor = pair_up(name, image, labels)
        return Opened(image, labels, Geometry(factor, None, 1), image, color=color)

    def _pixels(self, name: str) -> NDArray[Any]:
        try:
            data = read_confined(self.root, name, max_bytes=MAX_FILE_BYTES)
            return _decode(data)
        except (ImageDecodeError, UnsafePathError) as error:
            raise InputError(f"{name}: {error}") from error

    def signature(self, field: Field) -> str:
        """Return size and time of the labels file."""
        try:
            return _stamp(self.root / self._files[field.key])
        except OSError:
            return "missing"


def _decode(data: bytes) -> NDArray[Any]:
    """Return (h, w) or (h, w, 3) in the file's own number type."""
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageDecodeError(
                    f"{image.width} x {image.height} pixels; at most "
                    f"{MAX_PIXELS / 1e6:.0f} million are read. Store it as OME-Zarr"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise ImageDecodeError(
                    f"it has {getattr(image, 'n_frames', 1)} pages, and it is not "
                    "known whether these are planes or channels. Store it as OME-Zarr"
                )
            if image.mode in ("P", "RGBA", "LA", "CMYK", "YCbCr"):
                values = np.asarray(image.convert("L" if image.mode == "LA" else "RGB"))
            else:
                values = np.asarray(image)
            return values.astype(np.uint8) if values.dtype == bool else values
    except ImageDecodeError:
        raise
    except Exception as error:  # BLE001: decoders raise anything
        raise ImageDecodeError(f"cannot be read: {str(error)[:200]}") from error


def _subfolder(root: Path, wanted: object, known: tuple[str, ...]) -> str | None:
    names = [str(wanted)] if wanted else list(known)
    return next((n for n in names if (root / n).is_dir() and ".." not in n), None)


def _image_files(folder: Path) -> list[str]:
    return sorted(
        p.name for p in folder.iterdir()
        if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")
    )  # fmt: skip


def _paths(
    table: pa.Table, where: Path, wanted: str, known: tuple[str, ...], what: str
) -> list[str]:
    """Return a path per row, of a column or of a pattern such as images/{id}.png."""
    columns = {name.lower(): name for name in reversed(table.column_names)}
    text = wanted or None
    if text and "{" in text:
        return _filled(table, where, text)
    if text and text not in table.column_names:
        raise InputError(
            f"{where} has no column {text!r:.60} for the {what} files. It has "
            f"{', '.join(table.column_names)!s:.300}. A pattern such as "
            f"{what}/{{name}}.png works too."
        )
    name = text or next((columns[n] for n in known if n in columns), None)
    if name is None:
        raise InputError(
            f"{where} has columns {', '.join(table.column_names)!s:.300}; none is "
            f"known to hold {what} files. Name it with the option {what}, or give a "
            f"pattern: {what}={what}/{{column}}.png."
        )
    return [str(value) for value in table[name].to_pylist()]


def _filled(table: pa.Table, where: Path, pattern: str) -> list[str]:
    names = _FIELD.findall(pattern)
    unknown = [name for name in names if name not in table.column_names]
    if unknown:
        raise InputError(f"{where} has no column {unknown[0]!r:.60} for {pattern!r}.")
    values = {name: [str(v) for v in table[name].to_pylist()] for name in names}
    return [
        _FIELD.sub(lambda match, row=row: values[match[1]][row], pattern)  # type: ignore[misc]
        for row in range(table.num_rows)
    ]
