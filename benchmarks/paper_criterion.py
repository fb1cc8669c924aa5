"""The projected criterion against the plain one, in the published method and in ours.

    python benchmarks/paper_criterion.py forces                 # all 70,000 images
    python benchmarks/paper_criterion.py runs --items 5000

"published" accepts a pair of nodes when the larger diagonal, projected across the line
of sight, is under theta times the distance (section 4.3 of the paper); "plain" is the
same traversal with the whole diagonal. "ours" compares the whole diagonal with
``theta * sqrt(core + distance^2)``; core 0 is the plain rule. Other criteria are put in
place before the kernels are compiled, so each runs in a process of its own. "forces"
evaluates the repulsion once per theta on maps of a run of "default"; "runs" minimises
from start to end with the published method. Writes ``results/paper_criterion_*.json``.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _fashion import Problem, Yardstick, about, maps, problem, settings, whole_run
from _record import record

FORCE_THETAS = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
RUN_THETAS = (0.2, 0.3, 0.4, 0.5, 0.6)
# Name, preset, projected, core of the acceptance test (None: as it is).
VARIANTS: dict[str, tuple[str, bool, float | None]] = {
    "published, projected": ("paper", True, None),
    "published, plain": ("paper", False, None),
    "ours, core 0 (plain)": ("default", True, 0.0),
    "ours, core 1/4": ("default", True, 0.25),
    "ours, core 1": ("default", True, 1.0),
}


def install(projected: bool, core: float | None) -> None:
    """Put a criterion in place; nothing may have been compiled yet."""
    from napari_embed.kernels import near, runtime, traversal

    runtime.start("cpu")
    if core is not None:
        traversal.CORE = near.CORE = core
    if not projected:
        import _plain_criterion
        from napari_embed.kernels import published

        published._projected2 = _plain_criterion.whole2


def forces(name: str, given: dict[int, dict[int, NDArray[np.float32]]]) -> list[Any]:
    preset, projected, core = VARIANTS[name]
    install(projected, core)
    rows = []
    for dim, by_stage in given.items():
        for iteration, y in by_stage.items():
            yardstick = Yardstick(y)
            for theta in FORCE_THETAS:
                # Points as targets, so that reading the field back adds no error.
                target = "points" if preset == "default" else "cells"
                params = settings(dim, preset, theta=theta, target=target)
                found = yardstick.measure(params, early=False)
                row = {"criterion": name, "dim": dim, "iteration": iteration}
                rows.append({**row, **found, "theta_asked": theta})
                print(rows[-1], flush=True)
    return rows


def runs(name: str, given: Problem) -> list[Any]:
    preset, projected, core = VARIANTS[name]
    install(projected, core)
    rows = []
    for dim in (2, 3):
        for theta in RUN_THETAS:
            row, _ = whole_run(given, settings(dim, preset, theta=theta))
            rows.append({"criterion": name, "theta": theta, **row})
            print({k: v for k, v in rows[-1].items() if k != "kl_trace"}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("forces", "runs"))
    parser.add_argument("--items", type=int)
    asked = parser.parse_args()
    given = problem(asked.items)
    names = [n for n in VARIANTS if asked.what == "forces" or n.startswith("published")]
    work: Any = given
    if asked.what == "forces":
        work = {dim: maps(given, dim) for dim in (2, 3)}
    rows = []
    for name in names:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(
                runs if asked.what == "runs" else forces, name, work
            ).result()
    record(f"paper_criterion_{asked.what}_{given.n}", rows, settings=about(given))


if __name__ == "__main__":
    main()
