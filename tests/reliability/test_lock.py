"""One writer, many readers: the lock names its holder and dies with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from napari_embed.errors import StoreLockedError, StoreReadOnlyError
from napari_embed.project import Project
from napari_embed.project.lock import LOCK_NAME, WriterLock
from napari_embed.sources import SourceSpec

HOLD = """
import sys, time
from napari_embed.project import Project
project = Project.open(sys.argv[1], mode="a")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path, rng):
    np.save(tmp_path / "v.npy", rng.normal(size=(200, 3)))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    Project.create(tmp_path / "p.embed", spec, chunk_rows=10).close()
    return tmp_path / "p.embed"


def test_second_writer_is_refused_with_pid_and_host(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError) as caught:
            Project.open(path, mode="a")
        assert str(holder.pid) in str(caught.value)
        assert socket.gethostname() in str(caught.value)
        with Project.open(path) as reader:
            assert reader.n_items == 200
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    started = time.monotonic()
    with Project.open(path, mode="a") as project:
        assert project.writable
    assert time.monotonic() - started < 2


def test_second_writer_in_the_same_process_is_refused(path):
    holder = Project.open(path, mode="a")
    with pytest.raises(StoreLockedError, match=str(os.getpid())):
        Project.open(path, mode="a")
    holder.close()
    Project.open(path, mode="a").close()


def test_a_holder_on_another_host_is_left_to_a_person(path):
    other = {"pid": 1, "host": "far-away", "since": "2026-01-01T00:00:00Z"}
    (path / LOCK_NAME).write_text(json.dumps(other))
    with pytest.raises(
        StoreLockedError, match=r"far-away.*delete the file .*writer\.lock"
    ):
        Project.open(path, mode="a")
    assert json.loads((path / LOCK_NAME).read_text()) == other
    (path / LOCK_NAME).unlink()
    Project.open(path, mode="a").close()


def test_a_lock_that_another_host_holds_for_certain_is_not_to_be_broken(
    path, monkeypatch
):
    monkeypatch.setattr("napari_embed.project.lock._try_lock", lambda file: False)
    other = {"pid": 1, "host": "far-away", "since": "2026-01-01T00:00:00Z"}
    (path / LOCK_NAME).write_text(json.dumps(other))
    with pytest.raises(StoreLockedError) as caught:
        Project.open(path, mode="a")
    text = str(caught.value)
    assert "far-away" in text
    assert "Wait" in text
    assert "delete" not in text
    assert "read-only" not in text  # said to windows, which read only anyway


def test_junk_in_the_lock_file_does_not_block(path):
    for junk in (b"", b"\xff\xfe", b"[" * 5000, b'{"pid": "x"}', b"null"):
        (path / LOCK_NAME).write_bytes(junk)
        Project.open(path, mode="a").close()


def test_without_file_locks_the_holder_decides(path, monkeypatch):
    monkeypatch.setattr("napari_embed.project.lock._try_lock", lambda file: None)
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": "now"}
    (path / LOCK_NAME).write_text(json.dumps(me))
    with pytest.raises(StoreLockedError, match=str(os.getpid())):
        WriterLock(path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (path / LOCK_NAME).write_text(json.dumps({**me, "pid": ended.pid}))
    with WriterLock(path):
        pass


def test_many_starts_let_one_through(path):
    won, refused = [], []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            project = Project.open(path, mode="a")
        except StoreLockedError as error:
            refused.append(str(error))
        else:
            won.append(project)

    for _ in range(5):
        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won.pop().close()
    assert len(refused) == 35


def test_readers_during_writing_see_no_torn_row(path, rng):
    values = rng.normal(size=(200, 8)).astype(np.float32)
    faults: list[str] = []
    stop = threading.Event()
    reads = 0

    def read() -> None:
        nonlocal reads
        with Project.open(path) as project:
            while not stop.is_set():
                if project.stage_info("embeddings/own").chunks_done == 0:
                    continue
                got = project.embeddings("own", partial=True)[:]
                whole = np.isfinite(got).all(axis=1)
                torn = ~whole & np.isfinite(got).any(axis=1)
                if torn.any() or not np.array_equal(got[whole], values[whole]):
                    faults.append("a row is torn")
                reads += 1

    threads = [threading.Thread(target=read) for _ in range(3)]
    with Project.open(path, mode="a") as project:
        for thread in threads:
            thread.start()
        stage = project.begin_stage(
            "embeddings/own", fingerprint="f", shape_tail=(8,), dtype="float32"
        )
        for _ in range(3):
            for chunk in range(stage.n_chunks):
                stage.write(chunk, values[stage.rows(chunk)])
        stop.set()
        for thread in threads:
            thread.join()
    print(json.dumps({"reads": reads}))
    assert not faults
    assert reads > 0


def test_one_reader_serves_many_threads(path, rng):
    """The window reads pages, items and states from its own threads."""
    with Project.open(path, mode="a") as project:
        size = project.thumbnail_shape[0]
        images = rng.integers(0, 256, (200, size, size, 3), dtype=np.uint8)
        stage = project.begin_stage(
            "thumbnails", fingerprint="t", shape_tail=images.shape[1:], dtype="uint8"
        )
        for chunk in stage.pending():
            stage.write(chunk, images[stage.rows(chunk)])
    faults: list[str] = []

    def use(reader: Project, seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(20):
                ids = random.integers(0, 200, 12)
                if not np.array_equal(reader.read_thumbnails(ids), images[ids]):
                    faults.append("wrong pictures")
                if reader.items(["id"], rows=ids)["id"].to_pylist() != ids.tolist():
                    faults.append("wrong items")
                if reader.stage_info("thumbnails").chunks_done != 20:
                    faults.append("wrong state")
                if seed % 3 == 0:
                    reader.refresh()
        except Exception as error:
            faults.append(repr(error))

    with Project.open(path) as reader:
        threads = [threading.Thread(target=use, args=(reader, i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults


def test_read_only_opening_touches_nothing(path):
    with Project.open(path, mode="a") as project:
        stage = project.begin_stage(
            "embeddings/own", fingerprint="f", shape_tail=(2,), dtype="float32"
        )
        for chunk in range(stage.n_chunks):
            stage.write(chunk, np.ones((10, 2), np.float32))
        stage.seal()
    before = snapshot(path)
    with Project.open(path) as project:
        assert project.embeddings("own")[:].sum() == 400
        assert project.items().num_rows == 200
        assert project.verify() == []
        project.read_thumbnails([1])
        with pytest.raises(StoreReadOnlyError, match="mode='a'"):
            project.invalidate_chunks("embeddings/own")
        assert snapshot(path) == before
    assert snapshot(path) == before


def test_a_folder_without_write_permission(path):
    def as_nobody(code: str) -> str:
        script = f"""
import os
from napari_embed.project import Project
from napari_embed.errors import EmbedError
path = {str(path)!r}
Project.open(path).items()  # everything imported before the rights go
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    {code}
except EmbedError as error:
    print(type(error).__name__, error)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    for folder in (path, *path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    path.chmod(0o555)
    before = snapshot(path)
    try:
        assert as_nobody("print(Project.open(path).items().num_rows)").startswith("200")
        refusal = as_nobody("Project.open(path, mode='a')")
        assert refusal.startswith("StoreReadOnlyError"), refusal
        assert "permission" in refusal.lower()
        assert snapshot(path) == before
    finally:
        path.chmod(0o755)


def snapshot(path) -> dict[str, tuple[int, int]]:
    found = {}
    for folder, _, files in os.walk(path):
        for name in [".", *files]:
            info = os.stat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (info.st_mtime_ns, info.st_size)
    return found
