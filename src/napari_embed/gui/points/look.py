"""What the user chooses of the points' look: size, opacity, density, markers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_embed.gui.display import Density, DisplaySettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from .coloring import Coloring

__all__ = ["FIT_PIXELS", "Look"]

FIT_PIXELS = 600.0
"""Canvas pixels across the map for which point sizes are meant."""


class Look:
    """Mixin of :class:`EmbeddingPoints`: its :class:`DisplaySettings`."""

    if TYPE_CHECKING:
        _link: Any
        _ready: bool
        _coloring: Coloring
        signals: Any
        events: Any
        bounds: npt.NDArray[np.float32]
        refresh: Any
        _take: Any
        _with_markers: Any
        pickable: npt.NDArray[np.bool_] | None
        n_items: int
        drawn: int

    _display = DisplaySettings()

    @property
    def display(self) -> DisplaySettings:
        """How the points are displayed; replace it as a whole or in parts below."""
        return self._display

    @display.setter
    def display(self, settings: DisplaySettings) -> None:
        before, self._display = self._display, settings
        if settings == before:
            return
        if settings.shapes != before.shapes and self._ready:
            self._take(self._with_markers(self._coloring))
        if settings.size != before.size:
            self.events.current_size()
        if self._link is not None:
            self._link.display_changed()
        elif self._ready:
            self.refresh(extent=False, highlight=False)
        self.signals.display_changed.emit()

    def set_display(self, **changes: Any) -> None:
        """Change parts of :attr:`display`, named as in :class:`DisplaySettings`."""
        self.display = replace(self._display, **changes)

    @property
    def point_size(self) -> float:
        """Diameter in pixels when the map is 600 pixels across.

        Zooming in makes points grow, but more slowly than the map, so they separate.
        From the number and density of the points unless it has been set.
        """
        chosen = self._display.size
        return self._automatic_size() if chosen is None else chosen

    @point_size.setter
    def point_size(self, pixels: float | None) -> None:
        self.set_display(size=None if pixels is None else float(pixels))

    def _automatic_size(self) -> float:
        raise NotImplementedError

    @property
    def point_opacity(self) -> float | None:
        """Opacity of each point, 0 to 1; None: from the density on the canvas."""
        return self._display.opacity

    @point_opacity.setter
    def point_opacity(self, opacity: float | None) -> None:
        self.set_display(opacity=None if opacity is None else float(opacity))

    @property
    def density(self) -> Density:
        """How density is drawn: off, colors or heat, see :class:`DisplaySettings`."""
        return self._display.density

    @density.setter
    def density(self, mode: Density) -> None:
        self.set_display(density=mode)

    @property
    def shapes_by_class(self) -> bool:
        """Whether each class has a marker of its own."""
        return self._display.shapes

    @shapes_by_class.setter
    def shapes_by_class(self, wanted: bool) -> None:
        self.set_display(shapes=bool(wanted))

    @property
    def frame_points(self) -> int | None:
        """Most points drawn while the camera moves; None: what the card takes."""
        return self._display.frame_points

    @frame_points.setter
    def frame_points(self, most: int | None) -> None:
        self.set_display(frame_points=None if most is None else int(most))

    @property
    def front_only(self) -> bool:
        """Whether box and lasso leave out points that others hide."""
        return self._display.front_only

    @front_only.setter
    def front_only(self, wanted: bool) -> None:
        self.set_display(front_only=bool(wanted))

    @property
    def front_cell(self) -> float:
        """Side in pixels of the cells in which only the nearest point is seen."""
        radius = 1.0 if self._link is None else self._link.drawn_radius
        return max(2.0 * radius, 2.0)

    def drawn_words(self) -> str:
        """Return "showing 500,000 of 3,000,000", or "" when all are drawn."""
        shown = self.pickable
        total = self.n_items if shown is None else int(np.count_nonzero(shown))
        if self._link is None or self.drawn >= total:
            return ""
        return f"showing {self.drawn:,} of {total:,}"
