"""Time and memory of the whole chain, driven through the command line.

    python benchmarks/bench_pipeline.py cifar10 --archive cifar10_jpeg.tar.xz
    python benchmarks/bench_pipeline.py million

``cifar10`` ingests CIFAR-10 as a folder of 60,000 JPEG files, is killed once with
SIGKILL in the middle of embedding, goes on, and maps the result in 2D and 3D.
``million`` does the same for generated vectors with labels (no images): an instant PCA
map in 3D, then a stated number of t-SNE iterations in 2D and 3D.
Results go to ``benchmarks/results/pipeline_NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from _record import record

STEP_S = 0.05


def _memory_mib(process: psutil.Process) -> float:
    """Resident memory of a process and its children, in MiB."""
    total = 0
    for p in [process, *process.children(recursive=True)]:
        try:
            total += p.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def run(*words: object, kill_after_s: float | None = None) -> dict[str, Any]:
    """Run one command of ``napari-embed``; return its time, memory and exit code."""
    command = [sys.executable, "-m", "napari_embed", *map(str, words)]
    print("$ napari-embed", *words, flush=True)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    peak, cpu_s, killed = 0.0, 0.0, False
    family: dict[int, float] = {}
    while child.poll() is None:
        try:
            peak = max(peak, _memory_mib(process))
            for p in [process, *process.children(recursive=True)]:
                times = p.cpu_times()
                family[p.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            pass
        if kill_after_s is not None and time.perf_counter() - start > kill_after_s:
            for p in [*process.children(recursive=True), process]:
                p.send_signal(signal.SIGKILL)
            killed = True
            break
        time.sleep(STEP_S)
    child.wait()
    cpu_s = sum(family.values())
    result = {
        "command": " ".join(str(w) for w in words if "/" not in str(w)),
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(cpu_s, 2),
        "peak_memory_mib": round(peak),
        "exit_code": child.returncode,
        "killed": killed,
    }
    print("  ", result, flush=True)
    if not killed and child.returncode not in (0, 3):
        raise SystemExit(f"the command failed with exit code {child.returncode}")
    return result


def status(project: Path) -> dict[str, Any]:
    """Return what ``napari-embed status --json`` says."""
    answer = subprocess.run(
        [sys.executable, "-m", "napari_embed", "status", str(project), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(answer.stdout))


def cifar10(archive: Path, folder: Path, kill_after_s: float) -> None:
    """Ingest, embed (killed once), map and measure CIFAR-10 as a folder of JPEGs."""
    images = folder / "cifar10"
    if not images.is_dir():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    project = folder / "cifar10.embed"
    shutil.rmtree(project, ignore_errors=True)
    steps = [
        run("new", images, project),
        run("embed", project, kill_after_s=kill_after_s),
    ]
    between = status(project)
    steps += [
        run("embed", project),
        run("neighbors", project),
        run("project", project, "--dims", 2),
        run("project", project, "--dims", 3),
        run("export", project, folder / "cifar10.csv", "--force"),
    ]
    after = status(project)
    record(
        "pipeline_cifar10",
        {"steps": steps, "status_after_kill": between, "status_at_end": after},
        settings={
            "images": "CIFAR-10, 60,000 JPEG files",
            "kill_after_s": kill_after_s,
        },
    )


def million(folder: Path, n: int, iterations_2d: int, iterations_3d: int) -> None:
    """Map ``n`` generated vectors of 50 dimensions in 200 clusters."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 50)).astype(np.float32) * 2
    labels = rng.integers(0, 200, n)
    path = folder / f"vectors_{n}.npz"
    vectors = centres[labels] + rng.normal(size=(n, 50)).astype(np.float32)
    np.savez(path, vectors=vectors, labels=labels)
    project = folder / f"vectors_{n}.embed"
    shutil.rmtree(project, ignore_errors=True)
    steps = [
        run("new", path, project, "--kind", "vectors"),
        run("embed", project),
        run("project", project, "--dims", 3, "--method", "pca"),
        run("neighbors", project),
        run("project", project, "--dims", 2, "--max-iter", iterations_2d),
        run("project", project, "--dims", 3, "--max-iter", iterations_3d),
    ]
    record(
        f"pipeline_vectors_{n}",
        {"steps": steps, "status_at_end": status(project)},
        settings={
            "n": n, "dimensions": 50, "clusters": 200,
            "iterations_2d": iterations_2d, "iterations_3d": iterations_3d,
        },
    )  # fmt: skip


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cifar10", "million"))
    parser.add_argument("--archive", type=Path, default=Path("cifar10_jpeg.tar.xz"))
    parser.add_argument("--folder", type=Path, help="kept, if given")
    parser.add_argument("--kill-after", type=float, default=6.0, metavar="SECONDS")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--iterations-2d", type=int, default=100)
    parser.add_argument("--iterations-3d", type=int, default=20)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="napari-embed-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if options.what == "cifar10":
            cifar10(options.archive, folder, options.kill_after)
        else:
            million(folder, options.n, options.iterations_2d, options.iterations_3d)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
