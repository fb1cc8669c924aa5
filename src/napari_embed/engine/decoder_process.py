"""A process that decodes foreign image files, started by `decoders.DecoderPool`.

A decoder is C code that reads bytes from strangers. Here it may crash, loop or eat
memory: this process alone is lost.

Messages are a length (uint32, little-endian) and that many bytes. In: a JSON object
with the folder and the limits, then one with names for each group of files. Out: an
empty message when ready, then for each file `HEADER` and its pixels, or the reason why
there are none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_embed.sources import images

__all__ = ["HEADER", "main", "read_message", "write_message"]

LENGTH = struct.Struct("<I")
HEADER = struct.Struct("<III")  # height, width, bytes of the reason
MOST_REASON_BYTES = 4000
BUFFER_BYTES = 1 << 20


def read_message(stream: BinaryIO) -> bytes | None:
    """Return the next message, or None when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    body = stream.read(size)
    return body if len(body) == size else None


def write_message(stream: BinaryIO, body: bytes) -> None:
    """Send one message."""
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for messages; what decoders print goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=BUFFER_BYTES)
    os.dup2(2, 1)
    return requests, replies


def _limit_memory(more_bytes: int) -> None:
    """Allow this process so much more address space than it has now."""
    if sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + more_bytes
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Let the system end this process after so much more processor time."""
    if sys.platform == "win32":  # the parent's clock is the only limit there
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def main() -> None:
    """Decode what the parent asks for until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    requests, replies = _private_streams()
    setup = json.loads(read_message(requests) or b"{}")
    root = Path(setup["root"])
    _limit_memory(int(setup["memory_bytes"]))
    write_message(replies, b"")
    while (request := read_message(requests)) is not None:
        wanted = json.loads(request)
        for name in wanted["names"]:
            _limit_time(float(setup["cpu_s"]))
            image, reason = images.try_decode_file(
                root, name, shrink_to=wanted["shrink_to"]
            )
            if image is None:
                text = (reason or "").encode("utf-8", "replace")[:MOST_REASON_BYTES]
                replies.write(HEADER.pack(0, 0, len(text)) + text)
            else:
                replies.write(HEADER.pack(*image.shape[:2], 0))
                replies.write(np.ascontiguousarray(image).data)
        replies.flush()


if __name__ == "__main__":
    main()
