"""Memory and time of a collection far larger than memory would like.

    python benchmarks/bench_memory.py --n 10000000 --dim 128 --folder BIG_DISK

Generated vectors are imported, opened for looking, laid out by PCA, and by t-SNE for a
few iterations after a neighbor search where ``--tsne`` is given. Every step is its own
process, whose peak memory is the kernel's own, so no peak is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from _record import record

BLOCK = 250_000
CLUSTERS = 200

# What the window reads of a project to show a map: no vectors among it.
LOOK = """
import sys, time, numpy as np
from napari_embed.project import Project
started = time.perf_counter()
with Project.open(sys.argv[1]) as project:
    stages = project.stages()
    opened = time.perf_counter() - started
    name = project.projection_names()[-1]
    positions = project.read_projection(name).positions
    codes, names = project.categories("label")
    page = project.items(rows=np.arange(0, project.n_items, project.n_items // 100))
assert len(positions) == project.n_items == len(codes)
import json
print(json.dumps({"open_s": round(opened, 3),
                  "open_and_read_map_s": round(time.perf_counter() - started, 2),
                  "torch": "torch" in sys.modules}))
"""


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command; return wall time, output and the largest process's peak memory."""
    watch = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps({'seconds': round(time.perf_counter() - start, 1),\n"
        "    'peak_mib': peak // 1024, 'code': done.returncode,\n"
        "    'output': done.stdout[-2000:]}))\n"
    )
    print("$", *command[:6], flush=True)
    answer = subprocess.run(
        [sys.executable, "-c", watch, *command],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print("  ", {k: v for k, v in found.items() if k != "output"}, flush=True)
    if found["code"] not in (0, 3):
        raise SystemExit(found["output"])
    return found


def make_vectors(path: Path, n: int, dim: int) -> None:
    """Write clustered float32 vectors, block by block."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32) * 2
    out = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        label = rng.integers(0, CLUSTERS, stop - start)
        out[start:stop] = centres[label]
        out[start:stop] += rng.standard_normal((stop - start, dim), dtype=np.float32)
    out.flush()


def main() -> None:
    """Parse the command line, run the steps, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tsne", type=int, default=0, metavar="ITERATIONS")
    parser.add_argument("--name", default="memory")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="napari-embed-", dir=options.folder))
    program = [sys.executable, "-m", "napari_embed"]
    project, source = folder / "big.embed", folder / "vectors.npy"
    steps: dict[str, Any] = {}
    try:
        started = time.perf_counter()
        make_vectors(source, options.n, options.dim)
        print(f"generated in {time.perf_counter() - started:.0f} s", flush=True)
        lines = {
            "import": [*program, "new", str(source), str(project), "--kind", "vectors"],
            "pca_3d": [*program, "project", str(project), "--method", "pca"],
            "open": [sys.executable, "-c", LOOK, str(project)],
        }
        if options.tsne:
            lines["neighbors"] = [*program, "neighbors", str(project), "--k", "15"]
            lines["tsne_2d"] = [
                *program, "project", str(project), "--dims", "2", "--perplexity", "5",
                "--max-iter", str(options.tsne), "--no-early-stop",
            ]  # fmt: skip
        for name, command in lines.items():
            found = measured(command)
            output = found.pop("output")
            steps[name] = found | (json.loads(output) if name == "open" else {})
            if name == "import":
                source.unlink()
        steps["disk_mib"] = round(
            sum(p.stat().st_size for p in project.rglob("*") if p.is_file()) / 2**20
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    vectors_mib = round(options.n * options.dim * 4 / 2**20)
    settings = {"n": options.n, "dim": options.dim, "vectors_mib": vectors_mib}
    record(f"{options.name}_{options.n}", steps, settings=settings)


if __name__ == "__main__":
    main()
