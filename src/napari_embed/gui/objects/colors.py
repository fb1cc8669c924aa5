"""What colour each object of a picture has: as its point, dimmed if not selected."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import ensure_colormap
from numpy.typing import NDArray

from napari_embed.gui.coloring import Coloring

__all__ = ["object_colors"]

PLAIN = (0.45, 0.62, 0.92, 1.0)
MISSING = (0.55, 0.55, 0.55, 1.0)
STEPS = 64
DIMMED = 0.3


def object_colors(
    rows: NDArray[np.int64],
    coloring: Coloring | None,
    selected: NDArray[np.bool_],
    visible: NDArray[np.bool_] | None,
    *,
    colormap: str,
    limits: tuple[float, float],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return codes of the items ``rows`` and the (m, 4) palette they point into.

    With a selection, all others are dimmed; hidden items have the code -1.

    Parameters
    ----------
    rows
        Items of one picture.
    coloring
        How the points are coloured; None for one colour.
    selected, visible
        (n_items,) masks; ``selected`` may be empty, ``visible`` None.
    colormap, limits
        Of numbers.
    """
    codes, palette = _plain(rows, coloring, colormap, limits)
    if selected.size and selected.any():
        dim = palette * np.float32([1, 1, 1, DIMMED])
        palette = np.concatenate([dim, palette])
        codes = codes + np.where(selected[rows], len(dim), 0)
    if visible is not None and visible.size:
        codes = np.where(visible[rows], codes, -1)
    return codes, palette


def _plain(
    rows: NDArray[np.int64],
    coloring: Coloring | None,
    colormap: str,
    limits: tuple[float, float],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if coloring is None:
        return np.zeros(rows.size, np.int64), np.float32([PLAIN])
    if coloring.kind == "category":
        palette = np.concatenate([coloring.palette, np.float32([MISSING])])
        codes = coloring.codes[rows].astype(np.int64)
        return np.where(codes < 0, len(palette) - 1, codes), palette
    colors = ensure_colormap(colormap).map(np.linspace(0, 1, STEPS))
    palette = np.concatenate([colors.astype(np.float32), np.float32([MISSING])])
    values = coloring.values[rows]
    low, high = limits
    share = (values - low) / max(high - low, 1e-12)
    finite = np.isfinite(share)
    step = np.clip(np.nan_to_num(share) * (STEPS - 1), 0, STEPS - 1).round()
    return np.where(finite, step, STEPS).astype(np.int64), palette
