"""The whole way with the real engine: folder, three clicks, a map that is seen forming.

And what is left when the window closes: no process, no thread, no shared memory.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.session import _sessions, close_session

pytestmark = pytest.mark.gui
CLASSES = ("bright", "dark", "striped")
LONG_MS = 180_000


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return 90 pictures in a folder per class, and one that is broken."""
    root = tmp_path / "photos"
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(30):
            noise = rng.integers(0, 40, (24, 24, 3))
            base = np.full((24, 24, 3), (200, 20, 20)[kind])
            if kind == 2:
                base[:, ::4] = 220
            picture = (base + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(root / name / f"{i:02d}.png")
    (root / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    return root


@pytest.fixture
def quiet(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("NAPARI_EMBED_DATA", str(tmp_path / "data"))


def children() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if "napari_embed" in " ".join(p.cmdline())]


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("napari-embed")]


def test_a_folder_becomes_a_coloured_map_in_three_clicks(
    make_napari_viewer, qtbot, folder, quiet, monkeypatch
) -> None:
    viewer = make_napari_viewer()
    panels = AllPanels(viewer)
    qtbot.addWidget(panels)
    controller = panels.controller
    clicks = 0

    def click(button) -> None:
        nonlocal clicks
        clicks += 1
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def choose(*_args: object) -> str:
        nonlocal clicks
        clicks += 1  # the dialog's own button
        return str(folder)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", choose)
    moments: list[float] = []
    shapes: set[tuple[int, ...]] = set()

    def watch(new, old) -> None:
        if new.data_version != old.data_version and controller.compute.live:
            moments.append(time.monotonic())
            shapes.add(panels.session.map.layer.positions.shape)

    controller.state_changed.connect(watch)
    click(panels.project.open_folder)
    qtbot.waitUntil(lambda: controller.state.project is not None, timeout=LONG_MS)
    assert (folder.parent / "photos.embed").is_dir()
    click(panels.compute.run_all)

    def finished() -> bool:
        state = controller.state
        failed = [s.message.text for s in state.stages if s.message]
        assert not failed, failed
        return not state.running and all(s.status == "done" for s in state.stages)

    qtbot.waitUntil(finished, timeout=LONG_MS)
    state = controller.state
    assert clicks == 3
    assert state.projection.name == "tsne-3d"
    assert state.color_column == "label"
    assert controller.coloring.names == CLASSES
    # 90 good pictures are drawn; the broken one is listed, not drawn.
    assert (state.n_loaded, state.project.n_items) == (90, 91)
    assert state.project.errors[0].source.endswith("broken.png")
    assert moments, "the map was never seen forming"
    assert shapes == {(91, 3)}
    assert np.isfinite(panels.session.map.layer.positions).all(axis=1).sum() == 90
    kl = panels.compute.spark.points
    assert kl
    assert kl[-1][1] < kl[0][1]
    # Lasso or box end in the layer's mask; the images of the selected points follow.
    controller.select_class(2)
    assert state.n_drawn == 90
    assert controller.state.n_selected == 30
    link = panels.session.map.link
    qtbot.waitUntil(lambda: len(link.shown_ids) == 12, timeout=LONG_MS)
    labels = controller.coloring.codes[link.shown_ids]
    assert (labels == 2).all()
    close_session(viewer)


def test_closing_the_window_during_work_leaves_nothing(
    make_napari_viewer, qtbot, folder, quiet
) -> None:
    for stop_at in ("embed", "projection"):
        viewer = make_napari_viewer()
        panels = AllPanels(viewer)
        viewer.window.add_dock_widget(panels, name="All panels")
        controller = panels.controller
        controller.open_path(folder)
        qtbot.waitUntil(
            lambda c=controller: c.state.project is not None, timeout=LONG_MS
        )
        controller.compute.run_all()
        qtbot.waitUntil(
            lambda c=controller, s=stop_at: c.state.stage(s).status == "running",
            timeout=LONG_MS,
        )
        assert children()
        # Other programs on the machine may have buffers too: ours is looked at.
        shared = controller.compute._live and Path(controller.compute._live.name)
        assert (shared is not None) == (stop_at == "projection")
        assert shared is None or shared.exists()
        viewer.close()
        qtbot.waitUntil(lambda: not children(), timeout=15_000)
        QApplication.processEvents()
        assert shared is None or not shared.exists()
        assert our_threads() == []
        assert id(viewer) not in _sessions
        del viewer, panels, controller
        gc.collect()


def test_opening_and_closing_many_times_keeps_no_files_open(
    make_napari_viewer, qtbot, folder, quiet
) -> None:
    from napari_embed.engine.client import EngineClient

    path = folder.parent / "many.embed"
    with EngineClient() as engine:
        engine.submit("create", path=str(path), source=str(folder)).wait(120)
    viewer = make_napari_viewer()
    counts = []
    for _ in range(6):
        panels = AllPanels(viewer)
        controller = panels.controller
        controller.open_path(path)
        qtbot.waitUntil(
            lambda c=controller: c.state.project is not None, timeout=LONG_MS
        )
        close_session(viewer)
        panels.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # deferred deletes
        QApplication.processEvents()
        del panels, controller
        gc.collect()
        counts.append(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else 0)
        assert our_threads() == []
    assert counts[-1] <= counts[1] + 2, counts
