"""The project on disk: create, stages, resume, staleness, results, reading."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zarr

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
    StoreError,
    StoreReadOnlyError,
    StoreVersionError,
)
from napari_embed.project import Project
from napari_embed.project.store import ArraySpec, DiskArray
from napari_embed.sources import SourceSpec

N, ROWS, DIM = 75, 16, 6


@pytest.fixture
def vectors(rng) -> np.ndarray:
    return rng.normal(size=(N, DIM)).astype(np.float32)


@pytest.fixture
def project(tmp_path, rng):
    images = rng.integers(0, 256, (N, 10, 12), dtype=np.uint8)
    labels = rng.integers(0, 12, N)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    spec = SourceSpec("images", str(tmp_path / "images.npz"))
    with Project.create(tmp_path / "a.embed", spec, chunk_rows=ROWS) as made:
        yield made


def embed(project: Project, vectors: np.ndarray, fingerprint: str = "f", chunks=None):
    stage = project.begin_stage(
        "embeddings/own", fingerprint=fingerprint, shape_tail=(DIM,), dtype="float32"
    )
    for chunk in stage.pending() if chunks is None else chunks:
        stage.write(chunk, vectors[stage.rows(chunk)])
    return stage


def graph_of(rng) -> NeighborGraph:
    indices = rng.integers(0, N, (N, 4)).astype(np.int32)
    indices[3, 2:] = -1
    distances = rng.random((N, 4)).astype(np.float32)
    distances[3, 2:] = np.inf
    return NeighborGraph(indices, distances, "cosine", 0.97)


def test_create_lists_items_and_facts(project, tmp_path):
    assert project.n_items == N
    assert project.n_chunks == 5
    assert project.name == "a"
    assert project.thumbnail_shape == (12, 12, 3)
    assert project.columns()[:3] == ["id", "source", "label"]
    assert project.items(["id"])["id"].to_pylist() == list(range(N))
    with np.load(tmp_path / "images.npz") as data:
        assert project.column_values("label").tolist() == [
            str(x) for x in data["labels"]
        ]
    codes, names = project.categories("label")
    assert names == sorted(names, key=int)
    assert [names[c] for c in codes] == project.column_values("label").tolist()


def test_create_refuses_what_exists_and_leaves_nothing_on_failure(project, tmp_path):
    with pytest.raises(StoreError, match="exists already"):
        Project.create(project.path, project.spec)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError):
        Project.create(tmp_path / "b.embed", SourceSpec("folder", str(tmp_path / "no")))
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "empty.embed").mkdir()
    Project.create(tmp_path / "empty.embed", project.spec).close()


def test_chunks_round_trip_and_seal(project, vectors):
    stage = embed(project, vectors, chunks=[0, 1, 4])
    assert stage.pending() == [2, 3]
    assert project.stage_info("embeddings/own").state == "partial"
    with pytest.raises(IncompleteStageError, match="2 of 5"):
        stage.seal()
    with pytest.raises(IncompleteStageError):
        project.embeddings("own")
    partial = project.embeddings("own", partial=True)[:]
    np.testing.assert_array_equal(
        np.isnan(partial).all(axis=1), [32 <= i < 64 for i in range(N)]
    )
    for chunk in (2, 3):
        stage.write(chunk, vectors[stage.rows(chunk)])
    stage.seal()
    assert stage.sealed
    info = project.stage_info("embeddings/own")
    assert (info.state, info.chunks_done, info.chunks_total) == ("sealed", 5, 5)
    np.testing.assert_array_equal(np.asarray(project.embeddings("own")), vectors)
    with pytest.raises(StoreError, match="finished"):
        stage.write(0, vectors[:ROWS])


def test_embeddings_index_like_numpy(project, vectors, rng):
    embed(project, vectors).seal()
    stored = project.embeddings("own")
    assert stored.shape == vectors.shape
    assert len(stored) == N
    for rows in (
        slice(3, 40), slice(None), slice(70, 200), slice(5, 5), slice(2, 60, 7),
        5, -1, rng.integers(0, N, 20), rng.random(N) < 0.3, [3, -2, 3],
    ):  # fmt: skip
        np.testing.assert_array_equal(stored[rows], vectors[rows])
    np.testing.assert_array_equal(stored[3:9, 2], vectors[3:9, 2])
    with pytest.raises(IndexError):
        stored[[N]]
    joined = [(start, block) for start, block in stored.blocks(20)]
    assert [start for start, _ in joined] == [0, 20, 40, 60]
    np.testing.assert_array_equal(np.concatenate([b for _, b in joined]), vectors)


def test_resume_keeps_chunks_and_changed_fingerprint_drops_them(project, vectors):
    embed(project, vectors, chunks=[0, 2])
    path = project.path
    project.close()
    with Project.open(path, mode="a") as again:
        assert embed(again, vectors, chunks=[]).pending() == [1, 3, 4]
        assert embed(again, vectors, "other", chunks=[]).pending() == [0, 1, 2, 3, 4]
        values = again.embeddings("own", partial=True)[:]
        assert np.isnan(values).all()


def test_wrong_blocks_are_refused(project, vectors):
    stage = embed(project, vectors, chunks=[])
    with pytest.raises(InputError, match="needs"):
        stage.write(0, vectors[:ROWS].astype(np.float64))
    with pytest.raises(InputError, match="needs"):
        stage.write(4, vectors[:ROWS])
    with pytest.raises(InputError, match="chunk 5"):
        stage.write(5, vectors[:ROWS])
    with pytest.raises(InputError, match="not in chunk"):
        stage.write(0, vectors[:ROWS], errors={ROWS: "no"})
    assert stage.pending() == [0, 1, 2, 3, 4]


def test_errors_travel_with_their_chunk(project, vectors):
    stage = embed(project, vectors, chunks=[])
    stage.write(1, vectors[16:32], errors={17: "broken", 20: "empty"})
    project.record_errors({3: "odd"}, "thumbnails")
    rows = project.errors().to_pylist()
    assert [(r["id"], r["source"], r["stage"]) for r in rows] == [
        (3, "3", "thumbnails"), (17, "17", "embeddings/own"),
        (20, "20", "embeddings/own"),
    ]  # fmt: skip
    stage.write(1, vectors[16:32], errors={})
    assert project.errors()["id"].to_pylist() == [3]
    with pytest.raises(InputError, match="no item"):
        project.record_errors({N: "x"}, "thumbnails")


def test_staleness_runs_downstream(project, vectors, rng):
    embed(project, vectors).seal()
    graph = graph_of(rng)
    projection = Projection(
        rng.normal(size=(N, 3)).astype(np.float32), 1.5, 70, {"a": 1}
    )
    project.write_neighbors("own", graph, fingerprint="n", upstream="embeddings/own")
    project.write_projection(
        "map", projection, fingerprint="p", upstream="neighbors/own"
    )
    project.write_projection("mine", projection, fingerprint="q")
    states = {s.key: s.state for s in project.stages()}
    assert set(states.values()) == {"sealed"}
    embed(project, vectors, "changed")
    states = {s.key: s.state for s in project.stages()}
    assert states == {
        "embeddings/own": "partial", "neighbors/own": "stale",
        "projections/map": "stale", "projections/mine": "sealed",
    }  # fmt: skip
    assert project.read_projection("map").n == N  # a stale map can still be seen


def test_results_round_trip_and_are_replaced(project, rng):
    graph = graph_of(rng)
    project.write_neighbors("own", graph, fingerprint="n", params={"k": 4})
    back = project.read_neighbors("own")
    np.testing.assert_array_equal(back.indices, graph.indices)
    np.testing.assert_array_equal(back.distances, graph.distances)
    assert (back.metric, back.recall) == ("cosine", 0.97)
    for columns in (3, 2):
        positions = rng.normal(size=(N, columns)).astype(np.float32)
        positions[5] = np.nan
        project.write_projection(
            "map", Projection(positions, 0.5, 9, {"x": [1]}), fingerprint="p"
        )
        got = project.read_projection("map")
        np.testing.assert_array_equal(got.positions, positions)
        assert (got.kl_divergence, got.n_iter, got.info) == (0.5, 9, {"x": [1]})
    assert project.projection_names() == ["map"]
    assert project.verify() == []
    with pytest.raises(IncompleteStageError):
        project.read_projection("other")
    with pytest.raises(InputError, match="rows"):
        project.write_projection("map", Projection(positions[:-1]), fingerprint="p")
    with pytest.raises(InputError, match="upstream"):
        project.write_projection(
            "m", Projection(positions), fingerprint="p", upstream="zz"
        )


def test_result_info_that_is_no_json_changes_nothing(project, rng):
    positions = rng.normal(size=(N, 2)).astype(np.float32)
    project.write_projection("map", Projection(positions), fingerprint="p")
    with pytest.raises(InputError):
        project.write_projection(
            "map", Projection(-positions, info={"a": object()}), fingerprint="p"
        )
    np.testing.assert_array_equal(project.read_projection("map").positions, positions)


def test_thumbnails(project, rng):
    assert not project.read_thumbnails([0, 5]).any()
    stage = project.begin_stage(
        "thumbnails", fingerprint="t", shape_tail=project.thumbnail_shape, dtype="uint8"
    )
    values = rng.integers(0, 256, (N, *project.thumbnail_shape), dtype=np.uint8)
    for chunk in (0, 3):
        stage.write(chunk, values[stage.rows(chunk)])
    project.refresh()
    ids = rng.integers(0, N, 60)
    have = np.isin(ids // ROWS, [0, 3])
    np.testing.assert_array_equal(project.thumbnail_available(ids), have)
    got = project.read_thumbnails(ids)
    np.testing.assert_array_equal(got[have], values[ids[have]])
    assert not got[~have].any()
    assert project.read_thumbnails([]).shape == (0, 12, 12, 3)
    with pytest.raises(InputError):
        project.read_thumbnails([N])


def test_encoder_state(project, rng):
    state = {"mean": rng.normal(size=5), "basis": rng.normal(size=(5, 2)).astype("f4")}
    assert project.read_encoder_state("own") is None
    project.write_encoder_state("own", state, fingerprint="a")
    got = project.read_encoder_state("own", fingerprint="a")
    assert got is not None
    for key, values in state.items():
        np.testing.assert_array_equal(got[key], values)
    assert project.read_encoder_state("own", fingerprint="b") is None
    with pytest.raises(InputError, match="objects"):
        project.write_encoder_state("own", {"a": np.array([object()])})


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".hidden", "a\0", "x" * 101, "CON:"]
)
def test_names_cannot_leave_the_project(project, name):
    with pytest.raises(InputError, match="not a valid key"):
        project.begin_stage(
            f"embeddings/{name}", fingerprint="f", shape_tail=(2,), dtype="float32"
        )
    with pytest.raises(InputError, match="not a valid key"):
        project.write_encoder_state(name, {})


def test_reader_sees_growth_and_cannot_write(project, vectors):
    stage = embed(project, vectors, chunks=[0])
    with Project.open(project.path) as reader:
        assert not reader.writable
        assert reader.stage_info("embeddings/own").chunks_done == 1
        stage.write(1, vectors[16:32])
        reader.refresh()
        assert reader.stage_info("embeddings/own").chunks_done == 2
        np.testing.assert_array_equal(
            reader.embeddings("own", partial=True)[:32], vectors[:32]
        )
        with pytest.raises(StoreReadOnlyError):
            reader.record_errors({0: "x"}, "thumbnails")
        with pytest.raises(StoreReadOnlyError):
            embed(reader, vectors)


def test_any_zarr_reader_understands_the_folder(project, vectors, rng):
    embed(project, vectors).seal()
    stage = project.begin_stage(
        "thumbnails", fingerprint="t", shape_tail=project.thumbnail_shape, dtype="uint8"
    )
    values = rng.integers(0, 256, (N, *project.thumbnail_shape), dtype=np.uint8)
    for chunk in stage.pending():
        stage.write(chunk, values[stage.rows(chunk)])
    group = zarr.open_group(project.path, mode="r")
    np.testing.assert_array_equal(group["embeddings/own"][:], vectors)
    np.testing.assert_array_equal(group["thumbnails"][:], values)
    assert group["thumbnails"].shards == (ROWS, 12, 12, 3)


def test_unwritten_and_all_fill_chunks_differ(project):
    stage = embed(project, np.full((N, DIM), np.nan, np.float32))
    assert len(list((project.path / "embeddings/own").glob("c.*"))) == stage.n_chunks


def test_a_chunk_may_not_be_a_memory_bomb():
    with pytest.raises(InputError, match="256 MiB"):
        ArraySpec((10, 1 << 20), "float32", 512)


def test_metadata_is_what_zarr_itself_would_accept(tmp_path, rng):
    for dtype, shape, inner in (
        ("float32", (30, 7), 0),
        ("int32", (30, 2), 0),
        ("uint8", (30, 4, 4, 3), 5),
    ):
        spec = ArraySpec(shape, dtype, 10, inner, (("fingerprint", "x"),))
        disk = DiskArray.create(tmp_path, dtype, spec)
        values = rng.integers(0, 200, shape).astype(dtype)
        for chunk in range(3):
            disk.write_chunk(chunk, values[spec.rows(chunk)])
        again = DiskArray.open(tmp_path, dtype, rows=30, dtype=dtype, inner_rows=inner)
        assert again.spec == spec
        np.testing.assert_array_equal(again.read(slice(0, 30)), values)
        names = [type(c).__name__ for c in again.zarr.metadata.codecs]
        assert names in (["ShardingCodec"], ["BytesCodec", "ZstdCodec", "Crc32cCodec"])


def test_newer_format_is_refused(project):
    path = project.path / "project.json"
    project.close()
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "version": 2}))
    with pytest.raises(StoreVersionError, match="Update napari-embed"):
        Project.open(project.path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "x"}', "[" * 100_000])
def test_foreign_folders_are_refused_and_not_touched(tmp_path: Path, text):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "project.json").write_text(text)
    for mode in ("r", "a"):
        with pytest.raises(StoreError):
            Project.open(folder, mode=mode)
    assert [p.name for p in folder.iterdir()] == ["project.json"]
    with pytest.raises(StoreError, match="not a napari-embed project"):
        Project.open(tmp_path)


def test_items_take_any_rows(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("napari_embed.project.items.ROW_GROUP_ROWS", 10)
    n = 53
    np.savez(
        tmp_path / "v.npz",
        vectors=rng.normal(size=(n, 3)),
        labels=rng.integers(0, 4, n),
    )
    spec = SourceSpec("vectors", str(tmp_path / "v.npz"))
    with Project.create(tmp_path / "v.embed", spec) as project:
        whole = project.items()
        assert isinstance(whole, pa.Table)
        for rows in (
            slice(0, 10),
            slice(5, 31),
            slice(50, 90),
            slice(7, 7),
            slice(53, 60),
        ):
            assert project.items(rows=rows).to_pylist() == whole.to_pylist()[rows]
        ids = rng.integers(0, n, 40)
        got = project.items(["id", "label"], rows=ids).to_pylist()
        assert got == [
            {k: whole.to_pylist()[i][k] for k in ("id", "label")} for i in ids
        ]
        assert project.items(rows=[]).num_rows == 0
        with pytest.raises(InputError):
            project.items(rows=[n])
        with pytest.raises(InputError, match="No column"):
            project.items(["nope"])
        assert not project.has_images


@pytest.mark.parametrize("chunk_rows", [53, 64, 100, 512])
def test_pages_read_directly_equal_what_zarr_reads(tmp_path, rng, chunk_rows):
    n, size = 650, 9
    np.save(tmp_path / "v.npy", np.zeros((n, 2), np.float32))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    path = tmp_path / "p.embed"
    with Project.create(path, spec, thumbnail_size=size, chunk_rows=chunk_rows) as made:
        stage = made.begin_stage(
            "thumbnails", fingerprint="t", shape_tail=(size, size, 3), dtype="uint8"
        )
        values = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        values[: n // 2] = values[: n // 2, :1]  # some of it packs well
        for chunk in stage.pending():
            stage.write(chunk, values[stage.rows(chunk)])
        stage.seal()
        slow = stage.array[:]
        np.testing.assert_array_equal(slow, values)
        for count in (1, 3, 200):
            ids = rng.integers(0, n, count)
            np.testing.assert_array_equal(made.read_thumbnails(ids), slow[ids])
        np.testing.assert_array_equal(made.read_thumbnails(np.arange(n)), slow)


# odd names and damage


def test_an_empty_label_is_no_label(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,label\n1,2,\n3,4,a\n5,6,\n")
    spec = SourceSpec("table", str(tmp_path / "t.csv"))
    with Project.create(tmp_path / "a.embed", spec) as made:
        assert made.items()["label"].to_pylist() == [None, "a", None]
        codes, names = made.categories("label")
        assert (codes.tolist(), names) == ([-1, 0, -1], ["a"])


def test_labels_stay_in_order_beside_one_called_nan(tmp_path):
    labels = np.array(["10", "nan", "9", "NaN", "2", "x", "inf"])
    np.savez(tmp_path / "a.npz", X=np.zeros((7, 4)), labels=labels)
    spec = SourceSpec("vectors", str(tmp_path / "a.npz"))
    with Project.create(tmp_path / "a.embed", spec) as made:
        codes, names = made.categories("label")
        assert names == ["2", "9", "10", "inf", "NaN", "nan", "x"]
        assert [names[code] for code in codes] == labels.tolist()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_folder_whose_name_is_no_unicode(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    path = Path(os.fsdecode(folder)) / "v.npy"
    np.save(path, np.zeros((5, 4)))
    with Project.create(tmp_path / "ä.embed", SourceSpec("vectors", str(path))):
        pass
    text = (tmp_path / "ä.embed/project.json").read_text(encoding="utf-8")
    assert '"ä"' in text
    with Project.open(tmp_path / "ä.embed") as project:
        assert project.source().vectors().shape == (5, 4)


def test_a_path_with_nothing_there_is_told_from_a_foreign_folder(tmp_path):
    with pytest.raises(StoreError, match="There is no project"):
        Project.open(tmp_path / "none.embed")
    with pytest.raises(StoreError, match="is not a napari-embed project"):
        Project.open(tmp_path)


def test_an_unknown_upstream_costs_no_finished_work(project, vectors):
    embed(project, vectors).seal()
    with pytest.raises(InputError, match="upstream must be"):
        project.begin_stage(
            "embeddings/own", fingerprint="new", shape_tail=(DIM,), dtype="float32",
            upstream="thumbnails",
        )  # fmt: skip
    np.testing.assert_array_equal(project.embeddings("own")[:], vectors)


def test_a_damaged_encoder_state_can_be_given_up(project):
    project.write_encoder_state("own", {"mean": np.zeros(3)}, fingerprint="f")
    file = project.path / "encoders/own.npz"
    file.write_bytes(file.read_bytes() + b"x")
    [problem] = project.verify()
    project.invalidate_chunks(problem.stage)
    assert project.verify() == []
    assert project.read_encoder_state("own", fingerprint="f") is None
