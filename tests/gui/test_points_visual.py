"""The points layer in a viewer: what is drawn, picked and dragged."""

from __future__ import annotations

import csv
import functools
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Layer, Points
from vispy.app.canvas import MouseEvent
from vispy.util import keys as vispy_keys

from napari_embed.errors import InputError
from napari_embed.gui.points import EmbeddingPoints, geometry, hooks, ordering
from napari_embed.gui.points.camera import fit_camera
from napari_embed.gui.points.vispy_layer import VispyEmbeddingPoints

pytestmark = pytest.mark.gui

RED, GREEN, BLUE = (1.0, 0, 0, 1), (0, 1.0, 0, 1), (0, 0, 1.0, 1)
WIDTH, HEIGHT = 420, 320


@pytest.fixture
def show(make_napari_viewer, qapp):
    """Return a function that shows a layer in a small viewer and draws it."""

    def make(layer, *, ndisplay=3, angles=None):
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_viewer.canvas.native.setFixedSize(WIDTH, HEIGHT)
        viewer.add_layer(layer)
        viewer.dims.ndisplay = ndisplay
        viewer.reset_view()
        hooks.scene_camera(viewer).zoom *= 0.6
        if angles is not None:
            hooks.scene_camera(viewer).angles = angles
        qapp.processEvents()
        draw(viewer)
        return viewer

    return make


def draw(viewer) -> np.ndarray:
    """Draw a frame; RGB as float, (height, width, 3)."""
    picture = viewer.screenshot(canvas_only=True, flash=False)
    return picture[..., :3].astype(float) / 255


def on_canvas(layer) -> np.ndarray:
    x, y, _ = geometry.project(layer._xyz, layer.canvas_matrix())
    return np.column_stack([x, y])


def color_at(picture: np.ndarray, at: np.ndarray) -> np.ndarray:
    column, row = np.floor(at).astype(int)
    return picture[row, column]


def mouse(viewer, kind, at, *, press=None, modifiers=(), button=1) -> MouseEvent:
    event = MouseEvent(
        type=kind,
        pos=np.asarray(at, float),
        button=button,
        buttons=[button],
        modifiers=[getattr(vispy_keys, name.upper()) for name in modifiers],
        press_event=press,
    )
    getattr(viewer.window._qt_viewer.canvas, f"_on_{kind}")(event)
    return event


def drag(viewer, path, modifiers=()) -> None:
    press = mouse(viewer, "mouse_press", path[0], modifiers=modifiers)
    for at in path[1:]:
        mouse(viewer, "mouse_move", at, press=press, modifiers=modifiers)
    mouse(viewer, "mouse_release", path[-1], press=press, modifiers=modifiers)


def click(viewer, at, modifiers=()) -> None:
    drag(viewer, [at], modifiers)


def triangle() -> np.ndarray:
    return np.array([[0, 0, 0], [10, 0, 2], [0, 10, 4]], np.float32)


# -- drawing


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_points_are_drawn_where_they_are_in_their_colour(show, ndisplay) -> None:
    layer = EmbeddingPoints(triangle()[:, :ndisplay])
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    viewer = show(
        layer, ndisplay=ndisplay, angles=(12, -20, 35) if ndisplay == 3 else None
    )
    picture = draw(viewer)
    assert picture.shape[:2] == (HEIGHT, WIDTH)
    for at, channel in zip(on_canvas(layer), range(3), strict=True):
        color = color_at(picture, at)
        assert np.argmax(color) == channel
        assert color[channel] > 0.4
        assert np.delete(color, channel).max() < 0.15


def test_projection_agrees_with_napari(show, rng) -> None:
    """A world position that napari finds at a pixel is projected to that pixel."""
    layer = EmbeddingPoints(rng.normal(size=(50, 3)) * 7)
    viewer = show(layer, ndisplay=3, angles=tuple(rng.uniform(-80, 80, 3)))
    canvas = viewer.window._qt_viewer.canvas
    for perspective in (0, 40):
        hooks.scene_camera(viewer).perspective = perspective
        draw(viewer)
        for at in rng.uniform(20, 300, (20, 2)):
            world = canvas._map_canvas2world(tuple(at), canvas.view)
            row = np.array([world[::-1]])
            x, y, _ = geometry.project(row, layer.canvas_matrix())
            np.testing.assert_allclose((x[0], y[0]), at, atol=0.05)


def test_nearer_points_have_smaller_depth_and_cover_others(show) -> None:
    layer = EmbeddingPoints(np.array([[0, 0, 0], [0, 0, 5], [9, 9, 2]], np.float32))
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    viewer = show(layer)
    _, _, depth = geometry.project(layer._xyz, layer.canvas_matrix())
    front = int(np.argmin(depth[:2]))
    at = on_canvas(layer)[0]
    assert np.argmax(color_at(draw(viewer), at)) == front
    assert layer.pick(tuple(at)) == front


def test_hidden_and_missing_points_are_not_drawn(show) -> None:
    xyz = triangle()
    layer = EmbeddingPoints(np.vstack([xyz, [[np.nan, 0, 0]]]))
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer)
    everything = draw(viewer)
    layer.set_visible([0, 1])
    picture = draw(viewer)
    at = on_canvas(layer)
    assert color_at(everything, at[2]).min() > 0.2
    assert color_at(picture, at[2]).max() < 0.05
    assert layer.drawn == 2
    assert layer.pick(tuple(at[2])) == -1
    assert layer.pick(tuple(at[1])) == 1
    layer.set_visible(np.zeros(4, bool))
    assert draw(viewer).max() < 0.05
    assert layer.drawn == 0


def test_selected_points_are_larger_and_others_dimmed(show) -> None:
    layer = EmbeddingPoints(triangle()[:, :2])
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    viewer = show(layer, ndisplay=2)
    before = draw(viewer)
    layer.select([0])
    after = draw(viewer)
    at = on_canvas(layer)
    red = [(p[..., 0] > 0.6) & (p[..., 1] < 0.3) for p in (before, after)]
    assert red[1].sum() > red[0].sum()
    assert color_at(after, at[1]).max() < 0.6 * color_at(before, at[1]).max()
    layer.clear_selection()
    np.testing.assert_allclose(draw(viewer), before, atol=0.02)


def test_positions_move_on_the_canvas(show) -> None:
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer)
    old = on_canvas(layer)[1].copy()
    layer.set_positions(triangle() + np.array([[0, 0, 0], [-6, 5, 0], [0, 0, 0]]))
    picture = draw(viewer)
    assert color_at(picture, on_canvas(layer)[1]).min() > 0.2
    assert color_at(picture, old).max() < 0.05


@pytest.mark.parametrize(
    "blending", ["opaque", "translucent", "translucent_no_depth", "additive", "minimum"]
)
def test_blending_opacity_and_visibility_reach_the_points(show, blending) -> None:
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer)
    full = color_at(draw(viewer), on_canvas(layer)[0]).max()
    layer.opacity = 0.3
    assert color_at(draw(viewer), on_canvas(layer)[0]).max() < 0.7 * full
    layer.blending = blending
    draw(viewer)
    layer.opacity = 1.0
    layer.visible = False
    assert draw(viewer).max() < 0.05
    layer.visible = True
    draw(viewer)


def test_markers_have_different_shapes(show) -> None:
    from napari_embed.gui.points.coloring import SHAPES

    layer = EmbeddingPoints(np.array([[0.0, 0], [10, 10], [0, 10]]))
    layer.color_uniform("white")
    layer.point_size = 40
    viewer = show(layer, ndisplay=2)
    areas = {}
    column, row = np.round(on_canvas(layer)[1]).astype(int)
    for name in SHAPES:
        layer.symbol = name
        patch = draw(viewer)[row - 24 : row + 24, column - 24 : column + 24, 0] > 0.4
        areas[name] = patch
        assert patch.sum() > 100, name
    names = list(areas)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert (areas[first] != areas[second]).sum() > 40, (first, second)
    assert areas["disc"][24, 24]
    assert not areas["ring"][24, 24]
    assert (
        areas["triangle_up"].sum(1)[:20].sum()
        < areas["triangle_down"].sum(1)[:20].sum()
    )


def test_switching_2d_and_3d_keeps_colours_and_selection(show, rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(300, 3)))
    viewer = show(layer)
    layer.color_by_values(rng.normal(size=300))
    layer.select(np.arange(50))
    for ndisplay in (2, 3, 2, 3):
        viewer.dims.ndisplay = ndisplay
        picture = draw(viewer)
        assert picture.max() > 0.2
        at = on_canvas(layer)
        assert np.ptp(at, axis=0).min() > 50
    assert layer.n_selected == 50


def test_a_prefix_is_drawn_while_the_camera_moves(
    show, rng, monkeypatch, qtbot
) -> None:
    monkeypatch.setattr(VispyEmbeddingPoints, "_budget", lambda self: 100)
    layer = EmbeddingPoints(rng.normal(size=(400, 3)))
    viewer = show(layer)
    seen: list = []
    layer.signals.drawn_changed.connect(seen.append)
    qtbot.waitUntil(
        lambda: draw(viewer) is not None and layer.drawn == 400, timeout=5000
    )
    seen.clear()
    hooks.scene_camera(viewer).zoom *= 1.3
    draw(viewer)
    assert layer.drawn == 100
    layer.select_box((-1e4, -1e4), (1e4, 1e4))
    assert layer.n_selected == 400
    qtbot.waitUntil(lambda: layer.drawn == 400, timeout=5000)
    assert seen == [100, 400]


def test_the_drawing_order_is_refined_in_the_background(show, rng, monkeypatch, qtbot):
    monkeypatch.setattr(
        "napari_embed.gui.points.vispy_layer.MOVING_POINTS_SOFTWARE", 100
    )
    layer = EmbeddingPoints(rng.normal(size=(1000, 3)))
    layer.point_size = 20
    before = layer._order
    viewer = show(layer)
    qtbot.waitUntil(lambda: layer._order is not before, timeout=5000)
    np.testing.assert_array_equal(np.sort(layer._order), np.arange(1000))
    np.testing.assert_array_equal(layer._order, ordering.even_order(layer._xyz))
    draw(viewer)


# -- picking, box and lasso


@pytest.mark.parametrize("ndisplay", [2, 3])
@pytest.mark.parametrize("tool", ["box", "lasso"])
def test_drags_select_exactly_what_is_inside(show, rng, ndisplay, tool) -> None:
    xyz = rng.normal(size=(2000, 3)) * 10
    layer = EmbeddingPoints(xyz)
    shown = rng.random(2000) < 0.8
    layer.set_visible(shown)
    viewer = show(layer, ndisplay=ndisplay)
    layer.tool = tool
    camera = hooks.scene_camera(viewer)
    for _ in range(6):
        if ndisplay == 3:
            camera.angles = tuple(rng.uniform(-90, 90, 3))
        camera.zoom *= rng.uniform(0.8, 1.25)
        draw(viewer)
        path = rng.uniform((60, 60), (350, 260), size=(8, 2))
        if tool == "box":
            (x0, y0), (x1, y1) = path[0], path[-1]
            outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        else:
            outline = path
        drag(viewer, path)
        at = on_canvas(layer)
        expected = _inside(at, outline) & shown
        np.testing.assert_array_equal(layer.mask, expected)
        assert not layer.dragging


def _inside(at, outline) -> np.ndarray:
    inside = np.zeros(len(at), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
        crosses = (y0 > at[:, 1]) != (y1 > at[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            left = at[:, 0] < (x1 - x0) * (at[:, 1] - y0) / (y1 - y0) + x0
        inside ^= crosses & left
    return inside


def test_keys_held_while_dragging_combine(show, rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(500, 2)))
    viewer = show(layer, ndisplay=2)
    layer.tool = "box"
    left, right = [(40, 10), (220, 310)], [(190, 10), (380, 310)]
    masks = []
    for path in (left, right):
        drag(viewer, path)
        masks.append(layer.mask.copy())
    a, b = masks
    assert (a & b).any()
    camera = hooks.scene_camera(viewer)
    center, zoom = camera.center, camera.zoom
    assert (a & ~b).any()
    for held, expected in (
        ((), b),
        (("Shift",), a | b),
        (("Alt",), a & ~b),
        (("Control",), a & ~b),
        (("Shift", "Alt"), a & b),
    ):
        drag(viewer, left)
        drag(viewer, right, held)
        np.testing.assert_array_equal(layer.mask, expected)
        camera.center, camera.zoom = center, zoom  # before 0.9 Alt zooms as well


@pytest.mark.parametrize("tool", ["pan", "lasso"])
def test_clicks(show, tool) -> None:
    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    layer.tool = tool
    at = on_canvas(layer)
    clicked: list = []
    layer.signals.clicked.connect(clicked.append)
    click(viewer, at[1] + 2)
    assert layer.selected_ids().tolist() == [1]
    click(viewer, at[2], ("Shift",))
    assert layer.selected_ids().tolist() == [1, 2]
    click(viewer, at[1], ("Shift",))
    assert layer.selected_ids().tolist() == [2]
    click(viewer, (3, 3), ("Shift",))
    assert layer.n_selected == 1
    click(viewer, (3, 3))
    assert layer.n_selected == 0
    assert clicked == [1, 2, 1]


def test_dragging_with_the_pan_tool_moves_the_camera_only(show) -> None:
    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    layer.select([0])
    drag(viewer, [(100, 100), (150, 120), (200, 150)])
    assert layer.selected_ids().tolist() == [0]


def test_the_outline_is_drawn_while_dragging_and_goes_with_escape(show) -> None:
    layer = EmbeddingPoints(triangle() * [1, 1, 0])
    layer.color_uniform("black")
    viewer = show(layer)
    layer.tool = "box"
    press = mouse(viewer, "mouse_press", (100, 60))
    mouse(viewer, "mouse_move", (320, 240), press=press)
    picture = draw(viewer)
    for at in ((210, 60), (210, 240), (100, 150), (320, 150)):
        column, row = at
        patch = picture[row - 3 : row + 4, column - 3 : column + 4]
        assert patch.max() > 0.5, at
    _press_key(layer, "Escape")
    assert draw(viewer).max() < 0.3
    mouse(viewer, "mouse_release", (320, 240), press=press)
    assert layer.n_selected == 0
    assert layer.tool == "box"


def _press_key(layer, key) -> None:
    from napari.utils.key_bindings import coerce_keybinding

    for cls in type(layer).__mro__:
        action = getattr(cls, "class_keymap", {}).get(coerce_keybinding(key))
        if action is not None:
            action(layer)
            return
    raise AssertionError(f"{key} is not bound")


def test_keys(show, rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(100, 3)))
    viewer = show(layer)
    for key, tool in (("L", "lasso"), ("B", "box"), ("Escape", "pan")):
        _press_key(layer, key)
        assert layer.tool == tool
    layer.select([1, 2, 3])
    _press_key(layer, "I")
    assert layer.n_selected == 97
    _press_key(layer, "H")
    assert layer.n_visible == 3
    assert layer.n_selected == 0
    _press_key(layer, "Shift-H")
    assert layer.n_visible == 100
    _press_key(layer, "A")
    assert layer.n_selected == 100
    layer.select([5])
    _press_key(layer, "O")
    assert layer.n_visible == 1
    zoom = hooks.scene_camera(viewer).zoom
    fit_camera(layer, layer.mask, viewer=viewer)
    assert hooks.scene_camera(viewer).zoom > 2 * zoom
    draw(viewer)
    np.testing.assert_allclose(on_canvas(layer)[5], (WIDTH / 2, HEIGHT / 2), atol=2)


def test_a_fitted_cloud_fills_the_canvas_from_every_side(show, rng) -> None:
    way = rng.normal(size=(4000, 3))
    ball = way / np.linalg.norm(way, axis=1, keepdims=True) + (5.0, -3.0, 9.0)
    layer = EmbeddingPoints(ball)
    viewer = show(layer)
    fit_camera(layer, viewer=viewer)
    for angles in ((0, 0, 90), (20, 40, 60), (45, 45, 45)):
        hooks.scene_camera(viewer).angles = angles
        draw(viewer)
        seen = on_canvas(layer)
        low, high = seen.min(axis=0), seen.max(axis=0)
        assert (low >= 0).all()
        assert (high <= (WIDTH, HEIGHT)).all()
        assert (high - low).max() > 0.75 * min(WIDTH, HEIGHT)


def test_delete_keys_of_napari_exclude(show) -> None:
    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    delete = viewer.window._qt_viewer.controls.widgets[layer].delete_button.click
    for item, press in enumerate(
        (delete, lambda: _press_key(layer, "Delete"), lambda: _press_key(layer, "1"))
    ):
        layer.select([item])
        press()
        assert layer.n_excluded == item + 1
    assert len(layer.data) == 3
    _press_key(layer, "Control-Z")
    assert layer.n_excluded == 2
    assert layer.selected_ids().tolist() == [2]
    _press_key(layer, "Control-Shift-Z")
    assert layer.n_excluded == 3


def test_status_names_the_point_under_the_cursor(show, qapp) -> None:
    layer = EmbeddingPoints(triangle(), features={"label": ["ant", "bee", "cat"]})
    viewer = show(layer)
    hovered: list = []
    layer.signals.hovered.connect(hovered.append)
    layer.select([0, 2])
    at = on_canvas(layer)[1]
    canvas = viewer.window._qt_viewer.canvas
    world = canvas._map_canvas2world(tuple(at), canvas.view)
    kwargs = {
        "view_direction": np.array([1.0, 0, 0]),
        "dims_displayed": [0, 1, 2],
        "world": True,
    }
    assert layer.get_value(world, **kwargs) == 1
    assert layer.get_status(world, **kwargs)["value"] == "#1 bee · 2 selected"
    assert layer.hovered == 1
    away = canvas._map_canvas2world((2.0, 2.0), canvas.view)
    assert layer.get_status(away, **kwargs)["value"] == "2 selected"
    assert hovered == [1, -1]


def test_hovering_is_told_on_the_main_thread(show, qtbot) -> None:
    import threading

    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    canvas = viewer.window._qt_viewer.canvas
    world = canvas._map_canvas2world(tuple(on_canvas(layer)[2]), canvas.view)
    where: list = []
    layer.signals.hovered.connect(lambda item: where.append(threading.current_thread()))
    worker = threading.Thread(target=lambda: layer.get_status(world, world=True))
    worker.start()
    worker.join()
    qtbot.waitUntil(lambda: layer.hovered == 2, timeout=2000)
    assert where == [threading.main_thread()]


def test_pulse_draws_a_ring_and_ends(show, qtbot, monkeypatch) -> None:
    monkeypatch.setattr("napari_embed.gui.points.vispy_layer._PULSE_S", 0.2)
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("black")
    viewer = show(layer)
    layer.set_hovered(-1)
    assert draw(viewer).max() < 0.2
    layer.pulse(1)
    column, row = np.round(on_canvas(layer)[1]).astype(int)
    picture = draw(viewer)
    assert picture[row - 25 : row + 25, column - 25 : column + 25].max() > 0.5
    qtbot.waitUntil(lambda: layer._link._pulse is None, timeout=3000)
    layer.set_hovered(-1)
    assert draw(viewer).max() < 0.2
    with pytest.raises(InputError, match="no item"):
        layer.pulse(3)


# -- napari's controls, saving, life cycle


def test_napari_controls_work(show) -> None:
    layer = EmbeddingPoints(triangle(), features={"a": [1.0, 2, 3], "b": list("xyz")})
    viewer = show(layer)
    controls = viewer.window._qt_viewer.controls.widgets[layer]
    slider = controls._current_size_slider_control.size_slider
    layer.select([0])
    slider.setValue(30)
    assert layer.point_size == 30
    assert np.unique(layer.size).size == 1
    color = controls._face_color_control.face_color_edit
    color.setColor(np.array(RED))
    np.testing.assert_allclose(layer.face_color, np.tile(RED, (3, 1)), atol=0.01)
    controls._border_color_control.border_color_edit.setColor(np.array(GREEN))
    np.testing.assert_allclose(layer.border_color[0], GREEN, atol=0.01)
    box = controls._symbol_combobox_control.symbol_combobox
    for index in range(box.count()):
        box.setCurrentIndex(index)
        draw(viewer)
    controls._text_visibility_control.text_disp_checkbox.setChecked(False)
    mode = controls._projection_mode_control.projection_combobox
    for index in range(mode.count()):
        mode.setCurrentIndex(index)
    for button in (
        controls.select_button,
        controls.panzoom_button,
        controls.addition_button,
        controls.transform_button,
        controls.select_button,
    ):
        button.click()
        draw(viewer)
    assert layer.mode == "select"
    assert controls.select_button.isChecked()
    controls.addition_button.click()
    assert layer.mode == "select"
    assert controls.select_button.isChecked()
    layer.face_color = "a"
    layer.face_color = "b"
    layer.face_color = "a"
    layer.face_colormap = "magma"
    layer.face_contrast_limits = (0, 2)
    layer.face_color = np.array([RED, GREEN, BLUE])
    np.testing.assert_allclose(layer.face_color, [RED, GREEN, BLUE])
    draw(viewer)


def test_saving_as_csv(show, tmp_path, rng) -> None:
    xyz = rng.normal(size=(5, 3)).astype(np.float32)
    layer = EmbeddingPoints(xyz, features={"label": list("abcde")})
    viewer = show(layer)
    path = tmp_path / "points.csv"
    viewer.layers.selection = {layer}
    assert layer.save(str(path))
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["label"] for row in rows] == list("abcde")
    found = [[float(row[f"axis-{axis}"]) for axis in range(3)] for row in rows]
    np.testing.assert_allclose(found, xyz[:, ::-1], rtol=1e-6)


def test_duplicate_is_a_plain_points_layer(rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(6, 3)), features={"a": range(6)})
    layer.color_by_categories([0, 1, 2, 0, 1, 2], [RED, GREEN, BLUE])
    layer.set_visible([0, 1])
    data, meta, kind = layer.as_layer_data_tuple()
    twin = Layer.create(data, meta, kind)
    assert type(twin) is Points
    np.testing.assert_array_equal(twin.data, layer.data)
    np.testing.assert_allclose(twin.face_color, layer.face_color, atol=1e-6)
    np.testing.assert_array_equal(twin.shown, layer.visible_mask)
    assert list(twin.features["a"]) == list(range(6))


def test_layers_come_and_go(show, qapp, rng) -> None:
    """With ring, selection and outline, and napari's own points in between."""
    first = EmbeddingPoints(rng.normal(size=(200, 3)))
    viewer = show(first)
    visuals = []
    gc.freeze()  # napari collects garbage at every removal: keep that short
    for turn in range(20):
        layer = EmbeddingPoints(rng.normal(size=(200, 2 + turn % 2)))
        viewer.add_layer(layer)
        layer.select(np.arange(100))
        layer.pulse(4)
        layer.draw_outline(np.array([(1, 1), (90, 1), (90, 90), (1, 1)], float))
        draw(viewer)
        # napari's canvas keeps removed layers alive; the visual must not be kept.
        visuals.append(weakref.ref(layer._link))
        viewer.layers.remove(layer)
        assert layer._link is None
        if turn % 5 == 0:
            plain = viewer.add_points(rng.normal(size=(20, 3)))
            draw(viewer)
            viewer.layers.remove(plain)
            draw(viewer)
    gc.unfreeze()
    qapp.processEvents()
    gc.collect()
    assert sum(ref() is not None for ref in visuals) <= 1
    assert draw(viewer).max() > 0.1


def test_empty_and_nowhere_maps_are_shown(show) -> None:
    for xyz in (np.zeros((0, 2)), np.full((3, 3), np.nan), np.zeros((1, 3))):
        layer = EmbeddingPoints(xyz)
        viewer = show(layer, ndisplay=2)
        draw(viewer)
        layer.select_box((0, 0), (400, 300))
        viewer.dims.ndisplay = 3
        draw(viewer)
        layer.fit_view()
        viewer.layers.clear()


def test_beside_an_image_of_other_dimensions(show, rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(50, 2)) * 20)
    viewer = show(layer, ndisplay=2)
    viewer.add_image(rng.random((4, 30, 30)), opacity=0.1)
    viewer.layers.selection.active = layer
    for step in (0, 3):
        viewer.dims.set_point(0, step)
        draw(viewer)
        layer.select_box((-1e4, -1e4), (1e4, 1e4))
        assert layer.n_selected == 50
        assert layer.drawn == 50


# -- private names of napari

MODEL_HOOKS = {
    "_set_highlight": None,
    "_update_thumbnail": None,
    "_move": None,
    "_copy_data": None,
    "_paste_data": None,
}
VISUAL_HOOKS = (
    "_on_data_change",
    "_on_highlight_change",
    "_update_text",
    "_on_blending_change",
    "_on_opacity_change",
    "_on_canvas_size_limits_change",
    "close",
)


def test_napari_calls_every_hook(show, monkeypatch) -> None:
    called: set[str] = set()

    def spy(cls, name):
        original = getattr(cls, name)

        @functools.wraps(original)
        def wrapper(self, *args, **kwargs):
            called.add(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, name, wrapper)

    for name in MODEL_HOOKS:
        spy(hooks.HookedPoints, name)
    for name in VISUAL_HOOKS:
        spy(VispyEmbeddingPoints, name)
    reads: set[str] = set()
    for name in ("_extent_data", "_type_string"):
        getter = getattr(hooks.HookedPoints, name).fget

        def read(self, name=name, getter=getter):
            reads.add(name)
            return getter(self)

        monkeypatch.setattr(hooks.HookedPoints, name, property(read))
    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    layer.mode = "select"
    layer.select([0])
    from napari.layers.points import _points_key_bindings as bindings

    bindings.copy(layer)
    bindings.paste(layer)
    _drag_a_selected_point_the_napari_way(layer)
    viewer.layers.remove(layer)
    assert called == {*MODEL_HOOKS, *VISUAL_HOOKS}
    assert reads == {"_extent_data", "_type_string"}


def _mode(name):
    from napari.layers.points._points_constants import Mode

    return Mode[name]


def _drag_a_selected_point_the_napari_way(layer) -> None:
    event = SimpleNamespace(
        type="mouse_press",
        modifiers=(),
        position=(0.0, 0.0, 0.0),
        view_direction=np.array([1.0, 0, 0]),
        up_direction=np.array([0, 1.0, 0]),
        dims_displayed=[0, 1, 2],
        pos=np.zeros(2),
    )
    layer.select([0])
    steps = Points._drag_modes[_mode("SELECT")](layer, event)
    layer.get_value = lambda *args, **kwargs: 0
    next(steps)
    event.type = "mouse_move"
    next(steps)
    del layer.get_value


def test_the_mouse_tools_are_the_ones_napari_uses(show) -> None:
    layer = EmbeddingPoints(triangle())
    show(layer)
    for tool in ("pan", "box"):
        layer.tool = tool
        name = "click_only" if tool == "pan" else "_drag"
        assert [f.__name__ for f in layer.mouse_drag_callbacks].count(name) == 1
    assert layer.cursor == "crosshair"


def test_our_visual_is_used_and_has_the_node_it_expects(show) -> None:
    layer = EmbeddingPoints(triangle())
    viewer = show(layer)
    visual = viewer.window._qt_viewer.canvas.layer_to_visual[layer]
    assert type(visual) is VispyEmbeddingPoints
    assert visual._cloud in visual.node.children
    assert "depth_test" in visual.node.points_markers._vshare.gl_state
    np.testing.assert_array_equal(visual._cloud.transform.matrix, np.eye(4))


def test_without_our_visual_napari_draws_the_points(show, monkeypatch) -> None:
    from napari._vispy.utils import visual

    monkeypatch.delitem(visual.layer_to_visual, EmbeddingPoints, raising=False)
    monkeypatch.setattr(visual, "layer_to_visual", None)
    with pytest.warns(RuntimeWarning, match="slow"):
        layer = EmbeddingPoints(triangle())
    monkeypatch.undo()
    visual.layer_to_visual.pop(EmbeddingPoints, None)
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    viewer = show(layer)
    assert layer._link is None
    assert draw(viewer).max() > 0.4
    layer.color_uniform("blue")
    picture = draw(viewer)
    assert picture[..., 2].max() > 0.4
    assert picture[..., 0].max() < 0.2
    layer.set_positions(triangle() * 2)
    draw(viewer)
    with pytest.raises(InputError, match="not drawn"):
        layer.select_box((0, 0), (9, 9))
    hooks.register_visual(EmbeddingPoints)
