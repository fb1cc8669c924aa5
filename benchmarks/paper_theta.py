"""Theta from 0.1 to 0.7: force error, interactions, CPU time and final KL.

    python benchmarks/paper_theta.py forces                 # all 70,000 images
    python benchmarks/paper_theta.py runs --items 5000

"forces" evaluates the repulsion once per theta on the maps of a run of "default" at
iterations 50, 250 and 750; "runs" minimises from start to end with each theta. Both for
"default" and "paper", in 2D and 3D. In the early iterations each preset keeps the ratio
between its two thetas. Writes ``results/paper_theta_forces_N.json`` and
``results/paper_theta_runs_N.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

from _fashion import Problem, Yardstick, about, maps, problem, settings, whole_run
from _record import record

THETAS = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
PRESETS = ("default", "paper")


def forces(given: Problem) -> list[dict[str, Any]]:
    rows = []
    for dim in (2, 3):
        for iteration, y in maps(given, dim).items():
            yardstick = Yardstick(y)
            for preset in PRESETS:
                for theta in THETAS:
                    params = settings(dim, preset, theta=theta)
                    found = yardstick.measure(params, early=iteration <= 250)
                    row = {"dim": dim, "iteration": iteration, "preset": preset}
                    rows.append({**row, **found, "theta_asked": theta})
                    print(rows[-1], flush=True)
    return rows


def runs(given: Problem) -> list[dict[str, Any]]:
    rows = []
    for dim in (2, 3):
        for preset in PRESETS:
            for theta in THETAS:
                row, _ = whole_run(given, settings(dim, preset, theta=theta))
                rows.append({"theta": theta, **row})
                brief = {k: v for k, v in rows[-1].items() if k != "kl_trace"}
                print(brief, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("forces", "runs"))
    parser.add_argument("--items", type=int)
    asked = parser.parse_args()
    given = problem(asked.items)
    rows = forces(given) if asked.what == "forces" else runs(given)
    record(f"paper_theta_{asked.what}_{given.n}", rows, settings=about(given))


if __name__ == "__main__":
    main()
