"""Progress reports and the switch that cancels, pauses or ends a job.

Stations below the engine know only a callback ``progress(done, total)`` that may raise
:class:`~napari_embed.errors.JobCancelled`; :meth:`JobControl.reporter` makes one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_embed.errors import JobCancelled

__all__ = ["JobControl", "Progress", "ProgressCallback"]

ProgressCallback = Callable[[int, int], None]

RATE_WINDOW_S = 30.0
RATE_MIN_S = 0.2


@dataclass(frozen=True)
class Progress:
    """How far one stage of a job is.

    Attributes
    ----------
    stage
        What is being done, in a word or two ("images", "neighbors").
    done, total
        Units finished and to finish; total 0 means it is not known yet.
    unit
        What is counted ("images", "rows", "iterations").
    rate
        Units per second over the last half minute without pauses; NaN at first.
    eta_s
        Seconds left at that rate; NaN at first.
    message
        A remark for the user, often empty.
    bottleneck
        What the others wait for: "decode", "model", "disk", or "" where it is not
        known.
    """

    stage: str
    done: int
    total: int
    unit: str = "items"
    rate: float = math.nan
    eta_s: float = math.nan
    message: str = ""
    bottleneck: str = ""

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1; 0 when the total is not known."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an unknown rate or time is None."""
        return {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": self.rate if math.isfinite(self.rate) else None,
            "eta_s": self.eta_s if math.isfinite(self.eta_s) else None,
            "message": self.message,
            "bottleneck": self.bottleneck,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """Build from the values of :meth:`to_dict`; other keys are ignored."""
        rate, eta = values.get("rate"), values.get("eta_s")
        return cls(
            stage=str(values["stage"]),
            done=int(values["done"]),
            total=int(values["total"]),
            unit=str(values.get("unit", "items")),
            rate=math.nan if rate is None else float(rate),
            eta_s=math.nan if eta is None else float(eta),
            message=str(values.get("message", "")),
            bottleneck=str(values.get("bottleneck", "")),
        )


class _Meter:
    """Rate of one stage over a sliding window of working time."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, now: float, done: int) -> float:
        samples = self._samples
        if samples and done < samples[-1][1]:  # the stage started again
            samples.clear()
        samples.append((now, done))
        while len(samples) > 2 and now - samples[0][0] > RATE_WINDOW_S:
            samples.popleft()
        seconds = now - samples[0][0]
        if seconds < RATE_MIN_S or done == samples[0][1]:
            return math.nan
        return (done - samples[0][1]) / seconds


class JobControl:
    """Carries progress out of a running job and the user's wishes into it.

    One thread runs the job and calls :meth:`progress` or :meth:`check`; any other
    thread may call :meth:`cancel`, :meth:`pause`, :meth:`resume` or :meth:`stop`.

    Parameters
    ----------
    on_progress
        Called with each report, at most once per ``interval_s`` and stage, always for
        a stage's first and last.
    on_log
        Called with sentences for the user.
    interval_s
        Shortest time between two reports, in seconds.
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        on_log: Callable[[str], None] | None = None,
        interval_s: float = 0.1,
    ) -> None:
        self._on_progress = on_progress
        self._on_log = on_log
        self._interval_s = interval_s
        self._cancelled = threading.Event()
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._paused_s = 0.0
        self._stage = ""
        self._meter = _Meter()
        self._last_report = -math.inf

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop without a result."""
        return self._cancelled.is_set()

    @property
    def paused(self) -> bool:
        """Whether the job is to wait."""
        return not self._running.is_set()

    @property
    def stop_requested(self) -> bool:
        """Whether an iterative job is to end now and keep what it has."""
        return self._stopped.is_set()

    def cancel(self) -> None:
        """Ask the job to stop; wakes a paused one."""
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        """Ask the job to wait at its next check."""
        if not self.cancelled:
            self._running.clear()

    def resume(self) -> None:
        """Let a paused job go on."""
        self._running.set()

    def stop(self) -> None:
        """Ask an iterative job to end now and keep its result."""
        self._stopped.set()
        self._running.set()

    def check(self) -> None:
        """Wait while paused.

        Raises
        ------
        JobCancelled
            If the job was cancelled.
        """
        if not self._running.is_set():
            started = time.monotonic()
            self._running.wait()
            self._paused_s += time.monotonic() - started
        if self._cancelled.is_set():
            raise JobCancelled("The job was cancelled; finished work is kept.")

    def progress(
        self,
        stage: str,
        done: int,
        total: int,
        *,
        unit: str = "items",
        message: str = "",
        bottleneck: str = "",
    ) -> None:
        """Report ``done`` of ``total`` and check for a wish to cancel or pause.

        Raises
        ------
        JobCancelled
            If the job was cancelled.
        """
        self.check()
        now = time.monotonic() - self._paused_s
        new_stage = stage != self._stage
        if new_stage:
            self._stage, self._meter = stage, _Meter()
        due = now - self._last_report >= self._interval_s
        if not (new_stage or due or done >= total or message):
            return
        rate = self._meter.rate(now, done)
        self._last_report = now
        if self._on_progress is not None:
            eta = (total - done) / rate if rate > 0 else math.nan
            self._on_progress(
                Progress(stage, done, total, unit, rate, eta, message, bottleneck)
            )

    def reporter(self, stage: str, *, unit: str = "items") -> ProgressCallback:
        """Return ``progress(done, total)`` for the stations below."""

        def report(done: int, total: int) -> None:
            self.progress(stage, int(done), int(total), unit=unit)

        return report

    def log(self, text: str) -> None:
        """Hand a sentence to the user."""
        if self._on_log is not None:
            self._on_log(text)
