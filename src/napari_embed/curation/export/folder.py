"""A folder of pictures, as links or copies, under names that we choose.

No text of the data becomes a path: labels are reduced to letters, digits and a few
signs, and file names are the item's number.
"""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from napari_embed.curation.export.rows import Rows, image_root, whole_folder
from napari_embed.errors import EmbedError, InputError
from napari_embed.sources.images import EXTENSIONS, MAX_FILE_BYTES
from napari_embed.sources.paths import (
    check_relative_name,
    open_confined,
    read_confined,
)

__all__ = ["write_folder"]

INDEX_NAME = "items.csv"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_NAME = 60
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def write_folder(
    rows: Rows,
    target: Path,
    *,
    how: Literal["link", "copy"] = "copy",
    by_label: bool = True,
) -> int:
    """Write one picture per item; return how many.

    Parameters
    ----------
    rows
        Items; rows of an array become PNG files.
    target
        A new folder; it appears only when it is complete.
    how
        "link" makes symbolic links to the image files, "copy" copies them.
    by_label
        Make a folder per label, as most training code reads; else all in one.

    ``items.csv`` in it tells for each file the item, its label and where it was, and
    for those that could not be read, why.

    Raises
    ------
    InputError
        If there are no images, or nothing to link to.
    StoreError
        If the folder cannot be written.
    """
    project = rows.project
    if not project.has_images:
        raise InputError("These items have no images, so there are none to export.")
    if how not in ("link", "copy"):
        raise InputError(f"how must be 'link' or 'copy', got {how!r}.")
    files = project.spec.kind in ("folder", "table")
    if how == "link" and not files:
        raise InputError(
            "These images are rows of an array, so there are no files to link to. "
            "Choose copies."
        )
    names = _FolderNames()
    written = 0
    with whole_folder(target) as folder:
        with open(folder / INDEX_NAME, "x", encoding="utf-8", newline="") as index:
            table = csv.writer(index)
            table.writerow(["file", "id", "label", "source", "error"])
            for block in rows.blocks():
                ids = block["id"].to_numpy()
                items = project.items(["source"], rows=ids)
                pixels = None if files else project.source().read(items, shrink_to=None)
                for number, source, label in zip(
                    ids.tolist(), items["source"].to_pylist(),
                    block["label"].to_pylist(), strict=True,
                ):  # fmt: skip
                    inside = names.of(label) if by_label else ""
                    name, error = "", ""
                    try:
                        name = _put(rows, folder / inside, number, source, how, pixels)
                        written += 1
                    except EmbedError as problem:
                        error = str(problem)
                    place = f"{inside}/{name}" if inside and name else name
                    cells = [label or "", str(source), error]
                    table.writerow([place, number, *map(_guarded, cells)])
        if not written:
            raise InputError("None of these images can be read; nothing was written.")
    return written


def _put(
    rows: Rows, folder: Path, number: int, source: Any, how: str, pixels: Any
) -> str:
    """Write one picture and return its file's name."""
    if pixels is not None:
        image, error = next(pixels)
        if image is None:
            raise InputError(error or "The image could not be read.")
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG")
        return _save(folder, f"{number:08d}.png", content.getvalue())
    root = image_root(rows.project)
    ending = os.path.splitext(str(source))[1].lower()
    name = f"{number:08d}{ending if ending in EXTENSIONS else '.img'}"
    if how == "copy":
        data = read_confined(root, str(source), max_bytes=MAX_FILE_BYTES)
        return _save(folder, name, data)
    os.close(open_confined(root, str(source)))  # refuses what is not inside
    folder.mkdir(exist_ok=True)
    place = os.path.realpath(root / check_relative_name(str(source), root))
    os.symlink(place, folder / name)
    return name


def _save(folder: Path, name: str, data: bytes) -> str:
    folder.mkdir(exist_ok=True)
    with open(folder / name, "xb") as file:
        file.write(data)
    return name


class _FolderNames:
    """Harmless folder names for labels, each label its own."""

    def __init__(self) -> None:
        self._names: dict[str | None, str] = {}
        self._taken = {INDEX_NAME}

    def of(self, label: str | None) -> str:
        """Return the folder of a label."""
        if label not in self._names:
            plain = _UNSAFE.sub("_", label or "")[:_MOST_NAME].strip("._- ")
            if not plain or _RESERVED.fullmatch(plain):
                plain = f"label_{plain}" if label else "no_label"
            name, count = plain, 1
            # Some systems do not tell upper from lower case.
            while name.lower() in self._taken:
                count += 1
                name = f"{plain}_{count}"
            self._taken.add(name.lower())
            self._names[label] = name
        return self._names[label]


def _guarded(text: str) -> str:
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n") else text
