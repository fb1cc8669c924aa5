"""The mouse over the contact sheet: hover, click and double-click on a picture."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

__all__ = ["SheetPointer"]

# A press that travels further than this (canvas pixels) is a drag, not a click.
CLICK_TRAVEL = 4.0


class SheetPointer:
    """Turns napari's mouse events over the page into pictures of the page.

    A press on the page is the page's alone: neither the camera nor the tool of the
    active layer sees it, so that a click on a picture cannot end the selection.

    Parameters
    ----------
    viewer
        napari viewer model.
    picture_at
        Canvas position (x, y) to the picture there, or None.
    covers
        Whether the page covers a canvas position.
    on_hover, on_click, on_double_click
        Called with the picture (hover: or None).
    on_double_click_beside
        Called with a canvas position beside the page; returns whether the double-click
        is dealt with.
    """

    def __init__(
        self,
        viewer: Any,
        *,
        picture_at: Callable[[Any], int | None],
        covers: Callable[[Any], bool],
        on_hover: Callable[[int | None], None],
        on_click: Callable[[int], None],
        on_double_click: Callable[[int], None],
        on_double_click_beside: Callable[[Any], bool] = lambda position: False,
    ):
        self._viewer = viewer
        self._picture_at = picture_at
        self._covers = covers
        self._on_hover = on_hover
        self._on_click = on_click
        self._on_double_click = on_double_click
        self._on_double_click_beside = on_double_click_beside
        # napari keeps callbacks by identity, and a bound method is new on each access.
        self._drag = self._drag_on_page
        self._move = self._move_over_page
        self._double = self._double_click_on_page
        viewer.mouse_drag_callbacks.insert(0, self._drag)
        viewer.mouse_move_callbacks.append(self._move)
        viewer.mouse_double_click_callbacks.insert(0, self._double)

    def close(self) -> None:
        """Take the callbacks back."""
        for callbacks, callback in (
            (self._viewer.mouse_drag_callbacks, self._drag),
            (self._viewer.mouse_move_callbacks, self._move),
            (self._viewer.mouse_double_click_callbacks, self._double),
        ):
            if callback in callbacks:
                callbacks.remove(callback)

    def _move_over_page(self, _viewer: Any, event: Any) -> None:
        self._on_hover(self._picture_at(event.pos))

    def _drag_on_page(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        if not self._covers(event.pos):
            return
        event.handled = True
        start = tuple(event.pos)
        pressed = self._picture_at(start) if event.button == 1 else None
        restore = self._shield(viewer)
        yield
        restore()
        camera = getattr(viewer, "scene", viewer).camera
        pan, camera.mouse_pan = camera.mouse_pan, False
        travelled = False
        while event.type == "mouse_move":
            travelled |= _distance(start, event.pos) > CLICK_TRAVEL
            event.handled = True
            yield
        camera.mouse_pan = pan
        travelled |= _distance(start, event.pos) > CLICK_TRAVEL
        if pressed is not None and not travelled:
            self._on_click(pressed)

    def _shield(self, viewer: Any) -> Callable[[], None]:
        """Keep this press from other callbacks; return what brings them back.

        napari calls the active layer's callbacks even for a handled event. The lists
        are whole again before the next event, whichever comes first.
        """
        layer = viewer.layers.selection.active
        rest = _without(viewer.mouse_drag_callbacks, keep=self._drag)
        of_layer = _without(layer.mouse_drag_callbacks) if layer is not None else []

        def restore() -> None:
            viewer.mouse_drag_callbacks.extend(rest)
            if layer is not None:
                layer.mouse_drag_callbacks[:0] = of_layer
            rest.clear()
            of_layer.clear()

        _later(restore)
        return restore

    def _double_click_on_page(self, viewer: Any, event: Any) -> None:
        on_page = self._covers(event.pos)
        if not on_page and not self._on_double_click_beside(event.pos):
            return
        event.handled = True
        # napari's own double-click would zoom; it comes later in this very list.
        rest = _without(viewer.mouse_double_click_callbacks, keep=self._double)
        _later(lambda: viewer.mouse_double_click_callbacks.extend(rest))
        picture = self._picture_at(event.pos) if on_page else None
        if picture is not None:
            self._on_double_click(picture)


def _without(callbacks: list[Any], keep: Any = None) -> list[Any]:
    """Take the callbacks out of a list that is being walked, and return them."""
    taken = [callback for callback in callbacks if callback is not keep]
    callbacks[:] = [keep] if keep is not None else []
    return taken


def _later(action: Callable[[], None]) -> None:
    from qtpy.QtCore import QTimer

    QTimer.singleShot(0, action)


def _distance(start: Any, end: Any) -> float:
    return float(max(abs(start[0] - end[0]), abs(start[1] - end[1])))
