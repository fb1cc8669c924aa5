"""Write items with their positions as a table that any program reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from napari_embed.errors import InputError
from napari_embed.project.atomic import atomic_file

if TYPE_CHECKING:
    from napari_embed.project import Project

__all__ = ["export_table"]

BLOCK_ROWS = 65_536
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export_table(
    project: Project,
    path: Path,
    *,
    projection: str,
    overwrite: bool = False,
    guard_text: bool = True,
) -> int:
    """Write one row per item and return how many.

    Columns: ``id``, ``x``, ``y`` (and ``z``), ``image_path``, ``label``, then all other
    columns of the items. Items without a position have empty coordinates.

    Parameters
    ----------
    project
        Open project.
    path
        File to write, ``.csv`` or ``.parquet``. It appears only when it is complete.
    projection
        Name of the map.
    overwrite
        Replace a file that is there.
    guard_text
        In CSV, put an apostrophe before text that a spreadsheet would run as a formula
        (it starts with = + - @, tab or return, and is no number).

    Raises
    ------
    InputError
        If the ending is neither ``.csv`` nor ``.parquet``.
    IncompleteStageError
        If there is no such map.
    StoreError
        If the file exists or cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise InputError(
            f"Tables are written as .csv or .parquet; {path.name} ends in neither."
        )
    positions = project.read_projection(projection).positions
    with atomic_file(path, overwrite=overwrite) as file:
        writer: pq.ParquetWriter | pa.csv.CSVWriter | None = None
        for start in range(0, project.n_items, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, project.n_items))
            block = _block(project, rows, positions[rows])
            if kind == ".csv" and guard_text:
                block = _guarded(block)
            if writer is None:
                writer = _writer(kind, file, block.schema)
            writer.write_table(block)
        if writer is not None:
            writer.close()
    return project.n_items


def _writer(
    kind: str, file: IO[bytes], schema: pa.Schema
) -> pq.ParquetWriter | pa.csv.CSVWriter:
    if kind == ".csv":
        return pa.csv.CSVWriter(file, schema)
    return pq.ParquetWriter(file, schema, compression="zstd")


def _block(project: Project, rows: slice, positions: np.ndarray) -> pa.Table:
    """Return the exported columns of some rows."""
    items = project.items(rows=rows)
    taken = {"id", "source", "label", "x", "y", "z", "image_path"}
    columns = {"id": items["id"]}
    for axis, values in zip("xyz", positions.T, strict=False):
        empty = ~np.isfinite(values)
        columns[axis] = pa.array(np.ascontiguousarray(values), mask=empty)
    columns["image_path"] = _image_paths(project, items["source"])
    columns["label"] = _plain(items["label"])
    for name in items.column_names:
        if name not in taken and not pa.types.is_nested(items[name].type):
            columns[name] = _plain(items[name])
    return pa.table(columns)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a dictionary column as its values: dictionaries differ between blocks."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _image_paths(project: Project, sources: pa.ChunkedArray) -> pa.Array:
    """Return where each image is: a file, or an array and the row in it."""
    spec = project.spec
    if spec.kind in ("images", "sample") or not project.has_images:
        return pa.array([f"{spec.path}[{name}]" for name in sources.to_pylist()])
    root = Path(spec.path)
    if spec.kind != "folder":
        root = Path(str(spec.options.get("root") or root.parent))
    return pa.array([str(root / name) if name else "" for name in sources.to_pylist()])


def _is_formula(text: str | None) -> bool:
    if not text or not text.startswith(FORMULA_STARTS):
        return False
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return True


def _guarded(table: pa.Table) -> pa.Table:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    for index, name in enumerate(table.column_names):
        if not pa.types.is_string(table[name].type):
            continue
        texts = table[name].to_pylist()
        if any(_is_formula(text) for text in texts):
            guarded = [f"'{t}" if _is_formula(t) else t for t in texts]
            table = table.set_column(index, name, pa.array(guarded, pa.string()))
    if any(_is_formula(name) for name in table.column_names):
        names = [f"'{n}" if _is_formula(n) else n for n in table.column_names]
        table = table.rename_columns(names)
    return table
