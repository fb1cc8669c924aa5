"""The stages: resume, fingerprints, failing items, imports."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.engine import decoding, layout, loading, pieces, pipeline
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.errors import IncompleteStageError, InputError, JobCancelled
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, detect_source

N = 300
CHUNK = 64


class MeanEncoder:
    """Learns the mean picture; a vector is the mean colour of each of 4 rows of it."""

    name, dim, metric, fit_size = "mean", 12, "euclidean", 50

    def __init__(self, fingerprint: str = "a" * 16) -> None:
        self.fingerprint = fingerprint
        self.needs_fit = True
        self.failures: Mapping[int, str] = {}
        self.fits = self.encoded = 0
        self._mean: np.ndarray | None = None

    def _features(self, image: np.ndarray) -> np.ndarray:
        return image[:8].reshape(4, -1, 3).mean(axis=1).ravel().astype(np.float32)

    def fit(self, images: Sequence[np.ndarray], *, progress: Any = None) -> None:
        self.fits += 1
        self._mean = np.mean([self._features(i) for i in images], axis=0)

    def state(self) -> dict[str, np.ndarray]:
        return {"mean": np.asarray(self._mean)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._mean = state["mean"]

    def encode(
        self, images: Sequence[np.ndarray], *, progress: Any = None
    ) -> np.ndarray:
        assert self._mean is not None
        self.encoded += len(images)
        # A white picture is what this encoder cannot stand.
        self.failures = {i: "too white" for i, x in enumerate(images) if x.min() > 250}
        rows = np.array([self._features(i) for i in images]) - self._mean
        rows[list(self.failures)] = np.nan
        return rows.astype(np.float32)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> MeanEncoder:
    """The encoder that every call of load_encoder returns."""
    found = MeanEncoder()
    monkeypatch.setattr(loading, "load_encoder", lambda name, **_: found)
    return found


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, rng.integers(0, 200, (N, 8, 10, 3), dtype=np.uint8))
    return path


def make(path: Path, source: Path | SourceSpec, **options: Any) -> Project:
    spec = source if isinstance(source, SourceSpec) else detect_source(source)
    return Project.create(path, spec, chunk_rows=CHUNK, **options)


class StopAt(JobControl):
    """Cancels the job when so many images are done."""

    def __init__(self, images: int) -> None:
        super().__init__(self._look, interval_s=0)
        self._images = images

    def _look(self, progress: Progress) -> None:
        if progress.stage == "images" and progress.done >= self._images:
            self.cancel()


def test_embed_in_one_go(tmp_path: Path, images: Path, encoder: MeanEncoder) -> None:
    seen: list[Progress] = []
    with make(tmp_path / "a.embed", images) as project:
        control = JobControl(seen.append, interval_s=0)
        result = pipeline.run_embed(project, EmbedParams(encoder="mean"), control)
        assert (result.computed, result.n_failed, result.n_done_now) == (True, 0, N)
        stored = project.embeddings("mean")[:]
        everything = np.load(images)
        np.testing.assert_array_equal(stored, encoder.encode(everything))
        assert project.stage_info("embeddings/mean").state == "sealed"
        assert project.stage_info("thumbnails").state == "sealed"
        small = project.read_thumbnails([7])[0]
        top = (small.shape[0] - 8) * 0.5
        assert small[int(top) + 4].max() > 0
    last = [p for p in seen if p.stage == "images"][-1]
    assert (last.done, last.total) == (N, N)


def test_the_second_time_there_is_nothing_to_do(
    tmp_path: Path, images: Path, encoder: MeanEncoder
) -> None:
    with make(tmp_path / "a.embed", images) as project:
        pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        before = encoder.encoded
        again = pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        assert not again.computed
        assert encoder.encoded == before


@pytest.mark.parametrize("stop_at", [1, CHUNK, 2 * CHUNK + 1, N - 20])
def test_a_cancelled_run_goes_on_and_ends_the_same(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(decoding, "PIECE_IMAGES", 16)
    made: list[MeanEncoder] = []

    def load(name: str, **_: Any) -> MeanEncoder:
        made.append(MeanEncoder())
        return made[-1]

    monkeypatch.setattr(loading, "load_encoder", load)
    params = EmbedParams(encoder="mean")
    with make(tmp_path / "whole.embed", images) as project:
        pipeline.run_embed(project, params, JobControl())
        whole = project.embeddings("mean")[:]
        pictures = project.read_thumbnails(np.arange(N))
    made.clear()
    with make(tmp_path / "broken.embed", images) as project:
        with pytest.raises(JobCancelled):
            pipeline.run_embed(project, params, StopAt(stop_at))
        done = project.stage_info("embeddings/mean").chunks_done
        assert done == stop_at // CHUNK
        assert project.stage_info("embeddings/mean").state == "partial"
        # Of the chunk that was open, the finished pieces are kept.
        kept = project.stage_info("pieces/mean").info.get("rows", 0)
        assert kept == -(-(stop_at - done * CHUNK) // 16) * 16
        result = pipeline.run_embed(project, params, JobControl())
        assert result.n_done_now == N - done * CHUNK - kept
        assert project.embeddings("mean")[:].tobytes() == whole.tobytes()
        assert (project.read_thumbnails(np.arange(N)) == pictures).all()
    assert [e.fits for e in made] == [1, 0]  # what it learned was kept
    assert sum(e.encoded for e in made) <= N + CHUNK


def broken_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(100):
        pixels = rng.integers(0, 200, (8, 10, 3), dtype=np.uint8)
        if i == 50:
            pixels[:] = 255
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    (folder / "010.png").write_bytes(b"this is no picture")
    cut = (folder / "020.png").read_bytes()
    (folder / "020.png").write_bytes(cut[: len(cut) // 2])
    return folder


@pytest.mark.parametrize("damage", ["", "flipped", "other encoder", "retry"])
def test_a_run_cancelled_inside_the_first_chunk_keeps_its_pieces(
    tmp_path: Path,
    images: Path,
    encoder: MeanEncoder,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    monkeypatch.setattr(decoding, "PIECE_IMAGES", 16)
    pixels = np.load(images)
    pixels[5] = 255  # what the encoder cannot stand
    np.save(images, pixels)
    params = EmbedParams(encoder="mean")
    with make(tmp_path / "whole.embed", images) as whole:
        pipeline.run_embed(whole, params, JobControl())
        expected = whole.embeddings("mean")[:]
        small = whole.read_thumbnails(range(N))
        reasons = whole.errors()
    with make(tmp_path / "a.embed", images) as project:
        with pytest.raises(JobCancelled):
            pipeline.run_embed(project, params, StopAt(40))
        assert project.stage_info("embeddings/mean").chunks_done == 0
        kept = project.stage_info("pieces/mean")
        assert kept.info == {"chunk": 0, "rows": 48}
        assert project.verify() == []
        with pytest.raises(JobCancelled):  # further on, still in that chunk
            pipeline.run_embed(project, params, StopAt(48))
        assert project.stage_info("pieces/mean").info["rows"] == 48
        path = next((project.path / "pieces").glob("mean.*"))
        if damage == "flipped":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        elif damage == "other encoder":
            encoder.fingerprint = "b" * 16
        before = encoder.encoded
        pipeline.run_embed(
            project, params, JobControl(), retry_failed=damage == "retry"
        )
        assert encoder.encoded - before == (N if damage else N - 48)
        np.testing.assert_array_equal(project.embeddings("mean")[:], expected)
        np.testing.assert_array_equal(project.read_thumbnails(range(N)), small)
        assert project.errors().equals(reasons)
        assert not (project.path / "pieces").exists()
        assert project.stage_info("pieces/mean").state == "missing"


def test_a_slow_chunk_is_kept_now_and_then(
    tmp_path: Path,
    images: Path,
    encoder: MeanEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "PIECE_IMAGES", 16)
    monkeypatch.setattr(pieces, "EVERY_S", 0.0)
    seen: list[int] = []
    write = Project.write_checkpoint

    def watched(self: Project, name: str, arrays: Any, **facts: Any) -> None:
        write(self, name, arrays, **facts)
        seen.append(facts["info"]["rows"])

    monkeypatch.setattr(Project, "write_checkpoint", watched)
    with make(tmp_path / "a.embed", images) as project:
        pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        assert seen == [16, 32, 48] * 4 + [16, 32]
        assert project.stage_info("pieces/mean").state == "missing"


def test_bad_images_are_listed_and_stop_nothing(
    tmp_path: Path, rng: np.random.Generator, encoder: MeanEncoder
) -> None:
    folder = broken_folder(tmp_path, rng)
    params = EmbedParams(encoder="mean")
    with make(tmp_path / "a.embed", folder) as project:
        result = pipeline.run_embed(project, params, JobControl())
        assert (result.n_failed, result.n_items) == (3, 100)
        errors = project.errors()
        assert errors["id"].to_pylist() == [10, 20, 50]
        assert errors["source"].to_pylist()[0] == "010.png"
        assert errors["reason"].to_pylist()[2] == "too white"
        assert set(errors["stage"].to_pylist()) == {"embeddings/mean"}
        rows = np.isfinite(project.embeddings("mean")[:]).all(axis=1)
        # Everything that went in came out, as a vector or as an error.
        assert rows.sum() + errors.num_rows == 100
        assert not rows[[10, 20, 50]].any()

        Image.fromarray(np.full((8, 10, 3), 9, np.uint8)).save(folder / "010.png")
        result = pipeline.run_embed(project, params, JobControl(), retry_failed=True)
        assert (result.computed, result.n_failed) == (True, 2)
        assert project.errors()["id"].to_pylist() == [20, 50]
        assert np.isfinite(project.embeddings("mean")[10]).all()
        assert project.read_thumbnails([10]).max() == 9


def test_no_readable_image_is_an_error_and_can_be_mended(
    tmp_path: Path, encoder: MeanEncoder
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.png").write_bytes(b"no picture")
    params = EmbedParams(encoder="mean")
    with make(tmp_path / "a.embed", folder) as project:
        for _ in range(2):
            with pytest.raises(InputError, match=r"None of the 20 .*First reasons"):
                pipeline.run_embed(project, params, JobControl())
        for i in range(20):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i}.png")
        assert pipeline.run_embed(project, params, JobControl()).n_failed == 0
        assert project.errors().num_rows == 0


def test_when_the_encoder_refuses_every_image(
    tmp_path: Path, encoder: MeanEncoder
) -> None:
    np.save(tmp_path / "white.npy", np.full((70, 8, 8, 3), 255, np.uint8))
    with make(tmp_path / "a.embed", tmp_path / "white.npy") as project:
        with pytest.raises(InputError, match="too white"):
            pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        assert project.stage_info("embeddings/mean").state != "sealed"


def test_another_encoder_version_computes_again_and_makes_the_rest_stale(
    tmp_path: Path, images: Path, encoder: MeanEncoder
) -> None:
    params = EmbedParams(encoder="mean")
    with make(tmp_path / "a.embed", images) as project:
        pipeline.run_embed(project, params, JobControl())
        pipeline.run_neighbors(project, NeighborParams(n_neighbors=5), JobControl())
        pca = ProjectionParams(method="pca", n_components=2)
        pipeline.run_projection(project, pca, JobControl())
        encoder.fingerprint = "b" * 16
        assert pipeline.run_embed(project, params, JobControl()).computed
        states = {s.key: s.state for s in project.stages()}
        assert states["neighbors/mean"] == "stale"
        assert states["projections/pca-2d"] == "stale"
        assert states["thumbnails"] == "sealed"
        assert pipeline.run_projection(project, pca, JobControl()).computed
        assert not pipeline.run_projection(project, pca, JobControl()).computed


def test_a_map_keeps_its_name_when_a_second_encoder_comes(
    tmp_path: Path, images: Path, encoder: MeanEncoder
) -> None:
    pca = ProjectionParams(method="pca", n_components=2)
    with make(tmp_path / "a.embed", images) as project:

        def names(embeddings: str) -> tuple[str, bool]:
            found = pipeline.run_projection(
                project, pca, JobControl(), embeddings=embeddings
            )
            return found.name, found.computed

        pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        assert names("mean") == ("pca-2d", True)
        pipeline.run_embed(project, EmbedParams(encoder="other"), JobControl())
        assert names("mean") == ("pca-2d", False)
        assert names("other") == ("other-pca-2d", True)
        assert names("mean") == ("pca-2d", False)


def test_own_vectors_and_positions(tmp_path: Path, rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(N, 6))
    vectors[3, 2], vectors[7, 0], vectors[9, 1] = np.nan, np.inf, 1e300
    np.save(tmp_path / "vectors.npy", vectors)
    result = pipeline.run_create(
        tmp_path / "a.embed", detect_source(tmp_path / "vectors.npy"), JobControl()
    )
    assert (result.n_items, result.n_failed) == (N, 3)
    with Project.open(tmp_path / "a.embed", mode="a") as project:
        again = pipeline.run_embed(project, EmbedParams(), JobControl())
        assert (again.computed, again.name) == (False, "vectors")
        stored = project.embeddings("vectors")[:]
        good = np.isfinite(stored).all(axis=1)
        assert np.flatnonzero(~good).tolist() == [3, 7, 9]
        np.testing.assert_array_equal(stored[good], vectors[good].astype(np.float32))
        assert project.errors()["id"].to_pylist() == [3, 7, 9]


def test_a_table_with_positions_is_a_map_at_once(tmp_path: Path) -> None:
    text = "name,x,y,z\n" + "".join(f"n{i},{i},{i / 2},0\n" for i in range(20))
    (tmp_path / "t.csv").write_text(text)
    result = pipeline.run_create(
        tmp_path / "a.embed", detect_source(tmp_path / "t.csv"), JobControl()
    )
    assert result.info["projection"] == "given-3d"
    with Project.open(tmp_path / "a.embed") as project:
        positions = project.read_projection("given-3d").positions
        np.testing.assert_array_equal(positions[:, 1], np.arange(20) / 2)
    with (
        Project.open(tmp_path / "a.embed", mode="a") as project,
        pytest.raises(InputError, match="nothing to embed; positions"),
    ):
        pipeline.run_embed(project, EmbedParams(), JobControl())


def test_unreadable_images_beside_own_vectors_are_listed(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = {
        "path": ["a.png", "broken.png", "a.png", "missing.png"],
        "vector": rng.normal(size=(4, 5)).tolist(),
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    spec = detect_source(tmp_path / "t.parquet")
    result = pipeline.run_create(tmp_path / "a.embed", spec, JobControl())
    assert result.n_failed == 0  # all have vectors
    with Project.open(tmp_path / "a.embed") as project:
        errors = project.errors().to_pylist()
        assert [(e["id"], e["stage"]) for e in errors] == [
            (1, "thumbnails"), (3, "thumbnails"),
        ]  # fmt: skip


def test_vectors_and_images_that_were_mended_are_read_again(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"no image")
    rows = [[float("nan"), 1.0], [2.0, 3.0], [4.0, 5.0]]
    table = {"path": ["a.png"] * 3, "vector": rows}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    spec = detect_source(tmp_path / "t.parquet")
    made = pipeline.run_create(tmp_path / "a.embed", spec, JobControl())
    assert made.n_failed == 1
    Image.new("RGB", (8, 8), "red").save(image)
    rows[0] = [0.0, 1.0]
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with Project.open(tmp_path / "a.embed", mode="a") as project:
        params = EmbedParams(encoder="vectors")
        assert pipeline.run_embed(project, params, JobControl()).n_failed == 1
        again = pipeline.run_embed(project, params, JobControl(), retry_failed=True)
        assert (again.computed, again.n_failed) == (True, 0)
        assert project.errors().num_rows == 0
        np.testing.assert_array_equal(project.embeddings("vectors")[:], rows)
        assert project.read_thumbnails([0, 2])[..., 0].max(axis=(1, 2)).tolist() == [
            255, 255,
        ]  # fmt: skip


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_mended_items_get_a_place_on_the_map(
    tmp_path: Path, encoder: MeanEncoder, rng: np.random.Generator, method: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes(b"no image")
    params = ProjectionParams(method=method, n_components=2, max_iter=10)  # type: ignore[arg-type]
    with make(tmp_path / "a.embed", folder) as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
        assert pipeline.run_projection(project, params, JobControl()).n_failed == 1
        Image.fromarray(pixels).save(folder / "3.png")
        pipeline.run_embed(project, EmbedParams(), JobControl(), retry_failed=True)
        again = pipeline.run_projection(project, params, JobControl())
        assert (again.computed, again.n_failed) == (True, 0)
        assert np.isfinite(project.read_projection(f"{method}-2d").positions).all()
        assert not pipeline.run_projection(project, params, JobControl()).computed


def test_vectors_nothing_can_be_made_of_leave_no_project(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.full((6, 4), np.nan, np.float32))
    spec = detect_source(tmp_path / "v.npy")
    with pytest.raises(InputError, match="None of the 6 vectors"):
        pipeline.run_create(tmp_path / "v.embed", spec, JobControl())
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]
    np.save(tmp_path / "v.npy", np.ones((6, 4), np.float32))
    pipeline.run_create(tmp_path / "v.embed", spec, JobControl())


@pytest.fixture
def gappy(tmp_path: Path, rng: np.random.Generator) -> Project:
    """200 vectors in 4 far groups, every tenth missing."""
    centres = rng.normal(size=(4, 10)) * 20
    vectors = centres[np.arange(200) % 4] + rng.normal(size=(200, 10))
    vectors[::10] = np.nan
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float32))
    pipeline.run_create(
        tmp_path / "g.embed", detect_source(tmp_path / "vectors.npy"), JobControl()
    )
    return Project.open(tmp_path / "g.embed", mode="a")


def test_neighbors_leave_out_what_has_no_vector(gappy: Project) -> None:
    with gappy as project:
        params = NeighborParams(n_neighbors=12)
        result = pipeline.run_neighbors(project, params, JobControl())
        assert (result.computed, result.n_failed, result.info["k"]) == (True, 20, 12)
        graph = project.read_neighbors("vectors")
        missing = np.arange(200) % 10 == 0
        assert (graph.indices[missing] == -1).all()
        assert np.isinf(graph.distances[missing]).all()
        kept = graph.indices[~missing]
        assert (kept >= 0).all()
        assert not np.isin(kept, np.flatnonzero(missing)).any()
        # Exact against float64.
        vectors = project.embeddings("vectors")[:].astype(np.float64)
        for i in np.flatnonzero(~missing)[::17]:
            squared = ((vectors - vectors[i]) ** 2).sum(axis=1)
            squared[[i, *np.flatnonzero(missing)]] = np.inf
            expected = np.sort(squared)[:12]
            np.testing.assert_allclose(graph.distances[i], expected, rtol=1e-4)
        assert not pipeline.run_neighbors(project, params, JobControl()).computed


def test_a_larger_graph_serves_smaller_wishes_and_is_kept(gappy: Project) -> None:
    with gappy as project:
        small = NeighborParams(n_neighbors=6)
        pipeline.run_neighbors(project, small, JobControl())
        grown = pipeline.run_neighbors(project, small, JobControl(), at_least=30)
        assert (grown.computed, grown.info["k"]) == (True, 30)
        assert project.stage_info("neighbors/vectors").params["n_neighbors"] == 6
        assert not pipeline.run_neighbors(project, small, JobControl()).computed
        other = NeighborParams(n_neighbors=6, metric="cosine")
        assert pipeline.run_neighbors(project, other, JobControl()).computed


def test_a_graph_that_grows_leaves_the_maps_as_they_are(gappy: Project) -> None:
    with gappy as project:
        few = NeighborParams(n_neighbors=15)
        small = ProjectionParams(n_components=2, perplexity=5, max_iter=20)
        pipeline.run_projection(
            project, small, JobControl(), name="small", neighbors=few
        )
        large = ProjectionParams(n_components=2, perplexity=12, max_iter=20)
        pipeline.run_projection(project, large, JobControl(), name="large")
        assert project.read_neighbors("vectors").k == 36
        for name in ("small", "large"):
            assert project.stage_info(f"projections/{name}").state == "sealed"
        again = pipeline.run_projection(project, small, JobControl(), name="small")
        assert not again.computed
        other = NeighborParams(n_neighbors=40, metric="cosine")
        pipeline.run_neighbors(project, other, JobControl())
        assert project.stage_info("projections/small").state == "stale"


def test_graphs_of_some_and_of_all_items_are_inverse(rng: np.random.Generator) -> None:
    from napari_embed.arrays import NeighborGraph

    n, ids = 50, np.sort(rng.choice(50, 33, replace=False))
    indices = rng.integers(-1, 33, (33, 7)).astype(np.int32)
    distances = rng.random((33, 7)).astype(np.float32)
    some = NeighborGraph(indices, distances, "cosine", 0.9)
    everything = layout.over_all_items(some, ids, n)
    assert (everything.n, everything.metric, everything.recall) == (n, "cosine", 0.9)
    back = layout._of_valid_items(everything, ids)
    np.testing.assert_array_equal(back.indices, indices)
    np.testing.assert_array_equal(back.distances, distances)


@pytest.mark.parametrize("d", [2, 3])
def test_tsne_keeps_groups_together_and_publishes(gappy: Project, d: int) -> None:
    shown: list[tuple[int, float, Any]] = []
    params = ProjectionParams(
        n_components=d, perplexity=10, max_iter=150, early_exaggeration_iter=50
    )
    with gappy as project:
        result = pipeline.run_projection(
            project, params, JobControl(), publish=lambda *args: shown.append(args)
        )
        assert (result.name, result.n_failed) == (f"tsne-{d}d", 20)
        found = project.read_projection(f"tsne-{d}d")
        missing = np.arange(200) % 10 == 0
        assert np.isnan(found.positions[missing]).all()
        assert np.isfinite(found.positions[~missing]).all()
        assert np.isfinite(found.kl_divergence)
        # The nearest neighbor on the map is of the same group.
        y = found.positions[~missing].astype(np.float64)
        group = (np.arange(200) % 4)[~missing]
        squared = ((y[:, None] - y[None]) ** 2).sum(axis=-1)
        np.fill_diagonal(squared, np.inf)
        assert (group[squared.argmin(axis=1)] == group).mean() > 0.95
        assert not pipeline.run_projection(project, params, JobControl()).computed
    with_positions = [p for _, _, p in shown if p is not None]
    assert all(p.shape == (200, d) for p in with_positions)
    np.testing.assert_array_equal(with_positions[-1], found.positions)


def test_stop_keeps_the_map_and_the_next_run_computes_it_to_the_end(
    gappy: Project,
) -> None:
    params = ProjectionParams(n_components=2, perplexity=10, max_iter=5000)
    control = JobControl()

    def publish(iteration: int, kl: float, positions: Any) -> None:
        control.stop()

    with gappy as project:
        result = pipeline.run_projection(project, params, control, publish=publish)
        assert result.info["n_iter"] < 5000
        assert np.isfinite(project.read_projection("tsne-2d").positions[1]).all()
        short = ProjectionParams(n_components=2, perplexity=10, max_iter=5)
        assert pipeline.run_projection(project, short, JobControl()).computed


def test_cancelled_tsne_leaves_the_old_map(gappy: Project) -> None:
    pca = ProjectionParams(method="pca", n_components=2)
    with gappy as project:
        pipeline.run_projection(project, pca, JobControl(), name="map")
        before = project.read_projection("map").positions
        control = JobControl()
        with pytest.raises(JobCancelled):
            pipeline.run_projection(
                project,
                ProjectionParams(n_components=2, perplexity=10),
                control,
                name="map",
                publish=lambda *_: control.cancel(),
            )
        np.testing.assert_array_equal(project.read_projection("map").positions, before)


def test_too_few_items(tmp_path: Path, rng: np.random.Generator) -> None:
    notes: list[str] = []
    for n in (3, 4, 5, 20):
        np.save(tmp_path / f"{n}.npy", rng.normal(size=(n, 5)).astype(np.float32))
        spec = detect_source(tmp_path / f"{n}.npy")
        pipeline.run_create(tmp_path / f"{n}.embed", spec, JobControl())
        with Project.open(tmp_path / f"{n}.embed", mode="a") as project:
            params = ProjectionParams(n_components=2, max_iter=20)
            if n == 3:
                with pytest.raises(InputError, match="At least 4 items"):
                    pipeline.run_projection(project, params, JobControl())
                continue
            control = JobControl(on_log=notes.append)
            pipeline.run_projection(project, params, control)
            assert np.isfinite(project.read_projection("tsne-2d").positions).all()
    assert len(notes) == 3
    assert "lowered to 1" in notes[0]


def test_without_embeddings_it_says_what_to_do(tmp_path: Path, images: Path) -> None:
    with make(tmp_path / "a.embed", images) as project:
        for run in (
            lambda: pipeline.run_neighbors(project, NeighborParams(), JobControl()),
            lambda: pipeline.run_projection(project, ProjectionParams(), JobControl()),
            lambda: pipeline.run_neighbors(
                project, NeighborParams(), JobControl(), embeddings="vit"
            ),
        ):
            with pytest.raises(IncompleteStageError, match="napari-embed embed"):
                run()


def test_names_tell_embeddings_apart(
    tmp_path: Path, images: Path, encoder: MeanEncoder
) -> None:
    pca = ProjectionParams(method="pca", n_components=3)
    with make(tmp_path / "a.embed", images) as project:
        pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
        assert pipeline.run_projection(project, pca, JobControl()).name == "pca-3d"
        pipeline.run_embed(project, EmbedParams(encoder="lib/b:2"), JobControl())
        result = pipeline.run_projection(
            project, pca, JobControl(), embeddings="lib-b-2"
        )
        assert result.name == "lib-b-2-pca-3d"


def test_what_a_source_raises_reaches_the_caller(
    tmp_path: Path, images: Path, encoder: MeanEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tmp_path / "a.embed", images) as project:
        encoder.needs_fit = False
        encoder._mean = np.zeros(12)

        def items(*_: Any, **__: Any) -> Any:
            raise OSError("the drive is gone")

        monkeypatch.setattr(project, "items", items)
        with pytest.raises(OSError, match="the drive is gone"):
            pipeline.run_embed(project, EmbedParams(encoder="mean"), JobControl())
    assert not [t for t in threading.enumerate() if t.name == "napari-embed-decode"]


def test_the_decoding_thread_ends_with_the_loop(tmp_path: Path, images: Path) -> None:
    with make(tmp_path / "a.embed", images) as project:
        chunk_rows = [(i, slice(i * 64, min(i * 64 + 64, N)), 0) for i in range(5)]
        pieces = decoding.decode_ahead(project, project.source(), chunk_rows)
        first = next(pieces)
        assert first.ids == range(64)
        pieces.close()  # type: ignore[attr-defined]
        assert not [t for t in threading.enumerate() if t.name == "napari-embed-decode"]


def test_vectors_that_stay_on_the_disk_give_the_same(
    gappy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = gappy.embeddings_names()[0]
    kept, ids = layout.valid_vectors(gappy, name, JobControl())
    monkeypatch.setattr(layout, "MOST_BYTES_IN_MEMORY", 0)
    on_disk, same_ids = layout.valid_vectors(gappy, name, JobControl())
    assert isinstance(on_disk, layout.RowsOnDisk)
    np.testing.assert_array_equal(ids, same_ids)
    assert 0 < len(ids) < gappy.n_items
    n = len(ids)
    for rows in (slice(0, n), slice(3, 4), slice(n - 5, n + 9), slice(n, n), slice(2)):
        np.testing.assert_array_equal(on_disk[rows], np.asarray(kept)[rows])
    for params in (ProjectionParams(method="pca"), ProjectionParams(max_iter=30)):
        result = pipeline.run_projection(gappy, params, JobControl())
        assert result.computed
        assert result.n_failed == gappy.n_items - n
