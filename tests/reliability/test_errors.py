"""Rows in = embedded + errors, always; and the errors are told with reasons."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_embed.encoders.functions import FunctionEncoder
from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.engine.repair import run_repair
from napari_embed.errors import JobCancelled
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.project.error_list import ERRORS_NAME
from napari_embed.sources import SourceSpec, detect_source

N, ROWS = 400, 32
KEY = "embeddings/colours"


def colours(images: list[np.ndarray]) -> np.ndarray:
    """Return mean colours; NaN where an image is of one colour."""
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    flat = [len(np.unique(image)) == 1 for image in images]
    means[flat] = np.nan
    return means


@pytest.fixture
def encoder() -> FunctionEncoder:
    return FunctionEncoder(colours, name="colours", dim=3)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Folder of images; some are damaged, gone, links to nowhere, or of one colour."""
    images = tmp_path / "images"
    images.mkdir()
    kinds = rng.choice(5, N, p=[0.8, 0.05, 0.05, 0.05, 0.05])
    for i, kind in enumerate(kinds.tolist()):
        path = images / f"{i:04}.png"
        if kind == 4:
            path.symlink_to("nowhere.png")
            continue
        pixels = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        pixels[0, 0], pixels[0, 1] = 0, 255
        Image.fromarray(np.full_like(pixels, 7) if kind == 3 else pixels).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if kind == 1 else content)
        if kind == 2:
            path.write_bytes(b"=cmd|' /C calc'!A0")
    return images


def listed(project: Path) -> list[dict[str, str]]:
    if not (project / ERRORS_NAME).exists():
        return []
    with (project / ERRORS_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def check(path: Path) -> int:
    """Return the number of errors, after the sums are found right."""
    with Project.open(path) as project:
        vectors = project.embeddings("colours", partial=True)[:]
        table = project.errors()
        info = project.stage_info(KEY)
        done = np.isfinite(vectors).all(axis=1)
        failed = table["id"].to_numpy()
        assert len(np.unique(failed)) == len(failed)
        assert not done[failed].any()
        pending = N - done.sum() - len(failed)
        whole = info.chunks_done == info.chunks_total
        assert 0 <= pending == (0 if whole else pending)
        assert all(table["reason"].to_pylist())
    rows = listed(path)
    assert [int(row["id"]) for row in rows] == failed.tolist()
    assert [r["reason"].lstrip("'") for r in rows] == table["reason"].to_pylist()
    assert not any(cell[:1] in "=+@" for row in rows for cell in row.values())
    return len(failed)


def test_rows_in_are_embedded_plus_errors(
    folder: Path, tmp_path: Path, encoder: FunctionEncoder, chance: random.Random
) -> None:
    path = tmp_path / "p.embed"
    Project.create(path, detect_source(folder), chunk_rows=ROWS).close()
    assert listed(path) == []
    stop_at = chance.randrange(64, N - 64)
    control = JobControl(
        lambda p: control.cancel() if p.done >= stop_at else None, interval_s=0
    )
    with (
        Project.open(path, mode="a") as project,
        pytest.raises(JobCancelled),
    ):
        pipeline.run_embed(project, EmbedParams(), control, encoder=encoder)
    check(path)
    with Project.open(path, mode="a") as project:
        result = pipeline.run_embed(
            project, EmbedParams(), JobControl(), encoder=encoder
        )
    failed = check(path)
    assert failed == result.n_failed > 0
    print(f'{{"items": {N}, "errors": {failed}, "stopped_at": {stop_at}}}')

    # Mended images leave the list, damaged chunks come back with the same errors.
    for row in listed(path)[: failed // 2]:
        good = np.arange(108, dtype=np.uint8).reshape(6, 6, 3)
        target = folder / row["source"]
        target.unlink()
        Image.fromarray(good).save(target)
    with Project.open(path, mode="a") as project:
        pipeline.run_embed(
            project, EmbedParams(), JobControl(), encoder=encoder, retry_failed=True
        )
    left = check(path)
    assert left == failed - failed // 2
    (path / f"{KEY}/c.2.0").unlink()
    with Project.open(path, mode="a") as project:
        assert run_repair(project, JobControl(), encoder=encoder).left == []
    assert check(path) == left


def test_the_list_goes_when_nothing_fails_any_more(tmp_path: Path) -> None:
    vectors = np.ones((9, 3), np.float32)
    vectors[4] = np.inf
    np.save(tmp_path / "v.npy", vectors)
    path = tmp_path / "v.embed"
    with Project.create(
        path, SourceSpec("vectors", str(tmp_path / "v.npy"))
    ) as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
    [row] = listed(path)
    assert (row["id"], row["stage"]) == ("4", "embeddings/vectors")
    vectors[4] = 2
    np.save(tmp_path / "v.npy", vectors)
    with Project.open(path, mode="a") as project:
        pipeline.run_embed(project, EmbedParams(), JobControl(), retry_failed=True)
    assert not (path / ERRORS_NAME).exists()


def test_a_list_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.ones((9, 3), np.float32)
    vectors[4] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    path = tmp_path / "v.embed"
    with Project.create(
        path, SourceSpec("vectors", str(tmp_path / "v.npy"))
    ) as project:
        (path / ERRORS_NAME).mkdir()
        pipeline.run_embed(project, EmbedParams(), JobControl())
    assert "list of errors" in caplog.text
    with Project.open(path, mode="a") as project:  # the lock was given back
        assert project.errors().num_rows == 1
