"""The picture under the cursor belongs to the item, whatever was done before.

Every item's picture is one colour that encodes its id. What the canvas really shows is
read back, pixel by pixel, and compared with what a click there reports.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from vispy.app.canvas import MouseEvent

from napari_embed.arrays import Projection
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.points import geometry
from napari_embed.gui.session import close_session
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N = 400
LONG_MS = 60_000


def code(ids: np.ndarray) -> np.ndarray:
    """Return an RGB colour per id, with a checksum in blue; neighbours are 10 apart."""
    red, green = 40 + ids % 20 * 10, 40 + ids // 20 * 10
    return np.stack([red, green, 40 + (ids * 7) % 20 * 10], axis=-1).astype(np.uint8)


def decode(rgb: np.ndarray) -> np.ndarray:
    """Return the id of each colour, -1 where it is none of ours."""
    digits = np.round((rgb.astype(int) - 40) / 10).astype(int)
    ids = digits[..., 0] + 20 * digits[..., 1]
    valid = ((digits >= 0) & (digits < 20)).all(axis=-1)
    off = np.abs(code(np.where(valid, ids, 0)).astype(int) - rgb).max(axis=-1)
    return np.where(valid & (off <= 1), ids, -1)


@pytest.fixture
def project_path(tmp_path: Path, rng, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    images = np.tile(code(np.arange(N))[:, None, None], (1, 16, 16, 1))
    labels = rng.integers(0, 4, N)
    np.savez(tmp_path / "codes.npz", images=images, labels=labels)
    path = tmp_path / "codes.embed"
    with Project.create(path, detect_source(str(tmp_path / "codes.npz"))) as project:
        for name, d in (("a-2d", 2), ("b-3d", 3), ("c-2d", 2), ("d-3d", 3)):
            positions = rng.normal(size=(N, d)).astype(np.float32)
            positions[rng.integers(0, N, 5)] = np.nan
            project.write_projection(name, Projection(positions), fingerprint=name)
    return path


class Window:
    """The application as a user has it: panels, canvas, mouse."""

    def __init__(self, viewer, qtbot, path: Path, rng) -> None:
        self.viewer, self.qtbot, self.rng = viewer, qtbot, rng
        panels = AllPanels(viewer)
        viewer.window.add_dock_widget(panels, name="All panels", area="right")
        self.controller, self.map = panels.controller, panels.session.map
        self.controller.open_path(str(path))
        qtbot.waitUntil(lambda: self.map.layer is not None, timeout=LONG_MS)
        qtbot.waitUntil(lambda: self.controller.colors_settled, timeout=LONG_MS)
        self.clicked: list[int] = []

    def show(self, name: str) -> None:
        self.controller.show_projection(name)
        self.qtbot.waitUntil(
            lambda: self.controller.state.projection.name == name, timeout=LONG_MS
        )

    def mouse(self, path: np.ndarray) -> None:
        canvas = self.viewer.window._qt_viewer.canvas
        press = None
        kinds = ["mouse_press", *["mouse_move"] * (len(path) - 1), "mouse_release"]
        for kind, at in zip(kinds, [*path, path[-1]], strict=True):
            event = MouseEvent(
                type=kind, pos=at, button=1, buttons=[1], modifiers=[],
                press_event=press,
            )  # fmt: skip
            press = press or event
            getattr(canvas, f"_on_{kind}")(event)

    def lasso(self) -> np.ndarray:
        """Draw a lasso around the middle of the visible points; return its ids."""
        layer = self.map.layer
        self.map.fit()
        QApplication.processEvents()
        x, y, _ = geometry.project(layer._xyz, layer.canvas_matrix())
        seen = layer.visible_mask & np.isfinite(layer._xyz).all(axis=1)
        middle = np.median(np.column_stack([x, y])[seen], axis=0)
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        reach = self.rng.uniform(40, 130, (24, 1))
        outline = middle + reach * np.column_stack([np.cos(turn), np.sin(turn)])
        layer.tool = "lasso"
        self.mouse(outline)
        layer.tool = "pan"
        inside = np.zeros(N, bool)
        ends = np.roll(outline, -1, axis=0)
        for (x0, y0), (x1, y1) in zip(outline, ends, strict=True):
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return np.flatnonzero(inside & seen)

    def check(self, expected: np.ndarray) -> None:
        """The canvas shows the pictures of these ids, and each where a click says."""
        layer, link = self.map.layer, self.map.link
        np.testing.assert_array_equal(layer.selected_ids(), np.sort(expected))
        assert set(link.ids) == set(expected)
        self.qtbot.waitUntil(
            lambda: len(link.shown_ids) == min(12, len(expected)) and not link.loading,
            timeout=LONG_MS,
        )
        QApplication.processEvents()
        shot = self.viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        ids = decode(shot)
        counts = np.bincount(ids[ids >= 0], minlength=N)
        assert set(np.flatnonzero(counts > 200)) == set(link.shown_ids)
        link.image_clicked.connect(self.clicked.append)
        for item in self.rng.choice(link.shown_ids, min(4, len(link.shown_ids)), False):
            rows, columns = np.nonzero(ids == item)
            at = self.rng.integers(len(rows))
            self.clicked.clear()
            self.mouse(np.array([(columns[at], rows[at])], float))
            QApplication.processEvents()
            assert self.clicked == [item]
        link.image_clicked.disconnect(self.clicked.append)


def test_the_picture_under_the_cursor_is_right(
    make_napari_viewer, qtbot, rng, project_path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1300, 800)
    window = Window(viewer, qtbot, project_path, rng)
    controller = window.controller

    def sort() -> None:
        window.map.link.order = str(rng.choice(["item", "random", "label"]))

    steps = [
        lambda: window.show("a-2d"),
        lambda: controller.set_hidden_classes({1, 3}),
        sort,
        lambda: window.show("b-3d"),
        controller.hide_selected,
        lambda: window.show("c-2d"),
        controller.show_all,
        controller.exclude_selected,
        lambda: window.show("d-3d"),
        sort,
        controller.undo,
        lambda: window.map.update_positions(rng.normal(size=(N, 3)).astype(np.float32)),
        controller.isolate_selected,
        controller.show_all,
        lambda: setattr(viewer.dims, "ndisplay", 2),
        lambda: setattr(viewer.dims, "ndisplay", 3),
        sort,
    ]
    seen = 0
    for step in steps:
        step()
        if len(window.map.layer.selected_ids()):
            window.check(window.map.layer.selected_ids())
        expected = window.lasso()
        np.testing.assert_array_equal(window.map.layer.selected_ids(), expected)
        seen += expected.size
        if expected.size:
            window.check(expected)
    assert seen > 10 * len(steps)
    close_session(viewer)
