"""The points layer as a model: no canvas, no OpenGL."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError
from napari_embed.gui.points import EmbeddingPoints

pytestmark = pytest.mark.gui


def _count(signal) -> list:
    calls: list = []
    signal.connect(lambda *args: calls.append(args))
    return calls


@pytest.fixture
def layer(rng) -> EmbeddingPoints:
    return EmbeddingPoints(rng.normal(size=(500, 3)), name="map")


def test_data_is_float32_in_napari_order(rng) -> None:
    xyz = rng.normal(size=(20, 3))
    layer = EmbeddingPoints(xyz)
    assert layer.data.dtype == np.float32
    np.testing.assert_array_equal(layer.data, xyz.astype(np.float32)[:, ::-1])
    np.testing.assert_array_equal(layer.positions, xyz.astype(np.float32))
    flat = EmbeddingPoints(xyz[:, :2])
    assert flat.data.shape == (20, 3)
    assert np.all(flat.data[:, 0] == 0)
    np.testing.assert_array_equal(flat.data[:, 2], xyz[:, 0].astype(np.float32))
    assert flat.positions.shape == (20, 2)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 4), (2, 2, 2)])
def test_positions_of_wrong_shape_are_refused(shape) -> None:
    with pytest.raises(InputError, match="expected"):
        EmbeddingPoints(np.zeros(shape))


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("d", [2, 3])
def test_tiny_maps(n, d) -> None:
    layer = EmbeddingPoints(np.ones((n, d)))
    assert layer.data.shape == (n, 3)
    layer.select(np.ones(n, bool))
    layer.invert_selection()
    layer.set_visible(np.zeros(n, bool))
    layer.set_positions(np.ones((n, d)))
    layer.color_by_values(np.zeros(n))
    assert layer.n_selected == 0
    assert layer.point_size > 0


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("replace", {3, 4, 5}),
        ("add", {1, 2, 3, 4, 5}),
        ("subtract", {1, 2}),
        ("intersect", {3}),
        ("toggle", {1, 2, 4, 5}),
    ],
)
def test_select_combines(layer, how, expected) -> None:
    layer.select([1, 2, 3])
    calls = _count(layer.signals.selection_changed)
    layer.select(np.array([3, 4, 5]), how=how)
    assert set(layer.selected_ids().tolist()) == expected
    assert layer.n_selected == len(expected)
    assert len(calls) == 1


def test_select_rejects_nonsense(layer) -> None:
    for bad in ([-1], [500], np.zeros(3, bool), [0.5]):
        with pytest.raises(InputError):
            layer.select(bad)
    with pytest.raises(InputError, match="how"):
        layer.select([1], how="maybe")
    assert layer.n_selected == 0


def test_selection_through_napari_is_announced(layer) -> None:
    calls = _count(layer.signals.selection_changed)
    layer.selected_data = {1, 5}
    layer.selected_data.add(7)
    layer.selected_data = np.array([7])
    layer.selected_data.clear()
    layer.selected_data = set()
    assert len(calls) == 4
    assert layer.mask.sum() == 0


def test_mask_cannot_be_changed_from_outside(layer) -> None:
    layer.select([1])
    with pytest.raises(ValueError, match="read-only"):
        layer.mask[0] = True
    with pytest.raises(ValueError, match="read-only"):
        layer.visible_mask[0] = False


def test_hidden_points_stay_out_of_invert_and_all(layer) -> None:
    shown = np.ones(500, bool)
    shown[:100] = False
    calls = _count(layer.signals.visibility_changed)
    layer.set_visible(shown)
    assert len(calls) == 1
    assert layer.n_visible == 400
    layer.select([200])
    layer.invert_selection()
    assert layer.n_selected == 399
    assert not layer.mask[:100].any()
    layer.select_all()
    np.testing.assert_array_equal(layer.mask, shown)
    layer.select_all()
    assert layer.n_selected == 0


def test_hide_isolate_show(layer) -> None:
    layer.select(np.arange(10))
    layer.hide_selected()
    assert layer.n_visible == 490
    assert layer.n_selected == 0
    layer.select(np.arange(5, 15))
    layer.isolate_selected()
    assert layer.visible_mask.nonzero()[0].tolist() == [10, 11, 12, 13, 14]
    layer.show_all()
    assert layer.n_visible == 500
    layer.clear_selection()
    layer.isolate_selected()
    assert layer.n_visible == 500


def test_not_finite_positions_poison_nothing(rng) -> None:
    xyz = rng.normal(size=(100, 3)).astype(np.float32)
    xyz[3] = np.nan
    xyz[7, 1] = np.inf
    xyz[9, 2] = -np.inf
    layer = EmbeddingPoints(xyz)
    good = np.isfinite(xyz).all(axis=1)
    assert layer.n_missing == 3
    np.testing.assert_array_equal(layer.pickable, good)
    extent = layer.extent.data
    np.testing.assert_allclose(extent[0], xyz[good].min(0)[::-1])
    np.testing.assert_allclose(extent[1], xyz[good].max(0)[::-1])
    assert np.isfinite(layer.thumbnail).all()
    layer.select_all()
    assert layer.n_selected == 97
    layer.set_positions(np.zeros((100, 3)))
    assert layer.n_missing == 0


def test_set_positions(layer, rng) -> None:
    calls = _count(layer.signals.positions_changed)
    new = rng.normal(size=(500, 3)) * 10
    layer.set_positions(new)
    np.testing.assert_array_equal(layer.positions, new.astype(np.float32))
    np.testing.assert_allclose(
        layer.extent.data[1], new.astype(np.float32).max(0)[::-1]
    )
    assert len(calls) == 1
    with pytest.raises(InputError, match="expected 500"):
        layer.set_positions(new[:-1])


def test_data_setter_moves_points(layer, rng) -> None:
    new = rng.normal(size=(500, 3)).astype(np.float32)
    layer.data = new
    np.testing.assert_array_equal(layer.data, new)
    with pytest.raises(InputError):
        layer.data = new[:10]


def test_points_are_not_editable(layer) -> None:
    before = layer.data.copy()
    for change in (
        lambda: layer.add([0, 0, 0]),
        lambda: layer.remove([0]),
        lambda: layer.pop(),
    ):
        with pytest.raises(InputError, match="stands for an item"):
            change()
    layer.select([1, 2])
    layer._copy_data()
    layer._paste_data()
    layer._move({1}, (5, 5, 5))
    layer.mode = "add"
    assert layer.mode == "pan_zoom"
    np.testing.assert_array_equal(layer.data, before)


def test_delete_excludes_and_can_be_undone(layer) -> None:
    calls = _count(layer.signals.excluded_changed)
    layer.remove_selected()
    assert not calls
    layer.select([4, 7])
    layer.remove_selected()
    assert len(calls) == 1
    assert len(layer.data) == 500
    assert layer.excluded_mask.nonzero()[0].tolist() == [4, 7]
    assert (layer.n_selected, layer.n_visible, layer.n_excluded) == (0, 498, 2)
    assert not layer.pickable[[4, 7]].any()
    layer.show_all()
    assert layer.n_visible == 498
    layer.select_all()
    assert layer.n_selected == 498
    assert layer.undo() == "select all"
    assert layer.undo() == "exclude"
    assert layer.selected_ids().tolist() == [4, 7]
    assert layer.n_excluded == 0
    assert layer.pickable is None
    assert layer.redo() == "exclude"
    layer.include_all()
    assert layer.n_visible == 500
    layer.undo()
    assert layer.n_excluded == 2


def test_hidden_and_excluded_are_independent(layer) -> None:
    shown = np.ones(500, bool)
    shown[:10] = False
    layer.set_excluded(np.arange(5, 20))
    layer.set_visible(shown)
    assert layer.n_visible == 480
    layer.show_all()
    assert layer.n_visible == 485
    layer.undo()
    layer.set_excluded([])
    np.testing.assert_array_equal(layer.visible_mask, shown)
    np.testing.assert_array_equal(layer.shown, shown)


def test_a_long_session_can_be_undone_to_the_start_and_redone(layer, rng) -> None:
    """Random wishes against snapshots of all three masks."""

    def state() -> tuple:
        masks = (layer.mask, layer.visible_mask, layer.excluded_mask)
        return tuple(mask.tobytes() for mask in masks)

    wishes = [
        lambda: layer.select(rng.random(500) < 0.3, how="replace"),
        lambda: layer.select(rng.random(500) < 0.1, how="add"),
        lambda: layer.select(rng.random(500) < 0.5, how="subtract"),
        lambda: layer.select(rng.random(500) < 0.8, how="intersect"),
        lambda: layer.select([int(rng.integers(500))], how="toggle"),
        lambda: setattr(layer, "selected_data", {1, 2, int(rng.integers(500))}),
        lambda: layer.selected_data.add(int(rng.integers(500))),
        layer.invert_selection,
        layer.clear_selection,
        layer.select_all,
        layer.hide_selected,
        layer.isolate_selected,
        layer.show_all,
        layer.exclude_selected,
        layer.include_all,
    ]
    states = [state()]
    for _ in range(300):
        steps = len(layer.history)
        wishes[rng.integers(len(wishes))]()
        if len(layer.history) > steps:
            assert len(layer.history) == steps + 1, "a wish is one step"
            states.append(state())
        else:
            assert state() == states[-1], "a change without a step"
    assert len(states) > 100
    for expected in states[-2::-1]:
        assert layer.undo()
        assert state() == expected
    assert layer.undo() == ""
    for expected in states[1:]:
        assert layer.redo()
        assert state() == expected
    assert layer.redo() == ""
    assert layer.n_selected == np.count_nonzero(layer.mask)


def test_undo_announces_as_any_change_does(layer) -> None:
    layer.select([1, 2])
    calls = _count(layer.signals.selection_changed)
    layer.undo()
    layer.redo()
    assert len(calls) == 2
    layer.select([1, 2])
    assert layer.history.undo_label == "select"
    assert len(layer.history) == 1


def test_the_selection_mode_is_checked(layer) -> None:
    layer.select_mode = "add"
    with pytest.raises(InputError, match="select_mode"):
        layer.select_mode = "perhaps"
    assert layer.select_mode == "add"


def test_tools_and_modes_agree(layer) -> None:
    calls = _count(layer.signals.tool_changed)
    layer.tool = "box"
    assert layer.mode == "select"
    layer.mode = "pan_zoom"
    assert layer.tool == "pan"
    layer.mode = "select"
    assert layer.tool == "box"
    layer.tool = "lasso"
    layer.tool = "pan"
    assert layer.mode == "pan_zoom"
    assert [c[0] for c in calls] == ["box", "pan", "box", "lasso", "pan"]
    with pytest.raises(InputError):
        layer.tool = "brush"


def test_features_and_description(rng) -> None:
    layer = EmbeddingPoints(
        rng.normal(size=(3, 2)),
        features={"score": [1, 2, 3], "label": ["a", None, "c"]},
    )
    assert layer.describe(0) == "#0 a"
    assert layer.describe(1) == "#1"
    with pytest.raises(InputError, match="expected 3"):
        layer.features = {"label": ["a"]}
    layer.select([0, 2])
    assert layer.get_status()["value"] == "2 selected"
