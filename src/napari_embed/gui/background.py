"""Slow reads on a thread of their own; a late answer to an old request is dropped."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Background", "call_now"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


def call_now(function: Callable[[], None]) -> None:
    """Call at once: the poster of a program without an event loop."""
    function()


class Background:
    """Run work off the main thread and deliver its result on the main thread.

    Parameters
    ----------
    post
        Hands a callable to the main thread; called from the worker thread.
    threaded
        False does the work in the call, for tests without an event loop.
    """

    def __init__(
        self, post: Callable[[Callable[[], None]], None], *, threaded: bool = True
    ) -> None:
        self._post = post
        self._numbers: dict[str, int] = defaultdict(int)
        self._closed = False
        self._pool = (
            ThreadPoolExecutor(1, thread_name_prefix="napari-embed-read")
            if threaded
            else None
        )

    def run(
        self,
        topic: str,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        *,
        dropped: Callable[[T], None] | None = None,
    ) -> None:
        """Start ``work``; only the newest request of a ``topic`` is answered.

        ``dropped`` gets a result that came too late, to release what it holds.
        """
        if self._closed:
            return
        self._numbers[topic] += 1
        number = self._numbers[topic]

        def task() -> None:
            if number != self._numbers[topic] or self._closed:
                return
            try:
                result: Any = work()
            except Exception as error:  # BLE001: thread boundary, shown in place
                logger.debug("%s failed", topic, exc_info=True)
                self._deliver(topic, number, lambda e=error: failed(e))
            else:
                late = None if dropped is None else lambda: dropped(result)
                self._deliver(topic, number, lambda: done(result), late)

        if self._pool is None:
            task()
        else:
            self._pool.submit(task)

    def drop(self, topic: str) -> None:
        """Let no answer to an earlier request of ``topic`` arrive."""
        self._numbers[topic] += 1

    def _deliver(
        self,
        topic: str,
        number: int,
        call: Callable[[], None],
        late: Callable[[], None] | None = None,
    ) -> None:
        def arrive() -> None:
            if not self._closed and number == self._numbers[topic]:
                call()
            elif late is not None:
                late()

        if not self._closed:
            self._post(arrive)
        elif late is not None:
            late()

    def close(self, *, wait: bool = True) -> None:
        """Drop what is waiting, wait for what is running unless told not to."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
