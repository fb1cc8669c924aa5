"""The gallery: a grid over any number of items, pictures on demand, both ways."""

from __future__ import annotations

import gc
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.theme import get_theme
from psygnal import Signal
from qtpy.QtCore import QItemSelectionModel, QPoint, QSize, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QApplication
from test_docks import window  # noqa: F401  (a fixture)

from napari_embed.errors import StoreError
from napari_embed.gui.docks.gallery import GalleryPanel, open_gallery
from napari_embed.gui.docks.style import theme_colors
from napari_embed.gui.gallery.delegate import GalleryDelegate
from napari_embed.gui.gallery.model import GalleryModel
from napari_embed.gui.gallery.ordering import by_column, by_likeness, by_place, sequence
from napari_embed.gui.gallery.painting import plain_tip
from napari_embed.gui.gallery.view import GalleryView
from napari_embed.gui.link.look import Look
from napari_embed.gui.link.paging import Paging
from napari_embed.gui.link.pictures import BATCH, PictureStore
from napari_embed.gui.state import ColumnInfo

pytestmark = pytest.mark.gui
FLAG = QItemSelectionModel.SelectionFlag


# Pictures: newest wish wins, memory is bounded


class Reader:
    """Pictures whose pixels tell their id; remembers what it was asked."""

    def __init__(self, side=8):
        self.side, self.asked, self.gate = side, [], None
        self.error = None

    def __call__(self, ids):
        self.asked.append(np.asarray(ids).tolist())
        if self.gate is not None:
            self.gate.wait(5)
        if self.error:
            raise self.error
        page = np.zeros((len(ids), self.side, self.side, 3), np.uint8)
        page[:] = (np.asarray(ids) % 251)[:, None, None, None]
        return page

    def sources(self, ids):
        return [f"folder/<b>{i}</b>.png" for i in ids]


@pytest.fixture
def make_store():
    stores = []

    def make(reader, **kwargs):
        arrived = []
        store = PictureStore(reader, arrived.append, sources=reader.sources, **kwargs)
        stores.append(store)
        return store, arrived

    yield make
    for store in stores:
        assert store.close()


def _until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def test_no_thread_before_somebody_wants_pictures(make_store):
    before = set(threading.enumerate())
    store, _ = make_store(Reader())
    store.want("gallery", np.zeros(0, np.int64))
    assert set(threading.enumerate()) == before
    store.want("gallery", np.array([3]))
    _until(lambda: store.get(3) is not None)
    assert store.get(3).source == "folder/<b>3</b>.png"
    assert store.get(4) is None


def test_the_newest_wish_of_a_channel_wins_and_the_cursor_comes_first(make_store):
    reader = Reader()
    reader.gate = threading.Event()
    store, _ = make_store(reader)
    store.want("gallery", np.arange(1000))
    _until(lambda: len(reader.asked) == 1)
    store.want("gallery", np.arange(5000, 6000))
    store.want("gallery", np.array([7, 8]))
    store.want("hover", np.array([99]))
    reader.gate.set()
    _until(lambda: store.get(8) is not None)
    assert reader.asked == [list(range(BATCH)), [99], [7, 8]]


def test_memory_stays_bounded_over_a_million_pictures(make_store, rng):
    reader = Reader(side=16)
    limit = 200 * 16 * 16 * 3
    store, _ = make_store(reader, cache_bytes=limit)
    for start in rng.integers(0, 10**6, 60):
        store.want("gallery", np.arange(start, start + 40))
        _until(lambda start=start: store.get(int(start) + 39) is not None)
        assert store.cached_bytes <= limit
    newest = store.get(int(start) + 39)
    assert newest.values[0, 0, 0] == (start + 39) % 251
    # The batch it was read with is not kept alive.
    assert newest.values.base is None


def test_pictures_that_cannot_be_read_say_why_and_are_not_asked_for_again(make_store):
    reader = Reader()
    reader.error = OSError("disk gone")
    store, arrived = make_store(reader)
    store.want("gallery", np.arange(3))
    _until(lambda: len(arrived) == 1)
    assert store.get(1).values is None
    assert store.get(1).error == "disk gone"
    store.want("gallery", np.arange(3))
    time.sleep(0.02)
    assert len(reader.asked) == 1
    reader.error = None
    store.clear()
    store.want("gallery", np.arange(3))
    _until(lambda: store.get(1) is not None)
    assert store.get(1).error == ""


# The grid


class FakeLink:
    """The part of an image link that the model uses."""

    look_changed = Signal()

    def __init__(self):
        self.pictures = {}
        self.look = Look()

    def class_name(self, item):
        return ("cat", "<i>dog</i>")[item % 2]

    def score(self, item):
        return ""

    def class_colors(self, ids):
        return np.ones(len(ids), bool), np.tile([[1.0, 0.0, 0.0]], (len(ids), 1))


@pytest.fixture
def make_grid(qtbot):
    def make(n, *, size=(640, 300), cell=(80, 100)):
        view, model = GalleryView(), GalleryModel()
        view.setModel(model)
        view.setItemDelegate(GalleryDelegate(theme_colors(get_theme("dark")), view))
        view.set_cell(QSize(*cell))
        qtbot.addWidget(view)
        view.resize(*size)
        view.show()
        qtbot.waitExposed(view)
        model.show(FakeLink(), np.arange(n)[::-1].copy())
        view.setFocus()
        view._model = model  # the view does not own it
        return view, model

    return make


def test_every_cell_is_where_its_place_says(make_grid, rng):
    view, _ = make_grid(1003)
    for _ in range(20):
        view.resize(int(rng.integers(90, 900)), int(rng.integers(60, 500)))
        bar = view.verticalScrollBar()
        bar.setValue(int(rng.integers(0, bar.maximum() + 1)))
        shown = view.rows_in_window()
        assert len(shown)
        inside = view.viewport().rect()
        for row in shown:
            place = view.visualRect(view.model().index(row, 0))
            assert place.intersects(inside)
            assert view.indexAt(place.center()).row() == row
        after = view.visualRect(view.model().index(shown.stop, 0))
        assert shown.stop == 1003 or not after.intersects(inside)
    assert not view.indexAt(QPoint(-5, 5)).isValid()


def test_a_million_rows_cost_nothing_until_they_are_seen(make_grid, qtbot):
    view, model = make_grid(10)
    asked = []
    old = model.image
    model.image = lambda row: asked.append(row) or old(row)
    model.show(model.link, np.arange(10**6))
    # The screen may take its time until it lets a window paint.
    qtbot.waitUntil(lambda: bool(asked), timeout=20_000)
    QApplication.processEvents()
    assert len(set(asked)) <= 40
    asked.clear()
    view.scrollTo(model.index(999_999, 0))
    qtbot.waitUntil(lambda: bool(asked), timeout=20_000)
    assert min(asked) > 999_000
    view.selectAll()
    assert len(view.selectionModel().selection()) == 1  # a range, not a million


def test_geometry_holds_where_pixels_outnumber_integers(make_grid):
    view, model = make_grid(10)
    view.resize(100, 300)
    model.show(model.link, np.broadcast_to(np.int64(1), 50_000_000))
    assert view.verticalScrollBar().maximum() <= 2**30
    view.scrollTo(model.index(49_999_999, 0))
    assert 49_999_999 in view.rows_in_window()


def test_keys_move_open_and_point(make_grid, qtbot):
    view, _ = make_grid(100)
    opened, pointed = [], []
    view.opened.connect(opened.append)
    view.pointed.connect(pointed.append)
    columns = view.columns()

    def press(key, modifier=Qt.KeyboardModifier.NoModifier):
        qtbot.keyClick(view, key, modifier)
        return view.currentIndex().row()

    assert press(Qt.Key.Key_Right) == 0
    assert press(Qt.Key.Key_Right) == 1
    assert press(Qt.Key.Key_Down) == 1 + columns
    assert press(Qt.Key.Key_Up) == 1
    assert press(Qt.Key.Key_Up) == 1  # there is no line above
    assert press(Qt.Key.Key_End) == 99
    assert 99 in view.rows_in_window()
    assert press(Qt.Key.Key_Right) == 99
    assert press(Qt.Key.Key_Home) == 0
    assert press(Qt.Key.Key_PageDown) > columns
    assert press(Qt.Key.Key_Home) == 0
    press(Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    chosen = sorted(i.row() for i in view.selectionModel().selectedIndexes())
    assert chosen == list(range(columns + 1))
    row = press(Qt.Key.Key_Return)
    press(Qt.Key.Key_Space)
    assert opened == [row]
    assert pointed == [row]
    press(Qt.Key.Key_L)  # no search through all rows
    assert view.currentIndex().row() == row


def test_mouse_selects_ranges_and_rectangles(make_grid, qtbot):
    view, model = make_grid(100)
    columns = view.columns()

    def at(row):
        return view.visualRect(model.index(row, 0)).center()

    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(view.viewport(), left, pos=at(1))
    qtbot.mouseClick(
        view.viewport(), left, Qt.KeyboardModifier.ShiftModifier, pos=at(columns + 2)
    )
    chosen = sorted(i.row() for i in view.selectionModel().selectedIndexes())
    assert chosen == list(range(1, columns + 3))
    qtbot.mouseClick(
        view.viewport(), left, Qt.KeyboardModifier.ControlModifier, pos=at(3)
    )
    assert not view.selectionModel().isSelected(model.index(3, 0))
    # columns 1 to 3 of the first two lines touch the rectangle
    assert view._runs(view._place(1).united(view._place(columns + 3))) == [
        (1, 3), (columns + 1, columns + 3),
    ]  # fmt: skip
    opened = []
    view.opened.connect(opened.append)
    qtbot.mouseClick(view.viewport(), left, pos=at(4))
    qtbot.mouseDClick(view.viewport(), left, pos=at(4))
    assert opened == [4]


def test_words_from_data_are_plain_text(make_grid):
    _, model = make_grid(10)
    tip = model.data(model.index(0, 0), Qt.ItemDataRole.ToolTipRole)
    assert "<i>" not in tip
    assert "&lt;i&gt;dog&lt;/i&gt;" in tip
    assert model.data(model.index(1, 0)) == "cat  #8"
    assert plain_tip("a & b", "", "<x>") == "<qt>a &amp; b<br>&lt;x&gt;</qt>"


# Orders


def test_a_given_sequence_orders_any_ids(rng):
    keys = rng.normal(size=500)
    paging = Paging()
    ids = rng.permutation(500)[:200]
    paging.set_ids(ids)
    paging.set_sequence(sequence(keys), "By key, ascending")
    np.testing.assert_array_equal(paging.ids, ids[np.argsort(keys[ids])])
    assert (paging.order, paging.title) == ("given", "By key, ascending")
    paging.set_ids(np.array([3, 600]))  # more items than were sorted
    assert paging.ids.tolist() == [3, 600]
    paging.set_order("item")
    assert paging.ids.tolist() == [3, 600]


def test_columns_sort_up_and_down_with_empty_ones_last():
    project = SimpleNamespace(
        column_values=lambda name: np.array([2.0, np.nan, 1.0, 2.0]),
        categories=lambda name: (np.array([1, -1, 0, 1]), ["a", "b"]),
    )
    for kind in ("number", "category"):
        column = ColumnInfo("x", kind)
        assert by_column(project, column).tolist() == [2, 0, 3, 1]
        assert by_column(project, column, descending=True).tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize("cosine", [False, True])
def test_likeness_and_place_agree_with_brute_force(rng, cosine):
    vectors = rng.normal(size=(300, 5)).astype(np.float32)
    vectors[17] = np.nan
    blocks = [(i, vectors[i : i + 64]) for i in range(0, 300, 64)]
    order = by_likeness(blocks, vectors[40], n=300, cosine=cosine)
    exact = vectors.astype(np.float64)
    if cosine:
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    away = np.linalg.norm(exact - exact[40], axis=1)
    assert order[0] == 40
    assert order[-1] == 17
    # float32 sums may swap what is equally far up to rounding
    np.testing.assert_allclose(away[order[:-1]], np.sort(away)[:-1], atol=1e-4)
    near = by_place(vectors[:, :2], 40)
    flat = np.linalg.norm(vectors[:, :2] - vectors[40, :2], axis=1)
    np.testing.assert_allclose(flat[near[:-1]], np.sort(flat)[:-1])


# The panel in a window


@pytest.fixture
def gallery(window):  # noqa: F811
    window.project.values["score"] = [float((i * 7) % 60) for i in range(60)]
    pictures = np.arange(60, dtype=np.uint8)[:, None, None, None]
    window.project.read_thumbnails = lambda ids: np.broadcast_to(
        pictures[np.asarray(ids)], (len(ids), 8, 8, 3)
    ).copy()
    panel = GalleryPanel(window.viewer)
    window.qtbot.addWidget(panel)
    panel.resize(700, 300)
    panel.show()
    window.qtbot.waitExposed(panel)
    return panel


def test_every_empty_state_says_what_to_do(gallery, window):  # noqa: F811
    assert "Open images or a project" in gallery.empty.text()
    assert gallery.stack.currentWidget() is gallery.empty
    window.project.projections = {}
    window.controller.open_path(window.path)
    window.settle(lambda: window.state.project is not None)
    assert "Press Run all" in gallery.empty.text()
    window.project.has_images = False
    window.controller.open_path(window.path)
    window.settle(lambda: not window.state.project.has_images)
    assert "without images" in gallery.empty.text()


def test_selected_points_fill_the_gallery(gallery, window):  # noqa: F811
    window.open()
    assert gallery.title.text().startswith("All 60 images. Select points")
    assert gallery.model.ids.tolist() == list(range(60))
    window.controller.select([5, 9, 30])
    assert gallery.title.text() == "3 selected images"
    assert gallery.model.ids.tolist() == [5, 9, 30]
    window.settle(lambda: gallery.model.image(2) is not None)
    color = gallery.model.image(2).pixelColor(3, 3)
    assert color.getRgb()[:3] == (30, 30, 30)
    assert gallery.model.captions(1) == ("cat", "9.png")
    window.controller.clear_selection()
    window.controller.set_hidden_classes([0])  # cats
    assert gallery.model.ids.tolist() == [i for i in range(60) if i % 3]
    window.controller.set_hidden_classes([0, 1, 2])
    assert "Shift+H" in gallery.empty.text()
    window.controller.show_all()
    assert len(gallery.model.ids) == 60


def test_a_picture_leads_to_its_point(gallery, window):  # noqa: F811
    window.open()
    layer = window.panels.session.map.layer
    pulsed = []
    layer.pulse = pulsed.append
    camera = getattr(window.viewer, "scene", window.viewer).camera
    gallery.view.clicked.emit(gallery.model.index(7, 0))
    assert pulsed == [7]
    np.testing.assert_allclose(camera.center, layer.data[7], atol=1e-4)
    window.controller.select([3, 8])
    gallery.view.select_rows(1)
    assert pulsed[-1] == 8
    assert window.panels.session.map.selection().sum() == 2
    opened = []
    window.panels.session.map.link.image_opened.connect(opened.append)
    gallery.view.opened.emit(1)
    assert opened == [8]


def test_sorting_orders_gallery_and_pages_alike(gallery, window):  # noqa: F811
    window.open()
    link = window.panels.session.map.link
    score = np.array(window.project.values["score"])
    gallery.sort.setCurrentIndex(gallery.sort.findText("By score"))
    gallery.sort.activated.emit(gallery.sort.currentIndex())
    window.settle(lambda: link.order == "given")
    np.testing.assert_array_equal(gallery.model.ids, np.argsort(score, kind="stable"))
    assert gallery.sort.currentText() == "By score"
    gallery.direction.click()
    window.settle(lambda: link.paging.title == "By score, descending")
    assert score[gallery.model.ids].tolist() == sorted(score, reverse=True)
    window.controller.select(np.arange(30))
    assert link.ids.tolist() == gallery.model.ids.tolist()
    assert window.panels.explore.pager.order_box.currentText() == (
        "By score, descending"
    )
    gallery.menu_for(4)
    item = int(gallery.model.ids[4])
    gallery._sort_from(item, "place")
    window.settle(lambda: link.paging.title == f"Nearest on the map to #{item}")
    positions = window.panels.session.map.layer.positions
    away = np.linalg.norm(positions[:30] - positions[item], axis=1)
    np.testing.assert_array_equal(gallery.model.ids, np.argsort(away, kind="stable"))
    assert gallery.sort.currentText() == f"Nearest on the map to #{item}"
    link.order = "item"  # as the pager does
    assert gallery.sort.currentText() == "In item order"
    assert gallery.model.ids.tolist() == list(range(30))


def test_the_menu_acts_on_what_is_selected(gallery, window):  # noqa: F811
    window.open()
    window.controller.select([4, 5, 6, 7])
    for row in (1, 2):
        index = gallery.model.index(row, 0)
        gallery.view.selectionModel().select(index, FLAG.Select)
    texts = {a.text(): a for a in gallery.menu_for(1).actions() if a.text()}
    assert "Select only these 2" in texts
    texts["Take these 2 out of the selection"].trigger()
    assert window.panels.session.map.selection().nonzero()[0].tolist() == [4, 7]
    gallery.view.selectAll()
    texts = {a.text(): a for a in gallery.menu_for(0).actions() if a.text()}
    texts["Copy 2 paths"].trigger()
    window.settle(lambda: gallery.title.text() == "Copied 2 paths.")
    assert QGuiApplication.clipboard().text() == "/photos/4.png\n/photos/7.png"


def test_an_item_without_a_place_is_told(gallery, window):  # noqa: F811
    positions = window.project.projections["tsne-3d"].positions
    positions[3] = np.nan
    window.open()
    assert 3 not in gallery.model.ids  # it cannot be seen on the map
    window.controller.select([3, 4])
    gallery.view.pointed.emit(0)
    assert gallery.title.text() == "Image 3 has no place on the map."


def test_pictures_that_fail_leave_the_rest(gallery, window):  # noqa: F811
    def broken(ids):
        raise StoreError("no <b>disk</b>")

    window.project.read_thumbnails = broken
    window.open()
    window.settle(lambda: gallery.model.picture(0) is not None)
    tip = gallery.model.data(gallery.model.index(0, 0), Qt.ItemDataRole.ToolTipRole)
    assert "no &lt;b&gt;disk" in tip
    gallery.grab()


def test_small_pictures_are_shown_at_whole_multiples(gallery, window):  # noqa: F811
    window.open()
    window.settle(lambda: gallery.model.picture(0) is not None)
    gallery.size_slider.setValue(60)
    assert gallery.delegate.side == 64  # of 8 pixels
    gallery.size_slider.setValue(32)
    assert gallery.delegate.lines() == 0
    gallery.size_slider.setValue(128)
    assert gallery.delegate.lines() == 2


def test_contrast_and_colours_of_the_layer_reach_the_gallery(
    gallery, window  # noqa: F811
):  # fmt: skip
    window.open()
    window.controller.select([10, 40])
    link = window.panels.session.map.link
    window.settle(lambda: link.layer is not None)
    window.settle(lambda: gallery.model.image(1) is not None)
    assert gallery.model.image(1).pixelColor(1, 1).red() == 40
    link.layer.contrast_limits = (0, 80)
    assert gallery.model.image(1).pixelColor(1, 1).red() == 128
    link.layer.colormap = "red"
    assert gallery.model.image(1).pixelColor(1, 1).getRgb()[:3] == (128, 0, 0)


def test_a_gallery_that_is_gone_hears_nothing(window):  # noqa: F811
    window.open()
    link = window.panels.session.map.link
    signals = (link.browse_changed, link.changed, link.look_changed)
    heard = [len(signal) for signal in signals]
    panel = GalleryPanel(window.viewer)
    assert [len(signal) for signal in signals] != heard
    panel.deleteLater()
    del panel
    QApplication.processEvents()
    QApplication.sendPostedEvents(None, 52)  # deferred deletes
    gc.collect()
    assert [len(signal) for signal in signals] == heard
    window.controller.select([1, 2])


def test_the_gallery_opens_below_the_canvas_and_the_map_is_fitted(window):  # noqa: F811
    window.open()
    fitted = []
    window.panels.session.map.fit = lambda: fitted.append(True)
    pager = window.panels.explore.pager
    window.qtbot.mouseClick(pager.gallery_button, Qt.MouseButton.LeftButton)
    panel = open_gallery(window.viewer)
    assert open_gallery(window.viewer) is panel
    dock = window.viewer.window.dock_widgets["Gallery (napari-embed)"].parent()
    area = dock.parentWidget().dockWidgetArea(dock)
    assert area == Qt.DockWidgetArea.BottomDockWidgetArea
    window.settle(lambda: bool(fitted))
