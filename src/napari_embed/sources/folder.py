"""A folder of image files, sub-folders proposed as labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.sources.images import EXTENSIONS, decode_file, try_decode_file
from napari_embed.sources.reading import map_in_order
from napari_embed.sources.spec import (
    DEFAULT_SHRINK_TO_PX,
    MAX_ITEMS,
    DecodedItem,
    ProgressCallback,
    SourceSpec,
)

__all__ = ["FolderSource"]

_log = logging.getLogger(__name__)

_PROGRESS_EVERY = 1000


class FolderSource:
    """All images below a folder, ordered by their path.

    The label of an image is the name of the folder it lies in (none at the top). When
    folders are nested, a column ``folder`` keeps the whole relative path. Hidden files
    and folders are skipped, links to folders are not followed.

    Raises
    ------
    InputError
        If the folder does not exist.
    """

    has_images = True

    def __init__(self, spec: SourceSpec) -> None:
        self.root = spec.location
        self.spec = SourceSpec(spec.kind, str(self.root), spec.options)
        if not self.root.is_dir():
            raise InputError(
                f"There is no folder {self.root}. Check the path"
                + (": it is a file." if self.root.exists() else ".")
            )

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return ``source`` (path relative to the folder), ``label`` and ``folder``.

        Raises
        ------
        InputError
            If there are no images.
        """
        names: list[str] = []
        for name in _image_names(self.root):
            names.append(name)
            if len(names) > MAX_ITEMS:
                raise InputError(f"{self.root} holds more than {MAX_ITEMS:,} images.")
            if progress and len(names) % _PROGRESS_EVERY == 0:
                progress(len(names), 0)
        if not names:
            raise InputError(
                f"No images below {self.root}. Files with these endings are read: "
                f"{', '.join(sorted(EXTENSIONS))}."
            )
        names.sort()
        folders = [name.rpartition("/")[0] for name in names]
        labels = [folder.rpartition("/")[2] or None for folder in folders]
        columns = {
            "source": pa.array(names, pa.string()),
            "label": pa.array(labels, pa.string()).dictionary_encode(),
        }
        if any("/" in folder for folder in set(folders)):
            columns["folder"] = pa.array(folders, pa.string()).dictionary_encode()
        if progress:
            progress(len(names), len(names))
        return pa.table(columns)

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one decoded item per row, in order; a bad image never raises."""
        decode = partial(try_decode_file, self.root, shrink_to=shrink_to)
        return map_in_order(decode, items["source"].to_pylist())

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return one image, given its ``source`` value, unreduced."""
        return decode_file(self.root, item)

    def vectors(self) -> None:
        """Return None: a folder has no vectors."""

    def positions(self) -> None:
        """Return None: a folder has no positions."""


def _image_names(root: Path) -> Iterator[str]:
    """Yield relative paths with "/" of all files that look like images."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                        yield _printable(name)
        except OSError as error:
            if not folder:
                raise InputError(
                    f"{root} cannot be listed: {error.strerror}. Check the permissions."
                ) from error
            _log.warning(
                "The images in %r are left out: it cannot be listed (%s).",
                folder,
                error.strerror,
            )


def _printable(name: str) -> str:
    """Return a name that can be stored as UTF-8; undecodable bytes are replaced.

    Such a file is listed, and then found missing: it appears among the errors.
    """
    return name.encode("utf-8", "replace").decode("utf-8")
