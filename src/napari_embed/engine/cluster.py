"""The chunks of a project on a Dask cluster.

This process drives: it hands out chunks, a few more than there are threads, and alone
writes the ledger. Workers write the chunks to the project's folder, which all machines
share. A chunk of a worker that dies goes to another one. If a chunk takes one worker
after the other with it, the others are done, and then the run ends with an error that
names its items. A run without workers ends after a while; a worker that hangs without
dying is waited for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_embed.engine.chunks import ChunkAnswer, ChunkWork
from napari_embed.engine.progress import JobControl
from napari_embed.engine.protocol import rebuild_error
from napari_embed.engine.remote import (
    ChunkJob,
    Failure,
    do_chunk,
    guarded,
    look,
    put_away,
)
from napari_embed.errors import (
    ComputeError,
    EmbedError,
    InputError,
    MissingDependencyError,
)

__all__ = ["Tasks", "chunks_on_cluster", "connect"]

CONNECT_S = 20.0
RESULT_S = 5.0
POLL_S = 0.05
COUNT_EVERY_S = 2.0
# Tasks that wait beyond those that run, so that no thread waits for the network.
AHEAD = 2
NO_WORKERS_S = 600.0
# Workers, for each that there was, that may be lost while nothing is finished.
MOST_LOST = 3
# What may change the bits of a vector.
COMPARED = ("numpy", "torch", "zarr", "pillow", "simplejpeg")
GONE = (
    "The Dask scheduler {address} does not answer any more. Finished chunks are kept: "
    "start it again, then run this again; it goes on."
)


def connect(address: str) -> Any:
    """Return a Dask client; a context manager.

    Raises
    ------
    MissingDependencyError
        If Dask is not installed here.
    InputError
        If nothing answers at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            f"A cluster needs Dask, which cannot be imported: {error}. "
            'pip install "napari-embed[cluster]"'
        ) from error
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address!r}: {str(error) or 'no answer'}. "
            "Start one with `dask scheduler` and give the address it prints, such as "
            "tcp://10.0.0.5:8786."
        ) from error


class _NotYetError(Exception):
    """A task that was done is not any more."""


class Tasks:
    """Functions that run on a cluster, at most so many at a time.

    Parameters
    ----------
    client
        Connected.
    control
        Asked for a wish to cancel or pause while waiting.
    """

    def __init__(self, client: Any, control: JobControl) -> None:
        self._client, self._control = client, control
        self._address = str(client.scheduler.address)
        self._running: dict[Any, Any] = {}
        self._counted = -COUNT_EVERY_S
        self._workers: dict[str, int] = {}
        self._most = self._gone = 0

    def threads(self) -> int:
        """Return how many tasks can run at once, counted now and then.

        Raises
        ------
        ComputeError
            If the scheduler is gone, or one worker is lost after the other.
        """
        now = time.monotonic()
        if now - self._counted >= COUNT_EVERY_S:
            with self._lost_scheduler():
                workers = dict(self._client.nthreads())
            self._gone += len(self._workers.keys() - workers.keys())
            self._most = max(self._most, len(workers))
            self._workers, self._counted = workers, now
        if self._gone > MOST_LOST * (self._most + 1):
            raise ComputeError(
                f"{self._gone} workers of {self._address} were lost since the last "
                "chunk was finished. They may lack memory: start some with more of it "
                "or with fewer threads, then run this again; finished chunks are kept."
            )
        return sum(self._workers.values())

    def threads_each(self) -> int:
        """Return the threads of the worker that has most."""
        return max(self._workers.values(), default=1)

    def wait_for_workers(self) -> None:
        """Return when there is one at least.

        Raises
        ------
        ComputeError
            If none comes in ten minutes.
        """
        self._control.check()
        told, since = False, time.monotonic()
        while not self.threads():
            if time.monotonic() - since > NO_WORKERS_S:
                raise ComputeError(
                    f"The scheduler {self._address} has had no workers for "
                    f"{NO_WORKERS_S:.0f} s. Finished chunks are kept: start workers "
                    f"with `dask worker {self._address}`, then run this again; it goes "
                    "on."
                )
            if not told:
                self._control.log(
                    f"The scheduler {self._address} has no workers. Waiting; start "
                    f"some with: dask worker {self._address}"
                )
                told = True
            self._control.progress("workers", 0, 1, unit="workers")
            time.sleep(POLL_S)

    def run(
        self, calls: Iterator[tuple[Any, tuple[Any, ...]]], function: Callable[..., Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Call ``function`` with each set of arguments; yield (name, result or error).

        In the order in which they are finished. An error is given only where workers
        died of the task; any other is raised.

        Raises
        ------
        ComputeError
            If the scheduler is gone, or a task failed.
        """
        more = True
        try:
            while more or self._running:
                self.wait_for_workers()
                while more and len(self._running) < self.threads() + AHEAD:
                    call = next(calls, None)
                    more = call is not None
                    if call is not None:
                        self._submit(function, *call)
                for future in [f for f in self._running if f.done()]:
                    with contextlib.suppress(_NotYetError):
                        outcome = self._outcome(future)
                        if not isinstance(outcome, BaseException):
                            self._gone, self._most = 0, len(self._workers)
                        yield self._running.pop(future), outcome
                self._control.check()
                if self._client.status in ("closing", "closed"):
                    raise ComputeError(GONE.format(address=self._address))
                time.sleep(POLL_S)
        finally:
            with contextlib.suppress(OSError, RuntimeError, TimeoutError):
                self._client.cancel(list(self._running), force=True)
            self._running.clear()

    def _submit(
        self, function: Callable[..., Any], name: Any, arguments: tuple[Any, ...]
    ) -> None:
        with self._lost_scheduler():
            future = self._client.submit(guarded, function, *arguments, pure=False)
        self._running[future] = name

    def _outcome(self, future: Any) -> Any:
        from distributed import KilledWorker

        if future.status == "finished":
            return self._result(future)
        if future.status != "error":
            raise ComputeError(GONE.format(address=self._address))
        error = future.exception(timeout=CONNECT_S)
        if isinstance(error, KilledWorker):
            return error
        raise ComputeError(
            f"A worker of {self._address} failed: {type(error).__name__}: {error}. "
            "Finished chunks are kept."
        ) from error

    def _result(self, future: Any) -> Any:
        with self._lost_scheduler():
            try:
                result = future.result(timeout=RESULT_S)
            except TimeoutError as error:
                # It was lost with its worker and is computed again.
                raise _NotYetError from error
        if isinstance(result, Failure):
            raise rebuild_error(result.kind, result.message)
        return result

    @contextlib.contextmanager
    def _lost_scheduler(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, TimeoutError) as error:
            if isinstance(error, EmbedError):
                raise
            raise ComputeError(GONE.format(address=self._address)) from error


def chunks_on_cluster(
    client: Any,
    job: ChunkJob,
    works: Sequence[ChunkWork],
    control: JobControl,
    accept: Callable[[ChunkAnswer], None],
) -> None:
    """Do all chunks; each is handed to ``accept`` as soon as it is written.

    Raises
    ------
    ComputeError
        If the scheduler or the workers are lost, or workers die again and again of
        some chunks; all others are done then.
    StoreError
        If a worker does not see the project.
    """
    tasks = Tasks(client, control)
    tasks.wait_for_workers()
    check_workers(client, job, control)
    total = job.vectors.spec.shape[0]
    done = total - sum(work.stop - work.start for work in works)
    job = replace(job, decoders=max(job.decoders, tasks.threads_each()))

    def take(answer: ChunkAnswer) -> None:
        nonlocal done
        accept(answer)
        done += answer.work.stop - answer.work.start
        control.progress("images", done, total, unit="images")

    control.progress("images", done, total, unit="images")
    lost = _do(tasks, job, works, take)
    # One that only stood in line when workers died is done when it is alone.
    lost = [work for work in lost if _do(tasks, job, [work], take)]
    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
        client.run(put_away, job, on_error="return")
    if lost:
        items = ", ".join(f"{work.start} to {work.stop - 1}" for work in lost)
        raise ComputeError(
            f"Workers died again and again at items {items}. All other chunks are "
            "done. The workers may lack memory: start some with more of it or with "
            "fewer threads and run this again, or run it without the cluster; it goes "
            "on."
        )


def _do(
    tasks: Tasks,
    job: ChunkJob,
    works: Sequence[ChunkWork],
    take: Callable[[ChunkAnswer], None],
) -> list[ChunkWork]:
    """Do chunks and return those that workers died of."""
    lost = []
    calls = ((work, (job, work)) for work in works)
    for work, answer in tasks.run(calls, do_chunk):
        if isinstance(answer, ChunkAnswer):
            take(answer)
        else:
            lost.append(work)
    return lost


def check_workers(client: Any, job: ChunkJob, control: JobControl) -> None:
    """Refuse workers that lack the package or the project, before they start.

    Raises
    ------
    ComputeError
        If one has another version of this package, or none.
    StoreError
        If one does not see the project.
    """
    mine = {name: _version(name) for name in ("napari-embed", *COMPARED)}
    told = client.get_versions(packages=list(mine))["workers"]
    for address, found in told.items():
        theirs = found.get("packages", {}) if isinstance(found, dict) else {}
        if theirs.get("napari-embed") != mine["napari-embed"]:
            what = theirs.get("napari-embed")
            raise ComputeError(
                f"The worker {address} has "
                + (f"napari-embed {what}" if what else "no napari-embed")
                + f", this computer has {mine['napari-embed']}. Install the same "
                f'version there: pip install "napari-embed[cluster]=='
                f'{mine["napari-embed"]}"'
            )
        others = [x for x in COMPARED if theirs.get(x) != mine[x]]
        if others:
            words = ", ".join(f"{x} {theirs.get(x)} (here {mine[x]})" for x in others)
            control.log(
                f"The worker {address} has {words}. Vectors may differ in their last "
                "digits from those of this computer."
            )
    for address, error in client.run(guarded, look, job, on_error="return").items():
        if isinstance(error, Failure):
            raise rebuild_error(error.kind, error.message)
        if isinstance(error, BaseException):
            raise ComputeError(
                f"The worker {address} cannot take part: {type(error).__name__}: "
                f"{error}."
            ) from error


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
