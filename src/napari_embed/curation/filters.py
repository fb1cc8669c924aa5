"""What to look for, as frozen values: chips for columns and an SQL expression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["FILTER_OPS", "Filter", "FilterOp", "FilterValue", "Query", "Result"]

FilterOp = Literal["in", "not in", "between", "contains", "missing", "present"]
FILTER_OPS: tuple[FilterOp, ...] = get_args(FilterOp)
FilterValue = str | float | bool | None
_VALUES_SHOWN = 3
_MOST_VALUES = 10_000
_MOST_SQL = 4_000


@dataclass(frozen=True)
class Filter:
    """One condition on one column.

    Attributes
    ----------
    column
        Name of a column as `QueryEngine.columns` lists it.
    op
        "in" or "not in" some values (for tags: has any, has none of them), "between"
        two numbers, both included (None: no end), "contains" a text in any case,
        "missing" or "present".
    values
        As many as ``op`` takes. None among those of "in" is "no value".
    """

    column: str
    op: FilterOp
    values: tuple[FilterValue, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if self.op not in FILTER_OPS:
            known = ", ".join(FILTER_OPS)
            raise InputError(f"A filter can be {known}; got {self.op!r:.40}.")
        if not isinstance(self.column, str):
            raise InputError(f"A filter needs a column, got {self.column!r:.40}.")
        for value in self.values:
            if not isinstance(value, str | float | int | None):
                raise InputError(f"A filter cannot look for {value!r:.40}.")
            if isinstance(value, float) and math.isnan(value):
                raise InputError("A filter cannot look for NaN; use missing.")
        self._check_count()

    def _check_count(self) -> None:
        n = len(self.values)
        wanted = {"between": 2, "contains": 1, "missing": 0, "present": 0}
        if self.op in wanted and n != wanted[self.op]:
            raise InputError(
                f"The filter {self.op!r} takes {wanted[self.op]} values, got {n}."
            )
        if self.op in ("in", "not in") and not 1 <= n <= _MOST_VALUES:
            raise InputError(
                f"The filter {self.op!r} takes 1 to {_MOST_VALUES:,} values, got {n}."
            )
        if self.op == "between":
            ends = [v for v in self.values if v is not None]
            if not ends or any(isinstance(v, str | bool) for v in ends):
                raise InputError("The filter 'between' takes one or two numbers.")
        if self.op == "contains" and not isinstance(self.values[0], str):
            raise InputError("The filter 'contains' takes a text.")

    def describe(self) -> str:
        """Return the words of a chip, plain text."""
        if self.op in ("missing", "present"):
            return f"{self.column} {'is missing' if self.op == 'missing' else 'is set'}"
        if self.op == "contains":
            return f'{self.column} contains "{self.values[0]}"'
        if self.op == "between":
            low, high = self.values
            if low is None or high is None:
                return (
                    f"{self.column} ≥ {_word(low)}"
                    if high is None
                    else f"{self.column} ≤ {_word(high)}"
                )
            return f"{self.column} {_word(low)} to {_word(high)}"
        words = ", ".join(_word(v) for v in self.values[:_VALUES_SHOWN])
        more = len(self.values) - _VALUES_SHOWN
        words += f" and {more} more" if more > 0 else ""
        return f"{self.column} is {'not ' if self.op == 'not in' else ''}{words}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"column": self.column, "op": self.op, "values": list(self.values)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the filter of plain values, checked."""
        column, op, items = (values.get(name) for name in ("column", "op", "values"))
        if not isinstance(items, list):
            raise InputError(f"A filter needs a list of values, got {items!r:.80}.")
        return cls(column, op, tuple(items))  # type: ignore[arg-type]


def _word(value: FilterValue) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Query:
    """Filters that all hold, and an SQL expression that holds too.

    Attributes
    ----------
    filters
        All must hold.
    sql
        An SQL expression over the columns, such as ``label = 'cat' AND width > 100 AND
        'blurred' IN tags``; "" for none.
    order_by
        Column or SQL expression to sort by, empty ones last; "" for the order of ids.
    descending
        The largest first.
    limit
        At most so many items.
    """

    filters: tuple[Filter, ...] = ()
    sql: str = ""
    order_by: str = ""
    descending: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(self.filters))
        for text in (self.sql, self.order_by):
            if not isinstance(text, str) or len(text) > _MOST_SQL:
                raise InputError(
                    f"An expression is a text of at most {_MOST_SQL:,} characters. "
                    "Nothing was changed."
                )
        if self.limit is not None and (
            not isinstance(self.limit, int) or self.limit < 1
        ):
            raise InputError(f"The limit must be 1 or more, got {self.limit!r:.40}.")

    def describe(self) -> str:
        """Return the query in words, plain text."""
        words = [f.describe() for f in self.filters]
        words += [self.sql.strip()] if self.sql.strip() else []
        return " and ".join(words) or "all items"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "filters": [f.to_dict() for f in self.filters],
            "sql": self.sql,
            "order_by": self.order_by,
            "descending": self.descending,
            "limit": self.limit,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the query of plain values, checked."""
        filters = values.get("filters", [])
        if not (
            isinstance(filters, list) and all(isinstance(f, dict) for f in filters)
        ):
            raise InputError(f"A query needs a list of filters, got {filters!r:.80}.")
        return cls(
            tuple(Filter.from_dict(f) for f in filters),
            sql=values.get("sql", ""),
            order_by=values.get("order_by", ""),
            descending=bool(values.get("descending", False)),
            limit=values.get("limit"),
        )


@dataclass(frozen=True, eq=False)
class Result:
    """A ranked selection.

    Attributes
    ----------
    ids
        (m,) int64, the best first.
    distances
        (m,) float32 where items were ranked by distance, else None.
    title
        What was looked for, plain text.
    note
        A sentence for people about what to know, or "".
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float32] | None = None
    title: str = ""
    note: str = ""

    def __len__(self) -> int:
        return int(self.ids.size)
