"""The link from points to images: selection to pages, pages to the canvas, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal
from qtpy.QtCore import QObject
from qtpy.QtCore import Signal as QtSignal

from napari_embed.gui.link.anchor import read_view, world_at
from napari_embed.gui.link.paging import Order, Paging
from napari_embed.gui.link.pointer import SheetPointer
from napari_embed.gui.link.reader import PageReader, PageResult, ReadThumbnails
from napari_embed.gui.link.sheet_layer import ContactSheet
from napari_embed.gui.link.sheet_on_canvas import SheetOnCanvas, camera_of

__all__ = ["ImageLink"]

log = logging.getLogger(__name__)
LONGEST_CAPTION = 200
MOST_TO_FIT = 200_000
KEYS = ("n", "Shift-N")
Captions = Callable[[NDArray[np.int64]], Sequence[str]]


class _Bridge(QObject):
    """Carries results from the reader's thread to the thread of the window."""

    arrived = QtSignal(object)


class ImageLink:
    """Shows the images of the selected points, page by page, beside the points.

    Parameters
    ----------
    viewer
        napari viewer.
    points_layer
        Has ``mask`` ((n,) bool), ``signals.selection_changed``, ``pulse(id)`` and
        napari's ``data``.
    read_thumbnails
        (m,) ids to (m, h, w), (m, h, w, 1) or (m, h, w, 3) thumbnails; called in a
        thread, may raise.
    captions
        (m,) ids to m short texts for the status bar. Plain text.
    page_size
        Pictures on a page.
    centre
        Called with an id when its picture is clicked, instead of moving the camera to
        the point.

    Notes
    -----
    Signals (psygnal): ``changed()`` whenever ids, page, order or message change;
    ``page_shown(ids)`` when pictures are on the canvas; ``image_clicked(id)``,
    ``image_opened(id)`` (double-click), ``image_hovered(id or -1)``.
    """

    changed = Signal()
    page_shown = Signal(object)
    image_clicked = Signal(int)
    image_opened = Signal(int)
    image_hovered = Signal(int)

    def __init__(
        self,
        viewer: Any,
        points_layer: Any,
        read_thumbnails: ReadThumbnails,
        *,
        captions: Captions | None = None,
        page_size: int = 12,
        centre: Callable[[int], None] | None = None,
    ):
        self.viewer = viewer
        self.points_layer = points_layer
        self.paging = Paging(page_size=page_size)
        self._captions = captions
        self._centre = centre
        self._codes: NDArray[np.integer] | None = None
        self._palette = np.zeros((0, 4), dtype=np.float32)
        self._error = ""
        self._loading = False
        self._hovered = -1
        self._status = ""
        self._closed = False
        self._bridge = _Bridge()
        self._bridge.arrived.connect(self._on_page)
        self._reader = PageReader(read_thumbnails, self._bridge.arrived.emit)
        self._sheet = SheetOnCanvas(viewer, self._class_colors, self._bridge)
        self._pointer = SheetPointer(
            viewer,
            picture_at=self._sheet.picture_at,
            covers=self._sheet.covers,
            on_hover=self._on_hover,
            on_click=self._on_click,
            on_double_click=self._on_double_click,
        )
        points_layer.signals.selection_changed.connect(self._on_selection)
        viewer.events.status.connect(self._on_status)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        for key, step in zip(KEYS, (self.next, self.prev), strict=True):
            viewer.bind_key(key, lambda _viewer, step=step: step(), overwrite=True)
        self._on_selection()

    # Pages

    @property
    def layer(self) -> ContactSheet | None:
        """The "Selected images" layer, or None before the first page."""
        return self._sheet.layer

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) ids of all pages in the order shown."""
        return self.paging.ids

    @property
    def shown_ids(self) -> NDArray[np.int64]:
        """(m,) ids of the pictures that are on the canvas now."""
        return self._sheet.ids

    @property
    def page(self) -> int:
        """Current page, from 0."""
        return self.paging.page

    @property
    def n_pages(self) -> int:
        """Number of pages."""
        return self.paging.n_pages

    @property
    def page_size(self) -> int:
        """Pictures on a page."""
        return self.paging.page_size

    @page_size.setter
    def page_size(self, page_size: int) -> None:
        if page_size != self.paging.page_size:
            self.paging.set_page_size(page_size)
            self._request()

    @property
    def order(self) -> Order:
        """Order of the pictures: "item" (as given), "random" or "label"."""
        return self.paging.order

    @order.setter
    def order(self, order: Order) -> None:
        if order != self.paging.order:
            self.paging.set_order(order)
            self._request()

    @property
    def message(self) -> str:
        """One line: where in the pages we are, or what to do, or what went wrong."""
        if self._error:
            return (
                f"The images of this page could not be read: {self._error}. "
                "The selection is kept; go to another page or select again to retry."
            )
        return self.paging.text()

    @property
    def loading(self) -> bool:
        """Whether the pictures of the current page are still being read."""
        return self._loading

    def set_ids(self, ids: ArrayLike) -> None:
        """Show these items, in the order given, from the first page."""
        self.paging.set_ids(ids)
        self._request()

    def set_categories(
        self, codes: NDArray[np.integer] | None, palette: ArrayLike = ()
    ) -> None:
        """Colour the frames by class, and use the class for the order "label".

        Parameters
        ----------
        codes
            (n,) class per item, indexed by id; -1 is missing. None for no classes.
        palette
            (m, 3 or 4) colours in 0..1.
        """
        self._codes = None if codes is None else np.asarray(codes)
        self._palette = np.asarray(palette, dtype=np.float32).reshape(
            -1, 4 if not np.size(palette) else np.shape(palette)[-1]
        )
        self.paging.set_codes(self._codes)
        if self.paging.order == "label":
            self._request()
        self._sheet.recolor()

    def set_captions(self, captions: Captions | None) -> None:
        """Replace the texts of the status bar."""
        self._captions = captions

    def thumbnails_changed(self) -> None:
        """Read the page again, because the thumbnails behind it changed."""
        self._reader.clear_cache()
        self._request()

    def first(self) -> None:
        """Go to the first page."""
        self.jump(0)

    def prev(self) -> None:
        """Go one page back, if there is one."""
        self.jump(self.paging.page - 1)

    def next(self) -> None:
        """Go one page on, if there is one."""
        self.jump(self.paging.page + 1)

    def last(self) -> None:
        """Go to the last page."""
        self.jump(self.paging.n_pages - 1)

    def jump(self, page: int) -> None:
        """Go to a page (from 0); beyond the ends it is the first or the last."""
        before = self.paging.page
        self.paging.jump(page)
        if self.paging.page != before or self._error:
            self._request()

    # Places

    def item_at(self, position: Sequence[float]) -> int | None:
        """Return the id of the picture at a canvas position (x, y), or None."""
        return self._item(self._sheet.picture_at(position))

    def item_at_world(self, position: Sequence[float]) -> int | None:
        """Return the id of the picture at a world position, or None.

        In 3D the position is taken along the direction of view onto the page.
        """
        return self._item(self._sheet.picture_at_world(position))

    def covers(self, position: Sequence[float]) -> bool:
        """Return whether the page covers a canvas position (x, y)."""
        return self._sheet.covers(position)

    def fit_view(self, *, margin: float = 0.05) -> None:
        """Fit the points into the part of the canvas that the page leaves free."""
        view = read_view(self.viewer)
        points = self._sample_of_points()[:, list(view.displayed)]
        if not len(points):
            return
        # On the screen, not the bounding box: a turned box is mostly empty.
        across, along = points @ view.right, points @ view.down
        low = np.array([along.min(), across.min()])
        high = np.array([along.max(), across.max()])
        height, width = view.size
        taken = self._sheet.taken_width(view)
        room = np.array([height, width - taken]) * (1 - 2 * margin)
        zoom = float(np.min(room / np.maximum(high - low, 1e-12)))
        down, right = (low + high) / 2 + (0, taken / 2 / zoom)
        middle = right * view.right + down * view.down
        if len(middle) == 3:
            depth = points @ view.into
            middle = middle + (depth.min() + depth.max()) / 2 * view.into
        camera_of(self.viewer).zoom = zoom
        self._look_at(middle)

    def _sample_of_points(self) -> NDArray[np.float64]:
        """Return (k, 3) world coordinates of at most 200,000 of the finite points."""
        layer = self.points_layer
        data = np.asarray(layer.data)
        data = data[:: max(1, -(-len(data) // MOST_TO_FIT))].astype(np.float64)
        data = data[np.isfinite(data).all(axis=1)]
        return data * layer.scale + layer.translate

    def close(self) -> None:
        """Leave the viewer: no thread, timer, callback or layer of ours stays."""
        if self._closed:
            return
        self._closed = True
        self.points_layer.signals.selection_changed.disconnect(self._on_selection)
        self.viewer.events.status.disconnect(self._on_status)
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for key in KEYS:
            self.viewer.bind_key(key, None)
        self._on_hover(None)
        self._pointer.close()
        self._sheet.close()
        if not self._reader.close():
            log.warning("a read of thumbnails is stuck; its thread ends with it")
        self._bridge.arrived.disconnect(self._on_page)
        self._bridge.deleteLater()

    # From points to pictures

    def _on_selection(self) -> None:
        self.set_ids(np.flatnonzero(self.points_layer.mask))

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.points_layer:
            self.set_ids([])

    def _request(self) -> None:
        self._error = ""
        ids = self.paging.page_ids()
        self._loading = bool(len(ids))
        if len(ids):
            self._reader.request(ids, self.paging.page_ids(self.paging.page + 1))
        else:
            self._reader.drop()
            self._show_nothing()
        self.changed.emit()

    def _on_page(self, result: PageResult) -> None:
        if self._closed or result.generation != self._reader.generation:
            return
        self._loading = False
        self._error = result.error.rstrip(" .")
        if result.thumbnails is None:
            self._show_nothing()
        else:
            self._sheet.show(
                result.ids,
                result.thumbnails,
                page_size=self.paging.page_size,
                full_page=self.paging.n_pages > 1,
            )
            self.page_shown.emit(result.ids)
        self.changed.emit()

    def _show_nothing(self) -> None:
        self._on_hover(None)
        self._sheet.hide()

    def _class_colors(
        self, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which ids have a coloured class, and the (k, 3) colours of these."""
        classed = np.zeros(len(ids), dtype=bool)
        if self._codes is None or not len(self._palette):
            return classed, np.zeros((0, 3), dtype=np.float32)
        known = (ids >= 0) & (ids < len(self._codes))
        codes = np.full(len(ids), -1, dtype=np.int64)
        codes[known] = self._codes[ids[known]]
        classed = (codes >= 0) & (codes < len(self._palette))
        return classed, self._palette[codes[classed], :3]

    # From pictures to points

    def _item(self, picture: int | None) -> int | None:
        return None if picture is None else int(self._sheet.ids[picture])

    def _on_hover(self, picture: int | None) -> None:
        item = self._item(picture)
        self._sheet.hover(picture)
        if (item if item is not None else -1) == self._hovered:
            return
        self._hovered = -1 if item is None else item
        self._status = "" if item is None else self._caption(item)
        self.viewer.status = self._status or "Ready"
        self.image_hovered.emit(self._hovered)

    def _caption(self, item: int) -> str:
        text = f"Image {item}"
        if self._captions is not None:
            words = self._captions(np.array([item], dtype=np.int64))
            caption = " ".join(str(words[0]).split())[:LONGEST_CAPTION]
            # The status bar takes text that looks like HTML for HTML.
            text = f"{text}: {caption.replace('<', '(').replace('>', ')')}"
        return f"{text} (click to find its point)"

    def _on_status(self, event: Any = None) -> None:
        """Keep our line while a picture is under the cursor; napari writes its own."""
        if self._status and self.viewer.status != self._status:
            self.viewer.status = self._status

    def _on_click(self, picture: int) -> None:
        item = int(self._sheet.ids[picture])
        (self._centre or self._centre_point)(item)
        self.points_layer.pulse(item)
        self.image_clicked.emit(item)

    def _on_double_click(self, picture: int) -> None:
        self.image_opened.emit(int(self._sheet.ids[picture]))

    def _centre_point(self, item: int) -> None:
        """Move the camera so that the point is in the middle of the free canvas."""
        data = self.points_layer.data
        if not 0 <= item < len(data) or not np.all(np.isfinite(data[item])):
            return
        view = read_view(self.viewer)
        world = np.asarray(self.points_layer.data_to_world(data[item]))[-3:]
        height, width = view.size
        # Where the middle of the free part now is, relative to the camera's centre.
        free = world_at(view, (width - self._sheet.taken_width(view)) / 2, height / 2)
        self._look_at(world[list(view.displayed)] - (free - view.center))

    def _look_at(self, center: NDArray[np.float64]) -> None:
        flat = len(center) == 2
        camera_of(self.viewer).center = (0.0, *center) if flat else tuple(center)
