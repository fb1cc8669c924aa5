"""Take a map and its items elsewhere: CSV for spreadsheets, Parquet for programs.

Files are written in blocks and appear only when they are complete. Images are never
copied, changed or deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_embed.errors import InputError, StoreError
from napari_embed.project import Project
from napari_embed.project.atomic import atomic_file

__all__ = ["export_csv", "export_parquet", "export_table"]

_BLOCK_ROWS = 65_536
_FORMULA = r"^[=+\-@\t\r\n]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE_PATH = r"^(/|[A-Za-z]:|\\|$)"
_AXES = "xyz"

Progress = Callable[[int, int], None]
Ids = Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_] | None


def export_table(
    project: Project,
    path: str | Path,
    *,
    projection: str,
    ids: Ids = None,
    overwrite: bool = False,
    all_columns: bool = False,
    guard_text: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write one map as the file's ending says, see `export_csv` and `export_parquet`.

    ``all_columns`` concerns CSV; Parquet always has them.

    Raises
    ------
    InputError
        If the ending is neither ``.csv`` nor ``.parquet``.
    """
    kind = Path(path).suffix.lower()
    if kind == ".csv":
        return export_csv(
            project, path, projection=projection, ids=ids, overwrite=overwrite,
            all_columns=all_columns, guard_text=guard_text, progress=progress,
        )  # fmt: skip
    if kind == ".parquet":
        return export_parquet(
            project, path, projections=[projection], ids=ids, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    raise InputError(
        f"Tables are written as .csv or .parquet; {Path(path).name} ends in neither."
    )


def export_csv(
    project: Project,
    path: str | Path,
    *,
    projection: str,
    ids: Ids = None,
    overwrite: bool = False,
    all_columns: bool = False,
    absolute_paths: bool = True,
    guard_text: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write ``x,y[,z],image_path,label``, UTF-8, one row per item.

    Items without a position (images that could not be read) have empty coordinates.

    Parameters
    ----------
    project
        The project.
    path
        File to write.
    projection
        Name of the map; a 2D map has no column z.
    ids
        Items to write, in this order, or a mask of n_items; all when None.
    overwrite
        Allow replacing an existing file.
    all_columns
        Begin with ``id`` and end with all other columns of the items.
    absolute_paths
        Write where each image is as seen from anywhere, not from the source's folder.
    guard_text
        Put an apostrophe before text that a spreadsheet would run as a formula: it
        begins with ``= + - @``, a tab or a line break, and is no number.
    progress
        Called with (rows done, rows in all); may raise to stop, then nothing is left.

    Returns
    -------
    Number of rows.

    Raises
    ------
    InputError
        If an id does not exist.
    StoreError
        If the file exists already or cannot be written, or there is no such map.
    """
    maps = {projection: project.read_projection(projection).positions}
    names = [*_AXES[: maps[projection].shape[1]], "image_path", "label"]

    def block(rows: NDArray[np.int64]) -> pa.Table:
        table = _table(project, rows, maps, absolute_paths)
        table = table if all_columns else table.select(names)
        return _guarded(table) if guard_text else table

    def writer(file: IO[bytes], schema: pa.Schema) -> Any:
        return pyarrow.csv.CSVWriter(file, schema)

    return _write(project, path, ids, overwrite, block, writer, progress)


def export_parquet(
    project: Project,
    path: str | Path,
    *,
    projections: Sequence[str] | None = None,
    ids: Ids = None,
    overwrite: bool = False,
    absolute_paths: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write all columns of the items and the positions of one or more maps.

    The columns are ``id``, ``x``, ``y``[, ``z``] of the first map, ``NAME.x`` and so on
    of further ones, ``image_path``, ``label``, then all others of the items; one of
    those whose name is taken becomes ``source.NAME``.

    Parameters
    ----------
    project, path, ids, overwrite, absolute_paths, progress
        As for `export_csv`.
    projections
        Names of the maps; all finished ones when None, none when empty.

    Returns
    -------
    Number of rows.

    Raises
    ------
    InputError, StoreError
        As for `export_csv`.
    """
    names = project.projection_names() if projections is None else list(projections)
    maps = {name: project.read_projection(name).positions for name in names}

    def block(rows: NDArray[np.int64]) -> pa.Table:
        return _table(project, rows, maps, absolute_paths)

    def writer(file: IO[bytes], schema: pa.Schema) -> Any:
        return pq.ParquetWriter(file, schema, compression="zstd")

    return _write(project, path, ids, overwrite, block, writer, progress)


def _write(
    project: Project,
    path: str | Path,
    ids: Ids,
    overwrite: bool,
    block: Callable[[NDArray[np.int64]], pa.Table],
    open_writer: Callable[[IO[bytes], pa.Schema], Any],
    progress: Progress | None,
) -> int:
    """Write block after block; the file appears when all are in it."""
    wanted = _ids(project, ids)
    target = _target(project, path, overwrite)
    writer = None
    with atomic_file(target, overwrite=overwrite) as file:
        try:
            for start in range(0, wanted.size, _BLOCK_ROWS):
                rows = wanted[start : start + _BLOCK_ROWS]
                table = block(rows)
                writer = writer or open_writer(file, table.schema)
                writer.write_table(table)
                if progress:
                    progress(start + rows.size, wanted.size)
        finally:
            if writer is not None:
                writer.close()
    return int(wanted.size)


def _table(
    project: Project,
    rows: NDArray[np.int64],
    maps: dict[str, NDArray[np.float32]],
    absolute_paths: bool,
) -> pa.Table:
    """Return the exported columns of some rows."""
    items = project.items(rows=rows)
    columns: dict[str, Any] = {"id": items["id"]}
    for number, (name, positions) in enumerate(maps.items()):
        for axis, values in zip(_AXES, positions[rows].T, strict=False):
            column = pa.array(np.ascontiguousarray(values), from_pandas=True)
            columns[axis if number == 0 else f"{name}.{axis}"] = column
    source = items["source"]
    columns["image_path"] = _image_path(project, source) if absolute_paths else source
    columns["label"] = _plain(items["label"])
    for name in items.column_names:
        if name not in ("id", "source", "label"):
            free = f"source.{name}" if name in columns else name
            columns[free] = _plain(items[name])
    return pa.table(columns)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a dictionary column as its values: dictionaries differ between blocks."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _ids(project: Project, ids: Ids) -> NDArray[np.int64]:
    """Return the wanted ids, checked."""
    n = project.n_items
    if ids is None:
        return np.arange(n)
    wanted = np.asarray(ids)
    if wanted.dtype == bool:
        if wanted.shape != (n,):
            raise InputError(f"A mask needs {n} values, got shape {wanted.shape}.")
        return np.flatnonzero(wanted)
    wanted = wanted.astype(np.int64).ravel()
    if wanted.size == 0:
        raise InputError("Nothing is selected, so there is nothing to export.")
    if not (wanted.min() >= 0 and wanted.max() < n):
        raise InputError(
            f"Ids must lie in 0 to {n - 1}, found {wanted.min()} to {wanted.max()}."
        )
    return wanted


def _target(project: Project, path: str | Path, overwrite: bool) -> Path:
    """Return where to write: nowhere inside a project, on nothing unasked."""
    target = Path(path).expanduser().absolute()
    if target.is_dir():
        raise StoreError(f"{target} is a folder. Give the name of a file.")
    if target.resolve().is_relative_to(project.path.resolve()):
        raise StoreError(f"{target} lies inside the project. Choose another folder.")
    if target.exists() and not overwrite:
        raise StoreError(
            f"{target} exists already. Choose another name, or allow overwriting."
        )
    return target


def _image_path(project: Project, source: pa.ChunkedArray) -> Any:
    """Return where each image is: a whole path, or an array and the row in it."""
    spec = project.spec
    plain = source.cast(pa.string())
    if spec.kind not in ("folder", "table"):
        return pc.binary_join_element_wise(spec.path, "[", plain, "]", "")
    if not project.has_images:
        return plain
    root = spec.options.get("root") or Path(spec.path).parent
    prefix = Path(spec.path if spec.kind == "folder" else str(root)).as_posix()
    whole = pc.match_substring_regex(plain, _WHOLE_PATH)
    return pc.if_else(
        whole, plain, pc.binary_join_element_wise(prefix.rstrip("/"), plain, "/")
    )


def _guarded(table: pa.Table) -> pa.Table:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    columns = []
    for column in table.columns:
        if pa.types.is_string(column.type):
            risky = pc.and_(
                pc.match_substring_regex(column, _FORMULA),
                pc.invert(pc.match_substring_regex(column, _NUMBER)),
            )
            quoted = pc.binary_join_element_wise("'", column, "")
            column = pc.if_else(risky, quoted, column)
        columns.append(column)
    names = [f"'{n}" if re.match(_FORMULA, n) else n for n in table.column_names]
    return pa.table(columns, names=names)
