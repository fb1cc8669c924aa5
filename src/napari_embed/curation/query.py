"""Find items by their columns: filters, SQL expressions, ids, paths and labels.

DuckDB runs in this process over Arrow columns. It has no access to files or network,
loads no extension, and its configuration is locked; expressions are parsed and checked
before they run (`napari_embed.curation.expression`).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from napari_embed.curation.columns import Column, Columns
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.expression import parse_expression, quoted
from napari_embed.curation.filters import Filter, FilterValue, Query, Result
from napari_embed.errors import InputError, JobCancelled, MissingDependencyError
from napari_embed.project.reader import ProjectReader

if TYPE_CHECKING:
    import duckdb

__all__ = ["QueryEngine"]

_MEMORY = "2GB"
_MOST_THREADS = 4
_MOST_SECONDS = 60.0
_MOST_FIND_TEXT = 4_096
# random() is the one such function that a person may want.
_HARMLESS = frozenset({"random"})
_ID_LIST = re.compile(r"\s*\d+(\s*-\s*\d+)?(\s*[,;\s]\s*\d+(\s*-\s*\d+)?)*\s*[,;]?\s*")
_ID_PART = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_WORDS = {
    "text": "text",
    "number": "numbers",
    "bool": "yes or no",
    "list": "lists",
    "time": "times",
    "other": "other values",
}


class QueryEngine:
    """Answers queries over one project; a context manager, safe to use from threads.

    Parameters
    ----------
    project
        The project, open for reading or writing. It is not closed here.
    decisions
        What people decided, for the columns ``tags``, ``excluded``,
        ``corrected_label``, ``final_label`` and ``note``.
    projection
        The map whose positions are the columns x, y and z.

    Raises
    ------
    MissingDependencyError
        If DuckDB is not installed.
    """

    def __init__(
        self,
        project: ProjectReader,
        decisions: Decisions | None = None,
        *,
        projection: str | None = None,
    ) -> None:
        self._project = project
        self._columns = Columns(project, decisions)
        if projection is not None:
            self._columns.use_projection(projection)
        self._mutex = threading.RLock()
        self._db, self._effects = _locked_database()

    def close(self) -> None:
        """Close the data base; calling it twice does no harm."""
        with self._mutex:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def interrupt(self) -> None:
        """Stop the query that runs now, from another thread; it raises JobCancelled."""
        self._db.interrupt()

    def use_projection(self, name: str | None) -> None:
        """Let x, y and z be the positions of another map."""
        self._columns.use_projection(name)

    def columns(self) -> list[Column]:
        """Return the columns that filters and expressions can name."""
        return self._columns.all()

    def check(self, sql: str) -> None:
        """Raise an `InputError` that says what is wrong with an expression, if it is.

        It is parsed and bound to the columns, not run.
        """
        with self._mutex:
            where, names, values = self._where(Query(sql=sql))
            with self._rows(names, empty=True):
                self._execute(f"SELECT id FROM rows {where}", values)  # noqa: S608

    def run(self, query: Query) -> Result:
        """Return the items for which a query holds, in its order.

        Raises
        ------
        InputError
            If an expression does not parse, or a filter does not fit its column.
        JobCancelled
            After `interrupt`.
        """
        with self._mutex:
            where, names, values = self._where(query)
            number = self._number(query.order_by)
            order, what = "", "id"
            if number:
                names, what = [*names, number], f"id, {quoted(number)} AS key"
            elif query.order_by.strip():
                key = self._expression(query.order_by)
                names += key.columns
                down = "DESC" if query.descending else "ASC"
                order = f"ORDER BY {key.sql} {down} NULLS LAST, id"
            limit = f"LIMIT {query.limit}" if query.limit and not number else ""
            with self._rows(names):
                found = self._execute(
                    f"SELECT {what} FROM rows {where} {order} {limit}",  # noqa: S608
                    values,
                )
        ids = _ids(found)
        if number:
            ids = _by_number(ids, found["key"], query.descending)[: query.limit]
        elif not order:
            # Threads may hand in blocks in any order.
            ids = np.sort(ids)[::-1] if query.descending else np.sort(ids)
        return Result(ids, title=query.describe())

    def find(self, text: str, *, limit: int = 10_000) -> Result:
        """Return the items that a text means.

        Numbers and ranges ("17", "3-9, 12") are ids, in the order written. Any other
        text finds items whose path contains it, or whose label or one of whose tags is
        it, in any case; the latter come first.

        Raises
        ------
        InputError
            If the text is empty or far too long, or names an item that does not exist.
        """
        words = text.strip()
        if not words:
            raise InputError("Write an id, a part of a path, a label or a tag.")
        if len(words) > _MOST_FIND_TEXT:
            raise InputError(
                f"The text has {len(words):,} characters; at most {_MOST_FIND_TEXT:,} "
                "can be looked for."
            )
        if _ID_LIST.fullmatch(words):
            ids = _listed_ids(words, self._project.n_items)
        else:
            ids = self._named(words)
        note = f"{limit:,} of {ids.size:,} are shown." if ids.size > limit else ""
        return Result(ids[:limit], title=f'"{words:.80}"', note=note)

    def _named(self, words: str) -> NDArray[np.int64]:
        """Return the items called so, then those whose path contains it."""
        low = words.lower()
        with self._mutex:
            table = self._columns.table(["source", "label", "final_label"])
            called = self._columns.tagged(words)
        for name in ("label", "final_label"):
            called |= _equals(table[name], low)
        paths = table["source"].cast(pa.string())
        paths = pc.ascii_lower(paths) if low.isascii() else pc.utf8_lower(paths)
        found = pc.match_substring(paths, low).fill_null(False).to_numpy() & ~called
        return np.concatenate([np.flatnonzero(called), np.flatnonzero(found)])

    def histogram(
        self, column: str, *, bins: int = 40, query: Query | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return how many items lie in each of ``bins`` parts of a column of numbers.

        The parts span all items, so that histograms of two queries lie on each other.

        Returns
        -------
        counts (bins,) int64, edges (bins + 1,) float64; without any number all counts
        are 0 and the edges those of 0 to 1.
        """
        if self._columns.kind(column) != "number":
            raise InputError(f"The column {column:.100} holds no numbers.")
        if not 1 <= bins <= 10_000:
            raise InputError(f"bins must be 1 to 10,000, got {bins}.")
        values = self._columns.table([column])[column].cast(pa.float64(), safe=False)
        numbers = np.asarray(values.to_numpy(), np.float64)
        finite = np.isfinite(numbers)
        low, high = 0.0, 1.0
        if finite.any():
            low, high = float(numbers[finite].min()), float(numbers[finite].max())
        if query is not None:
            wanted = np.zeros(numbers.size, bool)
            wanted[self.run(query).ids] = True
            finite &= wanted
        counts, edges = np.histogram(numbers[finite], bins=bins, range=(low, high))
        return counts.astype(np.int64), edges.astype(np.float64)

    def counts(
        self, column: str, *, query: Query | None = None, limit: int = 50
    ) -> list[tuple[str, int]]:
        """Return values of a column with the number of items, the commonest first.

        "" stands for no value. An item counts once for each of its tags.
        """
        kind = self._columns.kind(column)
        value = quoted(column)
        value = f"unnest({value})" if kind == "list" else value
        with self._mutex:
            where, names, values = self._where(query or Query())
            with self._rows([*names, column]):
                found = self._execute(
                    "SELECT coalesce(CAST(v AS VARCHAR), '') AS text, count(*) AS n "  # noqa: S608
                    f"FROM (SELECT {value} AS v FROM rows {where}) "
                    "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
                    [*values, int(limit)],
                )
        rows = zip(found["text"], found["n"], strict=True)
        return [(str(text), int(n)) for text, n in rows]

    # statements

    def _expression(self, sql: str) -> Any:
        try:
            sql.encode()
        except UnicodeEncodeError as error:
            raise InputError("The expression holds half a character.") from error
        known = {c.name.lower(): c.name for c in self._columns.all()}
        return parse_expression(self._db, sql, known, self._effects)

    def _number(self, text: str) -> str:
        """Return the column of numbers that a text names, or ""."""
        for column in self._columns.all() if text.strip() else ():
            if column.kind == "number" and text.strip() in (
                column.name, quoted(column.name)
            ):  # fmt: skip
                return column.name
        return ""

    def _where(self, query: Query) -> tuple[str, list[str], list[FilterValue]]:
        """Return the clause, the columns it needs, and its values."""
        parts, names, values = [], ["id"], []
        for chip in query.filters:
            kind = self._columns.kind(chip.column)
            condition, more = _condition(chip, kind)
            parts.append(condition)
            values += more
            names.append(chip.column)
        if query.sql.strip():
            expression = self._expression(query.sql)
            parts.append(expression.sql)
            names += expression.columns
        return ("WHERE " + " AND ".join(parts) if parts else ""), names, values

    @contextlib.contextmanager
    def _rows(self, names: Sequence[str], *, empty: bool = False) -> Iterator[None]:
        """Let ``rows`` be the table of these columns."""
        table = self._columns.table(list(dict.fromkeys(["id", *names])))
        self._db.register("rows", table.slice(0, 0) if empty else table)
        try:
            yield
        finally:
            self._db.unregister("rows")

    def _execute(self, sql: str, values: Sequence[Any]) -> dict[str, Any]:
        """Run a statement of ours to its end; what DuckDB raises becomes a sentence."""
        import duckdb

        late = threading.Event()

        def stop() -> None:
            late.set()
            self._db.interrupt()

        timer = threading.Timer(_MOST_SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            return self._db.execute(sql, list(values)).fetchnumpy()
        except duckdb.InterruptException as error:
            if late.is_set():
                raise InputError(
                    f"The query was stopped after {_MOST_SECONDS:.0f} s. Ask for less."
                ) from error
            raise JobCancelled("The query was stopped.") from error
        except duckdb.OutOfMemoryException as error:
            raise InputError(
                f"The query needs more than {_MEMORY} of memory. Ask for less."
            ) from error
        except duckdb.Error as error:
            raise InputError(_sentence(str(error))) from error
        finally:
            timer.cancel()


def _locked_database() -> tuple[duckdb.DuckDBPyConnection, frozenset[str]]:
    """Return an empty data base that reaches nothing, and functions to be refused."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "Filters need DuckDB: pip install duckdb"
        ) from error
    db = duckdb.connect(":memory:")
    threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1))
    for setting in (
        f"threads = {threads}",
        f"memory_limit = '{_MEMORY}'",
        "temp_directory = ''",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        db.execute(f"SET {setting}")
    rows = db.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE has_side_effects"
    ).fetchall()
    effects = {str(row[0]).lower() for row in rows} - _HARMLESS
    return db, frozenset(effects | {"current_setting", "getvariable"})


def _ids(found: dict[str, Any]) -> NDArray[np.int64]:
    return np.asarray(found["id"], np.int64)


def _by_number(
    ids: NDArray[np.int64], values: NDArray[Any], descending: bool
) -> NDArray[np.int64]:
    """Return ids by value, equal ones by id, those without a value last.

    Several times faster than sorting by both: sorting whole numbers is very fast.
    """
    empty = np.ma.getmaskarray(values).copy()
    plain = np.ma.getdata(values)
    if plain.dtype.kind == "f":
        empty |= np.isnan(plain)
    plain, held = plain[~empty], ids[~empty]
    order = np.argsort(plain)
    plain, held = plain[order], held[order]
    rank = np.zeros(held.size, np.int64)
    np.cumsum(plain[1:] != plain[:-1], out=rank[1:])
    if descending and rank.size:
        rank = rank[-1] - rank
    bits = 32  # of an id
    keys = np.sort(rank << bits | held)
    return np.concatenate([keys & ((1 << bits) - 1), np.sort(ids[empty])])


def _equals(column: Any, low: str) -> NDArray[np.bool_]:
    """Return which values of a text column are a text, in any case."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = []
    for chunk in chunks:
        words, coded = chunk, pa.types.is_dictionary(chunk.type)
        if coded:
            words = chunk.dictionary
        hits = pc.equal(pc.utf8_lower(words), low).fill_null(False)
        hits = np.asarray(hits.to_numpy(zero_copy_only=False), bool)
        if coded:
            codes = np.asarray(chunk.indices.fill_null(-1))
            hits = np.append(hits, False)[codes]
        found.append(hits)
    return np.concatenate(found) if found else np.zeros(0, bool)


def _condition(chip: Filter, kind: str) -> tuple[str, list[FilterValue]]:
    """Return a filter as SQL with its values."""
    name = quoted(chip.column)
    if chip.op in ("missing", "present"):
        empty = f"{name} IS NULL"
        if kind == "list":
            empty = f"len({name}) = 0"
        elif kind == "text":
            empty = f"coalesce({name}, '') = ''"
        elif kind == "number":
            empty = f"({name} IS NULL OR isnan(CAST({name} AS DOUBLE)))"
        return (empty if chip.op == "missing" else f"NOT ({empty})"), []
    if chip.op == "contains":
        if kind != "text":
            raise _unfit(chip, kind, "contains a text")
        return f"contains(lower({name}), ?)", [str(chip.values[0]).lower()]
    if chip.op == "between":
        if kind != "number":
            raise _unfit(chip, kind, "lies between two numbers")
        low, high = chip.values
        ends = [f"{name} {sign} ?" for sign, v in ((">=", low), ("<=", high))
                if v is not None]  # fmt: skip
        ends.append(f"NOT isnan(CAST({name} AS DOUBLE))")
        return f"({' AND '.join(ends)})", [v for v in (low, high) if v is not None]
    return _membership(chip, kind, name)


def _membership(chip: Filter, kind: str, name: str) -> tuple[str, list[FilterValue]]:
    values: list[FilterValue] = [v for v in chip.values if v is not None]
    wanted = {"text": str, "list": str, "bool": bool, "number": (int, float)}
    types: Any = wanted.get(kind, str)
    if not all(isinstance(v, types) for v in values) or (
        kind == "number" and any(isinstance(v, bool) for v in values)
    ):
        raise _unfit(chip, kind, f"is {values[0]!r:.40}")
    marks = ", ".join("?" for _ in values)
    if kind == "list":
        held = f"list_has_any({name}, [{marks}])" if values else "false"
        if None in chip.values:
            held = f"({held} OR len({name}) = 0)"
    else:
        text = (
            name if kind in ("text", "bool", "number") else f"CAST({name} AS VARCHAR)"
        )
        held = f"coalesce({text} IN ({marks}), false)" if values else "false"
        if None in chip.values:
            held = f"({held} OR {name} IS NULL)"
    return (held if chip.op == "in" else f"NOT {held}"), values


def _unfit(chip: Filter, kind: str, what: str) -> InputError:
    return InputError(
        f"The column {chip.column:.100} holds {_WORDS[kind]}, so no item {what}."
    )


def _listed_ids(text: str, n_items: int) -> NDArray[np.int64]:
    """Return the ids of "3-9, 12", each once, in the order written."""
    parts = []
    for first, last in _ID_PART.findall(text):
        low, high = int(first), int(last or first)
        if max(low, high) >= n_items:
            raise InputError(
                f"There is no item {max(low, high)}; ids are 0 to {n_items - 1}."
            )
        step = 1 if high >= low else -1
        parts.append(np.arange(low, high + step, step, dtype=np.int64))
    ids = np.concatenate(parts)
    _, places = np.unique(ids, return_index=True)
    return np.asarray(ids[np.sort(places)])


def _sentence(message: str) -> str:
    """Return the first line of DuckDB's message, without its class."""
    line = message.strip().splitlines()[0][:300]
    words = line.split(" Error: ", 1)[-1].rstrip(".!")
    return f"The expression cannot be used: {words}."
