"""The yardstick itself: against plain loops and against numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.arrays import Affinities
from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph, reference
from napari_embed.tsne.reference import (
    exact_gradient,
    exact_kl,
    exact_optimize,
    exact_repulsion,
)


def some_affinities(rng, n: int, perplexity: float = 5.0) -> Affinities:
    graph = neighbor_graph(rng.standard_normal((n, 6)), n_neighbors=3 * int(perplexity))
    return affinities(graph, perplexity=perplexity)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("block", [1, 64, 1 << 21])
def test_repulsion_equals_plain_loops(rng, monkeypatch, d, block) -> None:
    monkeypatch.setattr(reference, "_BLOCK_PAIRS", block)
    y = rng.standard_normal((25, d)) * rng.uniform(0.01, 30)
    v, s, z = exact_repulsion(y)
    for i in range(25):
        want_v, want_s = np.zeros(d), 0.0
        for j in range(25):
            if j != i:
                w = 1 / (1 + sum((y[i] - y[j]) ** 2))
                want_s += w
                want_v += w * w * (y[i] - y[j])
        np.testing.assert_allclose(v[i], want_v, rtol=1e-10, atol=1e-12)
        assert s[i] == pytest.approx(want_s, rel=1e-12)
    assert z == pytest.approx(s.sum())
    assert np.abs(v.sum(axis=0)).max() < 1e-10  # action and reaction


@pytest.mark.parametrize("d", [2, 3])
def test_kl_equals_its_definition(rng, monkeypatch, d) -> None:
    monkeypatch.setattr(reference, "_BLOCK_PAIRS", 100)
    p = some_affinities(rng, 40)
    y = rng.standard_normal((40, d)) * 3
    w = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(axis=2))
    np.fill_diagonal(w, 0)
    q = w / w.sum()
    expected = 0.0
    for i in range(40):
        for e in range(p.indptr[i], p.indptr[i + 1]):
            value = float(p.values[e])
            expected += value * np.log(value / q[i, p.indices[e]])
    assert exact_kl(p, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_gradient_is_a_quarter_of_the_slope_of_kl(rng, d) -> None:
    p = some_affinities(rng, 30)
    y = rng.standard_normal((30, d))
    gradient = exact_gradient(p, y)
    step = 1e-5
    for _ in range(10):
        i, axis = int(rng.integers(30)), int(rng.integers(d))
        up, down = y.copy(), y.copy()
        up[i, axis] += step
        down[i, axis] -= step
        slope = (exact_kl(p, up) - exact_kl(p, down)) / (2 * step)
        assert 4 * gradient[i, axis] == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_exaggeration_scales_the_attraction_alone(rng) -> None:
    p = some_affinities(rng, 30)
    y = rng.standard_normal((30, 2))
    one, twelve = exact_gradient(p, y), exact_gradient(p, y, exaggeration=12)
    np.testing.assert_allclose(
        twelve - one, 11 * reference.exact_attraction(p, y), rtol=1e-9, atol=1e-14
    )


def test_optimiser_separates_clusters_and_lowers_kl(rng) -> None:
    centres = 20 * np.eye(3, 5)
    x = np.repeat(centres, 40, axis=0) + rng.standard_normal((120, 5))
    p = affinities(neighbor_graph(x, n_neighbors=30), perplexity=10)
    start = initial_positions(x, 120, n_components=2)
    before = p.values.copy(), start.copy()
    params = ProjectionParams(n_components=2, max_iter=300, early_exaggeration_iter=100)
    seen: list[int] = []
    found = exact_optimize(p, start, params, callback=lambda i, _: seen.append(i))
    assert seen == list(range(1, 301))
    assert found.kl_divergence < 0.5 * exact_kl(p, start)
    assert found.kl_divergence == pytest.approx(exact_kl(p, found.positions), rel=1e-5)
    # A cluster may end in two pieces (a local minimum), but never inside another one.
    y = found.positions.astype(float)
    apart = np.linalg.norm(y[:, None] - y[None], axis=2)
    nearest = np.argsort(apart, axis=1)[:, 1:6]
    cluster = np.repeat(np.arange(3), 40)
    assert (cluster[nearest] == cluster[:, None]).mean() > 0.95
    np.testing.assert_array_equal(before[0], p.values)
    np.testing.assert_array_equal(before[1], start)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points(n) -> None:
    graph = neighbor_graph(np.eye(3)[:n])
    p = affinities(graph)
    start = initial_positions(None, n, n_components=2)
    found = exact_optimize(p, start, ProjectionParams(n_components=2, max_iter=20))
    assert np.isfinite(found.positions).all()
    # One point or one pair is always mapped perfectly.
    assert -1e-6 < found.kl_divergence < (1e-6 if n < 3 else 0.5)


def test_coincident_points(rng) -> None:
    v, s, z = exact_repulsion(np.zeros((20, 3)))
    assert np.abs(v).max() == 0
    np.testing.assert_allclose(s, 19)
    assert z == 380


def test_start_of_another_length(rng) -> None:
    with pytest.raises(InputError, match="30 rows"):
        exact_optimize(
            some_affinities(rng, 30), np.zeros((29, 2)), ProjectionParams(max_iter=1)
        )
