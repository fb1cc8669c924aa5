"""Read pages of thumbnails in a thread; the newest request wins.

No Qt here: results are handed to a callback on the reader's thread.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PageReader", "PageResult", "ReadThumbnails", "thumbnails_problem"]

log = logging.getLogger(__name__)
ReadThumbnails = Callable[[NDArray[np.int64]], NDArray[np.generic]]


@dataclass(frozen=True)
class PageResult:
    """Thumbnails of a request, or one sentence why there are none."""

    generation: int
    ids: NDArray[np.int64]
    thumbnails: NDArray[np.generic] | None
    error: str = ""


class PageReader:
    """One thread that reads the newest page asked for, with a small cache.

    Parameters
    ----------
    read
        (m,) ids to (m, h, w) or (m, h, w, 1 or 3) thumbnails. May be slow, may raise.
    on_page
        Called on the reader's thread with the result of a request, unless a newer one
        was made meanwhile.
    cache_bytes
        Memory for pages already read.
    """

    def __init__(
        self,
        read: ReadThumbnails,
        on_page: Callable[[PageResult], None],
        *,
        cache_bytes: int = 64 * 2**20,
    ):
        self._read = read
        self._on_page = on_page
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[bytes, NDArray[np.generic]] = OrderedDict()
        self._cached = 0
        self._condition = threading.Condition()
        self._wanted: tuple[int, NDArray[np.int64]] | None = None
        self._ahead: NDArray[np.int64] | None = None
        self._generation = 0
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name="napari-embed-pages", daemon=True
        )
        self._thread.start()

    @property
    def generation(self) -> int:
        """Number of the newest request."""
        return self._generation

    def request(
        self, ids: NDArray[np.int64], ahead: NDArray[np.int64] | None = None
    ) -> int:
        """Ask for a page, and one to read afterwards; return the request's number."""
        with self._condition:
            self._generation += 1
            self._wanted = (self._generation, ids)
            self._ahead = ahead
            self._condition.notify()
            return self._generation

    def drop(self) -> int:
        """Forget what is asked for: nothing that is being read will be delivered."""
        with self._condition:
            self._generation += 1
            self._wanted = self._ahead = None
            return self._generation

    def clear_cache(self) -> None:
        """Forget the pages read, because the thumbnails changed."""
        with self._condition:
            self._cache.clear()
            self._cached = 0

    def close(self, timeout: float = 2.0) -> bool:
        """Stop the thread; return False if a read still holds it after ``timeout`` s.

        Such a thread ends with its read and delivers nothing.
        """
        with self._condition:
            self._closed = True
            self._wanted = self._ahead = None
            self._condition.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._closed or self._wanted or self._ahead is not None):
                    self._condition.wait()
                if self._closed:
                    return
                wanted, self._wanted = self._wanted, None
                if wanted is None:
                    ahead, self._ahead = self._ahead, None
            if wanted is not None:
                self._deliver(self._load(*wanted))
            elif ahead is not None and len(ahead):
                self._load(0, ahead)

    def _deliver(self, result: PageResult) -> None:
        if not self._closed and result.generation == self._generation:
            self._on_page(result)

    def _load(self, generation: int, ids: NDArray[np.int64]) -> PageResult:
        key = ids.tobytes()
        with self._condition:
            page = self._cache.get(key)
            if page is not None:
                self._cache.move_to_end(key)
                return PageResult(generation, ids, page)
        try:
            page = np.asarray(self._read(ids))
        except Exception as error:  # noqa: BLE001  (any reader, any disk: tell, go on)
            reason = str(error).strip() or type(error).__name__
            log.warning("reading %d thumbnails failed: %s", len(ids), reason)
            return PageResult(generation, ids, None, reason)
        problem = thumbnails_problem(page, len(ids))
        if problem:
            return PageResult(generation, ids, None, problem)
        self._remember(key, page)
        return PageResult(generation, ids, page)

    def _remember(self, key: bytes, page: NDArray[np.generic]) -> None:
        with self._condition:
            self._cache[key] = page
            self._cached += page.nbytes
            while self._cached > self._cache_bytes and self._cache:
                self._cached -= self._cache.popitem(last=False)[1].nbytes


def thumbnails_problem(page: NDArray[np.generic], count: int) -> str:
    """Return what is wrong with thumbnails of ``count`` items, or ""."""
    right = page.ndim == 3 or (page.ndim == 4 and page.shape[-1] in (1, 3))
    if right and len(page) == count and page.dtype.kind in "uif" and page.size:
        return ""
    return (
        f"the thumbnails have shape {page.shape} and type {page.dtype} where "
        f"{count} pictures of (height, width[, 3]) numbers were expected"
    )
