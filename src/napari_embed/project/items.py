"""``items.parquet``: one row per item, written once, readable by anyone.

The row number is the item's id. Rows are read by row groups, the last few of which are
kept, so that neither a page of the gallery nor a chunk of the pipeline loads the table.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_embed.errors import InputError, ManifestError, StoreError
from napari_embed.project.atomic import atomic_file

__all__ = ["ITEMS_NAME", "ItemsTable", "write_items"]

ITEMS_NAME = "items.parquet"
ROW_GROUP_ROWS = 65_536
_CACHED_GROUPS = 4

Rows = slice | Sequence[int] | NDArray[np.integer[Any]] | None


def write_items(path: Path, items: pa.Table) -> pa.Table:
    """Write the items of a source and return the table as stored.

    Parameters
    ----------
    path
        File to write.
    items
        Columns ``source`` (string), ``label`` (string or dictionary, may be absent;
        an empty text is no label) and any others; a column ``id`` is not allowed, it
        is the row number.

    Raises
    ------
    ManifestError
        If columns are missing or named twice, or a source is empty.
    """
    names = items.column_names
    if "source" not in names or "id" in names or len(set(names)) != len(names):
        raise ManifestError(
            "A source must list a column 'source', no column 'id' and no name twice; "
            f"got {', '.join(names)}."
        )
    if items["source"].null_count:
        raise ManifestError("Some items have no source; give each a place or a number.")
    n = items.num_rows
    label = items["label"] if "label" in names else pa.nulls(n, pa.string())
    columns = {"id": pa.array(np.arange(n, dtype=np.int32)), "source": items["source"]}
    columns["label"] = _dictionary(label)
    columns |= {x: items[x] for x in names if x not in ("source", "label")}
    table = pa.table(columns)
    with atomic_file(path) as file:
        pq.write_table(table, file, row_group_size=ROW_GROUP_ROWS, compression="zstd")
    return table


def _dictionary(label: Any) -> Any:
    """Return a column as one dictionary of strings, empty ones as null."""
    plain = pc.cast(label, pa.string())
    plain = pc.if_else(pc.equal(plain, ""), pa.scalar(None, pa.string()), plain)
    chunked = plain if isinstance(plain, pa.ChunkedArray) else pa.chunked_array([plain])
    return chunked.dictionary_encode().unify_dictionaries()


class ItemsTable:
    """Reads ``items.parquet``; safe to use from several threads.

    Parameters
    ----------
    path
        The file.
    n_items
        Rows it must have.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path, n_items: int) -> None:
        self.path, self.n_items = path, n_items
        self._mutex = threading.Lock()
        self._groups: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        with self._errors():
            self._file = pq.ParquetFile(path)
        found = self._file.metadata
        if found.num_rows != n_items:
            raise StoreError(
                f"{path} has {found.num_rows} rows, the project has {n_items} items. "
                "Restore the file from a backup."
            )
        self._starts = np.cumsum(
            [0] + [found.row_group(i).num_rows for i in range(found.num_row_groups)]
        )

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._mutex:
            self._file.close()

    def _errors(self) -> Any:
        return _ParquetErrors(self.path)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, ``id``, ``source`` and ``label`` first."""
        return list(self._file.schema_arrow.names)

    def read(self, columns: Sequence[str] | None = None, rows: Rows = None) -> pa.Table:
        """Return columns (all by default) of some rows, in the order asked for.

        Raises
        ------
        InputError
            If a column or a row does not exist.
        """
        names = self._known(columns)
        if rows is None:
            with self._errors(), self._mutex:
                return self._file.read(columns=names).unify_dictionaries()
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_items)
            if step == 1:
                return self._span(names, start, max(start, stop))
            ids = np.arange(start, stop, step)
        else:
            ids = _checked_ids(rows, self.n_items)
        return self._take(names, ids)

    def blocks(
        self, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield (first id, table) for one row group after the other."""
        names = self._known(columns)
        for group, start in enumerate(self._starts[:-1]):
            yield int(start), self._group(group, tuple(names))

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        known = self.columns
        unknown = [name for name in columns or () if name not in known]
        if unknown:
            raise InputError(
                f"No column {', '.join(unknown)} here. Known: {', '.join(known)}."
            )
        return known if columns is None else list(columns)

    def _group(self, group: int, names: tuple[str, ...]) -> pa.Table:
        with self._errors(), self._mutex:
            key = (group, names)
            if key not in self._groups:
                self._groups[key] = self._file.read_row_group(group, columns=names)
                while len(self._groups) > _CACHED_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key].select(names)

    def _span(self, names: list[str], start: int, stop: int) -> pa.Table:
        first, last = (
            np.searchsorted(self._starts, (start, max(start, stop - 1)), "right") - 1
        )
        last = min(int(last), len(self._starts) - 2)
        first = min(int(first), last)
        pieces = [self._group(g, tuple(names)) for g in range(first, last + 1)]
        offset = start - int(self._starts[first])
        return pa.concat_tables(pieces).slice(offset, stop - start).unify_dictionaries()

    def _take(self, names: list[str], ids: NDArray[np.int64]) -> pa.Table:
        groups = np.searchsorted(self._starts, ids, "right") - 1
        used = np.unique(groups)
        if used.size == 0:
            return self._span(names, 0, 0)
        pieces, offset, first = [], 0, np.zeros(len(self._starts), np.int64)
        for group in used:
            member = np.unique(ids[groups == group]) - self._starts[group]
            pieces.append(self._group(int(group), tuple(names)).take(pa.array(member)))
            first[group] = offset
            offset += member.size
        unique, where = np.unique(ids, return_inverse=True)
        assert unique.size == offset
        table = pa.concat_tables(pieces).unify_dictionaries()
        return table.take(pa.array(where.ravel()))


def _checked_ids(rows: Any, n_items: int) -> NDArray[np.int64]:
    ids = np.asarray(rows)
    if ids.size == 0:
        return np.zeros(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"Ids must be a list of whole numbers, got {ids.dtype}.")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= n_items:
        raise InputError(f"Ids must lie in 0 to {n_items - 1}, found {low} to {high}.")
    return ids.astype(np.int64)


class _ParquetErrors:
    """Context that turns what Arrow raises into a `StoreError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, pa.ArrowException | OSError) and not isinstance(
            error, StoreError
        ):
            raise StoreError(
                f"{self.path} is missing or damaged: {str(error)[:300]}. Restore it "
                "from a backup, or create the project again."
            ) from error
