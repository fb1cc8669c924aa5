"""The Image layer "Selected images": napari's own layer, outside of the scene's extent.

Contrast limits, colormap, gamma, opacity, blending and visibility are napari's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.events import Event
from numpy.typing import NDArray

from napari_embed.gui.link.anchor import ScreenPlace, View, sheet_affine
from napari_embed.gui.link.contact_sheet import SheetGeometry

__all__ = ["ContactSheet", "SheetDecoration"]

# No step of a slider may come from the page; the smallest step of all layers counts.
NO_STEP = 1e9


@dataclass(frozen=True)
class SheetDecoration:
    """What is drawn around the pictures: panel, frames, the one under the cursor."""

    geometry: SheetGeometry
    frames: NDArray[np.float32]
    panel: tuple[float, float, float]
    accent: tuple[float, float, float]
    hovered: int | None = None


class ContactSheet(Image):
    """One page of thumbnails, held at a place of the screen.

    Its extent is empty, so that it moves neither sliders nor fit-to-view, and placing
    it makes no other layer slice again.
    """

    def __init__(self, page: NDArray[np.generic], *, rgb: bool, **kwargs: Any):
        self._order = (0, 1, 2)
        self._page = page
        self._placing = False
        self._slice_at: float | None = None
        self.decoration: SheetDecoration | None = None
        self.place: ScreenPlace | None = None
        super().__init__(page[None], rgb=rgb, **kwargs)
        self.events.add(decoration=Event, place=Event, resized=Event)

    @property
    def _type_string(self) -> str:
        return "image"

    @property
    def page(self) -> NDArray[np.generic]:
        """(height, width) or (height, width, 3) the composed page."""
        return self._page

    @cached_property
    def extent(self) -> Any:
        """Nothing: the page belongs to the screen, not to the world."""
        return self._without_extent(super().extent)

    @cached_property
    def _extent_augmented(self) -> Any:
        return self._without_extent(super()._extent_augmented)

    def _without_extent(self, extent: Any) -> Any:
        return extent._replace(
            world=np.full_like(extent.world, np.nan, dtype=np.float64),
            step=np.full_like(extent.step, NO_STEP, dtype=np.float64),
        )

    def show_page(
        self, page: NDArray[np.generic], decoration: SheetDecoration | None
    ) -> None:
        """Show another page of the same kind (grey or colour)."""
        self._page = page
        self.decoration = decoration
        self.data = self._oriented(page)
        self.events.decoration()

    def decorate(self, decoration: SheetDecoration | None) -> None:
        """Change frames, panel or the hovered picture only."""
        self.decoration = decoration
        self.events.decoration()

    def stand_at(self, place: ScreenPlace, view: View) -> None:
        """Hold the page at a place of the screen for this view."""
        order = view.displayed
        if view.hidden is not None:
            order = (view.hidden, *order)
        if order != self._order:
            self._order = order
            self.data = self._oriented(self._page)
        self.place = None if view.gridded else place
        # Moving the page on the screen changes nothing of its slice, except when the
        # slice of 2D moves.
        slice_at = None if view.hidden is None else view.point
        self._placing = slice_at == self._slice_at
        self._slice_at = slice_at
        self.affine = sheet_affine(view, place)
        self._placing = False
        self.events.place()

    def refresh(self, *args: Any, **kwargs: Any) -> None:
        """Slice again, unless only the place of the page changed."""
        if not self._placing:
            super().refresh(*args, **kwargs)

    def _slice_dims(self, dims: Any, *args: Any, **kwargs: Any) -> Any:
        # napari slices for 2D before any callback of ours, and warns about a layer
        # that is oblique to the slice, as the page is in 3D.
        if dims.ndisplay == 2 and self._slice_input.ndisplay == 3:
            self.affine = np.eye(4)
        return super()._slice_dims(dims, *args, **kwargs)

    def _oriented(self, page: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the page as (1, height, width), its axes along the displayed ones."""
        axes = [0, 0, 0]
        for along, axis in enumerate(self._order):
            axes[axis] = along
        return np.transpose(page[None], (*axes, 3) if self.rgb else tuple(axes))
