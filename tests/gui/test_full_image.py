"""One image at full size: opened from anywhere, read off the main thread."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QImage
from test_docks import window  # noqa: F401  (a fixture)

from napari_embed.errors import ImageDecodeError
from napari_embed.gui.docks.image import HINT, ImagePanel
from napari_embed.gui.gallery.image_view import ImageView
from napari_embed.gui.thumbnails import Thumbnails

pytestmark = pytest.mark.gui


@pytest.fixture
def view(qtbot):
    made = ImageView()
    qtbot.addWidget(made)
    made.resize(300, 200)
    made.show()
    qtbot.waitExposed(made)
    return made


def _image(height, width):
    image = QImage(width, height, QImage.Format.Format_RGB888)
    image.fill(0)
    return image


def test_small_images_are_fitted_at_whole_multiples_and_large_ones_shrunk(view):
    view.show_image(_image(28, 28))
    assert view.zoom == pytest.approx(7)  # 196 of 200 pixels
    view.show_image(_image(1000, 3000))
    assert view.zoom == pytest.approx(0.1, rel=0.02)
    assert view.fitting
    view.resize(600, 400)
    assert view.zoom == pytest.approx(0.2, rel=0.02)


def test_zoom_by_keys_and_double_click(view, qtbot):
    zooms = []
    view.zoomed.connect(zooms.append)
    view.show_image(_image(1000, 3000))
    qtbot.keyClick(view, Qt.Key.Key_1)
    assert zooms[-1] == pytest.approx(1)
    assert not view.fitting
    qtbot.keyClick(view, Qt.Key.Key_Plus)
    assert zooms[-1] == pytest.approx(1.25)
    view.show_image(_image(1000, 3000))  # its neighbour: look at the same place
    assert view.zoom == pytest.approx(1.25)
    qtbot.keyClick(view, Qt.Key.Key_0)
    assert view.fitting
    qtbot.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(9, 9))
    assert view.zoom == pytest.approx(1)
    steps = []
    view.stepped.connect(steps.append)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    qtbot.keyClick(view, Qt.Key.Key_Left)
    assert steps == [1, -1]


class FakeSource:
    """Source images whose size tells their id; some cannot be read."""

    def __init__(self):
        self.threads = set()
        self.gate = None

    def full_resolution(self, source):
        self.threads.add(threading.current_thread())
        if self.gate is not None:
            self.gate.wait(5)
        item = int(source.removesuffix(".png"))
        if item == 5:
            raise ImageDecodeError("damaged or unsupported: <b>truncated</b>")
        return np.full((100 + item, 300, 3), item, np.uint8)


@pytest.fixture
def source(window):  # noqa: F811
    made = FakeSource()
    window.project.source = lambda: made
    return made


@pytest.fixture
def panel(window, source, monkeypatch):  # noqa: F811
    made = ImagePanel(window.viewer)
    window.qtbot.addWidget(made)
    made.resize(360, 420)
    made.show()
    window.qtbot.waitExposed(made)
    monkeypatch.setattr("napari_embed.gui.docks.image.open_image", lambda _viewer: made)
    return made


def _settled(panel, item):
    return lambda: panel._full is not None and panel._full.item == item


def test_the_hint_says_how_to_open_an_image(panel, window):  # noqa: F811
    assert panel.empty.text() == HINT
    assert panel.stack.currentWidget() is panel.empty
    assert not panel.on.isEnabled()
    assert not panel.fit.isEnabled()


def test_a_double_click_opens_the_source_image(panel, source, window):  # noqa: F811
    window.open()
    link = window.panels.session.map.link
    link.image_opened.emit(7)
    window.settle(_settled(panel, 7))
    assert panel.view.image_size == (107, 300)
    assert panel.title.text() == "7.png \N{MIDDLE DOT} dog"
    assert panel.facts.text() == "300 x 107 pixels \N{MIDDLE DOT} 7.png"
    assert "/photos/7.png" in panel.facts.toolTip()
    assert panel.problem.isHidden()
    assert threading.main_thread() not in source.threads


def test_next_and_previous_follow_the_order_of_the_gallery(
    panel, source, window  # noqa: F811
):  # fmt: skip
    window.open()
    link = window.panels.session.map.link
    pulsed = []
    link.points_layer.pulse = pulsed.append
    window.controller.select([3, 9, 20])
    link.set_sequence(np.arange(60)[::-1], "backwards")
    panel.show_item(9)
    assert panel.place.text() == "2 of 3"
    panel.on.click()
    window.settle(_settled(panel, 3))
    assert not panel.on.isEnabled()
    panel.step(1)  # nothing further
    assert panel.item == 3
    panel.back.click()
    panel.back.click()
    window.settle(_settled(panel, 20))
    assert pulsed == [3, 9, 20]
    window.controller.select([1])
    assert panel.place.text() == ""  # it is no longer among them
    assert not panel.back.isEnabled()


def test_a_damaged_source_shows_the_thumbnail_and_says_why(
    panel, source, window  # noqa: F811
):  # fmt: skip
    window.open()
    panel.show_item(5)
    window.settle(_settled(panel, 5))
    assert panel.view.image_size == (8, 8)
    assert panel.problem.text() == (
        "The source image cannot be shown: damaged or unsupported: "
        "<b>truncated</b>. This is its thumbnail."
    )
    assert panel.problem.textFormat() == Qt.TextFormat.PlainText
    assert window.state.message is None
    panel.show_item(6)
    window.settle(_settled(panel, 6))
    assert panel.problem.isHidden()


def test_a_source_that_is_gone_shows_the_thumbnail(panel, window):  # noqa: F811
    def gone():
        raise FileNotFoundError("/photos is not there")

    window.project.source = gone
    window.open()
    panel.show_item(4)
    window.settle(_settled(panel, 4))
    assert "/photos is not there" in panel.problem.text()


def test_the_newest_image_wins_over_a_slow_one(panel, source, window):  # noqa: F811
    window.open()
    source.gate = threading.Event()
    panel.show_item(1)
    panel.show_item(2)
    panel.show_item(8)
    assert panel.facts.text() == "Reading the image..."
    source.gate.set()
    window.settle(_settled(panel, 8))
    assert panel.view.image_size == (108, 300)


def test_contrast_of_the_layer_reaches_the_full_image(
    panel, source, window  # noqa: F811
):  # fmt: skip
    window.open()
    window.controller.select([10, 40])
    link = window.panels.session.map.link
    window.settle(lambda: link.layer is not None)
    panel.show_item(40)
    window.settle(_settled(panel, 40))
    link.layer.contrast_limits = (0, 80)
    image = panel.view._item.pixmap().toImage()
    assert image.pixelColor(5, 5).red() == 128


def test_another_project_takes_the_image_away(panel, source, window):  # noqa: F811
    window.open()
    panel.show_item(7)
    window.settle(_settled(panel, 7))
    window.controller._release_project()
    assert panel.stack.currentWidget() is panel.empty


def test_locations_of_folders_tables_and_arrays():
    def location(kind, path, **options):
        project = SimpleNamespace(
            spec=SimpleNamespace(kind=kind, path=path, options=options)
        )
        return Thumbnails(project)._location("a/1.png" if kind != "images" else "12")

    assert location("folder", "/data") == "/data/a/1.png"
    assert location("table", "/data/t.csv") == "/data/a/1.png"
    assert location("table", "/data/t.csv", root="img") == "/data/img/a/1.png"
    assert location("table", "/data/t.csv", root="/img") == "/img/a/1.png"
    assert location("images", "/data/x.zarr") == "/data/x.zarr[12]"
