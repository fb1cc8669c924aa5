"""An SQL expression from a person: parsed by DuckDB, checked, put into one statement.

The text is never trusted to stay inside its brackets: the statement it ends up in is
parsed, and anything but one SELECT with this one expression is refused, as are
sub-queries, parameters and functions that do more than compute.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from napari_embed.errors import InputError

__all__ = ["Expression", "parse_expression", "quoted"]

_BEFORE = "SELECT id FROM rows WHERE (\n"
_AFTER = "\n)"
# The parser's time grows steeply with the depth, and it cannot be interrupted.
_MOST_DEPTH = 50
_REFUSED = {
    "SUBQUERY": "another SELECT",
    "PARAMETER": "a parameter (?)",
    "STAR": "*",
    "WINDOW": "a window function",
    "DEFAULT": "DEFAULT",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression and the columns it names."""

    sql: str
    columns: tuple[str, ...]


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def parse_expression(
    connection: Any, sql: str, columns: Mapping[str, str], effects: frozenset[str]
) -> Expression:
    """Return a person's expression, checked.

    Parameters
    ----------
    connection
        A DuckDB connection, used for its parser only.
    sql
        The text.
    columns
        Known columns: {name in lower case: name}.
    effects
        Functions that are refused.

    Raises
    ------
    InputError
        With a sentence that says where it does not parse or what it may not have.
    """
    if not sql.strip() or "\0" in sql:
        raise InputError("The expression is empty. Example: label = 'cat'")
    if _depth(sql) > _MOST_DEPTH:
        raise InputError(
            f"The expression has more than {_MOST_DEPTH} brackets in one another. "
            "Write it flatter."
        )
    clause = _clause(connection, sql)
    used: dict[str, None] = {}
    for node in _nodes(clause):
        kind = node.get("class")
        if kind in _REFUSED:
            raise InputError(
                f"The expression has {_REFUSED[kind]}, which is not possible here. Use "
                "columns, numbers, texts in '...', and functions of them."
            )
        if kind == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if name in effects:
                raise InputError(f"The function {name} is not possible here.")
        if kind == "COLUMN_REF":
            used[_known(node.get("column_names", []), columns)] = None
    return Expression(f"({_BEFORE[-1]}{sql}{_AFTER}", tuple(used))


def _clause(connection: Any, sql: str) -> Any:
    """Return the syntax tree of the expression alone."""
    expected = _tree(connection, f"{_BEFORE}true{_AFTER}", sql)
    found = _tree(connection, f"{_BEFORE}{sql}{_AFTER}", sql)
    clause = None
    if len(found) == 1:
        clause = found[0]["node"].pop("where_clause", None)
        expected[0]["node"].pop("where_clause")
    if clause is None or _placeless(found) != _placeless(expected):
        raise _not_one()
    return clause


def _depth(sql: str) -> int:
    """Return how deep brackets stand in one another, those in texts counted too."""
    depth = deepest = 0
    for character in sql:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _not_one() -> InputError:
    return InputError(
        "The expression must be one condition, as after WHERE, such as: "
        "label = 'cat' AND width > 100"
    )


def _tree(connection: Any, statement: str, sql: str) -> list[dict[str, Any]]:
    try:
        rows = connection.execute("SELECT json_serialize_sql(?)", [statement])
        parsed = json.loads(rows.fetchall()[0][0])
    except (RecursionError, ValueError) as error:
        raise InputError("The expression is too long. Write it shorter.") from error
    if parsed["error"] and parsed.get("error_type") != "parser":
        raise _not_one()  # a statement that is no SELECT
    if parsed["error"]:
        words = str(parsed.get("error_message", "")).splitlines()[0]
        place = int(parsed.get("position") or len(_BEFORE)) - len(_BEFORE)
        if place >= len(sql.rstrip()):
            words = "it ends too early"
        else:
            words += f" (character {max(place, 0) + 1})"
        raise InputError(
            f"The expression does not parse: {words}. Texts stand in '...', names of "
            'columns with spaces in "...".'
        )
    statements: list[dict[str, Any]] = parsed["statements"]
    return statements


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a syntax tree; a stack, because a text may nest deeply."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _placeless(tree: Any) -> Any:
    """Return a tree without places in the text and names of parameters."""
    if isinstance(tree, dict):
        return {
            k: _placeless(v)
            for k, v in tree.items()
            if not k.startswith(("query_location", "named_param"))
        }
    return [_placeless(v) for v in tree] if isinstance(tree, list) else tree


def _known(path: list[str], columns: Mapping[str, str]) -> str:
    """Return the column that a reference begins with."""
    for part in path[:2] if path[:1] == ["rows"] else path[:1]:
        if part.lower() in columns:
            return columns[part.lower()]
    name = path[-1] if path else ""
    near = difflib.get_close_matches(name.lower(), columns, 1)
    hint = f" Did you mean {columns[near[0]]}?" if near else ""
    known = ", ".join(list(columns.values())[:30])
    text = f'There is no column "{name:.100}".{hint} Columns: {known}.'
    raise InputError(f"{text} Texts stand in '...'.")
