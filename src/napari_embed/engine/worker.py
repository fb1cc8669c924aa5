"""The engine process: ``python -m napari_embed.engine.worker``.

Jobs run one at a time in the main thread, because Taichi works only in the thread that
started it. A second thread reads requests, so a running job can be cancelled, paused or
ended; when the pipe from the client closes, the client is gone and this process ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from napari_embed.engine.progress import JobControl, Progress
from napari_embed.engine.protocol import decode, describe_error, encode
from napari_embed.errors import InputError, JobCancelled

__all__ = ["Emit", "JobFunction", "main", "serve"]

logger = logging.getLogger(__name__)

Emit = Callable[..., None]
"""``emit(event, **values)``: send a message about the running job."""
JobFunction = Callable[[dict[str, Any], JobControl, Emit], dict[str, Any]]
"""``job(arguments, control, emit)`` returns the values of the "done" message."""

# How long a job may take to stop after the client has gone.
ORPHAN_GRACE_S = 2.0
PARENT_POLL_S = 1.0


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for messages; what libraries print goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stderr
    return requests, messages


class _Worker:
    def __init__(
        self, jobs: Mapping[str, JobFunction], requests: BinaryIO, messages: BinaryIO
    ) -> None:
        self._jobs = jobs
        self._requests = requests
        self._messages = messages
        self._send_lock = threading.Lock()
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._controls: dict[int, JobControl] = {}
        self._done = threading.Event()

    def run(self) -> None:
        """Serve until told to shut down or the client is gone."""
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        if sys.platform != "win32":
            threading.Thread(target=self._watch_parent, daemon=True).start()
        self._send({"event": "ready", "pid": os.getpid()})
        while (request := self._waiting.get()) is not None:
            self._run_job(request)
        self._done.set()

    def _send(self, message: dict[str, Any]) -> None:
        line = encode(message)
        # A short write must be completed by hand; a client that is gone hears nothing.
        with self._send_lock, contextlib.suppress(OSError):
            while line:
                line = line[self._messages.write(line) :]

    def _listen(self) -> None:
        """Read requests until the pipe closes."""
        for line in iter(self._requests.readline, b""):
            try:
                self._receive(decode(line))
            except (ValueError, TypeError) as error:
                logger.warning("A request could not be read: %s", error)
        self._leave()

    def _receive(self, request: dict[str, Any]) -> None:
        for wish in ("cancel", "pause", "resume", "stop"):
            if wish in request:
                with self._lock:
                    control = self._controls.get(int(request[wish]))
                if control is not None:
                    getattr(control, wish)()
                return
        if request.get("job") == "shutdown":
            self._leave()
            return
        number = int(request["id"])
        control = JobControl(
            lambda p: self._send_progress(number, p),
            on_log=lambda text: self._send(
                {"id": number, "event": "log", "message": text}
            ),
        )
        with self._lock:
            self._controls[number] = control
        self._waiting.put(request)

    def _send_progress(self, number: int, progress: Progress) -> None:
        self._send({"id": number, "event": "progress"} | progress.to_dict())

    def _run_job(self, request: dict[str, Any]) -> None:
        number = int(request.pop("id"))
        name = str(request.pop("job", ""))
        control = self._controls[number]

        def emit(event: str, **values: Any) -> None:
            self._send({"id": number, "event": event} | values)

        try:
            if name not in self._jobs:
                known = ", ".join(sorted(self._jobs))
                raise InputError(f"The engine has no job {name!r}. It has: {known}.")
            emit("started")
            control.check()
            result = self._jobs[name](request, control, emit)
            emit("done", **result)
        except JobCancelled as error:
            emit("cancelled", message=str(error))
        except Exception as error:  # BLE001: process boundary, told to the client
            logger.exception("The job %s failed", name)
            emit("error", **describe_error(error))
        finally:
            with self._lock:
                self._controls.pop(number, None)

    def _leave(self) -> None:
        """Cancel everything; end the process even if a job does not listen."""
        with self._lock:
            for control in self._controls.values():
                control.cancel()
        self._waiting.put(None)
        if not self._done.wait(ORPHAN_GRACE_S):
            os._exit(1)

    def _watch_parent(self) -> None:
        """Notice the parent's end also when another process holds our pipe open."""
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        self._leave()


def serve(jobs: Mapping[str, JobFunction]) -> None:
    """Run ``jobs`` by name as the client asks, until it is gone."""
    # Ctrl-C in a terminal reaches the whole group; the client decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, messages = _private_streams()
    faulthandler.enable()
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    _Worker(jobs, requests, messages).run()


def main() -> None:
    """Serve the jobs of this package."""
    from napari_embed.engine.jobs import JOBS

    serve(JOBS)


if __name__ == "__main__":
    main()
