"""Arrays of 16-bit and float images, from the file to the layer and the full image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from qtpy.QtWidgets import QApplication

from napari_embed.arrays import Projection
from napari_embed.gui.docks.gallery import GalleryPanel
from napari_embed.gui.docks.image import ImagePanel
from napari_embed.gui.link.contact_sheet import fit_values
from napari_embed.gui.session import close_session, session_for
from napari_embed.gui.thumbnails import Thumbnails
from napari_embed.project import Project
from napari_embed.sources import detect_source, open_source

pytestmark = pytest.mark.gui
N, SIDE = 80, 20


def _stack(rng, dtype):
    """Images whose brightness tells their id, with one hot pixel each."""
    level = np.linspace(300, 4000, N)[:, None, None]
    images = level + rng.normal(0, 20, (N, SIDE, SIDE))
    images[:, 0, 0] = 60_000
    return images.astype(dtype)


def _project(folder: Path, images, suffix=".npy", rng=None) -> Project:
    file = folder / f"cells{suffix}"
    if suffix == ".npy":
        np.save(file, images)
    elif suffix == ".npz":
        np.savez_compressed(file, images=images)
    else:
        zarr.create_array(str(file), data=images, chunks=(16, *images.shape[1:]))
    project = Project.create(folder / "cells.embed", detect_source(file))
    positions = np.random.default_rng(0).normal(size=(len(images), 3))
    project.write_projection(
        "tsne-3d", Projection(positions.astype(np.float32)), fingerprint="f"
    )
    return project


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
def test_sixteen_bit_numbers_stay_as_they_are(tmp_path, rng, suffix):
    images = _stack(rng, np.uint16)
    with _project(tmp_path, images, suffix) as project:
        read = Thumbnails(project)
        ids = rng.permutation(N)[:12]
        pictures = read(ids)
        assert pictures.dtype == np.uint16
        np.testing.assert_array_equal(pictures, images[ids])
        known = read.value_range
        assert 250 < known.limits[0] < 320
        assert 3900 < known.limits[1] < 60_001
        assert known.extremes[1] == 60_000
        np.testing.assert_array_equal(read.full(7).values, images[7])


@pytest.mark.parametrize(
    ("dtype", "shape", "kept"),
    [
        (np.int16, (SIDE, SIDE), np.int16),
        (np.float64, (SIDE, SIDE), np.float32),
        (np.uint32, (1, SIDE, SIDE), np.float32),
        (np.uint16, (SIDE, SIDE, 1), np.uint16),
        (np.uint8, (SIDE, SIDE), np.uint8),
        (np.uint16, (3, SIDE, SIDE), np.uint8),
        (np.uint16, (2, SIDE, SIDE), np.uint8),
    ],
)
def test_which_arrays_come_as_numbers(tmp_path, rng, dtype, shape, kept):
    images = rng.integers(0, 30_000, (N, *shape)) % np.iinfo(np.int16).max
    images = (images % 256 if dtype == np.uint8 else images).astype(dtype)
    with _project(tmp_path, images) as project:
        pictures = Thumbnails(project)(np.arange(5))
        assert pictures.dtype == kept
        one = kept != np.uint8
        assert pictures.shape == (5, SIDE, SIDE) + (() if one else (3,))


def test_two_channels_are_green_and_magenta(tmp_path):
    images = np.zeros((4, 2, 8, 8), np.uint8)
    images[:, 0, :4], images[:, 1, 2:] = 200, 90
    np.save(tmp_path / "two.npy", images)
    source = open_source(detect_source(tmp_path / "two.npy"))
    shown = source.full_resolution("1")
    assert shown[0, 0].tolist() == [0, 200, 0]
    assert shown[3, 0].tolist() == [90, 200, 90]
    assert shown[7, 0].tolist() == [90, 0, 90]


def test_large_images_and_an_array_that_is_gone_come_as_thumbnails(tmp_path, rng):
    large = np.zeros((3, 800, 800), np.uint16)
    with _project(tmp_path, large) as project:
        assert Thumbnails(project)(np.arange(2)).dtype == np.uint8
        full = Thumbnails(project).full(1)
        assert full.values.shape == (800, 800, 3)
    (tmp_path / "b").mkdir()
    with _project(tmp_path / "b", _stack(rng, np.uint16)) as project:
        (tmp_path / "b" / "cells.npy").unlink()
        read = Thumbnails(project)
        assert read(np.arange(3)).dtype == np.uint8
        assert read.value_range is None
        assert "no file" in read.full(1).error


def test_fitting_keeps_type_mean_and_proportions(rng):
    values = rng.integers(0, 60_000, (3, 40, 80)).astype(np.uint16)
    small = fit_values(values, 20, background=7)
    assert small.dtype == np.uint16
    assert (small[:, :5] == 7).all()
    assert (small[:, 15:] == 7).all()
    blocks = values.reshape(3, 10, 4, 20, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(small[:, 5:15], blocks, atol=1)
    large = fit_values(values[:, :2, :2], 6, background=0)
    np.testing.assert_array_equal(large, values[:, :2, :2].repeat(3, 1).repeat(3, 2))


def test_layer_gallery_and_full_image_share_the_contrast(
    make_napari_viewer, qtbot, tmp_path, monkeypatch, rng
):
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    images = _stack(rng, np.uint16)
    _project(tmp_path, images).close()
    viewer = make_napari_viewer()
    gallery, image = GalleryPanel(viewer), ImagePanel(viewer)
    session = session_for(viewer)
    for panel in (gallery, image):
        qtbot.addWidget(panel)
        panel.show()
    controller = session.controller
    gallery.resize(1200, 900)

    def settle(condition):
        qtbot.waitUntil(condition, timeout=30_000)
        QApplication.processEvents()

    try:
        controller.open_path(tmp_path / "cells.embed")
        settle(lambda: session.map.link is not None or controller.state.message)
        assert controller.state.message is None
        settle(lambda: len(gallery.model.ids) == N)
        settle(lambda: gallery.model.image(N - 1) is not None)
        dark, bright = (gallery.model.image(row).pixelColor(5, 5) for row in (0, N - 1))
        assert dark.red() < 40
        assert bright.red() > 5 * max(dark.red(), 1)
        controller.select([N - 1, N - 2])
        settle(lambda: session.map.link.layer is not None)
        layer = session.map.link.layer
        assert not layer.rgb
        assert layer.dtype == np.uint16
        known = session.map.link.read_thumbnails.value_range
        assert tuple(layer.contrast_limits) == pytest.approx(known.limits)
        assert layer.contrast_limits_range[1] == pytest.approx(60_000)
        image.show_item(40)
        settle(lambda: image._full is not None)
        assert image.facts.text() == f"{SIDE} x {SIDE} pixels, uint16"
        layer.contrast_limits = (0, 8000)
        value = int(images[40, 9, 9])
        shown = image.view._item.pixmap().toImage().pixelColor(9, 9).red()
        assert shown == pytest.approx(value * 255 / 8000, abs=1)
        layer.colormap = "green"
        assert image.view._item.pixmap().toImage().pixelColor(9, 9).red() == 0
        controller.select([3])  # another page keeps contrast and colours
        settle(lambda: session.map.link.shown_ids.tolist() == [3])
        assert session.map.link.layer is layer
        assert tuple(layer.contrast_limits) == (0, 8000)
    finally:
        close_session(viewer)
