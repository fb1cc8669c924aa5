"""Pictures of single items, read in a thread for whoever shows them; bounded memory.

Whoever wants pictures names a channel; its newest wish replaces the one before. No Qt
here: news are handed to a callback on the reading thread.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.link.reader import ReadThumbnails, thumbnails_problem

__all__ = ["CHANNELS", "Picture", "PictureStore", "Sources"]

log = logging.getLogger(__name__)
Sources = Callable[[NDArray[np.int64]], Sequence[str]]
# Who waits, the most urgent first.
CHANNELS = ("hover", "gallery")
# Pictures per read: few, so that a newer wish never waits long.
BATCH = 48
_KEPT_BESIDE = 400  # bytes of a picture besides its pixels, about


@dataclass(frozen=True)
class Picture:
    """The thumbnail of an item and where it comes from, or why there is none."""

    values: NDArray[np.generic] | None
    source: str = ""
    error: str = ""


class PictureStore:
    """Reads pictures that are wanted, and keeps the last ones used.

    Parameters
    ----------
    read
        (m,) ids to (m, h, w) or (m, h, w, 1 or 3) thumbnails. May be slow, may raise.
    on_arrival
        Called on the reading thread with the (m,) ids that have arrived.
    sources
        (m,) ids to m paths or locations; as ``read``.
    cache_bytes
        Memory for pictures.
    """

    def __init__(
        self,
        read: ReadThumbnails,
        on_arrival: Callable[[NDArray[np.int64]], None],
        *,
        sources: Sources | None = None,
        cache_bytes: int = 64 * 2**20,
    ):
        self._read, self._sources = read, sources
        self._on_arrival = on_arrival
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, Picture] = OrderedDict()
        self._cached = 0
        self._wanted: dict[str, NDArray[np.int64]] = {}
        self._condition = threading.Condition()
        self._epoch = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def cached_bytes(self) -> int:
        """Memory that the pictures take."""
        return self._cached

    def get(self, item: int) -> Picture | None:
        """Return the picture of an item if it is here."""
        with self._condition:
            picture = self._cache.get(item)
            if picture is not None:
                self._cache.move_to_end(item)
            return picture

    def want(self, channel: str, ids: NDArray[np.int64]) -> None:
        """Ask for pictures, the first ones first; forgets the channel's last wish."""
        with self._condition:
            if self._closed:
                return
            missing = [i for i in ids.tolist() if i not in self._cache]
            self._wanted[channel] = np.array(missing, dtype=np.int64)
            if missing and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="napari-embed-pictures", daemon=True
                )
                self._thread.start()
            self._condition.notify()

    def clear(self) -> None:
        """Forget all pictures, because they changed."""
        with self._condition:
            self._epoch += 1
            self._cache.clear()
            self._cached = 0
            self._wanted.clear()

    def close(self, timeout: float = 2.0) -> bool:
        """Stop the thread; return False if a read still holds it after ``timeout`` s.

        Such a thread ends with its read and delivers nothing.
        """
        with self._condition:
            self._closed = True
            self._wanted.clear()
            self._cache.clear()
            self._condition.notify()
            thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _next_batch(self) -> NDArray[np.int64]:
        """Take the next few ids of the most urgent channel; empty when none waits."""
        for channel in CHANNELS:
            ids = self._wanted.get(channel)
            if ids is not None and len(ids):
                self._wanted[channel] = ids[BATCH:]
                return ids[:BATCH]
        return np.zeros(0, dtype=np.int64)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and not len(ids := self._next_batch()):
                    self._condition.wait()
                if self._closed:
                    return
                epoch = self._epoch
            pictures = self._load(ids)
            with self._condition:
                if self._closed:
                    return
                if epoch == self._epoch:
                    self._remember(ids, pictures)
            if epoch == self._epoch:
                self._on_arrival(ids)

    def _load(self, ids: NDArray[np.int64]) -> list[Picture]:
        try:
            page = np.asarray(self._read(ids))
            problem = thumbnails_problem(page, len(ids))
            names = ["" for _ in ids]
            if self._sources is not None:
                names = [str(name) for name in self._sources(ids)]
        except Exception as error:  # noqa: BLE001  (any reader, any disk: tell, go on)
            problem = str(error).strip() or type(error).__name__
            log.warning("reading %d pictures failed: %s", len(ids), problem)
            names = ["" for _ in ids]
        if problem:
            return [Picture(None, name, problem) for name in names]
        # Copies: a view would keep the whole batch in memory.
        return [Picture(v.copy(), n) for v, n in zip(page, names, strict=True)]

    def _remember(self, ids: NDArray[np.int64], pictures: list[Picture]) -> None:
        for item, picture in zip(ids.tolist(), pictures, strict=True):
            old = self._cache.pop(item, None)
            self._cached += _size(picture) - (_size(old) if old is not None else 0)
            self._cache[item] = picture
        while self._cached > self._cache_bytes and self._cache:
            self._cached -= _size(self._cache.popitem(last=False)[1])


def _size(picture: Picture) -> int:
    pixels = 0 if picture.values is None else picture.values.nbytes
    return pixels + _KEPT_BESIDE
