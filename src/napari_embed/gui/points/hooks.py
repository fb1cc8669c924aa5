"""Every private name of napari that the points layer relies on, in one place.

Model side (:class:`HookedPoints` overrides, called by napari):

=========================  ====================================================
``_type_string``           layer lists, icons and writers look up ``"points"``
``_extent_data``           bounds without NaN, computed once per change
``_shown``                 read past ``shown`` by napari before 0.9
``_set_highlight``         would copy the selection; ours is drawn by the visual
``_update_thumbnail``      would copy all positions
``_move``                  dragging a point would break point = item
``_copy_data`` ``_paste_data``  pasting would break point = item
``_drag_modes`` ``_move_modes`` ``_cursor_modes``  our own mouse tools
=========================  ====================================================

Drawing side: the dictionary ``napari._vispy.utils.visual.layer_to_visual`` and the
class in :mod:`napari_embed.gui.points.vispy_layer` (its table is there). Read:
``_slice_input.displayed`` (which axes are on screen), ``_canvas_size`` before napari
0.9, and ``window._qt_viewer.canvas.font_info`` (to make a visual before its layer is
added; without it napari makes it then). A test makes sure that napari still calls
each of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from typing import Any, ClassVar

import numpy as np
from napari.layers import Points
from napari.layers.points._points_constants import Mode
from napari.utils.notifications import show_info

from napari_embed.errors import InputError

from . import tools

__all__ = [
    "HookedPoints",
    "canvas_size",
    "prepare_visual",
    "register_visual",
    "scene_camera",
]


def _ignore(layer: Points, event: Any) -> None:
    """Do nothing on a mouse event."""


def _drag(layer: Any, event: Any) -> Generator[None, None, None]:
    """Box or lasso; napari's own box where napari draws the points."""
    if layer.canvas_matrix() is None:
        yield from Points._drag_modes[Mode.SELECT](layer, event)
    else:
        yield from tools.drag_or_click(layer, event)


class HookedPoints(Points):
    """napari's points layer with its private steps replaced; see the module's text.

    Subclasses provide ``bounds`` (2, 3) in x, y, z and ``refuse(what)``.
    """

    _drag_modes: ClassVar[dict[Mode, Callable[..., Generator[None, None, None]]]] = {
        **Points._drag_modes,
        Mode.PAN_ZOOM: tools.click_only,
        Mode.ADD: tools.click_only,
        Mode.SELECT: _drag,
    }
    _move_modes: ClassVar[dict[Mode, Callable[..., None]]] = {
        **Points._move_modes,
        Mode.ADD: _ignore,
        Mode.SELECT: _ignore,
    }
    _cursor_modes: ClassVar[dict[Mode, str]] = {
        **Points._cursor_modes,
        Mode.SELECT: "crosshair",
    }

    def _start_tools(self) -> None:
        """Let clicks pick from the start: napari adds callbacks on a change only."""
        self.mouse_drag_callbacks.append(self._drag_modes[Mode.PAN_ZOOM])

    @property
    def _type_string(self) -> str:
        return "points"

    @property
    def _extent_data(self) -> np.ndarray:
        return self.bounds[:, ::-1].astype(float)

    @property
    def _shown(self) -> np.ndarray:
        return self.shown

    @_shown.setter
    def _shown(self, shown: Any) -> None:
        """Visibility is kept by the subclass."""

    def _set_highlight(self, force: bool = False) -> None:
        """Do nothing: selected points are drawn by our visual, at no cost per frame."""

    def _update_thumbnail(self) -> None:
        self.thumbnail = self.draw_thumbnail(*self._thumbnail_shape[:2])

    def _move(self, selection_indices: Any, position: Any) -> None:
        self.refuse("moved")

    def _copy_data(self) -> None:
        self.refuse("copied; save or export them instead")

    def _paste_data(self) -> None:
        self.refuse("added")

    def refuse(self, what: str) -> None:
        """Tell the user why a point cannot be changed."""
        show_info(f"Each point stands for an item: points cannot be {what}.")

    def add(self, coords: Any) -> None:
        """Refuse: each point stands for an item."""
        raise InputError("Points cannot be added: each one stands for an item.")

    def remove(self, indices: Any) -> None:
        """Refuse: each point stands for an item."""
        raise InputError(
            "Points cannot be removed: each one stands for an item. Exclude items "
            "or hide points instead."
        )

    def pop(self, index: int = -1) -> dict[str, Any]:
        """Refuse: each point stands for an item."""
        self.remove([index])
        return {}

    def remove_selected(self) -> None:
        """Exclude the selected items; no point is removed."""
        self.exclude_selected()

    waiting_visual: Any = None
    """A visual made before the layer was added, see :func:`prepare_visual`."""

    def drop_visual(self) -> None:
        """Close the visual of a layer that will not be added after all."""
        waiting, self.waiting_visual = self.waiting_visual, None
        if waiting is not None:
            waiting.close()

    @property
    def displayed_axes(self) -> tuple[int, ...]:
        """Axes of ``data`` on the screen, vertical before horizontal."""
        return tuple(self._slice_input.displayed)


def register_visual(layer_class: type[Points]) -> bool:
    """Make napari draw ``layer_class`` with our visual; return whether it does.

    Without it napari draws the layer with its own points visual: slower, and hiding
    points has no effect in some versions.
    """
    try:
        from napari._vispy.utils.visual import layer_to_visual

        from .vispy_layer import make_visual

        layer_to_visual[layer_class] = make_visual
    except Exception as error:  # noqa: BLE001 (private modules may fail in any way)
        warnings.warn(
            "napari-embed cannot use its fast points visual with this version of "
            f"napari ({error}); points are drawn by napari itself, which is slow "
            "above 100,000 points. Update napari-embed or use napari 0.6.6 to 0.10.",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def prepare_visual(layer: Any, viewer: Any) -> None:
    """Make the visual of a layer that is about to be added, in a turn of its own.

    Where that is not possible napari makes it when the layer is added.
    """
    canvas = getattr(getattr(viewer, "window", None), "_qt_viewer", None)
    canvas = getattr(canvas, "canvas", None)
    if canvas is None:
        return
    fonts = getattr(canvas, "font_info", None)
    words = {} if fonts is None else {"font_info": fonts()}
    from .vispy_layer import make_visual

    layer.waiting_visual = make_visual(layer, **words)


def scene_camera(viewer: Any) -> Any:
    """Return the camera model of a viewer, in old and new napari."""
    return getattr(viewer, "scene", viewer).camera


def canvas_size(viewer: Any) -> tuple[int, int]:
    """Return the canvas (height, width) in pixels, in old and new napari."""
    canvas = getattr(viewer, "canvas", None)
    size = canvas.size if canvas is not None else viewer._canvas_size
    return int(size[0]), int(size[1])
