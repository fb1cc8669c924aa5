from __future__ import annotations

import numpy as np
import pytest

from napari_embed.arrays import Affinities
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement
from napari_embed.tsne.optimizer import optimize


def clusters(
    rng: np.random.Generator, n: int, groups: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    centres = rng.normal(size=(groups, 20)) * 8
    labels = rng.integers(0, groups, n)
    return (centres[labels] + rng.normal(size=(n, 20))).astype(np.float32), labels


def problem(
    rng: np.random.Generator, n: int, dim: int
) -> tuple[Affinities, np.ndarray, np.ndarray]:
    vectors, labels = clusters(rng, n)
    joint = affinities(neighbor_graph(vectors, n_neighbors=60), perplexity=20.0)
    return joint, initial_positions(vectors, n, n_components=dim), labels


@pytest.mark.parametrize("dim", [2, 3])
def test_clusters_come_apart_and_kl_falls(rng: np.random.Generator, dim: int) -> None:
    joint, start, labels = problem(rng, 1500, dim)
    result = optimize(
        joint,
        start,
        ProjectionParams(n_components=dim, max_iter=500, early_stop=False),
        device="cpu",
    )
    trace = [kl for iteration, kl in result.info["kl_trace"] if iteration > 300]
    agreement = knn_label_agreement(result.positions, labels)
    print(f"{dim}D: KL {trace}, 10-NN agreement {agreement:.3f}")
    assert trace == sorted(trace, reverse=True)
    assert agreement > 0.95
