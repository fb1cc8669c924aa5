"""Features of the points and colours by feature, under napari's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from napari.layers import Points

from napari_embed.errors import InputError
from napari_embed.gui.legend.palettes import category_palette

from .appearance import Appearance
from .coloring import Coloring

__all__ = ["Features"]

_MODES = ("direct", "cycle", "colormap")
_MOST_CATEGORIES = 4000


class Features(Appearance):
    """Mixin of :class:`EmbeddingPoints`: the table of features, and colour by it."""

    def _set_up_features(self) -> None:
        self._color_feature: str | None = None
        self._color_mode = "direct"
        self._own_cycle = False  # whether someone has chosen a cycle

    # -- the table

    @property
    def features(self) -> Any:
        """One row of features per item, a data frame."""
        return Points.features.fget(self)

    @features.setter
    def features(self, features: Any) -> None:
        if not self._ready:
            Points.features.fset(self, features)
            return
        Points.features.fset(self, one_row_per_point(features, self.n_items))
        self.refresh_colors()

    @property
    def properties(self) -> dict[str, npt.NDArray[Any]]:
        """The features as arrays, napari's older name for them."""
        return Points.properties.fget(self)

    @properties.setter
    def properties(self, properties: Any) -> None:
        self.features = properties

    @property
    def current_properties(self) -> dict[str, npt.NDArray[Any]]:
        """Values that napari would give to new points; there are none."""
        return Points.current_properties.fget(self)

    @current_properties.setter
    def current_properties(self, current_properties: Any) -> None:
        # Stock napari writes them to the selected points, one by one.
        with self.block_update_properties():
            Points.current_properties.fset(self, current_properties)

    @property
    def text(self) -> Any:
        """No text is drawn beside points; the status bar describes them."""
        return Points.text.fget(self)

    @text.setter
    def text(self, text: Any) -> None:
        if not self._ready:
            Points.text.fset(self, text)
        elif text is not None:
            self.refuse("labelled with text; hover over them instead")

    # -- colours by feature

    @property
    def face_color(self) -> npt.NDArray[np.float32]:
        """RGBA of each point, (n, 4).

        May be set to one colour, to RGBA rows (n, 4), or to the name of a feature:
        numbers take ``face_colormap``, everything else ``face_color_cycle``.
        """
        return Appearance.face_color.fget(self)

    @face_color.setter
    def face_color(self, color: Any) -> None:
        Appearance.face_color.fset(self, color)
        if self._ready and self._color_feature is None:
            self._color_mode = "direct"

    def _color_by_feature(self, column: pd.Series, mode: str = "") -> None:
        is_number = pd.api.types.is_numeric_dtype(column)
        is_number = is_number and not pd.api.types.is_bool_dtype(column)
        if mode == "colormap" or (is_number and mode != "cycle"):
            if not is_number:
                raise InputError(
                    f"Feature {column.name!r} holds {column.dtype}; a colormap needs "
                    "numbers."
                )
            values = column.to_numpy(dtype=float, na_value=np.nan)
            self.color_by_values(values, self.face_colormap, self._limits())
            self._color_mode = "colormap"
        else:
            codes, names = _categories(column)
            self.color_by_categories(codes, self._cycle(len(names)))
            self._color_mode = "cycle"
        self._color_feature = column.name

    def _cycle(self, n_categories: int) -> npt.NDArray[np.float32]:
        """Return colours (m, 4): the chosen cycle, or the palette for the eye."""
        wanted = min(max(n_categories, 1), _MOST_CATEGORIES)
        if not self._own_cycle:
            return category_palette(wanted)
        cycle = np.atleast_2d(self.face_color_cycle)
        return np.resize(cycle, (wanted, cycle.shape[1]))

    def _take(self, result: Coloring) -> None:
        if result.index is not self._coloring.index:  # else only other markers
            self._color_feature = None
            several = result.n_rows > 1
            self._color_mode = "cycle" if several else "direct"
        super()._take(result)

    def refresh_colors(self, update_color_mapping: bool = False) -> None:
        """Colour anew by the feature that gives the colours, if one does."""
        name = self._color_feature
        if name is not None and name in self.features:
            self._color_by_feature(self.features[name], self._color_mode)

    def restore_coloring(self, result: Coloring, mode: str) -> None:
        """Take colours that were saved; ``mode`` as in `face_color_mode`."""
        if len(result.index) != self.n_items or mode not in _MODES:
            raise InputError(
                f"Found {len(result.index)} colours in mode {mode!r}, expected "
                f"{self.n_items} in one of {_MODES}."
            )
        self._values = None
        self._take(result)
        self._color_mode = mode

    @property
    def face_color_mode(self) -> str:
        """Return "direct", "cycle" or "colormap" as in napari.

        May be set to colour by the feature in use (or the first one) in that way.
        """
        return "colormap" if self._values is not None else self._color_mode

    @face_color_mode.setter
    def face_color_mode(self, mode: Any) -> None:
        mode = str(getattr(mode, "value", mode)).lower()
        if mode not in _MODES:
            raise InputError(f"face_color_mode is {mode!r}, expected one of {_MODES}.")
        if mode == "direct":
            self._color_feature, self._values = None, None
            self._color_mode = "direct"
            return
        columns = list(self.features.columns)
        if not columns:
            raise InputError(f"There is no feature to colour by: {mode!r} needs one.")
        used = self._color_feature
        column = self.features[used if used in columns else columns[0]]
        self._color_by_feature(column, mode)

    @property
    def face_color_cycle(self) -> npt.NDArray[np.float32]:
        """Colours of categories, (m, 4); start over when there are more."""
        return Points.face_color_cycle.fget(self)

    @face_color_cycle.setter
    def face_color_cycle(self, cycle: Any) -> None:
        Points.face_color_cycle.fset(self, cycle)
        if self._ready:
            self._own_cycle = True
            if self._color_mode == "cycle":
                self.refresh_colors()

    @property
    def face_colormap(self) -> Any:
        """Colormap used when points are coloured by number."""
        return Appearance.face_colormap.fget(self)

    @face_colormap.setter
    def face_colormap(self, colormap: Any) -> None:
        name = self._color_feature
        Appearance.face_colormap.fset(self, colormap)
        self._keep_feature(name)

    @property
    def face_contrast_limits(self) -> tuple[float, float] | None:
        """Values drawn in the first and last colour of the colormap."""
        return Appearance.face_contrast_limits.fget(self)

    @face_contrast_limits.setter
    def face_contrast_limits(self, limits: tuple[float, float] | None) -> None:
        name = self._color_feature
        Appearance.face_contrast_limits.fset(self, limits)
        self._keep_feature(name)

    def _keep_feature(self, name: str | None) -> None:
        """Remember the feature: other colours for the same values."""
        if name is not None and self._values is not None:
            self._color_feature, self._color_mode = name, "colormap"


def _categories(column: pd.Series) -> tuple[npt.NDArray[np.intp], pd.Index]:
    """Return a code per value, -1 where there is none, and what the codes mean."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    return pd.factorize(column)


def one_row_per_point(features: Any, n: int) -> pd.DataFrame:
    """Return a data frame with a fresh index; converts each column only once.

    Raises
    ------
    InputError
        If it is no table, or a column has not one value per point.
    """
    if features is None:
        features = {}
    if isinstance(features, pd.DataFrame):
        if len(features.columns) and len(features) != n:
            raise InputError(
                f"Found {len(features)} rows of features, expected {n}: one per point, "
                "in the order of the points."
            )
        return features.reset_index(drop=True) if len(features.columns) else _empty(n)
    if not isinstance(features, Mapping):
        raise InputError(
            f"Features are a {type(features).__name__}, expected a table: a data frame "
            "or a dictionary of columns."
        )
    for name, values in features.items():
        shape = np.shape(values)
        if shape != (n,):
            found = f"{shape[0]} values" if len(shape) == 1 else f"shape {shape}"
            raise InputError(
                f"Feature {name!r} has {found}, expected {n} values, one per point."
            )
    return pd.DataFrame(dict(features), index=range(n)) if features else _empty(n)


def _empty(n: int) -> pd.DataFrame:
    return pd.DataFrame(index=range(n))
