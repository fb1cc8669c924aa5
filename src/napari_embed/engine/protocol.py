"""Messages between client and worker: one JSON object per line, UTF-8.

Requests (client to worker, on the worker's stdin)::

    {"id": 1, "job": "embed", ...arguments}      start a job
    {"cancel": 1}  {"pause": 1}  {"resume": 1}  {"stop": 1}
    {"job": "shutdown"}

Messages (worker to client, on the worker's original stdout, which nothing else in that
process can reach)::

    {"event": "ready", "pid": 123}
    {"id": 1, "event": "started"}
    {"id": 1, "event": "progress", ...Progress}
    {"id": 1, "event": "positions", "sequence": 3, "iteration": 50, ...}
    {"id": 1, "event": "kl", "iteration": 50, "kl_divergence": 2.1}
    {"id": 1, "event": "log", "message": "..."}
    {"id": 1, "event": "done", ...result}
    {"id": 1, "event": "error", "kind": "InputError", "message": "..."}
    {"id": 1, "event": "cancelled", "message": "..."}
"""

from __future__ import annotations

import errno
import json
import math
from typing import Any

import numpy as np

from napari_embed import errors

__all__ = ["FINAL_EVENTS", "decode", "describe_error", "encode", "rebuild_error"]

FINAL_EVENTS = frozenset({"done", "error", "cancelled"})


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON values; NaN and Inf, which JSON lacks, become None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def encode(message: dict[str, Any]) -> bytes:
    """Return one line of JSON with its newline."""
    text = json.dumps(_plain(message), ensure_ascii=True, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the object on one line.

    Raises
    ------
    ValueError
        If the line is no JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"expected an object, got {type(message).__name__}")
    return message


def describe_error(error: BaseException) -> dict[str, str]:
    """Return kind and message of an exception, in words for the user.

    Errors of this package keep their class; what the system raises is given the class
    that says the same.
    """
    if isinstance(error, errors.EmbedError):
        return {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, MemoryError):
        kind, text = "DeviceMemoryError", "There is not enough memory for this."
        return {"kind": kind, "message": f"{text} {error}".strip()}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = "The disk is full. Finished work is kept: free some space, then go on."
        return {"kind": "StoreError", "message": f"{text} ({error})"}
    if isinstance(error, PermissionError):
        return {"kind": "StoreError", "message": f"No permission: {error}"}
    if isinstance(error, ImportError):
        text = f"A package is missing or broken: {error}"
        return {"kind": "MissingDependencyError", "message": text}
    text = f"Unexpected {type(error).__name__}: {error}"
    return {"kind": "ComputeError", "message": text}


def rebuild_error(kind: str, message: str) -> errors.EmbedError:
    """Return the exception that :func:`describe_error` described."""
    found = getattr(errors, kind, None) if kind in errors.__all__ else None
    return (found or errors.ComputeError)(message)
