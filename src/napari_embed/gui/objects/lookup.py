"""A colour map of a labels layer for tens of thousands of labels and a few colours.

napari's own checks every entry of a dictionary: a second for 20,000 labels. This one
looks labels up in arrays. It replaces private methods of napari, each of which
`tests/gui/test_objects_panel.py` sees called; the data of the layer are never touched.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from pydantic import PrivateAttr

__all__ = ["LookupColormap", "lookup_colormap"]

_MOST_TABLE = 1 << 24


class LookupColormap(DirectLabelColormap):  # type: ignore[misc]
    """Colours of labels from sorted arrays; made by `lookup_colormap`."""

    _ids: NDArray[np.int64] = PrivateAttr()
    _codes: NDArray[np.int64] = PrivateAttr()
    _palette: NDArray[np.float32] = PrivateAttr()
    _table: Any = PrivateAttr(default=None)

    def code_of(self, values: Any) -> NDArray[np.integer]:
        """Return 0 for labels without a colour, else the row of the palette + 1."""
        labels = np.asarray(values)
        small = np.uint8 if len(self._palette) < 255 else np.uint16
        if not self._ids.size:
            return np.zeros(labels.shape, small)
        largest = int(self._ids[-1])
        if largest < _MOST_TABLE:
            if self._table is None:
                self._table = np.zeros(largest + 2, small)
                self._table[self._ids] = self._codes + 1
            # One beyond the largest stands for all that are unknown.
            inside = np.clip(labels, 0, largest + 1).astype(np.int64)
            return np.asarray(self._table[inside])
        at = np.searchsorted(self._ids, labels.astype(np.int64))
        at = np.minimum(at, self._ids.size - 1)
        known = self._ids[at] == labels
        return np.where(known, self._codes[at] + 1, 0).astype(small)

    def map(self, values: Any) -> NDArray[np.float32]:
        """Return the colours of labels, with one more axis of RGBA."""
        colors = np.vstack([np.zeros((1, 4), np.float32), self._palette])
        shown: NDArray[np.float32] = colors[self.code_of(values)]
        if self.use_selection:
            shown[np.asarray(values) != self.selection] = 0
        return shown

    def _map_without_cache(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return self.map(values)

    def _data_to_texture(self, values: Any) -> Any:
        if self.use_selection:
            return (np.asarray(values) == self.selection).astype(np.uint8)
        return self.code_of(values)

    @cached_property
    def _num_unique_colors(self) -> int:
        return len(self._palette)

    @cached_property
    def _label_mapping_and_color_dict(self) -> Any:
        colors = {0: np.zeros(4, np.float32)}
        colors |= {code + 1: color for code, color in enumerate(self._palette)}
        return {None: 0}, colors


def lookup_colormap(
    ids: NDArray[np.int64], codes: NDArray[np.integer], palette: NDArray[np.float32]
) -> LookupColormap:
    """Return a colour map: label ``ids[i]`` gets ``palette[codes[i]]``.

    Parameters
    ----------
    ids
        (n,) labels above 0, in any order.
    codes
        (n,) rows of the palette; labels with a code below 0 stay transparent.
    palette
        (m, 4) RGBA in 0..1, at most 65,000.
    """
    kept = codes >= 0
    order = np.argsort(ids[kept], kind="stable")
    # A dictionary of nothing but the background would be taken for no colour map.
    first = np.float32([1, 1, 1, 1]) if not len(palette) else palette[0]
    made = LookupColormap(color_dict={None: "transparent", 0: "transparent", 1: first})
    made._ids = ids[kept][order].astype(np.int64)
    made._codes = codes[kept][order].astype(np.int64)
    made._palette = np.asarray(palette, np.float32).reshape(-1, 4)
    return made
