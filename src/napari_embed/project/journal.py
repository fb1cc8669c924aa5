"""The log of what people decided, in ``state.sqlite``.

Steps are numbered 1, 2, 3 ... in the order they were made; those up to the *cursor*
hold, those behind it were undone and can be redone. A step has changes: a set of items
(or one document) that had an old value and has a new one, so each can be applied in
both directions. A *snapshot* of all values at some step saves replaying the whole log.

The tables are made with the first decision: a project nobody decided about can still be
opened by a version that does not know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_embed.errors import StoreError
from napari_embed.project.database import SCHEMA_VERSION, Database

__all__ = ["Journal", "JournalChange", "JournalStep", "Value"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decision_steps (
    id INTEGER PRIMARY KEY, label TEXT NOT NULL,
    who TEXT NOT NULL, moment TEXT NOT NULL, n_items INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS decision_changes (
    step INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL,
    old, new, ids BLOB, who TEXT NOT NULL, moment TEXT NOT NULL,
    PRIMARY KEY (step, seq)
);
CREATE INDEX IF NOT EXISTS decision_changes_by_key ON decision_changes (key, step);
CREATE TABLE IF NOT EXISTS decision_texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decision_state (key TEXT PRIMARY KEY, content)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision_marks (key TEXT PRIMARY KEY, value INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision_session (key TEXT PRIMARY KEY, content TEXT)
    WITHOUT ROWID;
"""

Value = int | str | bytes | None
"""Of a change: a number for items, a text or bytes for a document, None for nothing."""


@dataclass(frozen=True)
class JournalChange:
    """One change: what ``key`` was and is, for the items in ``ids`` (packed) if any."""

    key: str
    old: Value
    new: Value
    ids: bytes | None
    who: str
    moment: str


@dataclass(frozen=True)
class JournalStep:
    """One step of undo: number, words for people, who, when (UTC), items changed."""

    id: int
    label: str
    who: str
    moment: str
    n_items: int


class Journal(Database):
    """Reads and writes the log; whoever writes holds the curation lock."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        super().__init__(root, writable=writable)
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether the tables are there."""
        if not self._ready:
            sql = "SELECT count(*) FROM sqlite_master WHERE name = 'decision_marks'"
            self._ready = bool(self._rows(sql)[0][0])
        return self._ready

    def _make_tables(self) -> None:
        """Make the tables, inside a transaction, and note the newer version."""
        if self.ready:
            return
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found < SCHEMA_VERSION:
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._ready = False  # until the transaction holds

    # reading

    def marks(self) -> tuple[int, int, int]:
        """Return cursor, step of the snapshot, and a number that every write raises."""
        if not self.ready:
            return 0, 0, 0
        found = dict(self._rows("SELECT key, value FROM decision_marks"))
        names = ("cursor", "snapshot", "revision")
        values = tuple(found.get(name, 0) for name in names)
        if not all(isinstance(value, int) and value >= 0 for value in values):
            raise _damaged(f"marks {values!r:.80}")
        return values[0], values[1], values[2]

    def last_step(self) -> int:
        """Return the number of the last step, undone ones too; 0 if there is none."""
        if not self.ready:
            return 0
        return int(self._rows("SELECT coalesce(max(id), 0) FROM decision_steps")[0][0])

    def snapshot(self) -> dict[str, Value]:
        """Return the values of the snapshot, by key."""
        if not self.ready:
            return {}
        rows = self._rows("SELECT key, content FROM decision_state")
        return {str(key): content for key, content in rows}

    def texts(self) -> dict[int, str]:
        """Return labels and notes by number."""
        if not self.ready:
            return {}
        rows = self._rows("SELECT id, text FROM decision_texts")
        return {int(number): str(text) for number, text in rows}

    def steps(self, first: int, last: int) -> list[JournalStep]:
        """Return the steps with numbers first to last, in order."""
        if not self.ready:
            return []
        rows = self._rows(
            "SELECT id, label, who, moment, n_items FROM decision_steps "
            "WHERE id BETWEEN ? AND ? ORDER BY id",
            (first, last),
        )
        return [
            JournalStep(int(i), str(label), str(who), str(when), int(n))
            for i, label, who, when, n in rows
        ]

    def changes(self, step: int) -> list[JournalChange]:
        """Return the changes of one step, in order."""
        rows = self._rows(
            "SELECT key, old, new, ids, who, moment FROM decision_changes "
            "WHERE step = ? ORDER BY seq",
            (step,),
        )
        return [_change(row) for row in rows]

    def changes_of(self, key: str, last: int) -> Iterator[JournalChange]:
        """Yield the changes of one key up to step ``last``, in order."""
        if not self.ready:
            return
        rows = self._rows(
            "SELECT step, seq FROM decision_changes WHERE key = ? AND step <= ? "
            "ORDER BY step, seq",
            (key, last),
        )
        for step, seq in rows:  # one at a time: a set of ids may be large
            found = self._rows(
                "SELECT key, old, new, ids, who, moment FROM decision_changes "
                "WHERE step = ? AND seq = ?",
                (step, seq),
            )
            yield _change(found[0])

    def session(self, key: str) -> str | None:
        """Return a text that was remembered, or None."""
        if not self.ready:
            return None
        rows = self._rows("SELECT content FROM decision_session WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    # writing

    def append(
        self,
        step: JournalStep,
        changes: Iterable[JournalChange],
        texts: Mapping[int, str],
    ) -> None:
        """Add a step behind the cursor; what was undone before is forgotten."""
        with self.transaction():
            self._make_tables()
            for table, column in (
                ("decision_steps", "id"),
                ("decision_changes", "step"),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {column} >= ?", (step.id,))  # noqa: S608
            self._db.executemany(
                "INSERT INTO decision_texts VALUES (?,?)", list(texts.items())
            )
            self._db.execute(
                "INSERT INTO decision_steps VALUES (?,?,?,?,?)",
                (step.id, step.label, step.who, step.moment, step.n_items),
            )
            self._db.executemany(
                "INSERT INTO decision_changes VALUES (?,?,?,?,?,?,?,?)",
                [
                    (step.id, seq, c.key, c.old, c.new, c.ids, c.who, c.moment)
                    for seq, c in enumerate(changes)
                ],
            )
            self._mark("cursor", step.id)
        self._ready = False

    def move(self, cursor: int) -> None:
        """Let the steps up to ``cursor`` hold."""
        with self.transaction():
            self._mark("cursor", cursor)

    def keep_snapshot(self, values: Mapping[str, Value], step: int) -> None:
        """Replace the snapshot by the values that hold after ``step``."""
        with self.transaction():
            self._db.execute("DELETE FROM decision_state")
            self._db.executemany(
                "INSERT INTO decision_state VALUES (?,?)", list(values.items())
            )
            self._mark("snapshot", step)

    def remember(self, key: str, content: str) -> None:
        """Replace a remembered text."""
        with self.transaction():
            self._make_tables()
            self._db.execute(
                "INSERT OR REPLACE INTO decision_session VALUES (?,?)", (key, content)
            )
        self._ready = False

    def _mark(self, key: str, value: int) -> None:
        sql = "INSERT OR REPLACE INTO decision_marks VALUES (?,?)"
        self._db.execute(sql, (key, value))
        self._db.execute("INSERT OR IGNORE INTO decision_marks VALUES ('revision', 0)")
        self._db.execute(
            "UPDATE decision_marks SET value = value + 1 WHERE key = 'revision'"
        )


def _change(row: tuple[object, ...]) -> JournalChange:
    key, old, new, ids, who, moment = row
    if not (
        isinstance(old, Value)
        and isinstance(new, Value)
        and isinstance(ids, bytes | None)
    ):
        raise _damaged(f"a change of {key!r:.80}")
    return JournalChange(str(key), old, new, ids, str(who), str(moment))


def _damaged(what: str) -> StoreError:
    return StoreError(
        f"The log of decisions is damaged: {what}. Restore state.sqlite from a backup; "
        "images and arrays are not touched."
    )
