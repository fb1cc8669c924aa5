"""The neighbor graph against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.arrays import NeighborGraph
from napari_embed.errors import InputError, JobCancelled, MissingDependencyError
from napari_embed.tsne import neighbor_graph, neighbors


def brute_force(x: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Return all squared distances, Inf on the diagonal."""
    x = np.asarray(x, np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    squared = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    return squared


def check_graph(graph: NeighborGraph, n: int, k: int) -> None:
    """Every row: k different ids, none its own, distances finite and ascending."""
    assert graph.indices.shape == (n, k)
    assert (graph.indices >= 0).all()
    assert (graph.indices != np.arange(n)[:, None]).all()
    ordered = np.sort(graph.indices, axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()
    assert np.isfinite(graph.distances).all()
    assert (graph.distances >= 0).all()
    assert (np.diff(graph.distances, axis=1) >= 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8])
def test_exact_search_equals_brute_force(rng, metric, dtype) -> None:
    n, d = int(rng.integers(50, 300)), int(rng.integers(2, 40))
    x = (rng.random((n, d)) * 200).astype(dtype)
    graph = neighbor_graph(x, n_neighbors=20, metric=metric)
    check_graph(graph, n, 20)
    assert graph.recall == 1.0
    assert graph.metric == metric
    true = np.sort(brute_force(x, metric), axis=1)[:, :20]
    np.testing.assert_allclose(graph.distances, true, rtol=2e-5, atol=1e-9)


def test_exact_search_survives_a_large_common_offset(rng) -> None:
    x = 1e4 + rng.standard_normal((200, 8))
    graph = neighbor_graph(x, n_neighbors=10)
    true = np.sort(brute_force(x), axis=1)[:, :10]
    np.testing.assert_allclose(graph.distances, true, rtol=1e-4)


def test_exact_search_resolves_tight_clusters_far_apart(rng) -> None:
    centres = rng.standard_normal((5, 16)) * 1e3
    x = np.repeat(centres, 40, axis=0) + 0.01 * rng.standard_normal((200, 16))
    graph = neighbor_graph(x, n_neighbors=10)
    true = np.sort(brute_force(x), axis=1)[:, :10]
    # float32 holds these values to 6e-5; brute force on what it holds must agree.
    np.testing.assert_allclose(graph.distances, true, rtol=0.05)
    assert (graph.indices // 40 == np.arange(200)[:, None] // 40).all()


@pytest.mark.parametrize("method", ["ivf", "hnsw"])
def test_approximate_search_reaches_its_recall(rng, method) -> None:
    centres = rng.standard_normal((20, 24)) * 2
    x = centres[rng.integers(0, 20, 3000)] + rng.standard_normal((3000, 24))
    exact = neighbor_graph(x, n_neighbors=30, method="exact")
    found = neighbor_graph(x, n_neighbors=30, method=method)
    check_graph(found, 3000, 30)
    share = np.mean(
        [
            np.isin(a, b).mean()
            for a, b in zip(found.indices, exact.indices, strict=True)
        ]
    )
    print(f"{method}: recall {share:.4f}, measured {found.recall:.4f}")
    assert share > 0.95
    assert abs(share - found.recall) < 0.02


def test_hard_vectors_switch_to_the_graph(rng, monkeypatch) -> None:
    monkeypatch.setattr(neighbors, "_EXACT_BUDGET_CPU", 0.0)
    x = rng.standard_normal((3000, 64))  # no structure: cells do not help
    graph = neighbor_graph(x, n_neighbors=15)
    check_graph(graph, 3000, 15)
    assert graph.recall > 0.95


def test_same_seed_gives_the_same_graph(rng) -> None:
    x = rng.standard_normal((2000, 8))
    first = neighbor_graph(x, n_neighbors=15, method="ivf", random_state=3)
    second = neighbor_graph(x, n_neighbors=15, method="ivf", random_state=3)
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.distances, second.distances)


def test_input_is_not_changed(rng) -> None:
    x = rng.standard_normal((100, 5)).astype(np.float32)
    x[3] = 1e20
    before = x.tobytes()
    neighbor_graph(x, n_neighbors=5, metric="cosine")
    neighbor_graph(x, n_neighbors=5)
    assert x.tobytes() == before


class SlicesOnly:
    """Gives rows by slice alone, as an array on disk does, and counts them."""

    def __init__(self, values: np.ndarray, chunk: int) -> None:
        self._values = values
        self.shape = values.shape
        self.chunks = (chunk, values.shape[1])
        self.largest = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        assert isinstance(rows, slice)
        block = self._values[rows]
        self.largest = max(self.largest, len(block))
        return block


@pytest.mark.parametrize("method", ["exact", "ivf", "hnsw"])
def test_arrays_on_disk_are_read_in_blocks(rng, monkeypatch, method) -> None:
    from napari_embed.tsne import vectors

    monkeypatch.setattr(vectors, "_BLOCK_VALUES", 64 * 12)
    x = rng.standard_normal((1000, 12)).astype(np.float32)
    lazy = SlicesOnly(x, chunk=32)
    graph = neighbor_graph(lazy, n_neighbors=10, method=method)
    assert lazy.largest == 64
    whole = neighbor_graph(x, n_neighbors=10, method="exact")
    found = (graph.distances <= whole.distances[:, -1:] * 1.00001).mean()
    assert found == 1.0 if method == "exact" else found > 0.93


def test_zarr_array(rng, tmp_path) -> None:
    import zarr

    x = rng.standard_normal((300, 6)).astype(np.float32)
    stored = zarr.create_array(
        store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(64, 6), dtype="f4"
    )
    stored[:] = x
    graph = neighbor_graph(stored, n_neighbors=7)
    np.testing.assert_array_equal(
        graph.indices, neighbor_graph(x, n_neighbors=7).indices
    )


@pytest.mark.parametrize("method", ["exact", "ivf", "hnsw"])
def test_progress_rises_to_the_end(rng, method) -> None:
    calls: list[tuple[int, int]] = []
    x = rng.standard_normal((500, 4))
    neighbor_graph(
        x, n_neighbors=5, method=method, progress=lambda a, b: calls.append((a, b))
    )
    done = [a for a, _ in calls]
    assert done == sorted(done)
    assert len({b for _, b in calls}) == 1
    assert done[-1] == calls[-1][1]


def test_progress_can_cancel(rng) -> None:
    def stop(done: int, total: int) -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        neighbor_graph(rng.standard_normal((100, 4)), n_neighbors=5, progress=stop)


def test_cosine_ignores_length(rng) -> None:
    x = rng.standard_normal((200, 10))
    stretched = x * rng.uniform(1e-20, 1e20, (200, 1))
    a = neighbor_graph(x, n_neighbors=8, metric="cosine")
    b = neighbor_graph(stretched, n_neighbors=8, metric="cosine")
    np.testing.assert_array_equal(a.indices, b.indices)


def test_zero_vectors_under_cosine_are_orthogonal_to_the_rest(rng) -> None:
    x = rng.standard_normal((30, 6))
    x[:4] = 0.0
    graph = neighbor_graph(x, n_neighbors=29, metric="cosine")
    assert set(graph.indices[0, :3]) == {1, 2, 3}
    np.testing.assert_allclose(graph.distances[0, :3], 0.0, atol=1e-6)
    np.testing.assert_allclose(graph.distances[0, 3:], 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"metric": "auto"}, "metric"),
        ({"method": "best"}, "method"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_unknown_settings(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        neighbor_graph(np.zeros((5, 2)), **settings)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.zeros(5), r"\(n, d\)"),
        (np.zeros((5, 0)), r"\(n, d\)"),
        (np.zeros((2, 3, 4)), r"\(n, d\)"),
        ([[1.0, 2.0], [3.0]], "different lengths"),
        (np.zeros((5, 2), complex), "real numbers"),
        (np.full((5, 2), "x"), "real numbers"),
    ],
)
def test_malformed_vectors(vectors, words) -> None:
    with pytest.raises(InputError, match=words):
        neighbor_graph(vectors)


def test_cuda_without_a_gpu_says_what_to_install() -> None:
    import faiss

    if faiss.get_num_gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MissingDependencyError, match=r"napari-embed\[gpu\]"):
        neighbor_graph(np.zeros((5, 2)), device="cuda")


@pytest.mark.parametrize(
    ("n", "dim", "gpu", "method"),
    [
        (20_000, 512, False, "exact"),
        (1_000_000, 50, False, "ivf"),
        (60_000, 784, False, "ivf"),
        (1_000_000, 50, True, "exact"),
        (1_000_000, 784, True, "ivf"),
    ],
)
def test_the_search_is_chosen_by_size_and_device(n, dim, gpu, method) -> None:
    assert neighbors._choose("auto", n, dim, gpu) == method


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("method", ["exact", "ivf"])
def test_a_gpu_gets_the_index_if_it_fits(
    rng, monkeypatch, caplog, method, fits
) -> None:
    import faiss

    sent: list[str] = []

    def to_gpu(resources, which, index):
        sent.append(type(index).__name__)
        if not fits:
            raise RuntimeError("out of memory")
        return index

    # A FAISS that sees a GPU; its copy there is the index itself.
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    x = rng.standard_normal((900, 6))
    found = neighbor_graph(x, n_neighbors=10, method=method)
    assert sent == [{"exact": "IndexFlatL2", "ivf": "IndexIVFFlat"}[method]]
    assert ("The GPU cannot hold the index" in caplog.text) is not fits
    on_cpu = neighbor_graph(x, n_neighbors=10, method=method, device="cpu")
    assert len(sent) == 1
    np.testing.assert_array_equal(found.indices, on_cpu.indices)


def test_damaged_faiss_names_the_extras(monkeypatch) -> None:
    import sys
    import types

    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))
    with pytest.raises(MissingDependencyError, match=r"IndexFlatL2.*\[cpu\].*\[gpu\]"):
        neighbor_graph(np.zeros((5, 2)))


def test_missing_faiss_names_the_extras(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"napari-embed\[cpu\]"):
        neighbor_graph(np.zeros((5, 2)))


def test_real_images_reach_the_recall(fashion10k, monkeypatch) -> None:
    images, _ = fashion10k
    x = images.reshape(len(images), -1)[:5000]
    exact = neighbor_graph(x, n_neighbors=30, method="exact")
    found = neighbor_graph(x, n_neighbors=30, method="ivf")
    share = (found.distances <= exact.distances[:, -1:] * (1 + 1e-5)).mean()
    print(f"recall {share:.4f}, measured {found.recall:.4f}")
    assert share >= 0.95
