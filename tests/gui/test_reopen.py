"""A project opened again looks as it was left; named views and selections."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gui_fakes import FakeEngine
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.curation.filters import Filter
from napari_embed.gui import session as session_module
from napari_embed.gui.display import PageView, Stand
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.session import close_session
from napari_embed.gui.window_view import WindowView
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N = 60


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A project of small images with classes, numbers and maps of 2D and 3D."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(session_module, "_start_engine", FakeEngine)
    (tmp_path / "img").mkdir()
    for i in range(N):
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"img/{i:02}.png")
    table = pa.table(
        {
            "path": [f"img/{i:02}.png" for i in range(N)],
            "label": ["abc"[i % 3] if i % 10 else None for i in range(N)],
            "kind": [f"kind {i % 4}" for i in range(N)],
            "score": rng.random(N),
        }
    )
    pq.write_table(table, tmp_path / "few.parquet")
    path = tmp_path / "few.embed"
    with Project.create(path, detect_source(str(tmp_path / "few.parquet"))) as project:
        for d in (2, 3):
            positions = rng.standard_normal((N, d)).astype(np.float32)
            project.write_projection(
                f"a-{d}d", Projection(positions), fingerprint=f"{d}"
            )
    return path


@pytest.fixture
def opened(folder, make_napari_viewer, qtbot):
    """Return a function that opens the project in a new viewer, and settles."""
    viewers = []

    def open_it(**wish) -> AllPanels:
        viewer = make_napari_viewer()
        viewers.append(viewer)
        panels = AllPanels(viewer)
        viewer.window.add_dock_widget(panels, name="All panels", area="right")
        panels.controller.open_path(folder, **wish)
        settle(panels, qtbot)
        return panels

    yield open_it
    for viewer in viewers:
        close_session(viewer)


def settle(panels, qtbot) -> None:
    controller = panels.controller
    qtbot.waitUntil(
        lambda: (
            controller.state.projection is not None
            and controller.colors_settled
            and controller._coming is None
            and controller._awaited == 0
            and not controller.state.busy
        ),
        timeout=30_000,
    )


def reopen(panels, qtbot, folder, **wish) -> None:
    """Open the project again in the same window."""
    before = panels.controller.decisions
    panels.controller.open_path(folder, **wish)
    qtbot.waitUntil(
        lambda: panels.controller.decisions not in (None, before), timeout=30_000
    )
    settle(panels, qtbot)


def look(panels) -> dict:
    return panels.controller.window_view().to_dict()


def test_it_looks_as_it_was_left(opened, folder, qtbot) -> None:
    panels = opened()
    controller = panels.controller
    controller.show_projection("a-3d")
    qtbot.waitUntil(lambda: controller.state.projection.name == "a-3d", timeout=30_000)
    controller.color_by("kind")
    qtbot.waitUntil(lambda: controller.state.color_column == "kind", timeout=30_000)
    chip = Filter("kind", "in", ("kind 1",))
    panels.session.searches.add_filter(chip)
    qtbot.waitUntil(
        lambda: panels.session.searches.query.filters == (chip,), timeout=30_000
    )
    controller.set_class_color(1, (1.0, 0.0, 0.0, 1.0))
    controller.set_hidden_classes([2])
    controller.select([3, 7])
    controller.hide_selected()
    controller.select(np.arange(20, 60))
    controller.set_display(size=3.0, shapes=True)
    link = panels.session.map.link
    link.page_size, link.order = 12, "random"
    link.jump(2)
    camera = panels.session.viewer.camera
    camera.angles, camera.zoom, camera.center = (10, 20, 30), 123.0, (0.1, 0.2, 0.3)
    before, order = look(panels), link.ids.tolist()
    assert before["page"] == {"page": 2, "size": 12, "order": "random"}
    close_session(panels.session.viewer)

    again = opened()
    assert look(again) == before
    assert again.session.map.link.ids.tolist() == order
    assert again.session.searches.query.filters == (chip,)
    layer = again.session.map.layer
    assert not layer.visible_mask[[3, 7]].any()
    assert again.controller.state.undo_label == ""  # looking is no step
    camera = again.session.viewer.camera
    assert camera.zoom == pytest.approx(123.0)
    assert camera.center == pytest.approx((0.1, 0.2, 0.3))
    assert camera.angles == pytest.approx((10, 20, 30))

    # A map that is asked for by name is shown from the front.
    controller = again.controller
    reopen(again, qtbot, folder, projection="a-2d")
    assert controller.state.projection.name == "a-2d"
    assert controller.state.color_column == "kind"
    reopen(again, qtbot, folder)
    assert controller.state.projection.name == "a-2d"  # that is the last look now

    # What is damaged or gone is left out, the rest holds.
    values = look(again) | {"projection": "gone", "camera": {"zoom": -1}, "page": "x"}
    values |= {"hidden_points": "no base64!", "hidden": ["kind 3", "no such"]}
    controller.remembers = False
    controller.decide(lambda d: d.remember(values))
    settle(again, qtbot)
    reopen(again, qtbot, folder)
    assert controller.state.color_column == "kind"
    assert controller.state.hidden_classes == {3}
    assert controller.state.n_selected == 40
    assert controller.state.n_drawn == N - 15


def test_views_and_selections_with_names(opened, qtbot) -> None:
    panels = opened()
    controller, saved = panels.controller, panels.curate.saved
    assert not saved.nothing.isHidden()
    assert not saved.keep_view.isEnabled()
    controller.select([4, 5])
    saved.name.setText("<b>pair</b>")
    saved.keep_selection.click()
    settle(panels, qtbot)
    controller.set_hidden_classes([0])
    saved.name.setText("without a")
    saved.keep_view.click()
    settle(panels, qtbot)
    assert saved.list.topLevelItemCount() == 2
    assert saved.list.topLevelItem(0).text(0) == "<b>pair</b>"
    assert saved.list.topLevelItem(0).text(1) == "2 items"

    controller.show_all()
    controller.select([9])
    saved.list.setCurrentItem(saved.list.topLevelItem(1))
    saved.use.click()
    qtbot.waitUntil(lambda: controller.state.hidden_classes == {0}, timeout=30_000)
    assert controller.state.n_selected == 1  # a view selects nothing
    saved.list.setCurrentItem(saved.list.topLevelItem(0))
    saved.use.click()
    qtbot.waitUntil(lambda: controller.state.n_selected == 2, timeout=30_000)
    assert np.flatnonzero(controller.selection()).tolist() == [4, 5]

    controller.rename_saved("selection", "<b>pair</b>", "two")
    settle(panels, qtbot)
    assert saved.list.topLevelItem(0).text(0) == "two"
    saved.menu_for("view", "without a").actions()[-1].trigger()
    settle(panels, qtbot)
    assert saved.list.topLevelItemCount() == 1
    controller.undo()
    settle(panels, qtbot)
    assert saved.list.topLevelItemCount() == 2
    scopes = [words for _, words, _ in panels.session.exports.scopes()]
    assert "Saved: two" in scopes


def test_a_view_goes_through_plain_values(rng) -> None:
    ids = np.unique(rng.integers(0, 1000, 50))
    view = WindowView(
        projection="m", ndisplay=3, camera=Stand((1, 2, 3), 4.5, (0, 90, 5), False),
        column="c", limits=(0.5, 2.0), class_colors={"<x>": (0.1, 0.2, 0.3, 1.0)},
        hidden=frozenset({"<x>", None}), hidden_points=ids, selection=ids[:3],
        page=PageView(4, 32, "label"),
    )  # fmt: skip
    again = WindowView.from_dict(view.to_dict(), 1000)
    assert again.to_dict() == view.to_dict()
    assert again.without_selection().selection is None
    assert WindowView.from_dict({}, 1000) is None
    # Ids of a larger project are no ids of this one.
    small = WindowView.from_dict(view.to_dict(), int(ids[-1]))
    assert small.hidden_points.size == 0
    assert small.column == "c"
