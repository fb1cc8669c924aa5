"""Map quality against plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.arrays import NeighborGraph
from napari_embed.errors import InputError
from napari_embed.tsne import neighbor_graph
from napari_embed.tsne.metrics import (
    knn_label_agreement,
    map_neighbors,
    neighborhood_preservation,
)


def nearest(y: np.ndarray, k: int) -> np.ndarray:
    squared = ((y[:, None] - y[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    return np.argsort(squared, axis=1)[:, :k]


@pytest.mark.parametrize("d", [2, 3])
def test_map_neighbors_equal_brute_force(rng, d) -> None:
    y = rng.standard_normal((200, d))
    np.testing.assert_array_equal(map_neighbors(y, 9), nearest(y, 9))
    rows = np.array([3, 77])
    np.testing.assert_array_equal(map_neighbors(y, 9, rows=rows), nearest(y, 9)[rows])


def test_a_point_is_never_its_own_neighbor() -> None:
    found = map_neighbors(np.zeros((50, 2)), 5)
    assert found.shape == (50, 5)
    assert (found != np.arange(50)[:, None]).all()


def test_label_agreement_equals_plain_counting(rng) -> None:
    y = rng.standard_normal((300, 2))
    labels = np.array(["cat", "dog", "owl"])[rng.integers(0, 3, 300)]
    near = nearest(y, 7)
    right = 0
    for i in range(300):
        votes = dict.fromkeys(("cat", "dog", "owl"), 0)
        for j in near[i]:
            votes[labels[j]] += 1
        best = max(votes.values())
        winner = next(labels[j] for j in near[i] if votes[labels[j]] == best)
        right += winner == labels[i]
    assert knn_label_agreement(y, labels, k=7) == pytest.approx(right / 300)


def test_label_agreement_of_perfect_and_of_useless_maps(rng) -> None:
    labels = np.repeat(np.arange(10), 50)
    assert knn_label_agreement(np.column_stack([labels, labels]) * 1.0, labels) == 1.0
    blind = knn_label_agreement(rng.standard_normal((500, 2)), labels)
    assert blind < 0.3


def test_preservation_equals_plain_counting(rng) -> None:
    x, y = rng.standard_normal((120, 6)), rng.standard_normal((120, 3))
    graph = neighbor_graph(x, n_neighbors=20)
    precision, recall = neighborhood_preservation(graph, y, k_max=15)
    near = nearest(y, 15)
    for k in range(1, 16):
        shared = [
            len(set(near[i, :k]) & set(graph.indices[i, :15])) for i in range(120)
        ]
        assert precision[k - 1] == pytest.approx(np.mean(shared) / k)
        assert recall[k - 1] == pytest.approx(np.mean(shared) / 15)


def test_preservation_of_a_faithful_map_is_perfect(rng) -> None:
    y = rng.standard_normal((200, 2))
    precision, recall = neighborhood_preservation(neighbor_graph(y, n_neighbors=30), y)
    np.testing.assert_allclose(precision, 1.0)
    np.testing.assert_allclose(recall, np.arange(1, 31) / 30)


def test_preservation_on_a_sample_is_close(rng) -> None:
    x = rng.standard_normal((1500, 4))
    graph = neighbor_graph(x, n_neighbors=20)
    whole, _ = neighborhood_preservation(graph, x[:, :2])
    part, _ = neighborhood_preservation(graph, x[:, :2], n_sample=700)
    assert np.abs(whole - part).max() < 0.1


def test_missing_neighbors_never_count_as_found() -> None:
    ids = np.array([[1, -1], [0, -1], [1, -1]], np.int32)
    graph = NeighborGraph(ids, np.zeros((3, 2), np.float32))
    precision, _ = neighborhood_preservation(graph, np.arange(6.0).reshape(3, 2))
    assert precision[1] == pytest.approx(0.5)


def test_wrong_input(rng) -> None:
    y = rng.standard_normal((10, 2))
    graph = neighbor_graph(y, n_neighbors=4)
    with pytest.raises(InputError, match="k must lie"):
        map_neighbors(y, 10)
    with pytest.raises(InputError, match="labels"):
        knn_label_agreement(y, np.zeros(9), k=3)
    with pytest.raises(InputError, match="positions"):
        neighborhood_preservation(graph, y[:9])
    with pytest.raises(InputError, match="k_max"):
        neighborhood_preservation(graph, y, k_max=5)
    y[3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        map_neighbors(y, 3)
