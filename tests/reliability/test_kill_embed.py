"""kill -9 in the middle of `napari-embed embed`: run again, get the same bytes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

N = 3000
COMMAND = [sys.executable, "-m", "napari_embed"]
KEY = "embeddings/descriptor"


def run(*words: object) -> str:
    """Run one command to its end and return what it printed."""
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def chunk_names(folder: Path) -> list[Path]:
    """Return the chunk files of one array."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return [p for p in files if p.name != "zarr.json"]


def chunk_files(project: Path) -> dict[str, bytes]:
    """Return the bytes of every chunk of vectors and thumbnails."""
    return {
        str(path.relative_to(project)): path.read_bytes()
        for stage in (KEY, "thumbnails")
        for path in chunk_names(project / stage)
    }


def chunks_done(project: Path) -> int:
    """Return how many chunks the ledger calls done."""
    with Project.open(project) as opened:
        assert opened.verify() == []  # what the ledger calls done is whole
        return opened.stage_info(KEY).chunks_done


def kill_in_the_middle(
    project: Path, victim: str, at_chunks: int, wait_s: float
) -> None:
    """Start embed and kill -9 the command, its engine or both."""
    command = [*COMMAND, "embed", str(project)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        folder = project / KEY
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if len(chunk_names(folder)) >= at_chunks:
                break
            time.sleep(0.002)
        time.sleep(wait_s)
        try:
            engine = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            engine = []
        victims = [p.pid for p in engine] if victim != "command" else []
        victims += [process.pid] if victim != "engine" else []
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(30)
        psutil.wait_procs(engine, timeout=10)
        assert not [p for p in engine if p.is_running() and p.status() != "zombie"]


def test_killed_embed_resumes_to_the_same_bytes(
    tmp_path: Path, seed: int, chance: random.Random
) -> None:
    pixels = np.random.default_rng(seed).integers(
        0, 256, (N, 12, 12, 3), dtype=np.uint8
    )
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:05}.png", compress_level=1)

    whole, broken = tmp_path / "whole.embed", tmp_path / "broken.embed"
    for path in (whole, broken):
        pipeline.run_create(path, detect_source(folder), JobControl())
    run("embed", whole)
    with Project.open(whole) as project:
        rows, chunks = project.chunk_rows, project.n_chunks
    assert chunks >= 5

    done = 0
    for victim in ("both", "engine", "command"):
        if done >= chunks - 1:
            break
        kill_in_the_middle(broken, victim, done + 1, chance.uniform(0, 0.1))
        before, done = done, chunks_done(broken)
        print(f"killed {victim}: {before} -> {done} of {chunks} chunks")
        assert done >= before  # nothing that was finished is lost

    last = run("embed", broken)
    print(last)
    # The last run encodes what the ledger lacked and not one image more; of the chunk
    # that was in work it may find finished pieces.
    left = N - min(N, done * rows)
    found = re.search(r"Embedded ([\d,]+) items", last)
    encoded = int(found.group(1).replace(",", "")) if found else 0
    assert left - rows < encoded <= left
    files = chunk_files(whole)
    assert len(files) == 2 * chunks
    assert chunk_files(broken) == files
    with Project.open(broken) as project:
        assert project.stage_info(KEY).state == "sealed"
        assert project.errors().num_rows == 0
        assert project.verify() == []
