"""Objects in their picture: colours without touching data, clicks, jumps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit"))

from qtpy.QtCore import QRect
from qtpy.QtGui import QColor, QImage, QPainter
from test_objects import add_labels, set_scale, spec_of
from test_ome_zarr import write_image

from napari_embed.arrays import Projection
from napari_embed.gui.coloring import categories, numbers
from napari_embed.gui.docks.objects import ObjectsPanel
from napari_embed.gui.gallery.painting import paint_scale_bar
from napari_embed.gui.link.sheet_on_canvas import camera_of
from napari_embed.gui.objects.colors import DIMMED, object_colors
from napari_embed.gui.objects.lookup import lookup_colormap
from napari_embed.gui.objects.picture import _Lazy
from napari_embed.gui.session import close_session, session_for
from napari_embed.project import Project

pytestmark = pytest.mark.gui
WAIT_MS = 30_000


def grid_labels(side=96, cell=16, first=1, dtype=np.uint16):
    """Return squares numbered in reading order, and (row, column) of their middles."""
    labels = np.zeros((side, side), dtype)
    n = side // cell
    for number in range(n * n):
        y, x = divmod(number, n)
        labels[y * cell + 3 : y * cell + 12, x * cell + 3 : x * cell + 12] = (
            first + number
        )
    return labels


@pytest.fixture
def project(tmp_path, rng, monkeypatch):
    """A project of 36 objects with a map, of a two-channel image in micrometres."""
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))
    image = rng.integers(0, 4000, (2, 96, 96), np.uint16)
    write_image(tmp_path / "a.zarr", image, "cyx")
    set_scale(tmp_path / "a.zarr", 0.5)
    add_labels(tmp_path / "a.zarr", grid_labels())
    set_scale(tmp_path / "a.zarr" / "labels" / "nuclei", 0.5)
    with Project.create(tmp_path / "a.embed", spec_of(tmp_path / "a.zarr")) as made:
        places = rng.normal(size=(made.n_items, 2)).astype(np.float32)
        made.write_projection("given-2d", Projection(places), fingerprint="f")
    return tmp_path / "a.embed"


@pytest.fixture
def panel(project, make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    session = session_for(viewer)
    made = ObjectsPanel(viewer)
    session.controller.open_project(project)
    qtbot.waitUntil(lambda: made.labels is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.map.layer is not None, timeout=WAIT_MS)
    yield made
    close_session(viewer)
    made.release()
    made.close()
    made.deleteLater()


def shown_colors(panel, item):
    """Return the colour of an object as the layer would draw it."""
    spot = panel.index.spot(item)
    return panel.labels.colormap.map(np.array([spot.label]))[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
@pytest.mark.parametrize("far", [0, 2**40])
def test_lookups_are_those_of_a_dictionary(rng, dtype, far):
    if far and np.dtype(dtype).itemsize < 8:
        pytest.skip("the numbers do not fit")
    ids = np.unique(rng.integers(1, 200, 60)).astype(np.int64) + far
    codes = rng.integers(-1, 5, ids.size)
    palette = rng.random((5, 4)).astype(np.float32)
    made = lookup_colormap(rng.permutation(ids), codes, palette)
    order = {int(i): c for i, c in zip(made._ids, made._codes, strict=True)}
    values = np.concatenate([ids, [0, 250 + far]]).astype(dtype)
    expected = [
        palette[order[int(v)]] if int(v) in order else np.zeros(4) for v in values
    ]
    np.testing.assert_allclose(made.map(values), expected)
    texture = made._data_to_texture(values)
    colors = made._values_mapping_to_minimum_values_set()[1]
    np.testing.assert_allclose([colors[int(c)] for c in texture], expected)


def test_colours_dim_what_is_not_selected():
    rows = np.arange(4)
    classes = categories(np.array([0, 1, -1, 1]), ["a", "b"])
    selected = np.array([False, True, False, False])
    visible = np.array([True, True, True, False])
    codes, palette = object_colors(
        rows, classes, selected, visible, colormap="viridis", limits=(0, 1)
    )
    colors = palette[codes]
    np.testing.assert_allclose(colors[1], classes.palette[1])
    np.testing.assert_allclose(colors[0], classes.palette[0] * [1, 1, 1, DIMMED])
    assert codes[3] == -1
    values = numbers(np.array([0.0, 1.0, np.nan, 0.5]))
    codes, palette = object_colors(
        rows, values, np.zeros(0, bool), None, colormap="viridis", limits=(0, 1)
    )
    assert len(set(map(tuple, palette[codes].tolist()))) == 4


def test_a_click_on_an_object_finds_its_point(panel, qtbot, monkeypatch):
    session = panel.session
    pulsed = []
    monkeypatch.setattr(session.map.layer, "pulse", pulsed.append)
    # Object 8 stands in the second row and column; half a micrometre a pixel.
    item = panel.clicked((0.5 * 23.0, 0.5 * 23.0))
    assert panel.index.label[item] == 8
    assert pulsed == [item]
    assert "object 8" in panel.place.text()
    assert panel.clicked((0.0, 0.0)) == -1
    assert "No object" in panel.place.text()
    assert panel.clicked((-50.0, 1e6)) == -1
    panel.clicked((0.5 * 23.0, 0.5 * 23.0), adds=True)
    assert np.flatnonzero(session.map.selection()).tolist() == [item]


def test_selected_points_light_up_and_the_data_stay(panel, qtbot):
    before = [np.array(level) for level in panel._picture.labels]
    plain = shown_colors(panel, 0)
    panel.controller.select([3, 5])
    assert shown_colors(panel, 3)[3] == pytest.approx(1)
    assert shown_colors(panel, 0)[3] == pytest.approx(plain[3] * DIMMED)
    assert len(panel._picture.labels) == 2  # at every level by the same colours
    for level, old in zip(panel._picture.labels, before, strict=True):
        np.testing.assert_array_equal(level, old)
    panel.controller.clear_selection()
    np.testing.assert_allclose(shown_colors(panel, 0), plain)
    panel.colored.setChecked(False)
    assert not panel.labels.visible


def test_the_canvas_draws_these_colours(panel, qtbot):
    """napari really asks our colour map: another colour, another picture."""
    panel.resize(500, 400)
    panel.show()
    qtbot.waitExposed(panel)
    panel.model.layers[0].visible = panel.model.layers[1].visible = False
    panel.controller.select([7])

    def brightness():
        return panel.canvas.screenshot(flash=False)[..., :3].max(axis=2).astype(int)

    qtbot.waitUntil(lambda: (brightness() > 100).sum() > 50, timeout=WAIT_MS)
    one = brightness()
    panel.controller.select(np.arange(36))
    more = brightness()
    lit = (more - one > 40).sum()
    assert lit > 500
    panel.controller.select([7])
    assert (np.abs(brightness() - one) > 40).sum() < 0.02 * lit


def test_next_goes_through_the_selection(panel, qtbot):
    panel.controller.select([4, 11, 30])
    seen = []
    panel.item = -1
    for _ in range(5):
        panel.step(1)
        seen.append(panel.item)
    assert seen == [4, 11, 30, 30, 30]
    panel.step(-1)
    assert panel.item == 11
    assert "2 of 3 selected" in panel.place.text()
    spot = panel.index.spot(11)
    np.testing.assert_allclose(
        camera_of(panel.model).center[-2:], (spot.y * 0.5, spot.x * 0.5)
    )
    panel.session.map.layer.signals.clicked.emit(20)
    assert panel.item == 20


def test_channels_keep_their_look_from_picture_to_picture(panel):
    panel.model.layers[0].contrast_limits = (10, 20)
    panel.model.layers[1].visible = False
    panel._arrived(panel._picture, -1)
    assert list(panel.model.layers[0].contrast_limits) == [10, 20]
    assert not panel.model.layers[1].visible


def test_crops_follow_the_layers_of_their_picture(panel, qtbot):
    read = panel.session.map._read
    as_embedded = read([7])
    assert read.crop_side == (pytest.approx(6.5), True)  # 9 pixels and a margin of 2
    first, second = panel.model.layers[:2]
    second.visible = False
    first.colormap = "red"
    first.contrast_limits = (0, 4000)
    qtbot.waitUntil(
        lambda: read.looks is not None and len(read.looks) == 1, timeout=WAIT_MS
    )
    qtbot.waitUntil(
        lambda: read.looks[0][1].limits == (0, 4000) and not read([7])[..., 1:].any(),
        timeout=WAIT_MS,
    )
    assert not np.array_equal(read([7]), as_embedded)
    crop = read.full(7).values
    spot, side = panel.index.spot(7), len(crop)
    top, left = (round(c + 0.5 - side / 2) for c in (spot.y, spot.x))
    raw = np.asarray(panel._picture.channels[0][0])
    raw = raw[top : top + side, left : left + side]
    np.testing.assert_allclose(crop[..., 0], raw / 4000 * 255, atol=1.01)
    first.visible = False
    qtbot.waitUntil(lambda: read.looks == (), timeout=WAIT_MS)
    assert not read([7]).any()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_lazy_arrays_give_what_whole_ones_give(rng, axis):
    class OnDisk:
        """An array that is read only when it is sliced."""

        def __init__(self, values):
            self.values, self.reads = values, 0
            self.shape, self.dtype = values.shape, values.dtype

        def __getitem__(self, index):
            self.reads += 1
            return self.values[index]

    values = rng.integers(0, 9, (3, 4, 20, 30), np.uint16)
    disk = OnDisk(values)
    lazy = _Lazy(disk, axis=axis, at=2, dtype=np.int32)
    whole = values if axis is None else np.take(values, 2, axis=axis)
    assert (lazy.shape, lazy.ndim, lazy.size) == (whole.shape, whole.ndim, whole.size)
    assert len(lazy) == len(whole)
    assert disk.reads == 0
    rest = (slice(2, 9), slice(None, None, 3))
    for index in (1, slice(1, 3), (0, *rest[:1]), (Ellipsis, *rest), ()):
        found = lazy[index]
        np.testing.assert_array_equal(found, whole[index])
        assert found.dtype == np.int32
    np.testing.assert_array_equal(np.asarray(lazy), whole)


def test_a_scale_bar_is_as_long_as_it_says(qtbot):
    image = QImage(120, 120, QImage.Format.Format_RGB888)
    image.fill(QColor(90, 90, 90))
    painter = QPainter(image)
    paint_scale_bar(painter, QRect(0, 0, 120, 120), 60.0, in_um=True)
    paint_scale_bar(painter, QRect(0, 0, 40, 40), 60.0, in_um=True)  # no room
    painter.end()
    row = [image.pixelColor(x, 116).red() for x in range(120)]
    assert sum(value == 255 for value in row) == 40  # of 60 um in 120 px: 20 um
    assert image.pixelColor(5, 5).red() == 90


def test_without_objects_it_says_what_to_do(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    panel = ObjectsPanel(viewer)
    assert panel.stack.currentIndex() == 0
    assert "objects new" in panel.empty.text()
    close_session(viewer)
    panel.release()
    panel.deleteLater()
