"""Size, opacity, density, markers by class, level of detail, and a card that fails."""

from __future__ import annotations

import numpy as np
import pytest
from test_points_visual import (
    BLUE,
    GREEN,
    RED,
    color_at,
    draw,
    on_canvas,
    show,  # noqa: F401  a fixture
    triangle,
)
from vispy import gloo

from napari_embed.errors import InputError
from napari_embed.gui.display import DisplaySettings
from napari_embed.gui.points import EmbeddingPoints, density, hooks, styling
from napari_embed.gui.points.coloring import CLASS_SHAPES, MISSING, SHAPES
from napari_embed.gui.points.vispy_layer import MOST_FAILURES
from napari_embed.gui.points.visual import HIDDEN, SELECTED_BIT, pack_state

pytestmark = pytest.mark.gui


# -- settings


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 0},
        {"size": float("nan")},
        {"opacity": 1.5},
        {"opacity": float("nan")},
        {"density": "fog"},
        {"frame_points": 0},
    ],
)
def test_nonsense_is_refused(bad) -> None:
    with pytest.raises(InputError):
        DisplaySettings(**bad)
    layer = EmbeddingPoints(triangle())
    with pytest.raises(InputError):
        layer.set_display(**bad)
    assert layer.display == DisplaySettings()


def test_every_change_is_told_once() -> None:
    layer = EmbeddingPoints(triangle())
    told: list = []
    layer.signals.display_changed.connect(lambda: told.append(layer.display))
    layer.point_size = 7
    layer.point_opacity = 0.4
    layer.density = "heat"
    layer.shapes_by_class = True
    layer.frame_points = 1000
    layer.front_only = True
    layer.front_only = True
    wanted = DisplaySettings(7.0, 0.4, "heat", True, 1000, True)
    assert layer.display == wanted == told[-1]
    assert len(told) == 6
    layer.display = DisplaySettings()
    assert layer.point_size > 0
    assert len(told) == 7


def test_packed_state_holds_row_and_flags(rng) -> None:
    for n in (0, 1, 65_536, 70_001):
        rows = rng.integers(0, 4096, n).astype(np.uint16)
        selected, drawable = rng.random(n) < 0.3, rng.random(n) < 0.7
        out = np.full(n, 7, np.uint16)
        for chosen in (None, selected):
            for drawn in (None, drawable):
                pack_state(rows, chosen, drawn, out)
                expected = rows.astype(int)
                if chosen is not None:
                    expected = expected + (chosen << SELECTED_BIT)
                if drawn is not None:
                    expected = expected + np.where(drawn, 0, HIDDEN)
                np.testing.assert_array_equal(out, expected)


# -- markers


def test_each_class_has_a_marker_of_its_own(rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(120, 2)))
    codes = np.arange(120) % 12 - 1
    layer.color_by_categories(codes, rng.random((11, 4)))
    assert not layer.coloring.shapes.any()
    layer.shapes_by_class = True
    shapes = layer.coloring.shapes
    assert tuple(shapes[:9]) == CLASS_SHAPES
    assert shapes[MISSING] == SHAPES.index("disc")
    assert len(set(CLASS_SHAPES)) == len(CLASS_SHAPES) >= 6
    np.testing.assert_array_equal(layer.symbol[codes == 1], "square")
    index = layer.coloring.index
    layer.color_by_categories(codes, rng.random((11, 4)))
    assert tuple(layer.coloring.shapes[:9]) == CLASS_SHAPES
    layer.color_by_values(rng.normal(size=120))
    assert not layer.coloring.shapes.any()
    layer.color_by_categories(codes, rng.random((11, 4)))
    layer.shapes_by_class = False
    assert not layer.coloring.shapes.any()
    np.testing.assert_array_equal(layer.coloring.index, index)


def test_markers_of_few_pixels_can_be_told_apart(show) -> None:  # noqa: F811
    n = len(CLASS_SHAPES)
    layer = EmbeddingPoints(np.c_[np.arange(n) * 10.0, np.zeros(n)])
    layer.color_by_categories(np.arange(n), np.ones((n, 4)))
    layer.shapes_by_class = True
    layer.canvas_size_limits = (6, 6)
    layer.point_opacity = 1.0
    viewer = show(layer, ndisplay=2)
    picture = draw(viewer)[..., 0]
    patches = []
    for at in on_canvas(layer):
        column, row = np.round(at).astype(int)
        patches.append(picture[row - 4 : row + 5, column - 4 : column + 5])
        assert patches[-1].sum() > 6
    for i, first in enumerate(patches):
        for second in patches[i + 1 :]:
            shifted = [
                np.abs(first - np.roll(second, (dy, dx), (0, 1))).sum()
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            assert min(shifted) > 2.5


# -- size and opacity


def test_size_follows_from_the_density_until_it_is_chosen(rng) -> None:
    few, many = (EmbeddingPoints(rng.normal(size=(n, 2))) for n in (500, 60_000))
    assert few.point_size > 2 * many.point_size
    many.color_by_categories(rng.integers(0, 5, 60_000), rng.random((5, 4)))
    many.shapes_by_class = True
    assert many.point_size >= 5  # markers need pixels
    many.point_size = 3
    assert many.point_size == 3
    many.point_size = None
    many.shapes_by_class = False
    assert many.point_size < 3


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_opacity_reaches_the_points(show, ndisplay) -> None:  # noqa: F811
    layer = EmbeddingPoints(triangle()[:, :ndisplay])
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer, ndisplay=ndisplay)
    at = on_canvas(layer)[0]
    layer.point_opacity = 1.0
    full = color_at(draw(viewer), at).max()
    layer.point_opacity = 0.25
    quarter = color_at(draw(viewer), at).max()
    assert 0.15 * full < quarter < 0.4 * full
    layer.point_opacity = None
    assert color_at(draw(viewer), at).max() > 0.8 * full


def test_translucent_points_do_not_hide_those_behind(show) -> None:  # noqa: F811
    xyz = np.array([[0, 0, 0], [0, 0, 5], [9, 9, 2]], np.float32)
    layer = EmbeddingPoints(xyz)
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    layer.point_opacity = 0.5
    viewer = show(layer)
    color = color_at(draw(viewer), on_canvas(layer)[0])
    assert min(color[:2]) > 0.08


# -- density


def clusters(rng, n=6000):
    """Return points in a dense and a sparse heap, and which heap each is in."""
    heap = (rng.random(n) < 0.1).astype(int)
    xyz = rng.normal(size=(n, 3)) * 0.6 + np.where(heap[:, None], 6.0, 0.0)
    return xyz, heap


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_density_stands_out_from_the_background(
    show,  # noqa: F811
    rng,
    ndisplay,
    theme,
) -> None:
    xyz, heap = clusters(rng)
    layer = EmbeddingPoints(xyz[:, :ndisplay])
    layer.color_by_categories(heap, [RED, BLUE])
    viewer = show(layer, ndisplay=ndisplay)
    viewer.theme = theme
    layer.density = "colors"
    picture = draw(viewer)
    at = on_canvas(layer)
    middles = [np.median(at[heap == k], axis=0) for k in (0, 1)]
    background = picture[2, 2]
    assert abs(background.mean() - (theme == "light")) < 0.2
    red, blue = (color_at(picture, m) for m in middles)
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    layer.density = "heat"
    picture = draw(viewer)
    dense, sparse = (np.abs(color_at(picture, m) - background).sum() for m in middles)
    assert dense > sparse > 0.3


def test_places_never_saturate(show, rng) -> None:  # noqa: F811
    """Ten times as many points at one place still look different there."""
    many, more = rng.normal(size=(2000, 2)), rng.normal(size=(20_000, 2))
    layer = EmbeddingPoints(np.vstack([many * 0.3, more * 0.3 + 5]))
    layer.color_uniform("white")
    viewer = show(layer, ndisplay=2)
    layer.density = "heat"
    picture = draw(viewer)
    at = on_canvas(layer)
    thin, thick = (color_at(picture, np.median(p, 0)) for p in (at[:2000], at[2000:]))
    assert thick.sum() > thin.sum() + 0.3


def test_density_shows_selection_hiding_and_opacity(show, rng) -> None:  # noqa: F811
    xyz, heap = clusters(rng)
    layer = EmbeddingPoints(xyz[:, :2])
    layer.color_by_categories(heap, [RED, BLUE])
    layer.density = "colors"
    viewer = show(layer, ndisplay=2)
    middle = np.median(on_canvas(layer)[heap == 0], axis=0)
    full = color_at(draw(viewer), middle)
    layer.select(heap == 1)
    dimmed = color_at(draw(viewer), middle)
    assert np.ptp(dimmed) < 0.6 * np.ptp(full)
    layer.clear_selection()
    layer.point_opacity = 0.3
    assert color_at(draw(viewer), middle).max() < 0.5 * full.max()
    layer.point_opacity = None
    layer.set_visible(heap == 1)
    assert color_at(draw(viewer), middle).max() < 0.05
    layer.show_all()
    layer.density = "off"
    draw(viewer)
    layer.density = "colors"
    np.testing.assert_allclose(color_at(draw(viewer), middle), full, atol=0.03)


def test_the_peak_is_what_points_add_up_to(rng) -> None:
    """Against adding the hills of all points up on a fine grid."""
    n, diameter = 40_000, 9.0
    xyz = np.c_[rng.uniform(0, 200, (n, 2)), np.zeros(n)].astype(np.float32)
    x, y = np.meshgrid(np.arange(80, 120) + 0.5, np.arange(80, 120) + 0.5)
    total = np.zeros(x.shape)
    for px, py, _ in xyz[(np.abs(xyz[:, :2] - 100) < 30).all(1)]:
        r2 = ((x - px) ** 2 + (y - py) ** 2) / (diameter / 2) ** 2
        total += np.clip(1 - r2, 0, None) ** 2
    for share in (1, 10):
        found = density.peak_weight(
            xyz[::share], np.eye(4), n_points=n, diameter=diameter
        )
        assert total.mean() < found < 3.5 * total.mean()
    outside = density.peak_weight(
        xyz, np.eye(4), n_points=n, diameter=diameter, size=(100, 200)
    )
    assert total.mean() < outside < 3 * total.mean()
    empty = np.full((4, 3), np.nan)
    assert density.peak_weight(empty, np.eye(4), n_points=4, diameter=2) == 1.0


def test_few_points_are_drawn_as_wide_hills() -> None:
    assert density.hill_diameter(1.0, 6.0) > density.hill_diameter(30.0, 6.0)
    assert density.hill_diameter(1e6, 2.0) == density.hill_diameter(1e9, 2.0) >= 2


# -- level of detail


def test_words_say_how_many_are_drawn(show, rng, qtbot) -> None:  # noqa: F811
    layer = EmbeddingPoints(rng.normal(size=(400, 3)))
    layer.frame_points = 100
    viewer = show(layer)
    qtbot.waitUntil(
        lambda: draw(viewer) is not None and layer.drawn == 400, timeout=5000
    )
    assert layer.drawn_words() == ""
    hooks.scene_camera(viewer).zoom *= 1.3
    draw(viewer)
    assert layer.drawn == 100
    assert layer.drawn_words() == "showing 100 of 400"
    assert layer.get_status()["value"] == "showing 100 of 400"
    layer.select([1, 2])
    assert layer.get_status()["value"] == "2 selected · showing 100 of 400"
    qtbot.waitUntil(lambda: layer.drawn == 400, timeout=5000)
    assert layer.get_status()["value"] == "2 selected"
    layer.set_visible(np.arange(400) < 200)
    hooks.scene_camera(viewer).zoom *= 1.3
    draw(viewer)
    assert layer.drawn_words() == f"showing {layer.drawn} of 200"
    assert 60 < layer.drawn < 140  # twice the buffers, half of them hidden


# -- a graphics card that fails


def break_programs(layer, times: int, monkeypatch) -> list:
    """Let the next ``times`` draws of the points raise, as a lost context does."""
    from napari_embed.gui.points.visual import PointCloudVisual

    calls: list = []
    original = PointCloudVisual._draw_pass

    def fail(self, *args):
        calls.append(args)
        if len(calls) <= times:
            raise RuntimeError("OpenGL got errors (after draw): GL_CONTEXT_LOST")
        original(self, *args)

    monkeypatch.setattr(PointCloudVisual, "_draw_pass", fail)
    return calls


def test_buffers_are_made_anew_after_a_lost_context(
    show,  # noqa: F811
    monkeypatch,
    qapp,
) -> None:
    layer = EmbeddingPoints(triangle())
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 20
    viewer = show(layer)
    layer.select([0])
    before = draw(viewer)
    cloud = layer._link._cloud
    break_programs(layer, 1, monkeypatch)
    draw(viewer)
    qapp.processEvents()
    assert layer._link._cloud is not cloud
    assert not layer._link.failed
    np.testing.assert_allclose(draw(viewer), before, atol=0.02)


def test_deleted_buffers_of_the_card_are_replaced(show, qapp) -> None:  # noqa: F811
    """What a driver reset leaves behind: handles that mean nothing any more."""
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer)
    before = draw(viewer)
    viewer.window._qt_viewer.canvas._scene_canvas.set_current()
    gloo.flush()
    link = layer._link
    parser = link.node.canvas.context.shared.parser
    gloo.gl.glUseProgram(0)
    gloo.gl.glDeleteProgram(parser.get_object(link._cloud._program.id).handle)
    cloud = link._cloud
    hooks.scene_camera(viewer).zoom *= 1.0001
    for _ in range(4):
        draw(viewer)
        qapp.processEvents()
    assert link._cloud is not cloud
    np.testing.assert_allclose(draw(viewer), before, atol=0.15)
    assert not link.failed


def test_napari_draws_when_ours_keeps_failing(
    show,  # noqa: F811
    monkeypatch,
    qapp,
) -> None:
    layer = EmbeddingPoints(triangle())
    layer.color_by_categories([0, 1, 2], [RED, GREEN, BLUE])
    layer.point_size = 30
    viewer = show(layer)
    layer.set_visible([0, 1])
    break_programs(layer, 10_000, monkeypatch)

    def draw_often() -> None:
        for _ in range(MOST_FAILURES + 2):
            draw(viewer)
            qapp.processEvents()

    told: list[str] = []
    layer.signals.drawing_failed.connect(told.append)
    with pytest.warns(RuntimeWarning, match="unharmed"):
        draw_often()
    assert layer._link.failed
    assert ["unharmed" in text for text in told] == [True]
    picture = draw(viewer)
    at = on_canvas(layer)
    assert np.argmax(color_at(picture, at[0])) == 0
    assert np.argmax(color_at(picture, at[1])) == 1
    assert color_at(picture, at[2]).max() < 0.1
    # Everything else goes on: picking, colours, hiding, moving.
    assert layer.pick(tuple(at[1])) == 1
    layer.color_uniform("white")
    layer.set_visible([0, 2])
    layer.set_positions(triangle())
    picture = draw(viewer)
    assert color_at(picture, at[2]).min() > 0.4
    assert color_at(picture, at[1]).max() < 0.1
    viewer.layers.remove(layer)


def test_density_that_fails_is_switched_off(
    show,  # noqa: F811
    monkeypatch,
    qapp,
) -> None:
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("white")
    layer.point_size = 20
    viewer = show(layer)

    def refuse(self, size):
        raise RuntimeError("Unsupported framebuffer format")

    monkeypatch.setattr(density.DensityScreen, "_resize", refuse)
    layer.density = "colors"
    draw(viewer)
    with pytest.warns(RuntimeWarning, match="density"):
        qapp.processEvents()
    assert layer.density == "off"
    assert not layer._link.failed
    assert color_at(draw(viewer), on_canvas(layer)[0]).max() > 0.3


def test_a_visual_that_cannot_be_made_leaves_napari_to_draw(
    show,  # noqa: F811
    monkeypatch,
) -> None:
    from napari_embed.gui.points.vispy_layer import VispyEmbeddingPoints

    def refuse(self):
        raise AttributeError("napari has changed")

    monkeypatch.setattr(VispyEmbeddingPoints, "_make_clouds", refuse)
    layer = EmbeddingPoints(triangle())
    layer.color_uniform("white")
    layer.point_size = 20
    with pytest.warns(RuntimeWarning, match="napari has changed"):
        viewer = show(layer)
    assert layer._link is None
    assert draw(viewer).max() > 0.4


def test_style_is_finite_for_maps_without_extent() -> None:
    frame = styling.Frame(np.eye(3), (0, 0, 0), 1.0, (300, 200), True, 3)
    for xyz in (np.zeros((3, 2)), np.full((3, 3), np.nan), np.ones((3, 3)) * 1e6):
        layer = EmbeddingPoints(xyz)
        layer.density = "colors"
        style = styling.frame_style(layer, np.eye(4), frame)
        assert np.isfinite([style.size, style.alpha, style.dimmed_alpha]).all()
        assert np.isfinite(style.exposure.peak)
