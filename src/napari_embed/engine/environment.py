"""The environment variables and the number of threads of the engine process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["child_environment", "usable_cpus"]


def usable_cpus() -> int:
    """Return how many processors this process may use.

    Counts the affinity mask and, on Linux, a container's quota: threads beyond the
    quota make everything slower.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    return count


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """Return the environment for the engine process.

    Parameters
    ----------
    threads
        Threads for numerical libraries; None keeps what the user set, else takes all
        usable processors.
    """
    environment = dict(os.environ)
    count = str(threads or usable_cpus())
    # The first is read by torch, FAISS and OpenBLAS, the last by our own kernels.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NAPARI_EMBED_THREADS"):
        if threads is None:
            environment.setdefault(name, environment.get("OMP_NUM_THREADS", count))
        else:
            environment[name] = count
    # Taichi would report to a server at each start.
    environment["TI_SKIP_VERSION_CHECK"] = "ON"
    # A wait in a thread pool must not burn the processor another stage needs.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    # The package may have been found through a path that only the parent knows.
    root = str(Path(__file__).resolve().parents[2])
    known = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (known, root) if p)
    return environment
