"""The start of the map and the linear map, against a plain decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError, JobCancelled
from napari_embed.tsne import initial_positions, initialization, pca_projection


def principal_scores(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and variance shares from a float64 SVD."""
    centred = np.asarray(x, np.float64) - x.mean(axis=0, dtype=np.float64)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    return centred @ vt[:k].T, s[:k] ** 2 / (s**2).sum()


def with_spectrum(rng, n: int, d: int) -> np.ndarray:
    """Vectors with well separated axes and an offset."""
    return rng.standard_normal((n, d)) * np.geomspace(10, 0.5, d) + 30


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("shape", [(300, 20), (40, 60), (7, 3), (500, 4)])
@pytest.mark.parametrize("dense", [True, False])
def test_pca_equals_svd(rng, monkeypatch, n_components, shape, dense) -> None:
    if not dense:
        monkeypatch.setattr(initialization, "_DENSE_DIM", 0)
    x = with_spectrum(rng, *shape) @ np.linalg.qr(
        rng.standard_normal((shape[1], shape[1]))
    )[0]  # fmt: skip
    found = pca_projection(x, n_components=n_components)
    expected, shares = principal_scores(x, n_components)
    signs = np.sign((found.positions * expected).sum(axis=0))
    tolerance = 1e-4 if dense else 0.02
    np.testing.assert_allclose(
        found.positions * signs, expected, atol=tolerance * np.abs(expected).max()
    )
    np.testing.assert_allclose(
        found.info["explained_variance_ratio"], shares, rtol=1e-3
    )


@pytest.mark.parametrize("dense", [True, False])
def test_2d_is_the_first_two_of_3d_and_repeats(rng, monkeypatch, dense) -> None:
    if not dense:
        monkeypatch.setattr(initialization, "_DENSE_DIM", 0)
    x = rng.standard_normal((200, 30))
    flat = pca_projection(x, n_components=2).positions
    deep = pca_projection(x, n_components=3).positions
    np.testing.assert_array_equal(flat, deep[:, :2])
    np.testing.assert_array_equal(flat, pca_projection(x, n_components=2).positions)


def test_signs_do_not_depend_on_the_solver(rng) -> None:
    x = with_spectrum(rng, 200, 10)
    found = pca_projection(x, n_components=3).positions
    centred = x - x.mean(axis=0)
    loadings = np.linalg.lstsq(centred, found, rcond=None)[0]
    largest = np.abs(loadings).argmax(axis=0)
    assert (loadings[largest, np.arange(3)] > 0).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_pca_of_few_vectors(n) -> None:
    x = np.arange(n * 5, dtype=np.float64).reshape(n, 5)
    found = pca_projection(x, n_components=3)
    assert found.positions.shape == (n, 3)
    assert np.isfinite(found.positions).all()


def test_pca_of_one_feature_fills_up_with_zeros(rng) -> None:
    x = rng.standard_normal((20, 1))
    found = pca_projection(x, n_components=3).positions
    np.testing.assert_allclose(found[:, 0], (x - x.mean())[:, 0], atol=1e-6)
    assert (found[:, 1:] == 0).all()


def test_pca_keeps_the_unit_of_the_data(rng) -> None:
    x = with_spectrum(rng, 100, 5)
    a = pca_projection(x, n_components=2).positions
    b = pca_projection(x * 2.0**30, n_components=2).positions
    np.testing.assert_allclose(b, a * 2.0**30, rtol=1e-4, atol=2.0**30 * 1e-3)


def test_pca_progress_can_cancel(rng) -> None:
    calls: list[tuple[int, int]] = []
    x = rng.standard_normal((50, 3))
    pca_projection(x, n_components=2, progress=lambda a, b: calls.append((a, b)))
    assert calls[-1][0] == calls[-1][1]

    def stop(done: int, total: int) -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        pca_projection(x, n_components=2, progress=stop)


def test_pca_wants_two_or_three_components() -> None:
    with pytest.raises(InputError, match="2 or 3"):
        pca_projection(np.zeros((5, 4)), n_components=4)


@pytest.mark.parametrize("n_components", [2, 3])
def test_pca_start_is_small_and_follows_the_components(rng, n_components) -> None:
    x = with_spectrum(rng, 500, 12)
    start = initial_positions(x, 500, n_components=n_components)
    assert start.dtype == np.float32
    assert start[:, 0].std() == pytest.approx(1e-4, rel=0.01)
    scores = pca_projection(x, n_components=n_components).positions
    for axis in range(n_components):
        r = np.corrcoef(start[:, axis], scores[:, axis])[0, 1]
        assert r > 0.99


def test_start_parts_equal_vectors_and_repeats(rng) -> None:
    x = np.repeat(rng.standard_normal((10, 4)), 20, axis=0)
    start = initial_positions(x, 200, n_components=2, random_state=5)
    assert len(np.unique(start, axis=0)) == 200
    again = initial_positions(x, 200, n_components=2, random_state=5)
    np.testing.assert_array_equal(start, again)
    other = initial_positions(x, 200, n_components=2, random_state=6)
    assert (start != other).any()


def test_random_start(rng) -> None:
    start = initial_positions(None, 2000, n_components=3, init="random")
    assert start.std() == pytest.approx(1e-4, rel=0.1)
    # Without vectors there is nothing to decompose.
    np.testing.assert_array_equal(start, initial_positions(None, 2000, n_components=3))


def test_given_start_is_copied_as_it_is(rng) -> None:
    given = rng.standard_normal((30, 2)).astype(np.float32) * 50
    start = initial_positions(None, 30, n_components=2, init=given)
    np.testing.assert_array_equal(start, given)
    assert not np.shares_memory(start, given)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("umap", "init must be"),
        (np.zeros((5, 3)), r"shape \(5, 2\)"),
        (np.zeros((4, 2)), r"shape \(5, 2\)"),
        (np.full((5, 2), np.nan), "first is row 0"),
        (np.full((5, 2), 1e300), "beyond float32"),
        (np.zeros((5, 2), complex), "real numbers"),
    ],
)
def test_wrong_start(init, words) -> None:
    with pytest.raises(InputError, match=words):
        initial_positions(None, 5, n_components=2, init=init)


def test_vectors_of_another_length() -> None:
    with pytest.raises(InputError, match="4 vectors but 5 items"):
        initial_positions(np.zeros((4, 3)), 5, n_components=2)
