"""Files that are either the old or the new one, never half of either.

A file is written under a temporary name in the same folder, flushed to the disk and
renamed; the folder is flushed after it, because a rename alone does not survive a
power cut.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from napari_embed.errors import StoreError, StoreReadOnlyError

__all__ = [
    "STAGING",
    "atomic_file",
    "beside",
    "checksum_bytes",
    "checksum_file",
    "free_bytes",
    "new_staging_folder",
    "process_lives",
    "remove_stale",
    "remove_tree",
    "store_errors",
    "sweep",
    "sync_file",
    "sync_folder",
    "write_atomic",
]

STAGING = ".staging"
"""Folder inside a project for unfinished work; emptied when a writer opens it."""

_TEMPORARY = ".partial"  # the ending Zarr gives its temporary files, too
_MOST_NAME_BYTES = 100
# Of one file, by a process of another computer.
_LONGEST_WRITE_S = 24 * 3600.0
_UNIQUE = re.compile(r"([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{32}")


@contextlib.contextmanager
def store_errors(action: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into one clear `StoreError`.

    Raises
    ------
    StoreReadOnlyError
        When permissions or a read-only file system forbid writing.
    StoreError
        When the disk is full, or for any other OSError.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreReadOnlyError(
                f"Could not {action} {path}: {error.strerror}. Check the permissions, "
                "or choose a folder you may write to."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"Could not {action} {path}: {error.strerror} "
                f"({free_bytes(path) / 2**20:.1f} MiB free). Everything finished "
                "before is kept. Free some space and run the same step again; it "
                "continues where it stopped."
            ) from error
        raise StoreError(f"Could not {action} {path}: {error}.") from error


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds ``path``."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def sync_file(path: Path) -> None:
    """Flush one file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's names to the disk, where the system can do that."""
    if os.name == "nt":  # Windows has no handle to flush here
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum_file(path: Path) -> tuple[int, str]:
    """Return (size in bytes, 128-bit BLAKE2b as hex) of a file.

    A cryptographic hash rather than a CRC: it costs little beside decoding and also
    tells two swapped or stale chunks apart.
    """
    digest = _digest()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def checksum_bytes(content: bytes) -> str:
    """Return the hash that `checksum_file` gives for a file of this content."""
    return _digest(content).hexdigest()


def _digest(content: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=16)


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open ``path`` for binary writing; it appears, whole, only on success.

    Raises
    ------
    StoreError
        If it exists and ``overwrite`` is false, or cannot be written.
    """
    if not overwrite and path.exists():
        raise StoreError(
            f"{path} exists already. Choose another name, or allow overwriting."
        )
    temporary = beside(path)
    with store_errors("write", path):
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def beside(path: Path) -> Path:
    """Return a new hidden name in the same folder, which says whose work it is.

    The system counts bytes, not characters: a name of 100 Chinese ones has 300.
    """
    name = _shortened(path.name)
    unique = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex}"
    return path.with_name(f".{name}.{unique}{_TEMPORARY}")


def remove_stale(path: Path) -> None:
    """Delete what `beside` named for ``path`` in processes that are gone.

    Those of other computers and of running processes stay.
    """
    start = f".{_shortened(path.name)}."
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(path.parent)):
            if not (entry.name.startswith(start) and entry.name.endswith(_TEMPORARY)):
                continue
            found = _UNIQUE.fullmatch(
                entry.name.removeprefix(start).removesuffix(_TEMPORARY)
            )
            if not (found and found[1] == _host()) or process_lives(int(found[2])):
                continue
            if entry.is_dir(follow_symlinks=False):
                _delete(Path(entry.path))
            else:
                os.unlink(entry.path)


def process_lives(pid: int) -> bool:
    """Return whether a process of this computer runs; True where it cannot be told."""
    if os.name == "nt":
        return True  # a signal 0 would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _shortened(name: str) -> str:
    return name.encode("utf-8", "ignore")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")


def _host() -> str:
    return _digest(socket.gethostname().encode("utf-8", "replace")).hexdigest()[:8]


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the content of a file in one step."""
    with atomic_file(path) as file:
        file.write(content)


def new_staging_folder(root: Path) -> Path:
    """Create an empty folder for unfinished work inside project ``root``."""
    folder = root / STAGING / uuid.uuid4().hex
    with store_errors("create", folder):
        folder.mkdir(parents=True)
    return folder


def remove_tree(root: Path, path: Path) -> None:
    """Remove a folder in one visible step: moved away first, then deleted."""
    if not path.exists() and not path.is_symlink():
        return
    target = new_staging_folder(root) / "removed"
    with store_errors("remove", path):
        os.replace(path, target)
        _delete(target.parent)
    with contextlib.suppress(OSError):  # not empty: somebody else's work
        (root / STAGING).rmdir()


def sweep(root: Path) -> None:
    """Delete what an interrupted writer left: staged work and temporary files.

    Those of processes that may still be at work on other chunks stay.
    """
    staging = root / STAGING
    if staging.is_symlink():
        with store_errors("remove", staging):
            staging.unlink()
    elif staging.is_dir():
        _delete(staging)
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if name.endswith(_TEMPORARY) and not _may_be_in_use(path):
                    os.unlink(path)


def _may_be_in_use(path: str) -> bool:
    """Return whether a temporary file may still be written to by another process."""
    found = _UNIQUE.search(path.removesuffix(_TEMPORARY))
    if found is None or int(found[2]) == os.getpid():
        return False
    if found[1] == _host():
        return process_lives(int(found[2]))
    return time.time() - os.stat(path).st_mtime < _LONGEST_WRITE_S


def _delete(folder: Path, remove: Callable[..., None] = shutil.rmtree) -> None:
    """Delete a folder; what resists is left for the next time."""
    remove(folder, ignore_errors=True)
