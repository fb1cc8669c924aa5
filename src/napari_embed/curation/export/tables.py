"""Tables: Parquet and JSON Lines for programs, CSV for spreadsheets, bare paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from napari_embed.curation.export.rows import Rows
from napari_embed.errors import IncompleteStageError, InputError
from napari_embed.project.atomic import atomic_file
from napari_embed.project.error_list import guarded

__all__ = ["write_csv", "write_jsonl", "write_parquet", "write_paths"]

_LINE_BREAK = r"[\r\n]"
_SEPARATOR = "; "


def write_parquet(rows: Rows, target: Path, *, overwrite: bool = False) -> int:
    """Write all columns; return the number of rows.

    They are ``id``, ``x``, ``y``[, ``z``] of the first map, ``NAME.x`` and so on of
    further ones, ``image_path``, ``label``, the decisions, then all others of the
    items; one of those whose name is taken becomes ``source.NAME``.
    """

    def writer(file: IO[bytes], schema: pa.Schema) -> Any:
        return pq.ParquetWriter(file, schema, compression="zstd")

    return _write(rows, target, overwrite, lambda table: table, writer)


def write_csv(
    rows: Rows,
    target: Path,
    *,
    overwrite: bool = False,
    all_columns: bool = False,
    guard_text: bool = True,
) -> int:
    """Write ``x,y[,z],image_path,label``, UTF-8; return the number of rows.

    Items without a position (images that could not be read) have empty coordinates.

    Parameters
    ----------
    rows
        With at least one map; only the first is written unless ``all_columns``.
    target
        File to write.
    overwrite
        Allow replacing an existing file.
    all_columns
        Begin with ``id`` and write every other column, too.
    guard_text
        Put an apostrophe before text that a spreadsheet would run as a formula: it
        begins with ``= + - @``, a tab or a line break, and is no number.

    Raises
    ------
    IncompleteStageError
        If the project has no map, and ``all_columns`` is false.
    """
    first = next(iter(rows.maps.values()), None)
    if first is None and not all_columns:
        raise IncompleteStageError(
            "This project has no map yet, so there are no positions to write. Make "
            f"one: napari-embed project {rows.project.path}"
        )
    names = [*"xyz"[: 0 if first is None else first.shape[1]], "image_path", "label"]

    def prepared(table: pa.Table) -> pa.Table:
        table = _joined(table) if all_columns else table.select(names)
        return guarded(table) if guard_text else table

    def writer(file: IO[bytes], schema: pa.Schema) -> Any:
        return pyarrow.csv.CSVWriter(file, schema)

    return _write(rows, target, overwrite, prepared, writer)


def write_jsonl(rows: Rows, target: Path, *, overwrite: bool = False) -> int:
    """Write the columns of `write_parquet`, one JSON object a line."""
    with atomic_file(target, overwrite=overwrite) as file:
        for table in rows.blocks():
            lines = (
                json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
                for row in _without_nan(table).to_pylist()
            )
            file.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))
    return int(rows.ids.size)


def write_paths(rows: Rows, target: Path, *, overwrite: bool = False) -> int:
    """Write one image path a line, UTF-8.

    Raises
    ------
    InputError
        If a path holds a line break, which such a list cannot.
    """
    with atomic_file(target, overwrite=overwrite) as file:
        for table in rows.blocks(paths_only=True):
            paths = table["image_path"].cast(pa.string())
            broken = pc.match_substring_regex(paths, _LINE_BREAK).index(True).as_py()
            if broken >= 0:
                raise InputError(
                    f"The path {paths[broken].as_py()!r:.200} holds a line break, so a "
                    "list of paths cannot tell it from two. Export JSON Lines instead."
                )
            lines = (f"{path}\n" for path in paths.to_pylist())
            file.write("".join(lines).encode(errors="replace"))
    return int(rows.ids.size)


def _write(
    rows: Rows,
    target: Path,
    overwrite: bool,
    prepared: Callable[[pa.Table], pa.Table],
    open_writer: Callable[[IO[bytes], pa.Schema], Any],
) -> int:
    """Write block after block; the file appears when all are in it."""
    writer = None
    with atomic_file(target, overwrite=overwrite) as file:
        try:
            for block in rows.blocks():
                table = prepared(block)
                writer = writer or open_writer(file, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    return int(rows.ids.size)


def _joined(table: pa.Table) -> pa.Table:
    """Return lists, which a cell cannot hold, as text."""
    for i, field in enumerate(table.schema):
        if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
            texts = [
                None if values is None else _SEPARATOR.join(map(str, values))
                for values in table[i].to_pylist()
            ]
            table = table.set_column(i, field.name, pa.array(texts, pa.string()))
    return table


def _without_nan(table: pa.Table) -> pa.Table:
    """Return numbers that JSON lacks as missing."""
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_finite(table[i]), table[i], None)
            table = table.set_column(i, field.name, column)
    return table
