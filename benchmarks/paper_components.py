"""What each component of an iteration costs, by preset, stage and dimension.

    python benchmarks/paper_components.py                 # all 70,000 images
    python benchmarks/paper_components.py --items 10000

At iterations 50, 250 and 750 of a run of "default" every kernel is timed by Taichi's
own profiler, task by task; the least of several repetitions counts, which a busy
machine disturbs little. Milliseconds are wall time with all threads. A rebuild is
counted as it occurs: each iteration while exaggerating with "paper", every fifth one
otherwise. Writes ``results/paper_components_N.json``.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from typing import Any

# Read by Taichi when it starts.
os.environ["TI_KERNEL_PROFILER"] = "1"

import numpy as np
from numpy.typing import NDArray

from _fashion import Problem, about, maps, problem, settings
from _record import record
from napari_embed.kernels import runtime
from napari_embed.tsne.schedule import Schedule

REPEATS = 15
# Kernel to component; a kernel that is missing here stops the benchmark. The last ones
# of the repulsion begin with the near field and then read back and sum.
COMPONENTS = {
    "fit_tree": "refit", "lay_field": "field", "descend": "far",
    "finish_points": "near", "finish_cells": "near", "step": "attraction, update",
}  # fmt: skip
ORDER = (
    "build", "refit", "field", "far", "near", "read back", "attraction, update"
)  # fmt: skip


def tasks() -> list[tuple[str, float]]:
    """Return kernel and milliseconds of each task since the last call, in order."""
    ti = runtime.ti
    ti.sync()
    program = ti.lang.impl.get_runtime().prog
    program.sync_kernel_profiler()
    program.update_kernel_profiler()
    records = program.get_kernel_profiler_records()
    found = [(r.name, r.kernel_time) for r in records]
    ti.profiler.clear_kernel_profiler_info()
    return found


def by_component(found: list[tuple[str, float]]) -> dict[str, float]:
    total = dict.fromkeys(ORDER, 0.0)
    summed = False
    for task, milliseconds in found:
        kernel = re.sub(r"_c\d+_.*$", "", task)
        if kernel.startswith(("fill", "ext_arr", "ndarray_to")):
            continue
        component = COMPONENTS[kernel]
        if component == "near":
            # Its first loop; what follows in the kernel is not the near field's.
            component = "read back" if summed else "near"
            summed = summed or task.endswith("range_for")
        total[component] += milliseconds
    return total


def measure(
    given: Problem, y: NDArray[np.float32], preset: str, iteration: int
) -> dict[str, Any]:
    """Return milliseconds per iteration of each component at one map."""
    device = runtime.start("cpu")
    from napari_embed.kernels.minimizer import Minimizer, StepSettings
    from napari_embed.tsne.presets import accuracy_of

    params, joint = settings(y.shape[1], preset), given.joint
    schedule = Schedule.of(params, given.n)
    minimizer = Minimizer(
        joint.indptr, joint.indices, joint.values, y, device=device,
        accuracy=accuracy_of(params),
    )  # fmt: skip
    minimizer.prepare(renumber=True)
    early = iteration <= schedule.exaggeration_iter
    still = StepSettings(exaggeration=1.0, rate=0.0, momentum=0.0)
    rows = []
    for _ in range(REPEATS):
        tasks()
        began = time.perf_counter()
        minimizer.repulsion.rebuild(minimizer.y)  # and fit
        rebuild = (time.perf_counter() - began) * 1000
        while not (minimizer.prepare(choose=True, early=early) and minimizer.settle()):
            pass
        tasks()
        minimizer.prepare(early=early)
        minimizer.step(still)
        rows.append(by_component(tasks()) | {"build": rebuild})
    least = {name: min(row[name] for row in rows[2:]) for name in ORDER}
    asked = [schedule.rebuilds_at(iteration + i) for i in range(45)]
    least["build"] *= sum(asked) / len(asked)
    return {
        "dim": y.shape[1],
        "iteration": iteration,
        "preset": preset,
        "target": "cells" if minimizer.repulsion.cells_on else "points",
        "milliseconds": least,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    given = problem(parser.parse_args().items)
    rows = []
    for dim in (2, 3):
        for iteration, y in maps(given, dim).items():
            for preset in ("default", "paper"):
                rows.append(measure(given, y, preset, iteration))
                print(rows[-1], flush=True)
    threads = runtime.start("cpu").threads
    settings_used = about(given, threads=threads, unit="ms of wall time per iteration")
    record(f"paper_components_{given.n}", rows, settings=settings_used)


if __name__ == "__main__":
    main()
