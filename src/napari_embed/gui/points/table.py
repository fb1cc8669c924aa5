"""A points layer as an Arrow table and back: what is in the Parquet file.

======================  ======================================================
``id``                  int64, the item: the row in the layer it was saved from
``x`` ``y`` ``z``       float32 (no ``z`` for a flat map)
``selected``            bool
``visible``             bool, false for hidden points
``excluded``            bool
``color_row``           uint16, row of the colour table in the file's metadata
all others              features; dictionaries are categories
======================  ======================================================

The metadata under ``napari_embed`` is JSON: version, name, colour table, appearance.
A file without it is a plain table: ``x``, ``y`` and perhaps ``z``, and features.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from napari_embed.errors import InputError
from napari_embed.gui.display import DisplaySettings

from . import coloring
from .coloring import MISSING, TABLE_SIZE, Coloring
from .layer import EmbeddingPoints

__all__ = ["KEY", "from_table", "to_table"]

KEY = b"napari_embed"
VERSION = 1
MOST_POINTS = 2**31 - 1
MARKS = ("selected", "visible", "excluded")
OURS = ("id", "x", "y", "z", *MARKS, "color_row")
LOOK = ("opacity", "blending", "visible", "scale", "translate", "rotate", "shear")

logger = logging.getLogger(__name__)


# -- writing


def to_table(layer: EmbeddingPoints) -> pa.Table:
    """Return positions, features, colours and marks of a layer, one row per point."""
    columns: dict[str, Any] = {"id": np.arange(layer.n_items, dtype=np.int64)}
    for axis, values in zip("xyz", layer.positions.T, strict=False):
        columns[axis] = np.ascontiguousarray(values)
    columns["selected"] = layer.mask
    hidden = layer.hidden_mask
    columns["visible"] = ~hidden
    columns["excluded"] = np.ascontiguousarray(layer.excluded_mask)
    columns["color_row"] = layer.coloring.index
    names: dict[str, str] = {}
    for feature in layer.features:
        name = _free_name(str(feature), columns)
        columns[name] = _column(layer.features[feature], str(feature))
        names[name] = str(feature)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    about = json.dumps(_about(layer, names), allow_nan=False).encode()
    return table.replace_schema_metadata({KEY: about})


def _free_name(feature: str, taken: dict[str, Any]) -> str:
    name = f"feature {feature}" if feature in OURS else feature
    while name in taken:
        name += "_"
    return name


def _column(values: pd.Series, name: str) -> pa.Array:
    """Return a feature as Arrow values; what Arrow has no type for becomes text."""
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowException, TypeError):
        logger.warning("feature %r holds values of several kinds: saved as text", name)
        text = [None if _is_missing(value) else str(value) for value in values]
        return pa.array(text, pa.string())


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _about(layer: EmbeddingPoints, names: dict[str, str]) -> dict[str, Any]:
    colors, rows = layer.coloring, layer.coloring.n_rows
    return {
        "format": "napari-embed points",
        "version": VERSION,
        "name": layer.name,
        "features": names,
        "colors": {
            "mode": layer.face_color_mode,
            "rows": np.round(colors.table[:rows].astype(float), 6).tolist(),
            "shapes": colors.shapes[:rows].tolist(),
            "missing_shape": int(colors.shapes[MISSING]),
            "by_class": colors.by_class,
        },
        "look": {
            "display": asdict(layer.display),
            "symbol": str(layer.current_symbol.value),
            **{name: _plain(getattr(layer, name)) for name in LOOK},
        },
    }


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist() if not isinstance(value, str) else str(value)


# -- reading


def from_table(table: pa.Table, *, name: str) -> tuple[EmbeddingPoints, list[str]]:
    """Return a points layer, and what of the table could not be used.

    Parameters
    ----------
    table : pyarrow.Table
        Written by `to_table`, or any table with columns x, y and perhaps z.
    name : str
        Name of the layer if the table has none.

    Raises
    ------
    InputError
        If there are no positions in it.
    """
    about, problems = _read_about(table)
    if about is None:
        columns = {c.lower(): c for c in reversed(table.column_names)}
    else:
        columns = {c: c for c in table.column_names}
    positions = _positions(table, columns)
    features = _features(table, columns, about, problems)
    known = about or {}
    layer = EmbeddingPoints(
        positions, name=str(known.get("name") or name)[:200], features=features
    )
    _try("the appearance", problems, lambda: _dress(layer, known.get("look", {})))
    if about is not None:
        _try("the colours", problems, lambda: _color(layer, table, known["colors"]))
    _try("selection and visibility", problems, lambda: _mark(layer, table, columns))
    return layer, problems


def _try(what: str, problems: list[str], act: Callable[[], None]) -> None:
    """Do without a damaged part: positions and features are what counts."""
    try:
        act()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
            pa.ArrowException) as error:  # fmt: skip
        logger.warning("left out %s of a points file: %s", what, error)
        problems.append(what)


def _read_about(table: pa.Table) -> tuple[dict[str, Any] | None, list[str]]:
    written = (table.schema.metadata or {}).get(KEY)
    if written is None:
        return None, []
    try:
        about = json.loads(written)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        return None, ["colours and appearance"]
    version = about.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InputError(
            f"The points were saved in version {version!r} of the format; this "
            f"napari-embed knows {VERSION}. Update napari-embed to open them."
        )
    return about, []


def _positions(table: pa.Table, columns: dict[str, str]) -> npt.NDArray[np.float32]:
    if not {"x", "y"} <= columns.keys():
        found = ", ".join(table.column_names[:8]) or "none"
        raise InputError(
            f"There are no columns x and y of positions; found {found}. Tables of "
            "images open in the Project panel."
        )
    if table.num_rows > MOST_POINTS:
        raise InputError(f"{table.num_rows:,} rows are more than can be shown.")
    axes = [columns[a] for a in "xyz" if a in columns]
    return np.stack([_numbers(table[axis], axis) for axis in axes], axis=1)


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float32]:
    """Return a column of numbers as float32, NaN where there is none."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise InputError(f"Column {name} holds {kind}, expected numbers: positions.")
    with np.errstate(over="ignore"):
        return np.asarray(column.to_numpy(), dtype=np.float32)


def _features(
    table: pa.Table,
    columns: dict[str, str],
    about: dict[str, Any] | None,
    problems: list[str],
) -> pd.DataFrame:
    ours = {columns[name] for name in OURS if name in columns}
    if about is None:
        # Of another program: only the marks and positions that we do use are ours.
        ours -= {columns[n] for n in ("id", "color_row") if n in columns}
    elif not _ids_are_rows(table):
        ours.discard("id")  # rows were taken out: the ids are worth keeping
    given = about.get("features") if about is not None else None
    names = given if isinstance(given, dict) else {}
    kept, nested = {}, 0
    for column in table.column_names:
        if column in ours:
            continue
        if pa.types.is_nested(table[column].type):
            nested += 1
            continue
        kept[str(names.get(column, column))] = table[column].to_pandas()
    if nested:
        problems.append(f"{nested} columns of lists")
    return pd.DataFrame(kept, index=range(table.num_rows))


def _ids_are_rows(table: pa.Table) -> bool:
    if "id" not in table.column_names or not pa.types.is_integer(table["id"].type):
        return False
    return np.array_equal(table["id"].to_numpy(), np.arange(table.num_rows))


def _dress(layer: EmbeddingPoints, look: dict[str, Any]) -> None:
    for name in LOOK:
        if name in look:
            setattr(layer, name, look[name])
    layer.display = DisplaySettings.from_dict(look.get("display", {}))
    if "symbol" in look:
        layer.current_symbol = str(look["symbol"])


def _color(layer: EmbeddingPoints, table: pa.Table, colors: dict[str, Any]) -> None:
    index = table["color_row"].to_numpy()
    rows = np.asarray(colors["rows"], dtype=np.float32).reshape(-1, 4)
    shapes = np.asarray(colors["shapes"], dtype=np.uint8)
    n_rows = len(rows)
    if not 0 < n_rows <= TABLE_SIZE or len(shapes) != n_rows:
        raise InputError(f"a colour table of {n_rows} rows")
    if index.dtype != np.uint16 or (
        index.size and np.max(index, where=index != MISSING, initial=0) >= n_rows
    ):
        raise InputError("colour rows beyond the table")
    full = coloring.uniform(0, (0, 0, 0, 1))
    full.table[:n_rows] = np.clip(np.nan_to_num(rows), 0, 1)
    full.shapes[:n_rows] = shapes % len(coloring.SHAPES)
    if n_rows <= MISSING:
        full.table[MISSING] = coloring.MISSING_COLOR
        full.shapes[MISSING] = int(colors["missing_shape"]) % len(coloring.SHAPES)
    by_class = bool(colors.get("by_class", False))
    made = Coloring(np.array(index), full.table, full.shapes, n_rows, by_class)
    layer.restore_coloring(made, str(colors["mode"]))


def _mark(layer: EmbeddingPoints, table: pa.Table, columns: dict[str, str]) -> None:
    """Take over the columns of truth values; then nothing is there to undo."""

    def mask(name: str) -> npt.NDArray[np.bool_] | None:
        column = table[columns[name]] if name in columns else None
        if column is None or not pa.types.is_boolean(column.type):
            return None
        return np.array(column.fill_null(name == "visible").to_numpy(), dtype=bool)

    marks = {name: mask(name) for name in MARKS}
    if marks["visible"] is not None:
        layer.set_visible(marks["visible"])
    if marks["excluded"] is not None:
        layer.set_excluded(marks["excluded"])
    if marks["selected"] is not None:
        layer.select(marks["selected"])
    layer.history.clear()
