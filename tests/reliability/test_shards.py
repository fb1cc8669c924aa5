"""Shards: processes without a scheduler, one after another, at once, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.engine.shards import Shard, embed_shard
from napari_embed.errors import InputError
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.project.handover import Handover, write_handover
from napari_embed.project.ledger import ChunkRecord
from napari_embed.sources import SourceSpec

N, CHUNK, BROKEN = 70, 8, 11
NAME = "descriptor"
WAIT_S = 300


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(N):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    (folder / f"{BROKEN:03d}.png").write_bytes(b"no picture")
    return folder


def make(images: Path, path: Path) -> Project:
    spec = SourceSpec("folder", str(images))
    return Project.create(path, spec, chunk_rows=CHUNK)


def stored(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes()
        for stage in (f"embeddings/{NAME}", "thumbnails")
        for path in sorted((project / stage).iterdir())
    }


def run_shard(path: Path, number: int, count: int) -> dict[str, object]:
    shard = Shard(number, count)
    return embed_shard(path, EmbedParams(), shard, JobControl()).info


def test_shards_give_the_same_bytes(tmp_path: Path, images: Path) -> None:
    path, whole = tmp_path / "shards.embed", tmp_path / "whole.embed"
    with make(images, whole) as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
    make(images, path).close()
    assert run_shard(path, 3, 3)["chunks_left"] == 6
    assert run_shard(path, 1, 3)["chunks_left"] == 3
    with Project.open(path) as project:
        assert project.stage_info(f"embeddings/{NAME}").state == "partial"
    assert run_shard(path, 2, 3)["n_failed"] == 1
    with Project.open(path) as project:
        assert project.stage_info(f"embeddings/{NAME}").state == "sealed"
        assert project.errors()["id"].to_pylist() == [BROKEN]
        assert project.verify() == []
    assert stored(path) == stored(whole)
    assert not (path / "handover").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_shards_at_once_and_one_killed(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "shards.embed"
    make(images, path).close()

    def start(number: int) -> subprocess.Popen[bytes]:
        code = (
            "import sys\n"
            "from napari_embed.engine.shards import Shard, embed_shard\n"
            "from napari_embed.engine.progress import JobControl\n"
            "from napari_embed.params import EmbedParams\n"
            f"embed_shard(sys.argv[1], EmbedParams(), Shard({number}, 2), JobControl())"
        )
        return subprocess.Popen([sys.executable, "-c", code, str(path)])

    shards = [start(1), start(2)]
    end = time.monotonic() + WAIT_S
    while not (path / "handover").exists() and shards[0].poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(shards[0].pid, signal.SIGKILL)
    assert shards[1].wait(WAIT_S) == 0
    shards[0].wait(WAIT_S)
    run_shard(path, 1, 2)
    with Project.open(path) as project:
        stage = project.stage_info(f"embeddings/{NAME}")
        assert (stage.state, stage.info["n_failed"]) == ("sealed", 1)
        assert project.verify() == []


def test_a_false_note_is_not_believed(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "shards.embed"
    make(images, path).close()
    run_shard(path, 1, 2)
    with Project.open(path) as project:
        print_ = project.stage_info(f"embeddings/{NAME}").fingerprint
        target = project.path / f"embeddings/{NAME}"
    (target / "c.1.0").write_bytes(b"x" * 10)
    false = ChunkRecord(1, 10, "0" * 32)
    write_handover(path, NAME, print_, Handover(1, false, false, {}))
    write_handover(path, NAME, print_, Handover(99, false, false, {}))
    (path / "handover" / NAME / "3.json").write_text("{[")
    with Project.open(path, mode="a") as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
        assert project.verify() == []
        assert project.errors()["id"].to_pylist() == [BROKEN]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"])
def test_a_wrong_shard_is_explained(text: str) -> None:
    with pytest.raises(InputError, match="I/N"):
        Shard.parse(text)
