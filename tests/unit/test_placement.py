"""New vectors on a fixed map: search, field, minimum, and what transform promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.optimize import minimize

from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne import TSNE, affinities, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement
from napari_embed.tsne.placement import nearest_fitted, place
from napari_embed.tsne.reference import exact_repulsion
from napari_embed.tsne.vectors import prepare

QUICK = {
    "max_iter": 300,
    "early_exaggeration_iter": 100,
    "device": "cpu",
    "random_state": 0,
}


def clusters(rng, n: int = 400, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 5, n)
    return 8 * rng.standard_normal((5, d))[labels] + rng.standard_normal((n, d)), labels


def exact_field(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    away = p[:, None].astype(np.float64) - y[None].astype(np.float64)
    w = 1.0 / (1.0 + (away**2).sum(axis=2))
    return w.sum(axis=1), np.einsum("ij,ijk->ik", w * w, away)


def some_map(rng, kind: str, dim: int) -> np.ndarray:
    y = 20 * rng.standard_normal((700, dim))
    if kind == "tiny":
        y *= 1e-4
    elif kind == "coincident":
        y[::2] = 1.0
    elif kind == "outlier":
        y[3] = 1e4
    elif kind == "one":
        y = y[:1]
    return y.astype(np.float32)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kind", ["spread", "tiny", "coincident", "outlier", "one"])
def test_field_against_float64(rng, dim, kind) -> None:
    from napari_embed.kernels import runtime

    device = runtime.start("cpu")
    from napari_embed.kernels.placement import FixedMap
    from napari_embed.kernels.repulsion import Accuracy

    y = some_map(rng, kind, dim)
    p = np.concatenate([y[:50], 25 * rng.standard_normal((100, dim))]).astype("f4")
    s, r = exact_field(y, p)
    for theta, bar in ((0.0, 2e-5), (0.6, 0.03)):
        fixed = FixedMap(y, device, Accuracy(theta=theta))
        found = fixed.field(p)
        s_error = np.abs(found[:, 0] / s - 1).max()
        r_error = np.sqrt(((found[:, 1:] - r) ** 2).sum() / max((r**2).sum(), 1e-30))
        print(f"{kind} {dim}D theta {theta}: S {s_error:.1e}, R {r_error:.1e}")
        assert s_error <= bar
        assert np.abs(found[:, 1:] - r).max() <= bar * max(1e-3, np.abs(r).max()) * 3
        if len(y) > 1:
            assert fixed.mean_s == pytest.approx(
                exact_repulsion(y)[2] / len(y), rel=bar
            )


class ExactCost:
    """What placing minimises, with slope and curvature, in float64."""

    def __init__(self, y, anchors, weights) -> None:
        self.y, self.a, self.w = (
            np.asarray(v, np.float64) for v in (y, anchors, weights)
        )
        self.mean_s = exact_repulsion(y)[2] / len(y)

    def __call__(self, p: np.ndarray) -> float:
        pull = self.w @ np.log1p(((p - self.a) ** 2).sum(axis=1))
        return pull + exact_field(self.y, p[None])[0][0] / self.mean_s

    def slope(self, p: np.ndarray) -> np.ndarray:
        away = p - self.a
        d2 = 1 + (away**2).sum(axis=1)
        push = exact_field(self.y, p[None])[1][0] / self.mean_s
        return 2 * (self.w / d2) @ away - 2 * push

    def curvature(self, p: np.ndarray) -> np.ndarray:
        away, apart = p - self.a, p - self.y
        pull = self.w / (1 + (away**2).sum(axis=1))
        w = 1 / (1 + (apart**2).sum(axis=1))
        trace = 2 * pull.sum() - 2 * (w * w).sum() / self.mean_s
        bend = -4 * np.einsum("i,ij,ik->jk", pull**2 / self.w, away, away)
        bend += 8 * np.einsum("i,ij,ik->jk", w**3, apart, apart) / self.mean_s
        return trace * np.eye(len(p)) + bend

    def check_minimum(self, ours: np.ndarray, start: np.ndarray) -> float:
        """Return how much lower SciPy gets from here; no saddle, no step uphill."""
        p = ours.astype(np.float64)
        assert self(p) <= self(start.astype(np.float64)) + 1e-6
        assert np.linalg.eigvalsh(self.curvature(p))[0] > -1e-3
        # From our own point: from the start, SciPy may end in another valley.
        return self(p) - minimize(self, p, jac=self.slope).fun


@pytest.mark.parametrize("dim", [2, 3])
def test_each_point_finds_its_minimum(rng, dim) -> None:
    y = some_map(rng, "spread", dim)
    ids = np.stack(
        [
            np.argsort(((y - c) ** 2).sum(1))[:20]
            for c in 15 * rng.normal(size=(30, dim))
        ]
    )
    weights = rng.dirichlet(np.ones(20), 30).astype(np.float32)
    anchors = y[ids]
    start = np.einsum("ij,ijk->ik", weights, anchors).astype(np.float32)
    params = ProjectionParams(n_components=dim, theta=0.0, device="cpu")
    found = place(y, anchors, weights, start, params)
    excess = [
        ExactCost(y, anchors[i], weights[i]).check_minimum(found[i], start[i])
        for i in range(30)
    ]
    print(f"{dim}D: excess over the float64 minimum {max(excess):.1e}")
    assert max(excess) <= 1e-5


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("shape", ["saddle", "maximum"])
def test_a_start_where_the_slope_vanishes_is_left(rng, dim, shape) -> None:
    half = some_map(rng, "spread", dim)
    half[:, 0] += 200.0
    y = np.concatenate([half, -half])
    if shape == "maximum":
        y[::20] = 0.0
    side = 6 * np.eye(dim, dtype=np.float32)[:1]
    anchors = np.concatenate([side, -side])[None]
    weights = np.full((1, 2), 0.5, np.float32)
    start = np.zeros((1, dim), np.float32)
    cost = ExactCost(y, anchors[0], weights[0])
    assert np.abs(cost.slope(start[0].astype(np.float64))).max() < 1e-8
    bend = np.linalg.eigvalsh(cost.curvature(start[0]))
    assert bend[0] < -1e-2
    assert (bend[-1] < 0) == (shape == "maximum")
    params = ProjectionParams(n_components=dim, theta=0.0, device="cpu")
    found = place(y, anchors, weights, start, params)
    assert cost.check_minimum(found[0], start[0]) <= 1e-5
    assert cost(found[0]) < cost(start[0]) - 0.1


@pytest.mark.parametrize("kind", ["plain", "offset", "copies", "all equal", "few"])
def test_neighbors_among_the_fitted_are_exact(rng, kind) -> None:
    x = rng.standard_normal((900, 12)).astype(np.float32)
    queries = rng.standard_normal((70, 12)).astype(np.float32)
    if kind == "offset":
        x[:, 0] += 1e3 * (rng.random(900) < 0.5)
        queries[:, 0] += 1e3
    elif kind == "copies":
        x[::2] = x[0]
        queries[::3] = x[0]
    elif kind == "all equal":
        x[:] = x[0]
    elif kind == "few":
        x = x[:7]
    fitted = prepare(x)
    stored = np.concatenate([block for _, block in fitted.blocks()])
    queries = (queries - fitted.centre).astype(np.float32)
    k = min(15, len(x))
    ids, squared = nearest_fitted(fitted, queries, k)
    exact = ((queries[:, None].astype(np.float64) - stored[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared, np.sort(exact, axis=1)[:, :k], rtol=1e-5)
    assert all(len(set(row)) == k for row in ids)
    np.testing.assert_allclose(
        squared, np.take_along_axis(exact, ids, axis=1), rtol=1e-5
    )
    for rows in (slice(3, 4), slice(10, 40)):
        alone, near = nearest_fitted(fitted, queries[rows], k)
        np.testing.assert_array_equal(alone, ids[rows])
        np.testing.assert_array_equal(near, squared[rows])


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_transform(rng, n_components, metric) -> None:
    x, labels = clusters(rng, 600)
    old, new = x[:400], x[400:]
    model = TSNE(n_components, perplexity=15, metric=metric, **QUICK).fit(old)
    before = model.embedding_.tobytes(), old.tobytes(), new.tobytes()
    found = model.transform(new)
    assert found.dtype == np.float32
    assert found.shape == (200, n_components)
    # Known vectors are where they were, and nearly known ones are near that.
    np.testing.assert_array_equal(model.transform(old), model.embedding_)
    nearly = model.transform(old * (1 + 1e-5 * rng.standard_normal(old.shape)))
    shift = np.linalg.norm(nearly - model.embedding_, axis=1)
    size = float(np.ptp(model.embedding_, axis=0).max())
    print(
        f"{n_components}D {metric}: fitted vectors land {np.median(shift) / size:.4f} "
        f"(90 %: {np.quantile(shift, 0.9) / size:.4f}) of the map's size away"
    )
    assert np.median(shift) < 0.01 * size
    assert np.quantile(shift, 0.9) < 0.03 * size
    agree = knn_label_agreement(np.concatenate([model.embedding_, found]), labels)
    assert agree > 0.95
    # A row's place depends on no other row, and every call gives the same bits.
    np.testing.assert_array_equal(model.transform(new[::-1])[::-1], found)
    np.testing.assert_array_equal(model.transform(new[7:8]), found[7:8])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(new), found)
    assert (model.embedding_.tobytes(), old.tobytes(), new.tobytes()) == before


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("spoil", [None, "copies", "huge", "tiny"])
def test_transform_of_nasty_vectors(rng, metric, spoil) -> None:
    x = rng.standard_normal((120, 4))
    if spoil == "copies":
        x[::2] = 1.0
    elif spoil is not None:
        x *= {"huge": 1e20, "tiny": 1e-20}[spoil]
    model = TSNE(perplexity=8, metric=metric, **QUICK).fit(x)
    new = rng.standard_normal((6, 4)) * np.abs(x).max()
    new[0], new[1], new[2, 0], new[3] = 0.0, 1e30, -1e30, x[5]
    found = model.transform(new)
    assert np.isfinite(found).all()
    limits = 3 * np.abs(model.embedding_).max()
    assert np.abs(found).max() < limits
    if spoil != "copies":
        np.testing.assert_array_equal(found[3], model.embedding_[5])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_transform_on_maps_of_few(rng, n) -> None:
    x = rng.standard_normal((n, 4))
    found = TSNE(**QUICK).fit(x).transform(rng.standard_normal((5, 4)))
    assert found.shape == (5, 2)
    assert np.isfinite(found).all()


def test_transform_from_disk(rng, tmp_path) -> None:
    import zarr

    x, _ = clusters(rng, 90)
    stored = zarr.create_array(
        store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(32, 8), dtype="f8"
    )
    stored[:] = x
    model = TSNE(perplexity=5, **QUICK).fit(x)
    np.testing.assert_array_equal(model.transform(stored), model.embedding_)
    lazy = TSNE(perplexity=5, **QUICK).fit(stored)
    np.testing.assert_array_equal(lazy.transform(x), lazy.embedding_)
    with pytest.raises(InputError, match="length 8"):
        model.transform(zarr.array(x[:, :4]))


def test_transform_refuses_what_it_cannot_do(rng) -> None:
    x, _ = clusters(rng, 60)
    graph = neighbor_graph(x, n_neighbors=15)
    for given in (graph, affinities(graph, perplexity=5)):
        with pytest.raises(InputError, match="Fit it on vectors"):
            TSNE(perplexity=5, **QUICK).fit(given).transform(x)
    model = TSNE(perplexity=5, **QUICK).fit(x)
    bad = x[:9].copy()
    bad[[2, 4]] = np.nan
    with pytest.raises(InputError, match="rows 2, 4"):
        model.transform(bad)
    with pytest.raises(ValueError, match="features"):
        model.transform(x[:, :3])
