"""Reading many items with a few threads, in order and with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_order"]

_GROUP = 16
_MAX_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, group: int = _GROUP
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by a few threads.

    Decoders release the GIL, so threads help; items travel in groups of ``group``
    because a future costs as much as a tiny JPEG. At most two groups per thread are
    ahead of the reader. Closing the generator early waits only for the groups that
    have started.
    """
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    groups = [items[i : i + group] for i in range(0, len(items), group)]
    if threads < 2 or len(groups) < 2:
        yield from map(function, items)
        return

    def run(several: Sequence[Item]) -> list[Result]:
        return [function(item) for item in several]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="napari-embed-read")
    waiting: deque[Future[list[Result]]] = deque()
    try:
        for several in groups:
            waiting.append(pool.submit(run, several))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
