"""Keys of the map, bound on its layers (napari ignores keys in a manifest)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_embed.gui.controller import Controller

__all__ = ["KEYS", "KeyAction", "bind_keys", "key_list"]


@dataclass(frozen=True)
class KeyAction:
    """A key, what it does in words, and the wish it stands for."""

    key: str
    words: str
    act: Callable[[Controller], None]
    shown: str = ""

    @property
    def label(self) -> str:
        """The key as people write it."""
        return self.shown or self.key


# What the controller has to know of; the layer's own keys do the rest.
KEYS: tuple[KeyAction, ...] = (
    KeyAction("H", "Hide the selected points", lambda c: c.hide_selected()),
    KeyAction("O", "Show the selected points only", lambda c: c.isolate_selected()),
    KeyAction("Shift-H", "Show all points", lambda c: c.show_all(), shown="Shift+H"),
    KeyAction(
        "X",
        "Exclude the selected items; nothing is deleted",
        lambda c: c.exclude_selected(),
        shown="X, Delete",
    ),
    KeyAction(
        "K", "Find what is most like the selected", lambda c: c.alike_wanted.emit()
    ),
    KeyAction(
        "R",
        "Review the selected, one after the other",
        lambda c: c.review_wanted.emit(),
    ),
    KeyAction("T", "Tag the selected items as last time", lambda c: c.tag_again()),
    KeyAction(
        "Control-Z",
        "Undo: select, hide, exclude, decide",
        lambda c: c.undo(),
        shown="Ctrl+Z",
    ),
    KeyAction("Control-Shift-Z", "Redo", lambda c: c.redo(), shown="Ctrl+Shift+Z"),
    KeyAction("F", "Look at the selection, or at all", lambda c: c.fit_selection()),
    KeyAction("G", "Open the gallery", lambda c: c.panel_wanted.emit("gallery")),
    KeyAction("?", "This list", lambda c: c.panel_wanted.emit("keys")),
)

# Bound by the points layer, the image link and napari.
OTHER_KEYS: tuple[tuple[str, str], ...] = (
    ("L", "Lasso: drag around points"),
    ("B", "Box: drag a rectangle around points"),
    ("Shift + drag", "Add to the selection"),
    ("Alt or Ctrl + drag", "Take from the selection"),
    ("Shift + Alt + drag", "Keep only what was selected before, too"),
    ("Click", "Select one point; on an image: show its point"),
    ("Double-click", "On a point or an image: open it at full size"),
    ("Shift + click", "Add or take one point"),
    ("Esc", "Select nothing, back to moving the camera"),
    ("I", "Invert the selection"),
    ("A", "Select all visible points, or none"),
    ("N, Shift+N", "Next, previous page of images"),
    ("1 to 9", "Gallery, review: give the tag with this key, or take it off"),
    ("Space, Left, Esc", "Review: skip, back, leave"),
    ("Ctrl+Y", "The 2D or the 3D map; a 3D map alone is seen flat"),
)


def key_list() -> tuple[tuple[str, str], ...]:
    """Return every key with what it does."""
    return (*OTHER_KEYS, *((k.label, k.words) for k in KEYS))


def bind_keys(layer: Any, controller: Controller) -> None:
    """Bind all keys on a layer (or viewer); they act while it is the active one."""
    for action in KEYS:

        def press(_owner: Any, act: Callable[[Controller], None] = action.act) -> None:
            act(controller)

        press.__doc__ = action.words
        layer.bind_key(action.key, press, overwrite=True)
