"""The page in the viewer: composes it, keeps its layer, holds it on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QGuiApplication

from napari_embed.gui.link.anchor import ScreenPlace, View, read_view
from napari_embed.gui.link.contact_sheet import compose_sheet, is_grey, plan_sheet
from napari_embed.gui.link.look import Look, full_range, look_of_layer
from napari_embed.gui.link.registry import register
from napari_embed.gui.link.sheet_layer import ContactSheet, SheetDecoration

__all__ = ["LAYER_NAME", "SheetOnCanvas", "camera_of"]

LAYER_NAME = "Selected images"
# Canvas pixels around the page, and the share of the canvas's width it may take.
MARGIN = 12.0
WIDEST = 0.33
LARGEST_PICTURE = 168
FRAME, GAP = 2, 4
# The world coordinates of the page follow the camera at most this often (30 Hz); the
# drawing itself stands still in every frame.
PLACE_INTERVAL_MS = 33

RGB = tuple[float, float, float]
ClassColors = Callable[
    [NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.float32]]
]


def camera_of(viewer: Any) -> Any:
    """Return the camera model, which moved to ``viewer.scene`` in napari 0.9."""
    return getattr(viewer, "scene", viewer).camera


class SheetOnCanvas:
    """One page of pictures at the right edge of the canvas.

    Parameters
    ----------
    viewer
        napari viewer.
    class_colors
        (m,) ids to a mask of those with a class and the (k, 3) colours of these.
    parent
        Owner of the timer.
    on_look
        Called when contrast or colours of the page changed.
    on_deleted
        Called when somebody else took the layer of the page away.
    value_range
        Returns limits and extremes of pictures of one channel, None if not known.
    """

    def __init__(
        self,
        viewer: Any,
        class_colors: ClassColors,
        parent: QObject,
        *,
        on_look: Callable[[], None] | None = None,
        on_deleted: Callable[[], None] | None = None,
        value_range: Callable[[], Any] = lambda: None,
    ):
        register()
        self._value_range = value_range
        self._on_look = on_look
        self._on_deleted = on_deleted
        self._viewer = viewer
        self._class_colors = class_colors
        self._rgb = False
        self._wanted_visible = True
        self._ours = False
        self._closed = False
        self._thumbnails: NDArray[np.generic] | None = None
        self._page_size = 1
        self._full_page = False
        self.layer: ContactSheet | None = None
        self.ids = np.zeros(0, dtype=np.int64)
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PLACE_INTERVAL_MS)
        self._timer.timeout.connect(self._on_place_due)
        self._place_due = False
        for emitter, callback in self._events():
            emitter.connect(callback)
        # After napari sliced for the new display: it cannot slice an oblique layer.
        viewer.dims.events.ndisplay.connect(self._on_display, position="last")

    def close(self) -> None:
        """Leave the viewer as it was without the page."""
        self._closed = True
        self._timer.stop()
        self._viewer.dims.events.ndisplay.disconnect(self._on_display)
        for emitter, callback in self._events():
            emitter.disconnect(callback)
        self._remove_layer()

    # What is shown

    @property
    def showing(self) -> bool:
        """Whether pictures are to be seen."""
        return bool(len(self.ids)) and self.layer is not None and self.layer.visible

    def show(
        self,
        ids: NDArray[np.int64],
        thumbnails: NDArray[np.generic],
        *,
        page_size: int,
        full_page: bool,
    ) -> None:
        """Show these pictures; see `plan_sheet` for ``page_size``, ``full_page``."""
        self.ids = ids
        self._thumbnails = thumbnails
        self._page_size = max(page_size, len(ids))
        self._full_page = full_page
        self._compose()

    def hide(self) -> None:
        """Show nothing."""
        self.ids = np.zeros(0, dtype=np.int64)
        self._thumbnails = None
        self._set_visible(False)

    def look(self) -> Look:
        """Return contrast limits and colours of the page; of colour pages none."""
        known = self._value_range()
        if self.layer is None and known is not None:
            return Look(known.limits)
        return look_of_layer(self.layer)

    def _look_changed(self, event: Any = None) -> None:
        if self._on_look is not None and not self._closed:
            self._on_look()

    def hover(self, picture: int | None) -> None:
        """Mark the picture under the cursor."""
        decoration = self.layer.decoration if self.layer is not None else None
        if decoration is not None and decoration.hovered != picture:
            self.layer.decorate(replace(decoration, hovered=picture))

    def recolor(self) -> None:
        """Draw frames and panel again, because classes or the theme changed."""
        if self.layer is not None and self.layer.decoration is not None:
            geometry = self.layer.decoration.geometry
            if len(self.ids) == geometry.count:
                self.layer.decorate(self._decoration(geometry))

    # Where it is

    def picture_at(self, position: Sequence[float] | None) -> int | None:
        """Return the picture at a canvas position (x, y), or None."""
        layer = self.layer
        if position is None or layer is None or not self.showing:
            return None
        if layer.place is None or layer.decoration is None:
            return None
        return layer.decoration.geometry.cell_at(
            *layer.place.to_texel(position[0], position[1])
        )

    def picture_at_world(self, position: Sequence[float]) -> int | None:
        """Return the picture at a world position, seen along the view, or None."""
        layer = self.layer
        if layer is None or layer.decoration is None or not self.showing:
            return None
        self.place()
        texel = np.asarray(layer.world_to_data(position))
        rows, columns = read_view(self._viewer).displayed[-2:]
        return layer.decoration.geometry.cell_at(
            texel[rows] + 0.5, texel[columns] + 0.5
        )

    def covers(self, position: Sequence[float] | None) -> bool:
        """Return whether the page covers a canvas position (x, y)."""
        layer = self.layer
        if position is None or layer is None or not self.showing or not layer.place:
            return False
        row, column = layer.place.to_texel(position[0], position[1])
        height, width = layer.page.shape[:2]
        return 0 <= row < height and 0 <= column < width

    def taken_width(self, view: View) -> float:
        """Return how many canvas pixels at the right belong to the page."""
        if self.layer is None or self.layer.place is None or not self.showing:
            return 0.0
        return view.size[1] - self.layer.place.left

    def place(self) -> None:
        """Hold the page at its place for the present camera."""
        self._place_due = False
        if self.layer is not None and not self._closed:
            view = read_view(self._viewer)
            self.layer.stand_at(self._screen_place(self.layer.page, view), view)

    def _screen_place(self, page: NDArray[np.generic], view: View) -> ScreenPlace:
        scale = 1.0 / _pixel_ratio()
        left = np.floor(view.size[1] - MARGIN - page.shape[1] * scale)
        return ScreenPlace(max(0.0, float(left)), MARGIN, scale)

    # Events

    def _events(self) -> list[tuple[Any, Callable[..., None]]]:
        viewer = self._viewer
        camera = camera_of(viewer)
        canvas = getattr(viewer, "canvas", None)
        grid = canvas.grid if canvas is not None else viewer.grid
        pairs = [
            (camera.events.center, self._on_camera),
            (camera.events.zoom, self._on_camera),
            (camera.events.angles, self._on_camera),
            (camera.events.perspective, self._on_camera),
            (camera.events.orientation, self._on_camera),
            (viewer.dims.events.point, self._on_camera),
            (viewer.dims.events.order, self._on_display),
            (viewer.events.theme, self._on_theme),
            (viewer.layers.events.inserted, self._on_layer_inserted),
            (viewer.layers.events.removed, self._on_layer_removed),
            (grid.events, self._on_canvas),
        ]
        if canvas is not None:
            pairs.append((canvas.events.size, self._on_canvas))
        return pairs

    def _on_camera(self, event: Any = None) -> None:
        if self._timer.isActive():
            self._place_due = True
        else:
            self.place()
            self._timer.start()

    def _on_place_due(self) -> None:
        if self._place_due:
            self.place()
            self._timer.start()

    def _on_display(self, event: Any = None) -> None:
        self.place()
        # napari moves the camera of the new display after this; follow it.
        self._place_due = True
        self._timer.start()

    def _on_canvas(self, event: Any = None) -> None:
        self._compose()

    def _on_theme(self, event: Any = None) -> None:
        self.recolor()

    def _on_layer_inserted(self, event: Any) -> None:
        if event.value is not self.layer and self.layer is not None:
            QTimer.singleShot(0, self._raise_layer)

    def _raise_layer(self) -> None:
        layers, layer = self._viewer.layers, self.layer
        if not self._closed and layer in layers and layers[-1] is not layer:
            layers.move(layers.index(layer), len(layers))

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.layer and not self._ours:
            self._follow(self.layer, follow=False)
            self.layer = None
            self.hide()
            if self._on_deleted is not None:
                self._on_deleted()

    def _on_visible(self, event: Any = None) -> None:
        if not self._ours and self.layer is not None:
            self._wanted_visible = bool(self.layer.visible)

    # The layer

    def _compose(self) -> None:
        """Put the pictures on the canvas, for its present size."""
        if self._thumbnails is None:
            return
        view = read_view(self._viewer)
        ratio = _pixel_ratio()
        height, width = view.size
        share = 1.0 if view.gridded else WIDEST
        geometry = plan_sheet(
            len(self._thumbnails),
            page_size=self._page_size,
            thumbnail=self._thumbnails.shape[1:3],
            box=((height - 2 * MARGIN) * ratio, width * share * ratio),
            full_page=self._full_page,
            frame=round(FRAME * ratio),
            gap=round(GAP * ratio),
            largest=LARGEST_PICTURE * ratio,
        )
        self._rgb = self._rgb or not is_grey(self._thumbnails)
        as_kind = _as_rgb if self._rgb else _as_grey
        page = compose_sheet(as_kind(self._thumbnails), geometry)
        self._update_layer(page, self._decoration(geometry))

    def _update_layer(
        self, page: NDArray[np.generic], decoration: SheetDecoration
    ) -> None:
        layer = self.layer
        if layer is not None and (layer.rgb, layer.dtype) != (self._rgb, page.dtype):
            self._remove_layer()
        if self.layer is None:
            self._add_layer(page, decoration)
        else:
            self.layer.show_page(page, decoration)
        self.place()
        self._set_visible(self._wanted_visible)

    def _add_layer(
        self, page: NDArray[np.generic], decoration: SheetDecoration
    ) -> None:
        known = None if page.dtype == np.uint8 else self._value_range()
        grey = {"colormap": "gray", "contrast_limits": full_range(page)}
        if known is not None:
            # Of all images, so that every page is shown alike.
            grey["contrast_limits"] = known.limits
        layer = ContactSheet(
            page,
            rgb=self._rgb,
            name=LAYER_NAME,
            blending="translucent_no_depth",
            interpolation2d="nearest",
            interpolation3d="nearest",
            **({} if self._rgb else grey),
        )
        if known is not None and not self._rgb:
            layer.contrast_limits_range = known.extremes
            layer.contrast_limits = known.limits
        layer.decoration = decoration
        selection = self._viewer.layers.selection
        active, selected = selection.active, set(selection)
        self.layer = layer
        self._follow(layer)
        if not hasattr(self._viewer, "canvas"):
            # napari before 0.9 does not tell of a new size; our drawing does.
            layer.events.resized.connect(self._on_canvas)
        self._viewer.add_layer(layer)
        if active is not None:
            # The tools of the points stay at hand.
            selection.clear()
            selection.update(selected)
            selection.active = active
        self._look_changed()

    def _remove_layer(self) -> None:
        layer, self.layer = self.layer, None
        if layer is None:
            return
        self._follow(layer, follow=False)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _follow(self, layer: ContactSheet, *, follow: bool = True) -> None:
        events = layer.events
        looks = (events.contrast_limits, events.colormap, events.gamma)
        for emitter in looks:
            (emitter.connect if follow else emitter.disconnect)(self._look_changed)
        visible = events.visible
        (visible.connect if follow else visible.disconnect)(self._on_visible)

    def _set_visible(self, visible: bool) -> None:
        if self.layer is not None and self.layer.visible != visible:
            self._ours = True
            self.layer.visible = visible
            self._ours = False

    # Colours

    def _decoration(self, geometry: Any) -> SheetDecoration:
        panel, text = self._theme_colors()
        quiet = 0.6 * np.asarray(panel) + 0.4 * np.asarray(text)
        frames = np.tile(quiet.astype(np.float32), (len(self.ids), 1))
        classed, colors = self._class_colors(self.ids)
        frames[classed] = colors
        return SheetDecoration(geometry, frames, panel, text)

    def _theme_colors(self) -> tuple[RGB, RGB]:
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        panel, text = (
            tuple(channel / 255 for channel in color.as_rgb_tuple()[:3])
            for color in (theme.background, theme.text)
        )
        return panel, text


def _pixel_ratio() -> float:
    """Return device pixels per logical pixel, as a whole number."""
    app = QGuiApplication.instance()
    return float(max(1, round(app.devicePixelRatio()))) if app is not None else 1.0


def _as_grey(thumbnails: NDArray[np.generic]) -> NDArray[np.generic]:
    return thumbnails if thumbnails.ndim == 3 else thumbnails[..., 0]


def _as_rgb(thumbnails: NDArray[np.generic]) -> NDArray[np.generic]:
    if thumbnails.ndim == 3:
        thumbnails = thumbnails[..., None]
    if thumbnails.dtype != np.uint8:
        low, high = full_range(thumbnails)
        scaled = (thumbnails.astype(np.float64) - low) * (255 / (high - low))
        thumbnails = np.clip(scaled, 0, 255).astype(np.uint8)
    return thumbnails if thumbnails.shape[-1] == 3 else thumbnails.repeat(3, axis=-1)
