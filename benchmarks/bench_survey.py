"""Load, turn, click, box, lasso, recolour and hide at the survey's sizes.

The survey that this program answers asked tools for 600,000 points in 2D and 3D. Here
the points layer does what the survey did by hand, from 60,000 to 5 million points.
Times are CPU time of the window's thread; a frame is CPU time of all threads with the
drawing, which a graphics card would do. Each size runs in its own process.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/bench_survey.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_viewer import Stage, clusters, cpu_ms

SIZES = (60_000, 600_001, 1_000_000, 5_000_000)
RATIO_MOST = 12.0
RATIO_SIZES = (600_001, 60_000)
PARTS = ("box", "lasso")


def load(stage: Stage, file: Path) -> None:
    """Read positions and classes from a file and show them in colour."""
    with np.load(file, allow_pickle=False) as data:
        stage.xyz, stage.labels = data["positions"], data["labels"]
    stage.construct()
    stage.show()
    stage.by_category()


def orbit(stage: Stage) -> float:
    """Return the CPU ms of a frame while the camera turns, drawing included."""
    stage.turn()
    stage.frame()  # the first frame of a move finds out that there is one
    stage.turn()
    start = time.process_time()
    stage.frame()
    return (time.process_time() - start) * 1000


def still(stage: Stage) -> float:
    """Return the CPU ms of a frame of all points, drawing included."""
    stage.layer._link._on_rest()
    start = time.process_time()
    stage.frame()
    return (time.process_time() - start) * 1000


def hide_class(stage: Stage) -> None:
    """Hide the points of one class."""
    stage.layer.set_visible(stage.labels != 7)
    stage.flush()


def run(n: int, dims: int, file: Path, out: Path) -> None:
    """Time everything at one size and write what was found."""
    stage = Stage(10, "ours", dims)
    stage.n = n
    found: dict[str, float] = {}

    def keep(name: str, times: list[float]) -> None:
        found[name] = round(float(np.median(times)), 2)
        out.write_text(json.dumps(found))
        print(f"{dims}D {n:>9,} {name:28} {found[name]:10.1f} ms", flush=True)

    stage.classes, stage.values = np.zeros(n, np.int8), np.zeros(n, np.float32)
    keep("load", [cpu_ms(lambda: load(stage, file))])
    stage.layer._link._rest.setInterval(600_000)
    stage.frame()
    keep("frame while turning", [orbit(stage) for _ in range(3)])
    keep("frame at rest", [still(stage) for _ in range(3)])
    for name, action, prepare in steps(stage):
        times = []
        for _ in range(5):
            prepare()
            spent = cpu_ms(action)
            times.append(stage.part_ms if name in PARTS else spent)
        keep(name, times)
    sys.stdout.flush()
    os._exit(0)


def steps(stage: Stage) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Return name, what is timed, and what is done before it each time."""

    def with_tool(name: str) -> Callable[[], None]:
        def act() -> None:
            stage.tool(name)
            stage.deselect()
            stage.flush()

        return act

    def show_all() -> None:
        stage.show_all()
        stage.flush()

    return [
        ("click", stage.click, with_tool("box")),
        ("box", stage.box, with_tool("box")),
        ("lasso", stage.lasso, with_tool("lasso")),
        ("recolour", stage.by_category, stage.deselect),
        ("hide a class", lambda: hide_class(stage), show_all),
    ]


def main() -> None:
    """Run every size in 2D and 3D and save the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--child", nargs=4, metavar=("N", "DIMS", "FILE", "OUT"))
    arguments = parser.parse_args()
    if arguments.child:
        n, dims, file, out = arguments.child
        run(int(n), int(dims), Path(file), Path(out))
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAPARI_CONFIG": f"{folder}/settings.yaml"}
        for dims in (2, 3):
            for n in arguments.points:
                file, out = Path(folder) / "map.npz", Path(folder) / "found.json"
                positions, labels = clusters(n, dims)
                np.savez(file, positions=positions, labels=labels.astype(np.int16))
                command = [sys.executable, __file__, "--child", str(n), str(dims)]
                subprocess.run(
                    [*command, str(file), str(out)], env=environment, check=True
                )
                results[f"{dims}D {n:,}"] = json.loads(out.read_text())
    ratios = compare(results)
    from _record import record

    over = [
        f"{dims} {name}: {value:.1f}"
        for dims, found in ratios.items()
        for name, value in found.items()
        if value > RATIO_MOST
    ]
    print(f"ratios above {RATIO_MOST:.0f}: " + ("; ".join(over) or "none"))
    record(
        "survey",
        {"cpu_ms": results, "ratio_600k_to_60k": ratios, "above_12": over},
        settings={"canvas": [800, 600], "classes": 50, "drawing": "software OpenGL"},
    )


def compare(results: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return time(600K) over time(60K) per dimension and action."""
    ratios = {}
    for dims in ("2D", "3D"):
        large, small = (results.get(f"{dims} {n:,}") for n in RATIO_SIZES)
        if large and small:
            ratios[dims] = {k: round(large[k] / small[k], 2) for k in small}
    return ratios


if __name__ == "__main__":
    main()
