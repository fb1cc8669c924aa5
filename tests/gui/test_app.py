"""``python -m napari_embed.gui``: a picture of a project, or one clear sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_embed.gui.app import dense_group

MODULE = [sys.executable, "-m", "napari_embed.gui"]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "NAPARI_EMBED_SETTINGS": str(tmp_path / "settings"),
        "NAPARI_EMBED_DATA": str(tmp_path / "data"),
        "NAPARI_CONFIG": str(tmp_path / "napari.yaml"),
    }


@pytest.fixture
def project_path(tmp_path: Path, rng: np.random.Generator) -> Path:
    from napari_embed.arrays import Projection
    from napari_embed.project import Project
    from napari_embed.sources import detect_source

    np.savez(
        tmp_path / "small.npz",
        images=rng.integers(0, 255, (200, 8, 8), dtype=np.uint8),
        labels=np.arange(200) % 4,
    )
    path = tmp_path / "small.embed"
    with Project.create(path, detect_source(str(tmp_path / "small.npz"))) as project:
        middle = np.eye(4, 3)[np.arange(200) % 4] * 8
        for d in (2, 3):
            positions = (middle + rng.normal(size=(200, 3)))[:, :d].astype(np.float32)
            project.write_projection(
                f"tsne-{d}d", Projection(positions), fingerprint="f"
            )
    return path


def test_the_group_of_a_picture_lies_together(rng: np.random.Generator) -> None:
    codes = np.repeat([0, 1], 500).astype(np.int32)
    positions = rng.normal(size=(1000, 3)).astype(np.float32) * 10
    positions[500:] = rng.normal(size=(500, 3)) + 40  # the dense class
    positions[700] = np.nan
    ids = dense_group(positions, codes, 50)
    assert len(ids) == 50
    assert (codes[ids] == 1).all()
    assert 700 not in ids
    middle = np.median(positions[500:][np.isfinite(positions[500:, 0])], axis=0)
    inside = np.linalg.norm(positions[ids] - middle, axis=1).max()
    others = np.setdiff1d(np.flatnonzero(np.isfinite(positions[:, 0])), ids)
    assert inside <= np.linalg.norm(positions[others] - middle, axis=1).min()


def test_the_group_without_classes_and_of_few_points(rng: np.random.Generator) -> None:
    positions = rng.normal(size=(20, 2)).astype(np.float32)
    assert len(dense_group(positions, None, 5)) == 5
    assert dense_group(positions, None, 100).tolist() == list(range(20))
    few = dense_group(positions, np.full(20, -1, np.int32), 7)
    assert len(few) == 7


@pytest.mark.gui
def test_a_picture_of_the_window_is_saved(project_path, settings, tmp_path) -> None:
    picture = tmp_path / "window.png"
    answer = _run(
        str(project_path), "--projection", "tsne-3d", "--screenshot", str(picture),
        "--select", "24", "--size", "1100x700", **settings,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    from PIL import Image

    image = np.asarray(Image.open(picture).convert("RGB"))
    assert image.shape == (700, 1100, 3)
    # The canvas between the side panels: points in the colours of their classes, and
    # the contact sheet of the selected ones.
    canvas = image[60:640, 350:700].reshape(-1, 3).astype(int)
    colourful = np.ptp(canvas, axis=1) > 40
    assert colourful.mean() > 0.005
    assert len(np.unique(canvas, axis=0)) > 100


@pytest.mark.gui
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/photos.embed", "--screenshot", "x.png"], "There is no /nowhere"),
        (["PROJECT", "--screenshot", "x.png", "--projection", "umap"], "umap"),
        (["PROJECT", "--screenshot", "/nowhere/x.png"], "cannot be saved"),
        (["PROJECT", "--size", "huge"], "--size must look like"),
        (["--screenshot", "x.png"], "needs a project"),
    ],
)
def test_what_does_not_work_is_one_sentence(
    arguments, words, project_path, settings
) -> None:
    filled = [str(project_path) if a == "PROJECT" else a for a in arguments]
    answer = _run(*filled, **settings)
    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-1]
    assert words in last
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 only")
def test_without_a_display_it_says_so(project_path, settings) -> None:
    answer = _run(
        str(project_path), **settings, DISPLAY="", WAYLAND_DISPLAY="",
        QT_QPA_PLATFORM="xcb",
    )  # fmt: skip
    assert answer.returncode == 1
    assert "No window can be opened here" in answer.stderr
    assert "xvfb-run" in answer.stderr


def test_without_a_qt_binding_it_says_so(tmp_path, project_path, settings) -> None:
    for name in ("PyQt6", "PyQt5", "PySide6", "PySide2"):
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(
            "raise ImportError('hidden')"
        )
    answer = _run(
        str(project_path), **settings, PYTHONPATH=str(tmp_path / "hidden"), QT_API=""
    )
    assert answer.returncode == 1
    assert "napari-embed[all]" in answer.stderr
    assert "Traceback" not in answer.stderr
