"""The paper's own evaluation, on our data and in our code.

    python benchmarks/bench_paper.py                      # all of it: hours on 2 cores
    python benchmarks/bench_paper.py stages refit         # some parts
    python benchmarks/bench_paper.py --items 5000         # all parts, small

Each part is a script of its own (``paper_*.py``; its first lines say what it does) that
runs in a process of its own and writes ``results/paper_*.json``; afterwards
``scripts/make_engine_figures.py`` draws them into ``docs/images``. Sizes of the parts
are chosen so that the slow preset "paper" stays affordable; ``--items`` overrides them.

Section of the paper, and part: 6.2 rebuild against refit: refit. 6.3 criterion and
theta: criterion, theta. 6.4 growing subsets, KL, neighborhoods: subsets; components:
components. Not in the paper: stages (errors and interactions of "default" beside
"paper"), leaves (what smaller leaves bring).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Arguments of each part, and how many items it takes; None is all 70,000.
PARTS: dict[str, list[tuple[list[str], int | None]]] = {
    "stages": [(["paper_stages.py"], 10_000), (["paper_stages.py"], None)],
    "leaves": [
        (["paper_leaves.py", "forces"], None),
        (["paper_leaves.py", "runs"], 10_000),
    ],
    "components": [(["paper_components.py"], None)],
    "refit": [
        (["paper_refit.py"], None),
        (["paper_refit.py", "--preset", "paper"], 5000),
    ],
    "theta": [
        (["paper_theta.py", "forces"], None),
        (["paper_theta.py", "runs"], 5000),
    ],
    "criterion": [
        (["paper_criterion.py", "forces"], None),
        (["paper_criterion.py", "runs"], 5000),
    ],
    "subsets": [
        (["paper_subsets.py"], None),
        (["paper_subsets.py", "--preset", "paper"], None),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--items", type=int)
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        for arguments, usual in PARTS[part]:
            items = given.items or usual
            option = "--sizes" if part == "subsets" else "--items"
            more = [] if items is None else [option, str(items)]
            print("==", *arguments, *more, flush=True)
            subprocess.run([sys.executable, *arguments, *more], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main()
