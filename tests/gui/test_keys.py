"""Keys and the mouse's selection modes do what the list of keys says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.key_bindings import KeymapHandler
from test_accuracy import Eye

from napari_embed.gui import keys
from napari_embed.gui.points import EmbeddingPoints, tools

pytestmark = pytest.mark.gui
MODIFIERS = {
    "replace": [(), ("Meta",)],
    "add": [("Shift",)],
    "subtract": [("Alt",), ("Control",), ("Alt", "Control")],
    "intersect": [("Shift", "Alt"), ("Control", "Shift")],
}
ALL_MODIFIERS = [(how, held) for how, many in MODIFIERS.items() for held in many]


@pytest.fixture
def layer() -> EmbeddingPoints:
    """Ten points on a line, on canvas pixels 100, 200 ... 1000."""
    points = EmbeddingPoints(np.c_[np.arange(1, 11) * 100.0, np.full(10, 300.0)])
    points._link = Eye(np.eye(4))
    return points


@pytest.fixture
def press(layer):
    handler = KeymapHandler()
    handler.keymap_providers = [layer]
    return handler.press_key


def drag(layer, path, modifiers=()) -> None:
    """Drag the mouse as napari does: a generator that is stepped with one event."""
    event = SimpleNamespace(
        pos=path[0], button=1, modifiers=modifiers, type="mouse_press"
    )
    steps = tools.drag_or_click(layer, event)
    next(steps)
    for at in path[1:]:
        event.type, event.pos = "mouse_move", at
        next(steps)
    event.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(steps)


@pytest.mark.parametrize(("how", "held"), ALL_MODIFIERS)
@pytest.mark.parametrize("tool", ["box", "lasso"])
def test_held_keys_choose_what_a_drag_does(layer, tool, how, held) -> None:
    layer.tool = tool
    layer.select([0, 1, 2])
    path = [(250, 250), (550, 250), (550, 350), (250, 350)]
    drag(layer, path[::2] if tool == "box" else path, held)
    expected = {
        "replace": [2, 3, 4],
        "add": [0, 1, 2, 3, 4],
        "subtract": [0, 1],
        "intersect": [2],
    }[how]
    assert layer.selected_ids().tolist() == expected
    assert layer.undo() == tool
    assert layer.selected_ids().tolist() == [0, 1, 2]


@pytest.mark.parametrize("how", tools.MODES)
def test_the_mode_holds_without_a_key_and_a_key_wins(layer, how) -> None:
    layer.tool, layer.select_mode = "box", how
    layer.select([0, 1, 2])
    drag(layer, [(250, 250), (550, 350)])
    expected = {
        "replace": [2, 3, 4],
        "add": [0, 1, 2, 3, 4],
        "subtract": [0, 1],
        "intersect": [2],
    }[how]
    assert layer.selected_ids().tolist() == expected
    layer.select([0, 1, 2])
    drag(layer, [(250, 250), (550, 350)], ("Shift",))
    assert layer.selected_ids().tolist() == [0, 1, 2, 3, 4]


def test_clicks_follow_the_mode_and_the_background_clears(layer) -> None:
    layer.tool = "lasso"
    clicked: list = []
    layer.signals.clicked.connect(clicked.append)
    drag(layer, [(200, 300)])
    drag(layer, [(500, 300)], ("Shift",))
    drag(layer, [(500, 300)], ("Shift",))
    drag(layer, [(600, 300)], ("Shift",))
    assert layer.selected_ids().tolist() == [1, 5]
    drag(layer, [(50, 50)], ("Shift",))
    layer.select_mode = "add"
    drag(layer, [(50, 50)])
    drag(layer, [(900, 300)])
    assert layer.selected_ids().tolist() == [1, 5, 8]
    layer.select_mode = "subtract"
    drag(layer, [(200, 300)])
    layer.select_mode = "replace"
    assert layer.selected_ids().tolist() == [5, 8]
    drag(layer, [(50, 50)])
    assert layer.n_selected == 0
    assert layer.undo() == "clear the selection"
    assert clicked == [1, 4, 4, 5, 8, 1]


def test_a_click_that_changes_nothing_is_no_step(layer) -> None:
    layer.tool = "box"
    drag(layer, [(200, 300)])
    drag(layer, [(200, 300)])
    assert len(layer.history) == 1


def test_every_key_of_the_layer(layer, press) -> None:
    press("L")
    assert layer.tool == "lasso"
    press("B")
    assert (layer.tool, layer.mode) == ("box", "select")
    press("A")
    assert layer.n_selected == 10
    press("A")
    layer.select([1, 2])
    press("I")
    assert layer.n_selected == 8
    press("Control-Z")
    assert layer.selected_ids().tolist() == [1, 2]
    press("Control-Shift-Z")
    assert layer.n_selected == 8
    press("H")
    assert (layer.n_selected, layer.n_visible) == (0, 2)
    press("Shift-H")
    assert layer.n_visible == 10
    layer.select([3])
    press("O")
    assert layer.n_visible == 1
    press("Control-Z")
    press("X")
    assert layer.excluded_mask.nonzero()[0].tolist() == [3]
    press("F")  # without a viewer there is no camera to move
    press("Escape")
    assert (layer.tool, layer.n_selected) == ("pan", 0)
    for _ in range(30):
        press("Control-Z")
    assert (layer.n_selected, layer.n_visible, layer.n_excluded) == (0, 10, 0)


def test_escape_gives_up_a_drag_and_keeps_the_selection(layer, press) -> None:
    layer.tool = "box"
    layer.select([7])
    event = SimpleNamespace(pos=(50, 50), button=1, modifiers=(), type="mouse_press")
    steps = tools.drag_or_click(layer, event)
    next(steps)
    event.type, event.pos = "mouse_move", (900, 900)
    next(steps)
    press("Escape")
    with pytest.raises(StopIteration):
        next(steps)
    assert layer.selected_ids().tolist() == [7]
    assert layer.tool == "box"


def test_the_list_names_every_key_that_is_bound() -> None:
    listed = ", ".join(key for key, _ in keys.key_list())
    listed = listed.replace("Esc", "Escape").replace("Ctrl", "Control")
    listed = listed.replace("+", "-").replace(", ", ",").split(",")
    bound = {*tools.KEYS, *(k.key for k in keys.KEYS), "N", "Shift-N"}
    # Two more of napari's names for "select all".
    assert bound - set(listed) == {"Shift-A", "Control-A"}
    words = [text for _, text in keys.key_list()]
    assert len(set(words)) == len(words)
