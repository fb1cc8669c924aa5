"""Stages one after another in the engine process, as states a card can show. No Qt.

The engine reports on a thread of its own; every report crosses to the main thread
through ``post`` and there changes one entry of `ComputeQueue.runs`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from psygnal import Signal

from napari_embed.gui.state import Message, ProgressView

__all__ = ["ComputeQueue", "Engine", "JobHandle", "JobRequest", "Run", "read_event"]

logger = logging.getLogger(__name__)


class JobHandle(Protocol):
    """A job the engine has accepted."""

    def cancel(self) -> None:
        """Ask it to stop; finished work is kept."""

    def pause(self) -> None:
        """Let it wait at its next checkpoint."""

    def resume(self) -> None:
        """Let it go on."""

    def stop(self) -> None:
        """Let it end now and keep its result."""


class Engine(Protocol):
    """What the window needs of ``engine.client.EngineClient``."""

    def submit(
        self, job: str, on_event: Callable[[Any], None], **arguments: Any
    ) -> JobHandle:
        """Send a job; reports arrive on a reader thread."""

    def close(self) -> None:
        """End the process."""


@dataclass(frozen=True)
class JobRequest:
    """One stage to compute: the engine's job name and its arguments.

    ``before`` runs on the main thread just before the job is sent and may return more
    arguments (the name of a shared buffer, say).
    """

    stage: str
    job: str
    arguments: dict[str, Any] = field(default_factory=dict)
    before: Callable[[], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Run:
    """What a stage's job is doing."""

    stage: str
    status: str
    progress: ProgressView | None = None
    message: Message | None = None


def read_event(event: Any) -> tuple[str, dict[str, Any]]:
    """Return kind and content of an engine report."""
    return str(event.kind), dict(event.data)


def progress_view(data: dict[str, Any]) -> ProgressView:
    """Return the part of a progress report that a card shows."""
    return ProgressView(
        done=int(data.get("done") or 0),
        total=int(data.get("total") or 0),
        unit=str(data.get("unit") or ""),
        rate=_number(data.get("rate")),
        eta_s=_number(data.get("eta_s")),
        message=str(data.get("message") or ""),
        phase=str(data.get("stage") or ""),
        bottleneck=str(data.get("bottleneck") or ""),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


_KEPT = {
    "create": "Nothing was written.",
    "source": "Nothing was changed.",
    "embed": "Finished vectors are kept; Start goes on from there.",
    "neighbors": "The vectors are kept.",
    "projection": "Vectors, neighbours and the map as last saved are kept.",
}


def error_message(stage: str, data: dict[str, Any]) -> Message:
    """Return cause, what was kept and one action for an engine error."""
    kind = str(data.get("type") or "")
    text = str(data.get("message") or "The computation failed without a message.")
    action, label = "retry", "Try again"
    if stage in ("create", "source") or kind == "InputError":
        # The same input fails again.
        action, label = "", ""
    elif kind in ("ModelError", "UntrustedModelError", "MissingDependencyError"):
        action, label = "use_default_encoder", "Use the built-in encoder"
    elif kind in ("DeviceLostError", "DeviceMemoryError"):
        label = "Start again from what is kept"
    # Some causes say themselves what was kept.
    kept = "" if "kept" in text else _KEPT.get(stage, "")
    return Message(
        text, kept=kept, level="error", action=action,
        action_label=label,
    )  # fmt: skip


class ComputeQueue:
    """Runs requests in order; a failure or Cancel drops what waits behind.

    Parameters
    ----------
    engine_factory
        Starts the engine; called at the first job only.
    post
        Hands a callable to the main thread.
    """

    changed = Signal()
    finished = Signal(str, dict)  # stage, result
    stopped = Signal(str, str)  # stage, "error" or "cancelled"
    reported = Signal(str, str, dict)  # stage, kind, data: everything else

    def __init__(
        self,
        engine_factory: Callable[[], Engine],
        *,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._engine_factory = engine_factory
        self._engine: Engine | None = None
        self._post = post
        self._waiting: list[JobRequest] = []
        self._current: JobRequest | None = None
        self._job: JobHandle | None = None
        self._number = 0
        self._closed = False
        self.runs: dict[str, Run] = {}

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._current is not None

    @property
    def current_stage(self) -> str | None:
        """The stage that runs, or None."""
        return self._current.stage if self._current else None

    def start(self, requests: Sequence[JobRequest]) -> None:
        """Queue ``requests`` and start the first when nothing runs."""
        for request in requests:
            self.runs[request.stage] = Run(request.stage, "queued")
        self._waiting.extend(requests)
        self._next()
        self.changed.emit()

    def ask(self, job: str, answer: Callable[[dict[str, Any]], None]) -> None:
        """Ask a running engine something beside the stages; silence is no error."""
        if self._engine is None or self._closed:
            return

        def on_event(event: Any) -> None:
            kind, data = read_event(event)
            if kind == "done":
                self._post(lambda: None if self._closed else answer(data))

        self._engine.submit(job, on_event)

    def pause(self) -> None:
        """Pause the running job."""
        if self._job is not None and self._status() == "running":
            self._job.pause()
            self._set(status="paused")

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._job is not None and self._status() == "paused":
            self._job.resume()
            self._set(status="running")

    def stop(self) -> None:
        """Let a running projection end now and keep its map."""
        if self._job is not None and self._status() in ("running", "paused"):
            self._job.stop()
            self._set(status="cancelling")

    def cancel(self) -> None:
        """Stop the running job and forget those behind it; finished work is kept."""
        for request in self._waiting:
            self.runs.pop(request.stage, None)
        self._waiting.clear()
        if self._job is not None and self._current is not None:
            self._set(status="cancelling")
            self._job.cancel()
        else:
            self.changed.emit()

    def say(self, stage: str, message: Message) -> None:
        """Show a message on the card of a stage."""
        self.runs[stage] = Run(stage, "error", message=message)
        self.changed.emit()

    def dismiss(self, stage: str) -> None:
        """Forget the message of a stage that is not running."""
        run = self.runs.get(stage)
        if run is not None and run.message is not None:
            del self.runs[stage]
            self.changed.emit()

    def close(self) -> None:
        """End the engine process; no report is delivered afterwards."""
        self._closed = True
        self._waiting.clear()
        self._current = self._job = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _status(self) -> str:
        run = self.runs.get(self._current.stage) if self._current else None
        return run.status if run else ""

    def _set(self, **changes: Any) -> None:
        assert self._current is not None
        stage = self._current.stage
        self.runs[stage] = replace(self.runs[stage], **changes)
        self.changed.emit()

    def _next(self) -> None:
        if self._current is not None or not self._waiting or self._closed:
            return
        request = self._current = self._waiting.pop(0)
        self._number += 1
        number = self._number
        self.runs[request.stage] = Run(request.stage, "running", ProgressView())

        def on_event(event: Any) -> None:
            self._post(lambda: self._receive(number, event))

        try:
            more = request.before() if request.before else {}
            if self._engine is None:
                self._engine = self._engine_factory()
            self._job = self._engine.submit(
                request.job, on_event, **(request.arguments | more)
            )
        except Exception as error:  # BLE001: process boundary, shown on the card
            logger.debug("%s could not start", request.job, exc_info=True)
            self._fail({"type": type(error).__name__, "message": str(error)})

    def _receive(self, number: int, event: Any) -> None:
        if self._closed or number != self._number or self._current is None:
            return
        kind, data = read_event(event)
        stage = self._current.stage
        if kind == "progress":
            self._set(progress=progress_view(data))
        elif kind == "done":
            self._finish()
            self.runs.pop(stage, None)
            self.finished.emit(stage, data)
            self._next()
            self.changed.emit()
        elif kind == "error":
            self._fail(data)
        elif kind == "cancelled":
            self._finish()
            self._drop_waiting()
            self.runs.pop(stage, None)
            self.stopped.emit(stage, "cancelled")
            self.changed.emit()
        else:
            self.reported.emit(stage, kind, data)

    def _fail(self, data: dict[str, Any]) -> None:
        assert self._current is not None
        stage = self._current.stage
        self._finish()
        self._drop_waiting()
        self.runs[stage] = Run(stage, "error", message=error_message(stage, data))
        self.stopped.emit(stage, "error")
        self.changed.emit()

    def _finish(self) -> None:
        self._current = None
        self._job = None

    def _drop_waiting(self) -> None:
        for request in self._waiting:
            self.runs.pop(request.stage, None)
        self._waiting.clear()
