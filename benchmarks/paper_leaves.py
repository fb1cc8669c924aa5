"""Leaves and shared lists: what fewer interactions cost and bring.

    python benchmarks/paper_leaves.py forces               # all 70,000 images
    python benchmarks/paper_leaves.py runs --items 10000

The default keeps leaves of 16 points and sums one list for up to 64 targets. Smaller
ones need fewer evaluations of the kernel. "forces" counts them by kind and takes errors
and CPU seconds at iteration 750; "runs" minimises from three starts with the default
and with the settings that need a third of the published method's interactions at no
more CPU time. Writes ``results/paper_leaves_forces_N.json`` and ``..._runs_N.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from _fashion import Problem, Yardstick, about, maps, problem, settings, whole_run
from _record import record
from napari_embed.kernels import runtime

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy

# theta, points in a leaf, targets that share a list.
Sizes = tuple[float, int, int]
FORCES: dict[int, list[Sizes]] = {
    2: [(t, leaf, bucket) for t in (0.6, 0.64, 0.7)
        for leaf, bucket in ((16, 64), (8, 32), (4, 64), (4, 32), (4, 24), (4, 16),
                             (4, 4))],
    3: [(t, leaf, bucket) for t in (0.7, 0.8)
        for leaf, bucket in ((16, 64), (8, 32), (4, 64), (4, 32), (4, 24), (4, 16),
                             (4, 4))],
}  # fmt: skip
RUNS: dict[int, list[Sizes]] = {
    2: [(0.6, 16, 64), (0.7, 16, 64), (0.64, 4, 24)],
    3: [(0.7, 16, 64), (0.85, 16, 64), (0.8, 4, 24)],
}
SEEDS = 3


def with_sizes(accuracy: Accuracy, sizes: Sizes) -> Accuracy:
    """Return the default with other sizes; the early theta keeps its share."""
    theta, leaf, bucket = sizes
    early = theta * accuracy.early_theta / accuracy.theta
    return replace(
        accuracy, theta=theta, early_theta=early, leaf_size=leaf, bucket=bucket
    )


def forces(given: Problem) -> list[dict[str, Any]]:
    runtime.start("cpu")
    from napari_embed.tsne.presets import accuracy_of

    rows = []
    for dim in (2, 3):
        yardstick = Yardstick(maps(given, dim)[750])
        default = accuracy_of(settings(dim))
        asked = [("paper", accuracy_of(settings(dim, "paper")))]
        asked += [("default", with_sizes(default, sizes)) for sizes in FORCES[dim]]
        for preset, accuracy in asked:
            row = {"dim": dim, "preset": preset, "leaf_size": accuracy.leaf_size,
                   "bucket": accuracy.bucket}  # fmt: skip
            rows.append(row | yardstick.measure(accuracy, early=False))
            print(rows[-1], flush=True)
    return rows


def runs(given: Problem, seeds: int) -> list[dict[str, Any]]:
    runtime.start("cpu")
    from napari_embed.tsne import presets

    rows = []
    for dim in (2, 3):
        default = presets.accuracy_of(settings(dim))
        for seed in range(seeds):
            for sizes in RUNS[dim]:
                chosen = with_sizes(default, sizes)
                with mock.patch.object(presets, "accuracy_of", lambda _, c=chosen: c):
                    row, _ = whole_run(given, settings(dim, random_state=seed))
                row |= {"seed": seed, "theta": sizes[0], "leaf_size": sizes[1],
                        "bucket": sizes[2]}  # fmt: skip
                rows.append(row)
                print({k: v for k, v in row.items() if k != "kl_trace"}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("forces", "runs"))
    parser.add_argument("--items", type=int)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args()
    given = problem(asked.items)
    rows = forces(given) if asked.what == "forces" else runs(given, asked.seeds)
    record(f"paper_leaves_{asked.what}_{given.n}", rows, settings=about(given))


if __name__ == "__main__":
    main()
