"""The one place that imports and starts Taichi.

Taichi keeps one global program per process and every ``ti.init`` destroys the one
before it, so this module starts it once, never resets a program that is not ours, and
keeps its cache, its threads and its banners under control. ``NAPARI_EMBED_TAICHI``
names another module with the same interface (a maintained fork) to use instead.
"""

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_embed.errors import ComputeError, InputError

# Read by Taichi at import: no network request, no banner on stdout.
os.environ.setdefault("TI_SKIP_VERSION_CHECK", "ON")
os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "False")

with contextlib.redirect_stdout(sys.stderr):
    ti = importlib.import_module(os.environ.get("NAPARI_EMBED_TAICHI", "taichi"))

__all__ = ["Device", "called_kernels", "occupied", "start", "stop", "ti"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """Where kernels run.

    Attributes
    ----------
    kind
        "cpu" or "cuda".
    name
        Something to show to a person.
    threads
        CPU threads Taichi uses.
    debug
        Whether kernels check their array bounds (slow).
    """

    kind: Literal["cpu", "cuda"]
    name: str
    threads: int
    debug: bool = False


_device: Device | None = None
_program: object | None = None


def occupied() -> bool:
    """Return whether a Taichi program that is not ours is live in this process."""
    live = ti.lang.impl.get_runtime().prog
    return live is not None and live is not _program


def start(
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    threads: int | None = None,
    debug: bool = False,
    profile: bool = False,
) -> Device:
    """Start Taichi, or return the device it already runs on.

    Parameters
    ----------
    device
        "auto" takes CUDA when there is a usable GPU.
    threads
        CPU threads; None takes ``NAPARI_EMBED_THREADS`` or every core this process may
        use. They are set once: a later call gets what the first one started.
    debug
        Check array bounds in every kernel.
    profile
        Time every loop of every kernel, for ``ti.profiler`` (slow).

    Raises
    ------
    ComputeError
        If another library's Taichi program is live in this process, or ours runs on
        another device and cannot be changed now.
    InputError
        If ``device`` is unknown.
    """
    global _device, _program
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}.")
    live = ti.lang.impl.get_runtime().prog
    if occupied():
        raise ComputeError(
            "Another Taichi program is live in this process, and starting ours would "
            "destroy its data. Run the projection in its own process (the "
            "napari-embed command line and the plugin do so), or before the other."
        )
    wanted = threads or int(os.environ.get("NAPARI_EMBED_THREADS", "0")) or _cores()
    if live is not None and _device is not None:
        if device not in ("auto", _device.kind) or debug != _device.debug:
            raise ComputeError(
                f"The compute engine already runs on {_device.kind} "
                f"(debug={_device.debug}); it cannot switch within one process. "
                "Start a new process for another device."
            )
        return _device
    if device == "cuda" or (device == "auto" and _has_cuda()):
        _device = _start_cuda(wanted, debug, profile)
    else:
        _init(ti.cpu, wanted, debug, profile)
        _device = Device("cpu", f"CPU, {wanted} threads", wanted, debug)
    _program = ti.lang.impl.get_runtime().prog
    _log.info("Compute engine on %s", _device.name)
    return _device


def stop() -> None:
    """Free the program started by :func:`start`; arrays made on it become invalid."""
    global _device, _program
    if _program is not None and ti.lang.impl.get_runtime().prog is _program:
        ti.reset()
    _device = _program = None


@contextlib.contextmanager
def called_kernels() -> Iterator[list[str]]:
    """Collect the names of the kernels that Python calls, Taichi's own included.

    For tests and benchmarks: each call costs time, and a call of Taichi's own that
    copies an array to the host waits for the device.
    """
    kernel = ti.lang.kernel_impl.Kernel
    plain, names = kernel.__call__, []

    def noted(self: object, *args: object, **kwargs: object) -> object:
        names.append(self.func.__name__)
        return plain(self, *args, **kwargs)

    kernel.__call__ = noted
    try:
        yield names
    finally:
        kernel.__call__ = plain


def _start_cuda(threads: int, debug: bool, profile: bool) -> Device:
    import torch

    if not torch.cuda.is_available():
        raise ComputeError(
            "device='cuda' was asked for, but PyTorch sees no usable NVIDIA GPU. "
            "Install a CUDA build of PyTorch, or use device='cpu'."
        )
    try:
        _init(ti.cuda, threads, debug, profile)
    except RuntimeError as error:
        raise ComputeError(
            f"Taichi could not start on CUDA ({error}). Use device='cpu'."
        ) from error
    return Device("cuda", torch.cuda.get_device_name(0), threads, debug)


def _init(arch: object, threads: int, debug: bool, profile: bool) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        ti.init(
            arch=arch,
            enable_fallback=False,
            cpu_max_num_threads=threads,
            # Arrays are allocated directly; the pool only serves the runtime itself.
            device_memory_GB=0.3,
            offline_cache=True,
            offline_cache_file_path=str(_cache_folder()),
            debug=debug,
            log_level="error",
            default_fp=ti.f32,
            default_ip=ti.i32,
            fast_math=True,
            random_seed=0,
            # Said only if asked for: an argument goes before Taichi's own variables.
            **({"kernel_profiler": True} if profile else {}),
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _cache_folder() -> Path:
    """Return our own folder for compiled kernels, private to the user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "napari-embed" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError:
        # Compiled code is loaded from here, so the fallback is a fresh private folder.
        folder = Path(tempfile.mkdtemp(prefix="napari-embed-kernels-"))
    return folder
