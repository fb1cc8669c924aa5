"""The controller's canvas in napari: the points layer and the images beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.gui.arriving import Arriving
from napari_embed.gui.cameras import Cameras
from napari_embed.gui.display import DisplaySettings, PageView, Stand
from napari_embed.gui.history import History
from napari_embed.gui.link import ImageLink
from napari_embed.gui.points import EmbeddingPoints
from napari_embed.gui.points.camera import fit_camera

__all__ = ["NapariMap"]

logger = logging.getLogger(__name__)
PLAIN_COLOR = (0.45, 0.62, 0.92, 1.0)
# The camera follows a cloud that grew or shrank by this factor, or drifted by this
# share of its size.
GROWN, SHRUNK, DRIFTED = 1.06, 0.8, 0.08
ReadThumbnails = Callable[[Sequence[int]], NDArray[np.uint8]]
Captions = Callable[[NDArray[np.int64]], Sequence[str]]


class NapariMap(Arriving):
    """Shows one map in a viewer; keeps layer, selection and colours over re-layouts.

    Parameters
    ----------
    viewer
        A napari viewer.
    """

    link_changed = Signal()
    layer_added = Signal(object)
    drawn_changed = Signal(str)  # how many points the last frame shows
    drawing_failed = Signal(str)  # what the graphics card could not do

    def __init__(self, viewer: Any) -> None:
        self.on_selection: Callable[[int], None] | None = None
        self.on_tool: Callable[[str], None] | None = None
        self.on_excluded: Callable[[int], None] | None = None
        self.on_removed: Callable[[], None] | None = None
        self.on_ndisplay: Callable[[int], None] | None = None
        self.on_display: Callable[[DisplaySettings], None] | None = None
        self.history = History()
        self.layer: EmbeddingPoints | None = None
        self.link: ImageLink | None = None
        self._viewer = viewer
        self._read: ReadThumbnails | None = None
        self._captions: Captions | None = None
        self._categories: tuple[Any, Any, Any] | None = None
        self._fitted = (np.zeros(3, np.float32), float("nan"))
        self._cameras = Cameras(viewer)
        self._layouts: dict[str, bytes] = {}
        self._turning = False  # the dimensions are changed by us
        self._free_width = float("inf")  # canvas pixels left of the images
        self._tool = "pan"
        self._select_mode = "replace"
        self._display = DisplaySettings()
        self._excluded: NDArray[np.bool_] | None = None  # of a layer that was removed
        self._set_up_arriving()
        viewer.layers.events.removed.connect(self._removed)
        # After napari's own, which moves the camera.
        viewer.dims.events.ndisplay.connect(self._ndisplay_changed, position="last")

    # --- points ------------------------------------------------------------------

    def show(
        self, positions: NDArray[np.float32], *, name: str, n_components: int
    ) -> None:
        """Put (n, 2|3) positions on the canvas and look at all of them.

        A map that was seen before and is the same is seen as it was left.
        """
        if self.layer is not None and not self._fits(positions):
            self._take_away()
        self._leave_map()
        if self.layer is None:
            self._follow_layer(self._receive(positions, name))
        else:
            self._stop_arriving()
            self.layer.set_positions(positions)
            self.layer.name = name
        self._turn_to(n_components)
        self._free_width = float("inf")
        if self._layouts.get(name) != self.layer.bounds.tobytes():
            self._cameras.forget(name)  # it was computed anew
        self._look_again(name)

    def _leave_map(self) -> None:
        """Note what the map shown is like, to know it again."""
        if self.layer is not None and self._cameras.map:
            self._layouts[self._cameras.map] = self.layer.bounds.tobytes()
        self._cameras.follow("")

    def _look_again(self, name: str) -> None:
        """Look at a map as it was left, or at all of it."""
        stand = self._cameras.before(name, self._viewer.dims.ndisplay)
        self._cameras.follow(name)
        if stand is not None:
            self._cameras.restore(stand)
        if stand is None or stand.fitted:
            self.fit()
        else:
            self._fitted = self._extent()

    def set_ndisplay(self, d: int) -> None:
        """See the map in 2 or 3 dimensions: a 3D map may be seen flat."""
        self._viewer.dims.ndisplay = d

    def _ndisplay_changed(self, event: Any = None) -> None:
        """Answer the dimensions that the user has changed, by napari's button say."""
        if self._turning or self.layer is None:
            return
        self._look_again(self._cameras.map)
        if self.on_ndisplay is not None:
            self.on_ndisplay(int(self._viewer.dims.ndisplay))

    def _follow_layer(self, layer: EmbeddingPoints) -> None:
        """Join a layer that has come to the canvas with what was chosen before."""
        self.layer = layer
        layer.signals.selection_changed.connect(self._selection_changed)
        layer.signals.tool_changed.connect(self._tool_changed)
        layer.signals.excluded_changed.connect(self._excluded_changed)
        layer.history = self.history
        layer.tool = self._tool
        layer.select_mode = self._select_mode
        layer.display = self._display
        layer.signals.display_changed.connect(self._display_changed)
        layer.signals.drawn_changed.connect(self._drawn_changed)
        layer.signals.drawing_failed.connect(self._drawing_failed)
        self.layer_added.emit(layer)
        self._make_link()

    def update_positions(self, positions: NDArray[np.float32]) -> None:
        """Move the points; the camera follows a cloud that grows, shrinks or drifts.

        It stays where the user has put it, apart from the change of scale.
        """
        if self.layer is None:
            return
        self.layer.set_positions(positions)
        middle, radius = self._extent()
        old_middle, old_radius = self._fitted
        if not (radius > 0 and old_radius > 0):
            return
        ratio = radius / old_radius
        drift = float(np.abs(middle - old_middle).max()) / radius
        if SHRUNK < ratio < GROWN and drift < DRIFTED:
            return
        if self._cameras.untouched:
            self.fit()
        elif not SHRUNK < ratio < GROWN:
            camera = self._cameras.camera
            camera.zoom = camera.zoom / ratio
            camera.center = tuple(float(c) * ratio for c in camera.center)
            self._fitted = middle, radius

    def _extent(self) -> tuple[NDArray[np.float32], float]:
        """Return middle and half the longest side of the cloud, NaN without points."""
        if self.layer is None:
            return np.zeros(3, np.float32), float("nan")
        low, high = self.layer.bounds
        return (low + high) / 2, float((high - low).max() / 2)

    def _active(self) -> Any:
        return self._viewer.layers.selection.active

    def fit(self) -> None:
        """Look at all points."""
        if self.layer is None:
            return
        self._fitted = self._extent()
        if self.link is not None:
            self.link.fit_view()
        else:
            fit_camera(self.layer, viewer=self._viewer)
        self._cameras.fitted()

    def fit_again(self) -> None:
        """Look at all points in a canvas of another size, unless the user moved."""
        if self.layer is not None and self._cameras.untouched:
            self.fit()

    def fit_selection(self) -> None:
        """Look at the selected points, or at all."""
        if self.layer is None:
            return
        mask = self.selection()
        if mask.any():
            fit_camera(self.layer, mask, viewer=self._viewer)
        else:
            self.fit()

    def stand(self) -> Stand | None:
        """Return where the camera stands, None without a map."""
        shown = self._cameras.map
        return self._cameras.before(shown, self._viewer.dims.ndisplay)

    def look_from(self, stand: Stand) -> None:
        """Put the camera there."""
        if self.layer is None:
            return
        self._cameras.restore(stand)
        if stand.fitted:
            self.fit()
        else:
            self._fitted = self._extent()

    def clear(self) -> None:
        """Take points and images away."""
        self._stop_arriving()
        self._take_away()

    def _take_away(self) -> None:
        layer = self.layer
        self._drop_link()
        self.layer = self._excluded = None
        self.history.clear()
        self._leave_map()
        self._cameras.forget()
        self._layouts.clear()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _removed(self, event: Any) -> None:
        """Forget a layer that the user deleted."""
        if event.value is self._coming:
            self._coming = None
            self._stop_arriving()
        if event.value is self.layer and self.layer is not None:
            self._excluded = np.array(self.layer.excluded_mask)
            self._drop_link()
            self._leave_map()
            self.layer = None
            self.history.clear()
            if self.on_selection is not None:
                self.on_selection(0)
            if self.on_removed is not None:
                self.on_removed()

    # --- images ------------------------------------------------------------------

    def set_thumbnails(
        self, read: ReadThumbnails | None, captions: Captions | None = None
    ) -> None:
        """Say where the images of selected points and their captions come from."""
        self._read, self._captions = read, captions
        self._drop_link()
        if self.layer is not None:
            self._make_link()

    def set_looks(self, looks: Any) -> None:
        """Show crops of objects with other contrast and colours from now on."""
        if self._read is not None and hasattr(self._read, "looks"):
            self._read.looks = looks
            if self.link is not None:
                self.link.thumbnails_changed()

    def _make_link(self) -> None:
        if self._read is not None and self.layer is not None:
            self.link = ImageLink(
                self._viewer, self.layer, self._read, captions=self._captions
            )
            if self._categories is not None:
                self.link.set_categories(*self._categories)
            self.link.page_shown.connect(self._make_room)
            self.link_changed.emit()

    def page(self) -> PageView | None:
        """Return which page of the selected images is shown, None without images."""
        if self.link is None:
            return None
        return PageView(self.link.page, self.link.page_size, self.link.order)

    def turn_to(self, page: PageView) -> None:
        """Show that page, or the nearest that exists."""
        if self.link is not None:
            self.link.page_size = page.size
            self.link.order = page.order  # type: ignore[assignment]
            self.link.jump(page.page)

    def _make_room(self, _ids: Any) -> None:
        """Move the points out from under the images, unless the user has moved them.

        Only when the images take more room than before, so that the map stands still
        from one selection to the next.
        """
        sheet = self.link.layer if self.link is not None else None
        place = sheet.place if sheet is not None else None
        if place is None or place.left >= self._free_width:
            return
        if self._cameras.untouched:
            self.fit()
            self._free_width = place.left

    def _drop_link(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close()
            self.link_changed.emit()

    # --- colours -----------------------------------------------------------------

    def color_by_categories(
        self,
        codes: NDArray[np.int32],
        palette: NDArray[np.float32],
        *,
        column: str,
        names: Sequence[str],
    ) -> None:
        """Colour by class, -1 is missing; ``names`` of the classes of ``column``."""
        self._categories = (codes, palette, names)
        if self.layer is not None:
            # The status bar names the class of the point under the cursor.
            values = pd.Categorical.from_codes(codes, list(names))
            self.layer.features = pd.DataFrame({column or "class": values})
            self.layer.color_by_categories(codes, palette)
        if self.link is not None:
            self.link.set_categories(codes, palette, names)

    def color_by_values(
        self, values: NDArray[np.float32], colormap: str, limits: tuple[float, float]
    ) -> None:
        """Colour by number."""
        self._no_categories()
        if self.layer is not None:
            self.layer.color_by_values(values, colormap, limits)

    def color_plain(self) -> None:
        """Give all points one colour."""
        self._no_categories()
        if self.layer is not None:
            self.layer.color_uniform(PLAIN_COLOR)

    def _no_categories(self) -> None:
        self._categories = None
        if self.link is not None:
            self.link.set_categories(None)

    def set_visible(self, mask: NDArray[np.bool_]) -> None:
        """Show only these points."""
        if self.layer is not None:
            self.layer.set_visible(mask)

    # --- selection ---------------------------------------------------------------

    def _selection_changed(self) -> None:
        if self.layer is not None and self.layer is self._active():
            # napari asks again only when the mouse moves.
            self._viewer.status = self.layer.get_status()
        if self.on_selection is not None:
            self.on_selection(int(self.selection().sum()))

    def selection(self) -> NDArray[np.bool_]:
        """Return the (n,) mask of selected points."""
        if self.layer is None:
            return np.zeros(0, dtype=bool)
        return np.asarray(self.layer.mask)

    def select(self, what: Any, how: str = "replace") -> None:
        """Change the selection."""
        if self.layer is not None:
            self.layer.select(what, how)

    def invert_selection(self) -> None:
        """Select what is not selected."""
        if self.layer is not None:
            self.layer.invert_selection()

    def clear_selection(self) -> None:
        """Select nothing."""
        if self.layer is not None:
            self.layer.clear_selection()

    def excluded(self) -> NDArray[np.bool_]:
        """Return the (n,) mask of excluded items."""
        if self.layer is None:
            return np.zeros(0, dtype=bool)
        return np.asarray(self.layer.excluded_mask)

    def set_excluded(self, mask: NDArray[np.bool_]) -> None:
        """Take exactly these items (n,) out, also of a map that is shown later."""
        if self.layer is None:
            self._excluded = np.array(mask)
        else:
            self.layer.set_excluded(mask)

    def exclude_selected(self) -> None:
        """Take the selected items out of the map; nothing is deleted."""
        if self.layer is not None:
            self.layer.exclude_selected()

    def include_all(self) -> None:
        """Take excluded items back in."""
        if self.layer is not None:
            self.layer.include_all()

    def _excluded_changed(self) -> None:
        if self.layer is not None and self.on_excluded is not None:
            self.on_excluded(self.layer.n_excluded)

    def set_select_mode(self, how: str) -> None:
        """Choose what a box, lasso or click does when no key is held."""
        self._select_mode = how
        if self.layer is not None:
            self.layer.select_mode = how

    def _tool_changed(self, tool: str) -> None:
        self._tool = tool
        if self.on_tool is not None:
            self.on_tool(tool)

    def set_display(self, settings: DisplaySettings) -> None:
        """Choose how points look; kept for the maps that follow."""
        self._display = settings
        if self.layer is not None:
            self.layer.display = settings

    def _display_changed(self) -> None:
        if self.layer is not None:
            self._display = self.layer.display
            if self.on_display is not None:
                self.on_display(self._display)

    def _drawn_changed(self, _n_drawn: int) -> None:
        """Say how many points are drawn, when it is a part and when all are again."""
        if self.layer is None:
            return
        self.drawn_changed.emit(self.layer.drawn_words())
        if self.layer is self._active():
            # napari asks again only when the mouse moves.
            self._viewer.status = self.layer.get_status()

    def _drawing_failed(self, text: str) -> None:
        # Not connected to the other signal itself: that one would hear all signals of
        # the layer's group.
        self.drawing_failed.emit(text)

    def set_tool(self, tool: str) -> None:
        """Choose what a drag does."""
        self._tool = tool
        if self.layer is not None:
            self._viewer.layers.selection.active = self.layer
            self.layer.tool = tool

    # --- end ---------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the viewer; the layers stay with it."""
        self._stop_arriving()
        self._drop_link()
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._viewer.dims.events.ndisplay.disconnect(self._ndisplay_changed)
        self._cameras.close()
        self.history.clear()
        self.layer = None
        self.on_selection = self.on_tool = None
        self.on_excluded = self.on_removed = self.on_ndisplay = None
