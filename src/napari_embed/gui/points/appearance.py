"""Colours, sizes and markers of the points layer, under napari's names and ours.

napari keeps a size, a symbol, a width and two colours for each point; here they are
one value for the layer (or a row of the colour table), and what napari reads is a
view that repeats it.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from napari.layers import Points
from napari.layers.points._points_constants import Symbol
from napari.utils.colormaps import ensure_colormap
from napari.utils.colormaps.standardize_color import transform_color

from napari_embed.errors import InputError

from . import coloring
from .coloring import SHAPES, Coloring
from .look import FIT_PIXELS, Look

__all__ = ["FIT_PIXELS", "Appearance"]

_SIZE_RANGE = (1.6, 9.0)
_COVERAGE = 1.3  # summed area of all points over the area the map occupies
_CATEGORY_MAX = 4000
_MARKER = 6.0  # pixels that a marker of a class needs
_MARKED_POINTS = 1_000_000

# The nearest marker we draw for napari's other symbols.
_SYMBOL_SHAPE = {
    **{Symbol(name): number for number, name in enumerate(SHAPES)},
    Symbol.ARROW: SHAPES.index("triangle_up"),
    Symbol.TAILED_ARROW: SHAPES.index("triangle_up"),
    Symbol.CLOBBER: SHAPES.index("disc"),
    Symbol.HBAR: SHAPES.index("cross"),
    Symbol.VBAR: SHAPES.index("cross"),
}


class Appearance(Look):
    """Mixin of :class:`EmbeddingPoints`: how its points look."""

    def _set_up_appearance(self, n: int) -> None:
        self._coloring = coloring.uniform(n, (1.0, 1.0, 1.0, 1.0))
        self._occupied: float | None = None
        self._rim = np.ones(4, np.float32)
        self._values: tuple[Any, tuple[float, float] | None] | None = None
        self._marker = Symbol.DISC

    # -- colours

    @property
    def coloring(self) -> Coloring:
        """Colour table and each point's row in it."""
        return self._coloring

    def color_uniform(self, color: Any) -> None:
        """Give all points one colour (name, hex or RGBA)."""
        rgba = transform_color(color)[0]
        self._values = None
        # The swatch of napari's controls shows this one.
        self._face._update_current_color(rgba)
        self._take(coloring.uniform(self.n_items, rgba))
        self.events.current_face_color()

    def color_by_categories(
        self,
        codes: npt.ArrayLike,
        palette: npt.ArrayLike,
        missing: int = -1,
        *,
        shapes: npt.ArrayLike | None = None,
    ) -> None:
        """Colour by category.

        Parameters
        ----------
        codes : array-like of int, shape (n,)
            Palette row of each point.
        palette : array-like of float, shape (m, 4)
            RGBA between 0 and 1; codes beyond it start over.
        missing : int
            Code of points without a category, drawn grey (as all negative codes).
        shapes : array-like of int, shape (m,), optional
            Marker of each category, see :data:`coloring.SHAPES`.
        """
        codes = self._one_per_point(codes, "category codes")
        self._values = None
        self._take(
            coloring.by_categories(codes, palette, missing=missing, shapes=shapes)
        )

    def color_by_values(
        self,
        values: npt.ArrayLike,
        colormap: Any = "viridis",
        limits: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        """Colour by number.

        Parameters
        ----------
        values : array-like of float, shape (n,)
            NaN is grey.
        colormap : str, napari Colormap or array-like (k, 4)
            Colours from the lower to the upper limit.
        limits : (low, high), optional
            The range of the finite values by default.

        Returns
        -------
        limits : (low, high)
            The limits used.
        """
        values = self._one_per_point(values, "values")
        if isinstance(colormap, np.ndarray | list | tuple):
            colors = np.asarray(colormap, dtype=float)
        else:
            colormap = ensure_colormap(colormap)
            self._face.continuous_colormap = colormap
            colors = colormap.map(np.linspace(0, 1, 256))
        result, used = coloring.by_values(values, colors, limits)
        self._values = (values, limits)
        self._take(result)
        return used

    def _one_per_point(self, values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
        values = np.asarray(values)
        if values.shape != (self.n_items,):
            raise InputError(
                f"Found {what} of shape {values.shape}, expected ({self.n_items},)."
            )
        return values

    def _take(self, result: Coloring) -> None:
        if not result.shapes.any():
            result = self._with_markers(result)
        same_index = result.index is self._coloring.index
        self._coloring = result
        if self._link is not None:
            self._link.table_changed()
        if not same_index:
            self._state_changed()
        if self._link is None and self._ready:
            self.events.face_color()
        self.signals.colors_changed.emit()

    def _with_markers(self, result: Coloring) -> Coloring:
        """Return the colours with a marker for each class, or with the layer's."""
        if self.shapes_by_class and result.by_class:
            return result.with_class_shapes()
        return result.with_shape(_SYMBOL_SHAPE[self._marker])

    @property
    def face_color(self) -> npt.NDArray[np.float32]:
        """RGBA of each point, (n, 4).

        May be set to one colour, to RGBA rows (n, 4), or to the name of a feature.
        """
        return self._coloring.rgba()

    @face_color.setter
    def face_color(self, color: Any) -> None:
        if not self._ready:
            return
        if isinstance(color, str) and color in self.features:
            self._color_by_feature(self.features[color])
            return
        rgba = transform_color(color)
        if len(rgba) == 1:
            self.color_uniform(rgba[0])
            return
        if len(rgba) != self.n_items:
            raise InputError(
                f"Found {len(rgba)} colours, expected 1 or {self.n_items}."
            )
        self._values = None
        self._take(coloring.by_rgba(rgba))

    def _color_by_feature(self, column: pd.Series) -> None:
        is_number = pd.api.types.is_numeric_dtype(column)
        if is_number and not pd.api.types.is_bool_dtype(column):
            self.color_by_values(
                column.to_numpy(float), self.face_colormap, self._limits()
            )
            return
        codes, names = pd.factorize(column)
        wanted = min(max(len(names), 1), _CATEGORY_MAX)
        cycle = np.atleast_2d(self.face_color_cycle)
        self.color_by_categories(codes, np.resize(cycle, (wanted, cycle.shape[1])))

    def _limits(self) -> tuple[float, float] | None:
        return Points.face_contrast_limits.fget(self)

    @property
    def current_face_color(self) -> str:
        """Colour shown in napari's controls; setting it colours all points."""
        return Points.current_face_color.fget(self)

    @current_face_color.setter
    def current_face_color(self, color: Any) -> None:
        rgba = transform_color(color)[0]
        if not np.allclose(rgba, self._face.current_color):
            self.color_uniform(rgba)

    @property
    def face_color_mode(self) -> str:
        """Return "direct", "cycle" or "colormap" as in napari."""
        if self._values is not None:
            return "colormap"
        return "direct" if self._coloring.n_rows == 1 else "cycle"

    @face_color_mode.setter
    def face_color_mode(self, mode: Any) -> None:
        self.refuse("coloured in this way; use face_color or the colour menu")

    @property
    def face_colormap(self) -> Any:
        """Colormap used when points are coloured by number."""
        return Points.face_colormap.fget(self)

    @face_colormap.setter
    def face_colormap(self, colormap: Any) -> None:
        if self._ready and self._values is not None:
            self.color_by_values(self._values[0], colormap, self._values[1])
        else:
            Points.face_colormap.fset(self, colormap)

    @property
    def face_contrast_limits(self) -> tuple[float, float] | None:
        """Values drawn in the first and last colour of the colormap."""
        return self._values[1] if self._values is not None else self._limits()

    @face_contrast_limits.setter
    def face_contrast_limits(self, limits: tuple[float, float] | None) -> None:
        if self._ready and self._values is not None:
            self.color_by_values(self._values[0], self.face_colormap, limits)
        Points.face_contrast_limits.fset(self, limits)

    @property
    def border_color(self) -> npt.NDArray[np.float32]:
        """Colour of the rim of selected points, repeated (n, 4)."""
        return np.broadcast_to(self._rim, (self.n_items, 4))

    @border_color.setter
    def border_color(self, color: Any) -> None:
        if self._ready:
            self.current_border_color = color

    @property
    def current_border_color(self) -> str:
        """Colour of the rim drawn around selected points."""
        return Points.current_border_color.fget(self)

    @current_border_color.setter
    def current_border_color(self, color: Any) -> None:
        self._rim = transform_color(color)[0].astype(np.float32)
        self._border._update_current_color(self._rim)
        if self._link is not None:
            self._link.update()
        self.events.current_border_color()

    @property
    def border_width(self) -> npt.NDArray[np.float64]:
        """Zero for each point; selected points have a rim of fixed width."""
        return np.broadcast_to(0.0, self.n_items)

    @border_width.setter
    def border_width(self, width: Any) -> None:
        self._current_border_width = 0.0

    @property
    def current_border_width(self) -> float:
        """Zero, see :attr:`border_width`."""
        return 0.0

    @current_border_width.setter
    def current_border_width(self, width: Any) -> None:
        self.events.current_border_width()

    # -- sizes

    def _automatic_size(self) -> float:
        if not self.n_items:
            return _SIZE_RANGE[1]
        area = self.occupied * FIT_PIXELS**2
        size = np.sqrt(_COVERAGE * area / self.n_items / (np.pi / 4))
        low, high = _SIZE_RANGE
        if self.shapes_by_class and self._coloring.by_class:
            # Markers cannot be told apart below this; more points get them by zooming.
            low *= np.clip(np.sqrt(_MARKED_POINTS / self.n_items), 1.0, _MARKER / low)
        return float(np.clip(size, low, high))

    @property
    def occupied(self) -> float:
        """Share of the map's bounding square that has points in it, 0 to 1."""
        if self._occupied is None:
            self._occupied = self._measure_occupied()
        return self._occupied

    def _measure_occupied(self) -> float:
        span = self.bounds[1] - self.bounds[0]
        widest = float(np.max(span, initial=0.0))
        if not np.isfinite(widest) or widest <= 0:
            return 1.0
        sample = self._xyz[self._order[:8192], :2]
        # So few cells that an evenly filled one holds about nine points.
        cells = int(np.clip(np.sqrt(len(sample)) / 3, 1, 32))
        with np.errstate(invalid="ignore"):
            at = (sample - self.bounds[0, :2]) / widest * cells
            at = at[np.isfinite(at).all(axis=1)].astype(int).clip(0, cells - 1)
        filled = np.unique(at[:, 0] * cells + at[:, 1]).size
        return max(filled / cells**2, 1e-3)

    @property
    def pixel(self) -> float:
        """Size of a pixel in data units when the map is 600 pixels across."""
        span = float(np.max(self.bounds[1] - self.bounds[0], initial=0.0))
        return span / FIT_PIXELS if np.isfinite(span) and span > 0 else 1.0

    @property
    def current_size(self) -> float:
        """:attr:`point_size`, under the name of napari's slider."""
        return self.point_size if self._ready else 10.0

    @current_size.setter
    def current_size(self, size: Any) -> None:
        if isinstance(size, list | tuple | np.ndarray):
            size = size[-1]
        if not isinstance(size, numbers.Number):
            raise TypeError("current_size must be a number")
        self.point_size = float(size)

    @property
    def size(self) -> npt.NDArray[np.float64]:
        """Diameter in data units, repeated (n,); the same for all points."""
        return np.broadcast_to(self.point_size * self.pixel, self.n_items)

    @size.setter
    def size(self, size: Any) -> None:
        if self._ready:
            self.point_size = float(np.mean(size)) / self.pixel

    # -- markers

    @property
    def symbol(self) -> npt.NDArray[Any]:
        """Marker of each point, (n,)."""
        if not self._coloring.shapes.any():
            return np.broadcast_to(np.array(self._marker, dtype=object), self.n_items)
        names = np.array([Symbol(name) for name in SHAPES], dtype=object)
        return names[self._coloring.shapes[self._coloring.index]]

    @symbol.setter
    def symbol(self, symbol: Any) -> None:
        if self._ready:
            first = symbol if isinstance(symbol, str | Symbol) else symbol[0]
            self.current_symbol = first

    @property
    def current_symbol(self) -> Symbol:
        """Marker of all points; those napari has and we lack become the nearest."""
        return self._marker

    @current_symbol.setter
    def current_symbol(self, symbol: Any) -> None:
        if isinstance(symbol, np.ndarray):
            symbol = symbol.item()
        self._marker = symbol if isinstance(symbol, Symbol) else _symbol(symbol)
        if self._ready:
            self._take(self._with_markers(self._coloring))
            self.events.symbol()
            self.events.current_symbol()


def _symbol(name: str) -> Symbol:
    from napari.layers.points._points_constants import SYMBOL_DICT

    if name not in SYMBOL_DICT:
        raise InputError(f"Unknown marker {name!r}; known are {', '.join(SHAPES)}.")
    return SYMBOL_DICT[name]
