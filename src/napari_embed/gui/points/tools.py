"""Mouse tools and keys of the points layer.

The mouse functions are napari drag callbacks: generators that run to the first
``yield`` on press, once per move, and to the end on release.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from .layer import EmbeddingPoints

__all__ = [
    "KEYS",
    "MODES",
    "TOOLS",
    "How",
    "bind_keys",
    "click_only",
    "drag_or_click",
    "how_of",
]

How = Literal["replace", "add", "subtract", "intersect", "toggle"]
TOOLS = ("pan", "box", "lasso")
MODES: tuple[How, ...] = ("replace", "add", "subtract", "intersect")

CLICK_PIXELS = 4.0
"""A press that moves less than this is a click."""

_STEP_PIXELS = 1.5  # lasso vertices nearer than this to the last are left out


def how_of(modifiers: Any) -> How:
    """Translate held keys: Shift adds, Alt or Ctrl subtracts, Shift+Alt intersects."""
    shift = "Shift" in modifiers
    less = "Alt" in modifiers or "Control" in modifiers
    if shift and less:
        return "intersect"
    if shift:
        return "add"
    return "subtract" if less else "replace"


def click(layer: EmbeddingPoints, position: np.ndarray, modifiers: Any) -> None:
    """Select the point under the cursor; with Shift or Ctrl flip it.

    On the background everything is deselected, unless a key is held.
    """
    item = layer.pick((position[0], position[1]))
    held = how_of(modifiers) != "replace"
    if item >= 0:
        with layer.history.step("click"):
            layer.select([item], how="toggle" if held else layer.select_mode)
        layer.signals.clicked.emit(item)
    elif not held and layer.select_mode == "replace":
        layer.clear_selection()


def _pos(event: Any) -> np.ndarray:
    return np.array(event.pos[:2], dtype=float)


def click_only(layer: EmbeddingPoints, event: Any) -> Generator[None, None, None]:
    """Leave drags to the camera; pick on a click."""
    if event.button != 1:
        return
    start, modifiers = _pos(event), tuple(event.modifiers)
    moved = 0.0
    yield
    while event.type == "mouse_move":
        moved = max(moved, float(np.hypot(*(_pos(event) - start))))
        yield
    if max(moved, float(np.hypot(*(_pos(event) - start)))) < CLICK_PIXELS:
        click(layer, start, modifiers)


def drag_or_click(layer: EmbeddingPoints, event: Any) -> Generator[None, None, None]:
    """Draw a box or lasso and select what is in it; pick on a click."""
    if event.button != 1:
        return
    path = [_pos(event)]
    # What lies inside is decided by the view the outline was begun on: old napari
    # versions also zoom when Alt is held.
    matrix = layer.canvas_matrix()
    how, modifiers = how_of(event.modifiers), tuple(event.modifiers)
    if how == "replace":
        how = layer.select_mode
    layer.begin_drag()
    yield
    while event.type == "mouse_move" and layer.dragging:
        _extend(path, _pos(event), box=layer.tool == "box")
        layer.draw_outline(_outline(path, box=layer.tool == "box"))
        yield
    was_cancelled = not layer.dragging
    layer.end_drag()
    if was_cancelled:
        return
    _extend(path, _pos(event), box=layer.tool == "box")
    if np.ptp(path, axis=0).max() < CLICK_PIXELS:
        click(layer, path[0], modifiers)
    elif layer.tool == "box":
        layer.select_box(tuple(path[0]), tuple(path[-1]), how=how, matrix=matrix)
    else:
        layer.select_lasso(np.array(path), how=how, matrix=matrix)


def _extend(path: list[np.ndarray], position: np.ndarray, *, box: bool) -> None:
    if box:
        path[1:] = [position]
    elif np.hypot(*(position - path[-1])) >= _STEP_PIXELS:
        path.append(position)


def _outline(path: list[np.ndarray], *, box: bool) -> np.ndarray:
    if box and len(path) > 1:
        (x0, y0), (x1, y1) = path
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    return np.array([*path, path[0]])


def _lasso(layer: EmbeddingPoints) -> None:
    """Lasso: draw around points to select them."""
    layer.tool = "lasso"


def _box(layer: EmbeddingPoints) -> None:
    """Box: drag a rectangle to select points."""
    layer.tool = "box"


def _escape(layer: EmbeddingPoints) -> None:
    """Give up the drag, or deselect all and go back to moving the camera."""
    if layer.dragging:
        layer.cancel_drag()
        return
    layer.clear_selection()
    layer.tool = "pan"


def _invert(layer: EmbeddingPoints) -> None:
    """Select what is not selected."""
    layer.invert_selection()


def _hide(layer: EmbeddingPoints) -> None:
    """Hide the selected points."""
    layer.hide_selected()


def _show_all(layer: EmbeddingPoints) -> None:
    """Show all points again."""
    layer.show_all()


def _isolate(layer: EmbeddingPoints) -> None:
    """Show only the selected points."""
    layer.isolate_selected()


def _fit(layer: EmbeddingPoints) -> None:
    """Zoom to the selected points, or to all."""
    layer.fit_view()


def _undo(layer: EmbeddingPoints) -> None:
    """Take back the last selection, hiding or exclusion."""
    layer.undo()


def _redo(layer: EmbeddingPoints) -> None:
    """Make what was taken back again."""
    layer.redo()


def _exclude(layer: EmbeddingPoints) -> None:
    """Exclude the selected items from the map; nothing is deleted."""
    layer.exclude_selected()


def _select_all(layer: EmbeddingPoints) -> None:
    """Select all visible points, or none if they are."""
    layer.select_all()


KEYS = {
    "L": _lasso,
    "B": _box,
    "Escape": _escape,
    "I": _invert,
    "H": _hide,
    "Shift-H": _show_all,
    "O": _isolate,
    "F": _fit,
    "X": _exclude,
    "Control-Z": _undo,
    "Control-Shift-Z": _redo,
    # napari's own versions of these build a Python set of all points.
    "A": _select_all,
    "Shift-A": _select_all,
    "Control-A": _select_all,
}
"""Keys bound on the layer; Delete, Backspace and 1, which are napari's, exclude too."""


def bind_keys(layer_class: Any) -> None:
    """Bind :data:`KEYS` to a layer class."""
    for key, action in KEYS.items():
        layer_class.bind_key(key, action, overwrite=True)
