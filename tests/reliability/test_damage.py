"""Rot, loss, full disks and hostile metadata: found, named, healed, never believed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.errors import (
    CorruptChunkError,
    EmbedError,
    IncompleteStageError,
    StoreError,
    StoreReadOnlyError,
)
from napari_embed.project import Project, results, store
from napari_embed.sources import SourceSpec

N, ROWS, DIM = 640, 32, 12
KINDS = ("flip", "cut", "zero", "empty", "delete", "append", "swap", "link", "folder")


def fill(project: Project, seed: int = 0) -> None:
    """Write whatever is pending, the same values every time."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(N, DIM)).astype(np.float32)
    shape = project.thumbnail_shape
    images = random.integers(0, 256, (N, *shape), dtype=np.uint8)
    for key, values in (("thumbnails", images), ("embeddings/own", vectors)):
        stage = project.begin_stage(
            key, fingerprint="f", shape_tail=values.shape[1:], dtype=values.dtype
        )
        for chunk in stage.pending():
            stage.write(chunk, values[stage.rows(chunk)])
        if not stage.sealed:
            stage.seal()
    indices = random.integers(0, N, (N, 7)).astype(np.int32)
    graph = NeighborGraph(indices, random.random((N, 7)).astype(np.float32))
    if project.stage_info("neighbors/own").state != "sealed":
        project.write_neighbors(
            "own", graph, fingerprint="n", upstream="embeddings/own"
        )
    positions = random.normal(size=(N, 3)).astype(np.float32)
    if project.stage_info("projections/map").state != "sealed":
        project.write_projection(
            "map", Projection(positions), fingerprint="p", upstream="neighbors/own"
        )


@pytest.fixture
def path(tmp_path) -> Path:
    np.save(tmp_path / "v.npy", np.zeros((N, 2), np.float32))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    folder = tmp_path / "p.embed"
    with Project.create(folder, spec, thumbnail_size=8, chunk_rows=ROWS) as project:
        fill(project)
        assert project.verify() == []
    return folder


def contents(path: Path) -> dict[str, bytes]:
    files = [p for p in path.rglob("*") if p.is_file() and "state.sqlite" not in p.name]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


def damage(rng, path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    at = int(rng.integers(0, len(data)))
    if kind == "flip":
        data[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at : at + 64] = bytes(b ^ 0xFF for b in data[at : at + 64])
    elif kind == "append":
        data += b"x"
    elif kind == "empty":
        data.clear()
    if kind in ("delete", "link", "folder"):
        path.unlink()
        if kind == "link":
            path.symlink_to("/etc/hostname")
        elif kind == "folder":
            path.mkdir()
    else:
        path.write_bytes(bytes(data))


def test_verify_names_exactly_the_damage_and_it_heals(path, rng):
    pristine = contents(path)
    chunks = [p for p in path.rglob("c.*") if p.is_file()]
    victims = rng.permutation(len(chunks))[: 2 * len(KINDS)]
    expected = set()
    for number, victim in enumerate(victims):
        kind = KINDS[number % len(KINDS)]
        target = chunks[victim]
        if kind == "swap":  # with a healthy chunk of the same array
            others = [c for i, c in enumerate(chunks)
                      if i not in victims and c.parent == target.parent]  # fmt: skip
            if not others:
                kind = "flip"
            else:
                other = others[0]
                victims = np.append(victims, chunks.index(other))
                first, second = target.read_bytes(), other.read_bytes()
                target.write_bytes(second)
                other.write_bytes(first)
                expected.add(other.relative_to(path).as_posix())
        if kind != "swap":
            damage(rng, target, kind)
        expected.add(target.relative_to(path).as_posix())
    with Project.open(path, mode="a") as project:
        seen: list[tuple[int, int]] = []
        problems = project.verify(
            progress=lambda done, total: seen.append((done, total))
        )
        assert {p.path for p in problems} == expected
        assert seen[-1][0] == seen[-1][1]
        assert all(p.chunk is not None and p.stage for p in problems)
        for problem in problems:
            project.invalidate_chunks(problem.stage, [problem.chunk])
        fill(project)
        assert project.verify() == []
    print(json.dumps({"damaged": len(expected), "chunks": len(chunks)}))
    assert contents(path) == pristine


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_chunk_is_never_read_as_data(path, rng, kind):
    if kind == "swap":
        pytest.skip("equal sizes and valid checksums: only verify can tell")
    victim = path / "embeddings/own/c.3.0"
    damage(rng, victim, kind)
    with Project.open(path) as project:
        stored = project.embeddings("own")
        with pytest.raises(CorruptChunkError, match="verify"):
            stored[3 * ROWS : 3 * ROWS + 1]
        with pytest.raises(CorruptChunkError):
            np.asarray(stored)
        assert np.isfinite(stored[: 3 * ROWS]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_results_raise(path, rng, kind):
    if kind == "swap":
        pytest.skip("these results have one chunk")
    damage(rng, path / "projections/map/c.0.0", kind)
    damage(rng, path / "neighbors/own/indices/c.0.0", kind)
    with Project.open(path) as project:
        for read in (project.read_projection, project.read_neighbors):
            with pytest.raises(StoreError):
                read("map" if read == project.read_projection else "own")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_thumbnail_chunk_spares_the_page(path, rng, kind):
    if kind == "swap":
        pytest.skip("equal sizes and valid checksums: only verify can tell")
    ids = rng.integers(0, N, 40)
    with Project.open(path) as project:
        before = project.read_thumbnails(ids)
    chunk = int(ids[0]) // ROWS
    damage(rng, path / f"thumbnails/c.{chunk}.0.0.0", kind)
    with Project.open(path) as project:
        after = project.read_thumbnails(ids)
    fine = ids // ROWS != chunk
    np.testing.assert_array_equal(after[fine], before[fine])
    # A flipped bit may lie in an inner chunk that nobody asked for.
    wrong = (after[~fine] != before[~fine]).any(axis=(1, 2, 3))
    assert not after[~fine][wrong].any()
    if kind not in ("flip", "zero"):
        assert wrong.all()


def test_lost_chunks_are_pending_again_when_a_stage_is_resumed(path):
    (path / "embeddings/own/c.2.0").unlink()
    (path / "embeddings/own/c.5.0").write_bytes(b"")
    pristine = contents(path)
    with Project.open(path, mode="a") as project:
        stage = project.begin_stage(
            "embeddings/own", fingerprint="f", shape_tail=(DIM,), dtype="float32"
        )
        assert stage.pending() == [2, 5]
        assert not stage.sealed
        with pytest.raises(IncompleteStageError):
            project.embeddings("own")
        fill(project)
        assert project.verify() == []
        assert project.stage_info("neighbors/own").state == "sealed"
    assert len(contents(path)) == len(pristine) + 1


# metadata


def edits(values: dict) -> list[dict]:
    """Return hostile versions of one array's metadata."""

    def changed(**new):
        return json.loads(json.dumps({**values, **new}))

    grid = {"name": "regular", "configuration": {"chunk_shape": [10**12, DIM]}}
    pickle = [{"name": "pickle"}, {"name": "numcodecs.pickle", "configuration": {}}]
    return [
        changed(shape=[10**13, DIM]), changed(shape=[N, 10**9]), changed(shape=[N]),
        changed(shape=[N, DIM, 1]), changed(shape=[-1, DIM]),
        changed(shape=[N + 1, DIM]),
        changed(shape="x"), changed(shape=[True, DIM]), changed(data_type="float64"),
        changed(data_type="object"), changed(data_type="|O"), changed(chunk_grid=grid),
        changed(chunk_grid={}), changed(codecs=pickle), changed(codecs=[]),
        changed(codecs=[{"name": "bytes"}]), changed(fill_value=0),
        changed(node_type="group"), changed(zarr_format=2),
        changed(storage_transformers=[{"name": "x"}]), changed(attributes=[]),
        changed(chunk_key_encoding={"name": "v2"}), {}, changed(extra=1),
    ]  # fmt: skip


def test_hostile_metadata_is_refused_before_zarr_sees_it(path, monkeypatch):
    metadata = path / "embeddings/own/zarr.json"
    original = metadata.read_text()
    texts = [json.dumps(e) for e in edits(json.loads(original))]
    texts += ["", "[]", "null", "[" * 50_000, "{" + " " * (2 << 20) + "}", "\0", "NaN"]
    opened: list[object] = []
    real = store.zarr.open_array
    for text in texts:
        metadata.write_text(text)
        monkeypatch.setattr(store.zarr, "open_array", lambda *a, **k: opened.append(a))
        with Project.open(path) as project, pytest.raises(StoreError):
            project.embeddings("own")
        assert not opened, text[:200]
    metadata.unlink()
    metadata.symlink_to("/dev/zero")
    with Project.open(path) as project, pytest.raises(StoreError):
        project.embeddings("own")
    monkeypatch.setattr(store.zarr, "open_array", real)
    with Project.open(path, mode="a") as project:
        assert [p.path for p in project.verify()] == ["embeddings/own/zarr.json"]
        fill(project)  # the metadata are written anew, the chunks are kept
        assert project.verify() == []
    assert metadata.read_text() == original


def read_everything(path: Path) -> None:
    with Project.open(path) as project:
        problems = project.verify()
        project.stages()
        project.errors()
        project.items(rows=[0, N - 1])
        project.read_thumbnails([0, N - 1])
        np.asarray(project.embeddings("own"))
        project.read_neighbors("own")
        project.read_projection("map")
        if problems:
            raise StoreError(str(problems))


def test_mutated_project_files_never_crash(path, rng):
    """Whatever is in the small files: an error of ours, or data that verify knows."""
    names = ["project.json", "state.sqlite", "items.parquet", "zarr.json",
             "thumbnails/zarr.json", "neighbors/own/indices/zarr.json"]  # fmt: skip
    outcomes = {"refused": 0, "opened": 0}
    for number in range(int(os.environ.get("NAPARI_EMBED_MUTATED_PROJECTS", "120"))):
        name = names[number % len(names)]
        original = (path / name).read_bytes()
        data = bytearray(original)
        for _ in range(int(rng.integers(1, 8)) * (1 + len(data) // 20_000)):
            at = int(rng.integers(0, len(data)))
            if rng.random() < 0.2:
                del data[at : at + int(rng.integers(1, 50))]
            else:
                data[at] = int(rng.integers(0, 256))
            if not data:
                break
        (path / name).write_bytes(bytes(data))
        try:
            read_everything(path)
            outcomes["opened"] += 1
        except EmbedError:
            outcomes["refused"] += 1
        finally:
            (path / name).write_bytes(original)
    print(json.dumps(outcomes))
    assert outcomes["refused"]


def test_ledger_lost_or_foreign(path):
    ledger = path / "state.sqlite"
    keep = ledger.read_bytes()
    for content in (b"", b"not a data base" * 100, keep[:5000]):
        ledger.write_bytes(content)
        with pytest.raises(StoreError):
            read_everything(path)
    ledger.unlink()
    with pytest.raises(StoreError, match="no ledger"):
        Project.open(path)


def test_ledger_rows_with_paths_outside_are_harmless(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    with sqlite3.connect(path / "state.sqlite") as db:
        db.execute("INSERT INTO files VALUES ('../secret', 'x', 1, 'y', '')")
        db.execute("INSERT INTO chunks VALUES ('../../etc', 0, '../x', 1, 'y')")
        plan = {"staging": "../../..", "chunks": {}, "files": {}}
        db.execute("INSERT INTO swaps VALUES ('../secret', ?)", (json.dumps(plan),))
    db.close()
    with Project.open(path) as project:
        assert len(project.verify()) == 2
    with pytest.raises(StoreError, match="damaged"):
        Project.open(path, mode="a")
    assert secret.read_text() == "x"


# interrupted swaps


@pytest.mark.parametrize(
    "point", ["before the rename", "after the rename", "staging lost"]
)
def test_an_interrupted_swap_is_finished_by_the_next_writer(path, point, monkeypatch):
    new = Projection(np.ones((N, 3), np.float32))
    finish = results._finish_swap

    def die(root, ledger, key, plan):
        if point == "after the rename":
            shutil.rmtree(root / key)
            os.replace(root / ".staging" / plan["staging"] / key, root / key)
        if point == "staging lost":
            shutil.rmtree(root / ".staging")
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "_finish_swap", die)
    project = Project.open(path, mode="a")
    with pytest.raises(KeyboardInterrupt):
        project.write_projection("map", new, fingerprint="p2")
    project.close()
    with Project.open(path) as reader:
        assert reader.verify() == []
        assert reader.stage_info("projections/map").state == "partial"
        with pytest.raises(IncompleteStageError):
            reader.read_projection("map")
    monkeypatch.setattr(results, "_finish_swap", finish)
    with Project.open(path, mode="a") as again:
        assert again.verify() == []
        if point == "staging lost":
            assert again.stage_info("projections/map").state == "partial"
        else:
            assert (again.read_projection("map").positions == 1).all()
    assert not (path / ".staging").exists()


# disks that are full


class FullDisk:
    """Replaces a function; its n-th call and all later ones report a full disk."""

    def __init__(self, monkeypatch, target: object, name: str, fail_at: int) -> None:
        self.real, self.calls, self.fail_at = getattr(target, name), 0, fail_at
        monkeypatch.setattr(target, name, self)

    def __call__(self, *args, **options):
        self.calls += 1
        if self.calls >= self.fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*args, **options)


def failures() -> tuple[int, ...]:
    """Return which call is the first to fail; each one where that is asked for."""
    most = int(os.environ.get("NAPARI_EMBED_FAILURES", "0"))
    return tuple(range(1, most + 1)) or (1, 3, 8, 21)


@pytest.mark.parametrize("name", ["fsync", "replace", "mkdir"])
def test_every_failing_call_is_one_clear_error(path, tmp_path, monkeypatch, name):
    pristine = contents(path)
    for fail_at in failures():
        copy = tmp_path / f"{name}{fail_at}.embed"
        np.save(tmp_path / "v.npy", np.zeros((N, 2), np.float32))
        spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
        project = Project.create(copy, spec, thumbnail_size=8, chunk_rows=ROWS)
        with monkeypatch.context() as patch:
            full = FullDisk(patch, os, name, fail_at)
            try:
                fill(project)
            except StoreError as error:
                message = str(error)
            else:
                message = f"{copy} had space for {full.calls} calls"
                assert full.calls < fail_at
            assert str(copy) in message
            assert "space" in message
        assert project.verify() == []
        fill(project)
        assert project.verify() == []
        project.close()
        again = contents(copy)
        same = [k for k in pristine if k not in ("project.json", "writer.lock")]
        assert {k: again[k] for k in same} == {k: pristine[k] for k in same}
        shutil.rmtree(copy)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_a_really_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=640k", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        np.save(tmp_path / "v.npy", np.zeros((N, 2), np.float32))
        spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
        project = Project.create(
            disk / "p.embed", spec, thumbnail_size=24, chunk_rows=ROWS
        )
        ballast = disk / "ballast"
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(b"x" * (free - (160 << 10)))
        with pytest.raises(StoreError, match=r"free|full") as caught:
            fill(project)
        assert str(disk) in str(caught.value)
        assert project.verify() == []
        done = project.stage_info("thumbnails").chunks_done
        assert done > 0
        project.close()
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        with Project.open(disk / "p.embed", mode="a") as project:
            assert project.stage_info("thumbnails").chunks_done == done
            fill(project)
            assert project.verify() == []
        print(json.dumps({"chunks_before_full": done}))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Project.open(disk / "p.embed") as project:
            assert project.read_projection("map").n == N
        with pytest.raises(StoreReadOnlyError):
            Project.open(disk / "p.embed", mode="a")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_free_space_is_checked_before_a_long_run(path):
    with Project.open(path) as project:
        project.check_free_space(1 << 10)
        with pytest.raises(StoreError, match="nothing was changed"):
            project.check_free_space(1 << 62)
