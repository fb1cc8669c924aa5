"""The preset "default" beside "paper" on the same maps: errors and interactions.

    python benchmarks/paper_stages.py                # all 70,000 images
    python benchmarks/paper_stages.py --items 10000

Maps are those of a run of "default" on Fashion-MNIST at iterations 50, 250 and 750.
"interactions" are evaluations of the kernel, by kind. The row "default, leaves of 4"
takes the published leaf size on both sides, so that the counts compare the methods
alone. Seconds are CPU seconds of one evaluation. Writes ``results/paper_stages*.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from _fashion import Problem, Yardstick, about, maps, problem
from _record import record
from napari_embed.kernels import runtime
from napari_embed.params import ProjectionParams

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy


def compared(dim: int) -> dict[str, Accuracy]:
    """Return what is compared."""
    runtime.start("cpu")
    from napari_embed.tsne.presets import accuracy_of

    ours, published = (
        accuracy_of(ProjectionParams(n_components=dim, preset=preset))
        for preset in ("default", "paper")
    )
    leaf = published.leaf_size
    return {
        "default": ours,
        f"default, leaves of {leaf}": replace(ours, leaf_size=leaf, bucket=leaf),
        "paper": published,
    }


def stages(given: Problem, dim: int) -> list[dict[str, Any]]:
    rows = []
    for iteration, y in maps(given, dim).items():
        yardstick = Yardstick(y)
        for name, accuracy in compared(dim).items():
            row = {
                "dim": dim,
                "iteration": iteration,
                "setting": name,
                **yardstick.measure(accuracy, early=iteration <= 250),
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    given = problem(parser.parse_args().items)
    rows = [row for dim in (2, 3) for row in stages(given, dim)]
    record(f"paper_stages_{given.n}", rows, settings=about(given))


if __name__ == "__main__":
    main()
