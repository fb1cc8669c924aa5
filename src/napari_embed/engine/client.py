"""Start, watch and restart the engine process, and talk to it. No Qt, no asyncio.

::

    with EngineClient() as engine:
        job = engine.submit("embed", print, project="photos.embed")
        job.wait()
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_embed.engine.environment import child_environment
from napari_embed.engine.progress import Progress
from napari_embed.engine.protocol import FINAL_EVENTS, decode, encode, rebuild_error
from napari_embed.errors import DeviceLostError, EmbedError, JobCancelled

__all__ = ["EngineClient", "Event", "Job"]

logger = logging.getLogger(__name__)

WORKER = ("-m", "napari_embed.engine.worker")
LAST_WORDS = 30
EXIT_GRACE_S = 3.0


@dataclass(frozen=True)
class Event:
    """A report about one job.

    Attributes
    ----------
    job_id
        Number of the job.
    kind
        "progress", "positions", "kl", "log", or one of the last: "done", "error",
        "cancelled".
    data
        What it says, as plain values. An error has ``kind`` (also as ``type``), the
        class name in :mod:`napari_embed.errors`, and ``message``.
    """

    job_id: int
    kind: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether the job is over."""
        return self.kind in FINAL_EVENTS

    @property
    def progress(self) -> Progress | None:
        """The progress of a "progress" event."""
        return Progress.from_dict(self.data) if self.kind == "progress" else None

    @property
    def error(self) -> EmbedError | None:
        """The exception of an "error" or "cancelled" event, not raised."""
        message = str(self.data.get("message", ""))
        if self.kind == "cancelled":
            return JobCancelled(message)
        if self.kind == "error":
            return rebuild_error(str(self.data.get("kind")), message)
        return None


class Job:
    """A job that was handed to the engine."""

    def __init__(
        self,
        client: EngineClient,
        number: int,
        request: dict[str, Any],
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self.id = number
        self.name = str(request["job"])
        self._client = client
        self._request = request
        self._on_event = on_event
        self._over = threading.Event()
        self._last: Event | None = None
        self._cancelling = False
        self._started = False
        self._sent_again = False

    @property
    def over(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Stop the job; finished work is kept.

        The engine is asked first; if it has not stopped after the grace time, its
        process is ended. Returns at once.
        """
        self._client._cancel(self)

    def pause(self) -> None:
        """Let the job wait at its next step."""
        self._client._wish("pause", self)

    def resume(self) -> None:
        """Let a paused job go on."""
        self._client._wish("resume", self)

    def stop(self) -> None:
        """End an iterative job (a map) now and keep its result."""
        self._client._wish("stop", self)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return the result. Not from within a callback.

        Raises
        ------
        TimeoutError
            If the job is still running after ``timeout`` seconds.
        EmbedError
            What the job failed with; JobCancelled if it was cancelled.
        """
        if not self._over.wait(timeout) or self._last is None:
            raise TimeoutError(f"The job {self.name} is still running.")
        error = self._last.error
        if error is not None:
            raise error
        return self._last.data

    def _deliver(self, event: Event) -> None:
        if self.over:
            return
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception:  # BLE001: a listener's fault must not silence the engine
            logger.exception("A listener of the job %s failed", self.name)
        finally:
            if event.final:
                self._last = event
                self._over.set()


class _Process:
    """One life of the worker: the process and the two threads that read from it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        self.popen = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            creationflags=flags,
        )
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._send_lock = threading.Lock()
        self.reader: threading.Thread | None = None
        self.stderr_reader = threading.Thread(
            target=self._read_stderr, name="napari-embed-engine-log", daemon=True
        )
        self.stderr_reader.start()

    def _read_stderr(self) -> None:
        assert self.popen.stderr is not None
        for line in iter(self.popen.stderr.readline, b""):
            text = line.decode("utf-8", "replace").rstrip()
            self.last_words.append(text)
            logger.debug("engine: %s", text)

    def send(self, request: dict[str, Any]) -> None:
        """Send one request; a worker that is gone is noticed by the reader."""
        assert self.popen.stdin is not None
        with self._send_lock, contextlib.suppress(OSError, ValueError):
            self.popen.stdin.write(encode(request))
            self.popen.stdin.flush()

    def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(OSError):
            self.popen.kill()

    def end(self, grace_s: float) -> None:
        """Ask the process to leave, insist after ``grace_s``, and reap everything."""
        self.send({"job": "shutdown"})
        assert self.popen.stdin is not None
        with self._send_lock, contextlib.suppress(OSError):
            self.popen.stdin.close()
        try:
            self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.popen.wait()

    def describe_end(self) -> str:
        """Say how the process ended, and its last words where they tell why."""
        code = self.popen.returncode
        words = [w for w in self.last_words if w.strip()]
        fatal = [w for w in words if w.startswith(("Fatal", "terminate", "  what()"))]
        how = f"exit status {code}"
        if code is not None and code < 0:
            # What was printed before a signal came from outside explains nothing.
            words = []
            with contextlib.suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        line = (fatal or words or [""])[-1]
        return f"{how}, last message: {line[:200]}" if line else how


class EngineClient:
    """Runs jobs in the engine process, one after another, in the order submitted.

    Creating one starts nothing; :meth:`start` or the first :meth:`submit` does, without
    waiting for it. Listeners are called on a reader thread. A process that dies fails
    the job it was running with :class:`~napari_embed.errors.DeviceLostError`; the next
    job gets a new process.

    Parameters
    ----------
    command
        Command line of the worker, this package's by default.
    threads
        Threads for the numerical libraries, all usable processors by default.
    cancel_grace_s
        How long a cancelled job may take to stop before its process is ended.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        threads: int | None = None,
        cancel_grace_s: float = 2.0,
    ) -> None:
        # -P: the folder the user happens to stand in is not a place for modules.
        self._command = tuple(command or (sys.executable, "-P", *WORKER))
        self._threads = threads
        self._cancel_grace_s = cancel_grace_s
        self._lock = threading.RLock()
        self._process: _Process | None = None
        self._current: Job | None = None
        self._waiting: deque[Job] = deque()
        self._number = 0
        self._closed = False
        self._timer: threading.Timer | None = None
        self._owner_pid = os.getpid()

    @property
    def running(self) -> bool:
        """Whether the engine process is alive."""
        process = self._process
        return process is not None and process.popen.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None when it is not running."""
        process = self._process
        return process.popen.pid if process is not None and self.running else None

    def start(self) -> None:
        """Start the engine process if it is not running; returns at once.

        Raises
        ------
        DeviceLostError
            If the process cannot be started, or this client was closed.
        """
        with self._lock:
            if self._closed:
                raise DeviceLostError("This engine was closed; make a new one.")
            if self._process is not None:
                return
            try:
                process = _Process(
                    self._command, child_environment(threads=self._threads)
                )
            except OSError as error:
                raise DeviceLostError(
                    f"The engine process could not be started: {error}. Python is "
                    f"{self._command[0] or 'not known'}."
                ) from error
            process.reader = threading.Thread(
                target=self._read,
                args=(process,),
                name="napari-embed-engine",
                daemon=True,
            )
            self._process = process
            process.reader.start()

    def submit(
        self,
        job: str,
        on_event: Callable[[Event], None] | None = None,
        **arguments: Any,
    ) -> Job:
        """Hand over a job; ``on_event`` gets its reports, on a reader thread.

        Raises
        ------
        DeviceLostError
            If the process cannot be started, or this client was closed.
        """
        with self._lock:
            self.start()
            self._number += 1
            request = {"id": self._number, "job": job, **arguments}
            handle = Job(self, self._number, request, on_event)
            self._waiting.append(handle)
            self._next()
        return handle

    def close(self) -> None:
        """End the process and every thread; running and waiting jobs are cancelled.

        Safe to call twice, and from a listener.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            process, self._process = self._process, None
            jobs = [j for j in (self._current, *self._waiting) if j is not None]
            busy = self._current is not None
            self._current = None
            self._waiting.clear()
            self._stop_timer()
        if process is not None and os.getpid() == self._owner_pid:
            process.end(self._cancel_grace_s if busy else EXIT_GRACE_S)
            self._join(process)
        for job in jobs:
            text = "The engine was closed; finished work is kept."
            job._deliver(Event(job.id, "cancelled", {"message": text}))

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> None:
        """Send the next waiting job if none is running. Holds the lock."""
        if self._current is not None or not self._waiting or self._closed:
            return
        self.start()
        self._current = self._waiting.popleft()
        assert self._process is not None
        self._process.send(self._current._request)

    def _wish(self, wish: str, job: Job) -> None:
        with self._lock:
            if self._current is job and self._process is not None:
                self._process.send({wish: job.id})

    def _cancel(self, job: Job) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
                dropped = True
            else:
                dropped = False
                if self._current is not job or job._cancelling:
                    return
                job._cancelling = True
                self._wish("cancel", job)
                self._timer = threading.Timer(
                    self._cancel_grace_s, self._insist, (job,)
                )
                self._timer.daemon = True
                self._timer.start()
        if dropped:
            text = "The job was cancelled before it began."
            job._deliver(Event(job.id, "cancelled", {"message": text}))

    def _insist(self, job: Job) -> None:
        """End the process of a cancelled job that did not stop by itself."""
        with self._lock:
            if self._current is job and self._process is not None:
                self._process.kill()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self, process: _Process) -> None:
        """Deliver messages until the process ends, then tell what that means."""
        assert process.popen.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            for line in process.popen.stdout:
                self._receive(process, line)
        process.popen.wait()
        self._ended(process)

    def _receive(self, process: _Process, line: bytes) -> None:
        try:
            message = decode(line)
            kind = str(message.pop("event"))
        except (ValueError, KeyError):
            # The last line of a process that was killed may be cut.
            logger.debug("The engine sent an unreadable line: %r", line[:200])
            return
        number = message.pop("id", None)
        with self._lock:
            job = self._current
            if job is None or job.id != number or self._process is not process:
                return
            job._started = True
            if kind == "started":
                return
            if kind == "error":
                message["type"] = message.get("kind")
            event = Event(job.id, kind, message)
            if event.final:
                self._current = None
                self._stop_timer()
        job._deliver(event)
        if event.final:
            with self._lock:
                self._try_next()

    def _ended(self, process: _Process) -> None:
        """Fail the job of a process that ended; the next job gets a new one."""
        process.stderr_reader.join(EXIT_GRACE_S)
        with self._lock:
            if self._process is not process:
                return  # closed on purpose
            self._process = None
            job, self._current = self._current, None
            self._stop_timer()
            if job and not (job._started or job._sent_again or job._cancelling):
                # The process was gone before it could take the job.
                job._sent_again = True
                self._waiting.appendleft(job)
                job = None
        self._close_pipes(process)
        if job is not None:
            job._deliver(self._last_event(job, process))
        with self._lock:
            self._try_next()

    @staticmethod
    def _last_event(job: Job, process: _Process) -> Event:
        if job._cancelling:
            text = "The job was cancelled; finished work is kept."
            return Event(job.id, "cancelled", {"message": text})
        text = (
            f"The engine process ended unexpectedly during '{job.name}' "
            f"({process.describe_end()}). Finished work is kept: start it again to go "
            "on from there."
        )
        kind = DeviceLostError.__name__
        data = {"kind": kind, "type": kind, "message": text}
        return Event(job.id, "error", data)

    def _try_next(self) -> None:
        """Start the next job from the reader thread, where nobody catches errors."""
        while self._waiting:
            try:
                self._next()
            except DeviceLostError as error:
                job = self._waiting.popleft()
                kind = type(error).__name__
                data = {"kind": kind, "type": kind, "message": str(error)}
                job._deliver(Event(job.id, "error", data))
            else:
                return

    def _join(self, process: _Process) -> None:
        for thread in (process.reader, process.stderr_reader):
            if thread is not None and thread is not threading.current_thread():
                thread.join(EXIT_GRACE_S)
        self._close_pipes(process)

    @staticmethod
    def _close_pipes(process: _Process) -> None:
        for pipe in (process.popen.stdin, process.popen.stdout, process.popen.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
