"""Decoding foreign image files in processes of their own, with limits.

What a decoder does to its process, by accident or by somebody's intention, stays there:
the image is recorded as failed, with the reason, and a new process goes on with the
next one. It also keeps decoding out of the way of the encoder's own threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from napari_embed.engine.decoder_process import HEADER, read_message, write_message
from napari_embed.engine.environment import child_environment, usable_cpus
from napari_embed.errors import ComputeError
from napari_embed.sources import DecodedItem, Source
from napari_embed.sources.changes import file_root
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX, ImageReader

__all__ = ["DecoderPool", "contained", "pooled"]

_log = logging.getLogger(__name__)

# Fewer images are decoded sooner than processes start.
FEW_IMAGES = 2000
MARK = ".decoding"
# A request is one group: a message costs as much as a tiny JPEG.
GROUP = 16
MOST_PROCESSES = 8
# The largest image that is read (64 million pixels) takes about 3 s and 1.5 GiB.
CPU_LIMIT_S = 20.0
WALL_LIMIT_S = 120.0
MEMORY_BYTES = 3 << 30
WATCH_EVERY_S = 0.2
REAP_S = 0.5
COMMAND = (sys.executable, "-P", "-m", "napari_embed.engine.decoder_process")


@contextlib.contextmanager
def contained(source: Source, n_images: int, folder: Path) -> Iterator[ImageReader]:
    """Give a reader of a source that no decoder can take down with it.

    Sources other than files of images are read as they are. So are a few files, unless
    the last try did not come back: a mark in ``folder`` tells.
    """
    root = file_root(source)
    mark = folder / MARK
    if root is None or (n_images < FEW_IMAGES and not mark.exists()):
        with _marked(mark, root is not None):
            yield source
        return
    with pooled(source) as reader:
        yield reader
    mark.unlink(missing_ok=True)


@contextlib.contextmanager
def pooled(source: Source, *, processes: int | None = None) -> Iterator[ImageReader]:
    """Give a reader that decodes files of images in other processes, however few."""
    root = file_root(source)
    if root is None:
        yield source
        return
    with contextlib.closing(DecoderPool(root, processes=processes)) as pool:
        yield pool


@contextlib.contextmanager
def _marked(mark: Path, wanted: bool) -> Iterator[None]:
    """Leave a mark behind if this process does not live to the end."""
    if not wanted:
        yield
        return
    with contextlib.suppress(OSError):
        mark.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


class _EndedError(Exception):
    """The process of a decoder is gone, or was ended for taking too long."""


class DecoderPool:
    """Some decoder processes, started when they are first needed.

    Parameters
    ----------
    root
        Folder that all files lie in.
    processes
        How many, by default one per usable processor, at most 8.
    command
        Command line of a process, this package's by default.
    cpu_s, wall_s
        Processor time and time that one image may take, in seconds.
    memory_bytes
        Memory that decoding may take in each process.
    """

    def __init__(
        self,
        root: Path,
        *,
        processes: int | None = None,
        command: Sequence[str] | None = None,
        cpu_s: float = CPU_LIMIT_S,
        wall_s: float = WALL_LIMIT_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        count = processes or min(MOST_PROCESSES, usable_cpus())
        setup = {"root": str(root), "cpu_s": cpu_s, "memory_bytes": memory_bytes}
        self._decoders = [
            _Decoder(tuple(command or COMMAND), setup) for _ in range(count)
        ]
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._free.put(decoder)
        self._threads = ThreadPoolExecutor(count, "napari-embed-read")
        self._closed = threading.Event()
        self._wall_s = wall_s
        self._watch = threading.Thread(
            target=self._watch_clock, name="napari-embed-watch", daemon=True
        )
        self._watch.start()

    @property
    def lost(self) -> int:
        """How many processes were lost so far."""
        return sum(decoder.lost for decoder in self._decoders)

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one decoded item per row, in order; a bad image never raises.

        Raises
        ------
        ComputeError
            If no decoder process can be started.
        """
        names = items["source"].to_pylist()
        waiting: deque[Future[list[DecodedItem]]] = deque()
        try:
            for start in range(0, len(names), GROUP):
                group = names[start : start + GROUP]
                waiting.append(self._threads.submit(self._decode, group, shrink_to))
                if len(waiting) > 2 * len(self._decoders):
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _decode(
        self, names: list[str | None], shrink_to: int | None
    ) -> list[DecodedItem]:
        decoder = self._free.get()
        try:
            return decoder.decode(names, shrink_to)
        finally:
            self._free.put(decoder)

    def _watch_clock(self) -> None:
        while not self._closed.wait(WATCH_EVERY_S):
            for decoder in self._decoders:
                decoder.end_if_older(self._wall_s)

    def close(self) -> None:
        """End all processes and threads; calling it twice does no harm."""
        self._closed.set()
        for decoder in self._decoders:
            decoder.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._watch.join()
        for decoder in self._decoders:
            decoder.stop()


class _Decoder:
    """One decoder process after the other, used by one thread at a time."""

    def __init__(self, command: tuple[str, ...], setup: dict[str, Any]) -> None:
        self._command, self._setup = command, setup
        self._process: subprocess.Popen[bytes] | None = None
        self._mutex = threading.Lock()
        self._since = 0.0  # when the last image came; 0 while nothing is asked for
        self._too_late = self._closed = False
        self.lost = 0

    def decode(
        self, names: list[str | None], shrink_to: int | None
    ) -> list[DecodedItem]:
        """Return one result per name; a file that ends the process is a failure.

        Which one was in hand is not known when the process of a group ends, and it may
        have been ended by others: the rest is asked for one by one, and a file is
        blamed when it ends a process that was asked for nothing else.
        """
        results: list[DecodedItem] = []
        with contextlib.suppress(_EndedError):
            self._ask(names, shrink_to, results)
        while len(results) < len(names):
            try:
                self._ask([names[len(results)]], shrink_to, results)
            except _EndedError as ended:
                results.append(DecodedItem(None, str(ended)))
        return results

    def _ask(
        self,
        names: list[str | None],
        shrink_to: int | None,
        results: list[DecodedItem],
    ) -> None:
        """Have files decoded and append what comes back, also if not all does."""
        process = self._ensure()
        request = json.dumps({"names": names, "shrink_to": shrink_to}).encode()
        self._since = time.monotonic()
        try:
            write_message(_pipe(process.stdin), request)
            for _ in names:
                results.append(_receive(_pipe(process.stdout)))
                self._since = time.monotonic()
        except (OSError, ValueError, EOFError):  # the pipe broke, was closed or ends
            raise _EndedError(self._reap(process)) from None
        finally:
            self._since = 0.0

    def _ensure(self) -> subprocess.Popen[bytes]:
        """Return the running process, a new one if need be."""
        with self._mutex:
            if self._closed:
                raise ComputeError("The decoders were closed.")
            if self._process is not None:
                return self._process
            try:
                process = self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=child_environment(threads=1),
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as error:
                raise ComputeError(
                    f"No decoder process can be started: {error}"
                ) from error
            self._too_late = False
        ready = None
        with contextlib.suppress(OSError, ValueError):
            write_message(_pipe(process.stdin), json.dumps(self._setup).encode())
            ready = read_message(_pipe(process.stdout))
        if ready is None:
            how = self._reap(process)
            raise ComputeError(f"A decoder process ended before it could begin: {how}.")
        return process

    def end_if_older(self, seconds: float) -> None:
        """End the process if it has had one request in hand for so long."""
        since, process = self._since, self._process
        if since and process is not None and time.monotonic() - since > seconds:
            self._too_late = True
            process.kill()

    def _reap(self, process: subprocess.Popen[bytes]) -> str:
        """Return in words how a process ended; it does not run after this."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(REAP_S)  # so that it keeps its own exit status
        self.stop()
        self.lost += 1
        code = process.returncode
        if self._closed:
            raise ComputeError("The decoders were closed.")
        if self._too_late or code == -getattr(signal, "SIGXCPU", 0) != 0:
            return "decoding took too long and was ended"
        how = f"exit status {code}"
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
        _log.warning("A decoder process was lost (%s).", how)
        return f"the decoder crashed on it ({how})"

    def close(self) -> None:
        """End the process for good; wakes a thread that waits for it."""
        with self._mutex:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        """End the process and close its pipes."""
        with self._mutex:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _pipe(stream: Any) -> BinaryIO:
    return cast(BinaryIO, stream)


def _receive(stream: BinaryIO) -> DecodedItem:
    height, width, size = HEADER.unpack(_exactly(stream, HEADER.size))
    if not height:
        return DecodedItem(None, _exactly(stream, size).decode("utf-8", "replace"))
    pixels = _exactly(stream, 3 * height * width)
    return DecodedItem(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), None)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content
