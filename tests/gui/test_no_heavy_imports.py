"""The window's process loads no torch, Taichi or FAISS, whatever is opened."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytestmark = pytest.mark.gui
CODE = """
import sys, time
import napari
from qtpy.QtCore import QCoreApplication
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.docks.compute import ComputePanel
from napari_embed.gui.docks.explore import ExplorePanel
from napari_embed.gui.docks.project import ProjectPanel
from napari_embed.gui.session import close_session

viewer = napari.Viewer(show=False)
panels = AllPanels(viewer)
others = [make(viewer) for make in (ProjectPanel, ComputePanel, ExplorePanel)]
controller = panels.controller
controller.open_path(sys.argv[1])
end = time.monotonic() + 60
while controller.state.n_selected == 0 and time.monotonic() < end:
    QCoreApplication.processEvents()
    if controller.state.projection is not None:
        controller.select([0, 1, 2])
link = panels.session.map.link
while not len(link.shown_ids) and time.monotonic() < end:
    QCoreApplication.processEvents()
state = controller.state
print(state.n_loaded, state.n_selected, len(link.shown_ids), state.color_column)
heavy = ("torch", "taichi", "faiss", "torchvision")
print(sorted(name for name in heavy if name in sys.modules))
close_session(viewer)
viewer.close()
"""


@pytest.fixture
def project_path(tmp_path, rng):
    """Return a real project of 40 images with a map, made without the engine."""
    from napari_embed.arrays import Projection
    from napari_embed.project import Project
    from napari_embed.sources import detect_source

    np.savez(
        tmp_path / "small.npz",
        images=rng.integers(0, 255, (40, 8, 8), dtype=np.uint8),
        labels=np.arange(40) % 4,
    )
    path = tmp_path / "small.embed"
    with Project.create(path, detect_source(str(tmp_path / "small.npz"))) as project:
        positions = rng.normal(size=(40, 3)).astype(np.float32)
        project.write_projection("tsne-3d", Projection(positions), fingerprint="f")
    return path


def test_opening_every_panel_loads_no_engine_library(project_path, tmp_path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), str(project_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    shown, heavy = answer.stdout.strip().splitlines()[-2:]
    assert shown == "40 3 3 label"
    assert heavy == "[]"
