"""Vectors that end other programs: a clear refusal or a valid graph, never a crash."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.initialization import pca_projection

METHODS = ("auto", "exact", "ivf", "hnsw")
METRICS = ("euclidean", "cosine")
N, D, K = 600, 8, 15


def one_huge_row(x):
    x[17] = 1e20


def one_beyond_float32(x):
    x[17] = -1e200


def one_outlier(x):
    x[17] = 1e4


def one_outlier_1e30(x):
    x[17] = 1e30


def two_opposite_giants(x):
    x[17], x[18] = 1.7e308, -1.7e308


def all_huge(x):
    x *= 1e20


def all_tiny(x):
    x *= 1e-30


def denormal(x):
    x *= 1e-310


def all_equal(x):
    x[:] = 3.25


def all_zero(x):
    x[:] = 0.0


def half_equal(x):
    x[::2] = x[0]


def half_zero(x):
    x[::2] = 0.0


def many_pairs(x):
    x[1::2] = x[::2]


def one_column_differs(x):
    x[:] = 1e6
    x[:, 3] += np.arange(len(x))


SETS = (
    one_huge_row, one_beyond_float32, one_outlier, one_outlier_1e30,
    two_opposite_giants, all_huge, all_tiny, denormal, all_equal, all_zero,
    half_equal, half_zero, many_pairs, one_column_differs,
)  # fmt: skip


@pytest.mark.parametrize("spoil", SETS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_graph_affinities_and_start_stay_valid(rng, spoil, metric, method) -> None:
    x = rng.standard_normal((N, D))
    spoil(x)
    graph = neighbor_graph(x, n_neighbors=K, metric=metric, method=method)
    assert graph.indices.shape == (N, K)
    assert (graph.indices >= 0).all()
    assert (graph.indices != np.arange(N)[:, None]).all()
    assert (np.diff(np.sort(graph.indices, axis=1), axis=1) > 0).all()
    assert np.isfinite(graph.distances).all()
    assert (graph.distances >= 0).all()
    p = affinities(graph, perplexity=5.0)
    assert np.isfinite(p.values).all()
    assert abs(p.values.sum(dtype=np.float64) - 1.0) < 1e-6
    for components in (2, 3):
        start = initial_positions(x, N, n_components=components)
        assert np.isfinite(start).all()
        assert len(np.unique(start, axis=0)) == N
        assert np.isfinite(pca_projection(x, n_components=components).positions).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_unit_of_the_vectors_changes_no_neighbor(rng, factor, dtype) -> None:
    x = rng.standard_normal((300, 6)).astype(np.float32).astype(dtype)
    power = dtype(2.0 ** np.round(np.log2(factor)))
    plain = neighbor_graph(x, n_neighbors=10)
    scaled = neighbor_graph(x * power, n_neighbors=10)
    same = (plain.indices == scaled.indices).mean()
    assert same > 0.999
    a, b = affinities(plain, perplexity=3.0), affinities(scaled, perplexity=3.0)
    if same == 1.0:
        np.testing.assert_allclose(a.values, b.values, rtol=1e-3, atol=1e-9)


def test_one_outlier_leaves_the_other_neighbors_alone(rng) -> None:
    x = rng.standard_normal((400, 6))
    before = neighbor_graph(x, n_neighbors=10)
    for value in (1e4, 1e20, 1e30, 1e300):
        after = neighbor_graph(np.vstack([x, np.full(6, value)]), n_neighbors=10)
        assert (before.indices == after.indices[:-1]).mean() > 0.999


def test_copies_are_linked_in_a_ring_not_to_a_hub(rng) -> None:
    x = rng.standard_normal((N, D))
    x[: N // 2] = x[0]
    for method in METHODS:
        graph = neighbor_graph(x, n_neighbors=K, method=method)
        copies = graph.indices[: N // 2]
        assert (copies < N // 2).all()
        assert (graph.distances[: N // 2] == 0).all()
        named = np.bincount(copies.ravel(), minlength=N // 2)
        assert named.max() == K


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_that_are_not_finite_are_named(rng, value, metric, dtype) -> None:
    x = rng.standard_normal((N, D)).astype(dtype)
    x[[5, 321], [2, 0]] = value
    for method in METHODS:
        with pytest.raises(InputError, match="2 of 600 vectors: rows 5, 321"):
            neighbor_graph(x, n_neighbors=K, metric=metric, method=method)
    with pytest.raises(InputError, match="rows 5, 321"):
        initial_positions(x, N, n_components=3)


def test_many_bad_rows_are_counted_not_listed(rng) -> None:
    x = np.full((50, 3), np.nan)
    with pytest.raises(InputError, match=r"50 of 50.*and 40 more"):
        neighbor_graph(x)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 16, 17])
def test_few_vectors(rng, metric, method, n) -> None:
    x = rng.standard_normal((n, D))
    graph = neighbor_graph(x, n_neighbors=16, metric=metric, method=method)
    k = min(16, max(n - 1, 0))
    assert graph.indices.shape == (n, k)
    assert all(
        set(row) <= set(range(n)) - {i} and len(set(row)) == k
        for i, row in enumerate(graph.indices.tolist())
    )
    p = affinities(graph)
    assert p.n == n
    if n > 1:
        assert abs(p.values.sum() - 1.0) < 1e-6
    start = initial_positions(x, n, n_components=3)
    assert start.shape == (n, 3)
    assert np.isfinite(start).all()
