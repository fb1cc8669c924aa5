"""``errors.csv``: the items that failed and why, for people and spreadsheets.

A copy of what the ledger knows, made anew whenever a writer closes the project; nothing
reads it. It is not there when nothing failed.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from napari_embed.project.atomic import store_errors, write_atomic

__all__ = ["ERRORS_NAME", "guarded", "write_error_list"]

ERRORS_NAME = "errors.csv"
_FORMULA = r"^[=+\-@\t\r\n]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def write_error_list(root: Path, errors: pa.Table) -> None:
    """Let ``errors.csv`` in folder ``root`` say what failed, see `Project.errors`.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    path = root / ERRORS_NAME
    if not errors.num_rows:
        with store_errors("remove", path):
            path.unlink(missing_ok=True)
        return
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(guarded(errors), buffer)
    content = buffer.getvalue()
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.read_bytes() == content:
            return
    write_atomic(path, content)


def guarded(table: pa.Table) -> pa.Table:
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
