"""The TSNE estimator: scikit-learn's own checks, its inputs, its promises."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from napari_embed.errors import InputError, JobCancelled
from napari_embed.tsne import TSNE, affinities, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement
from napari_embed.tsne.reference import exact_kl

QUICK = {"max_iter": 30, "early_exaggeration_iter": 10, "device": "cpu"}


class AtLeastTwo(TSNE):
    """Takes 1 for 2 dimensions: some of the checks insist on setting 1."""

    def _settings(self, seed):
        other = clone(self)
        other.n_components = max(2, self.n_components)
        return TSNE._settings(other, seed)


SETS_ONE = (
    "check_dont_overwrite_parameters", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_fit2d_1sample", "check_fit2d_1feature",
    "check_fit2d_predict1d",
)  # fmt: skip


def refused(estimator) -> dict[str, str]:
    if isinstance(estimator, AtLeastTwo):
        return {}
    return dict.fromkeys(SETS_ONE, "sets n_components=1; maps have 2 or 3 dimensions")


@parametrize_with_checks(
    [TSNE(**QUICK), AtLeastTwo(**QUICK)], expected_failed_checks=refused
)
def test_scikit_learn_checks(estimator, check) -> None:
    check(estimator)


def clusters(rng, n: int = 300, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 5, n)
    return 8 * rng.standard_normal((5, d))[labels] + rng.standard_normal((n, d)), labels


@pytest.mark.parametrize("n_components", [2, 3])
def test_map_keeps_clusters_and_tells_its_kl(rng, n_components) -> None:
    x, labels = clusters(rng)
    before = x.tobytes()
    model = TSNE(n_components, perplexity=10, random_state=0, device="cpu")
    positions = model.fit_transform(x)
    assert positions is model.embedding_
    assert positions.shape == (300, n_components)
    assert positions.dtype == np.float32
    assert knn_label_agreement(positions, labels) > 0.95
    p = affinities(neighbor_graph(x, n_neighbors=30), perplexity=10)
    assert model.kl_divergence_ == pytest.approx(exact_kl(p, positions), abs=0.02)
    assert model.n_features_in_ == 8
    assert 250 < model.n_iter_ <= 750
    assert model.kl_trace_.shape[1] == 2
    assert model.kl_trace_[-1, 1] == model.kl_divergence_
    assert x.tobytes() == before
    names = [f"tsne{i}" for i in range(n_components)]
    assert model.get_feature_names_out().tolist() == names


def test_vectors_graph_and_affinities_give_one_map(rng) -> None:
    x, _ = clusters(rng, 120)
    graph = neighbor_graph(x, n_neighbors=30)
    p = affinities(graph, perplexity=10)
    saved = [a.copy() for a in (graph.indices, graph.distances, p.indices, p.values)]
    start = (1e-4 * rng.standard_normal((120, 2))).astype(np.float32)
    model = TSNE(perplexity=10, init=start, random_state=0, **QUICK)
    kl = [clone(model).fit(given).kl_divergence_ for given in (x, graph, p)]
    np.testing.assert_allclose(kl, kl[0], rtol=1e-3)
    for old, new in zip(
        saved, (graph.indices, graph.distances, p.indices, p.values), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    assert not hasattr(clone(model).fit(p), "n_features_in_")


def test_zarr_vectors(rng, tmp_path) -> None:
    import zarr

    x, _ = clusters(rng, 100)
    stored = zarr.create_array(
        store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(32, 8), dtype="f8"
    )
    stored[:] = x
    model = TSNE(perplexity=5, random_state=0, **QUICK).fit(stored)
    assert model.n_features_in_ == 8
    again = TSNE(perplexity=5, random_state=0, **QUICK).fit(x)
    assert model.kl_divergence_ == pytest.approx(again.kl_divergence_, rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("n_components", [2, 3])
def test_few_items(rng, n, n_components) -> None:
    x = rng.standard_normal((n, 4))
    positions = TSNE(n_components, random_state=0, **QUICK).fit_transform(x)
    assert positions.shape == (n, n_components)
    assert np.isfinite(positions).all()


@pytest.mark.parametrize(
    "spoil", ["all equal", "half equal", "outlier 1e4", "outlier 1e30", "tiny", "huge"]
)
@pytest.mark.parametrize("n_components", [2, 3])
def test_nasty_vectors_give_finite_maps(rng, spoil, n_components) -> None:
    x = rng.standard_normal((150, 6))
    if spoil == "all equal":
        x[:] = 1.0
    elif spoil == "half equal":
        x[::2] = 0.0
    elif spoil == "tiny":
        x *= 1e-30
    elif spoil == "huge":
        x *= 1e20
    else:
        x[7] = float(spoil.split()[1])
    model = TSNE(n_components, perplexity=10, random_state=0, **QUICK).fit(x)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(model.kl_divergence_)
    assert len(np.unique(model.embedding_, axis=0)) == 150


def test_rows_with_nan_are_named(rng) -> None:
    x = rng.standard_normal((50, 3))
    x[[4, 9]] = np.nan
    with pytest.raises(InputError, match="rows 4, 9"):
        TSNE(**QUICK).fit(x)


def test_callback_sees_the_map_and_can_stop_or_cancel(rng) -> None:
    x, _ = clusters(rng, 100)
    before = x.tobytes()
    seen: list[int] = []

    def follow(report) -> bool:
        seen.append(report.iteration)
        return report.iteration >= 10

    model = TSNE(perplexity=5, callback=follow, random_state=0, **QUICK).fit(x)
    assert 10 <= model.n_iter_ < 30
    assert seen
    p = affinities(neighbor_graph(x, n_neighbors=15), perplexity=5)
    exact = exact_kl(p, model.embedding_)
    assert model.kl_divergence_ == pytest.approx(exact, rel=0.02)

    def cancel(report) -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        TSNE(perplexity=5, callback=cancel, **QUICK).fit(x)
    assert x.tobytes() == before


def test_seeds_of_all_kinds(rng) -> None:
    x, _ = clusters(rng, 60)
    for seed in (None, 7, np.int64(7), np.random.RandomState(7)):
        model = TSNE(perplexity=5, random_state=seed, init="random", **QUICK)
        assert np.isfinite(model.fit_transform(x)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_components": 4}, "n_components"),
        ({"perplexity": -1}, "perplexity"),
        ({"init": "umap"}, "init"),
        ({"init": np.zeros((3, 3))}, "shape"),
        ({"metric": "taxi"}, "metric"),
        ({"neighbors": "best"}, "method"),
        ({"preset": "best"}, "preset"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_wrong_settings(rng, settings, words) -> None:
    with pytest.raises(InputError, match=words):
        TSNE(**(QUICK | settings)).fit(rng.standard_normal((20, 3)))
