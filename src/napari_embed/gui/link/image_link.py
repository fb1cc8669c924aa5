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
from napari_embed.gui.link.look import Look
from napari_embed.gui.link.paging import Order, Paging
from napari_embed.gui.link.pictures import PictureStore
from napari_embed.gui.link.pointer import SheetPointer
from napari_embed.gui.link.reader import PageReader, PageResult, ReadThumbnails
from napari_embed.gui.link.sheet_layer import ContactSheet
from napari_embed.gui.link.sheet_on_canvas import SheetOnCanvas, camera_of
from napari_embed.gui.link.stack import go_to_image
from napari_embed.gui.points.geometry import project

__all__ = ["ImageLink"]

log = logging.getLogger(__name__)
LONGEST_CAPTION = 200
MOST_TO_FIT = 200_000
EDGE = 12.0  # canvas pixels; a point nearer to the edge counts as hidden
KEYS = ("n", "Shift-N")
Captions = Callable[[NDArray[np.int64]], Sequence[str]]


class _Bridge(QObject):
    """Carries results from the reader's thread to the thread of the window."""

    arrived = QtSignal(object)
    pictures = QtSignal(object)


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
        thread, may raise. It may have ``sources``, (m,) ids to m paths, and
        ``value_range``, limits and extremes of numbers of one channel.
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
    ``image_opened(id)`` (double-click on a picture or a point), ``image_hovered(id or
    -1)``; ``pictures_arrived(ids)`` when `pictures` has more; ``browse_changed()`` when
    `browse_ids` are others; ``look_changed()`` when contrast or colours of the page
    are others, or the colours of the classes.
    """

    changed = Signal()
    page_shown = Signal(object)
    image_clicked = Signal(int)
    image_opened = Signal(int)
    image_hovered = Signal(int)
    pictures_arrived = Signal(object)
    browse_changed = Signal()
    look_changed = Signal()

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
        self.read_thumbnails = read_thumbnails
        self.paging = Paging(page_size=page_size)
        self._captions = captions
        self._centre = centre
        self._codes: NDArray[np.integer] | None = None
        self._palette = np.zeros((0, 4), dtype=np.float32)
        self._names: tuple[str, ...] = ()
        self._all: NDArray[np.int64] | None = None
        self._scores: Callable[[int], str] = _nothing
        self._error = ""
        self._deleted = False  # the layer of the page, by somebody else
        self._loading = False
        self._hovered = -1
        self._status = ""
        self._closed = False
        self._bridge = _Bridge()
        self._bridge.arrived.connect(self._on_page)
        self._bridge.pictures.connect(self._on_pictures)
        self._reader = PageReader(read_thumbnails, self._bridge.arrived.emit)
        self.pictures = PictureStore(
            read_thumbnails,
            self._bridge.pictures.emit,
            sources=getattr(read_thumbnails, "sources", None),
        )
        self._sheet = SheetOnCanvas(
            viewer,
            self.class_colors,
            self._bridge,
            on_look=self.look_changed.emit,
            on_deleted=self._on_page_deleted,
            value_range=lambda: getattr(read_thumbnails, "value_range", None),
        )
        self._pointer = SheetPointer(
            viewer,
            picture_at=self._sheet.picture_at,
            covers=self._sheet.covers,
            on_hover=self._on_hover,
            on_click=self._on_click,
            on_double_click=self._on_double_click,
            on_double_click_beside=self._on_double_click_beside,
        )
        points_layer.signals.selection_changed.connect(self._on_selection)
        points_layer.signals.visibility_changed.connect(self._on_visibility)
        points_layer.signals.clicked.connect(self._on_point_clicked)
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
        """Order of the pictures: "item" (as given), "random", "label" or "given"."""
        return self.paging.order

    @order.setter
    def order(self, order: Order) -> None:
        if order != self.paging.order:
            self.paging.set_order(order)
            self._reordered()

    def set_sequence(self, sequence: NDArray[np.integer], title: str) -> None:
        """Order the pictures as in ``sequence``, a permutation of all ids."""
        self.paging.set_sequence(sequence, title)
        self._reordered()

    def _reordered(self) -> None:
        self._request()
        self._browse_again()

    @property
    def message(self) -> str:
        """One line: where in the pages we are, or what to do, or what went wrong."""
        if self._error:
            return (
                f"The images of this page could not be read: {self._error}. "
                "The selection is kept; go to another page or select again to retry."
            )
        if self._deleted:
            return (
                f"{self.paging.text()}. Their layer was deleted: turn the page or "
                "select again to have it back."
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
        self._browse_again()

    # All pictures

    @property
    def browse_ids(self) -> NDArray[np.int64]:
        """(m,) ids to browse: the selected ones, or all visible when none is."""
        if len(self.paging):
            return self.paging.ids
        if self._all is None:
            layer = self.points_layer
            if layer.pickable is None:
                ids = np.arange(layer.n_items, dtype=np.int64)
            else:
                ids = np.flatnonzero(layer.pickable)
            self._all = self.paging.arrange(ids)
        return self._all

    def _browse_again(self) -> None:
        self._all = None
        self.browse_changed.emit()

    def _on_visibility(self) -> None:
        if not len(self.paging):
            self._browse_again()

    @property
    def look(self) -> Look:
        """How grey pictures are shown: contrast limits and colours of the page."""
        return self._sheet.look()

    def set_categories(
        self,
        codes: NDArray[np.integer] | None,
        palette: ArrayLike = (),
        names: Sequence[str] = (),
    ) -> None:
        """Colour the frames by class, and use the class for the order "label".

        Parameters
        ----------
        codes
            (n,) class per item, indexed by id; -1 is missing. None for no classes.
        palette
            (m, 3 or 4) colours in 0..1.
        names
            What the m classes are called.
        """
        self._names = tuple(names)
        self._codes = None if codes is None else np.asarray(codes)
        self._palette = np.asarray(palette, dtype=np.float32).reshape(
            -1, 4 if not np.size(palette) else np.shape(palette)[-1]
        )
        self.paging.set_codes(self._codes)
        if self.paging.order == "label":
            self._reordered()
        self._sheet.recolor()
        self.look_changed.emit()

    def class_name(self, item: int) -> str:
        """Return the name of an item's class, or ""."""
        if self._codes is None or not 0 <= item < len(self._codes):
            return ""
        code = int(self._codes[item])
        return self._names[code] if 0 <= code < len(self._names) else ""

    def set_scores(self, text: Callable[[int], str] | None) -> None:
        """Show a number below the pictures: id to its text, "" for none."""
        self._scores = text or _nothing
        self.look_changed.emit()

    def score(self, item: int) -> str:
        """Return the number that an item was found by, "" where there is none."""
        return self._scores(item)

    def set_captions(self, captions: Captions | None) -> None:
        """Replace the texts of the status bar."""
        self._captions = captions

    def thumbnails_changed(self) -> None:
        """Read the page again, because the thumbnails behind it changed."""
        self._reader.clear_cache()
        self.pictures.clear()
        self._request()
        self._browse_again()

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
        signals = self.points_layer.signals
        signals.selection_changed.disconnect(self._on_selection)
        signals.visibility_changed.disconnect(self._on_visibility)
        signals.clicked.disconnect(self._on_point_clicked)
        self.viewer.events.status.disconnect(self._on_status)
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for key in KEYS:
            self.viewer.bind_key(key, None)
        self._on_hover(None)
        self._pointer.close()
        self._sheet.close()
        if not (self._reader.close() and self.pictures.close()):
            log.warning("a read of thumbnails is stuck; its thread ends with it")
        self._bridge.arrived.disconnect(self._on_page)
        self._bridge.pictures.disconnect(self._on_pictures)
        self._bridge.deleteLater()

    # From points to pictures

    def _on_selection(self) -> None:
        self.set_ids(np.flatnonzero(self.points_layer.mask))

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.points_layer:
            self.set_ids([])

    def _on_page_deleted(self) -> None:
        self._deleted = True
        self.changed.emit()

    def _request(self) -> None:
        self._error, self._deleted = "", False
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

    def _on_pictures(self, ids: NDArray[np.int64]) -> None:
        if not self._closed:
            self.pictures_arrived.emit(ids)

    def _show_nothing(self) -> None:
        self._on_hover(None)
        self._sheet.hide()

    def class_colors(
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
        score = self._scores(item)
        text += f", {score}" if score else ""
        return f"{text} (click to find its point)"

    def _on_status(self, event: Any = None) -> None:
        """Keep our line while a picture is under the cursor; napari writes its own."""
        if self._status and self.viewer.status != self._status:
            self.viewer.status = self._status

    def _on_click(self, picture: int) -> None:
        item = int(self._sheet.ids[picture])
        self.show_point(item)
        self.image_clicked.emit(item)

    def show_point(self, item: int, *, centre: str = "always") -> bool:
        """Pulse the point of an item; return False if it has no place on the map.

        ``centre`` "always" moves it to the middle, "if hidden" only when it is not on
        the free part of the canvas. Where the source array is a layer of the viewer,
        its slider goes to the item.
        """
        self._on_point_clicked(item)
        data = self.points_layer.data
        if not 0 <= item < len(data) or not np.all(np.isfinite(data[item])):
            return False
        if centre == "always" or not self._in_sight(item):
            (self._centre or self._centre_point)(item)
        self.points_layer.pulse(item)
        return True

    def _on_point_clicked(self, item: int) -> None:
        go_to_image(self.viewer, self.points_layer.n_items, item)

    def _in_sight(self, item: int) -> bool:
        """Return whether the point of an item is on the free part of the canvas."""
        matrix = self.points_layer.canvas_matrix()
        if matrix is None:
            return False
        row = np.asarray(self.points_layer.data[item : item + 1], dtype=float)
        x, y, _ = (float(v[0]) for v in project(row[:, ::-1], matrix))
        view = read_view(self.viewer)
        height, width = view.size
        free = width - self._sheet.taken_width(view)
        return EDGE < x < free - EDGE and EDGE < y < height - EDGE

    def _on_double_click(self, picture: int) -> None:
        self.image_opened.emit(int(self._sheet.ids[picture]))

    def _on_double_click_beside(self, position: Sequence[float]) -> bool:
        """Open the image of the point under the cursor; return whether there is one."""
        layer = self.points_layer
        if not layer.visible:
            return False
        item = int(layer.pick((position[0], position[1])))
        if item >= 0:
            self.image_opened.emit(item)
        return item >= 0

    def _centre_point(self, item: int) -> None:
        """Move the camera so that the point is in the middle of the free canvas."""
        view = read_view(self.viewer)
        data = self.points_layer.data
        world = np.asarray(self.points_layer.data_to_world(data[item]))[-3:]
        height, width = view.size
        # Where the middle of the free part now is, relative to the camera's centre.
        free = world_at(view, (width - self._sheet.taken_width(view)) / 2, height / 2)
        self._look_at(world[list(view.displayed)] - (free - view.center))

    def _look_at(self, center: NDArray[np.float64]) -> None:
        flat = len(center) == 2
        camera_of(self.viewer).center = (0.0, *center) if flat else tuple(center)


def _nothing(_item: int) -> str:
    return ""
