"""One writer per project: a file lock that names its holder.

The lock itself belongs to the operating system (``flock`` or ``msvcrt.locking``), so it
ends with the process that holds it, however that dies; the file's text only says who.
Where a file system has no locks, and across hosts, the text decides: a dead process of
this host is taken over, another host's is left to a person.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from napari_embed.errors import StoreLockedError
from napari_embed.project.atomic import process_lives, store_errors

__all__ = ["CURATION_LOCK_NAME", "LOCK_NAME", "Holder", "WriterLock"]

LOCK_NAME = "writer.lock"
CURATION_LOCK_NAME = "curation.lock"
"""Of the one process that decides; it does not wait for one that computes."""
_WINDOWS_LOCK_OFFSET = 1 << 20  # far behind the text, which others must still read
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Holder:
    """Who writes: process id, host name and since when (UTC, ISO 8601)."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class WriterLock:
    """The right to write to one project; a context manager.

    Parameters
    ----------
    root
        The project's folder.
    name
        Of the lock file.

    Raises
    ------
    StoreLockedError
        If another process, or this one, already writes; the holder is named.
    StoreReadOnlyError
        If the folder cannot be written to.
    """

    def __init__(self, root: Path, name: str = LOCK_NAME) -> None:
        self.path = root / name
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with store_errors("lock", self.path):
            self._file: int | None = os.open(self.path, flags, 0o644)
        try:
            self._acquire(self._file)
        except BaseException:
            self._close()
            raise

    def _acquire(self, file: int) -> None:
        free = _try_lock(file)
        holder = _read_holder(file)
        if free is False or (holder is not None and _may_live(holder, free)):
            raise StoreLockedError(self._refusal(holder, free))
        me = Holder(
            os.getpid(),
            socket.gethostname(),
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        with store_errors("lock", self.path):
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(me.__dict__).encode(), 0) if hasattr(
                os, "pwrite"
            ) else _write_at_start(file, json.dumps(me.__dict__).encode())
            os.fsync(file)

    def _refusal(self, holder: Holder | None, free: bool | None) -> str:
        who = str(holder) if holder else "another process"
        if free is not False and holder and holder.host != socket.gethostname():
            return (
                f"The project {self.path.parent} is marked as being written by {who}. "
                "Whether that process still runs cannot be seen from this computer. "
                f"Make sure on {holder.host} that it does not, then delete the file "
                f"{self.path} and try again; two writers at once would damage the "
                "project. Looking at it works meanwhile."
            )
        if self.path.name == CURATION_LOCK_NAME:
            return (
                f"Decisions about {self.path.parent} are being made by {who}. Close "
                "the project there to decide here. Looking at it works meanwhile."
            )
        return (
            f"The project {self.path.parent} is being written by {who}. Wait until it "
            "is done, or stop it. Looking at it works meanwhile."
        )

    def release(self) -> None:
        """Give the lock back; calling it twice does no harm."""
        if self._file is not None:
            # The file stays: deleting it would race with the next writer's open.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _try_lock(file: int) -> bool | None:
    """Return True when locked, False when held by another, None without locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, _WINDOWS_LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        return None
    return True


def _write_at_start(file: int, content: bytes) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, content)


def _read_holder(file: int) -> Holder | None:
    """Return who the file names, or None when it is empty or unreadable."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        values = json.loads(os.read(file, _MAX_TEXT) or b"null")
        return Holder(int(values["pid"]), str(values["host"]), str(values["since"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _may_live(holder: Holder, locked: bool | None) -> bool:
    """Return whether a named holder must be respected.

    With a lock in hand, a holder on this host is certainly dead. Locks of a network
    file system may not reach other hosts, so another host's holder is respected.
    """
    if holder.host != socket.gethostname():
        return True
    return locked is None and process_lives(holder.pid)
