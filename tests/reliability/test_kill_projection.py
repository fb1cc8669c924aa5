"""kill -9 in the middle of t-SNE: it goes on, and ends in the bits of an unbroken run.

One thread, so that nothing but the interruption could make a difference.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from napari_embed.engine import pipeline
from napari_embed.engine.client import EngineClient, Event
from napari_embed.engine.progress import JobControl
from napari_embed.errors import JobCancelled
from napari_embed.params import EmbedParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

N = 1500
MAX_ITER = 1000
KILLS = 3
RUNNER = Path(__file__).parent / "projection_runner.py"
COMMAND = [sys.executable, "-m", "napari_embed"]
OPTIONS = ["--dims", "2", "--max-iter", str(MAX_ITER), "--no-early-stop"]
ONE_THREAD = os.environ | {"NAPARI_EMBED_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def path(tmp_path: Path, chance: random.Random) -> Path:
    """A project of vectors, embedded."""
    rng = np.random.default_rng(chance.randrange(2**32))
    centres = 5 * rng.standard_normal((6, 16))
    np.save(tmp_path / "v.npy", centres[np.arange(N) % 6] + rng.normal(size=(N, 16)))
    found = tmp_path / "a.embed"
    pipeline.run_create(found, detect_source(tmp_path / "v.npy"), JobControl())
    with Project.open(found, mode="a") as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
    return found


def project_command(path: Path, name: str) -> list[str]:
    return [*COMMAND, "project", str(path), *OPTIONS, "--name", name]


def finish(path: Path, name: str) -> str:
    """Run the command to its end; return what it printed."""
    done = subprocess.run(
        project_command(path, name), capture_output=True, text=True, timeout=300,
        env=ONE_THREAD,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kept(path: Path, name: str) -> int:
    """Return the iteration that is kept, 0 if none; what is kept must be whole."""
    with Project.open(path) as project:
        assert project.verify() == []
        stage = project.stage_info(f"checkpoints/{name}")
        if stage.state == "missing":
            return 0
        assert project.read_checkpoint(name) is not None
        return int(stage.info["iteration"])


def kill_in_the_middle(path: Path, name: str, beyond: int, wait_s: float) -> list[str]:
    """Kill -9 a run some time after it kept an iteration; return what it said."""
    command = [sys.executable, str(RUNNER), str(path), name, str(MAX_ITER)]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            word, _, number = line.partition(" ")
            if word == "kept" and int(number) >= beyond:
                break
        time.sleep(wait_s)
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.read().split("\n")
        process.wait(30)
    return [line for line in said if line]


def positions(path: Path, name: str) -> np.ndarray:
    with Project.open(path) as project:
        return project.read_projection(name).positions


def test_killed_projection_goes_on_to_the_same_bits(
    path: Path, chance: random.Random
) -> None:
    finish(path, "whole")
    expected = positions(path, "whole")
    before = 0
    for _ in range(int(os.environ.get("NAPARI_EMBED_KILLS", KILLS))):
        if before > MAX_ITER // 2:
            break
        beyond = before + chance.randrange(1, 60)
        said = kill_in_the_middle(path, "broken", beyond, chance.uniform(0, 0.05))
        assert "finished" not in said
        now = kept(path, "broken")
        print(f"killed: {before} -> {now} of {MAX_ITER} iterations")
        if before:
            assert f"Going on from iteration {before} of {MAX_ITER}." in said
        last = max(int(line.split()[1]) for line in said if line.startswith("kept"))
        assert now >= last  # nothing that was told to be kept is lost
        before = now
    said = finish(path, "broken")
    assert f"Going on from iteration {before} of {MAX_ITER}." in said
    np.testing.assert_array_equal(positions(path, "broken"), expected)
    assert kept(path, "broken") == 0
    assert not (path / "checkpoints").exists()
    assert "Nothing to do" in finish(path, "broken")


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_an_engine_told_to_stop_keeps_the_map(path: Path, how: str) -> None:
    far = threading.Event()

    def follow(event: Event) -> None:
        progress = event.progress
        if progress and progress.stage == "t-SNE" and progress.done >= 40:
            far.set()

    params = ProjectionParams(n_components=2, max_iter=20_000, early_stop=False)
    with EngineClient(threads=1, cancel_grace_s=30) as engine:
        job = engine.submit(
            "project", follow, path=str(path), params=params.to_dict(), name="m"
        )
        assert far.wait(120)
        if how == "cancel":
            job.cancel()
            with pytest.raises(JobCancelled):
                job.wait(60)
    now = kept(path, "m")
    assert 40 <= now < params.max_iter
    control = JobControl(lambda progress: control.cancel())
    with Project.open(path, mode="a") as project, pytest.raises(JobCancelled):
        pipeline.run_projection(project, params, control, name="m")
    assert kept(path, "m") == now  # stopped before it began: nothing is lost
