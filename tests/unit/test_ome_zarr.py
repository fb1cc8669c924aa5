"""OME-Zarr as a source: versions, axes, tiles, plates, channels, hostile metadata."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_embed.errors import ImageDecodeError, InputError, UnsafePathError
from napari_embed.sources import SourceSpec, detect_source, open_source

pytest.importorskip("ome_zarr_models")

VERSIONS = ("0.4", "0.5")


def write_image(
    path: Path,
    values: np.ndarray,
    axes: str,
    *,
    version: str = "0.5",
    chunk: int = 32,
    omero: dict[str, Any] | None = None,
) -> None:
    """Write a multiscale image of two levels."""
    kinds = {"t": "time", "c": "channel"}
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [
                    float(factor) if a in "yx" else 1.0 for a in axes]}
            ],
        }
        for level, factor in enumerate((1, 2))
    ]  # fmt: skip
    scales: dict[str, Any] = {
        "axes": [{"name": a, "type": kinds.get(a, "space")} for a in axes],
        "datasets": datasets,
    }
    if version == "0.4":
        scales["version"] = "0.4"
    attributes: dict[str, Any] = {"multiscales": [scales]}
    if omero:
        attributes["omero"] = omero
    group = new_group(path, attributes, version)
    halved = (slice(None),) * (len(axes) - 2) + (slice(None, None, 2),) * 2
    for name, level in (("0", values), ("1", values[halved])):
        chunks = tuple(
            min(n, chunk if a in "yx" else 1)
            for a, n in zip(axes, level.shape, strict=True)
        )
        group.create_array(name, data=np.ascontiguousarray(level), chunks=chunks)


def new_group(path: Path, attributes: dict[str, Any], version: str) -> zarr.Group:
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", **attributes}}
    return zarr.open_group(
        str(path), mode="w", zarr_format=2 if version == "0.4" else 3,
        attributes=attributes,
    )  # fmt: skip


def write_plate(root: Path, wells: dict[str, np.ndarray], version: str) -> None:
    rows = sorted({w[0] for w in wells})
    columns = sorted({w[1:] for w in wells})
    plate = {
        "columns": [{"name": c} for c in columns],
        "rows": [{"name": r} for r in rows],
        "wells": [
            {"path": f"{w[0]}/{w[1:]}", "rowIndex": rows.index(w[0]),
             "columnIndex": columns.index(w[1:])}
            for w in wells
        ],
        "field_count": 1,
    }  # fmt: skip
    if version == "0.4":
        plate["version"] = "0.4"
    new_group(root, {"plate": plate}, version)
    for well, values in wells.items():
        folder = root / well[0] / well[1:]
        fields = {"images": [{"path": str(f)} for f in range(len(values))]}
        new_group(folder, {"well": fields}, version)
        for number, image in enumerate(values):
            write_image(folder / str(number), image, "yx", version=version)


def everything(source):
    items = source.list_items()
    return items, list(source.read(items, shrink_to=None))


@pytest.mark.parametrize("version", VERSIONS)
def test_planes_of_time_and_depth(tmp_path, rng, version):
    values = rng.integers(0, 255, (2, 3, 3, 20, 30), np.uint8)
    write_image(tmp_path / "a.zarr", values, "tczyx", version=version)
    spec = detect_source(tmp_path / "a.zarr")
    assert spec.kind == "ome-zarr"
    source = open_source(spec)
    items, images = everything(source)
    assert items.num_rows == 6
    assert set(items.column_names) == {"source", "label", "t", "z"}
    for row, (image, error) in enumerate(images):
        t, z = items["t"][row].as_py(), items["z"][row].as_py()
        assert error is None
        np.testing.assert_array_equal(image, np.moveaxis(values[t, :, z], 0, -1))
    key = items["source"][5].as_py()
    np.testing.assert_array_equal(source.full_resolution(key), images[5].image)


def test_tiles_cover_every_pixel_at_one_size(tmp_path, rng):
    values = rng.integers(0, 255, (70, 101), np.uint8)
    write_image(tmp_path / "a.zarr", values, "yx")
    spec = detect_source(tmp_path / "a.zarr").with_options(tile=32)
    items, images = everything(open_source(spec))
    seen = np.zeros(values.shape, bool)
    for y, x, item in zip(
        items["y"].to_pylist(), items["x"].to_pylist(), images, strict=True
    ):
        assert item.image.shape == (32, 32, 3)
        np.testing.assert_array_equal(
            item.image[..., 1], values[y : y + 32, x : x + 32]
        )
        seen[y : y + 32, x : x + 32] = True
    assert seen.all()
    assert items.num_rows == 3 * 4


def test_large_planes_are_cut_unless_told_otherwise(tmp_path):
    write_image(tmp_path / "a.zarr", np.zeros((64, 1100), np.uint8), "yx", chunk=1100)
    spec = detect_source(tmp_path / "a.zarr")
    assert open_source(spec).list_items().num_rows == 5
    whole = open_source(spec.with_options(tile=0))
    _, [item] = everything(whole)
    assert item.image.shape == (64, 1100, 3)


@pytest.mark.parametrize("version", VERSIONS)
def test_plate_names_wells_and_survives_missing_ones(tmp_path, rng, version, caplog):
    wells = {w: rng.integers(0, 255, (2, 16, 16), np.uint8) for w in ("A1", "A2", "B1")}
    root = tmp_path / "p.zarr"
    write_plate(root, wells, version)
    (root / "A" / "2").rename(tmp_path / "gone")
    (root / "B" / "1" / "1").rename(tmp_path / "gone too")
    source = open_source(detect_source(root))
    items, images = everything(source)
    assert items["label"].to_pylist() == ["A1", "A1", "B1"]
    assert items["field"].to_pylist() == ["A/1/0", "A/1/1", "B/1/0"]
    np.testing.assert_array_equal(images[2].image[..., 0], wells["B1"][0])
    assert "A/2" in caplog.text
    assert "B/1/1" in caplog.text


def test_sixteen_bits_share_one_rule(tmp_path, rng):
    values = rng.integers(100, 4000, (4, 40, 40)).astype(np.uint16)
    values[2] //= 4  # a darker plane must stay darker
    write_image(tmp_path / "a.zarr", values, "zyx")
    _, images = everything(open_source(detect_source(tmp_path / "a.zarr")))
    means = [item.image.mean() for item in images]
    assert means[2] < 0.5 * means[0]
    assert 200 < max(item.image.max() for item in images) <= 255


def test_display_limits_of_the_metadata(tmp_path):
    values = np.full((1, 1, 8, 8), 1500, np.uint16)
    channel = {"color": "FFFFFF", "window":
               {"start": 1000, "end": 2000, "min": 0, "max": 65535}}  # fmt: skip
    write_image(tmp_path / "a.zarr", values, "tcyx", omero={"channels": [channel]})
    _, [item] = everything(open_source(detect_source(tmp_path / "a.zarr")))
    assert abs(int(item.image[0, 0, 0]) - 128) <= 1


def test_choice_of_channels(tmp_path, rng):
    values = rng.integers(0, 255, (5, 12, 12), np.uint8)
    write_image(tmp_path / "a.zarr", values, "cyx")
    spec = detect_source(tmp_path / "a.zarr")
    _, [first] = everything(open_source(spec))
    np.testing.assert_array_equal(first.image, np.moveaxis(values[:3], 0, -1))
    _, [picked] = everything(open_source(spec.with_options(channels="4,0")))
    np.testing.assert_array_equal(picked.image[..., 0], values[4])
    np.testing.assert_array_equal(picked.image[..., 1], values[0])
    assert not picked.image[..., 2].any()
    _, [grey] = everything(open_source(spec.with_options(channels="3")))
    assert (grey.image == values[3][..., None]).all()
    _, [missing] = everything(open_source(spec.with_options(channels="7")))
    assert "only 5" in missing.error


@pytest.mark.parametrize(
    "option",
    [
        {"tile": 3},
        {"tile": "x"},
        {"channels": "a"},
        {"channels": "1,2,3,4"},
        {"label": "x"},
    ],
)
def test_wrong_options(tmp_path, option):
    write_image(tmp_path / "a.zarr", np.zeros((8, 8), np.uint8), "yx")
    with pytest.raises(InputError):
        open_source(detect_source(tmp_path / "a.zarr").with_options(**option))


def test_names_that_lead_outside(tmp_path, rng):
    secret = rng.integers(0, 255, (8, 8), np.uint8)
    write_image(tmp_path / "secret.zarr", secret, "yx")
    root = tmp_path / "a.zarr"
    for name in ("../secret.zarr/0", "/etc", "..\\x", "0/../../secret.zarr/0"):
        write_image(root, np.zeros((8, 8), np.uint8), "yx")
        file = root / "zarr.json"
        meta = json.loads(file.read_text())
        meta["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = name
        file.write_text(json.dumps(meta))
        with pytest.raises(UnsafePathError, match="outside"):
            open_source(SourceSpec("ome-zarr", str(root))).list_items()


def test_keys_from_a_foreign_project(tmp_path):
    write_image(tmp_path / "a.zarr", np.zeros((8, 8), np.uint8), "yx")
    source = open_source(detect_source(tmp_path / "a.zarr"))
    for key in ("", "../x:t0:z0:y0:x0", ":t9:z0:y0:x0", ":t0:z0:y-1:x0", "nonsense"):
        with pytest.raises(ImageDecodeError):
            source.full_resolution(key)


@pytest.mark.parametrize("broken", ["axes", "datasets", "shape", "text"])
def test_broken_metadata_say_what_is_wrong(tmp_path, broken):
    root = tmp_path / "a.zarr"
    write_image(root, np.zeros((8, 8), np.uint8), "yx")
    file = root / "zarr.json"
    meta = json.loads(file.read_text())
    scales = meta["attributes"]["ome"]["multiscales"]
    if broken == "axes":
        scales[0]["axes"] = scales[0]["axes"][::-1]
    elif broken == "datasets":
        scales[0]["datasets"] = []
    elif broken == "shape":
        scales[0]["axes"].insert(0, {"name": "z", "type": "space"})
    else:
        meta["attributes"]["ome"]["multiscales"] = "nothing"
    file.write_text(json.dumps(meta))
    with pytest.raises(InputError) as caught:
        open_source(SourceSpec("ome-zarr", str(root))).list_items()
    print(caught.value)
    assert str(root) in str(caught.value)


def test_damaged_chunk_costs_only_its_planes(tmp_path, rng):
    values = rng.integers(0, 255, (3, 16, 16), np.uint8)
    root = tmp_path / "a.zarr"
    write_image(root, values, "zyx")
    (root / "0" / "c" / "1" / "0" / "0").write_bytes(b"damaged")
    _, images = everything(open_source(detect_source(root)))
    assert [item.image is None for item in images] == [False, True, False]
    assert "cannot be read" in images[1].error


@pytest.mark.parametrize("name", ["dsb_montage_v04", "dsb_montage_v05"])
def test_files_of_another_writer(shared_data, tmp_path, name):
    with zipfile.ZipFile(shared_data / f"{name}.ome.zarr.zip") as archive:
        archive.extractall(tmp_path)
    [root] = tmp_path.glob("*.zarr")
    source = open_source(detect_source(root))
    items, images = everything(source)
    assert items.num_rows == 64
    assert all(item.error is None for item in images)
    assert images[0].image.shape == (256, 256, 3)
    whole = np.asarray(zarr.open(str(root / "s0"), mode="r")[0])
    np.testing.assert_array_equal(images[9].image[..., 2], whole[256:512, 256:512])
