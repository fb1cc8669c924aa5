"""The estimate before a run, and the bottleneck named while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_embed.encoders.functions import FunctionEncoder
from napari_embed.engine import loading, pipeline
from napari_embed.engine.bottleneck import Stopwatch
from napari_embed.engine.estimate import run_estimate
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.errors import InputError
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

N = 1500


@pytest.fixture
def project(tmp_path: Path, rng: np.random.Generator) -> Project:
    np.save(tmp_path / "i.npy", rng.integers(0, 255, (N, 16, 16, 3), dtype=np.uint8))
    with Project.create(tmp_path / "p.embed", detect_source(tmp_path / "i.npy")) as p:
        yield p


def slow(images: Sequence[np.ndarray]) -> np.ndarray:
    time.sleep(0.002 * len(images))
    return np.array([np.resize(image, 64) for image in images], np.float32)


def use(monkeypatch: pytest.MonkeyPatch) -> FunctionEncoder:
    encoder = FunctionEncoder(slow, name="slow", dim=64)
    monkeypatch.setattr(loading, "load_encoder", lambda name, **_: encoder)
    return encoder


def test_the_estimate_is_what_the_run_takes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch)
    params = EmbedParams(encoder="slow")
    files = sorted(project.path.rglob("*"))
    found = run_estimate(project, params, JobControl())
    assert sorted(project.path.rglob("*")) == files  # nothing is written
    assert found["n_images"] == N
    assert found["bottleneck"] == "model"
    # At most: a crowded machine makes it slower, nothing makes it faster.
    assert found["model_rate"] <= 500
    assert found["seconds"] >= 0.9 * 0.002 * N
    assert found["memory_bytes"] is None or found["memory_bytes"] > 20 << 20
    before = project.size_on_disk()
    pipeline.run_embed(project, params, JobControl())
    written = project.size_on_disk() - before
    # Beside the arrays a ledger and metadata are written.
    assert 0.8 * found["disk_bytes"] < written < 1.3 * found["disk_bytes"] + 200_000
    assert run_estimate(project, params, JobControl())["n_images"] == 0


def test_an_encoder_that_learns_is_tried_too(project: Project) -> None:
    found = run_estimate(project, EmbedParams(), JobControl())
    assert found["rate"] > 0
    assert found["trial_images"] >= 128
    assert not project.stages()


def test_vectors_need_no_estimate(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((20, 5), np.float32))
    with (
        Project.create(tmp_path / "v.embed", detect_source(tmp_path / "v.npy")) as made,
        pytest.raises(InputError, match="no images"),
    ):
        run_estimate(made, EmbedParams(), JobControl())


def test_the_bottleneck_is_named_while_it_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch)
    seen: list[Progress] = []
    control = JobControl(seen.append, interval_s=0.0)
    pipeline.run_embed(project, EmbedParams(encoder="slow"), control)
    named = {p.bottleneck for p in seen if p.stage == "images"}
    assert "model" in named
    assert Progress.from_dict(seen[-1].to_dict()) == seen[-1]


def test_waiting_for_images_is_what_counts() -> None:
    clock = iter(np.cumsum([0, 0.2, 1, 0.1, 0.01, 1, 0.1, 0.01, 1, 3]).tolist())
    watch = Stopwatch(lambda: next(clock))
    assert watch.slowest == ""
    watch.lap("decode")
    watch.lap("model")
    assert watch.slowest == "decode"  # a sixth of the time
    for _ in range(2):
        watch.lap("disk")
        watch.lap("decode")
        watch.lap("model")
    assert watch.slowest == "model"
    watch.lap("disk")
    assert watch.slowest == "disk"
