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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from _record import record
from napari_embed import Project

STEP_S = 0.05


def _memory_mib(family: list[psutil.Process]) -> float:
    """Resident memory of a family of processes, in MiB."""
    return sum(p.memory_info().rss for p in family) / 2**20


def run(*words: object, kill_when: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Run one command of ``napari-embed``; return its time, memory and exit code.

    Where ``kill_when`` becomes true the whole family of processes gets SIGKILL.
    """
    command = [sys.executable, "-m", "napari_embed", *map(str, words)]
    print("$ napari-embed", *words, flush=True)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    peak, killed = 0.0, False
    cpu_s: dict[int, float] = {}
    while child.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, _memory_mib(family))
            for p in family:
                times = p.cpu_times()
                cpu_s[p.pid] = times.user + times.system
            if kill_when is not None and kill_when():
                for p in reversed(family):
                    p.send_signal(signal.SIGKILL)
                killed = True
                break
        except psutil.NoSuchProcess:
            pass
        time.sleep(STEP_S)
    child.wait()
    result = {
        "command": " ".join(str(w) for w in words if "/" not in str(w)),
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(sum(cpu_s.values()), 2),
        "peak_memory_mib": round(peak),
        "exit_code": child.returncode,
        "killed": killed,
    }
    print("  ", result, flush=True)
    if not killed and child.returncode not in (0, 3):
        raise SystemExit(f"the command failed with exit code {child.returncode}")
    return result


def chunks_done(project: Path) -> int:
    """Return how many chunks of vectors are finished, while somebody writes them."""
    with Project.open(project) as opened:
        return max(
            (s.chunks_done for s in opened.stages() if s.key.startswith("embeddings/")),
            default=0,
        )


def status(project: Path) -> dict[str, Any]:
    """Return what ``napari-embed status --json`` says, without local paths."""
    answer = subprocess.run(
        [sys.executable, "-m", "napari_embed", "status", str(project), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(answer.stdout)
    return {k: v for k, v in facts.items() if k not in ("path", "source")}


def map_quality(project: Path) -> dict[str, float]:
    """Return the 10-nearest-neighbor label agreement of every map."""
    from napari_embed.tsne.metrics import knn_label_agreement

    found = {}
    with Project.open(project) as opened:
        codes, _ = opened.categories("label")
        for name in opened.projection_names():
            positions = opened.read_projection(name).positions
            found[name] = round(float(knn_label_agreement(positions, codes, k=10)), 4)
    return found


def cifar10(archive: Path, folder: Path, kill_after_chunks: int) -> None:
    """Ingest, embed (killed once), map and measure CIFAR-10 as a folder of JPEGs."""
    images = folder / "cifar10"
    if not images.is_dir():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    project = folder / "cifar10.embed"
    shutil.rmtree(project, ignore_errors=True)
    steps = [
        run("new", images, project),
        run(
            "embed",
            project,
            kill_when=lambda: chunks_done(project) >= kill_after_chunks,
        ),
    ]
    between = status(project)
    steps += [
        run("embed", project),
        run("neighbors", project),
        run("project", project, "--dims", 2),
        run("project", project, "--dims", 3),
        run("export", project, folder / "cifar10.csv", "--force"),
    ]
    record(
        "pipeline_cifar10",
        {
            "steps": steps,
            "status_after_kill": between,
            "status_at_end": status(project),
            "label_agreement_10nn": map_quality(project),
        },
        settings={
            "images": "CIFAR-10, 60,000 JPEG files",
            "killed_after_chunks": kill_after_chunks,
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
    parser.add_argument("--kill-after", type=int, default=40, metavar="CHUNKS")
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
