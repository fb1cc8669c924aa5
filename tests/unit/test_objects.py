"""Objects of a labels image as items: found, measured, cut, and bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_ome_zarr import new_group, write_image, write_plate

from napari_embed.encoders.channelwise import ChannelwiseEncoder
from napari_embed.engine.pipeline import run_create, run_embed
from napari_embed.engine.progress import JobControl
from napari_embed.errors import InputError
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, open_source
from napari_embed.sources.objects import scan as scan_module
from napari_embed.sources.objects.measure import measure_block, merge_objects
from napari_embed.sources.objects.preview import preview_objects, scale_bar, sheet

pytest.importorskip("ome_zarr_models")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))


def blobs(rng, shape, n=12, dtype=np.uint16):
    """Return labels 1..n as boxes that may touch, in numbers of any order."""
    labels = np.zeros(shape, dtype)
    for number in rng.permutation(n) + 1:
        corner = [rng.integers(0, max(1, s - 6)) for s in shape]
        box = tuple(
            slice(c, c + int(rng.integers(2, 7))) for c in corner
        )  # fmt: skip
        labels[box] = number
    return labels


def add_labels(path: Path, labels, axes="yx", *, name="nuclei", version="0.5", **scale):
    """Write a labels group beside an image."""
    new_group(path / "labels", {"labels": [name]}, version)
    write_image(path / "labels" / name, labels, axes, version=version)


def set_scale(path: Path, um: float, version="0.5"):
    """Give an image a pixel size in micrometres."""
    import zarr

    group = zarr.open_group(str(path), mode="a")
    attributes = group.attrs.asdict()
    inner = attributes["ome"] if version == "0.5" else attributes
    scales = inner["multiscales"][0]
    for axis in scales["axes"]:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    for level in scales["datasets"]:
        step = level["coordinateTransformations"][0]
        step["scale"] = [
            s * um if a["type"] == "space" else s
            for s, a in zip(step["scale"], scales["axes"], strict=True)
        ]
    group.attrs.update(attributes)


def spec_of(path: Path, **options: Any) -> SourceSpec:
    return SourceSpec("objects", str(path), options)


def column(items, name):
    return np.asarray(items[name].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.uint64, np.int64])
@pytest.mark.parametrize("shape", [(1, 40, 50), (7, 30, 33)])
def test_measures_are_those_of_scipy_whatever_the_blocks(rng, dtype, shape):
    labels = blobs(rng, shape, dtype=dtype)
    parts = [
        measure_block(labels[z : z + 3, y : y + 16, x : x + 9], (z, y, x))
        for z in range(0, shape[0], 3)
        for y in range(0, shape[1], 16)
        for x in range(0, shape[2], 9)
    ]
    found = merge_objects(parts, t=0, shape=shape)
    whole = merge_objects([measure_block(labels, (0, 0, 0))], t=0, shape=shape)
    np.testing.assert_array_equal(found["check"], whole["check"])
    ids = np.unique(labels[labels > 0])
    np.testing.assert_array_equal(found["label"], ids)
    np.testing.assert_array_equal(
        found["area"], ndimage.sum_labels(labels > 0, labels, ids)
    )
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, ids))
    for axis, name in enumerate("zyx"):
        np.testing.assert_allclose(found[name], centres[:, axis], rtol=1e-5)
    boxes = ndimage.find_objects(labels.astype(np.int32))
    for row in found:
        box = boxes[int(row["label"]) - 1]
        for axis, name in enumerate("zyx"):
            assert (row[f"{name}0"], row[f"{name}1"]) == (
                box[axis].start, box[axis].stop
            )  # fmt: skip
        edge = any(box[a].start == 0 or box[a].stop == shape[a] for a in (1, 2))
        assert row["edge"] == edge
        planes = (labels == row["label"]).sum(axis=(1, 2))
        assert planes[row["plane"]] == planes.max()


def test_the_checksum_tells_a_painted_pixel(rng):
    labels = blobs(rng, (1, 30, 30))
    before = merge_objects([measure_block(labels, (0, 0, 0))], t=0, shape=labels.shape)
    place = np.argwhere(labels == before["label"][0])
    inside = place[len(place) // 2]
    labels[tuple(inside)] = 0
    after = merge_objects([measure_block(labels, (0, 0, 0))], t=0, shape=labels.shape)
    changed = before["check"] != after["check"]
    np.testing.assert_array_equal(np.flatnonzero(changed), [0])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_crops_are_cut_around_their_object(tmp_path, rng, version):
    image = rng.integers(0, 255, (2, 60, 70), np.uint8)
    labels = blobs(rng, (60, 70))
    write_image(tmp_path / "a.zarr", image, "cyx", version=version)
    add_labels(tmp_path / "a.zarr", labels, version=version)
    set_scale(tmp_path / "a.zarr", 0.5, version)
    spec = spec_of(
        tmp_path / "a.zarr", size="10um", limits="0-255", channels="1", mask="on"
    )
    source = open_source(spec)
    items = source.list_items()
    assert items.num_rows == len(np.unique(labels)) - 1
    padded = np.pad(image[1], 20)
    mask = np.pad(labels, 20)
    for row, (crop, error) in enumerate(source.read(items)):
        assert error is None
        assert crop.shape == (20, 20, 3)
        number = items["label_id"][row].as_py()
        y, x = (
            round(sum(items[f"{end}_{a}"][row].as_py() for end in ("min", "max")) / 2)
            - 10
            for a in "yx"
        )
        expected = np.where(mask == number, padded, 0)[y + 20 : y + 40, x + 20 : x + 40]
        np.testing.assert_array_equal(crop[..., 0], expected)
        full = source.full_resolution(items["source"][row].as_py())
        np.testing.assert_array_equal(full, crop)
    np.testing.assert_allclose(
        column(items, "area_um2"), column(items, "area_px") * 0.25
    )
    np.testing.assert_allclose(
        column(items, "centroid_x_um"), column(items, "centroid_x") * 0.5
    )


def test_stacks_give_their_fullest_or_their_brightest_plane(tmp_path):
    labels = np.zeros((5, 40, 40), np.uint16)
    labels[1, 10:12, 10:12] = labels[2, 8:14, 8:14] = 3
    image = np.zeros((5, 40, 40), np.uint16)
    image[1], image[2] = 900, 400
    write_image(tmp_path / "a.zarr", image, "zyx")
    add_labels(tmp_path / "a.zarr", labels, "zyx")
    for plane, value in (("best", 400), ("max", 900)):
        spec = spec_of(tmp_path / "a.zarr", limits="0-1000", plane=plane, size="6px")
        source = open_source(spec)
        items = source.list_items()
        assert items["plane"].to_pylist() == [2]
        assert items["area_px"].to_pylist() == [40]
        [decoded] = source.read(items)
        assert abs(int(decoded.image.max()) - value * 255 / 1000) <= 1


def test_coarser_labels_fall_on_the_image(tmp_path):
    image = np.zeros((40, 40), np.uint8)
    image[8:16, 12:20] = 200
    labels = np.zeros((20, 20), np.uint8)
    labels[4:8, 6:10] = 1
    write_image(tmp_path / "a.zarr", image, "yx")
    set_scale(tmp_path / "a.zarr", 1.0)
    add_labels(tmp_path / "a.zarr", labels)
    set_scale(tmp_path / "a.zarr" / "labels" / "nuclei", 2.0)
    source = open_source(
        spec_of(tmp_path / "a.zarr", size="8px", limits="0-255", mask="on")
    )
    items = source.list_items()
    [decoded] = source.read(items)
    assert (decoded.image == 200).all()
    assert items["area_px"].to_pylist() == [64]
    assert items["centroid_y"].to_pylist() == [11.5]


def test_rules_leave_objects_out_and_say_so(tmp_path):
    labels = np.zeros((50, 50), np.uint16)
    labels[0:5, 0:5], labels[20:22, 20:22], labels[30:40, 30:40] = 1, 2, 3
    labels[10:14, 30:34] = 4
    write_image(tmp_path / "a.zarr", labels, "yx")
    add_labels(tmp_path / "a.zarr", labels)
    source = open_source(
        spec_of(tmp_path / "a.zarr", edge="leave-out", min_area="5px", max_area="50px")
    )
    assert source.list_items()["label_id"].to_pylist() == [4]
    assert source.notes[:1] == [
        "Left out by the rules: 1 objects at the border, 1 too small, 1 too large.",
    ]


def make_plate(root: Path, rng, wells=("B3", "C4")) -> dict[str, np.ndarray]:
    truth = {}
    pictures = {w: rng.integers(0, 60000, (2, 30, 30), np.uint16) for w in wells}
    write_plate(root, pictures, "0.4")
    for well in wells:
        for number in range(2):
            labels = truth[f"{well[0]}/{well[1:]}/{number}"] = blobs(rng, (30, 30))
            add_labels(root / well[0] / well[1:] / str(number), labels, version="0.4")
    return truth


def test_a_plate_with_missing_wells_and_labels(tmp_path, rng):
    root = tmp_path / "plate.zarr"
    truth = make_plate(root, rng, ("B3", "C4", "D5"))
    shutil.rmtree(root / "D")
    shutil.rmtree(root / "B" / "3" / "1" / "labels")
    del truth["B/3/1"], truth["D/5/0"], truth["D/5/1"]
    source = open_source(spec_of(root))
    items = source.list_items()
    assert items.num_rows == sum(len(np.unique(a)) - 1 for a in truth.values())
    assert set(items["well"].to_pylist()) == {"B3", "C4"}
    assert set(items["field"].to_pylist()) == set(truth)
    assert items["label"].to_pylist() == items["well"].to_pylist()
    assert set(items["plate"].to_pylist()) == {"plate"}
    notes = " ".join(source.notes)
    assert "D5" in notes
    assert "1 of 4 images have no labels" in notes
    assert all(d.image is not None for d in source.read(items))


def test_a_scan_that_was_stopped_goes_on(tmp_path, rng, monkeypatch):
    root = tmp_path / "plate.zarr"
    make_plate(root, rng)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(found: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        open_source(spec_of(root)).list_items(progress=stop)
    calls = []
    monkeypatch.setattr(
        scan_module, "_try_measure",
        lambda task, real=scan_module._try_measure: calls.append(task) or real(task),
    )  # fmt: skip
    whole = open_source(spec_of(root)).list_items()
    assert len(calls) == 3  # one of four was known
    labels = root / "C" / "4" / "1" / "labels" / "nuclei" / "0"
    import zarr

    array = zarr.open_array(str(labels), mode="a")
    array[0:3, 0:3] = 99
    calls.clear()
    again = open_source(spec_of(root)).list_items()
    assert len(calls) == 1
    same = set(whole["source"].to_pylist()) & set(again["source"].to_pylist())
    new = set(again["source"].to_pylist()) - same
    assert any(":99@" in key for key in new)
    assert all(key.startswith("C/4/1:") for key in new)


def test_damaged_remembered_scans_are_done_again(tmp_path, rng):
    write_image(tmp_path / "a.zarr", np.zeros((30, 30), np.uint8), "yx")
    add_labels(tmp_path / "a.zarr", blobs(rng, (30, 30)))
    first = open_source(spec_of(tmp_path / "a.zarr")).list_items()
    for file in (tmp_path / "cache").rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:100])
    assert open_source(spec_of(tmp_path / "a.zarr")).list_items().equals(first)


def test_pairs_of_files_by_table_and_by_folder(tmp_path, rng):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    truth = {}
    for name in ("007", "010"):
        labels = truth[name] = blobs(rng, (40, 50), dtype=np.uint16)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
        picture = rng.integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "t.csv").write_text("id,kind,dose\n007,a,1\n010,b,2\n")
    source = open_source(
        spec_of(
            tmp_path / "t.csv",
            image="images/{id}.png",
            labels="labels/{id}.png",
            label="kind",
        )
    )
    items = source.list_items()
    n = [len(np.unique(a)) - 1 for a in truth.values()]
    assert items["label"].to_pylist() == ["a"] * n[0] + ["b"] * n[1]
    assert items["dose"].to_pylist() == [1] * n[0] + [2] * n[1]
    assert all(d.image.shape[2] == 3 for d in source.read(items))
    folder = open_source(spec_of(tmp_path))
    assert folder.list_items().num_rows == sum(n)
    (tmp_path / "labels" / "010.png").write_bytes(b"no picture")
    partly = open_source(spec_of(tmp_path))
    assert partly.list_items().num_rows == n[0]
    assert "010.png" in " ".join(partly.notes)


def test_channels_joined_make_longer_vectors(tmp_path, rng):
    image = rng.integers(0, 4000, (4, 64, 64), np.uint16)
    labels = np.zeros((64, 64), np.uint16)
    for number in range(16):
        y, x = divmod(number, 4)
        labels[16 * y + 3 : 16 * y + 12, 16 * x + 3 : 16 * x + 12] = number + 1
    write_image(tmp_path / "a.zarr", image, "cyx")
    add_labels(tmp_path / "a.zarr", labels)
    spec = spec_of(tmp_path / "a.zarr", combine="concat")
    run_create(tmp_path / "a.embed", spec, JobControl())
    with Project.open(tmp_path / "a.embed", mode="a") as project:
        # What was decided is kept, so that crops stay as they are.
        assert {"size", "limits"} <= set(project.spec.options)
        assert project.source().channels_each == 4
        result = run_embed(project, EmbedParams(encoder="descriptor"), JobControl())
        assert result.n_failed == 0
        vectors = project.embeddings("descriptor")[:]
        assert vectors.shape == (16, result.info["dim"])
        assert result.info["dim"] % 4 == 0
        assert project.read_thumbnails(np.arange(16)).any()


def test_joined_vectors_keep_their_length_and_their_failures():
    class Half:
        name, dim, metric, fingerprint = "half", 2, "cosine", "f"
        needs_fit, fit_size = False, 0
        failures: dict[int, str] = {}  # noqa: RUF012

        def encode(self, images, *, progress=None):
            self.failures = {i: "dark" for i, im in enumerate(images) if not im.any()}
            vectors = np.tile(np.float32([0.6, 0.8]), (len(images), 1))
            vectors[list(self.failures)] = np.nan
            return vectors

    encoder = ChannelwiseEncoder(Half(), 3)
    images = [np.ones((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)]
    images[1][..., 2] = 0
    vectors = encoder.encode(images)
    np.testing.assert_allclose(np.linalg.norm(vectors[0]), 1, rtol=1e-6)
    assert np.isnan(vectors[1]).all()
    assert encoder.failures == {1: "channel 2: dark"}
    assert encoder.dim == 6
    assert encoder.fingerprint != "f"


def test_preview_before_anything_is_computed(tmp_path, rng):
    write_image(tmp_path / "a.zarr", rng.integers(0, 255, (3, 90, 90), np.uint8), "cyx")
    add_labels(tmp_path / "a.zarr", blobs(rng, (90, 90), n=40))
    set_scale(tmp_path / "a.zarr", 0.25)
    preview = preview_objects(spec_of(tmp_path / "a.zarr"))
    assert len(preview.crops) == 10
    assert preview.um_per_px == 0.25
    assert "\N{MICRO SIGN}m" in preview.words()
    assert sheet(preview).shape[2] == 3
    assert not list(tmp_path.glob("*.embed"))


@pytest.mark.parametrize(
    ("width", "um", "px", "words"),
    [(100, 0.5, 40.0, "20 \N{MICRO SIGN}m"), (64, None, 20.0, "20 px"),
     (30, 0.1, 10.0, "1 \N{MICRO SIGN}m")],
)  # fmt: skip
def test_scale_bars_have_round_lengths(width, um, px, words):
    length, text = scale_bar(width, um)
    assert text == words
    assert length == pytest.approx(px)


# Bad input: a clear message, nothing lost.


def bad(tmp_path, array, image=None, **options):
    image = np.zeros((30, 30), np.uint8) if image is None else image
    write_image(tmp_path / "a.zarr", image, "yx")
    add_labels(tmp_path / "a.zarr", array)
    with pytest.raises(InputError) as raised:
        open_source(spec_of(tmp_path / "a.zarr", **options)).list_items()
    return str(raised.value)


def test_float_labels(tmp_path):
    text = bad(tmp_path, np.ones((30, 30), np.float32))
    assert "float32" in text
    assert "astype" in text


def test_empty_labels(tmp_path):
    assert "hold no objects" in bad(tmp_path, np.zeros((30, 30), np.uint16))


def test_labels_of_another_shape(tmp_path):
    text = bad(tmp_path, np.ones((20, 30), np.uint16))
    assert "1 x 30 x 30" in text
    assert "1 x 20 x 30" in text


def test_labels_of_another_scale(tmp_path):
    # Half the size, but by its metadata every pixel is as large as the image's.
    text = bad(tmp_path, np.ones((15, 15), np.uint16))
    assert "one label pixel is 1 image pixels" in text


def test_micrometres_without_a_pixel_size(tmp_path):
    labels = np.zeros((30, 30), np.uint16)
    labels[3:9, 3:9] = 1
    assert "pixel_size" in bad(tmp_path, labels, min_area="5um2")


def test_label_numbers_beyond_31_and_63_bits(tmp_path):
    labels = np.zeros((30, 30), np.uint64)
    labels[3:9, 3:9] = 2**40 + 1
    write_image(tmp_path / "b.zarr", np.zeros((30, 30), np.uint8), "yx")
    add_labels(tmp_path / "b.zarr", labels)
    source = open_source(spec_of(tmp_path / "b.zarr", mask="on"))
    items = source.list_items()
    assert items["label_id"].to_pylist() == [2**40 + 1]
    assert [d.error for d in source.read(items)] == [None]
    labels[3:9, 3:9] = 2**63 + 5
    assert "2^63" in bad(tmp_path, labels)


def test_unknown_labels_and_options(tmp_path, rng):
    labels = blobs(rng, (30, 30))
    assert "nuclei" in bad(tmp_path, labels, labels="cells")
    for name, value in (
        ("size", "huge"), ("mask", "yes"), ("channels", "a"), ("limits", "5"),
        ("plane", "first"), ("min_area", "-3"), ("normalize", "fixed"),
        ("channels", "7"), ("labels", "../x"), ("tile", "5"),
    ):  # fmt: skip
        with pytest.raises(InputError):
            open_source(spec_of(tmp_path / "a.zarr", **{name: value})).list_items()


def test_labels_that_change_between_listing_and_cutting(tmp_path, rng):
    """An object that is gone gives a black masked crop or an error, not a crash."""
    image = rng.integers(1, 255, (30, 30), np.uint8)
    write_image(tmp_path / "a.zarr", image, "yx")
    add_labels(tmp_path / "a.zarr", blobs(rng, (30, 30)))
    items = open_source(spec_of(tmp_path / "a.zarr")).list_items()
    shutil.rmtree(tmp_path / "a.zarr" / "labels" / "nuclei" / "0")
    source = open_source(spec_of(tmp_path / "a.zarr", mask="on", limits="0-255"))
    decoded = list(source.read(items))
    assert len(decoded) == items.num_rows
    assert all(d.image is None and d.error for d in decoded)


def test_no_object_by_that_name(tmp_path, rng):
    write_image(tmp_path / "a.zarr", np.zeros((30, 30), np.uint8), "yx")
    add_labels(tmp_path / "a.zarr", blobs(rng, (30, 30)))
    source = open_source(spec_of(tmp_path / "a.zarr"))
    for key in (
        "nonsense", ":t0:1@z0-1,y5-5,x0-3,p0#00000000",
        "../b:t0:1@z0-1,y5-7,x0-3,p0#00000000",
        ":t0:1@z0-1,y5-70,x0-3,p0#00000000", ":t4:1@z0-1,y5-7,x0-3,p0#00000000",
    ):  # fmt: skip
        with pytest.raises(InputError):
            source.full_resolution(key)
