"""Rebuild the hierarchy or refit it: never, for 4 or for 8 iterations in a row.

    python benchmarks/paper_refit.py                      # all 70,000, "default"
    python benchmarks/paper_refit.py --items 5000 --preset paper

As in section 6.2 of the paper, nothing is refitted during early exaggeration. Every
iteration's CPU seconds and interactions are kept; the force error is taken just before
hierarchies are rebuilt, where they are at their worst. Writes
``results/paper_refit_PRESET_N.json``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from _fashion import Problem, Yardstick, about, compiled, problem, settings, start
from _record import record
from napari_embed.kernels import runtime
from napari_embed.params import ProjectionParams
from napari_embed.tsne.reference import exact_kl
from napari_embed.tsne.schedule import CHECK_EVERY, Schedule

INTERVALS = (1, 5, 9)  # a rebuild and 0, 4 or 8 refits
# The force error is taken at the first iteration from these on that ends an interval.
LOOK_FROM = (340, 490, 740)


def run(given: Problem, params: ProjectionParams, interval: int) -> dict[str, Any]:
    """Minimise, rebuilding every ``interval`` iterations after the exaggeration."""
    device = runtime.start("cpu")
    from napari_embed.kernels.layout import CHUNKS
    from napari_embed.kernels.minimizer import Minimizer, StepSettings
    from napari_embed.tsne.presets import accuracy_of

    joint, schedule = given.joint, Schedule.of(params, given.n)
    minimizer = Minimizer(
        joint.indptr, joint.indices, joint.values, start(given, params),
        device=device, accuracy=accuracy_of(params),
    )  # fmt: skip
    until = schedule.exaggeration_iter + schedule.decay_iter
    seconds, counts, errors, age = [], [], {}, 0
    for it in range(schedule.max_iter):
        began = time.process_time()
        # Points are renumbered along the curve now and then, which needs a rebuild.
        renumber = it % CHECK_EVERY == 0
        age += 1
        rebuild = it < until or renumber or age == interval
        if rebuild:
            age = 0
        done = False
        while not done:  # again, should an array have been too small
            done = minimizer.prepare(
                early=schedule.exaggerates_at(it), rebuild=rebuild, renumber=renumber,
                choose=schedule.chooses_target_at(it),
            ) and minimizer.settle()  # fmt: skip
        seconds.append(time.process_time() - began)
        counts.append(sum(minimizer.repulsion.interactions().values()))
        marks = [mark for mark in LOOK_FROM if mark <= it]
        if age == interval - 1 and len(errors) < len(marks):
            force = minimizer.repulsion.result.to_numpy()[:, 1:].astype(np.float64)
            errors[it] = _error(minimizer, force / float(minimizer.repulsion.z[CHUNKS]))
        began = time.process_time()
        minimizer.step(
            StepSettings(
                exaggeration=schedule.exaggeration_at(it), rate=schedule.rate_at(it),
                momentum=schedule.momentum_at(it), min_gain=schedule.min_gain,
                clip=schedule.clip,
            )
        )  # fmt: skip
        seconds[-1] += time.process_time() - began
    return {
        "dim": params.n_components,
        "preset": params.preset,
        "refits": interval - 1,
        "cpu_seconds": sum(seconds),
        "cpu_seconds_after_exaggeration": sum(seconds[until:]),
        "interactions_after_exaggeration": sum(counts[until:]),
        "exact_kl": exact_kl(joint, minimizer.positions()),
        "force_error_before_rebuild": errors,
        "seconds_by_iteration": [round(s, 5) for s in seconds],
        "interactions_by_iteration": counts,
    }


def _error(minimizer: Any, force: np.ndarray) -> float:
    yardstick = Yardstick(minimizer.y.to_numpy())
    off = ((force - yardstick.force) ** 2).sum(1).mean()
    return float(np.sqrt(off) / yardstick.scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--dimensions", nargs="+", type=int, default=[2, 3])
    asked = parser.parse_args()
    given = problem(asked.items)
    rows = []
    for dim in asked.dimensions:
        params = settings(dim, asked.preset)
        compiled(given, params)
        for interval in INTERVALS:
            row = run(given, params, interval)
            rows.append(row)
            brief = {k: v for k, v in row.items() if not k.endswith("by_iteration")}
            print(brief, flush=True)
    record(f"paper_refit_{asked.preset}_{given.n}", rows, settings=about(given))


if __name__ == "__main__":
    main()
