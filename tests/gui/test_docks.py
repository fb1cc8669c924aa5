"""The panels in a real viewer: what they show, what a click does, what they leave."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import (
    FakeEngine,
    FakeProject,
    make_project_folder,
    projection,
    stage_entry,
)
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QColor, QDropEvent
from qtpy.QtWidgets import QApplication, QLabel, QScrollArea

from napari_embed.errors import StoreError
from napari_embed.gui import session as session_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.docks.compute import ComputePanel
from napari_embed.gui.docks.curve import CurvePlan, nice_ticks, tick_words
from napari_embed.gui.docks.dropping import DropFrame
from napari_embed.gui.docks.explore import ExplorePanel
from napari_embed.gui.docks.keys import KeyList
from napari_embed.gui.docks.parts import ProgressLine, progress_words
from napari_embed.gui.docks.project import ProjectPanel
from napari_embed.gui.session import close_session, session_for
from napari_embed.gui.state import ItemError, Message, ProgressView

pytestmark = pytest.mark.gui
N = 60
PANELS = {"project": ProjectPanel, "compute": ComputePanel, "explore": ExplorePanel}


class Window:
    """A viewer whose engine and project are stand-ins."""

    def __init__(self, viewer, qtbot, folder: Path, monkeypatch) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.engine = FakeEngine()
        self.path = make_project_folder(folder / "photos.embed")
        self.project = FakeProject(self.path, N, projections={
            "tsne-2d": projection(N, 2, 1), "tsne-3d": projection(N, 3, 2),
        })  # fmt: skip
        self.error: Exception | None = None
        monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(folder / "settings"))
        monkeypatch.setenv("NAPARI_EMBED_DATA", str(folder / "data"))
        monkeypatch.setattr(session_module, "_start_engine", lambda: self.engine)
        monkeypatch.setattr(session_module, "_open_for_reading", self._open)
        self.panels = AllPanels(viewer)
        qtbot.addWidget(self.panels)
        self.controller = self.panels.controller

    def _open(self, path: Path) -> FakeProject:
        if self.error is not None:
            raise self.error
        return self.project

    def open(self) -> None:
        self.controller.open_path(self.path)
        self.settle(lambda: self.state.projection is not None)

    def settle(self, condition) -> None:
        self.qtbot.waitUntil(condition, timeout=10_000)
        QApplication.processEvents()

    def settle_on(self, name: str) -> None:
        """Wait for a map."""
        self.settle(lambda: getattr(self.state.projection, "name", "") == name)

    @property
    def state(self):
        return self.controller.state


@pytest.fixture
def window(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    made = Window(viewer, qtbot, tmp_path, monkeypatch)
    yield made
    close_session(viewer)


def shown(widget) -> bool:
    return not widget.isHidden()


@pytest.mark.parametrize("name", PANELS)
def test_each_panel_works_alone(name, window):
    panel = PANELS[name](window.viewer)
    window.qtbot.addWidget(panel)
    assert panel.controller is window.controller
    texts = [w.text() for w in panel.findChildren(QLabel) if shown(w)]
    hints = ("Drop a folder", "Open images or a project in the Project panel first.")
    assert any(t.startswith(hints) for t in texts), texts
    window.open()
    assert not any(t.startswith(hints) and shown(w) for w, t in (
        (w, w.text()) for w in panel.findChildren(QLabel) if w.isVisibleTo(panel)
    ))  # fmt: skip


def test_a_second_panel_shares_the_controller(window):
    assert session_for(window.viewer) is window.panels.session
    assert window.panels.compute.controller is window.panels.project.controller


def test_project_panel_says_what_is_in_it(window):
    window.project.failures = [
        {"id": 3, "source": "cat/3.jpg", "stage": "embeddings/descriptor",
         "reason": "<b>truncated</b>"},
    ]  # fmt: skip
    window.open()
    panel = window.panels.project
    assert panel.info_card.title.text() == "photos"
    assert panel.facts["Items"].text() == "60"
    assert panel.facts["Maps"].text() == "tsne-3d, tsne-2d"
    assert panel.facts["On disk"].text() == "1.2 MB"
    assert panel.error_fold.toggle.text() == "1 image could not be used"
    assert panel.error_list.item(0).text() == "cat/3.jpg: <b>truncated</b>"
    assert panel.recent_heading.isHidden()  # the open one is not offered again


def test_many_failures_are_counted_not_listed(window):
    window.open()
    errors = tuple(ItemError(f"{i}.jpg", "broken") for i in range(200))
    info = replace(window.state.project, n_errors=5000, errors=errors)
    window.controller.update(project=info)
    assert window.panels.project.error_list.count() == 201
    assert window.panels.project.error_list.item(200).text() == (
        "and 4,800 more, all in errors.csv"
    )


def test_text_from_data_is_never_html(window):
    window.project.name = "<img src=x onerror=alert(1)>"
    window.open()
    for label in window.panels.findChildren(QLabel):
        if type(label).__module__.startswith("napari_embed") or label.text():
            assert label.textFormat() != Qt.TextFormat.RichText
    title = window.panels.project.info_card.title
    assert title.text() == "<img src=x onerror=alert(1)>"
    assert title.textFormat() == Qt.TextFormat.PlainText


def test_a_typed_path_opens(window):
    edit = window.panels.project.path_edit
    edit.setText(str(window.path))
    window.qtbot.keyClick(edit, Qt.Key.Key_Return)
    window.settle(lambda: window.state.project is not None)


def test_a_dropped_folder_opens(window):
    frame = window.panels.project.findChild(DropFrame)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(window.path))])
    event = QDropEvent(
        QPointF(QPoint(5, 5)), Qt.DropAction.CopyAction, mime,
        Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    frame.dropEvent(event)
    window.settle(lambda: window.state.project is not None)


def test_recent_projects_are_offered(window, tmp_path):
    other = make_project_folder(tmp_path / "older.embed")
    window.controller.recent.add(other)
    window.open()
    panel = window.panels.project
    texts = [panel.recent_list.itemAt(i).widget().text()
             for i in range(panel.recent_list.count())]  # fmt: skip
    assert texts == ["older"]
    assert window.controller.recent.paths()[0] == window.path.resolve()


def test_opening_shows_progress_and_cancel(window, tmp_path):
    (tmp_path / "images").mkdir()
    panel = window.panels.project
    panel.path_edit.setText(str(tmp_path / "images"))
    panel._typed()
    assert shown(panel.busy_card)
    assert not panel.opener.isEnabled()
    window.engine.send("progress", done=1200, total=0, unit="items", rate=300.0)
    window.settle(lambda: "1,200" in panel.busy_line.words.text())
    panel.controller.cancel_opening()
    assert window.engine.jobs[0].wishes == ["cancel"]
    assert panel.busy_card.isHidden()


def test_an_error_is_shown_in_place_and_can_be_closed(window):
    window.error = StoreError("photos.embed is damaged. Restore a backup.")
    window.controller.open_path(window.path)
    window.settle(lambda: window.state.message is not None)
    for panel in (window.panels.project, window.panels.compute):
        assert panel.message.text.text() == "photos.embed is damaged. Restore a backup."
        assert panel.message.kept.text() == "Nothing was changed."
    window.controller.tell(None)
    assert window.panels.project.message.isHidden()


def test_run_all_from_the_button(window):
    window.project.projections = {}
    window.controller.open_path(window.path)
    window.settle(lambda: window.state.project is not None)
    panel = window.panels.compute
    assert window.panels.tabs.currentWidget() is panel  # what comes next
    window.qtbot.mouseClick(panel.run_all, Qt.MouseButton.LeftButton)
    assert [j.name for j in window.engine.jobs] == ["embed"]
    cards = panel.cards
    assert cards["embed"].state.text() == "running"
    assert cards["neighbors"].state.text() == "waiting"
    assert not panel.run_all.isEnabled()
    window.engine.send(
        "progress", done=30, total=60, unit="images", rate=15.0, eta_s=2.0
    )
    window.settle(lambda: cards["embed"].progress.bar.value() == 500)
    words = cards["embed"].progress.words.text()
    assert words == "30 of 60 images, 15/s, 2 s left"
    window.qtbot.mouseClick(cards["embed"].pause, Qt.MouseButton.LeftButton)
    assert cards["embed"].pause.text() == "Resume"
    window.qtbot.mouseClick(cards["embed"].pause, Qt.MouseButton.LeftButton)
    window.qtbot.mouseClick(cards["embed"].cancel, Qt.MouseButton.LeftButton)
    assert window.engine.jobs[0].wishes == ["pause", "resume", "cancel"]
    window.engine.send("cancelled", message="")
    window.settle(lambda: not window.state.running)
    assert panel.run_all.isEnabled()


def test_a_failed_stage_offers_one_action(window):
    window.open()
    panel = window.panels.compute
    window.controller.compute.start_stage("embed")
    window.engine.send("error", type="DeviceLostError", message="The engine died.")
    card = panel.cards["embed"]
    window.settle(lambda: shown(card.message))
    assert card.message.text.text() == "The engine died."
    window.qtbot.mouseClick(card.message.button, Qt.MouseButton.LeftButton)
    assert [j.name for j in window.engine.jobs] == ["embed", "embed"]
    assert card.message.isHidden()


def test_encoder_dimensions_and_advanced_reach_the_settings(window):
    window.open()
    panel, compute = window.panels.compute, window.controller.compute
    index = panel.encoder.findData("torchvision/vit_b_16")
    panel.encoder.setCurrentIndex(index)
    panel.encoder.activated.emit(index)
    assert compute.settings.embed.encoder == "torchvision/vit_b_16"
    assert "346 MB" in panel.encoder_note.text()
    assert shown(panel.weights)
    window.qtbot.mouseClick(panel.dimensions.button(2), Qt.MouseButton.LeftButton)
    assert compute.settings.projection.n_components == 2
    panel.advanced.field("perplexity").value = 50
    panel.advanced.field("metric").value = "cosine"
    panel.advanced.field("random_state").value = 7
    assert compute.settings.projection.perplexity == 50
    assert compute.settings.neighbors.metric == "cosine"
    assert compute.settings.embed.random_state == 7
    compute.use_default_encoder()
    assert panel.encoder.currentData() == "descriptor"
    # Another way round: the settings fill the form without an echo.
    assert panel.advanced.field("perplexity").value == 50


def test_own_vectors_need_no_encoder(window):
    window.project.has_images = False
    window.project.stage_list = [
        stage_entry("embeddings/vectors", params={"encoder": "vectors"})
    ]
    window.open()
    panel = window.panels.compute
    assert panel.encoder.isHidden()
    assert "own vectors" in panel.encoder_note.text()
    assert panel.cards["embed"].state.text() == "done"
    window.controller.compute.start_stage("neighbors")
    assert window.engine.arguments[-1]["embeddings"] == "vectors"


def test_explore_chooses_map_colours_and_tools(window):
    window.project.values["score"] = [float(i) for i in range(N)]
    window.open()
    panel = window.panels.explore
    assert window.panels.tabs.currentWidget() is panel
    layer = window.panels.session.map.layer
    assert layer in window.viewer.layers
    assert window.viewer.dims.ndisplay == 3
    panel.projection.setCurrentText("tsne-2d")
    panel.projection.activated.emit(panel.projection.currentIndex())
    window.settle_on("tsne-2d")
    assert window.viewer.dims.ndisplay == 2
    assert layer.is_2d
    assert window.panels.session.map.layer is layer  # the same layer, moved
    index = panel.color.findData("score")
    panel.color.setCurrentIndex(index)
    panel.color.activated.emit(index)
    window.settle(lambda: window.state.color_kind == "number")
    assert panel.legend.isHidden()
    assert shown(panel.colormap)
    assert shown(panel.numbers)
    assert panel.numbers.minimumSizeHint().width() < 330
    bars = panel.numbers.bars
    bars.resize(256, bars.height())
    picture = bars.grab().toImage()
    at = (2, picture.width() - 4)
    ends = [picture.pixelColor(x, picture.height() - 5) for x in at]
    assert [c.getRgb()[:3] for c in ends] == [(68, 1, 84), (253, 231, 37)]  # viridis
    for index, tool in enumerate(("pan", "box", "lasso")):
        panel.tools.button(index).click()
        assert layer.tool == tool
    layer.tool = "pan"  # as its own key does
    assert panel.tools.button(0).isChecked()


def test_hidden_classes_can_be_neither_picked_nor_surrounded(window, rng):
    window.open()
    panel, layer = window.panels.explore, window.panels.session.map.layer
    window.settle(lambda: layer.canvas_matrix() is not None)
    codes = window.controller.coloring.codes
    all_over = np.array([[-1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, 1e4]])
    for name in ("tsne-3d", "tsne-2d"):
        window.controller.show_projection(name)
        window.settle_on(name)
        hidden = int(rng.integers(3))
        panel.legend.model.toggle(hidden)
        panel.legend._tell()
        window.settle(lambda: layer.canvas_matrix() is not None)
        layer.select_lasso(all_over)
        assert np.array_equal(layer.mask, codes != hidden)
        layer.clear_selection()
        layer.select_box(all_over[0], all_over[2])
        assert np.array_equal(layer.mask, codes != hidden)
        layer.invert_selection()
        assert not layer.mask.any()
        xyz = np.column_stack([layer._xyz, np.ones(N)]) @ layer.canvas_matrix()
        at = xyz[:, :2] / xyz[:, 3:]
        picked = [layer.pick(place) for place in at[codes == hidden]]
        assert all(item < 0 or codes[item] != hidden for item in picked)
        panel.legend._show_all()
        # Shown again, they can be picked: each at its own place, or one in front of it.
        again = [layer.pick(place) for place in at[codes == hidden]]
        assert any(item >= 0 and codes[item] == hidden for item in again)
        window.controller.clear_selection()


def test_explore_selection_reaches_images_and_legend(window):
    window.open()
    panel, layer = window.panels.explore, window.panels.session.map.layer
    layer.select(np.arange(9))
    assert panel.selection_card.state.text() == "9 selected"
    assert "9 selected" in panel.status.text()
    assert panel.legend.model.selected.tolist() == [0, 3, 3, 3]
    link = window.panels.session.map.link
    window.settle(lambda: len(link.shown_ids) == 9)
    assert "1" in panel.pager.label.text()
    panel.actions["hide_selected"].click()
    assert window.state.n_drawn == N - 9
    assert not layer.visible_mask[:9].any()
    panel.legend.model.toggle(0)
    panel.legend._tell()
    assert window.state.hidden_classes == {0}
    panel.actions["show_all"].click()
    assert layer.visible_mask.all()
    assert panel.legend.model.hidden == frozenset()


def test_points_make_room_for_the_images(window):
    window.open()
    camera = getattr(window.viewer, "scene", window.viewer).camera
    session = window.panels.session
    alone = camera.center
    session.map.layer.select(np.arange(20))
    window.settle(lambda: len(session.map.link.shown_ids) == 12)
    beside = camera.center
    assert beside != alone
    # Once the user has moved the camera it stays where it is.
    camera.zoom = camera.zoom * 2
    moved = (camera.center, camera.zoom)
    session.map.layer.select(np.arange(30))
    window.settle(lambda: len(session.map.link.ids) == 30)
    window.qtbot.wait(200)
    assert (camera.center, camera.zoom) == moved


def test_the_camera_follows_a_growing_map(window):
    window.open()
    camera = getattr(window.viewer, "scene", window.viewer).camera
    view, layer = window.panels.session.map, window.panels.session.map.layer
    positions = layer.positions.copy()
    before = camera.zoom
    view.update_positions(positions * 10)
    assert camera.zoom == pytest.approx(before / 10, rel=0.05)
    view.update_positions(positions * 10.1)  # a small change moves nothing
    assert camera.zoom == pytest.approx(before / 10, rel=0.05)
    camera.zoom = camera.zoom * 3  # the user looks closer; that stays
    view.update_positions(positions * 100)
    assert camera.zoom == pytest.approx(3 * before / 100, rel=0.05)


def test_each_map_is_seen_again_as_it_was_left(window):
    window.open()
    panel, layer = window.panels.explore, window.panels.session.map.layer
    camera = getattr(window.viewer, "scene", window.viewer).camera

    def turn_to(d: int) -> None:
        panel.dimensions.button(d).click()
        window.settle_on(f"tsne-{d}d")
        assert window.viewer.dims.ndisplay == window.state.ndisplay == d

    camera.angles, camera.zoom, camera.center = (
        (10.0, 20.0, 30.0),
        77.0,
        (1.0, 2.0, 3.0),
    )
    layer.select(np.arange(5))
    panel.legend.model.toggle(1)
    panel.legend._tell()
    colors = layer.coloring.rgba()
    shown_before = layer.visible_mask.copy()
    turn_to(2)
    assert panel.dimensions.checkedId() == 2
    # The same points are selected, coloured and hidden.
    assert layer.selected_ids().tolist() == list(range(5))
    assert np.array_equal(layer.visible_mask, shown_before)
    assert np.array_equal(layer.coloring.rgba(), colors)
    camera.zoom, camera.center = 55.0, (0.0, 0.25, 0.5)
    turn_to(3)
    assert camera.angles == pytest.approx((10.0, 20.0, 30.0))
    assert camera.center == pytest.approx((1.0, 2.0, 3.0))
    assert camera.zoom == 77.0
    turn_to(2)
    assert camera.zoom == 55.0
    assert camera.center[1:] == pytest.approx((0.25, 0.5))
    # A camera that nobody moved looks at all points again.
    panel.controller.fit_selection()
    window.controller.clear_selection()
    panel.controller.fit_selection()
    fitted = camera.zoom
    turn_to(3)
    turn_to(2)
    assert camera.zoom == pytest.approx(fitted)


def test_a_map_computed_anew_is_looked_at_as_a_whole(window):
    window.open()
    camera = getattr(window.viewer, "scene", window.viewer).camera
    fitted = camera.zoom
    camera.zoom = 5 * fitted
    window.controller.show_projection("tsne-2d")
    window.settle_on("tsne-2d")
    old = window.project.projections["tsne-3d"].positions
    old *= 2
    window.controller.show_projection("tsne-3d")
    window.settle_on("tsne-3d")
    assert camera.zoom == pytest.approx(fitted / 2, rel=0.05)


def test_naparis_own_switch_turns_to_the_other_map(window):
    window.open()
    window.viewer.dims.ndisplay = 2
    window.settle_on("tsne-2d")
    assert window.panels.explore.dimensions.checkedId() == 2
    window.viewer.dims.ndisplay = 3
    window.settle_on("tsne-3d")
    assert window.state.ndisplay == 3


def test_a_3d_map_alone_is_seen_flat_and_a_2d_map_alone_says_so(window):
    two = window.project.projections.pop("tsne-2d")
    window.open()
    panel = window.panels.explore
    camera = getattr(window.viewer, "scene", window.viewer).camera
    camera.angles, camera.zoom = (5.0, 6.0, 7.0), 66.0
    panel.dimensions.button(2).click()
    assert window.viewer.dims.ndisplay == window.state.ndisplay == 2
    assert window.state.projection.name == "tsne-3d"
    assert window.state.message.text == "This is the 3D map seen flat."
    panel.dimensions.button(3).click()
    assert window.viewer.dims.ndisplay == 3
    assert camera.angles == pytest.approx((5.0, 6.0, 7.0))
    assert camera.zoom == 66.0
    assert window.state.message is None
    window.project.projections = {"tsne-2d": two}
    window.open()
    window.settle(lambda: window.state.projection is not None)
    window.settle_on("tsne-2d")
    panel.dimensions.button(3).click()
    assert "no 3D map yet" in window.state.message.text
    assert panel.dimensions.checkedId() == window.viewer.dims.ndisplay == 2


def test_a_forming_map_can_be_paused_and_kept_beside_the_map(window):
    window.project.stage_list = [
        stage_entry("embeddings/descriptor"), stage_entry("neighbors/descriptor"),
    ]  # fmt: skip
    window.open()
    card, compute = window.panels.explore.live, window.controller.compute
    assert card.isHidden()
    compute.start_stage("projection")
    assert shown(card)
    window.engine.send(
        "progress", stage="t-SNE", done=100, total=750, unit="iterations", rate=50.0,
        eta_s=13.0,
    )  # fmt: skip
    window.engine.send("kl", iteration=50, kl_divergence=3.5)
    window.settle(lambda: len(card.plot.points) == 1)
    assert card.state.text() == "early exaggeration until 250"
    assert card.progress.words.text() == "100 of 750 iterations, 50/s, 13 s left"
    card.pause.click()
    assert card.pause.text() == "Resume"
    assert card.state.text() == "paused"
    card.pause.click()
    window.engine.send("progress", stage="t-SNE", done=300, total=750)
    window.settle(lambda: card.state.text() == "settling")
    card.stop.click()
    assert not card.stop.isEnabled()
    assert window.engine.jobs[-1].wishes == ["pause", "resume", "stop"]
    late = ExplorePanel(window.viewer)  # a panel opened later knows the curve
    window.qtbot.addWidget(late)
    assert late.live.plot.points == [(50, 3.5)]
    window.engine.send("done", name="tsne-3d")
    window.settle(lambda: not compute.live)
    assert card.isHidden()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_curve_is_drawn_with_its_axes(window, theme):
    window.viewer.theme = theme
    plot = window.panels.compute.spark
    plot.resize(300, plot.height())
    plot.set_plan(CurvePlan(750, 250, 12.0), "settling")
    for i in range(1, 10):
        plot.follow(50 * i, 5.0 - i / 3)
    plot.follow(500, float("nan"))
    assert plot.points[-1] == (450, 2.0)
    assert plot.headline() == "KL divergence 2.000"
    (start, end), (low, high) = plot.ranges()
    assert (start, end) == (0, 750)
    assert low < 2.0
    assert high > plot.points[0][1]
    picture = plot.grab().toImage()
    line = QColor(window.panels.session.colors.accent)
    found = [
        (x, y)
        for x in range(picture.width())
        for y in range(picture.height())
        if picture.pixelColor(x, y) == line
    ]
    xs, ys = np.array(found).T
    scale = picture.width() / plot.width()
    assert xs.max() < 0.75 * picture.width()  # the rest is still to come
    assert ys.min() > 12 * scale  # below the headline
    first, last = ys[xs <= xs.min() + 3].mean(), ys[xs >= xs.max() - 3].mean()
    assert first < last  # it falls
    plot.follow(0, float("nan"))
    assert plot.points == []
    assert plot.headline().endswith("not measured yet")


@pytest.mark.parametrize(
    ("low", "high", "most"), [(0, 750, 5), (0.9, 4.3, 4), (3.99, 4.0, 3), (1e-6, 2, 4)]
)
def test_ticks_are_round_and_few(low, high, most):
    ticks = nice_ticks(low, high, most)
    assert 1 <= len(ticks) <= most
    assert all(low <= t <= high for t in ticks)
    words = tick_words(ticks)
    assert len(set(words)) == len(words)
    assert max(len(word) for word in words) <= 6


def test_a_class_can_get_another_colour(window):
    window.open()
    panel, layer = window.panels.explore, window.panels.session.map.layer
    panel.legend.set_color(1, (1.0, 0.0, 0.0, 1.0))
    red = layer.coloring.rgba()[1::3]
    np.testing.assert_allclose(red, np.tile([1.0, 0.0, 0.0, 1.0], (20, 1)))


def test_keys_act_through_the_controller(window):
    window.open()
    layer = window.panels.session.map.layer
    layer.select(np.arange(5))
    keys = KeymapHandler()
    keys.keymap_providers = [layer]
    keys.press_key("H")
    assert window.state.n_drawn == N - 5
    keys.press_key("Shift-H")
    assert window.state.n_drawn == N
    layer.select(np.arange(4))
    keys.press_key("O")
    assert window.state.n_drawn == 4
    wanted = []
    window.controller.panel_wanted.connect(wanted.append)
    keys.press_key("?")
    assert wanted == ["keys"]
    box = window.panels.findChild(KeyList)
    texts = {w.text() for w in box.findChildren(QLabel)}
    assert {"L", "H", "?", "N, Shift+N", "Invert the selection"} <= texts
    box.close()


def test_a_deleted_layer_comes_back_with_the_map(window):
    window.open()
    window.viewer.layers.clear()
    assert window.panels.session.map.layer is None
    assert window.panels.session.map.link is None
    window.controller.show_projection("tsne-3d")
    window.settle(lambda: window.panels.session.map.layer is not None)
    assert window.panels.session.map.layer.coloring.n_rows == 3


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_at_the_narrow_width(window, theme):
    window.viewer.theme = theme
    window.open()
    window.controller.update(
        message=Message("Something went wrong with a very long path " + "x/" * 40),
    )
    panels = window.panels
    panels.resize(348, 700)
    panels.show()
    for name, panel in panels._panels().items():
        panels.turn_to(name)
        QApplication.processEvents()
        inner = panel.content.parentWidget()
        bar = panel.findChild(QScrollArea).verticalScrollBar().sizeHint().width()
        assert inner.minimumSizeHint().width() <= panel.width() - bar - 2, name
    panels.hide()


def test_theme_change_restyles_open_panels(window):
    before = window.panels.project.styleSheet()
    window.viewer.theme = "light" if window.viewer.theme == "dark" else "dark"
    assert window.panels.project.styleSheet() != before


def test_opening_and_closing_panels_leaves_nothing(window):
    window.open()
    count = len(window.controller.state_changed)
    for _ in range(2):
        for make in PANELS.values():
            panel = make(window.viewer)
            assert len(window.controller.state_changed) == count + 1
            panel.deleteLater()
            del panel
            QApplication.processEvents()
            QApplication.sendPostedEvents(None, 52)  # deferred deletes
            gc.collect()
            assert len(window.controller.state_changed) == count
    window.controller.set_tool("lasso")  # nobody is called that is gone


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (ProgressView(), "Starting"),
        (ProgressView(5, 0, "files"), "5 files"),
        (ProgressView(0, 750, "iterations"),
         "Preparing; the first time this takes longer"),
        (ProgressView(10, 20, "images", 2.5, 4.0), "10 of 20 images, 2.5/s, 4 s left"),
        (ProgressView(10, 20, "images", 2000.0, 7200.0, phase="sample"),
         "Reading a sample, 10 of 20 images, 2,000/s, 2 h 00 min left"),
        (ProgressView(0, 1, "model", message="lite0", phase="encoder"),
         "Loading the encoder lite0"),
    ],
)  # fmt: skip
def test_progress_in_words(progress, words):
    assert progress_words(progress) == words


def test_the_slowest_step_has_a_line_of_its_own(qtbot):
    line = ProgressLine()
    qtbot.addWidget(line)
    working = ProgressView(10, 20, "images", 2.5, 4.0, bottleneck="decode")
    line.show_progress(working)
    assert line.slowest.text() == "Slowest: reading images"
    assert not line.slowest.isHidden()
    line.show_progress(working, paused=True)
    assert line.slowest.isHidden()


def test_without_classes_the_room_is_below_not_between(window):
    window.project.values = {}
    window.open()
    panel = window.panels.explore
    assert not panel.rest.isHidden()
    window.panels.resize(360, 700)
    window.panels.show()
    window.panels.turn_to("explore")
    QApplication.processEvents()
    gap = panel.selection_card.geometry().top() - panel.color.geometry().bottom()
    assert 0 < gap < 40
    assert panel.status.geometry().top() - panel.selection_card.geometry().bottom() < 40


def test_a_short_legend_leaves_its_room_below(window):
    window.open()
    panel = window.panels.explore
    window.panels.resize(360, 1000)
    window.panels.show()
    window.panels.turn_to("explore")
    QApplication.processEvents()
    legend, card = panel.legend, panel.selection_card
    assert legend.view.height() < 4 * 22 + 40  # three classes
    assert card.geometry().top() - legend.geometry().bottom() < 20
    assert legend.hint.isVisible()
    assert panel.rest.height() > 200


def test_vectors_without_images_have_no_pages(window):
    window.project.spec.kind, window.project.has_images = "vectors", False
    window.open()
    panel = window.panels.explore
    assert panel.pager.isHidden()
    assert shown(panel.no_images)


def test_items_without_a_place_are_counted(window):
    positions = window.project.projections["tsne-3d"].positions
    positions[:2] = np.nan
    window.open()
    assert window.panels.explore.status.text() == (
        "58 shown, 0 selected, 2 without a place"
    )
    rows = window.panels.explore.legend.table.lines
    assert sorted(row.count for row in rows) == [19, 19, 20]
    assert window.panels.explore.legend.model.counts.sum() == 58
    window.controller.show_projection("tsne-2d")  # there all have one
    window.settle_on("tsne-2d")
    counts = [row.count for row in window.panels.explore.legend.table.lines]
    assert counts == [20, 20, 20]


def test_excluded_items_are_not_counted(window):
    window.project.values["score"] = [float(i) for i in range(N - 1)] + [np.nan]
    window.open()
    explore, controller = window.panels.explore, window.controller

    def counts():
        return [row.count for row in explore.legend.table.lines]

    controller.select([0, 3, N - 1])  # two of the first class, one of the last
    controller.exclude_selected()
    assert sorted(counts()) == [18, 19, 20]
    controller.undo()
    assert counts() == [20, 20, 20]
    controller.color_by("score")
    window.settle(lambda: controller.state.color_kind == "number")
    assert explore.numbers.bars._histogram.sum() == N - 1
    assert explore.numbers.missing.text().startswith("Show 1 ")
    controller.exclude_selected()
    assert explore.numbers.bars._histogram.sum() == N - 3
    assert explore.numbers.missing.isHidden()
    controller.color_by("label")
    window.settle(lambda: controller.state.color_kind == "category")
    assert sorted(counts()) == [18, 19, 20]
    controller.include_all()
    assert counts() == [20, 20, 20]


def test_selecting_updates_the_status_bar(window):
    window.open()
    window.controller.select([1, 2, 3])
    assert window.viewer.status["coordinates"] == "3 selected"
    window.controller.clear_selection()
    assert window.viewer.status["coordinates"] == ""


def test_delete_deletes_nothing_and_says_why(window):
    window.open()
    window.controller.select([1, 2, 3])
    layer = window.panels.session.map.layer
    assert window.state.message is None
    layer.remove_selected()
    assert len(layer.data) == N
    assert window.state.message.text.startswith("3 items excluded")
    assert (window.state.n_excluded, window.state.n_drawn) == (3, N - 3)
    undo = window.panels.explore.actions["undo"]
    assert "exclude" in undo.toolTip()
    undo.click()
    assert window.state.message is None
    assert (window.state.n_excluded, window.state.n_selected) == (0, 3)
    window.panels.explore.actions["redo"].click()
    window.controller.include_all()
    assert window.state.n_drawn == N


def test_a_removed_map_can_be_shown_again(window, qtbot):
    window.open()
    map_view = window.panels.session.map
    window.controller.select([1, 2])
    window.controller.exclude_selected()
    window.viewer.layers.remove(map_view.layer)
    assert "was removed" in window.state.message.text
    assert window.state.undo_label == ""
    window.panels.explore.message.button.click()
    qtbot.waitUntil(lambda: map_view.layer is not None, timeout=20_000)
    assert window.state.message is None
    assert map_view.layer.n_excluded == window.state.n_excluded == 2
    assert window.state.n_drawn == N - 2
    window.controller.select([5])
    assert window.state.n_selected == 1


def test_a_selection_mode_is_chosen_without_a_key(window):
    window.open()
    panel = window.panels.explore
    for how in ("add", "subtract", "intersect", "replace"):
        panel.mode.setCurrentIndex(panel.mode.findData(how))
        panel.mode.activated.emit(panel.mode.currentIndex())
        assert window.panels.session.map.layer.select_mode == how
        assert window.state.select_mode == how


def test_the_window_is_named_after_the_project(window):
    window.open()
    assert window.viewer.title == "photos - napari"
    window.viewer.title = "mine"
    window.controller.update(project=replace(window.state.project, name="other"))
    assert window.viewer.title == "mine"


def test_a_typed_path_goes_when_it_is_open_and_stays_when_it_is_not(window):
    edit = window.panels.project.path_edit
    window.error = StoreError("damaged")
    edit.setText(str(window.path))
    window.panels.project._typed()
    window.settle(lambda: window.state.message is not None)
    assert edit.text() == str(window.path)
    window.error = None
    window.panels.project._typed()
    window.settle(lambda: window.state.project is not None)
    assert edit.text() == ""


def test_the_list_of_failures_is_as_high_as_it_needs(window):
    window.project.failures = [
        {"id": 3, "source": f"{'long/' * 40}3.jpg", "stage": "a", "reason": "cut"},
    ]
    window.open()
    panel = window.panels.project
    panel.error_fold.toggle.click()
    assert 0 < panel.error_list.maximumHeight() < 60


def test_own_vectors_are_offered_only_where_they_are(window):
    window.project.stage_list = [stage_entry("embeddings/vectors")]
    window.open()
    encoder = window.panels.compute.encoder
    assert encoder.findData("vectors") == 0
    window.project.stage_list = []
    window.open()
    window.settle(lambda: encoder.findData("vectors") < 0)


def test_the_curve_is_of_the_map_in_the_settings(window):
    window.project.stage_list = [
        stage_entry("embeddings/descriptor"), stage_entry("neighbors/descriptor"),
    ]  # fmt: skip
    window.open()
    panel, compute = window.panels.compute, window.controller.compute
    compute.start_stage("projection")
    window.engine.send("kl", iteration=50, kl_divergence=2.0)
    window.settle(lambda: len(panel.spark.points) == 1)
    window.engine.send("done", name="tsne-3d")
    window.settle(lambda: not compute.live)
    assert shown(panel.spark)
    panel.dimensions.button(2).click()
    assert panel.spark.isHidden()
    panel.dimensions.button(3).click()
    assert shown(panel.spark)
    window.open()  # another project, say
    window.settle(lambda: not panel.spark.points)
    assert panel.spark.isHidden()
