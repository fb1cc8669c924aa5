"""Affinities against a float64 search, openTSNE and their own definition."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import sparse

from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.errors import InputError, JobCancelled
from napari_embed.tsne import affinities, neighbor_graph
from napari_embed.tsne.affinities import conditional_probabilities, largest_perplexity


def matrix(p: Affinities) -> sparse.csr_matrix:
    return sparse.csr_matrix((p.values, p.indices, p.indptr), shape=(p.n, p.n))


def slow_search(squared: np.ndarray, perplexity: float) -> np.ndarray:
    """Plain bisection in float64, one row at a time."""
    result = np.zeros(squared.shape)
    for i, row in enumerate(np.asarray(squared, np.float64)):
        away = row - row.min()
        low, high = 0.0, np.inf
        beta = 1.0 / max(away.mean(), 1e-300)
        for _ in range(300):
            p = np.exp(-away * beta)
            p /= p.sum()
            entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
            if entropy > np.log(perplexity):
                low = beta
                beta = 2 * beta if np.isinf(high) else 0.5 * (low + high)
            else:
                high = beta
                beta = 0.5 * (low + high)
        result[i] = p
    return result


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 12.0])
@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_conditional_probabilities_equal_a_plain_bisection(
    rng, perplexity, unit
) -> None:
    squared = np.sort(rng.gamma(3.0, 2.0, (80, 40)), axis=1)
    squared *= rng.uniform(0.01, 100, (80, 1))
    graph = NeighborGraph(
        np.stack([rng.permutation(np.delete(np.arange(80), i))[:40] for i in range(80)])
        .astype(np.int32),
        (squared * unit).astype(np.float32),
    )  # fmt: skip
    given, reached = conditional_probabilities(graph, perplexity=perplexity)
    expected = slow_search(squared, perplexity)
    np.testing.assert_allclose(given, expected, rtol=2e-4, atol=2e-6)
    assert reached == pytest.approx(perplexity, rel=1e-5)


def test_equal_to_opentsne(rng) -> None:
    opentsne = pytest.importorskip("openTSNE.affinity")
    x = rng.standard_normal((400, 10))
    graph = neighbor_graph(x, n_neighbors=60)
    ours = matrix(affinities(graph, perplexity=20))
    theirs = opentsne.joint_probabilities_nn(
        graph.indices.astype(np.int64), np.sqrt(graph.distances), [20], symmetrize=True
    )
    assert abs(ours - theirs).sum() < 1e-4


def test_symmetric_sorted_without_diagonal_and_sum_one(rng) -> None:
    n = int(rng.integers(200, 800))
    graph = neighbor_graph(rng.standard_normal((n, 5)), n_neighbors=30)
    p = affinities(graph, perplexity=10)
    full = matrix(p)
    assert abs(full - full.T).max() == 0.0
    assert full.diagonal().max() == 0.0
    assert (p.values > 0).all()
    assert abs(p.values.sum(dtype=np.float64) - 1.0) < 1e-6
    for i in range(0, n, 37):
        assert (np.diff(p.indices[p.indptr[i] : p.indptr[i + 1]]) > 0).all()
    union = sparse.csr_matrix(
        (np.ones(graph.indices.size), graph.indices.ravel(), np.arange(n + 1) * 30),
        shape=(n, n),
    )
    assert p.indices.size == (union + union.T).nnz
    assert p.perplexity == pytest.approx(10, rel=1e-5)


def test_perplexity_is_clipped_and_says_so(rng, caplog) -> None:
    graph = neighbor_graph(rng.standard_normal((10, 3)))
    with caplog.at_level(logging.WARNING):
        p = affinities(graph, perplexity=30)
    assert "Perplexity 30 was lowered to 3" in caplog.text
    assert p.perplexity == pytest.approx(3.0, rel=1e-4)


def test_largest_perplexity_is_possible_and_rises() -> None:
    values = [largest_perplexity(k) for k in range(1, 200)]
    assert values[0] == 1.0
    assert all(v <= k for k, v in enumerate(values, start=1))
    assert (np.diff(values) >= 0).all()
    assert largest_perplexity(90) == 30


def test_missing_neighbors_are_ignored(rng) -> None:
    x = rng.standard_normal((60, 4))
    graph = neighbor_graph(x, n_neighbors=20)
    ids, squared = graph.indices.copy(), graph.distances.copy()
    ids[7, 5:], squared[7, 5:] = -1, np.inf
    ids[9], squared[9] = -1, np.inf
    p = matrix(affinities(NeighborGraph(ids, squared), perplexity=5))
    assert abs(p.sum() - 1.0) < 1e-6
    given, _ = conditional_probabilities(NeighborGraph(ids, squared), perplexity=5)
    assert (given[7, 5:] == 0).all()
    assert given[7].sum() == pytest.approx(1.0)
    assert given[9].sum() == 0
    # Five neighbors allow no perplexity of 5, but the row is not uniform either.
    assert given[7, 0] > given[7, 4]


def test_item_without_any_link_has_an_empty_row(rng) -> None:
    ids = np.array([[1], [0], [-1]], np.int32)
    squared = np.array([[1], [1], [np.inf]], np.float32)
    p = affinities(NeighborGraph(ids, squared))
    assert p.indptr.tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(p.values, 0.5)
    none = affinities(
        NeighborGraph(np.full((3, 2), -1, np.int32), np.full((3, 2), np.inf, "f4"))
    )
    assert none.values.size == 0
    assert none.indptr.tolist() == [0, 0, 0, 0]


def test_own_id_among_the_neighbors_is_ignored(rng) -> None:
    ids = np.array([[0, 1], [1, 0], [0, 1]], np.int32)
    squared = np.array([[0, 1], [0, 1], [2, 3]], np.float32)
    p = matrix(affinities(NeighborGraph(ids, squared)))
    assert p.diagonal().max() == 0.0
    assert abs(p.sum() - 1.0) < 1e-6


def test_ties_and_equal_distances() -> None:
    n, k = 100, 30
    ids = ((np.arange(n)[:, None] + np.arange(1, k + 1)) % n).astype(np.int32)
    for squared in (np.zeros((n, k)), np.full((n, k), 7.0)):
        given, reached = conditional_probabilities(
            NeighborGraph(ids, squared.astype(np.float32)), perplexity=10
        )
        np.testing.assert_allclose(given, 1 / k, rtol=1e-5)
        assert reached == pytest.approx(k)
    half = np.zeros((n, k), np.float32)
    half[:, 20:] = 5.0  # 20 ties at the nearest distance: 10 cannot be reached
    given, reached = conditional_probabilities(NeighborGraph(ids, half), perplexity=10)
    np.testing.assert_allclose(given[:, :20], 0.05, rtol=1e-4)
    assert given[:, 20:].max() < 1e-6
    assert reached == pytest.approx(20, rel=1e-4)


def test_one_far_neighbor_does_not_blur_the_near_ones(rng) -> None:
    squared = np.sort(rng.uniform(1, 2, (50, 31)), axis=1)
    squared[:, -1] = 1e18
    ids = ((np.arange(50)[:, None] + np.arange(1, 32)) % 50).astype(np.int32)
    given, reached = conditional_probabilities(
        NeighborGraph(ids, squared.astype(np.float32)), perplexity=8
    )
    assert reached == pytest.approx(8, rel=1e-4)
    np.testing.assert_allclose(given, slow_search(squared, 8), atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_wrong_distances_are_named(value) -> None:
    ids = np.array([[1], [2], [0]], np.int32)
    squared = np.array([[1], [value], [1]], np.float32)
    with pytest.raises(InputError, match="row 1"):
        affinities(NeighborGraph(ids, squared))


@pytest.mark.parametrize("perplexity", [0.0, -3.0, float("nan")])
def test_wrong_perplexity(perplexity) -> None:
    graph = NeighborGraph(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32))
    with pytest.raises(InputError, match="perplexity"):
        affinities(graph, perplexity=perplexity)


def test_progress_reaches_the_end_and_can_cancel(rng, monkeypatch) -> None:
    module = __import__("sys").modules["napari_embed.tsne.affinities"]
    monkeypatch.setattr(module, "_BLOCK_ROWS", 16)
    graph = neighbor_graph(rng.standard_normal((100, 3)), n_neighbors=9)
    before = graph.indices.tobytes(), graph.distances.tobytes()
    calls: list[tuple[int, int]] = []
    affinities(graph, perplexity=3, progress=lambda a, b: calls.append((a, b)))
    assert calls[-1] == (100, 100)
    assert len(calls) == 7

    def stop(done: int, total: int) -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        affinities(graph, perplexity=3, progress=stop)
    assert before == (graph.indices.tobytes(), graph.distances.tobytes())
