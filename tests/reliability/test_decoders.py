"""Decoders that crash, hang or eat memory cost one image, not the run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image

from napari_embed.encoders.functions import FunctionEncoder
from napari_embed.engine import decoders, pipeline
from napari_embed.engine.decoders import DecoderPool, contained
from napari_embed.engine.progress import JobControl
from napari_embed.errors import ComputeError
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, detect_source, open_source

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

DUMMY = (sys.executable, str(Path(__file__).with_name("decoder_dummy.py")))
N = 70


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(N):
        pixels = rng.integers(0, 256, (5 + i % 7, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i:03}.png")
    (images / "010.png").write_bytes(b"no image")
    return images


def children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    found = psutil.Process().children()
    return {p.pid for p in found if p.status() != psutil.STATUS_ZOMBIE}


def reading_threads() -> set[int | None]:
    names = ("napari-embed-read", "napari-embed-watch")
    return {t.ident for t in threading.enumerate() if t.name.startswith(names)}


@pytest.fixture
def before() -> Iterator[set[int]]:
    """Child processes at the start; no other, no thread, no file may be left."""
    me = psutil.Process()
    files, running, threads = me.num_fds(), children(), reading_threads()
    yield running
    assert children() <= running
    assert reading_threads() <= threads
    assert me.num_fds() <= files + 2  # a library may have opened one of its own


def rows(*names: str | None) -> pa.Table:
    return pa.table({"source": pa.array(names, pa.string())})


def test_images_and_reasons_are_those_of_the_source(
    folder: Path, before: set[int]
) -> None:
    source = open_source(SourceSpec("folder", str(folder)))
    items = pa.concat_tables([source.list_items(), rows("../x.png", "gone.png")],
                             promote_options="default")  # fmt: skip
    with contextlib.closing(DecoderPool(folder, processes=2)) as pool:
        got = list(pool.read(items))
        expected = list(source.read(items))
        assert [g.error for g in got] == [e.error for e in expected]
        for one, other in zip(got, expected, strict=True):
            if other.image is not None:
                np.testing.assert_array_equal(one.image, other.image)
        assert pool.lost == 0
        assert next(pool.read(items)).image is not None  # and leave the rest
    pool.close()
    with pytest.raises((ComputeError, RuntimeError)):
        list(pool.read(items))


def test_bad_decoders_cost_one_image_each(
    folder: Path, chance: random.Random, before: set[int]
) -> None:
    reasons = {
        "segv": "SIGSEGV", "abort": "SIGABRT", "exit": "exit status 3",
        "loop": "too long", "eats": "memory",
    }  # fmt: skip
    names = [p.name for p in sorted(folder.iterdir())]
    for kind in reasons:
        shutil.copy(folder / "000.png", folder / f"{kind}.png")
        names.insert(chance.randrange(len(names)), f"{kind}.png")
    pool = DecoderPool(
        folder, processes=2, command=DUMMY, cpu_s=1, memory_bytes=1 << 29
    )
    with contextlib.closing(pool):
        got = list(pool.read(rows(*names)))
        lost = pool.lost
    failed = {n: i.error for n, i in zip(names, got, strict=True) if i.error}
    print(json.dumps({"files": len(names), "failed": failed, "lost": lost}))
    assert set(failed) == {"010.png", *(f"{kind}.png" for kind in reasons)}
    for kind, text in reasons.items():
        assert text in failed[f"{kind}.png"]


def test_a_decoder_that_sleeps_is_ended_by_the_clock(
    folder: Path, before: set[int]
) -> None:
    shutil.copy(folder / "000.png", folder / "sleep.png")
    pool = DecoderPool(folder, processes=1, command=DUMMY, wall_s=2)
    with contextlib.closing(pool):
        [(image, reason)] = pool.read(rows("sleep.png"))
    assert image is None
    assert "too long" in str(reason)


def test_a_process_that_others_end_blames_no_image(
    folder: Path, before: set[int]
) -> None:
    names = [p.name for p in sorted(folder.iterdir())]
    pool = DecoderPool(folder, processes=1)
    with contextlib.closing(pool):
        reading = pool.read(rows(*names * 20))
        got = [next(reading)]
        [child] = children() - before
        os.kill(child, signal.SIGKILL)
        got += list(reading)
        assert len(got) == 20 * len(names)
        assert {i.error for i in got if i.error} == {got[10].error}


def test_closing_ends_a_decoder_that_hangs(folder: Path, before: set[int]) -> None:
    shutil.copy(folder / "000.png", folder / "sleep.png")
    pool = DecoderPool(folder, processes=1, command=DUMMY)

    def close_when_it_runs() -> None:
        while not children() - before:
            time.sleep(0.02)
        pool.close()

    closing = threading.Thread(target=close_when_it_runs)
    closing.start()
    with pytest.raises(ComputeError, match="closed"):
        list(pool.read(rows("sleep.png")))
    closing.join()


def test_processes_that_cannot_begin_are_told(folder: Path) -> None:
    for command in ((sys.executable, "-c", "raise SystemExit(4)"), ("/nowhere/x",)):
        with (
            contextlib.closing(DecoderPool(folder, command=command)) as pool,
            pytest.raises(ComputeError, match="decoder process"),
        ):
            list(pool.read(rows("000.png")))


def test_few_files_and_arrays_start_no_process(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.zeros((3000, 6, 6), np.uint8))
    few = open_source(SourceSpec("folder", str(folder)))
    stack = open_source(detect_source(tmp_path / "stack.npy"))
    with contained(few, N, tmp_path) as reader:
        assert reader is few
        assert (tmp_path / decoders.MARK).exists()
    assert not (tmp_path / decoders.MARK).exists()
    with contained(stack, 3000, tmp_path) as reader:
        assert reader is stack
        assert not (tmp_path / decoders.MARK).exists()


def test_a_crash_in_a_small_run_costs_one_image_in_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run decodes in its own process and dies; the second one is careful."""
    shutil.copy(folder / "000.png", folder / "segv.png")
    monkeypatch.setattr(decoders, "COMMAND", DUMMY)
    path = tmp_path / "p.embed"
    encoder = FunctionEncoder(
        lambda images: np.array([i.mean((0, 1)) for i in images]), name="own", dim=3
    )
    with Project.create(path, detect_source(folder)) as project:
        (path / decoders.MARK).touch()  # as a process that died leaves it
        result = pipeline.run_embed(
            project, EmbedParams(), JobControl(), encoder=encoder
        )
        assert result.n_failed == 2
        errors = {r["source"]: r["reason"] for r in project.errors().to_pylist()}
        assert "SIGSEGV" in errors["segv.png"]
        assert np.isfinite(project.embeddings("own")[:]).all(axis=1).sum() == N - 1
    assert not (path / decoders.MARK).exists()


def test_decoders_end_with_their_parent(folder: Path) -> None:
    code = (
        "import sys, pyarrow as pa, os\n"
        "from napari_embed.engine.decoders import DecoderPool\n"
        "from pathlib import Path\n"
        f"pool = DecoderPool(Path({str(folder)!r}), processes=2)\n"
        "list(pool.read(pa.table({'source': ['000.png'] * 64})))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    script = folder.parent / "parent.py"
    script.write_text(code)
    with psutil.Popen([sys.executable, str(script)]) as parent:
        seen: dict[int, psutil.Process] = {}
        while parent.is_running() and parent.status() != "zombie":
            with contextlib.suppress(psutil.NoSuchProcess):
                seen |= {p.pid: p for p in parent.children()}
            time.sleep(0.02)
    assert seen
    _, alive = psutil.wait_procs(list(seen.values()), timeout=30)
    assert alive == []
