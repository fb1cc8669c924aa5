"""Which of decoding, encoder and disk the others wait for."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Stopwatch"]

_KEPT = 0.8
_HUNGRY = 0.1
_LEAST_S = 0.5


class Stopwatch:
    """Adds up where a loop spends its time; the past counts less and less.

    Images are decoded ahead, so time spent waiting for them is time in which the
    encoder had nothing to do: more than a tenth of it makes decoding the bottleneck.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self._seconds = {"decode": 0.0, "model": 0.0, "disk": 0.0}
        self._total = 0.0

    def lap(self, name: str) -> None:
        """Count the time since the last lap as that of ``name``."""
        now = self._now()
        if name == "decode":  # a new round
            self._seconds = {k: _KEPT * v for k, v in self._seconds.items()}
        self._seconds[name] += now - self._last
        self._total += now - self._last
        self._last = now

    @property
    def slowest(self) -> str:
        """Return "decode", "model" or "disk"; "" at first."""
        total = sum(self._seconds.values())
        if self._total < _LEAST_S or total <= 0:
            return ""
        if self._seconds["decode"] > _HUNGRY * total:
            return "decode"
        return max(("model", "disk"), key=self._seconds.__getitem__)
