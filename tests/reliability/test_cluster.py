"""Embedding on a Dask cluster: same bytes when a worker dies, and always an end."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from PIL import Image

from napari_embed.engine import cluster, decoders, embedding, pipeline
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.engine.remote import do_chunk
from napari_embed.errors import ComputeError, InputError, StoreError
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.project.shared import SharedProject
from napari_embed.sources import SourceSpec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

N, CHUNK, BROKEN = 70, 16, 40
KEY = "embeddings/descriptor"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Two worker processes that share one processor."""
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {
        "distributed.comm.timeouts.connect": "120s",
        "distributed.scheduler.allowed-failures": 1,
        "distributed.nanny.environ": {"OMP_NUM_THREADS": "1"},
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as running,
    ):
        yield running.scheduler_address


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(N):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")
    (folder / f"{BROKEN:04d}.png").write_bytes(b"no picture")
    return folder


def make(images: Path, path: Path) -> Project:
    spec = SourceSpec("folder", str(images))
    return Project.create(path, spec, chunk_rows=CHUNK)


def stored(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes()
        for stage in (KEY, "thumbnails")
        for path in sorted((project / stage).iterdir())
    }


def embed_locally(images: Path, path: Path) -> dict[str, bytes]:
    with make(images, path) as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
    return stored(path)


def test_a_killed_worker_changes_nothing(
    tmp_path: Path, images: Path, scheduler: str
) -> None:
    import distributed

    expected = embed_locally(images, tmp_path / "local.embed")
    with distributed.Client(scheduler, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    killed = threading.Event()

    def kill_one(progress: Progress) -> None:
        if progress.stage == "images" and progress.done > CHUNK and not killed.is_set():
            killed.set()
            os.kill(pids[0], signal.SIGKILL)

    path = tmp_path / "cluster.embed"
    with make(images, path) as project:
        control = JobControl(kill_one, interval_s=0)
        result = pipeline.run_embed(
            project, EmbedParams(), control, scheduler=scheduler
        )
        assert killed.is_set()
        assert (result.n_done_now, result.n_failed) == (N - 1, 1)
        assert project.errors()["id"].to_pylist() == [BROKEN]
        assert project.verify() == []
    assert stored(path) == expected


def die_for(text: str) -> tuple[str, tuple[str]]:
    return text, (f"__import__('os')._exit(1) if {text!r} == 'deadly' else {text!r}",)


def test_a_task_that_kills_workers_ends_with_an_answer(scheduler: str) -> None:
    import distributed

    with distributed.Client(scheduler, set_as_default=False) as client:
        tasks = cluster.Tasks(client, JobControl())
        calls = iter([die_for("deadly"), die_for("a")])
        outcomes = dict(tasks.run(calls, eval))
        assert isinstance(outcomes["deadly"], distributed.KilledWorker)
        # The next ones find workers again.
        assert dict(tasks.run(iter([die_for("b")]), eval)) == {"b": "b"}


class Gone:
    """Stands for a client whose workers come and go; ``turns`` says which are there."""

    status = "running"

    def __init__(self, turns: Iterable[list[str]]) -> None:
        self.turns = iter(turns)
        self.scheduler = SimpleNamespace(address="tcp://x:1")
        self.cancelled = False

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(next(self.turns), 1)

    def submit(self, *_: Any, **__: Any) -> Any:
        return Mock(done=lambda: False)

    def cancel(self, *_: Any, **__: Any) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (itertools.repeat([]), "no workers for"),
        (([f"tcp://w:{i}"] for i in itertools.count()), "were lost since"),
        (itertools.cycle([["tcp://w:1"], []]), "were lost since"),
    ],
    ids=["none", "one after the other", "closed again"],
)
def test_nothing_is_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, turns: Iterable[list[str]], text: str
) -> None:
    monkeypatch.setattr(cluster, "NO_WORKERS_S", 0.2 if text.startswith("no") else 600)
    monkeypatch.setattr(cluster, "COUNT_EVERY_S", 0.0)
    client = Gone(turns)
    tasks = cluster.Tasks(client, JobControl())
    with pytest.raises(ComputeError, match=text):
        list(tasks.run(iter([("a", ())]), len))
    assert client.cancelled


class Deadly:
    """Stands for `Tasks`: workers die of some chunks, the first time or always."""

    def __init__(self, once: set[int], always: set[int]) -> None:
        self.once, self.always = once, always

    def wait_for_workers(self) -> None:
        pass

    def threads_each(self) -> int:
        return 1

    def run(self, calls: Iterator[Any], _: Any) -> Iterator[tuple[Any, Any]]:
        for work, (job, _work) in calls:
            dies = work.number in self.once | self.always
            self.once.discard(work.number)
            yield work, OSError("killed") if dies else do_chunk(job, work)


def on_deadly_cluster(
    monkeypatch: pytest.MonkeyPatch, project: Project, tasks: Deadly
) -> None:
    client = SimpleNamespace(run=lambda function, *given, **_: function(*given))
    monkeypatch.setattr(embedding, "connect", lambda _: nullcontext(client))
    monkeypatch.setattr(cluster, "Tasks", lambda *_: tasks)
    monkeypatch.setattr(cluster, "check_workers", lambda *_: None)
    pipeline.run_embed(project, EmbedParams(), JobControl(), scheduler="tcp://x:1")


def test_chunks_that_workers_die_of_come_last_and_are_named(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deadly.embed"
    with make(images, path) as project:
        with pytest.raises(ComputeError, match="at items 16 to 31"):
            on_deadly_cluster(monkeypatch, project, Deadly({0}, {1}))
        stage = project.stage_info(KEY)
        assert (stage.state, stage.chunks_done) == ("partial", project.n_chunks - 1)
        pipeline.run_embed(project, EmbedParams(), JobControl())
        assert project.verify() == []
    assert stored(path) == embed_locally(images, tmp_path / "local.embed")


def running(script: Path) -> list[int]:
    """Processes of a script that this one has started, and no others."""
    mine = [
        p for p in psutil.process_iter(["cmdline", "ppid"])
        if p.info["ppid"] == os.getpid()
    ]  # fmt: skip
    return [p.pid for p in mine if str(script) in (p.info["cmdline"] or [])]


def test_an_image_that_crashes_its_decoder_costs_that_image(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dummy = Path(__file__).with_name("decoder_dummy.py")
    monkeypatch.setattr(decoders, "COMMAND", (sys.executable, str(dummy)))
    (images / "0003.png").rename(images / "0003-segv.png")
    with make(images, tmp_path / "crash.embed") as project:
        on_deadly_cluster(monkeypatch, project, Deadly(set(), set()))
        errors = project.errors()
        assert errors["id"].to_pylist() == [3, BROKEN]
        assert "SIGSEGV" in errors["reason"][0].as_py()
        assert project.stage_info(KEY).state == "sealed"
    assert running(dummy) == []


def test_no_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with pytest.raises(InputError, match="dask scheduler"):
        cluster.connect("tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="No Dask scheduler"):
        cluster.connect("nonsense://x")


def test_a_machine_without_the_project_is_told(tmp_path: Path, images: Path) -> None:
    with make(images, tmp_path / "a.embed") as project:
        right = project.manifest.items_checksum
        SharedProject(project.path, right)
        with pytest.raises(StoreError, match="another project"):
            SharedProject(project.path, "0" * 32)
    with pytest.raises(StoreError, match="cannot see the project"):
        SharedProject(tmp_path / "b.embed", right)
