"""The searches' half that filters by columns: chips, an expression, histograms. No Qt.

A wish is taken over when it was answered: a filter that does not parse or fit changes
nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from psygnal import SignalInstance

from napari_embed.curation.columns import Column
from napari_embed.curation.filters import Filter, FilterValue, Query, Result
from napari_embed.curation.query import QueryEngine
from napari_embed.errors import InputError
from napari_embed.gui.controller import Controller
from napari_embed.gui.found import Bars, Found

__all__ = ["WAYS", "Filtering", "filter_of", "with_filter"]

BINS = 48
MOST_VALUES = 200


def with_filter(query: Query, chip: Filter) -> Query:
    """Return the query with one more chip.

    A chip of values joins the one of the same column (any of them), and an end of a
    range takes the place of the one before; all others must hold as well.
    """
    chips, joined = list(query.filters), False
    for place, old in enumerate(chips):
        if (old.column, old.op) != (chip.column, chip.op):
            continue
        if chip.op in ("in", "not in"):
            values = dict.fromkeys((*old.values, *chip.values))
            chips[place], joined = replace(old, values=tuple(values)), True
        elif chip.op == "between":
            chips[place], joined = replace(old, values=_ends(old, chip)), True
        elif chip == old:
            joined = True
    return replace(query, filters=(*chips, *(() if joined else (chip,))))


def _ends(old: Filter, new: Filter) -> tuple[FilterValue, ...]:
    """Return the ends of a range of which a new one may have one only."""
    both = zip(new.values, old.values, strict=True)
    low, high = (a if a is not None else b for a, b in both)
    return new.values if _crossed(low, high) else (low, high)


def _crossed(low: FilterValue, high: FilterValue) -> bool:
    return low is not None and high is not None and float(low) > float(high)


class Filtering:
    """Mixin of `Searches`: the filters that hold, and what can be filtered by."""

    changed: SignalInstance
    found: Found | None
    _controller: Controller
    _show: Callable[[Found], None]
    _query: Callable[..., None]
    _ask: Callable[..., None]

    def _no_filters(self) -> None:
        self.query = Query()

    def filter(self, query: Query) -> None:
        """Select the items for which a query holds; without conditions, nothing."""
        if not query.filters and not query.sql.strip():
            self.query = query
            self._show_none()
            return

        def listed(result: Result) -> None:
            self.query = query
            self._show(Found(result.ids, result.title, result.note))

        self._query(lambda engine: engine.run(query), listed)

    def _show_none(self) -> None:
        self.cancel()  # type: ignore[attr-defined]
        self.found = None
        self._controller.select(np.zeros(0, np.int64))
        self.changed.emit()

    def plain_query(self) -> dict[str, Any]:
        """Return the filters that hold as plain values, to be remembered."""
        return self.query.to_dict()

    def put_query(self, values: Mapping[str, Any]) -> None:
        """Let remembered filters hold; the selection that they made is kept apart."""
        # What another program has written and does not fit is left out.
        with contextlib.suppress(InputError, TypeError, ValueError, KeyError):
            self.query = Query.from_dict(values)
            self.changed.emit()

    def where(self, sql: str) -> None:
        """Let an SQL expression hold as well; "" takes it away."""
        if sql.strip() != self.query.sql:
            self.filter(replace(self.query, sql=sql.strip()))
        elif sql.strip():
            self.filter(self.query)

    def add_filter(self, chip: Filter) -> None:
        """Let one more condition hold."""
        self.filter(with_filter(self.query, chip))

    def remove_filter(self, chip: Filter) -> None:
        """Take a condition away and look again."""
        left = tuple(c for c in self.query.filters if c != chip)
        self.filter(replace(self.query, filters=left))

    # --- what can be filtered by -----------------------------------------------------

    def columns(self, done: Callable[[list[Column]], None]) -> None:
        """Ask for the columns that filters can name."""
        self._ask("columns", lambda engine: engine.columns(), done)

    def values(self, column: str, done: Callable[[list[str]], None]) -> None:
        """Ask for the commonest values of a column."""

        def work(engine: QueryEngine) -> list[str]:
            return [text for text, _ in engine.counts(column, limit=MOST_VALUES)]

        self._ask("values", work, done)

    def bars(self, column: str, done: Callable[[Bars], None]) -> None:
        """Ask for the histogram of a column of numbers.

        The chosen are those for which all filters on other columns hold.
        """
        others = tuple(c for c in self.query.filters if c.column != column)
        query = replace(self.query, filters=others)
        bare = not others and not query.sql

        def work(engine: QueryEngine) -> Bars:
            counts, edges = engine.histogram(column, bins=BINS)
            chosen = counts
            if not bare:
                chosen = engine.histogram(column, bins=BINS, query=query)[0]
            return Bars(column, counts, chosen, edges)

        self._ask("bars", work, done)


WAYS: dict[str, tuple[tuple[str, str], ...]] = {
    "text": (
        ("is", "in"), ("is not", "not in"), ("contains", "contains"),
        ("is empty", "missing"), ("is set", "present"),
    ),
    "number": (
        ("from", "from"), ("to", "to"), ("is", "in"), ("is not", "not in"),
        ("is empty", "missing"), ("is set", "present"),
    ),
    "bool": (("is", "in"),),
    "list": (
        ("has", "in"), ("has not", "not in"), ("is empty", "missing"),
        ("is set", "present"),
    ),
    "time": (
        ("is", "in"), ("is not", "not in"), ("is empty", "missing"),
        ("is set", "present"),
    ),
}  # fmt: skip
"""How columns of a kind can be compared: the word for it, and the way."""
MOST_TEXT = 1_000


def filter_of(column: Column, way: str, text: str) -> Filter:
    """Return the filter that a person wrote.

    Parameters
    ----------
    column
        What is compared.
    way
        One of `WAYS` for its kind.
    text
        With what.

    Raises
    ------
    InputError
        If a value is needed and empty, far too long, or no number where it must be one.
    """
    if way in ("missing", "present"):
        return Filter(column.name, way)  # type: ignore[arg-type]
    text = text.strip()
    if not text:
        raise InputError(f"Write what {column.name:.100} is to be compared with.")
    if len(text) > MOST_TEXT:
        raise InputError(
            f"A value has at most {MOST_TEXT:,} characters, this one {len(text):,}. "
            "Nothing was changed."
        )
    if way == "contains":
        return Filter(column.name, "contains", (text,))
    value: FilterValue = text
    if column.kind == "number":
        value = _number(column.name, text)
    elif column.kind == "bool":
        value = text.lower() in ("yes", "true", "1")
    if way in ("from", "to"):
        ends = (value, None) if way == "from" else (None, value)
        return Filter(column.name, "between", ends)
    return Filter(column.name, way, (value,))  # type: ignore[arg-type]


def _number(column: str, text: str) -> float:
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{column:.100} holds numbers, and {text!r:.60} is none. Nothing was "
            "changed."
        )
    return value
