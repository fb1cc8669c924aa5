"""Opening files whose names come from data: inside one folder, regular files only.

The decision is taken on the opened descriptor, not on the name: a link that is swapped
between check and use changes nothing.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import sys
from pathlib import Path

from napari_embed.errors import ImageDecodeError, UnsafePathError

__all__ = ["check_relative_name", "open_confined", "read_confined"]

# Two letters or more: not a drive. "plate:01.png" is a file name like any other.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")
_DRIVE = re.compile(r"[A-Za-z]:")
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not block us
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def check_relative_name(name: str, root: Path) -> str:
    """Return ``name`` relative to ``root``, or refuse it by its text alone.

    Absolute names are taken when they lie in ``root``.

    Raises
    ------
    UnsafePathError
        For URLs, drives, UNC names, NUL characters and names that leave ``root``.
    """
    if not name or "\0" in name or len(name) > 4096:
        raise UnsafePathError("The image path is empty, too long or holds a NUL.")
    if name.startswith(("\\\\", "//")):
        raise UnsafePathError(f"{name!r:.200} is a network path; copy the files here.")
    if os.name != "nt" and _DRIVE.match(name):
        # "c:x" may be an odd file name here, but on Windows it leaves the folder.
        raise UnsafePathError(
            f"{name!r:.200} names a drive, expected a path in {root}."
        )
    if _URL.match(name):
        raise UnsafePathError(f"{name!r:.200} is a URL; only local files are read.")
    relative = os.path.relpath(name, root) if os.path.isabs(name) else name
    normal = os.path.normpath(relative)
    parts = normal.replace("\\", "/").split("/")
    if os.path.isabs(normal) or ".." in parts:
        raise UnsafePathError(
            f"{name!r:.200} lies outside {root}. Set the image root to a folder that "
            "holds all images."
        )
    return normal


def open_confined(root: Path, name: str) -> int:
    """Open a regular file inside ``root`` for reading and return its descriptor.

    Symbolic links are followed as long as they end inside ``root``.

    Raises
    ------
    UnsafePathError
        If the file lies elsewhere or is a device, FIFO, socket or folder.
    ImageDecodeError
        If it does not exist or cannot be opened.
    """
    path = os.path.join(root, check_relative_name(name, root))
    real_root = _real_folder(str(root))
    try:
        # Looked at before opening too: opening some devices has effects.
        if not _looks_harmless(path, real_root):
            raise UnsafePathError(_refusal(name, root))
        descriptor = os.open(path, _OPEN_FLAGS)
    except UnsafePathError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageDecodeError(f"cannot be opened: {reason}") from error
    try:
        found = os.fstat(descriptor)
        where = _path_of(descriptor, path)
        if not _is_regular(found) or not _inside(where, real_root):
            raise UnsafePathError(_refusal(name, root))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_confined(root: Path, name: str, *, max_bytes: int) -> bytes:
    """Return the content of a regular file inside ``root``.

    Raises
    ------
    UnsafePathError, ImageDecodeError
        As `open_confined`, and if it is larger than ``max_bytes``.
    """
    descriptor = open_confined(root, name)
    try:
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise ImageDecodeError(
                f"the file has {size / 2**20:.0f} MiB, at most "
                f"{max_bytes / 2**20:.0f} MiB are read"
            )
        pieces = []
        while size > 0 and (piece := os.read(descriptor, size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


@functools.lru_cache(maxsize=4096)
def _real_folder(path: str) -> str:
    """Return where a folder really is; may be outdated, so never the last word."""
    return os.path.realpath(path)


def _looks_harmless(path: str, real_root: str) -> bool:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return _is_regular(os.stat(path)) and _inside(os.path.realpath(path), real_root)
    folder = os.path.dirname(path)
    return _is_regular(found) and _inside(_real_folder(folder), real_root)


def _is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def _inside(path: str, real_root: str) -> bool:
    return path == real_root or path.startswith(real_root.rstrip(os.sep) + os.sep)


def _path_of(descriptor: int, path: str) -> str:
    """Return where an open file really is, as the kernel knows it when it can say."""
    if sys.platform == "linux":
        try:
            return os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            pass  # no /proc here: compare files below
    where = os.path.realpath(path)
    if not os.path.samestat(os.stat(where), os.fstat(descriptor)):
        raise UnsafePathError("The file was exchanged while it was being opened.")
    return where


def _refusal(name: str, root: Path) -> str:
    return f"{name!r:.200} is not a regular file inside {root}"
