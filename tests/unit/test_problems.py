"""Finding problems: planted ones are found, and nothing is found where nothing is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.curation import problems
from napari_embed.curation.problems import DuplicatePairs, Finding
from napari_embed.engine import inspection
from napari_embed.engine.client import EngineClient
from napari_embed.engine.finding_client import Finder
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.pipeline import run_embed
from napari_embed.engine.progress import JobControl
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
    JobCancelled,
)
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, detect_source

N, D, CLASSES, K = 600, 8, 3, 20
LABELS = ["ant", "<b>bee</b>", "cat"]


def exact_graph(vectors: np.ndarray, k: int = K) -> NeighborGraph:
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    indices = np.argsort(squared, axis=1, kind="stable")[:, :k].astype(np.int32)
    distances = np.take_along_axis(squared, indices, axis=1).astype(np.float32)
    return NeighborGraph(indices, distances)


@pytest.fixture
def planted(tmp_path):
    """Three far blobs with copies, outliers and wrong labels planted in them."""
    rng = np.random.default_rng(5)
    truth = np.arange(N) % CLASSES
    vectors = rng.normal(size=(N, D)) + 12 * np.eye(D)[truth]
    vectors[10] = vectors[40] = vectors[7]  # bit for bit
    vectors[100] = vectors[103] + 1e-3
    vectors[500] = [0, 0, 0, 0, 0, 90, 0, 0]
    vectors = vectors.astype(np.float32)
    given = truth.copy()
    wrong = rng.choice(np.arange(200, 480), 12, replace=False)
    given[wrong] = (given[wrong] + 1) % CLASSES
    table = pa.table(
        {
            "label": [LABELS[c] for c in given],
            "vector": list(vectors),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    spec = SourceSpec("table", str(tmp_path / "t.parquet"))
    with Project.create(tmp_path / "p.embed", spec, chunk_rows=128) as project:
        stage = project.begin_stage(
            "embeddings/v", fingerprint="v", shape_tail=(D,), dtype=np.float32
        )
        for chunk in stage.pending():
            stage.write(chunk, vectors[stage.rows(chunk)])
        stage.seal({"metric": "euclidean"})
        graph = exact_graph(vectors)
        project.write_neighbors("v", graph, fingerprint="n", upstream="embeddings/v")
        positions = np.ascontiguousarray(vectors[:, :3])
        project.write_projection("map", Projection(positions), fingerprint="p")
        yield project, vectors, truth, wrong


def test_near_duplicates(planted):
    project, vectors, *_ = planted
    pairs = problems.duplicate_pairs(project)
    assert (np.diff(pairs.distances) >= 0).all()
    assert (pairs.left < pairs.right).all()
    keys = pairs.left.astype(np.int64) * N + pairs.right
    assert np.unique(keys).size == keys.size
    found = pairs.groups(0.05)
    assert [set(found.group(i)) for i in range(found.n_groups)] == [
        {7, 10, 40}, {100, 103},
    ]  # fmt: skip
    # No picture, so the first by name is kept, and names are texts: "10" < "7".
    assert set(found.ids[found.keep]) == {10, 100}
    assert found.ids[0] == 10
    assert set(found.removable()) == {7, 40, 103}
    assert found.table()["group"].to_pylist() == [0, 0, 0, 1, 1]
    assert "first by path" in found.note
    assert pairs.counts([0, 0.05]).tolist() == [3, 4]
    # Groups by brute force at the end of the slider.
    far = np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(axis=2))
    last = pairs.groups(pairs.largest)
    joined = set(last.ids.tolist())
    close = (far <= pairs.largest * (1 - 1e-5)) & ~np.eye(N, dtype=bool)
    assert joined >= set(np.flatnonzero(close.any(axis=1)).tolist())
    assert len(pairs.groups(0.0)) == 3
    with pytest.raises(InputError, match="distance of 0 or more"):
        pairs.groups(float("nan"))
    again = DuplicatePairs.from_arrays(pairs.to_arrays())
    np.testing.assert_array_equal(again.groups(0.05).ids, found.ids)


def test_near_duplicates_only_within(planted):
    project, *_ = planted
    within = np.ones(N, bool)
    within[[7, 100]] = False
    found = problems.find(project, "near-duplicates", threshold=0.05, within=within)
    assert set(found.ids) == {10, 40}


def test_outliers(planted):
    project, *_ = planted
    found = problems.outliers(project)
    assert found.ids[0] == 500
    assert found.scores[0] > 3.5
    assert len(found) < 10
    assert (np.diff(found.scores) <= 0).all()
    assert len(problems.outliers(project, limit=25)) == 25


def test_mislabels(planted):
    project, _, truth, wrong = planted
    found = problems.mislabels(project)
    assert set(wrong) <= set(found.ids)
    assert len(found) <= wrong.size + 3
    suggested = [found.detail_names[i] for i in found.details]
    right = [LABELS[truth[i]] for i in found.ids]
    assert np.mean([a == b for a, b in zip(suggested, right, strict=True)]) > 0.8
    mended = (truth.astype(np.int32), LABELS)
    assert not set(wrong) & set(problems.mislabels(project, labels=mended).ids)
    none = np.full(N, -1, np.int32)
    with pytest.raises(InputError, match="none can be wrong"):
        problems.mislabels(project, labels=(none, LABELS))
    with pytest.raises(InputError, match="No column"):
        problems.mislabels(project, column="nope")


def test_mislabels_from_probabilities(planted):
    pytest.importorskip("cleanlab")
    project, _, truth, wrong = planted
    order = np.argsort(LABELS)  # columns follow the names, sorted
    chances = np.full((N, CLASSES), 0.02)
    chances[np.arange(N), np.argsort(order)[truth]] = 0.96
    found = problems.mislabels(project, probabilities=chances)
    assert set(found.ids) == set(wrong)
    with pytest.raises(InputError, match="Probabilities of shape"):
        problems.mislabels(project, probabilities=chances[:, :2])


@pytest.mark.parametrize("space", ["map", "neighbors"])
def test_clusters(planted, space):
    project, _, truth, _ = planted
    found = problems.find_clusters(project, space=space, min_size=50)
    assert found.n_groups == 3
    assert sorted(found.group_names) == sorted(LABELS)
    codes = found.codes(N)
    for number, name in enumerate(found.group_names):
        assert (truth[codes == number] == LABELS.index(name)).all()
    assert len(found) > 0.6 * N
    assert found.scores.min() >= 0
    assert found.scores.max() <= 1


def test_clusters_agree_with_all_pairs(planted):
    """The sparse graph gives what HDBSCAN finds when it sees every distance."""
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score

    project, vectors, *_ = planted
    found = problems.find_clusters(project, min_size=30).codes(N)
    plain = HDBSCAN(min_cluster_size=30, min_samples=5, copy=True)
    expected = plain.fit(vectors[:, :3]).labels_
    assert adjusted_rand_score(expected, found) > 0.9


def test_label_next(planted):
    project, _, truth, _ = planted
    for strategy in ("typical", "spread"):
        found = problems.label_next(project, 12, strategy=strategy)
        assert len(found) == 12 == np.unique(found.ids).size
        assert set(truth[found.ids]) == {0, 1, 2}
        labelled = np.flatnonzero(truth == 0)
        found = problems.label_next(project, 6, strategy=strategy, labelled=labelled)
        assert not np.isin(found.ids, labelled).any()
        assert set(truth[found.ids]) == {1, 2}
    spread = problems.label_next(project, 5, strategy="spread")
    assert 500 in spread.ids
    with pytest.raises(InputError, match="no item left"):
        problems.label_next(project, 5, labelled=np.arange(N))


def test_balanced_sample(planted):
    project, *_ = planted
    codes = np.zeros(N, np.int32)
    codes[:10], codes[10:100], codes[590:] = 1, 2, -1
    found = problems.balanced_sample(project, 110, labels=(codes, LABELS))
    assert np.bincount(codes[found.ids]).tolist() == [50, 10, 50]
    assert np.unique(found.ids).size == 110
    assert "1 classes have too few" in found.note
    everything = problems.balanced_sample(project, 10**9, labels=(codes, LABELS))
    assert len(everything) == 590
    again = problems.balanced_sample(project, 110, labels=(codes, LABELS))
    np.testing.assert_array_equal(found.ids, again.ids)


def pictures(folder):
    rng = np.random.default_rng(3)
    base = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    made = {}
    for i in range(24):
        noise = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        made[f"a{i:02d}"] = Image.fromarray(noise).resize((64, 48))
    made["blurred"] = base.resize((64, 48)).filter(ImageFilter.GaussianBlur(6))
    made["dark"] = Image.fromarray((np.asarray(made["a00"]) // 12).astype(np.uint8))
    made["bright"] = Image.fromarray(
        (255 - np.asarray(made["a01"]) // 12).astype(np.uint8)
    )
    made["flat"] = Image.new("RGB", (64, 48), (120, 120, 120))
    made["tiny"] = made["a02"].resize((16, 12))
    made["wide"] = made["a03"].resize((200, 20))
    folder.mkdir()
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    (folder / "b-copy.png").write_bytes((folder / "a05.png").read_bytes())
    (folder / "c-broken.png").write_bytes(b"no picture")


@pytest.fixture
def images(tmp_path):
    pictures(tmp_path / "img")
    spec = detect_source(tmp_path / "img")
    with Project.create(tmp_path / "p.embed", spec, chunk_rows=8) as project:
        yield project


def names_of(project: Project, ids: np.ndarray) -> list[str]:
    return project.items(["source"], rows=ids)["source"].to_pylist()


def test_quality_and_exact_duplicates(images):
    for search in (problems.exact_duplicates, problems.quality_problems):
        with pytest.raises(IncompleteStageError, match="not measured yet"):
            search(images)
    result = run_inspect(images, JobControl())
    assert result.n_failed == 1
    assert problems.is_inspected(images)
    assert not run_inspect(images, JobControl()).computed
    found = problems.quality_problems(images)
    issue = dict(
        zip(
            names_of(images, found.ids),
            [found.detail_names[i] for i in found.details],
            strict=True,
        )
    )
    assert issue == {
        "dark.png": "dark", "bright.png": "bright", "blurred.png": "blurred",
        "flat.png": "low information", "tiny.png": "odd size",
        "wide.png": "odd aspect",
    }  # fmt: skip
    assert (found.scores > 0).all()
    only = problems.find(images, "quality", issues=["dark"], limits={"dark": 0.1})
    assert names_of(images, only.ids) == ["dark.png"]
    copies = problems.exact_duplicates(images)
    assert names_of(images, copies.ids) == ["a05.png", "b-copy.png"]
    assert copies.keep.tolist() == [True, False]
    with pytest.raises(InputError, match="Issues to look for"):
        problems.quality_problems(images, issues=["ugly"])


def test_measuring_goes_on_and_starts_again(images, monkeypatch):
    read = []
    plain = inspection.read_content

    def counted(source, items, measure):
        read.extend(items["source"].to_pylist())
        return plain(source, items, measure)

    monkeypatch.setattr(inspection, "read_content", counted)
    control = JobControl(lambda p: control.cancel() if p.done >= 16 else None)
    control._interval_s = 0
    with pytest.raises(JobCancelled):
        run_inspect(images, control)
    with pytest.raises(IncompleteStageError):
        problems.quality_problems(images)
    first = len(read)
    assert first < images.n_items
    run_inspect(images, JobControl())
    assert len(read) <= images.n_items + images.chunk_rows
    digests = images.measures("content", dtype="uint8")[:]
    run_inspect(images, JobControl(), again=True)
    assert len(read) >= 2 * images.n_items
    np.testing.assert_array_equal(digests, images.measures("content", dtype="uint8")[:])
    assert images.verify() == []


def test_the_larger_copy_is_kept(images):
    run_inspect(images, JobControl())
    names = names_of(images, np.arange(images.n_items))
    small, large = names.index("tiny.png"), names.index("wide.png")
    graph = NeighborGraph(
        np.full((images.n_items, 1), -1, np.int32),
        np.full((images.n_items, 1), np.inf, np.float32),
    )
    graph.indices[small], graph.distances[small] = large, 0.01
    images.write_neighbors("v", graph, fingerprint="n")
    found = problems.duplicate_pairs(images).groups(0.2)
    assert found.ids.tolist() == [large, small]
    assert found.keep.tolist() == [True, False]


def test_in_the_engine_process(planted):
    project, _, _, wrong = planted
    with EngineClient() as client:
        finder = Finder(client, project.path)
        within = np.setdiff1d(np.arange(N), [500])
        found = finder.run("mislabels", within=within, n_neighbors=15)
        here = problems.mislabels(project, within=within, n_neighbors=15)
        np.testing.assert_array_equal(found.ids, here.ids)
        assert found.detail_names == here.detail_names == tuple(sorted(LABELS))
        assert set(wrong) <= set(found.ids)
        codes = (np.zeros(N, np.int32), ["only"])
        assert len(finder.run("mislabels", labels=codes)) == 0
        pairs = finder.run_pairs(n_neighbors=5)
        assert len(pairs.groups(0.05)) == 5
        with pytest.raises(IncompleteStageError, match="not measured yet"):
            finder.run("duplicates")
        with pytest.raises(InputError, match="Nothing finds"):
            finder.run("nonsense")
        with pytest.raises(InputError, match="does not work like that"):
            finder.run("outliers", n_neighbours=3)


def test_finding_checks_itself():
    ids, scores = np.arange(3), np.zeros(3, np.float32)
    found = Finding("x", "t", ids, scores, "s")
    assert found.table().num_rows == 3
    assert found.codes(5).tolist() == [-1] * 5
    assert Finding.from_arrays(found.to_arrays()).title == "t"
    assert len(found.head(2)) == 2
    with pytest.raises(InputError, match="shape"):
        Finding("x", "t", ids, scores[:2], "s")
    with pytest.raises(InputError, match="outside"):
        Finding("x", "t", ids, scores, "s", groups=np.array([0, 1, 2], np.int32))
    with pytest.raises(InputError, match="no list of findings"):
        Finding.from_arrays({"words": np.zeros(3, np.uint8)})


def test_a_moved_brighter_noisy_copy_is_found_by_its_picture(tmp_path, rng):
    """Pictures tell the copy from those that the vectors put nearer."""
    smooth = rng.normal(size=(40, 24, 24))
    for axis in (1, 2):
        smooth = smooth + np.roll(smooth, 1, axis) + np.roll(smooth, 2, axis)
    spread = smooth.max() - smooth.min()
    images = (40 + 150 * (smooth - smooth.min()) / spread).astype(np.uint8)
    copy = np.roll(images[3], (1, -2), (0, 1)) * 1.1 + rng.normal(0, 1, (24, 24))
    images[39] = copy.clip(0, 255)
    np.savez(tmp_path / "a.npz", images=images)
    spec = detect_source(str(tmp_path / "a.npz"))
    with Project.create(tmp_path / "a.embed", spec) as project:
        run_embed(project, EmbedParams(encoder="descriptor"), JobControl())
        vectors = np.arange(40.0)[:, None].astype(np.float32)
        project.write_neighbors("descriptor", exact_graph(vectors, 39), fingerprint="n")
        pairs = problems.duplicate_pairs(project, n_neighbors=39)
        found = pairs.groups(pairs.suggested)
        assert set(found.ids.tolist()) == {3, 39}
        assert found.scores.max() < pairs.suggested
        assert "difference" in found.score_name
        assert DuplicatePairs.from_arrays(pairs.to_arrays()).of_pictures
        by_vectors = problems.duplicate_pairs(project, pictures=False)
        assert not by_vectors.of_pictures


def test_pictures_of_one_grey_and_of_any_size_are_compared():
    from napari_embed.curation.problems.pictures import differences

    grey = np.zeros((4, 13, 13), np.uint8)
    grey[1], grey[2, 4:8, 4:8], grey[3, 5:9, 4:8] = 7, 200, 100
    found = differences(grey, np.array([0, 0, 2]), np.array([1, 2, 3]))
    assert found[2] < 1e-6
    assert not (found[:2] < 0.5).any()
