"""Orders of all items, computed on the reading thread. No Qt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.state import ColumnInfo

__all__ = ["by_column", "by_likeness", "by_place", "sequence"]


def sequence(keys: NDArray[Any], *, descending: bool = False) -> NDArray[np.int32]:
    """Return all ids sorted by (n,) keys, equal ones by id; NaN always comes last."""
    values = np.asarray(keys)
    if descending:
        values = -values.astype(np.float64)
    return np.argsort(values, kind="stable").astype(np.int32)


def by_column(
    project: Any, column: ColumnInfo, *, descending: bool = False
) -> NDArray[np.int32]:
    """Return all ids sorted by a column of an open project, empty values last."""
    if column.kind == "category":
        codes, _ = project.categories(column.name)
        keys = np.where(codes < 0, np.nan, codes)
    else:
        keys = np.asarray(project.column_values(column.name), dtype=np.float64)
    return sequence(keys, descending=descending)


def by_place(positions: NDArray[np.floating], item: int) -> NDArray[np.int32]:
    """Return all ids by their distance on the map, (n, d) positions, to an item."""
    away = np.square(positions - positions[item]).sum(axis=1)
    away[item] = -1.0
    return sequence(away)


def by_likeness(
    vectors: Iterable[tuple[int, NDArray[np.floating]]],
    own: NDArray[np.floating],
    *,
    n: int,
    cosine: bool = False,
) -> NDArray[np.int32]:
    """Return all n ids by the distance of their vectors to a vector.

    Parameters
    ----------
    vectors
        (first id, (m, d) rows) blocks.
    own
        (d,) the vector that comes first.
    n
        Number of items.
    cosine
        Compare directions instead of places.
    """
    own = np.asarray(own, dtype=np.float32)
    away = np.full(n, np.nan, dtype=np.float32)
    length = float(np.linalg.norm(own))
    for first, rows in vectors:
        rows = np.asarray(rows, dtype=np.float32)
        if cosine:
            lengths = np.linalg.norm(rows, axis=1) * length
            with np.errstate(invalid="ignore", divide="ignore"):
                away[first : first + len(rows)] = -(rows @ own) / lengths
        else:
            away[first : first + len(rows)] = np.square(rows - own).sum(axis=1)
    return sequence(away)
