"""Sources: detection, listing, reading; folders, tables, arrays, vectors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from napari_embed.errors import ImageDecodeError, InputError, ManifestError
from napari_embed.sources import SourceSpec, detect_source, open_source
from napari_embed.sources.reading import map_in_order


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read_all(source, **options):
    items = source.list_items()
    return items, list(source.read(items, **options))


# specs and detection


def test_spec_round_trip_and_refusals():
    spec = SourceSpec("table", "a.csv", {"root": "/x", "n": 3, "flag": True, "o": None})
    assert SourceSpec.from_dict(spec.to_dict()) == spec
    for bad in ({}, {"kind": "folder"}, {"kind": 3, "path": "x"},
                {"kind": "folder", "path": "x", "options": {"a": []}}):  # fmt: skip
        with pytest.raises(InputError):
            SourceSpec.from_dict(bad)
    with pytest.raises(InputError, match="Unknown kind"):
        SourceSpec("nope", "x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NUL"):
        SourceSpec("folder", "a\0b")


def test_detect(tmp_path, rng):
    stack, flat = rng.random((5, 4, 6)), rng.random((5, 4))
    np.save(tmp_path / "i.npy", stack)
    np.save(tmp_path / "v.npy", flat)
    np.save(tmp_path / "one.npy", flat[0])
    np.savez(tmp_path / "i.npz", images=stack, labels=np.arange(5))
    zarr.save_array(tmp_path / "i.zarr", stack)
    (tmp_path / "t.csv").write_text("path,label\na.png,x\n")
    pq.write_table(pa.table({"embedding": flat.tolist()}), tmp_path / "v.parquet")
    pq.write_table(
        pa.table({"embedding": flat.tolist(), "path": ["a"] * 5}),
        tmp_path / "t.parquet",
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.doc").write_bytes(b"")
    kinds = {
        "i.npy": "images", "v.npy": "vectors", "i.npz": "images", "i.zarr": "images",
        "t.csv": "table", "v.parquet": "vectors", "t.parquet": "table",
        "folder": "folder",
    }  # fmt: skip
    for name, kind in kinds.items():
        assert detect_source(tmp_path / name).kind == kind, name
    assert detect_source("sample").kind == "sample"
    for name, text in {
        "none": "nothing at", "a.png": "one image", "a.doc": "not a known kind",
        "one.npy": "dimensions",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=text):
            detect_source(tmp_path / name)


# folder


def test_folder_is_recursive_and_proposes_labels(tmp_path, rng):
    pixels = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    names = ["top.png", "cat/1.JPG", "cat/2.jpeg", "train/dog/3.webp", "dog/4.bmp",
             "dog/5.gif", "dog/6.tiff"]  # fmt: skip
    for name in names:
        save_image(tmp_path / name, pixels)
    for skipped in (".hidden/7.png", "__MACOSX/8.png", ".9.png"):
        save_image(tmp_path / skipped, pixels)
    (tmp_path / "cat/notes.txt").write_text("x")
    items, decoded = read_all(open_source(SourceSpec("folder", str(tmp_path))))
    assert items["source"].to_pylist() == sorted(names)
    labels = dict(
        zip(items["source"].to_pylist(), items["label"].to_pylist(), strict=True)
    )
    assert labels["top.png"] is None
    assert labels["train/dog/3.webp"] == "dog"
    assert "train/dog" in items["folder"].to_pylist()
    for name, item in zip(items["source"].to_pylist(), decoded, strict=True):
        assert item.error is None, name
        assert item.image.shape == (7, 9, 3)
        if name.endswith(("png", "bmp", "tiff")):
            np.testing.assert_array_equal(item.image, pixels)


def test_folder_errors_are_clear(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        open_source(SourceSpec("folder", str(tmp_path / "none")))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="it is a file"):
        open_source(SourceSpec("folder", str(tmp_path / "a.txt")))
    with pytest.raises(InputError, match=r"No images below.*\.jpg"):
        open_source(SourceSpec("folder", str(tmp_path))).list_items()


def test_bad_images_have_reasons_and_cost_nobody_else(tmp_path, rng):
    good = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    save_image(tmp_path / "a.png", good)
    save_image(tmp_path / "b.jpg", good)
    (tmp_path / "c.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:200])
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    save_image(tmp_path / "z.png", good)
    source = open_source(SourceSpec("folder", str(tmp_path)))
    items, decoded = read_all(source)
    (tmp_path / "z.png").unlink()
    gone = list(source.read(items))[-1]
    assert "No such file" in gone.error
    errors = {
        n: d.error for n, d in zip(items["source"].to_pylist(), decoded, strict=True)
    }
    assert [n for n, e in errors.items() if e is None] == ["a.png", "b.jpg", "z.png"]
    assert "damaged" in errors["c.jpg"]
    assert "known format" in errors["d.png"]
    assert "known format" in errors["e.png"]


def test_shrink_keeps_the_shorter_side_long_enough(tmp_path, rng):
    for name in ("a.png", "b.jpg"):
        save_image(tmp_path / name, rng.integers(0, 256, (300, 900, 3), dtype=np.uint8))
    source = open_source(SourceSpec("folder", str(tmp_path)))
    # JPEG is reduced by 2, 4 or 8 inside the decoder, the others by any whole factor.
    for shrink_to, png, jpg in (
        (None, 300, 300), (300, 300, 300), (150, 150, 150), (70, 75, 75), (20, 20, 38),
    ):  # fmt: skip
        _, decoded = read_all(source, shrink_to=shrink_to)
        assert [item.image.shape[0] for item in decoded] == [png, jpg]
        for item in decoded:
            assert abs(item.image.shape[1] - 3 * item.image.shape[0]) <= 3
    assert source.full_resolution("a.png").shape == (300, 900, 3)


# tables


@pytest.fixture
def pictures(tmp_path, rng):
    for i in range(4):
        save_image(
            tmp_path / f"img/{i}.png", rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        )
    return tmp_path


@pytest.mark.parametrize(
    "column", ["image_path", "Path", "FILEPATH", "file", "filename"]
)
def test_table_columns_are_recognised(pictures, column):
    rows = "".join(f"{i}.5,{i},{-i},img/{i}.png,00{i},é{i}\n" for i in range(4))
    text = f"x,Y,z,{column},Label,note\n{rows}"
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t"), ("semicolon.csv", ";")):
        (pictures / name).write_text(text.replace(",", delimiter), encoding="utf-8-sig")
        source = open_source(detect_source(pictures / name))
        items, decoded = read_all(source)
        assert items["source"].to_pylist() == [f"img/{i}.png" for i in range(4)]
        assert items["label"].to_pylist() == [f"00{i}" for i in range(4)]
        assert items["note"].to_pylist() == [f"é{i}" for i in range(4)]
        assert all(d.error is None for d in decoded)
        np.testing.assert_array_equal(
            source.positions(), [(i + 0.5, i, -i) for i in range(4)]
        )
        assert source.vectors() is None


def test_parquet_with_paths_and_vectors(pictures, rng):
    vectors = rng.normal(size=(4, 3)).astype(np.float32)
    table = pa.table(
        {
            "file": [f"img/{i}.png" for i in range(4)],
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.ravel()), 3
            ),
            "id": ["a", "b", "c", "d"],
            "score": [1.0, None, 3.0, 4.0],
        }
    )
    pq.write_table(table, pictures / "t.parquet", row_group_size=3)
    source = open_source(detect_source(pictures / "t.parquet"))
    items, decoded = read_all(source)
    assert items.column_names == ["source", "label", "original_id", "score"]
    assert all(d.error is None for d in decoded)
    got = source.vectors()
    assert got.shape == (4, 3)
    np.testing.assert_array_equal(got[1:4], vectors[1:4])
    np.testing.assert_array_equal(got[[3, 0]], vectors[[3, 0]])
    assert source.positions() is None


def test_table_errors_are_clear(pictures):
    def table(text: str | bytes, name: str = "t.csv", **options):
        path = pictures / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_source(SourceSpec("table", str(path), options)).list_items()

    for text, message in (
        ("", "no header"),
        ("a,b\n1,2\n", "expected image paths"),
        ("path,path\na,b\n", "two columns named path"),
        ("path\n", "0 rows"),
        ("path,label\nimg/0.png\n", "malformed"),
        (b"path\n\xff\xfe\n", "malformed|UTF-8"),
        (b"path,\xff\n1,2\n", "UTF-8"),
        ("id,path\n1,img/0.png\n1,img/1.png\n2,img/2.png\n", "unique.*such as 1"),
        ("path\n/etc/hostname\n../x.png\n", "image root"),
        ("path\nno/such.png\n", "image root"),
    ):
        with pytest.raises(ManifestError, match=message):
            table(text)
    with pytest.raises(ManifestError, match="no column 'nope'"):
        table("path\nimg/0.png\n", image_path="nope")
    with pytest.raises(InputError, match="not a folder"):
        table("path\nimg/0.png\n", root="nowhere")
    (pictures / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ManifestError, match="cannot be read"):
        detect_source(pictures / "t.parquet")
    (pictures / "xy.csv").write_text("x,y\n1,2\na,3\n")
    source = open_source(SourceSpec("table", str(pictures / "xy.csv")))
    with pytest.raises(ManifestError, match="must hold numbers"):
        source.positions()


def test_table_root_and_absolute_paths(pictures, tmp_path_factory):
    other = tmp_path_factory.mktemp("tables")
    path = other / "t.csv"
    rows = [f"{pictures}/img/0.png", "1.png", "", "../../x.png"]
    path.write_text("path\n" + "\n".join(f'"{r}"' for r in rows) + "\n")
    source = open_source(
        SourceSpec("table", str(path), {"root": str(pictures / "img")})
    )
    items, decoded = read_all(source)
    assert items["source"].to_pylist() == rows
    assert [d.error is None for d in decoded] == [True, True, False, False]
    assert "no image path" in decoded[2].error
    assert "outside" in decoded[3].error


def test_table_without_images_gives_a_layout(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,label\n1,2,a\n,4,b\n")
    source = open_source(detect_source(tmp_path / "t.csv"))
    assert not source.has_images
    items, decoded = read_all(source)
    assert items["x"].to_pylist() == [1, None]
    assert all(d.image is None and d.error for d in decoded)
    np.testing.assert_array_equal(source.positions(), [(1, 2), (np.nan, 4)])


# arrays


@pytest.mark.parametrize("suffix", ["npy", "npz", "zarr2", "zarr3"])
@pytest.mark.parametrize("layout", ["NHW", "NHWC1", "NHWC3", "NHWC4", "NCHW3"])
def test_arrays_in_every_layout(tmp_path, rng, suffix, layout):
    shape = {"NHW": (6, 8, 10), "NHWC1": (6, 8, 10, 1), "NHWC3": (6, 8, 10, 3),
             "NHWC4": (6, 8, 10, 4), "NCHW3": (6, 3, 8, 10)}[layout]  # fmt: skip
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"a.{suffix.rstrip('23')}"
    if suffix == "npy":
        np.save(path, images)
    elif suffix == "npz":
        names = np.array(["zero", "one", "two"])
        np.savez(path, images=images, labels=np.arange(6) % 3, label_names=names)
    else:
        zarr.save_array(path, images, zarr_format=int(suffix[-1]))
    source = open_source(detect_source(path))
    items, decoded = read_all(source)
    expected = images
    if layout == "NHW":
        expected = np.repeat(images[..., None], 3, -1)
    elif layout == "NHWC1":
        expected = np.repeat(images, 3, -1)
    elif layout == "NCHW3":
        expected = np.moveaxis(images, 1, -1)
    np.testing.assert_array_equal([d.image for d in decoded], expected[..., :3])
    if suffix == "npz":
        assert items["label"].to_pylist() == ["zero", "one", "two"] * 2
    picked = items.take(pa.array([4, 0, 4]))
    for item, row in zip(source.read(picked), (4, 0, 4), strict=True):
        np.testing.assert_array_equal(item.image, expected[row, ..., :3])
    np.testing.assert_array_equal(source.full_resolution("2"), expected[2, ..., :3])


def test_other_types_are_scaled_by_one_rule_per_array(tmp_path, rng):
    ramp = np.linspace(0, 1, 20 * 8 * 8).reshape(20, 8, 8)
    cases = {
        "f4": (ramp.astype("f4"), ramp * 255),
        "bool": (ramp > 0.5, (ramp > 0.5) * 255.0),
        "u2": ((ramp * 4095).astype("u2"), ramp * 255),
        "f8": (ramp * 2000 - 1000, ramp * 255),
        "i4": ((ramp * 1e6).astype("i4"), ramp * 255),
    }
    for name, (values, expected) in cases.items():
        np.save(tmp_path / f"{name}.npy", values)
        _, decoded = read_all(open_source(detect_source(tmp_path / f"{name}.npy")))
        got = np.array([d.image[..., 0] for d in decoded], float)
        assert np.abs(got - expected).max() < 2, name
    values = ramp.astype("f4")
    values[3] = np.nan
    values[4, 0] = np.nan
    np.save(tmp_path / "nan.npy", values)
    _, decoded = read_all(open_source(detect_source(tmp_path / "nan.npy")))
    assert "finite" in decoded[3].error
    assert [d.error for i, d in enumerate(decoded) if i != 3] == [None] * 19


def test_array_errors_are_clear(tmp_path, rng):
    def listed(content, name="a.npy", kind="images", **options):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        else:
            np.save(path, content)
        return open_source(SourceSpec(kind, str(path), options)).list_items()

    for content, message in (
        (np.zeros((5, 8, 9, 7)), "1 to 4 channels"),
        (np.zeros((5, 8, 3)), "one colour image"),
        (np.zeros((5, 8)), "expected images"),
        (np.zeros((2, 2, 2, 2, 2)), "expected images"),
        (np.zeros((0, 4, 4)), "from 1 to"),
        (np.array([[["a"]]]), "expected images"),
    ):
        with pytest.raises(InputError, match=message):
            listed(content)
    images = np.zeros((4, 5, 5), "u1")
    with pytest.raises(InputError, match="one label per item"):
        listed({"images": images, "labels": np.zeros(3)}, "a.npz")
    with pytest.raises(InputError, match="several could be meant"):
        listed({"one": images, "two": images}, "b.npz")
    assert listed({"one": images, "two": images}, "b.npz", array="two").num_rows == 4
    with pytest.raises(InputError, match="no array 'three'"):
        listed({"one": images}, "c.npz", array="three")
    with pytest.raises(InputError, match="no file"):
        open_source(SourceSpec("images", str(tmp_path / "none.npy")))
    np.save(tmp_path / "o.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="objects are refused"):
        open_source(SourceSpec("images", str(tmp_path / "o.npy")))
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match="cannot be read"):
        open_source(SourceSpec("images", str(tmp_path / "junk.npz")))


def test_a_damaged_zarr_chunk_costs_only_its_images(tmp_path, rng):
    images = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=images.shape, chunks=(4, 8, 8), dtype="u1"
    )
    array[:] = images
    (tmp_path / "a.zarr/c/1/0/0").write_bytes(b"rotten")
    _, decoded = read_all(open_source(detect_source(tmp_path / "a.zarr")))
    assert [d.error is None for d in decoded] == [True] * 4 + [False] * 4 + [True] * 4


def test_zarr_groups_and_chunk_bombs(tmp_path, rng):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("images", data=rng.integers(0, 9, (3, 6, 7), dtype=np.uint8))
    group.create_array("labels", data=np.array([2, 0, 1]))
    items, _ = read_all(open_source(detect_source(tmp_path / "g.zarr")))
    assert items["label"].to_pylist() == ["2", "0", "1"]
    zarr.create_array(
        tmp_path / "bomb.zarr", shape=(1000, 10**6, 10**3),
        chunks=(1000, 10**6, 10**3), dtype="u1",
    )  # fmt: skip
    with pytest.raises(InputError, match="256 MiB"):
        detect_source(tmp_path / "bomb.zarr")


# vectors


@pytest.mark.parametrize("suffix", ["npy", "npz", "zarr", "parquet"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4"])
def test_vectors_from_every_container(tmp_path, rng, suffix, dtype):
    vectors = (rng.normal(size=(30, 5)) * 10).astype(dtype)
    labels = [None if i == 3 else f"c{i % 4}" for i in range(30)]
    path = tmp_path / f"v.{suffix}"
    if suffix == "npy":
        np.save(path, vectors)
    elif suffix == "npz":
        np.savez(path, embeddings=vectors, labels=np.arange(30) % 4)
    elif suffix == "zarr":
        stored = zarr.create_array(path, shape=(30, 5), chunks=(7, 5), dtype=dtype)
        stored[:] = vectors
    else:
        table = pa.table({"v": list(vectors), "label": labels})
        pq.write_table(table, path, row_group_size=8)
    source = open_source(detect_source(path))
    items, decoded = read_all(source)
    assert not source.has_images
    assert items.num_rows == 30
    if suffix in ("npz", "parquet"):
        assert items["label"].to_pylist()[:5] == (
            ["0", "1", "2", "3", "0"] if suffix == "npz" else labels[:5]
        )
    assert all(d.error for d in decoded)
    lazy = source.vectors()
    assert (lazy.shape, lazy.dtype) == ((30, 5), np.float32)
    expected = vectors.astype(np.float32)
    np.testing.assert_array_equal(lazy[4:17], expected[4:17])
    np.testing.assert_array_equal(lazy[[20, 3]], expected[[20, 3]])
    np.testing.assert_array_equal(np.asarray(lazy), expected)


def test_vectors_that_are_a_layout_already(tmp_path, rng):
    for columns in (2, 3):
        np.save(tmp_path / "v.npy", rng.normal(size=(9, columns)))
        assert open_source(detect_source(tmp_path / "v.npy")).positions().shape == (
            9,
            columns,
        )


def test_ragged_and_missing_vectors(tmp_path):
    rows = [[1.0, 2.0], None, [3.0, 4.0], [5.0]]
    pq.write_table(pa.table({"v": rows}), tmp_path / "v.parquet")
    lazy = open_source(detect_source(tmp_path / "v.parquet")).vectors()
    with pytest.raises(ManifestError, match="row 3 has 1 numbers"):
        lazy[:]
    pq.write_table(pa.table({"v": rows[:3]}), tmp_path / "w.parquet")
    got = open_source(detect_source(tmp_path / "w.parquet")).vectors()[:]
    np.testing.assert_array_equal(got, [[1, 2], [np.nan, np.nan], [3, 4]])


# reading in threads


def test_map_in_order_is_ordered_bounded_and_closes(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert list(map_in_order(lambda x: x * x, range(1000))) == [
        x * x for x in range(1000)
    ]
    started: list[int] = []
    generator = map_in_order(lambda x: started.append(x) or x, range(10_000))
    assert [next(generator) for _ in range(5)] == list(range(5))
    generator.close()
    assert len(started) < 1000
    assert not [t for t in threading.enumerate() if "embed-read" in t.name]

    def fail(x: int) -> int:
        if x == 100:
            raise ImageDecodeError("no")
        return x

    with pytest.raises(ImageDecodeError):
        list(map_in_order(fail, range(1000)))


# what people really have


def labels_of(path, **arrays):
    np.savez(path, images=np.zeros((3, 5, 5), "u1"), **arrays)
    return open_source(detect_source(path)).list_items()["label"].to_pylist()


def test_labels_keep_their_text_and_all_digits(tmp_path):
    path = tmp_path / "a.npz"
    byte_strings = np.array([b"cat", b"dog", "Käfer".encode()])
    assert labels_of(path, labels=byte_strings) == ["cat", "dog", "Käfer"]
    named = {"labels": np.array([1, 0, 7]), "classes": np.array([b"x", b"y"])}
    assert labels_of(path, **named) == ["y", "x", None]
    numbers = np.array([1234567.0, 1234568.0, np.nan])
    assert labels_of(path, labels=numbers) == ["1234567", "1234568", None]
    assert labels_of(path, y=np.array([0.1, 2, np.inf], "f4")) == ["0.1", "2", "inf"]


def test_an_array_y_that_is_no_list_of_labels_is_left_alone(tmp_path):
    assert labels_of(tmp_path / "a.npz", y=np.zeros((3, 2))) == [None] * 3
    one_hot = {"y": np.zeros((3, 2)), "targets": np.arange(3)}
    assert labels_of(tmp_path / "b.npz", **one_hot) == ["0", "1", "2"]


def test_the_option_label_names_an_array(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.zeros((3, 4)), labels=np.arange(3), kind=np.array(list("abc")))
    source = open_source(detect_source(path).with_options(label="kind"))
    assert source.list_items()["label"].to_pylist() == ["a", "b", "c"]
    with pytest.raises(InputError, match="no array 'sort'"):
        open_source(detect_source(path).with_options(label="sort")).list_items()


def test_options_that_would_do_nothing_are_refused(tmp_path):
    np.save(tmp_path / "v.npy", np.zeros((5, 4)))
    np.save(tmp_path / "i.npy", np.zeros((5, 4, 4)))
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    for name, option in {
        "": "root", "v.npy": "layout", "i.npy": "root", "t.csv": "array",
    }.items():  # fmt: skip
        spec = detect_source(tmp_path / name).with_options(**{option: "NHW"})
        with pytest.raises(InputError, match=f"{option} cannot be used"):
            open_source(spec)
    with pytest.raises(InputError, match="no options; label cannot"):
        open_source(SourceSpec("sample", "fashion", {"label": "x"}))


def test_names_with_colons_spaces_and_line_breaks_are_read(tmp_path, rng):
    names = ["new\nline.png", "plate:1/a b.png", "scan:001.png", "späce ü.png"]
    for name in names:
        save_image(tmp_path / name, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    items, images = read_all(open_source(detect_source(tmp_path)))
    assert items["source"].to_pylist() == names
    assert [image.error for image in images] == [None] * 4


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch, caplog):
    for name in ("a/x.png", "b/y.png"):
        save_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)
    items = open_source(detect_source(tmp_path)).list_items()
    assert items["source"].to_pylist() == ["a/x.png"]
    assert "The images in 'b' are left out" in caplog.text


@pytest.mark.parametrize(
    ("column", "values"),
    [("label", [[1], [2]]), ("label", [{"a": 1}] * 2), ("path", [b"\xff.png"] * 2)],
)
def test_a_column_that_is_no_text_is_named(tmp_path, column, values):
    columns = {"path": ["a.png", "b.png"], "x": [0, 1], "y": [0, 1], column: values}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = open_source(SourceSpec("table", str(tmp_path / "t.parquet")))
    with pytest.raises(ManifestError, match=f"column '{column}' must hold text"):
        source.list_items()


@pytest.mark.parametrize("ids", [",", "7,", "7,8"])
def test_empty_ids_do_not_count_as_twice_the_same(tmp_path, ids):
    first, second = ids.split(",")
    text = f"id,x,y\n{first},1,2\n{second},3,4\n"
    (tmp_path / "t.csv").write_text(text)
    items = open_source(detect_source(tmp_path / "t.csv")).list_items()
    assert items.num_rows == 2
    assert "original_id" in items.column_names


def test_reading_images_changes_no_warnings_of_others():
    code = "import warnings\n"
    code += "from PIL import Image; import napari_embed.sources.images\n"
    code += "print([f for f in warnings.filters if f[2].__module__ == 'PIL.Image'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
