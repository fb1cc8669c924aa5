"""Where a project of a source lives, and what a path that was dropped is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from napari_embed.errors import EmbedError, InputError
from napari_embed.gui.settings import data_folder
from napari_embed.project.manifest import MANIFEST_NAME, read_manifest
from napari_embed.sources import SourceSpec

__all__ = ["SUFFIX", "is_project", "new_project_path", "project_path"]

SUFFIX = ".embed"


def is_project(path: Path) -> bool:
    """Return whether ``path`` is a project folder."""
    return path.is_dir() and (path / MANIFEST_NAME).is_file()


def _can_write(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _is_of(folder: Path, source: Path | None) -> bool:
    """Return whether the project in ``folder`` was made of ``source``."""
    try:
        spec = read_manifest(folder).source
    except EmbedError:
        return True  # opening it will tell what is wrong
    if source is None:
        return spec.kind == "sample"
    return Path(spec.path).resolve() == source.resolve()


def project_path(source: Path | None) -> Path:
    """Return where to keep the project of ``source`` (None: the bundled sample).

    Beside the source where that folder can be written, otherwise in the user's data
    folder. A name that something else has already gets a number.

    Raises
    ------
    InputError
        If ``source`` does not exist.
    """
    if source is None:
        name, folder = "Fashion sample", data_folder()
    else:
        source = Path(source).expanduser().absolute()
        if not source.exists():
            raise InputError(
                f"There is no {source}. Give a folder of images, an array (.npy, .npz, "
                ".zarr), a table (.csv, .parquet) or a project (.embed)."
            )
        name = source.name if source.is_dir() else source.stem
        folder = _folder_for(source)
    return next(
        path
        for path in _places(folder, name)
        if not path.exists() or (is_project(path) and _is_of(path, source))
    )


def new_project_path(spec: SourceSpec) -> Path:
    """Return where a new project of a source with options goes: a name not in use."""
    parts = [spec.location.name.split(".")[0], str(spec.options.get("labels") or "")]
    words = dict.fromkeys(p for p in parts if p and not set(p) & set('/\\{}<>:"|?*'))
    name, folder = " ".join(words) or "objects", _folder_for(spec.location)
    return next(path for path in _places(folder, name) if not path.exists())


def _folder_for(source: Path) -> Path:
    return source.parent if _can_write(source.parent) else data_folder()


def _places(folder: Path, name: str) -> Iterator[Path]:
    numbers = ("" if i == 1 else f" {i}" for i in count(1))
    return (folder / f"{name}{number}{SUFFIX}" for number in numbers)
