"""A worker with made-up jobs, for tests of the process around them.

Run as a script in place of ``python -m napari_embed.engine.worker``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np

from napari_embed.engine.positions import PositionsBuffer
from napari_embed.engine.progress import JobControl
from napari_embed.engine.worker import Emit, serve
from napari_embed.errors import InputError


def count(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Count to n, a step each few milliseconds."""
    n = int(arguments["n"])
    for i in range(n):
        control.progress("counting", i, n)
        if control.stop_requested:
            return {"counted": i}
        time.sleep(float(arguments.get("step_s", 0.005)))
    return {"counted": n}


def deaf(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Never look at the control."""
    emit("log", message="deaf")
    time.sleep(60)
    return {}


def die(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """End the process in the way asked for."""
    control.progress("dying", 0, 1)
    how = arguments["how"]
    if how == "exit":
        os._exit(3)
    if how == "terminate":
        sys.stderr.write("terminate called after throwing an instance of 'Faiss'\n")
        sys.stderr.flush()
        os.abort()
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)
    return {}


def fail(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Raise what was asked for."""
    kinds: dict[str, BaseException] = {
        "input": InputError("There are no images in x."),
        "memory": MemoryError("16 GiB"),
        "full": OSError(28, "No space left on device"),
        "bug": KeyError("ids"),
    }
    raise kinds[arguments["how"]]


def chatter(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Print as libraries do: in Python and below it, on stdout and stderr."""
    print("a banner on stdout")
    os.write(1, b'{"id": 1, "event": "done", "forged": true}\n')
    os.write(2, b"x" * 300_000 + b"\n")
    return {
        "stdin_is_empty": sys.stdin.read() == "",
        "environment": {
            k: v
            for k, v in os.environ.items()
            if k.startswith(("TI_", "OMP", "NAPARI_EMBED"))
        },
        "nan": float("nan"),
        "count": np.int64(3),
    }


def publish(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Write positions into shared memory."""
    with PositionsBuffer.attach(arguments["positions"]) as buffer:
        for i in range(5):
            sequence = buffer.write(np.full(buffer.shape, i, np.float32))
            emit("positions", sequence=sequence, iteration=i)
    return {}


if __name__ == "__main__":
    serve(
        {
            "count": count,
            "deaf": deaf,
            "die": die,
            "fail": fail,
            "chatter": chatter,
            "publish": publish,
        }
    )
