"""Which kind of source a path is, and opening it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from napari_embed.errors import InputError
from napari_embed.sources.containers import array_shapes, is_zarr
from napari_embed.sources.folder import FolderSource
from napari_embed.sources.images import EXTENSIONS
from napari_embed.sources.objects import ObjectsSource
from napari_embed.sources.objects.options import OPTION_NAMES
from napari_embed.sources.ome_metadata import is_ome_zarr
from napari_embed.sources.ome_zarr import OmeZarrSource
from napari_embed.sources.spec import Source, SourceKind, SourceSpec
from napari_embed.sources.stacks import ImagesSource, VectorsSource, sample_path
from napari_embed.sources.table import TableSource, parquet_kind

__all__ = ["detect_source", "open_source"]

_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_ARRAYS = (".npy", ".npz", ".zarr")
_TABLE_OPTIONS = ("image_path", "label", "vectors", "root")


def open_source(spec: SourceSpec) -> Source:
    """Open a source; cheap, nothing is listed or decoded yet.

    Raises
    ------
    InputError
        If the path does not exist or does not hold what the kind needs, or an option
        is none of this kind of source.
    """
    if spec.kind == "folder":
        _check_options(spec, "A folder of images")
        return FolderSource(spec)
    if spec.kind == "sample":
        _check_options(spec, "The sample")
        return ImagesSource(spec, sample_path(spec.path))
    if spec.kind == "images":
        _check_options(spec, "An array of images", "array", "label", "layout")
        return ImagesSource(spec, spec.location)
    if spec.kind == "ome-zarr":
        _check_options(spec, "An OME-Zarr", "tile", "channels")
        return OmeZarrSource(spec)
    if spec.kind == "objects":
        _check_options(spec, "Objects of a labels image", *OPTION_NAMES)
        return ObjectsSource(spec)
    if spec.kind == "vectors" and spec.location.suffix.lower() in _ARRAYS:
        _check_options(spec, "An array of vectors", "array", "label")
        return VectorsSource(spec)
    _check_options(spec, "A table", *_TABLE_OPTIONS)
    return TableSource(spec)


def _check_options(spec: SourceSpec, what: str, *known: str) -> None:
    """Refuse options that would do nothing."""
    unknown = [name for name in spec.options if name not in known]
    if unknown:
        choice = f"the options {', '.join(known)}" if known else "no options"
        raise InputError(
            f"{what} has {choice}; {', '.join(unknown)!s:.200} cannot be used with "
            f"{spec.path}."
        )


def detect_source(path: str | Path, *, kind: str = "auto") -> SourceSpec:
    """Return the description of what lies at ``path``.

    A folder is a folder of images unless it is a Zarr store or an OME-Zarr; ``.csv``,
    ``.tsv`` and ``.parquet`` are tables; ``.npy``, ``.npz`` and ``.zarr`` hold images
    when an array has three or four dimensions, vectors when it has two. The word
    ``sample`` is the bundled data set, unless a file has that name.

    Parameters
    ----------
    path
        File or folder.
    kind
        "auto", or a kind of `SourceSpec` to insist on.

    Raises
    ------
    InputError
        If there is nothing at ``path`` or its kind cannot be told.
    """
    text = str(path)
    location = Path(text).expanduser().absolute()
    if kind == "sample" or (text == "sample" and not location.exists()):
        return SourceSpec("sample", "fashion" if text == "sample" else text)
    if not location.exists():
        raise InputError(f"There is nothing at {location}. Check the path.")
    if kind != "auto":
        return SourceSpec(cast(SourceKind, kind), str(location))
    return SourceSpec(_kind_of(location), str(location))


def _kind_of(location: Path) -> SourceKind:
    suffix = location.suffix.lower()
    if location.is_dir() and is_ome_zarr(location):
        return "ome-zarr"
    if is_zarr(location) or suffix in (".npy", ".npz"):
        shapes = array_shapes(location)
        if any(len(shape) >= 3 for shape in shapes.values()):
            return "images"
        if any(len(shape) == 2 for shape in shapes.values()):
            return "vectors"
        raise InputError(
            f"{location} holds arrays of shapes {list(shapes.values())!s:.200}; images "
            "need 3 or 4 dimensions, vectors 2."
        )
    if location.is_dir():
        return "folder"
    if suffix in (".parquet", ".pq"):
        return parquet_kind(location)
    if suffix in _TABLES:
        return "table"
    if suffix in EXTENSIONS:
        raise InputError(
            f"{location} is one image. Choose the folder that holds the images."
        )
    raise InputError(
        f"{location.name} is not a known kind of source. Expected a folder of images, "
        f"a table ({', '.join(_TABLES)}) or arrays ({', '.join(_ARRAYS)})."
    )
