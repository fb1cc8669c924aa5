"""``state.sqlite``: the only place that says a piece of work is done.

A missing Zarr chunk and an empty shard read as fill value without any error, so the
arrays themselves cannot tell "done" from "never written". The ledger holds one row per
finished chunk with the size and hash of its bytes on disk, one row per stage with its
fingerprint, and one row per item that failed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_embed.errors import StoreError
from napari_embed.project.database import LEDGER_NAME, Database, sqlite_errors

STALE = "stale:"
"""Before the key of a stage: not failures, but rows of finished chunks to do again."""

__all__ = ["STALE", "ChunkRecord", "Ledger", "StageRecord"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE stages (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL,
    upstream TEXT NOT NULL, upstream_fingerprint TEXT NOT NULL,
    params TEXT NOT NULL, info TEXT NOT NULL,
    sealed INTEGER NOT NULL, chunks_total INTEGER NOT NULL,
    revision INTEGER NOT NULL, updated TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE chunks (
    array TEXT NOT NULL, chunk INTEGER NOT NULL, stage TEXT NOT NULL,
    size INTEGER NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (array, chunk)
) WITHOUT ROWID;
CREATE TABLE files (
    path TEXT PRIMARY KEY, stage TEXT NOT NULL,
    size INTEGER NOT NULL, checksum TEXT NOT NULL, tag TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE errors (
    id INTEGER NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (id, stage)
) WITHOUT ROWID;
CREATE TABLE swaps (key TEXT PRIMARY KEY, plan TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX chunks_by_stage ON chunks (stage);
"""


@dataclass(frozen=True)
class ChunkRecord:
    """Size and hash of one finished chunk's bytes on disk."""

    chunk: int
    size: int
    checksum: str


@dataclass(frozen=True)
class FileRecord:
    """Size and hash of one whole file of a stage; ``tag`` is the writer's own."""

    path: str
    stage: str
    size: int
    checksum: str
    tag: str = ""


@dataclass(frozen=True)
class StageRecord:
    """One row of the table of stages."""

    key: str
    fingerprint: str
    upstream: str = ""
    upstream_fingerprint: str = ""
    params: Mapping[str, Any] | None = None
    info: Mapping[str, Any] | None = None
    sealed: bool = False
    chunks_total: int = 0
    revision: int = 0
    updated: str = ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Ledger(Database):
    """What is done in one project.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    StoreVersionError
        If a newer version of this package wrote it.
    """

    @classmethod
    def create(cls, root: Path) -> None:
        """Make an empty ledger in folder ``root``."""
        with sqlite_errors(root / LEDGER_NAME):
            db = sqlite3.connect(root / LEDGER_NAME, isolation_level=None)
            with contextlib.closing(db):
                db.executescript(_SCHEMA)
                db.execute(f"PRAGMA user_version = {_VERSION}")

    # stages

    def stage(self, key: str) -> StageRecord | None:
        """Return one stage's row, or None."""
        rows = self._rows("SELECT * FROM stages WHERE key = ?", (key,))
        return _stage(rows[0]) if rows else None

    def stages(self) -> list[StageRecord]:
        """Return all stages, by key."""
        return [_stage(row) for row in self._rows("SELECT * FROM stages ORDER BY key")]

    def put_stage(self, record: StageRecord) -> None:
        """Insert or replace a stage; its revision rises."""
        with self.transaction():
            old = self.stage(record.key)
            self._db.execute(
                "INSERT OR REPLACE INTO stages VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    record.key,
                    record.fingerprint,
                    record.upstream,
                    record.upstream_fingerprint,
                    json.dumps(dict(record.params or {})),
                    json.dumps(dict(record.info or {})),
                    int(record.sealed),
                    record.chunks_total,
                    old.revision + 1 if old else 1,
                    _now(),
                ),
            )

    def set_sealed(self, key: str, sealed: bool, info: Mapping[str, Any]) -> None:
        """Mark a stage finished, or not finished any more."""
        with self.transaction():
            self._db.execute(
                "UPDATE stages SET sealed = ?, info = ?, revision = revision + 1, "
                "updated = ? WHERE key = ?",
                (int(sealed), json.dumps(dict(info)), _now(), key),
            )

    def clear_stage(self, key: str) -> None:
        """Forget all chunks, files and errors of a stage."""
        with self.transaction():
            for table in ("chunks", "files", "errors"):
                self._db.execute(f"DELETE FROM {table} WHERE stage = ?", (key,))  # noqa: S608

    def delete_stage(self, key: str) -> None:
        """Forget a stage altogether."""
        with self.transaction():
            self.clear_stage(key)
            self._db.execute("DELETE FROM stages WHERE key = ?", (key,))

    # chunks and files

    def add_chunks(
        self, stage: str, array: str, records: Iterable[ChunkRecord]
    ) -> None:
        """Record finished chunks of one array."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO chunks VALUES (?,?,?,?,?)",
                [(array, r.chunk, stage, r.size, r.checksum) for r in records],
            )

    def remove_chunks(self, array: str, chunks: Iterable[int]) -> None:
        """Make chunks of one array pending again."""
        with self.transaction():
            self._db.executemany(
                "DELETE FROM chunks WHERE array = ? AND chunk = ?",
                [(array, chunk) for chunk in chunks],
            )

    def chunks(self, array: str) -> dict[int, ChunkRecord]:
        """Return the finished chunks of one array, by number."""
        rows = self._rows(
            "SELECT chunk, size, checksum FROM chunks WHERE array = ?", (array,)
        )
        return {
            _whole(chunk): ChunkRecord(chunk, _whole(size), str(checksum))
            for chunk, size, checksum in rows
        }

    def chunk_count(self, stage: str) -> int:
        """Return how many chunks of a stage are finished."""
        sql = "SELECT count(*) FROM chunks WHERE stage = ?"
        return int(self._rows(sql, (stage,))[0][0])

    def arrays(self) -> list[tuple[str, str]]:
        """Return (stage, array) of every array that has finished chunks."""
        rows = self._rows("SELECT DISTINCT stage, array FROM chunks ORDER BY array")
        return [(str(stage), str(array)) for stage, array in rows]

    def put_file(self, record: FileRecord) -> None:
        """Record a whole file of a stage."""
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)",
                (record.path, record.stage, record.size, record.checksum, record.tag),
            )

    def file(self, path: str) -> FileRecord | None:
        """Return the record of one file, or None."""
        rows = self._rows("SELECT * FROM files WHERE path = ?", (path,))
        return _file(rows[0]) if rows else None

    def files(self) -> list[FileRecord]:
        """Return all recorded files."""
        return [_file(row) for row in self._rows("SELECT * FROM files ORDER BY path")]

    # results that are being swapped in

    def put_swap(self, key: str, plan: Mapping[str, Any]) -> None:
        """Note a result that lies complete in the staging folder."""
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO swaps VALUES (?,?)", (key, json.dumps(plan))
            )

    def swaps(self) -> dict[str, str]:
        """Return the noted swaps: {stage: plan as JSON}."""
        return dict(self._rows("SELECT key, plan FROM swaps ORDER BY key"))

    def remove_swap(self, key: str) -> None:
        """Forget a swap that is done."""
        with self.transaction():
            self._db.execute("DELETE FROM swaps WHERE key = ?", (key,))

    # errors per item

    def put_errors(self, stage: str, reasons: Mapping[int, str]) -> None:
        """Record why items failed; a second reason replaces the first."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO errors VALUES (?,?,?)",
                [(int(i), stage, str(reason)[:2000]) for i, reason in reasons.items()],
            )

    def remove_errors(self, stage: str, start: int, stop: int) -> None:
        """Forget the errors of items ``start`` to ``stop`` (excluded) in a stage."""
        with self.transaction():
            self._db.execute(
                "DELETE FROM errors WHERE stage = ? AND id >= ? AND id < ?",
                (stage, start, stop),
            )

    def errors(self) -> list[tuple[int, str, str]]:
        """Return (id, stage, reason) of every failure, by id."""
        rows = self._rows("SELECT id, stage, reason FROM errors ORDER BY id, stage")
        return [(_whole(i), str(stage), str(reason)) for i, stage, reason in rows]

    def stale(self, key: str) -> list[int]:
        """Return the items whose rows in a stage are of what they were before."""
        rows = self._rows("SELECT id FROM errors WHERE stage = ? ORDER BY id",
                          (STALE + key,))  # fmt: skip
        return [_whole(row[0]) for row in rows]

    def check(self) -> list[str]:
        """Return what SQLite's own integrity check has to complain about."""
        rows = self._rows("PRAGMA integrity_check(20)")
        return [str(row[0]) for row in rows if row[0] != "ok"]


def _whole(value: object) -> int:
    """Return a number from the data base; a damaged one may hold anything."""
    if not isinstance(value, int):
        raise StoreError(
            f"The project's ledger is damaged: {value!r:.80} is no whole number. "
            "Restore it from a backup."
        )
    return value


def _file(row: tuple[Any, ...]) -> FileRecord:
    path, stage, size, checksum, tag = row
    return FileRecord(str(path), str(stage), _whole(size), str(checksum), str(tag))


def _stage(row: tuple[Any, ...]) -> StageRecord:
    key, fingerprint, upstream, upstream_fp, params, info, *rest = row
    try:
        values = json.loads(params), json.loads(info)
    except (ValueError, RecursionError, TypeError) as error:
        raise StoreError(f"The ledger's row of stage {key!r} is damaged.") from error
    sealed, total, revision, updated = rest
    if not all(isinstance(value, dict) for value in values):
        raise StoreError(f"The ledger's row of stage {key!r} is damaged.")
    return StageRecord(
        str(key), str(fingerprint), str(upstream), str(upstream_fp), *values,
        bool(sealed), _whole(total), _whole(revision), str(updated),
    )  # fmt: skip
