"""Features, colours and data through napari's own names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from napari.utils.notifications import notification_manager

from napari_embed.errors import InputError
from napari_embed.gui.legend import category_palette
from napari_embed.gui.points import EmbeddingPoints
from napari_embed.gui.points.coloring import MISSING_COLOR

pytestmark = pytest.mark.gui
N = 300


@pytest.fixture
def layer(rng) -> EmbeddingPoints:
    features = pd.DataFrame(
        {
            "kind": np.array(["ant", "bee", "cat"])[rng.integers(0, 3, N)],
            "score": rng.normal(size=N),
            "flag": rng.random(N) < 0.5,
            "rank": pd.array([None if i % 5 == 0 else i for i in range(N)], "Int64"),
        }
    )
    return EmbeddingPoints(rng.normal(size=(N, 3)), features=features)


def test_colour_by_any_feature_in_any_order(layer) -> None:
    """Stock napari breaks when a number is followed by a category."""
    for name, mode in (
        ("score", "colormap"), ("kind", "cycle"), ("flag", "cycle"),
        ("rank", "colormap"), ("kind", "cycle"), ("score", "colormap"),
    ):  # fmt: skip
        layer.face_color = name
        assert layer.face_color_mode == mode
        values = layer.features[name]
        colors = pd.Series(list(map(bytes, layer.face_color)))
        for _, same in colors.groupby(values):
            assert same.nunique() == 1
    layer.face_color = "rank"
    np.testing.assert_allclose(layer.face_color[::5], [MISSING_COLOR] * (N // 5))


def test_the_default_colours_of_categories_are_safe_for_the_eye(layer) -> None:
    layer.face_color = "kind"
    codes, _ = pd.factorize(layer.features["kind"])
    np.testing.assert_allclose(layer.face_color, category_palette(3)[codes])


def test_colour_cycle_and_colormap_take_effect(layer) -> None:
    layer.face_color = "kind"
    layer.face_color_cycle = ["red", "lime", "blue"]
    codes, _ = pd.factorize(layer.features["kind"])
    rgb = np.eye(3)[codes]
    np.testing.assert_allclose(layer.face_color[:, :3], rgb)
    layer.face_color = "score"
    layer.face_colormap = "gray"
    layer.face_contrast_limits = (-1, 1)
    level = (np.clip(layer.features["score"], -1, 1) + 1) / 2
    np.testing.assert_allclose(layer.face_color[:, 0], level, atol=2e-3)
    assert layer.face_contrast_limits == (-1, 1)
    layer.features = layer.features.assign(score=-layer.features["score"])
    np.testing.assert_allclose(layer.face_color[:, 0], 1 - level, atol=2e-3)


def test_colour_modes_of_napari(layer) -> None:
    layer.face_color = "rank"
    layer.face_color_mode = "cycle"
    assert layer.face_color_mode == "cycle"
    layer.face_color_mode = "colormap"
    assert layer.face_color_mode == "colormap"
    before = layer.face_color
    layer.face_color_mode = "direct"
    layer.features = layer.features.assign(rank=0)
    np.testing.assert_array_equal(layer.face_color, before)
    layer.face_color = "kind"
    with pytest.raises(InputError, match="needs numbers"):
        layer.face_color_mode = "colormap"
    with pytest.raises(InputError, match="expected one of"):
        layer.face_color_mode = "rainbow"
    with pytest.raises(InputError, match="no feature"):
        EmbeddingPoints(np.zeros((2, 2))).face_color_mode = "cycle"


def test_one_colour_and_a_colour_each(layer, rng) -> None:
    layer.face_color = "red"
    np.testing.assert_array_equal(layer.face_color, [[1, 0, 0, 1]] * N)
    assert layer.face_color_mode == "direct"
    rgba = rng.integers(0, 256, (N, 4)) / 255
    layer.face_color = rgba
    np.testing.assert_allclose(layer.face_color, rgba, atol=1e-6)
    assert layer.face_color_mode == "direct"
    layer.face_color = ["red", "blue"] * (N // 2)
    np.testing.assert_array_equal(layer.face_color[:2], [[1, 0, 0, 1], [0, 0, 1, 1]])
    with pytest.raises(InputError, match="Found 7 colours"):
        layer.face_color = np.ones((7, 4))
    with pytest.raises((ValueError, KeyError)):
        layer.face_color = "no such colour or feature"


def test_colours_survive_other_markers_and_sizes(layer) -> None:
    layer.face_color = "kind"
    layer.symbol = "square"
    layer.size = 0.05
    layer.face_color_cycle = ["red", "lime", "blue"]
    assert set(layer.face_color[:, 0]) == {0.0, 1.0}
    assert layer.size.shape == (N,)
    np.testing.assert_allclose(layer.size, 0.05)
    layer.size = np.full(N, 0.1)
    np.testing.assert_allclose(layer.size, 0.1)
    for bad in (0, -1, np.nan):
        with pytest.raises(InputError, match="point size"):
            layer.size = bad


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (pd.DataFrame({"a": range(N - 1)}), "299 rows of features, expected 300"),
        ({"a": list(range(N + 1))}, "'a' has 301 values, expected 300"),
        ({"a": np.zeros((N, 2))}, r"'a' has shape \(300, 2\)"),
        ({"a": 5}, r"'a' has shape \(\)"),
        ([1, 2, 3], "Features are a list, expected a table"),
    ],
)
def test_features_of_another_length_change_nothing(layer, features, words) -> None:
    before = layer.features
    for name in ("features", "properties"):
        with pytest.raises(InputError, match=words):
            setattr(layer, name, features)
    assert layer.features is before
    with pytest.raises(InputError, match=words):
        EmbeddingPoints(np.zeros((N, 2)), features=features)


def test_features_of_all_kinds(layer, rng) -> None:
    layer.features = layer.features.sample(frac=1, random_state=1)  # its own index
    assert layer.features.index.tolist() == list(range(N))
    layer.properties = {"a": np.arange(N), "b": ["x"] * N}
    np.testing.assert_array_equal(layer.properties["a"], np.arange(N))
    layer.features["new"] = 3  # the frame itself
    layer.face_color = "new"
    for empty in (None, {}, pd.DataFrame()):
        layer.features = empty
        assert len(layer.features.columns) == 0
        assert layer.describe(0) == "#0"
    assert len(layer.face_color) == N


def test_everything_at_construction(rng) -> None:
    xyz = rng.normal(size=(4, 2))
    layer = EmbeddingPoints(
        xyz,
        features={"kind": list("abab")},
        face_color="kind",
        face_color_cycle=["red", "blue"],
        shown=[True, True, False, True],
        symbol="square",
        size=0.5,
        opacity=0.5,
    )
    np.testing.assert_array_equal(layer.face_color[:, 2], [0, 1, 0, 1])
    assert layer.n_visible == 3
    assert str(layer.current_symbol.value) == "square"
    np.testing.assert_allclose(layer.size, 0.5)
    again = EmbeddingPoints(
        xyz,
        features={"v": [1, 2, 3, 4]},
        face_color="v",
        face_colormap="gray",
        face_contrast_limits=(1, 4),
    )
    np.testing.assert_allclose(again.face_color[:, 0], [0, 1 / 3, 2 / 3, 1], atol=1e-3)


def test_napari_selection_in_bulk_lists_no_ids(rng) -> None:
    layer = EmbeddingPoints(rng.normal(size=(50_000, 2)), features={"a": range(50_000)})
    events: list = []
    layer.selected_data.events.items_changed.connect(
        lambda added, removed: events.append((len(added), len(removed)))
    )
    layer.events.data.connect(lambda e: events.append(len(e.data_indices)))
    layer.selected_data = set(range(40_000))
    layer.selected_data = range(39_990, 40_010)
    layer.current_properties = {"a": np.array([7])}
    layer.data = layer.data + 1
    layer.selected_data -= {39_990}
    assert events == [(0, 0), (0, 0), 0, (0, 1)]
    assert layer.features["a"].tolist() == list(range(50_000))
    assert layer.n_selected == 19


@pytest.fixture
def told() -> list[str]:
    """What napari tells the user from now on."""
    messages: list[str] = []

    def note(event) -> None:
        messages.append(str(event.message))

    notification_manager.notification_ready.connect(note)
    yield messages
    notification_manager.notification_ready.disconnect(note)


def test_text_is_off_and_says_so(layer, told) -> None:
    layer.text = "kind"
    assert "hover over them" in told[0]
    assert layer.text.values.size <= 1


def test_data_moves_the_points_and_keeps_everything_else(layer, rng) -> None:
    layer.select([1, 2])
    layer.face_color = "kind"
    colors, new = layer.face_color, rng.normal(size=(N, 3))
    layer.data = new
    np.testing.assert_allclose(layer.data, new, rtol=1e-6)
    np.testing.assert_array_equal(layer.face_color, colors)
    assert layer.selected_data == {1, 2}
    for bad in (new[:5], new[:, :1], "positions"):
        with pytest.raises(InputError):
            layer.data = bad


def test_points_without_a_place_are_told(rng, told) -> None:
    xyz = rng.normal(size=(50, 3))
    EmbeddingPoints(xyz)
    assert not told
    xyz[[1, 4], 0] = np.nan, np.inf
    layer = EmbeddingPoints(xyz, name="tsne")
    assert told[0].startswith("tsne: 2 of 50 points")
    assert np.isfinite(layer.extent.data).all()
