"""Points layers on disk: our Parquet writer and reader, napari's CSV, duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from napari.components import ViewerModel
from napari.layers import Layer, Points

from napari_embed.errors import EmbedError, InputError
from napari_embed.gui.points import EmbeddingPoints
from napari_embed.gui.points.coloring import SHAPES
from napari_embed.gui.points.saving import (
    get_reader,
    read_points,
    save_points,
    write_points,
)

pytestmark = pytest.mark.gui
N = 400


@pytest.fixture
def features(rng) -> pd.DataFrame:
    score = rng.random(N)
    score[3] = np.nan
    return pd.DataFrame(
        {
            "label": pd.Categorical.from_codes(
                rng.integers(-1, 3, N), ["ant", "<b>bee</b>", "Käfer"]
            ),
            "score": score,
            "count": rng.integers(0, 9, N),
            "good": rng.random(N) < 0.5,
            "when": pd.date_range("2024-01-01", periods=N, freq="h", tz="UTC"),
            "text": [None if i % 7 == 0 else f"item {i}" for i in range(N)],
            "x": rng.random(N),  # a feature called as a column of ours
            "selected": ["yes"] * N,
        }
    )


@pytest.fixture
def layer(rng, features) -> EmbeddingPoints:
    positions = rng.normal(size=(N, 3)).astype(np.float32)
    positions[5] = np.nan
    made = EmbeddingPoints(positions, name="map: a/b", features=features)
    made.opacity, made.blending, made.scale = 0.7, "additive", (1, 2, 3)
    made.point_size = 7.5
    made.select(rng.random(N) < 0.3)
    made.set_visible(rng.random(N) < 0.8)
    made.set_excluded([1, 2, 399])
    return made


def assert_same(one: EmbeddingPoints, other: EmbeddingPoints) -> None:
    np.testing.assert_array_equal(one.positions, other.positions)
    pd.testing.assert_frame_equal(one.features, other.features, check_dtype=False)
    for name in ("mask", "hidden_mask", "excluded_mask", "pickable"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.face_color, other.face_color, atol=1e-6)
    np.testing.assert_array_equal(one.symbol, other.symbol)
    np.testing.assert_array_equal(one.scale, other.scale)
    for name in ("name", "opacity", "blending", "face_color_mode", "point_size"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("colored", ["plain", "label", "score", "rgba", "shapes"])
def test_what_is_saved_comes_back(layer, rng, tmp_path, colored) -> None:
    if colored == "plain":
        layer.color_uniform("tomato")
        layer.symbol = "diamond"
    elif colored == "rgba":
        layer.face_color = rng.random((N, 4))
    elif colored == "shapes":
        codes = rng.integers(-1, 8, N)
        layer.color_by_categories(codes, rng.random((8, 4)), shapes=np.arange(8))
    else:
        layer.face_color = colored
    path = save_points(tmp_path / "map.parquet", layer)
    again = read_points(path)
    assert_same(layer, again)
    assert again.features["label"].dtype == layer.features["label"].dtype
    assert again.features["when"].dtype.tz is not None
    assert len(again.history) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["map.parquet"]


@pytest.mark.parametrize("n", [0, 1])
def test_flat_and_tiny_maps(tmp_path, n) -> None:
    layer = EmbeddingPoints(np.ones((n, 2)), name="flat")
    again = read_points(save_points(tmp_path / "flat.parquet", layer))
    assert again.is_2d
    assert again.positions.shape == (n, 2)
    assert_same(layer, again)


def test_another_program_can_read_it(layer, tmp_path) -> None:
    frame = pd.read_parquet(save_points(tmp_path / "map.parquet", layer))
    np.testing.assert_array_equal(frame["id"], np.arange(N))
    np.testing.assert_array_equal(frame[["x", "y", "z"]], layer.positions)
    np.testing.assert_array_equal(frame["selected"], layer.mask)
    np.testing.assert_array_equal(frame["feature x"], layer.features["x"])
    frame[frame["selected"]].to_parquet(tmp_path / "part.parquet")
    part = read_points(tmp_path / "part.parquet")
    np.testing.assert_array_equal(part.features["id"], layer.selected_ids())
    assert part.n_selected == part.n_items == layer.n_selected


def test_rows_taken_out_by_arrow_keep_their_ids(layer, tmp_path) -> None:
    table = pq.read_table(save_points(tmp_path / "map.parquet", layer))
    pq.write_table(table.filter(pa.array(layer.mask)), tmp_path / "part.parquet")
    part = read_points(tmp_path / "part.parquet")
    np.testing.assert_array_equal(part.features["id"], layer.selected_ids())
    np.testing.assert_allclose(part.face_color, layer.face_color[layer.mask])


def test_napari_saves_and_opens_it(layer, tmp_path, npe2pm_ours) -> None:
    viewer = ViewerModel()
    viewer.add_layer(layer)
    path = str(tmp_path / "map.parquet")
    assert viewer.layers.save(path, plugin="napari-embed") == [path]
    [added] = viewer.open(path, plugin="napari-embed")
    assert isinstance(added, EmbeddingPoints)
    assert added.source.reader_plugin == "napari-embed"
    viewer.layers.remove(layer)  # napari numbers layers of the same name
    added.name = layer.name
    assert_same(layer, added)
    # Without naming the plugin: the file's ending decides.
    viewer.layers.selection = {added}
    other = str(tmp_path / "other.parquet")
    assert viewer.layers.save(other, selected=True) == [other]
    assert read_points(other).n_selected == layer.n_selected


@pytest.fixture
def npe2pm_ours(monkeypatch):
    """The plugins that are installed: napari's own and ours."""
    import npe2

    import napari_embed

    manager = npe2.PluginManager()
    manager.discover()
    if "napari-embed" not in manager:  # imported from its folder, not installed
        file = Path(napari_embed.__file__).with_name("napari.yaml")
        manager.register(npe2.PluginManifest.from_file(file))
    monkeypatch.setattr(npe2.PluginManager, "instance", lambda: manager)
    return manager


def test_points_of_napari_can_be_saved(rng, tmp_path) -> None:
    points = Points(
        rng.normal(size=(30, 3)),
        features={"a": np.arange(30)},
        face_color=rng.random((30, 4)),
        shown=rng.random(30) < 0.5,
        name="stock",
    )
    data, attributes, _ = points.as_layer_data_tuple()
    [path] = write_points(str(tmp_path / "stock"), data, attributes)
    assert path.endswith("stock.parquet")
    again = read_points(path)
    np.testing.assert_allclose(again.data, points.data, rtol=1e-6)
    np.testing.assert_allclose(again.face_color, points.face_color, atol=1e-6)
    np.testing.assert_array_equal(again.shown, points.shown)
    assert again.name == "stock"
    with pytest.raises(InputError, match="4 coordinates"):
        write_points(path, np.zeros((3, 4)), {})


def test_a_feature_of_many_kinds_becomes_text(tmp_path) -> None:
    mixed = pd.Series([1, "two", None, (3,), 4.5], dtype=object)
    layer = EmbeddingPoints(np.zeros((5, 2)), features={"mixed": mixed, 7: range(5)})
    again = read_points(save_points(tmp_path / "a.parquet", layer))
    assert again.features["mixed"].isna().tolist() == [False, False, True, False, False]
    assert again.features["mixed"][3] == "(3,)"
    assert again.features["7"].tolist() == [0, 1, 2, 3, 4]


def test_files_that_are_none(tmp_path) -> None:
    path = tmp_path / "bad.parquet"
    with pytest.raises(InputError, match="no file"):
        read_points(path)
    for content in (b"", b"PAR1", b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            read_points(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_points(path)


def test_a_file_cut_or_overwritten_anywhere_is_told_never_a_crash(
    layer, rng, tmp_path
) -> None:
    good = save_points(tmp_path / "good.parquet", layer).read_bytes()
    path = tmp_path / "bad.parquet"
    for _ in range(40):
        content = bytearray(good)
        if rng.random() < 0.5:
            del content[int(rng.integers(len(good))) :]
        else:
            at = int(rng.integers(len(good) - 16))
            content[at : at + 16] = rng.bytes(16)
        path.write_bytes(content)
        try:
            read = read_points(path)
        except EmbedError:
            continue
        assert read.n_items == N


def _rewrite(path, about=None, **columns) -> None:
    table = pq.read_table(path)
    meta = json.loads(table.schema.metadata[b"napari_embed"])
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = (
            table.drop_columns([name])
            if values is None
            else table.set_column(at, name, pa.array(values))
        )
    meta.update(about or {})
    table = table.replace_schema_metadata({"napari_embed": json.dumps(meta)})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("about", "columns", "words"),
    [
        ({}, {"x": ["a"] * N}, "Column x holds string"),
        ({}, {"x": None}, "no columns x and y"),
        ({"version": 99}, {}, "Update napari-embed"),
        ({"version": "new"}, {}, "version 'new'"),
    ],
)
def test_files_without_positions(layer, tmp_path, about, columns, words) -> None:
    path = save_points(tmp_path / "map.parquet", layer)
    _rewrite(path, about, **columns)
    with pytest.raises(InputError, match=words):
        read_points(path)


@pytest.mark.parametrize(
    ("about", "columns", "left_out"),
    [
        ({}, {"color_row": np.full(N, 4000, np.uint16)}, "the colours"),
        ({}, {"color_row": np.full(N, -1)}, "the colours"),
        ({}, {"color_row": None}, "the colours"),
        ({"colors": {"rows": "red", "shapes": 3}}, {}, "the colours"),
        ({"colors": None}, {}, "the colours"),
        ({"look": {"opacity": "thick"}}, {}, "the appearance"),
        ({"look": {"scale": [1, 2, 3, 4, "a"]}}, {}, "the appearance"),
        ({"look": 5}, {}, "the appearance"),
        ({"name": ["list"], "features": 4}, {}, ""),
        ({"name": "<img src=x>" * 100}, {}, ""),
        ({}, {"selected": ["perhaps"] * N}, ""),
        ({}, {"selected": [None] * N, "visible": [None] * N}, ""),
    ],
)
def test_damaged_parts_are_left_out_and_told(
    layer, tmp_path, about, columns, left_out, monkeypatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_embed.gui.points.saving.show_warning", told.append)
    path = save_points(tmp_path / "map.parquet", layer)
    _rewrite(path, about, **columns)
    again = read_points(path)
    np.testing.assert_array_equal(again.positions, layer.positions)
    assert len(again.name) <= 200
    if left_out:
        [message] = told
        assert left_out in message
    else:
        assert not told


def test_plain_tables_open_too(rng, tmp_path) -> None:
    frame = pd.DataFrame(rng.random((20, 2)), columns=["X", "Y"])
    frame["kind"] = "a"
    frame["nested"] = [[1, 2]] * 20
    frame.to_parquet(tmp_path / "plain.parquet")
    layer = read_points(tmp_path / "plain.parquet")
    assert layer.is_2d
    assert layer.name == "plain"
    assert list(layer.features) == ["kind"]
    assert get_reader("a.csv") is None
    assert get_reader(["a.parquet", "b.csv"]) is None
    assert get_reader([]) is None


def test_a_folder_that_cannot_be_written(layer, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbedError):
        save_points(tmp_path / "file" / "map.parquet", layer)
    with pytest.raises(EmbedError):
        save_points(tmp_path / "nowhere" / "map.parquet", layer)


def test_an_interrupted_save_keeps_the_old_file(layer, tmp_path, monkeypatch) -> None:
    path = save_points(tmp_path / "map.parquet", layer)
    before = path.read_bytes()

    def full(*_args, **_options) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(EmbedError, match=r"map\.parquet"):
        save_points(path, layer)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_duplicate_and_csv_of_napari(layer, tmp_path, npe2pm_ours) -> None:
    layer.features = layer.features[["label", "score"]]
    layer.face_color = "label"
    data, state, kind = layer.as_layer_data_tuple()
    assert kind == "points"
    twin = Layer.create(data.copy(), state, kind)
    np.testing.assert_allclose(twin.data, layer.data)
    np.testing.assert_allclose(twin.face_color, layer.face_color, atol=1e-6)
    np.testing.assert_array_equal(twin.shown, layer.shown)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    path = str(tmp_path / "points.csv")
    assert layer.save(path, plugin="napari") == [path]
    [read] = viewer.open(path, plugin="napari", layer_type="points")
    np.testing.assert_allclose(read.data, layer.data, rtol=1e-6)
    again = EmbeddingPoints(
        read.data[:, ::-1], features=read.features, face_color="label"
    )
    assert again.n_missing == 1
    # A missing value becomes the text "nan" in napari's file.
    assert set(again.features["label"]) - {"nan"} <= set(layer.features["label"])


def test_all_markers_come_back(tmp_path) -> None:
    for name in SHAPES:
        layer = EmbeddingPoints(np.zeros((3, 2)), symbol=name)
        again = read_points(save_points(tmp_path / "a.parquet", layer))
        assert_same(layer, again)
