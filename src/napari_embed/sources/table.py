"""A table (CSV, TSV, Parquet) with image paths, positions, vectors or all of them."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_embed.errors import InputError, ManifestError, UnsafePathError
from napari_embed.sources.images import decode_file, try_decode_file
from napari_embed.sources.paths import check_relative_name
from napari_embed.sources.reading import map_in_order
from napari_embed.sources.spec import (
    DEFAULT_SHRINK_TO_PX,
    MAX_ITEMS,
    DecodedItem,
    ProgressCallback,
    SourceKind,
    SourceSpec,
)

__all__ = ["TableSource", "parquet_kind", "read_plain_table"]

_log = logging.getLogger(__name__)

_PATH_NAMES = ("image_path", "path", "filepath", "file", "filename")
_LABEL_NAMES = ("label", "labels", "class")
_VECTOR_NAMES = ("vector", "vectors", "embedding", "embeddings", "features")
_RESERVED = ("id", "source", "label")
_PARQUET = (".parquet", ".pq")
_PATH_SAMPLE = 100


class TableSource:
    """Items from a table; the image paths are relative to the table's folder.

    The columns ``image_path`` (or ``path``, ``filepath``, ``file``, ``filename``),
    ``label`` (``labels``, ``class``) and ``x``, ``y``, ``z`` are recognised in any
    case; in Parquet a column of equally long lists of numbers gives vectors. All other
    columns are kept. A column ``id`` must be unique and is kept as ``original_id``.

    Options: ``image_path``, ``label``, ``vectors`` name columns; ``root`` is the folder
    images must lie in and relative paths start from (by default the table's folder).

    Raises
    ------
    InputError
        If the file does not exist.
    ManifestError
        If it is malformed, or no column says what its items are.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._path = spec.location
        if not self._path.is_file():
            raise InputError(f"There is no file {self._path}. Check the path.")
        options = dict(spec.options)
        root = options.get("root")
        if isinstance(root, str) and root:
            self.root = (self._path.parent / Path(root).expanduser()).absolute()
            options["root"] = str(self.root)
            if not self.root.is_dir():
                raise InputError(f"The image root {self.root} is not a folder.")
        else:
            self.root = self._path.parent
        self.spec = SourceSpec(spec.kind, str(self._path), options)
        self._schema = _schema(self._path)
        self._path_column = self._named("image_path", _PATH_NAMES)
        self._label_column = self._named("label", _LABEL_NAMES)
        self._vector_column = self._find_vectors()
        self._position_columns = self._find_positions()
        self.has_images = self._path_column is not None
        if not (self.has_images or self._vector_column or self._position_columns):
            raise ManifestError(
                f"{self._path} has columns {', '.join(self._schema.names)!s:.300}; "
                f"expected image paths ({', '.join(_PATH_NAMES)}), x and y, or a "
                "column of vectors. Rename a column, or name it with the option "
                "'image_path'."
            )

    def _named(self, option: str, known: Sequence[str]) -> str | None:
        """Return the column an option names, else one with a well-known name."""
        wanted = self.spec.options.get(option)
        if wanted is not None:
            if wanted not in self._schema.names:
                raise ManifestError(
                    f"{self._path} has no column {wanted!r}. It has "
                    f"{', '.join(self._schema.names)!s:.300}."
                )
            return str(wanted)
        lower = {name.strip().lower(): name for name in reversed(self._schema.names)}
        return next((lower[name] for name in known if name in lower), None)

    def _find_vectors(self) -> str | None:
        taken = (self._path_column, self._label_column)
        lists = [
            field.name
            for field in self._schema
            if _is_vector_type(field.type) and field.name not in taken
        ]
        wanted = self._named("vectors", _VECTOR_NAMES)
        if wanted in lists:
            return wanted
        if self.spec.options.get("vectors") is not None:
            raise ManifestError(f"Column {wanted!r} holds no lists of numbers.")
        return lists[0] if len(lists) == 1 else None

    def _find_positions(self) -> list[str]:
        found = [self._named("", (axis,)) for axis in "xyz"]
        names = [name for name in found if name is not None]
        return names if found[0] and found[1] else []

    @cached_property
    def _table(self) -> pa.Table:
        """The table without its vectors."""
        text = [c for c in (self._path_column, self._label_column) if c]
        table = _read_table(self._path, self._schema, text, self._vector_column)
        if not 1 <= table.num_rows <= MAX_ITEMS:
            raise ManifestError(
                f"{self._path} has {table.num_rows:,} rows; from 1 to {MAX_ITEMS:,} "
                "are read."
            )
        return table

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return ``source``, ``label`` and all other columns of the table.

        Raises
        ------
        ManifestError
            If ids occur twice, paths or labels are no text, or no image of the first
            100 can be found.
        """
        table = self._table
        _check_unique_ids(self._path, table)
        n = table.num_rows
        if self._path_column:
            source = pc.fill_null(self._text(self._path_column), "")
            if not (self._vector_column or self._position_columns):
                self._check_some_exist(source)
        else:
            source = pa.array(np.arange(n)).cast(pa.string())
        label = pa.nulls(n, pa.string())
        if self._label_column:
            label = self._text(self._label_column)
        columns = {"source": source, "label": label}
        for name in table.column_names:
            if name in (self._path_column, self._label_column):
                continue
            kept = f"original_{name}" if name in _RESERVED else name
            if pa.types.is_nested(table[name].type) or kept in columns:
                _log.warning("%s: column %r is left out", self._path, name)
                continue
            columns[kept] = table[name]
        if progress:
            progress(n, n)
        return pa.table(columns)

    def _text(self, name: str) -> pa.ChunkedArray:
        """Return a column as text."""
        try:
            return self._table[name].cast(pa.string())
        except pa.ArrowException as error:
            raise ManifestError(
                f"{self._path}: column {name!r} must hold text or numbers: "
                f"{error!s:.200}. Correct it, or name another column."
            ) from error

    def _check_some_exist(self, source: pa.ChunkedArray) -> None:
        """Explain a wrong image root once, instead of once per item."""
        names = [name for name in source.slice(0, _PATH_SAMPLE).to_pylist() if name]
        reasons = []
        for name in names:
            try:
                if (self.root / check_relative_name(name, self.root)).exists():
                    return
                reasons.append(f"{name!r:.200} is not in {self.root}")
            except UnsafePathError as error:
                reasons.append(str(error))
        raise ManifestError(
            f"None of the first {len(names)} images of {self._path} can be used: "
            f"{reasons[0] if reasons else 'the paths are empty'}. Set the image root "
            "(option 'root') to the folder the paths start from."
        )

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one decoded item per row, in order; a bad image never raises."""
        if not self.has_images:
            for _ in range(items.num_rows):
                yield DecodedItem(None, "This table has no column with image paths.")
            return
        decode = partial(try_decode_file, self.root, shrink_to=shrink_to)
        yield from map_in_order(decode, items["source"].to_pylist())

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return one image, given its ``source`` value, unreduced."""
        if not self.has_images:
            raise InputError("This table has no column with image paths.")
        return decode_file(self.root, item)

    def vectors(self) -> ParquetVectors | None:
        """Return the (n, d) vectors, float32, read by slices; None without any."""
        if self._vector_column is None:
            return None
        return ParquetVectors(self._path, self._vector_column)

    def positions(self) -> NDArray[np.float32] | None:
        """Return (n, 2) or (n, 3) from x, y[, z]; NaN where a cell is empty.

        Raises
        ------
        ManifestError
            If a cell is not a number.
        """
        if not self._position_columns:
            return None
        columns = []
        for name in self._position_columns:
            try:
                values = self._table[name].cast(pa.float32(), safe=False)
            except pa.ArrowException as error:
                raise ManifestError(
                    f"{self._path}: column {name!r} must hold numbers: {error!s:.200}."
                ) from error
            columns.append(np.asarray(values.to_numpy(), dtype=np.float32))
        return np.stack(columns, axis=1)


class ParquetVectors:
    """A Parquet column of lists, read by row groups as (n, d) float32.

    Raises
    ------
    ManifestError
        If the lists differ in length; the row is named.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._file = pq.ParquetFile(path)
        meta = self._file.metadata
        rows = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._starts = np.cumsum([0, *rows])
        kind = self._file.schema_arrow.field(column).type
        width = getattr(kind, "list_size", None)
        if width is None or width < 1:
            width = self._first_width()
        self.shape: tuple[int, int] = (int(meta.num_rows), int(width))
        self.dtype = np.dtype(np.float32)
        self.ndim = 2
        self._cached: tuple[int, NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        ids = np.asarray(rows)
        out = np.empty((ids.size, self.shape[1]), np.float32)
        groups = np.searchsorted(self._starts, ids, "right") - 1
        for group in np.unique(groups):
            member = groups == group
            out[member] = self._group(int(group))[ids[member] - self._starts[group]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def _first_width(self) -> int:
        for batch in self._file.iter_batches(1024, columns=[self._column]):
            lengths = pc.list_value_length(batch.column(0)).drop_null()
            if len(lengths) and lengths[0].as_py() > 0:
                return int(lengths[0].as_py())
        raise ManifestError(f"{self._path}: column {self._column!r} is empty.")

    def _group(self, group: int) -> NDArray[np.float32]:
        if self._cached is None or self._cached[0] != group:
            table = self._file.read_row_group(group, columns=[self._column])
            first = int(self._starts[group])
            self._cached = (group, self._matrix(table.column(0), first))
        return self._cached[1]

    def _matrix(self, column: pa.ChunkedArray, first: int) -> NDArray[np.float32]:
        width = self.shape[1]
        lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1).to_numpy())
        wrong = np.flatnonzero((lengths != width) & (lengths != -1))
        if wrong.size:
            raise ManifestError(
                f"{self._path}: the vector in row {first + int(wrong[0])} has "
                f"{lengths[wrong[0]]} numbers, the others {width}. All need the same."
            )
        out = np.full((len(column), width), np.nan, np.float32)
        values = pc.list_flatten(column).cast(pa.float32(), safe=False)
        numbers = np.asarray(values.to_numpy(), dtype=np.float32)
        out[lengths == width] = numbers.reshape(-1, width)
        return out


def parquet_kind(path: Path) -> SourceKind:
    """Return "vectors" for a Parquet file with vectors and no image paths."""
    names = [name.strip().lower() for name in _schema(path).names]
    lists = any(_is_vector_type(field.type) for field in _schema(path))
    return "vectors" if lists and not set(names) & set(_PATH_NAMES) else "table"


def _is_vector_type(kind: Any) -> bool:
    is_list = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )
    if not is_list:
        return False
    value = kind.value_type
    return bool(pa.types.is_floating(value) or pa.types.is_integer(value))


def _schema(path: Path) -> pa.Schema:
    """Return the columns; for text tables only their names are known."""
    try:
        if path.suffix.lower() in _PARQUET:
            schema = pq.read_schema(path)
        else:
            names = _header(path)
            schema = pa.schema([(name, pa.null()) for name in names])
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path} cannot be read: {error!s:.300}.") from error
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ManifestError(f"{path} has two columns named {', '.join(twice)}.")
    return schema


def _header(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = file.readline(1 << 20)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text: {error}.") from error
    names = next(csv.reader([line], delimiter=_delimiter(path, line)), [])
    if not names or "\0" in line:
        raise ManifestError(f"{path} has no header line with column names.")
    return names


def _delimiter(path: Path, line: str) -> str:
    """Return tab for .tsv, and the semicolon of some spreadsheets where it is used."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in line and "," not in line else ","


def _read_table(
    path: Path, schema: pa.Schema, text: Sequence[str], without: str | None
) -> pa.Table:
    try:
        if path.suffix.lower() in _PARQUET:
            return pq.read_table(
                path, columns=[n for n in schema.names if n != without]
            )
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(path, file.readline(1 << 20))
        return pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True
            ),
            # Paths and labels stay text: "007" is not the number 7.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in text}
            ),
        )
    except (pa.ArrowException, OSError) as error:
        text_of = re.sub(r"\s+", " ", str(error))[:300]
        raise ManifestError(f"{path} is malformed: {text_of}. Correct it.") from error


def read_plain_table(path: Path, *, text: Sequence[str] = ()) -> pa.Table:
    """Return all columns of a table; those named in ``text`` stay text.

    Raises
    ------
    ManifestError
        If it is no table, or malformed.
    """
    if path.suffix.lower() not in (*_PARQUET, ".csv", ".tsv"):
        raise ManifestError(
            f"{path} is no table. Expected .csv, .tsv or .parquet, or a folder."
        )
    return _read_table(path, _schema(path), text, None)


def _check_unique_ids(path: Path, table: pa.Table) -> None:
    name = next((n for n in table.column_names if n.strip().lower() == "id"), None)
    if name is None or pa.types.is_nested(table[name].type):
        return
    counts = pc.value_counts(table[name].drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        shown = ", ".join(str(v) for v in twice.field("values").to_pylist()[:5])
        raise ManifestError(
            f"{path}: column {name!r} must be unique, {len(twice)} values occur twice "
            f"or more, such as {shown}. Correct or rename the column."
        )
