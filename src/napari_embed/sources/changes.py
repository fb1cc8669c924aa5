"""What has changed in a source since its items were listed: files and rows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import UnsafePathError
from napari_embed.sources.folder import FolderSource
from napari_embed.sources.paths import check_relative_name
from napari_embed.sources.spec import ProgressCallback, Source
from napari_embed.sources.table import TableSource

__all__ = [
    "MISSING",
    "UNKNOWN",
    "file_root",
    "file_states",
    "match_items",
    "object_identity",
    "object_states",
]

MISSING = -1
"""Size of a file that is not there."""
UNKNOWN = -2
"""Size of a file nobody looked at."""

_PROGRESS_EVERY = 5000


def file_root(source: Source) -> Path | None:
    """Return the folder that the items' files lie in; None where items are no files."""
    if isinstance(source, FolderSource):
        return source.root
    if isinstance(source, TableSource) and source.has_images:
        return source.root
    return None


def file_states(
    root: Path, names: Iterable[str], *, progress: ProgressCallback | None = None
) -> NDArray[np.int64]:
    """Return (n, 2): size in bytes and time of the last change in ns of each file.

    A file that is missing, or whose name leaves ``root``, has the size -1.
    """
    rows = []
    for number, name in enumerate(names):
        state = (MISSING, 0)
        with contextlib.suppress(OSError, ValueError, UnsafePathError):
            found = os.stat(os.path.join(root, check_relative_name(name, root)))
            state = (found.st_size, found.st_mtime_ns)
        rows.append(state)
        if progress and number % _PROGRESS_EVERY == 0:
            progress(number, 0)
    return np.array(rows, np.int64).reshape(-1, 2)


def object_identity(source: str) -> str:
    """Return picture, time point and label of an object, without place and shape."""
    return source.rsplit("@", 1)[0]


def object_states(sources: Sequence[str]) -> NDArray[np.int64]:
    """Return (n, 2): 0, and the checksum of place and shape of each object."""
    checks = [int(source.rsplit("#", 1)[-1], 16) for source in sources]
    return np.stack([np.zeros(len(checks), np.int64), np.array(checks, np.int64)], 1)


def match_items(known: Sequence[str], listed: Sequence[str]) -> NDArray[np.int64]:
    """Return for each known item its row in a new listing, (n,), -1 where it is gone.

    A name that occurs several times is matched in order.
    """
    rows: dict[str, list[int]] = {}
    for row in range(len(listed) - 1, -1, -1):
        rows.setdefault(listed[row], []).append(row)
    found = [rows[name].pop() if rows.get(name) else -1 for name in known]
    return np.array(found, np.int64)
