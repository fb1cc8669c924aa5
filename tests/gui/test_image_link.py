"""The image link in a real napari viewer: the picture under the cursor is right."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import (
    mouse_double_click_callbacks,
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from qtpy.QtWidgets import QApplication

from napari_embed.gui.link import ImageLink
from napari_embed.gui.link.registry import register
from napari_embed.gui.points import EmbeddingPoints

pytestmark = pytest.mark.gui
N = 400


def _camera(viewer):
    return getattr(viewer, "scene", viewer).camera


def _view_of(viewer):
    camera = _camera(viewer)
    return (*camera.center, camera.zoom, *camera.angles)


class Scene:
    """A viewer with random points, random thumbnails and their link."""

    def __init__(self, viewer, rng, *, color=False, dims=3, size=(8, 8), **kwargs):
        self.viewer = viewer
        tail = (3,) if color else ()
        self.thumbnails = rng.integers(0, 256, (N, *size, *tail)).astype(np.uint8)
        self.points = EmbeddingPoints(rng.normal(size=(N, dims)), name="map")
        viewer.add_layer(self.points)
        viewer.dims.ndisplay = dims
        self.failing = False
        self.pulsed = []
        self.points.pulse = self.pulsed.append
        self.link = ImageLink(viewer, self.points, self.read, **kwargs)

    def read(self, ids):
        if self.failing:
            raise OSError("disk <b>gone</b>")
        return self.thumbnails[ids]

    def wait(self, qtbot):
        qtbot.waitUntil(lambda: not self.link.loading, timeout=10_000)
        QApplication.processEvents()

    def select(self, qtbot, ids):
        mask = np.zeros(N, dtype=bool)
        mask[ids] = True
        self.points.select(mask)
        self.wait(qtbot)

    def cell_centers(self):
        """Return canvas (x, y) of the middle of every picture."""
        layer = self.link.layer
        g = layer.decoration.geometry
        out = []
        for index in range(g.count):
            row, column = g.origin(index)
            out.append(
                (
                    layer.place.left + (column + g.cell_width / 2) * layer.place.scale,
                    layer.place.top + (row + g.cell_height / 2) * layer.place.scale,
                )
            )
        return out


@pytest.fixture
def make_scene(make_napari_viewer, rng, qtbot):
    scenes = []

    def make(*, show=False, **kwargs):
        viewer = make_napari_viewer(show=show)
        if show:
            viewer.window._qt_window.resize(900, 620)
            qtbot.waitExposed(viewer.window._qt_window)
            qtbot.wait(50)
        scene = Scene(viewer, rng, **kwargs)
        scenes.append(scene)
        return scene

    yield make
    for scene in scenes:
        scene.link.close()


def _drawn_as_stored(scene, picture):
    """Return pictures on the screen (m, h, w[, 3]) sampled in the middle of texels."""
    layer = scene.link.layer
    g, place = layer.decoration.geometry, layer.place
    h, w = scene.thumbnails.shape[1:3]
    factor = g.cell_height // h
    assert (g.cell_height, g.cell_width) == (h * factor, w * factor)
    out = []
    for index in range(g.count):
        row, column = g.origin(index)
        rows = place.top + (row + (np.arange(h) + 0.5) * factor) * place.scale
        columns = place.left + (column + (np.arange(w) + 0.5) * factor) * place.scale
        cell = picture[np.ix_(rows.astype(int), columns.astype(int))][..., :3]
        out.append(cell if scene.thumbnails.ndim == 4 else cell[..., 0])
    return np.stack(out)


@pytest.mark.parametrize("color", [False, True], ids=["grey", "colour"])
def test_the_picture_under_the_cursor_is_the_right_one(make_scene, qtbot, rng, color):
    """Random selections, pages, orders and cameras, in 2D and 3D, pixel by pixel."""
    scene = make_scene(show=True, color=color)
    viewer, link = scene.viewer, scene.link
    codes = rng.integers(-1, 6, N)
    link.set_categories(codes, rng.random((6, 4)))
    for turn in range(8):
        ndisplay = 3 if turn % 2 else 2
        viewer.dims.ndisplay = ndisplay
        link.order = str(rng.choice(["item", "random", "label"]))
        link.page_size = int(rng.choice([12, 32]))
        scene.select(qtbot, rng.permutation(N)[: int(rng.integers(1, 200))])
        link.jump(int(rng.integers(0, link.n_pages)))
        scene.wait(qtbot)
        camera = _camera(viewer)
        camera.zoom = float(rng.uniform(5, 200))
        camera.center = tuple(rng.normal(size=3))
        if ndisplay == 3:
            camera.angles = tuple(rng.uniform(-180, 180, 3))
            camera.perspective = float(rng.choice([0, 45]))
        qtbot.wait(80)

        ids = link.shown_ids
        start = link.page * link.page_size
        np.testing.assert_array_equal(ids, link.ids[start : start + link.page_size])
        shot = viewer.screenshot(canvas_only=True, flash=False)
        drawn = _drawn_as_stored(scene, shot).astype(int)
        np.testing.assert_allclose(drawn, scene.thumbnails[ids].astype(int), atol=2)
        for index, (x, y) in enumerate(scene.cell_centers()):
            assert link.item_at((x, y)) == ids[index]
            assert link.covers((x, y))
        _check_world(scene, rng)
    assert link.item_at((1, 1)) is None
    assert not link.covers((1, 1))


def _check_world(scene, rng):
    """The page's world coordinates lead to the same pictures as its pixels."""
    layer, link = scene.link.layer, scene.link
    link._sheet.place()
    g = layer.decoration.geometry
    along = list(scene.viewer.dims.displayed)[-2:]
    into = np.asarray(_camera(scene.viewer).view_direction)
    for index in range(g.count):
        row, column = g.origin(index)
        texel = np.zeros(3)
        texel[along] = row + g.cell_height / 2, column + g.cell_width / 2
        world = np.asarray(layer.data_to_world(texel))
        if scene.viewer.dims.ndisplay == 3:
            world = world + into * rng.normal()
        assert link.item_at_world(world) == link.shown_ids[index]


def test_without_our_visual_the_affine_alone_holds_the_page(
    make_scene, qtbot, rng, monkeypatch
):
    from napari._vispy.utils.visual import layer_to_visual

    from napari_embed.gui.link.sheet_layer import ContactSheet

    register()
    visual = layer_to_visual.pop(ContactSheet)
    monkeypatch.setattr("napari_embed.gui.link.sheet_on_canvas.register", lambda: False)
    try:
        scene = make_scene(show=True)
        scene.select(qtbot, np.arange(12))
        for ndisplay in (2, 3):
            scene.viewer.dims.ndisplay = ndisplay
            scene.link.layer.rendering = "average"
            _camera(scene.viewer).angles = (20, -30, 40)
            qtbot.wait(120)
            shot = scene.viewer.screenshot(canvas_only=True, flash=False)
            drawn = _drawn_as_stored(scene, shot).astype(int)
            np.testing.assert_allclose(drawn, scene.thumbnails[:12], atol=2)
    finally:
        layer_to_visual[ContactSheet] = visual


def _noting(method, name, called):
    @functools.wraps(method)
    def noted(self, *args, **kwargs):
        called.add(name)
        return method(self, *args, **kwargs)

    return noted


def test_our_drawing_hooks_are_called(make_scene, qtbot, monkeypatch):
    """napari's private names may change; then this fails instead of the picture."""
    from napari._vispy.utils.visual import layer_to_visual

    from napari_embed.gui.link.sheet_layer import ContactSheet

    assert register()
    visual, called = layer_to_visual[ContactSheet], set()
    hooks = ("_on_matrix_change", "_on_display_change", "close", "_on_draw")
    for name in hooks:
        monkeypatch.setattr(visual, name, _noting(getattr(visual, name), name, called))
    for name in ("_slice_dims", "_extent_augmented"):
        assert hasattr(super(ContactSheet, ContactSheet), name)
    scene = make_scene(show=True)
    scene.select(qtbot, [1, 2])
    scene.viewer.screenshot(canvas_only=True, flash=False)
    scene.link.close()
    assert called == set(hooks)


def _grab(canvas):
    image = canvas.native.grabFramebuffer()
    image = image.convertToFormat(image.Format.Format_RGBA8888)
    shape = image.height(), image.width(), 4
    buffer = image.constBits().asstring(int(np.prod(shape)))
    return np.frombuffer(buffer, np.uint8).reshape(shape).astype(int)


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_the_page_stands_still_in_the_very_frame_of_a_camera_move(
    make_scene, qtbot, rng, ndisplay
):
    """A mouse moves the drawing's camera first; napari hears of it after the frame."""
    scene = make_scene(show=True)
    scene.viewer.dims.ndisplay = ndisplay
    scene.select(qtbot, np.arange(12))
    qtbot.wait(100)
    canvas = scene.viewer.window._qt_viewer.canvas
    place, page = scene.link.layer.place, scene.link.layer.page
    top, left = int(place.top), int(place.left)
    window = np.s_[top : top + page.shape[0], left : left + page.shape[1]]
    before = _grab(canvas)
    for _ in range(3):
        camera = canvas.view.camera
        camera.center = tuple(rng.normal(size=len(camera.center)))
        camera.view_changed()
        after = _grab(canvas)
        np.testing.assert_array_equal(after[window], before[window])
        assert np.abs(after - before).max() > 50


# The rest of the viewer stays as it is


@pytest.mark.parametrize("dims", [2, 3])
def test_the_page_moves_neither_camera_nor_sliders_nor_tools(make_scene, qtbot, dims):
    scene = make_scene(dims=dims)
    viewer = scene.viewer
    viewer.dims.ndisplay = dims
    _camera(viewer).zoom = 17.0
    _camera(viewer).angles = (10, 20, 30)
    before = _view_of(viewer)
    ranges, extent = viewer.dims.range, viewer.layers.extent.world.copy()
    active = viewer.layers.selection.active
    scene.select(qtbot, np.arange(30))
    scene.link.next()
    scene.wait(qtbot)
    scene.link.page_size = 32
    scene.wait(qtbot)
    np.testing.assert_allclose(_view_of(viewer), before)
    assert viewer.dims.range == ranges
    assert viewer.dims.ndim == 3
    np.testing.assert_array_equal(viewer.layers.extent.world, extent)
    assert viewer.layers.selection.active is active is scene.points
    assert viewer.layers[-1] is scene.link.layer
    viewer.reset_view()
    with_page = _view_of(viewer)
    scene.select(qtbot, [])
    scene.link.close()
    viewer.reset_view()
    np.testing.assert_allclose(_view_of(viewer), with_page)


def test_a_camera_move_makes_no_other_layer_slice_again(make_scene, qtbot, rng):
    scene = make_scene()
    scene.select(qtbot, np.arange(12))
    slices = []
    scene.points.events.set_data.connect(lambda event: slices.append(event))
    before = scene.link.layer.affine.affine_matrix.copy()
    for _ in range(10):
        _camera(scene.viewer).angles = tuple(rng.uniform(-90, 90, 3))
        QApplication.processEvents()
    qtbot.wait(80)
    assert not slices
    assert not np.allclose(scene.link.layer.affine.affine_matrix, before)


def test_switching_2d_and_3d_is_silent(make_scene, qtbot, recwarn):
    scene = make_scene()
    scene.select(qtbot, np.arange(12))
    recwarn.clear()
    for ndisplay in (2, 3, 2, 3):
        scene.viewer.dims.ndisplay = ndisplay
        _camera(scene.viewer).angles = (10 * ndisplay, 20, 30)
        qtbot.wait(60)
    said = [str(w.message) for w in recwarn.list]
    assert not [text for text in said if "orthogonal" in text]


def test_the_page_follows_the_window(make_scene, qtbot):
    scene = make_scene(show=True)
    scene.select(qtbot, np.arange(12))
    before = scene.link.layer.place
    scene.viewer.window._qt_window.resize(1200, 800)
    qtbot.waitUntil(lambda: scene.link.layer.place != before, timeout=5000)
    size = scene.viewer.screenshot(canvas_only=True, flash=False).shape
    layer = scene.link.layer
    right = layer.place.left + layer.page.shape[1] * layer.place.scale
    assert size[1] - 14 <= right <= size[1]
    assert size[1] - layer.place.left <= size[1] * 0.36


def test_napari_keeps_contrast_colormap_and_visibility(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, np.arange(40))
    layer = scene.link.layer
    assert not layer.rgb
    layer.contrast_limits = (10, 90)
    layer.colormap = "viridis"
    layer.visible = False
    scene.link.next()
    scene.wait(qtbot)
    scene.select(qtbot, [])
    scene.select(qtbot, np.arange(50))
    assert scene.link.layer is layer
    assert tuple(layer.contrast_limits) == (10, 90)
    assert layer.colormap.name == "viridis"
    assert not layer.visible
    layer.visible = True
    scene.link.next()
    scene.wait(qtbot)
    assert layer.visible


def test_colour_after_grey_changes_the_layer_once(make_scene, qtbot):
    scene = make_scene(color=True)
    scene.thumbnails[:12, ..., 1] = scene.thumbnails[:12, ..., 0]
    scene.thumbnails[:12, ..., 2] = scene.thumbnails[:12, ..., 0]
    scene.select(qtbot, np.arange(12))
    assert not scene.link.layer.rgb
    scene.select(qtbot, np.arange(24, 30))
    assert scene.link.layer.rgb
    layer = scene.link.layer
    scene.select(qtbot, np.arange(12))
    assert scene.link.layer is layer
    assert len(scene.viewer.layers) == 2


def test_sixteen_bit_thumbnails_keep_their_values(make_scene, qtbot, rng):
    scene = make_scene()
    scene.thumbnails = rng.integers(0, 40_000, (N, 9, 9)).astype(np.uint16)
    scene.select(qtbot, [3])
    assert scene.link.layer.data.dtype == np.uint16
    assert scene.link.layer.data.max() == scene.thumbnails[3].max()


# Empty, broken, deleted


def test_nothing_selected_says_what_to_do(make_scene, qtbot):
    scene = make_scene()
    assert scene.link.message == "Select points to see their images"
    assert scene.link.layer is None
    scene.select(qtbot, [1])
    assert scene.link.layer.visible
    scene.select(qtbot, [])
    assert not scene.link.layer.visible
    assert len(scene.link.shown_ids) == 0
    assert scene.link.message == "Select points to see their images"
    assert scene.link.item_at((880, 20)) is None


def test_a_failed_read_is_a_sentence_and_is_tried_again(make_scene, qtbot):
    scene = make_scene()
    scene.failing = True
    scene.select(qtbot, np.arange(40))
    assert "could not be read" in scene.link.message
    assert "gone" in scene.link.message
    assert len(scene.link.ids) == 40
    scene.failing = False
    scene.link.next()
    scene.wait(qtbot)
    assert scene.link.message == "13-24 of 40 selected"
    assert scene.link.layer.visible


def test_the_newest_selection_wins_over_a_slow_read(make_scene, qtbot):
    scene = make_scene()
    gate, entered = threading.Event(), threading.Event()
    old = scene.read

    def slow(ids):
        entered.set()
        gate.wait(5)
        return old(ids)

    scene.link._reader._read = slow
    scene.points.select([1])
    assert entered.wait(5)
    scene.points.select([2, 3])
    scene.points.select([4, 5, 6])
    shown = []
    scene.link.page_shown.connect(lambda ids: shown.append(ids.tolist()))
    gate.set()
    scene.wait(qtbot)
    assert shown == [[4, 5, 6]]
    assert scene.link.shown_ids.tolist() == [4, 5, 6]


def test_a_deleted_page_comes_back_with_the_next_selection(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, [1])
    scene.viewer.layers.remove(scene.link.layer)
    assert scene.link.layer is None
    assert "select again to have it back" in scene.link.message
    scene.select(qtbot, [2])
    assert scene.link.layer in scene.viewer.layers
    assert "deleted" not in scene.link.message


def test_a_deleted_page_comes_back_with_the_next_page(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, np.arange(30))
    scene.viewer.layers.remove(scene.link.layer)
    scene.link.next()
    scene.wait(qtbot)
    assert scene.link.layer in scene.viewer.layers
    assert scene.link.shown_ids.tolist() == list(range(12, 24))


def test_fifty_thousand_pages_need_no_more_memory_than_a_few(make_scene, qtbot, rng):
    scene = make_scene()
    ids = np.resize(np.arange(N), 600_000)
    scene.link.set_ids(ids)
    assert scene.link.n_pages == 50_000
    scene.wait(qtbot)
    reader = scene.link._reader
    reader._cache_bytes = 8 * 12 * 64  # eight pages
    layers = len(scene.viewer.layers)
    for page in (*rng.integers(0, 50_000, 40).tolist(), 49_999):
        scene.link.jump(page)
        scene.wait(qtbot)
        start = page * 12
        assert scene.link.shown_ids.tolist() == ids[start : start + 12].tolist()
        assert reader._cached <= reader._cache_bytes
    assert len(scene.viewer.layers) == layers


def test_a_double_click_on_a_point_opens_its_image(make_scene, qtbot):
    scene = make_scene(show=True)
    opened = []
    scene.link.image_opened.connect(opened.append)
    scene.points.pick = lambda position: 17 if position[0] < 100 else -1
    zoom = _camera(scene.viewer).zoom
    for x, wanted in ((50, [17]), (300, [17])):
        event = _event("mouse_double_click", (x, 300))
        mouse_double_click_callbacks(scene.viewer, event)
        QApplication.processEvents()
        assert opened == wanted
        assert (_camera(scene.viewer).zoom == zoom) == (x == 50)
    assert len(scene.viewer.mouse_double_click_callbacks) == 2


def test_other_layers_come_below_the_page(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, [1])
    scene.viewer.add_points(np.zeros((1, 3)))
    qtbot.wait(20)
    assert scene.viewer.layers[-1] is scene.link.layer


def test_close_leaves_nothing(make_napari_viewer, rng, qtbot):
    viewer = make_napari_viewer()
    threads = set(threading.enumerate())
    callbacks = [
        len(viewer.mouse_drag_callbacks),
        len(viewer.mouse_move_callbacks),
        len(viewer.mouse_double_click_callbacks),
    ]
    keys = set(viewer.keymap)
    scene = Scene(viewer, rng)
    scene.select(qtbot, np.arange(20))
    link = scene.link
    timer = link._sheet._timer
    timer_ended = []
    timer.destroyed.connect(lambda: timer_ended.append(True))
    link.close()
    link.close()
    assert set(threading.enumerate()) <= threads
    assert list(viewer.layers) == [scene.points]
    assert keys == set(viewer.keymap)
    assert callbacks == [
        len(viewer.mouse_drag_callbacks),
        len(viewer.mouse_move_callbacks),
        len(viewer.mouse_double_click_callbacks),
    ]
    qtbot.waitUntil(lambda: bool(timer_ended), timeout=3000)
    _camera(viewer).zoom = 3.0
    scene.points.select([1])
    ended = weakref.ref(link)
    scene.link = None
    del link, timer
    gc.collect()
    assert ended() is None


# The source array as a layer of the viewer


@pytest.mark.parametrize("dims", [2, 3])
def test_a_stack_in_the_viewer_goes_to_the_image_of_the_point(make_scene, dims):
    scene = make_scene(dims=dims)
    viewer = scene.viewer
    stack = viewer.add_image(np.zeros((N, 1, 5, 6), np.uint8), scale=(2, 1, 1, 1))
    other = viewer.add_image(np.zeros((N + 1, 1, 5, 6), np.uint8))
    viewer.dims.ndisplay = dims
    scene.points.signals.clicked.emit(7)
    assert viewer.dims.point[0] == 14  # in world units of the stack
    assert scene.link.show_point(9)
    assert viewer.dims.point[0] == 18
    stack.visible = False
    scene.points.signals.clicked.emit(3)
    assert viewer.dims.point[0] == 18
    assert other in viewer.layers


def test_a_volume_is_left_alone(make_scene):
    scene = make_scene()
    scene.viewer.add_image(np.zeros((N, 5, 6), np.uint8))
    before = scene.viewer.dims.point
    scene.points.signals.clicked.emit(7)
    assert scene.viewer.dims.point == before
    scene.viewer.dims.ndisplay = 2
    scene.points.signals.clicked.emit(7)
    # The map gives the slider its steps; the image is the nearest.
    assert round(scene.viewer.dims.point[0]) == 7


# Mouse and keys


def _event(kind, pos, **kwargs):
    event = SimpleNamespace(
        type=kind, pos=pos, button=1, handled=False, is_dragging=False,
        modifiers=(), position=(0, 0, 0), view_direction=None, **kwargs,
    )  # fmt: skip
    return ReadOnlyWrapper(event, exceptions=("handled",))


def _click(viewer, pos, to=None):
    press = _event("mouse_press", pos)
    pressed = press.__wrapped__
    mouse_press_callbacks(viewer, press)
    layer = viewer.layers.selection.active
    mouse_press_callbacks(layer, press)
    if to is not None:
        move = _event("mouse_move", to)
        move.__wrapped__.is_dragging = True
        mouse_move_callbacks(viewer, move)
        mouse_move_callbacks(layer, move)
    release = _event("mouse_release", to or pos)
    mouse_release_callbacks(viewer, release)
    mouse_release_callbacks(layer, release)
    return pressed.handled


def test_a_click_on_a_picture_finds_its_point(make_scene, qtbot, rng):
    scene = make_scene(show=True)
    scene.select(qtbot, rng.permutation(N)[:12])
    clicked = []
    scene.link.image_clicked.connect(clicked.append)
    before_callbacks = list(scene.points.mouse_drag_callbacks)
    for index, pos in enumerate(scene.cell_centers()):
        item = int(scene.link.shown_ids[index])
        assert _click(scene.viewer, pos)
        assert clicked.pop() == item
        assert scene.pulsed.pop() == item
        assert _pixel_of(scene, item) == pytest.approx(_free_middle(scene), abs=1.0)
    assert list(scene.points.mouse_drag_callbacks) == before_callbacks
    assert scene.points.mask.sum() == 12


def _free_middle(scene):
    from napari_embed.gui.link.anchor import read_view

    height, width = read_view(scene.viewer).size
    return ((width - (width - scene.link.layer.place.left)) / 2, height / 2)


def _pixel_of(scene, item):
    from napari_embed.gui.link.anchor import read_view

    view = read_view(scene.viewer)
    away = np.asarray(scene.points.data[item])[list(view.displayed)] - view.center
    height, width = view.size
    return (
        width / 2 + float(away @ view.right) * view.zoom,
        height / 2 + float(away @ view.down) * view.zoom,
    )


def test_a_press_on_the_page_is_no_business_of_the_points(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, np.arange(12))
    pressed = []
    scene.points.mouse_drag_callbacks.append(lambda layer, event: pressed.append(1))
    pos = scene.cell_centers()[0]
    clicked = []
    scene.link.image_clicked.connect(clicked.append)
    assert _click(scene.viewer, pos, to=(pos[0] + 30, pos[1]))
    assert not pressed
    assert not clicked
    assert _camera(scene.viewer).mouse_pan
    assert not _click(scene.viewer, (3, 3))
    assert pressed == [1]


def test_a_double_click_opens_and_does_not_zoom(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, np.arange(12))
    opened = []
    scene.link.image_opened.connect(opened.append)
    before = _view_of(scene.viewer)
    callbacks = set(scene.viewer.mouse_double_click_callbacks)
    event = _event("mouse_double_click", scene.cell_centers()[5])
    mouse_double_click_callbacks(scene.viewer, event)
    assert opened == [5]
    assert _view_of(scene.viewer) == before
    qtbot.wait(20)
    assert set(scene.viewer.mouse_double_click_callbacks) == callbacks


def test_hover_tells_the_picture_and_keeps_the_line(make_scene, qtbot):
    scene = make_scene(
        captions=lambda ids: [f"<b>boot {i}</b>\n" + "x" * 999 for i in ids]
    )
    scene.select(qtbot, np.arange(20, 32))
    hovered = []
    scene.link.image_hovered.connect(hovered.append)
    mouse_move_callbacks(scene.viewer, _event("mouse_move", scene.cell_centers()[3]))
    assert hovered == [23]
    assert scene.viewer.status.startswith("Image 23: (b)boot 23")
    assert "<" not in scene.viewer.status
    assert len(scene.viewer.status) < 260
    assert scene.link.layer.decoration.hovered == 3
    line = scene.viewer.status
    scene.viewer.status = "something else"
    assert scene.viewer.status == line
    mouse_move_callbacks(scene.viewer, _event("mouse_move", (2, 2)))
    assert hovered == [23, -1]
    scene.viewer.status = "something else"
    assert scene.viewer.status == "something else"


def test_keys_turn_pages(make_scene, qtbot):
    scene = make_scene()
    scene.select(qtbot, np.arange(40))
    keymap = {str(key): action for key, action in scene.viewer.keymap.items()}
    keymap["N"](scene.viewer)
    assert scene.link.page == 1
    keymap["Shift+N"](scene.viewer)
    assert scene.link.page == 0


# Colours, theme, fit


def test_frames_have_the_colours_of_the_classes(make_scene, qtbot, rng):
    scene = make_scene()
    codes = rng.integers(-1, 4, N)
    palette = rng.random((4, 4)).astype(np.float32)
    scene.link.set_categories(codes, palette)
    scene.select(qtbot, rng.permutation(N)[:12])
    ids = scene.link.shown_ids
    known = codes[ids] >= 0
    frames = scene.link.layer.decoration.frames
    np.testing.assert_allclose(frames[known], palette[codes[ids][known], :3])
    palette = rng.random((4, 4)).astype(np.float32)
    scene.link.set_categories(codes, palette)
    frames = scene.link.layer.decoration.frames
    np.testing.assert_allclose(frames[known], palette[codes[ids][known], :3])
    scene.viewer.theme = "light"
    assert min(scene.link.layer.decoration.panel) > 0.7


@pytest.mark.parametrize("dims", [2, 3])
def test_fit_view_keeps_the_points_off_the_page(make_scene, qtbot, dims):
    scene = make_scene(dims=dims, show=True)
    scene.select(qtbot, np.arange(12))
    _camera(scene.viewer).angles = (10, 40, 20)
    scene.link.fit_view()
    where = np.array([_pixel_of(scene, item) for item in range(N)])
    height = scene.viewer.screenshot(canvas_only=True, flash=False).shape[0]
    assert where.min() > 0
    assert where[:, 0].max() < scene.link.layer.place.left
    assert where[:, 1].max() < height
    spans = np.ptp(where, axis=0)
    assert max(spans[0] / scene.link.layer.place.left, spans[1] / height) > 0.85
