"""An SQLite file of a project: opened, read and changed safely by several processes.

SQLite with a rollback journal, not WAL: a reader of a WAL data base creates files
beside it, and opening a project for reading must touch nothing.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_embed.errors import StoreError, StoreVersionError

__all__ = ["LEDGER_NAME", "SCHEMA_VERSION", "Database", "sqlite_errors"]

LEDGER_NAME = "state.sqlite"
SCHEMA_VERSION = 2
"""Newest version of the tables, kept as SQLite's ``user_version``.

1: the ledger. 2: with the journal of decisions, whose tables are made when the first
decision is.
"""

_BUSY_TIMEOUT_S = 30.0
# Closing any handle of a file gives up this process's locks on it, those of SQLite too:
# nobody may copy the file while a transaction runs here.
_FILE_MUTEX = threading.RLock()


class Database:
    """One connection to ``state.sqlite``; safe to use from several threads.

    Parameters
    ----------
    root
        The project's folder.
    writable
        Whether changes will be made; then the caller holds a lock.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    StoreVersionError
        If a newer version of this package wrote it.
    """

    def __init__(self, root: Path, *, writable: bool) -> None:
        self.path = root / LEDGER_NAME
        self._mutex = threading.RLock()
        self._writable = writable
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        if self.path.is_symlink() or not self.path.is_file():
            raise StoreError(
                f"The project has no ledger: {self.path} is missing or not a regular "
                "file. Restore it from a backup, or create the project again."
            )
        with self.errors_told():
            self._db = self._open(self.path, writable)
            self._check_version()

    def _open(self, path: Path, writable: bool) -> sqlite3.Connection:
        mode = "rw" if writable else "ro"
        db = _connect(path, mode)
        try:
            if writable:
                # Kept journal: its header is zeroed instead of the file removed,
                # which saves two flushes of the folder per chunk.
                db.execute("PRAGMA journal_mode = PERSIST")
                db.execute("PRAGMA synchronous = FULL")
            else:
                db.execute("PRAGMA query_only = ON")
            db.execute("SELECT count(*) FROM stages").fetchone()
        except sqlite3.OperationalError as error:
            db.close()
            if writable or self._copy is not None or _is_missing_table(error):
                raise
            return self._open(self._copy_aside(), True)
        return db

    def _copy_aside(self) -> Path:
        """Copy data base and journal to a temporary folder.

        A writer that was killed inside a transaction leaves a journal which only a
        connection that may write can roll back. Readers do that on a copy.
        """
        self._copy = tempfile.TemporaryDirectory(prefix="napari-embed-")
        with _FILE_MUTEX:
            for name in (LEDGER_NAME, f"{LEDGER_NAME}-journal"):
                source = self.path.with_name(name)
                if source.is_file():
                    shutil.copyfile(source, Path(self._copy.name) / name)
        return Path(self._copy.name) / LEDGER_NAME

    def _check_version(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.path} has ledger version {found}; this version of "
                f"napari-embed knows {SCHEMA_VERSION}. Update napari-embed."
            )

    def reopen(self) -> None:
        """Let a reader see the file anew, after its writer died or was replaced."""
        with self.errors_told():
            if not self._writable:
                self.close()
                self._db = self._open(self.path, False)

    @property
    def is_copy(self) -> bool:
        """Whether a copy is read, because an interrupted writer left a journal."""
        return self._copy is not None

    def close(self) -> None:
        """Close the data base; calling it twice does no harm."""
        with self._mutex:
            self._db.close()
            if self._copy is not None:
                self._copy.cleanup()
                self._copy = None

    @contextlib.contextmanager
    def errors_told(self) -> Iterator[None]:
        """Hold the connection; what SQLite raises becomes a `StoreError`."""
        with self._mutex, sqlite_errors(self.path):
            yield

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one step: all of it happens or nothing."""
        with _FILE_MUTEX, self.errors_told():
            nested = self._db.in_transaction
            if nested:  # the outer one decides
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Let all that is read inside be of one moment."""
        with self.errors_told():
            nested = self._db.in_transaction
            if nested:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.errors_told():
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.OperationalError:
                if self._writable:
                    raise
            # The writer may just have been killed and left a journal: look anew.
            self.reopen()
            return self._db.execute(sql, values).fetchall()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,  # every use goes through the ledger's own mutex
    )
    # A foreign data base is data, not code: no functions from its schema.
    db.execute("PRAGMA trusted_schema = OFF")
    db.text_factory = lambda content: content.decode("utf-8", "replace")
    return db


def _is_missing_table(error: sqlite3.Error) -> bool:
    return "no such table" in str(error)


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one clear `StoreError`."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes damaged names in its messages
        raise StoreError(
            f"The project's ledger {path} is damaged. Restore it from a backup; images "
            "and arrays are not touched."
        ) from error
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            raise StoreError(
                f"The disk is full while writing {path}. Everything finished before "
                "is kept. Free some space and run the same step again."
            ) from error
        if "locked" in text:
            raise StoreError(
                f"{path} was busy for {_BUSY_TIMEOUT_S:.0f} s. Close other programs "
                "that use this project and try again."
            ) from error
        raise StoreError(
            f"The project's ledger {path} cannot be used: {text}. If it is damaged, "
            "restore it from a backup; images and arrays are not touched."
        ) from error
