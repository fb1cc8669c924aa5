"""Growing subsets: time, KL and preservation of neighborhoods, in 2D and 3D.

    python benchmarks/paper_subsets.py                        # "default", 1,000 to all
    python benchmarks/paper_subsets.py --preset paper --sizes 1000 2000 5000 10000

Section 6.4 of the paper: for each subset of Fashion-MNIST the minimisation's CPU
seconds, its final KL (exact, float64), and precision and recall of the neighborhoods
for k = 1 to 3 x perplexity against exact neighbors. 750 iterations of "default", 1,000
of "paper", from the preset's own start. Writes ``results/paper_subsets_PRESET.json``,
and keeps what it holds of other sizes.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from _fashion import about, problem, settings, whole_run
from _record import RESULTS, record
from napari_embed.tsne.metrics import knn_label_agreement, neighborhood_preservation

SIZES = (1000, 2000, 5000, 10_000, 20_000, 40_000, 70_000)
SAMPLE = 10_000


def saved(name: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Return what an earlier run measured at other sizes."""
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["results"] if path.is_file() else []
    return [row for row in rows if row["items"] not in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--dimensions", nargs="+", type=int, default=[2, 3])
    asked = parser.parse_args()
    name = f"paper_subsets_{asked.preset}"
    rows = saved(name, asked.sizes)
    for size in asked.sizes:
        given = problem(size)
        for dim in asked.dimensions:
            row, positions = whole_run(given, settings(dim, asked.preset))
            precision, recall = neighborhood_preservation(
                given.graph, positions, n_sample=SAMPLE
            )
            agreement = knn_label_agreement(positions, given.labels, k=10)
            print({k: v for k, v in row.items() if k != "kl_trace"}, agreement,
                  precision[[0, 9, 29, 89]], flush=True)  # fmt: skip
            row |= {
                "label_agreement_10": agreement,
                "precision": precision.round(5).tolist(),
                "recall": recall.round(5).tolist(),
            }
            rows.append(row)
            # Long runs: what is there is kept.
            rows.sort(key=lambda row: (row["items"], row["dim"]))
            record(name, rows, settings=about(given, items="by row"))


if __name__ == "__main__":
    main()
