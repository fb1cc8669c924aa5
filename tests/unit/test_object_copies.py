"""Layers written as an OME-Zarr: the pixels, their scale, and labels put in place."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError, JobCancelled
from napari_embed.sources import SourceSpec, open_source
from napari_embed.sources.objects import copying
from napari_embed.sources.objects.copying import Pixels, replace_labels, write_pair

pytest.importorskip("ome_zarr_models")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))


def squares(shape, dtype=np.int32):
    """Return labels 1.. as squares of 8 pixels, 16 apart, in all planes."""
    labels = np.zeros(shape, dtype)
    number = 0
    for y in range(4, shape[-2] - 8, 16):
        for x in range(4, shape[-1] - 8, 16):
            number += 1
            labels[..., y : y + 8, x : x + 8] = number
    return labels


def opened(path, **options):
    source = open_source(SourceSpec("objects", str(path), {"labels": "n", **options}))
    return source, source.fields.open(source.fields.names[0])


@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "tzyx"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_every_pixel_of_every_level_is_there(tmp_path, rng, monkeypatch, axes, kind):
    monkeypatch.setattr(copying, "_BLOCK_BYTES", 4000)
    monkeypatch.setattr(copying, "_LEAST_LEVEL_PX", 20)
    monkeypatch.setattr(copying, "_CHUNK_PX", 16)
    shape = (2, 3, 71, 90)[-len(axes) :]
    values = [rng.integers(0, 200, shape).astype(kind) for _ in range(2)]
    labels = squares(shape)
    scale = (1.0, 2.0, 0.5, 0.25)[-len(axes) :]
    write_pair(
        tmp_path / "a.ome.zarr",
        [Pixels(v, axes, scale, "micrometer") for v in values],
        Pixels(labels, axes, scale, "micrometer"),
        name="n", windows=[(0, 200), (10, 90)], names=["a", "b"],
    )  # fmt: skip
    source, found = opened(tmp_path / "a.ome.zarr")
    where = found.image.axes.index("c")
    for number, value in enumerate(values):
        written = np.take(np.asarray(found.image.array), number, axis=where)
        np.testing.assert_array_equal(written, value)
        assert written.dtype == kind
        small = np.take(np.asarray(found.levels[-1]), number, axis=where)
        step = 2 ** (len(found.levels) - 1)
        assert step > 1
        np.testing.assert_array_equal(small, value[..., ::step, ::step])
    np.testing.assert_array_equal(np.asarray(found.labels.array), labels)
    assert source.pixel_um[1:] == (0.5, 0.25)
    assert found.windows == ((0, 200), (10, 90))
    times = shape[0] if "t" in axes else 1
    assert source.list_items().num_rows == times * labels.max()


def test_a_photograph_keeps_its_colours(tmp_path, rng):
    values = rng.integers(0, 255, (3, 40, 40), np.uint8)
    write_pair(
        tmp_path / "a.ome.zarr", [Pixels(v, "yx", (1.0, 1.0)) for v in values],
        Pixels(squares((40, 40)), "yx", (1.0, 1.0)), name="n",
        windows=[(0, 255)] * 3, names=["Red", "Green", "Blue"],
    )  # fmt: skip
    source, found = opened(tmp_path / "a.ome.zarr", size="8px")
    assert found.color
    assert source.pixel_um is None
    crop = next(iter(source.read(source.list_items()))).image
    np.testing.assert_array_equal(crop, np.moveaxis(values[:, 4:12, 4:12], 0, -1))


def test_labels_are_replaced_and_found_again(tmp_path):
    path = tmp_path / "a.ome.zarr"
    labels = squares((64, 64), np.uint16)
    image = Pixels(np.zeros((64, 64), np.uint8), "yx", (1.0, 1.0))
    write_pair(path, [image], Pixels(labels, "yx", (1.0, 1.0)), name="n")
    before = opened(path)[0].list_items()
    edited = labels.copy()
    edited[labels == 2] = 1
    replace_labels(path, Pixels(edited, "yx", (1.0, 1.0)), name="n")
    after = opened(path)[0].list_items()
    assert after.num_rows == before.num_rows - 1
    kept = set(before["source"].to_pylist()) & set(after["source"].to_pylist())
    assert len(kept) == before.num_rows - 2
    assert {p.name for p in (path / "labels").iterdir()} == {"n", "zarr.json"}


def test_what_was_stopped_or_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    pixels = Pixels(np.zeros((32, 32), np.uint8), "yx", (1.0, 1.0))

    def stop():
        raise JobCancelled("stopped")

    with pytest.raises(JobCancelled):
        write_pair(tmp_path / "a.ome.zarr", [pixels], pixels, name="n", check=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be kept"):
        write_pair(tmp_path / "file" / "a.ome.zarr", [pixels], pixels, name="n")
    write_pair(tmp_path / "a.ome.zarr", [pixels], pixels, name="n")
    other = Pixels(np.ones((32, 32), np.uint8), "yx", (1.0, 1.0))
    real, calls = copying.os.replace, []

    def fails_once(a, b):
        calls.append(b)
        if len(calls) == 2:
            raise OSError("no space")
        real(a, b)

    monkeypatch.setattr(copying.os, "replace", fails_once)
    with pytest.raises(InputError, match="no space"):
        replace_labels(tmp_path / "a.ome.zarr", other, name="n")
    _, found = opened(tmp_path / "a.ome.zarr")
    assert not np.asarray(found.labels.array).any()
