"""Decisions alone as a table: to keep, and for another person to merge.

One row per decision: an item, and exactly one of tag, label, excluded and note, with
who decided and when. The source of each item stands beside it, so a file of another
project, or of other items, is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.curation.decisions.idset import unpack_ids
from napari_embed.curation.decisions.state import EXCLUDED, TAG
from napari_embed.curation.decisions.store import items_words
from napari_embed.curation.decisions.wording import cleaned_name, cleaned_note
from napari_embed.errors import InputError, ManifestError, StoreError
from napari_embed.params import fingerprint
from napari_embed.project.atomic import atomic_file
from napari_embed.project.reader import ProjectReader

__all__ = [
    "COLUMNS",
    "MergeReport",
    "decisions_table",
    "export_decisions",
    "merge_decisions",
]

KINDS = ("tag", "label", "excluded", "note")
COLUMNS = ("id", "source", *KINDS, "who", "when", "project")
_MOST_FILE_BYTES = 2 << 30
_ESCAPED = r"^[=+\-@\t\r\n']"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class MergeReport:
    """What merging a file did.

    Attributes
    ----------
    n_rows
        Decisions in the file.
    n_changed
        Those that were new here.
    n_conflicts
        Items that had another label or note here; the newer decision holds.
    people
        Who decided, in the file.
    """

    n_rows: int
    n_changed: int
    n_conflicts: int
    people: tuple[str, ...]


def decisions_table(project: ProjectReader, decisions: Decisions) -> pa.Table:
    """Return all decisions that hold, with the columns `COLUMNS`.

    Who and when are of the last change of that item and tag (label, note).
    """
    blocks = []
    for kind, name, key in _keys(decisions):
        ids, values, who, when = _history(decisions, key)
        text = pa.nulls(ids.size, pa.string())
        columns: dict[str, Any] = {"id": pa.array(ids), **dict.fromkeys(KINDS, text)}
        if kind == "tag":
            columns["tag"] = pa.array([name], pa.string()).take(
                pa.array(np.zeros(ids.size, np.int32))
            )
        elif kind == "excluded":
            columns[kind] = pa.array(np.ones(ids.size, bool)).cast(pa.string())
        else:
            texts = decisions.text_of(values)
            columns[kind] = pa.array(texts, pa.string())
        columns |= {"who": pa.array(who, pa.string()), "when": pa.array(when)}
        blocks.append(pa.table(columns).cast(_schema(with_source=False)))
    schema = _schema(with_source=False)
    table = pa.concat_tables(blocks) if blocks else schema.empty_table()
    table = table.sort_by([("id", "ascending")])
    source = project.items(["source"], table["id"].to_numpy())["source"]
    table = table.add_column(1, "source", source.cast(pa.string()))
    mark = pa.array([_identity(project)], pa.string())
    marks = mark.take(pa.array(np.zeros(table.num_rows, np.int32)))
    return table.append_column("project", marks)


def export_decisions(
    project: ProjectReader,
    decisions: Decisions,
    path: str | Path,
    *,
    overwrite: bool = False,
) -> int:
    """Write all decisions to a .csv or .parquet file; return the number of rows.

    In CSV, text that a spreadsheet could run as a formula (and text that begins with
    an apostrophe) gets an apostrophe before it, which `merge_decisions` takes away.

    Raises
    ------
    InputError
        If the ending is neither.
    StoreError
        If the file exists already or cannot be written.
    """
    target = Path(path).expanduser().absolute()
    kind = _ending(target)
    if target.resolve().is_relative_to(project.path.resolve()):
        raise StoreError(f"{target} lies inside the project. Choose another folder.")
    table = decisions_table(project, decisions)
    with atomic_file(target, overwrite=overwrite) as file:
        if kind == ".csv":
            pyarrow.csv.write_csv(_escaped(table), file)
        else:
            pq.write_table(table, file, compression="zstd")
    return int(table.num_rows)


def merge_decisions(
    project: ProjectReader, decisions: Decisions, path: str | Path
) -> MergeReport:
    """Take over the decisions of a file as one step of undo, with who and when.

    Tags and exclusions are added to those here. Where both sides gave an item a label
    or a note, the newer one holds.

    Raises
    ------
    InputError
        If the file is of another project or malformed; nothing is changed then.
    """
    source = Path(path).expanduser().absolute()
    table = _read(source)
    _check_project(project, table, source)
    rows = _rows(table, decisions.n_items, source)
    changed = conflicts = 0
    here = _Moments(decisions)
    with decisions.step(f"Merge {items_words(len({r[0] for r in rows}))}"):
        for (kind, text, who, when), ids in _grouped(rows).items():
            wanted, lost = ids, 0
            if kind in ("label", "note"):
                wanted, lost = here.newer(kind, text, when, ids)
            changed += decisions.take_over(kind, text, wanted, who=who, when=when)
            conflicts += lost
    people = tuple(sorted({who for _, _, _, who, _ in rows}))
    return MergeReport(table.num_rows, changed, conflicts, people)


# writing


def _keys(decisions: Decisions) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name of the tag, key in the log)."""
    for key, tag in decisions.tag_keys():
        yield "tag", tag, TAG + key
    yield "label", "", "label"
    yield "excluded", "", EXCLUDED
    yield "note", "", "note"


def _history(
    decisions: Decisions, key: str
) -> tuple[NDArray[np.int64], NDArray[np.int32], Any, Any]:
    """Return ids, values, who and when of what holds, from the log."""
    n = decisions.n_items
    value, stamp = np.zeros(n, np.int32), np.zeros(n, np.int32)
    people: list[str] = []
    moments: list[str] = []
    for number, change in enumerate(decisions.changes_of(key)):
        assert change.ids is not None
        assert isinstance(change.new, int)
        ids = unpack_ids(change.ids, n)
        value[ids], stamp[ids] = change.new, number
        people.append(change.who)
        moments.append(change.moment)
    held = np.flatnonzero(value)
    which = pa.array(stamp[held])
    who = pa.array(people, pa.string()).take(which)
    when = pa.array(moments, pa.string()).take(which)
    return held, value[held], who, when


def _schema(*, with_source: bool) -> pa.Schema:
    names = [c for c in COLUMNS if c not in ("source", "project") or with_source]
    kinds = [pa.int64() if c == "id" else pa.string() for c in names]
    return pa.schema(list(zip(names, kinds, strict=True)))


def _identity(project: ProjectReader) -> str:
    """Return what two copies of a project share: made then, or with the same items."""
    made = fingerprint("project", project.manifest.created, project.manifest.name)
    return f"{made}:{project.manifest.items_checksum}"


def _ending(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise InputError(
            f"Decisions are kept as .csv or .parquet; {path.name} ends in neither."
        )
    return kind


def _escaped(table: pa.Table) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if name != "id":
            column = table[name]
            risky = pc.match_substring_regex(column, _ESCAPED)
            quoted = pc.binary_join_element_wise("'", column, "")
            table = table.set_column(i, name, pc.if_else(risky, quoted, column))
    return table


# reading


def _read(path: Path) -> pa.Table:
    kind = _ending(path)
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise InputError(f"{path} is larger than 2 GiB; it holds no decisions.")
        if kind == ".parquet":
            table = pq.read_table(path, use_threads=True)
        else:
            options = pyarrow.csv.ConvertOptions(
                column_types={c: pa.string() for c in COLUMNS if c != "id"},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            )
            parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
            content = io.BytesIO(path.read_bytes())
            table = pyarrow.csv.read_csv(
                content, convert_options=options, parse_options=parse
            )
        missing = [c for c in COLUMNS if c not in table.column_names]
        if missing:
            raise ManifestError(
                f"{path} holds no decisions: it has no column {', '.join(missing)}. "
                "Take a file that `napari-embed decisions export` wrote."
            )
        table = table.select(list(COLUMNS)).cast(_schema(with_source=True))
        return _unescaped(table) if kind == ".csv" else table
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ManifestError(f"{path} cannot be read: {str(error)[:300]}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {str(error)[:300]}") from error


def _unescaped(table: pa.Table) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if name != "id":
            plain = pc.replace_substring_regex(table[name], "^'", "")
            table = table.set_column(i, name, plain)
    return table


def _check_project(project: ProjectReader, table: pa.Table, path: Path) -> None:
    """Refuse what was decided about other items."""
    own = _identity(project).split(":")
    for mark in pc.unique(table["project"]).to_pylist():
        made, _, items = str(mark).partition(":")
        if not (made == own[0] or items == own[1]):
            raise InputError(
                f"{path} holds decisions about another project, not about "
                f"{project.name}. Nothing was changed."
            )
    ids = table["id"].drop_null().to_numpy()
    if len(ids) != table.num_rows or (
        ids.size and not (ids.min() >= 0 and ids.max() < project.n_items)
    ):
        raise InputError(
            f"{path} names items that this project does not have (ids 0 to "
            f"{project.n_items - 1}). Nothing was changed."
        )
    here = project.items(["source"], ids)["source"].cast(pa.string())
    same = pc.fill_null(pc.equal(here, table["source"].combine_chunks()), False)
    if not pc.all(same, min_count=0).as_py():
        row = int(np.argmin(np.asarray(same)))
        raise InputError(
            f"{path} is about other items: item {ids[row]} is "
            f"{str(table['source'][row].as_py())!r:.200} there and "
            f"{str(here[row].as_py())!r:.200} here. Nothing was changed."
        )


_Row = tuple[int, str, str, str, str]


def _rows(table: pa.Table, n_items: int, path: Path) -> list[_Row]:
    """Return (id, kind, text, who, when), each checked once per distinct text."""
    rows: list[_Row] = []
    cleaned: dict[tuple[str, str], str] = {}
    columns = [table[name].to_pylist() for name in ("id", *KINDS, "who", "when")]
    for number, (item, *values, who, when) in enumerate(zip(*columns, strict=True)):
        given = [(k, v) for k, v in zip(KINDS, values, strict=True) if v is not None]
        if len(given) != 1:
            raise ManifestError(
                f"{path}, row {number + 1}: exactly one of {', '.join(KINDS)} must be "
                f"there, found {len(given)}. Nothing was changed."
            )
        if not (isinstance(when, str) and _MOMENT.fullmatch(when)):
            raise ManifestError(
                f"{path}, row {number + 1}: when must be a time such as "
                f"2026-01-31T12:00:00Z, got {when!r:.60}. Nothing was changed."
            )
        (kind, value), person = given[0], who or ""
        for what, text in ((kind, value), ("who", person)):
            if (what, text) not in cleaned:
                cleaned[what, text] = _cleaned(what, text, path, number)
        rows.append((item, kind, cleaned[kind, value], cleaned["who", person], when))
    return rows


def _cleaned(what: str, text: str, path: Path, number: int) -> str:
    try:
        if what == "excluded":
            if text not in ("true", "True", "TRUE", "1"):
                raise InputError(f"excluded must be true or empty, got {text!r:.40}.")
            return ""
        return cleaned_note(text) if what == "note" else cleaned_name(text, what)
    except InputError as error:
        raise ManifestError(f"{path}, row {number + 1}: {error}") from error


def _grouped(
    rows: list[_Row],
) -> dict[tuple[str, str, str, str], NDArray[np.int64]]:
    """Return the items of each (kind, text, who, when), the oldest first."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for item, *rest in rows:
        kind, text, who, when = rest
        groups.setdefault((kind, text, who, when), []).append(item)
    order = sorted(groups, key=lambda key: key[3])
    return {key: np.unique(np.array(groups[key], np.int64)) for key in order}


class _Moments:
    """When the labels and notes that were here before the merge were given."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._known: dict[str, NDArray[np.str_]] = {}

    def newer(
        self, kind: str, text: str, when: str, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], int]:
        """Return the items whose text is older than ``when``, and how many differ."""
        decisions = self._decisions
        held = np.array(
            decisions.labels_of(ids) if kind == "label" else decisions.notes_of(ids),
            dtype=object,
        )
        differs = np.array([bool(h) and h != text for h in held], bool)
        if not differs.any():
            return ids, 0
        if kind not in self._known:  # once: the history may be long
            self._known[kind] = self._read(kind)
        return ids[~differs | (self._known[kind][ids] <= when)], int(differs.sum())

    def _read(self, kind: str) -> NDArray[np.str_]:
        ids, _, _, moments = _history(self._decisions, kind)
        at = np.full(self._decisions.n_items, "", dtype="U20")
        at[ids] = np.asarray(moments.to_pylist(), "U20")
        return at
