"""Accuracy of the repulsion: force error and interactions by theta, preset and stage.

    python benchmarks/bench_tsne_accuracy.py                # all 70,000 images
    python benchmarks/bench_tsne_accuracy.py --items 10000

A t-SNE of Fashion-MNIST runs to 750 iterations in 2D and in 3D. At iterations 50, 250
and 750 the repulsive force of every point is computed with each setting and compared
with the exact sum over all pairs. Errors are shares of the rms force (rms, and 99th
percentile over points) and of Z; "interactions" are evaluations of the kernel; seconds
are CPU seconds of one evaluation on refitted hierarchies. Writes
``results/tsne_accuracy*.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _fashion import Yardstick, about, maps, problem
from _record import record
from napari_embed.params import PRESETS, ProjectionParams

THETAS = (0.2, 0.3, 0.45, 0.6, 0.75, 0.9)


def compare(y: NDArray[np.float32], *, early: bool) -> list[dict[str, Any]]:
    """Return one row per setting."""
    dim = y.shape[1]
    yardstick = Yardstick(y)
    settings: list[tuple[str, ProjectionParams]] = [
        (preset, ProjectionParams(n_components=dim, preset=preset))
        for preset in PRESETS
    ]
    settings += [
        (f"{target} {theta}", ProjectionParams(
            n_components=dim, theta=theta, target=target))
        for target in ("points", "cells")
        for theta in THETAS
    ]  # fmt: skip
    # The sweep compares theta itself, so only presets lower it early.
    return [
        {"setting": name, **yardstick.measure(given, early=early and name in PRESETS)}
        for name, given in settings
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    parser.add_argument("--name", default="tsne_accuracy")
    asked = parser.parse_args()
    given = problem(asked.items)
    results = []
    for dim in (2, 3):
        for iteration, y in maps(given, dim).items():
            for row in compare(y, early=iteration <= 250):
                line = {"dim": dim, "iteration": iteration, **row}
                results.append(line)
                print(
                    f"{dim}D it {iteration:3d} {row['setting']:12s} {row['target']:6s} "
                    f"rms {row['rms_error']:.4f} p99 {row['p99_error']:.4f} "
                    f"Z {row['z_error']:+.1e} {row['interactions']['total']:,} "
                    f"{row['cpu_seconds']:.4f} s",
                    flush=True,
                )
    record(asked.name, results, settings=about(given))


if __name__ == "__main__":
    main()
