"""Seconds of a piece of work, on the clock and of CPU, child processes included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil

__all__ = ["cpu_s", "timed"]


def cpu_s() -> float:
    """Return the CPU seconds of this process, all its threads, and its children."""
    mine = psutil.Process()
    total = 0.0
    for process in (mine, *mine.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def timed(work: Callable[[], Any], *, runs: int = 5) -> dict[str, float]:
    """Return the first and the median of the next runs in seconds, and their CPU."""
    seconds, cpu = [], []
    for _ in range(runs + 1):
        spent, started = cpu_s(), time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
        cpu.append(cpu_s() - spent)
    found = {"first_s": round(seconds[0], 4), "first_cpu_s": round(cpu[0], 2)}
    if runs:
        found["median_s"] = round(statistics.median(seconds[1:]), 4)
        # The system counts CPU in hundredths of a second: the mean says more.
        found["cpu_s"] = round(statistics.mean(cpu[1:]), 3)
    print(f"    {found}", flush=True)
    return found
