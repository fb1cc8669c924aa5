"""Save what a benchmark measured, with where and when it was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "napari-embed", "numpy", "torch", "taichi", "faiss-cpu", "faiss-gpu", "zarr",
    "napari", "vispy", "openTSNE", "scikit-learn",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, GPU, system and Python of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    result: dict[str, Any] = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }
    if hasattr(os, "sysconf"):
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        result["memory_gib"] = round(pages / 2**30, 1)
    try:
        import torch

        result["gpu"] = (
            torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        )
    except ImportError:
        result["gpu"] = None
    return result


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def moment() -> dict[str, Any]:
    """Return the time, the load of the machine and the version of the engine."""
    engine = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", "src/napari_embed/tsne",
         "src/napari_embed/kernels"],
        capture_output=True, text=True, check=False, cwd=RESULTS.parents[1],
    )  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "engine": engine.stdout.strip() or None,
    }


def record(name: str, results: Any, *, settings: dict[str, Any] | None = None) -> Path:
    """Write ``results/NAME.json`` and return its path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": settings or {},
        "results": results,
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=True) + "\n")
    print(f"saved {path}")
    return path
