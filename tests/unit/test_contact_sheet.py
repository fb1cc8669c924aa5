"""The contact sheet without a window: layout, pages, reader, place on the screen."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from napari_embed.errors import InputError
from napari_embed.gui.link.anchor import ScreenPlace, read_view, sheet_affine, world_at
from napari_embed.gui.link.contact_sheet import (
    compose_sheet,
    fit_thumbnails,
    is_grey,
    plan_sheet,
)
from napari_embed.gui.link.paging import EMPTY_SENTENCE, Paging
from napari_embed.gui.link.reader import PageReader


def _plan(rng, count=None):
    page_size = int(rng.choice([1, 5, 12, 32, 100]))
    count = int(rng.integers(1, page_size + 1)) if count is None else count
    thumbnail = tuple(int(v) for v in rng.integers(3, 100, 2))
    box = tuple(float(v) for v in rng.integers(60, 1200, 2))
    geometry = plan_sheet(
        count,
        page_size=page_size,
        thumbnail=thumbnail,
        box=box,
        full_page=bool(rng.integers(2)),
        frame=int(rng.integers(1, 5)),
        gap=int(rng.integers(2, 9)),
    )
    return geometry, thumbnail, box


# Layout


def test_a_page_of_twelve_is_three_by_four_and_fits():
    geometry = plan_sheet(12, page_size=12, thumbnail=(28, 28), box=(700, 340))
    assert (geometry.columns, geometry.rows) == (3, 4)
    assert (geometry.cell_height, geometry.cell_width) == (84, 84)
    assert geometry.shape[0] <= 700
    assert geometry.shape[1] <= 340


@pytest.mark.parametrize("page_size", [12, 32, 100])
def test_full_pages_fit_the_usual_canvas(page_size):
    geometry = plan_sheet(
        page_size, page_size=page_size, thumbnail=(28, 28), box=(696, 340)
    )
    assert geometry.shape[0] <= 696
    assert geometry.shape[1] <= 340
    assert geometry.rows * geometry.columns >= page_size


def test_a_short_last_page_keeps_the_cells_of_a_full_one():
    keywords = {"page_size": 12, "thumbnail": (28, 28), "box": (700, 340)}
    full = plan_sheet(12, full_page=True, **keywords)
    last = plan_sheet(2, full_page=True, **keywords)
    assert last.pitch == full.pitch
    assert last.columns == full.columns
    assert last.rows == 1
    assert plan_sheet(1, **keywords).cell_width > full.cell_width


def test_a_place_in_a_cell_belongs_to_its_picture(rng):
    for _ in range(50):
        geometry, *_ = _plan(rng)
        seen = set()
        height, width = geometry.shape
        for _ in range(40):
            row, column = rng.uniform(-5, height + 5), rng.uniform(-5, width + 5)
            found = geometry.cell_at(row, column)
            expected = None
            for index in range(geometry.count):
                top, left = geometry.origin(index)
                f = geometry.frame
                if (
                    top - f <= row < top + geometry.cell_height + f
                    and left - f <= column < left + geometry.cell_width + f
                ):
                    expected = index
            assert found == expected
            seen.add(found)
        for index in range(geometry.count):
            top, left = geometry.origin(index)
            assert geometry.cell_at(top, left) == index
    assert geometry.cell_at(np.nan, 3.0) is None


def test_every_picture_of_the_page_is_the_source(rng):
    for dtype, tail in ((np.uint8, (3,)), (np.uint8, ()), (np.uint16, ()), (float, ())):
        for _ in range(10):
            geometry, (h, w), _ = _plan(rng)
            thumbnails = rng.integers(0, 255, (geometry.count, h, w, *tail))
            thumbnails = thumbnails.astype(dtype)
            page = compose_sheet(thumbnails, geometry)
            assert page.dtype == thumbnails.dtype
            assert page.shape[:2] == geometry.shape
            k = geometry.cell_height // h
            if (k * h, k * w) != (geometry.cell_height, geometry.cell_width):
                continue
            for index in range(geometry.count):
                r, c = geometry.origin(index)
                cell = page[r : r + k * h, c : c + k * w]
                np.testing.assert_array_equal(cell[::k, ::k], thumbnails[index])
                np.testing.assert_array_equal(cell[k - 1 :: k, ::k], thumbnails[index])


def test_large_thumbnails_are_averaged_down(rng):
    thumbnails = rng.integers(0, 255, (3, 96, 96, 3)).astype(np.uint8)
    small = fit_thumbnails(thumbnails, (24, 24))
    exact = thumbnails.reshape(3, 24, 4, 24, 4, 3).mean(axis=(2, 4))
    assert small.dtype == np.uint8
    assert np.abs(small.astype(float) - exact).max() <= 0.51


def test_grey_is_told_from_colour(rng):
    grey = rng.integers(0, 255, (4, 5, 6, 1)).astype(np.uint8)
    assert is_grey(grey)
    assert is_grey(grey[..., 0])
    assert is_grey(grey.repeat(3, axis=-1))
    coloured = grey.repeat(3, axis=-1).copy()
    coloured[3, 4, 5, 1] ^= 1
    assert not is_grey(coloured)


def test_wrong_counts_are_refused(rng):
    with pytest.raises(ValueError, match="do not fit"):
        plan_sheet(13, page_size=12, thumbnail=(28, 28), box=(700, 340))
    geometry = plan_sheet(3, page_size=12, thumbnail=(4, 4), box=(700, 340))
    with pytest.raises(ValueError, match="2 thumbnails"):
        compose_sheet(np.zeros((2, 4, 4), np.uint8), geometry)


# Pages


def test_pages_cover_all_ids_once(rng):
    ids = rng.permutation(10_000)[: int(rng.integers(1, 3000))]
    paging = Paging(page_size=12)
    paging.set_ids(ids)
    for order in ("item", "random", "label"):
        paging.set_codes(rng.integers(-1, 5, 10_000))
        paging.set_order(order)
        found = np.concatenate([paging.page_ids(p) for p in range(paging.n_pages)])
        np.testing.assert_array_equal(np.sort(found), np.sort(ids))
        if order == "item":
            np.testing.assert_array_equal(found, ids)


def test_order_by_label_keeps_missing_and_unknown_ids_last():
    paging = Paging()
    paging.set_codes(np.array([2, -1, 0, 1, 0]))
    paging.set_ids([0, 1, 2, 3, 4, 99])
    paging.set_order("label")
    assert paging.ids.tolist() == [2, 4, 3, 0, 1, 99]


def test_ends_and_words():
    paging = Paging(page_size=12)
    assert paging.text() == EMPTY_SENTENCE
    assert not paging.can_go_on
    assert not paging.can_go_back
    paging.set_ids(np.arange(3441))
    paging.jump(1)
    assert paging.text() == "13-24 of 3,441 selected"
    paging.jump(10**9)
    assert paging.page == paging.n_pages - 1 == 286
    assert paging.text() == "3,433-3,441 of 3,441 selected"
    assert not paging.can_go_on
    paging.jump(-5)
    assert paging.page == 0
    paging.set_ids([7])
    assert paging.text() == "1 of 1 selected"


def test_another_page_size_keeps_the_first_picture_on_the_page():
    paging = Paging(page_size=12)
    paging.set_ids(np.arange(1000))
    paging.jump(10)
    paging.set_page_size(100)
    assert 120 in paging.page_ids()


def test_fifty_thousand_pages_keep_no_pages():
    paging = Paging(page_size=12)
    paging.set_ids(np.arange(600_000))
    assert paging.n_pages == 50_000
    for page in (0, 49_999, 12_345):
        paging.jump(page)
        assert np.shares_memory(paging.page_ids(), paging.ids)
        assert paging.page_ids()[0] == page * 12


def test_bad_ids_are_refused():
    with pytest.raises(InputError, match="whole numbers"):
        Paging().set_ids([[1, 2]])
    with pytest.raises(InputError, match="whole numbers"):
        Paging().set_ids([0.5])
    with pytest.raises(InputError, match="no order"):
        Paging().set_order("size")


# Reader


def _ids(*values):
    return np.array(values, dtype=np.int64)


def test_the_newest_request_wins():
    gate, started, results = threading.Event(), threading.Event(), []
    done = threading.Event()

    def read(ids):
        started.set()
        gate.wait(5)
        return np.full((len(ids), 2, 2), ids[0], dtype=np.uint8)

    def on_page(result):
        results.append(result)
        done.set()

    reader = PageReader(read, on_page)
    reader.request(_ids(1))
    assert started.wait(5)
    reader.request(_ids(2))
    last = reader.request(_ids(3))
    gate.set()
    assert done.wait(5)
    assert reader.close()
    assert [r.ids[0] for r in results] == [3]
    assert results[0].generation == last
    assert results[0].thumbnails[0, 0, 0] == 3


def _one(read, *requests, **kwargs):
    results, done = [], threading.Semaphore(0)

    def on_page(result):
        results.append(result)
        done.release()

    reader = PageReader(read, on_page, **kwargs)
    for ids in requests:
        reader.request(ids)
        assert done.acquire(timeout=5)
    assert reader.close()
    return results


def test_a_failing_read_is_a_sentence_and_the_thread_lives():
    def read(ids):
        if ids[0] == 0:
            raise OSError("disk gone")
        return np.zeros((len(ids), 2, 2, 3), np.uint8)

    bad, good = _one(read, _ids(0), _ids(1))
    assert bad.thumbnails is None
    assert "disk gone" in bad.error
    assert good.thumbnails.shape == (1, 2, 2, 3)


@pytest.mark.parametrize(
    "page",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 2), np.uint8),
        np.zeros((1, 4)),
        np.array(["x"]),
        np.zeros((1, 0, 4), np.uint8),
    ],
)
def test_thumbnails_of_a_wrong_shape_are_a_sentence(page):
    (result,) = _one(lambda ids: page, _ids(5))
    assert result.thumbnails is None
    assert "expected" in result.error


def test_pages_are_remembered_within_the_budget():
    reads = []

    def read(ids):
        reads.append(int(ids[0]))
        return np.zeros((1, 10, 10), np.uint8)

    _one(read, _ids(1), _ids(2), _ids(1), cache_bytes=1000)
    assert reads == [1, 2]
    reads.clear()
    _one(read, _ids(1), _ids(2), _ids(1), cache_bytes=150)
    assert reads == [1, 2, 1]


def test_the_next_page_is_read_ahead():
    ahead = threading.Event()

    def read(ids):
        if ids[0] == 2:
            ahead.set()
        return np.zeros((1, 2, 2), np.uint8)

    results = []
    reader = PageReader(read, results.append)
    reader.request(_ids(1), _ids(2))
    assert ahead.wait(5)
    assert reader.close()
    assert [r.ids[0] for r in results] == [1]


def test_a_stuck_read_does_not_hold_the_window():
    gate, started, late = threading.Event(), threading.Event(), []

    def read(ids):
        started.set()
        gate.wait(10)
        return np.zeros((1, 2, 2), np.uint8)

    reader = PageReader(read, late.append)
    reader.request(_ids(1))
    assert started.wait(5)
    assert not reader.close(timeout=0.05)
    gate.set()
    assert reader.close(timeout=5)
    assert late == []


# Place on the screen


def _viewer(rng, ndisplay, order=(0, 1, 2), orientation=("towards", "down", "right")):
    """Return what `read_view` needs of a viewer, with a random camera."""
    quaternion = rng.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    camera = SimpleNamespace(
        center=tuple(rng.normal(size=3)),
        zoom=float(rng.uniform(0.1, 500)),
        view_direction=rotation[0],
        up_direction=rotation[1],
        handedness="right",
        orientation=orientation,
    )
    dims = SimpleNamespace(
        ndim=3, ndisplay=ndisplay, order=order, point=tuple(rng.normal(size=3))
    )
    size = tuple(int(v) for v in rng.integers(300, 1500, 2))
    canvas = SimpleNamespace(
        size=size, viewbox_size=lambda _: size, grid=SimpleNamespace(enabled=False)
    )
    return SimpleNamespace(camera=camera, dims=dims, canvas=canvas, layers=[])


@pytest.mark.parametrize("ndisplay", [2, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_texels_land_on_their_pixels(rng, ndisplay, order):
    for _ in range(20):
        viewer = _viewer(rng, ndisplay, order)
        view = read_view(viewer)
        place = ScreenPlace(float(rng.integers(0, 900)), 12.0, rng.choice([0.5, 1.0]))
        affine = sheet_affine(view, place)
        assert abs(np.linalg.det(affine)) > 0
        row, column = rng.integers(0, 300, 2)
        index = np.zeros(4)
        index[3] = 1
        index[list(view.displayed[-2:])] = row, column
        world = (affine @ index)[:3]
        x = place.left + (column + 0.5) * place.scale
        y = place.top + (row + 0.5) * place.scale
        expected = world_at(view, x, y)
        np.testing.assert_allclose(world[list(view.displayed)], expected, atol=1e-9)
        if ndisplay == 2:
            assert world[view.hidden] == pytest.approx(view.point)
            # Upright: napari slices only along an axis of the layer.
            off = affine[view.hidden, list(view.displayed)]
            np.testing.assert_array_equal(off, 0)


def test_screen_axes_follow_the_orientation(rng):
    flipped = ("towards", "up", "left")
    view = read_view(_viewer(rng, 2, orientation=flipped))
    np.testing.assert_array_equal(view.down, [-1, 0])
    np.testing.assert_array_equal(view.right, [0, -1])
    viewer = _viewer(rng, 3)
    right = read_view(viewer).right
    viewer.camera.handedness = "left"
    np.testing.assert_allclose(read_view(viewer).right, -right)
