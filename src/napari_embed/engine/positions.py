"""Live positions in shared memory: one writer, any number of readers, no torn read.

The client owns a buffer: it creates it before a job and removes it afterwards. The
worker attaches by name and writes. Two slots are written in turn, each with its own
sequence number, so a reader takes a finished slot while the other is being written, and
notices when the writer came round before its copy was complete.

The memory is a mapped file, in ``/dev/shm`` where there is one. Compared with
``multiprocessing.shared_memory`` this needs no resource tracker (which up to Python
3.12 removes the memory when the *attached* process ends, and stays behind as a child
process), it reserves the space at once (a full ``/dev/shm`` is an error here, not a
SIGBUS in the middle of a copy), and what a killed client left can be found and removed.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError, StoreError

if sys.platform != "win32":
    import fcntl

__all__ = ["PositionsBuffer", "remove_leftovers"]

PREFIX = "napari-embed-positions-"
MAGIC = 0x6E65_706F_7331  # "nepos1"
HEADER_BYTES = 64
# Words of the header.
_MAGIC, _N, _D, _LATEST, _SLOT = 0, 1, 2, 3, 4
READ_ATTEMPTS = 100


def _fence() -> None:
    """Keep the processor from moving memory accesses across this point.

    An unlock releases and a lock acquires; a pair of each in this order is a full
    barrier, also on ARM, where plain stores may be seen out of order.
    """
    for _ in range(2):
        lock = threading.Lock()
        lock.acquire()
        lock.release()


def _folders() -> list[Path]:
    """Return the folders a buffer may live in, best first."""
    shared = Path("/dev/shm")  # noqa: S108  (shared memory, files made by mkstemp)
    folders = [shared] if shared.is_dir() and os.access(shared, os.W_OK) else []
    return [*folders, Path(tempfile.gettempdir())]


def _reserve(descriptor: int, size: int) -> None:
    """Give the file ``size`` bytes that are really there."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _new_file(size: int) -> tuple[int, Path]:
    """Create a private file of ``size`` bytes, locked for as long as it is open."""
    failure: OSError | None = None
    for folder in _folders():
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=folder)
        try:
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            _reserve(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            os.unlink(name)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            failure = error
        else:
            return descriptor, Path(name)
    raise StoreError(
        f"No room for {size / 2**20:.0f} MiB of live positions in "
        f"{' or '.join(map(str, _folders()))}. Free some space, or run without the "
        "live view."
    ) from failure


def remove_leftovers() -> int:
    """Remove buffers whose owner is gone (killed, say); return how many.

    An owner holds a lock on its file for as long as it lives, so a file that can be
    locked belongs to nobody.
    """
    removed = 0
    for folder in _folders():
        for path in folder.glob(PREFIX + "*"):
            with contextlib.suppress(OSError):  # in use, or another user's
                removed += _remove_if_unowned(path)
    return removed


def _remove_if_unowned(path: Path) -> int:
    if sys.platform == "win32":
        path.unlink()  # fails while anybody has it mapped
        return 1
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file of size 0 may be one that its owner is about to lock.
        if os.fstat(descriptor).st_size == 0:
            return 0
        path.unlink()
        return 1
    finally:
        os.close(descriptor)


class PositionsBuffer:
    """(n, d) float32 positions that one process writes while others read.

    Make one with :meth:`create` (owner) or :meth:`attach`; use it as a context manager
    or call :meth:`close`. The owner's :meth:`close` removes the memory; processes that
    are attached keep their view until they close too.
    """

    def __init__(self, path: Path, descriptor: int, *, owner: bool) -> None:
        self._path = path
        self._descriptor = descriptor
        self._owner = owner
        self._pid = os.getpid()
        self._map: mmap.mmap | None = mmap.mmap(descriptor, 0)
        words = HEADER_BYTES // 8
        self._head = np.frombuffer(self._map, np.int64, words)
        if owner:
            return
        n, d = self.shape
        size = HEADER_BYTES + 2 * 4 * n * d
        if self._head[_MAGIC] != MAGIC or n < 1 or d not in (2, 3):
            self.close()
            raise InputError(f"{path} holds no live positions.")
        if len(self._map) < size:
            found = len(self._map)
            self.close()
            raise InputError(f"{path} should hold {size} bytes, it holds {found}.")
        self._slots = self._slot_views(n, d)

    @classmethod
    def create(cls, n: int, d: int) -> PositionsBuffer:
        """Create a buffer for ``n`` positions of ``d`` (2 or 3) coordinates.

        Raises
        ------
        InputError
            If ``n`` or ``d`` is out of range.
        StoreError
            If there is no room for it.
        """
        if n < 1 or d not in (2, 3):
            raise InputError(f"Live positions need n >= 1 and d 2 or 3, got {n}, {d}.")
        remove_leftovers()
        descriptor, path = _new_file(HEADER_BYTES + 2 * 4 * n * d)
        buffer = cls(path, descriptor, owner=True)
        buffer._head[[_N, _D]] = n, d
        buffer._slots = buffer._slot_views(n, d)
        buffer._head[_MAGIC] = MAGIC
        return buffer

    @classmethod
    def attach(cls, name: str) -> PositionsBuffer:
        """Attach to the buffer of that :attr:`name`.

        Raises
        ------
        InputError
            If there is none, or the file is something else.
        """
        path = Path(name)
        if not path.name.startswith(PREFIX):
            raise InputError(f"{name} is not the name of live positions.")
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            raise InputError(f"There are no live positions {name}: {error}") from error
        if os.fstat(descriptor).st_size < HEADER_BYTES:
            os.close(descriptor)
            raise InputError(f"{name} holds no live positions.")
        return cls(path, descriptor, owner=False)

    def _slot_views(self, n: int, d: int) -> NDArray[np.float32]:
        if self._map is None:
            raise InputError("These live positions are closed.")
        flat = np.frombuffer(self._map, np.float32, 2 * n * d, HEADER_BYTES)
        return flat.reshape(2, n, d)

    @property
    def name(self) -> str:
        """What :meth:`attach` takes."""
        return str(self._path)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return int(self._head[_N]), int(self._head[_D])

    @property
    def sequence(self) -> int:
        """Number of the newest finished write, 0 before the first."""
        return int(self._head[_LATEST])

    def write(self, positions: NDArray[np.float32]) -> int:
        """Publish (n, d) ``positions`` and return their sequence number.

        Only one process may write.

        Raises
        ------
        InputError
            If the shape differs from the buffer's.
        """
        if positions.shape != self.shape:
            raise InputError(
                f"These live positions take shape {self.shape}, got {positions.shape}."
            )
        sequence = self.sequence + 1
        slot = sequence % 2
        self._head[_SLOT + slot] = -sequence  # being written
        _fence()
        self._slots[slot] = positions
        _fence()
        self._head[_SLOT + slot] = sequence
        _fence()
        self._head[_LATEST] = sequence
        return sequence

    def read(self, *, after: int = 0) -> tuple[int, NDArray[np.float32]] | None:
        """Return the newest (sequence number, copy of the positions).

        None if nothing newer than ``after`` is there, or if the writer came round
        during every attempt to copy (the next call will do).
        """
        for _ in range(READ_ATTEMPTS):
            sequence = self.sequence
            if sequence <= after:
                return None
            slot = sequence % 2
            if self._head[_SLOT + slot] != sequence:
                continue
            _fence()
            positions = self._slots[slot].copy()
            _fence()
            if self._head[_SLOT + slot] == sequence:
                return sequence, positions
        return None

    def close(self) -> None:
        """Let go of the memory; the owner also removes it. Safe to call twice."""
        if self._map is None:
            return
        # numpy's views hold the map open.
        del self._head
        self.__dict__.pop("_slots", None)
        self._map.close()
        self._map = None
        remove = self._owner and os.getpid() == self._pid  # not in a forked copy
        if remove and sys.platform != "win32":
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        if remove and sys.platform == "win32":
            with contextlib.suppress(OSError):  # the worker still has it mapped
                self._path.unlink()

    def __enter__(self) -> PositionsBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # An owner that was never closed must not leave memory behind.
        with contextlib.suppress(Exception):
            self.close()
