"""The main promise on real data: a lasso in 3D shows exactly the images inside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from vispy.app.canvas import MouseEvent

from napari_embed.engine.pipeline import run_create, run_embed, run_projection
from napari_embed.engine.progress import JobControl
from napari_embed.gui.docks.all_panels import open_all_panels
from napari_embed.gui.points import geometry
from napari_embed.gui.points.hooks import scene_camera
from napari_embed.gui.session import close_session
from napari_embed.params import EmbedParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

pytestmark = pytest.mark.gui
LONG_MS = 60_000


@pytest.fixture
def project_path(tmp_path: Path, monkeypatch) -> Path:
    """Return a project of the bundled images with an instant 3D map."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    path, control = tmp_path / "sample.embed", JobControl()
    run_create(path, SourceSpec("sample", "fashion"), control)
    with Project.open(path, mode="a") as project:
        run_embed(project, EmbedParams(), control)
        run_projection(project, ProjectionParams(method="pca"), control)
    return path


def even_odd(x: np.ndarray, y: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Return which points lie inside an outline, edge by edge in float64."""
    inside = np.zeros(x.size, bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def drag(viewer, path: np.ndarray) -> None:
    """Drag the mouse over the canvas."""
    canvas = viewer.window._qt_viewer.canvas
    press = None
    kinds = ["mouse_press", *["mouse_move"] * (len(path) - 1), "mouse_release"]
    for kind, at in zip(kinds, [*path, path[-1]], strict=True):
        event = MouseEvent(
            type=kind, pos=at, button=1, buttons=[1], modifiers=[], press_event=press
        )
        press = press or event
        getattr(canvas, f"_on_{kind}")(event)


def test_a_lasso_in_3d_shows_exactly_the_images_inside(
    make_napari_viewer, qtbot, rng, project_path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1300, 800)
    panels = open_all_panels(viewer)
    controller, session = panels.controller, panels.session
    controller.open_path(str(project_path))
    qtbot.waitUntil(lambda: session.map.layer is not None, timeout=LONG_MS)
    layer = session.map.layer
    viewer.dims.ndisplay = 3
    session.map.fit()
    with Project.open(project_path) as project:
        for _ in range(3):
            scene_camera(viewer).angles = tuple(rng.uniform(-90, 90, 3))
            QApplication.processEvents()
            x, y, _ = geometry.project(layer._xyz, layer.canvas_matrix())
            centre = np.median(np.column_stack([x, y]), axis=0)
            turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            reach = rng.uniform(15, 70, turn.size)[:, None]
            outline = centre + reach * np.column_stack([np.cos(turn), np.sin(turn)])
            layer.tool = "lasso"
            drag(viewer, outline)
            expected = np.flatnonzero(even_odd(x, y, outline))
            assert 12 < expected.size < layer.n_items
            np.testing.assert_array_equal(layer.selected_ids(), expected)
            check_pages(session.map.link, project, expected, qtbot)
    close_session(viewer)


def check_pages(link, project: Project, expected: np.ndarray, qtbot) -> None:
    """The first, an inner and the last page show the expected images, in order."""
    pages = (0, link.n_pages // 2, link.n_pages - 1)
    for page in pages:
        link.jump(page)
        wanted = expected[page * 12 : page * 12 + 12]
        qtbot.waitUntil(
            lambda wanted=wanted: (
                np.array_equal(link.shown_ids, wanted) and not link.loading
            ),
            timeout=LONG_MS,
        )
        geometry_of = link.layer.decoration.geometry
        sheet = np.asarray(link.layer.data).reshape(link.layer.data.shape[1:])
        thumbnails = project.read_thumbnails(wanted)[..., 0]
        side = thumbnails.shape[1]
        factor, rest = divmod(geometry_of.cell_height, side)
        assert rest == 0, "the window is too small for whole pictures"
        for index, thumbnail in enumerate(thumbnails):
            row, column = geometry_of.origin(index)
            rows = row + np.arange(side) * factor
            columns = column + np.arange(side) * factor
            cell = sheet[np.ix_(rows, columns)]
            np.testing.assert_array_equal(cell, thumbnail)
