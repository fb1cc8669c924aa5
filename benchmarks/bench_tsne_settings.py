"""Which preset and perplexity: quality of the map and CPU time.

    python benchmarks/bench_tsne_settings.py --items 10000

For each preset at perplexity 30, and each perplexity with "default" (3 x perplexity
neighbors), in 2D and 3D: label agreement (10 nearest neighbors on the map), share of
the 10, 30 and 90 nearest neighbors on the map that are among as many true ones, and CPU
seconds of neighbors and affinities and of the minimisation. KL is comparable at equal
perplexity only. Writes ``results/tsne_settings*.json``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _fashion import Problem, about, problem, settings, whole_run
from _record import record
from napari_embed.arrays import NeighborGraph
from napari_embed.tsne import affinities, neighbor_graph
from napari_embed.tsne.metrics import (
    knn_label_agreement,
    neighborhood_preservation,
)

PERPLEXITIES = (10, 30, 50, 100)
PRESETS = ("fast", "default", "accurate")
KEPT = (10, 30, 90)
FAR_PAIRS = 200_000


def measures(given: Problem, positions: NDArray[np.float32]) -> dict[str, float]:
    """Return how good a map is, near and far."""
    found = {"label_agreement_10": knn_label_agreement(positions, given.labels, k=10)}
    for k in KEPT:
        precision, _ = neighborhood_preservation(given.graph, positions, k_max=k)
        found[f"kept_{k}"] = float(precision[-1])
    return found | {"distances_spearman": far_correlation(given, positions)}


def far_correlation(given: Problem, positions: NDArray[np.float32]) -> float:
    """Return the rank correlation of distances of random pairs: the large layout."""
    from scipy.stats import spearmanr

    pairs = np.random.default_rng(0).integers(0, given.n, (2, FAR_PAIRS))
    here, there = (
        np.linalg.norm(x[pairs[0]].astype(np.float64) - x[pairs[1]], axis=1)
        for x in (positions, given.vectors)
    )
    return float(spearmanr(here, there).statistic)


def with_perplexity(given: Problem, perplexity: int) -> tuple[Problem, float]:
    """Return the problem with another P, and the CPU seconds that P took.

    The graph to judge by stays the same.
    """
    began = time.process_time()
    graph: NeighborGraph = neighbor_graph(
        given.vectors, n_neighbors=3 * perplexity, method="exact"
    )
    joint = affinities(graph, perplexity=float(perplexity))
    return replace(given, joint=joint), time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    parser.add_argument("--name", default="tsne_settings")
    asked = parser.parse_args()
    given = problem(asked.items)
    rows: list[dict[str, Any]] = []
    for perplexity in PERPLEXITIES:
        work, seconds = with_perplexity(given, perplexity)
        for dim in (2, 3):
            for preset in PRESETS if perplexity == 30 else ("default",):
                row, positions = whole_run(work, settings(dim, preset))
                row |= {"perplexity": perplexity, "affinity_cpu_seconds": seconds}
                rows.append(row | measures(given, positions))
                brief = {k: v for k, v in rows[-1].items() if k != "kl_trace"}
                print(brief, flush=True)
    record(asked.name, rows, settings=about(given, perplexity="by row"))


if __name__ == "__main__":
    main()
