"""Steps that are made, undone and redone, in memory and on disk at once.

A step is one transaction of the journal: after a kill it is there or it is not. Memory
holds what the journal holds; whatever fails on the way leaves both as they were.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import pack_ids
from napari_embed.curation.decisions.records import Step
from napari_embed.curation.decisions.state import State, is_mask
from napari_embed.errors import InputError, StoreReadOnlyError
from napari_embed.project.journal import (
    Journal,
    JournalChange,
    JournalStep,
)
from napari_embed.project.lock import WriterLock

__all__ = ["DecisionLog", "Words", "now"]

# A snapshot saves the next opening from replaying more than this.
_SNAPSHOT_STEPS = 500
_SNAPSHOT_BYTES = 8 << 20

Words = str | Callable[[int], str]
"""What a step is called, maybe made from the number of items that it changed."""


def now() -> str:
    """Return the time, UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class _Pending:
    """A step that is being made."""

    words: Words
    changes: list[JournalChange] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    touched: NDArray[np.bool_] | None = None


class DecisionLog:
    """The log of one project with the state that follows from it.

    Parameters
    ----------
    journal
        The log on disk.
    lock
        The right to write, or None to read only.
    n_items
        Items of the project.
    who
        Name noted with each step.
    read_only_reason
        Why there is no lock, for people.
    """

    def __init__(
        self,
        journal: Journal,
        lock: WriterLock | None,
        n_items: int,
        who: str,
        read_only_reason: str = "",
    ) -> None:
        self._journal, self._lock = journal, lock
        self.n_items, self.who = n_items, who
        self.read_only_reason = read_only_reason
        self.version = 0
        self._mutex = threading.RLock()
        self._pending: _Pending | None = None
        self._load()

    @property
    def writable(self) -> bool:
        """Whether decisions can be made here."""
        return self._lock is not None

    def close(self) -> None:
        """Close the log and give the lock back; calling it twice does no harm."""
        with self._mutex:
            self._journal.close()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def refresh(self) -> None:
        """Look again at what another process has decided since (for a reader)."""
        with self._mutex:
            if not self.writable and self._journal.marks()[2] != self._revision:
                self._load()
                self.version += 1

    def _load(self) -> None:
        """Read the snapshot and go from its step to the cursor, ahead or back."""
        journal = self._journal
        if journal.is_copy:
            journal.reopen()
        ready = journal.ready  # may open a reader's file anew: before the reading
        with journal.reading():
            cursor, snapshot, revision = journal.marks() if ready else (0, 0, 0)
            texts = journal.texts()
            state = State.from_values(journal.snapshot(), self.n_items)
            for step in range(snapshot + 1, cursor + 1):
                for change in journal.changes(step):
                    state.apply(change)
            for step in range(snapshot, cursor, -1):
                for change in reversed(journal.changes(step)):
                    state.apply(change, forward=False)
            last = journal.last_step()
            labels = self._labels_around(cursor)
        self._state, self._texts = state, texts
        self._numbers = {text: number for number, text in texts.items()}
        self._cursor, self._snapshot, self._last = cursor, snapshot, last
        self._revision, self._labels = revision, labels
        self._unsaved_bytes = 0

    def _labels_around(self, cursor: int) -> tuple[str, str]:
        found = {s.id: s.label for s in self._journal.steps(cursor, cursor + 1)}
        return found.get(cursor, ""), found.get(cursor + 1, "")

    # steps

    def _require_writable(self) -> None:
        if self._lock is None:
            reason = self.read_only_reason or "The decisions are open for reading only."
            raise StoreReadOnlyError(f"{reason} Nothing was changed.")

    @contextlib.contextmanager
    def step(self, label: Words) -> Iterator[None]:
        """Make all that is decided inside one step of undo; the outermost label counts.

        An error inside takes everything back.
        """
        with self._mutex:
            if self._pending is not None:
                yield
                return
            self._require_writable()
            self._pending = pending = _Pending(label)
            try:
                yield
                if pending.changes:
                    self._commit(pending)
            except BaseException:
                for change in reversed(pending.changes):
                    self._state.apply(change, forward=False)
                for number, text in pending.texts.items():
                    del self._texts[number], self._numbers[text]
                raise
            finally:
                self._pending = None

    def _made(self, version: int) -> Step | None:
        """Return the step that raised the version, or None if none did."""
        if self.version == version:
            return None
        return _step(self._journal.steps(self._cursor, self._cursor)[0])

    def _commit(self, pending: _Pending) -> None:
        touched = pending.touched
        n = 0 if touched is None else int(np.count_nonzero(touched))
        words = pending.words if isinstance(pending.words, str) else pending.words(n)
        step = JournalStep(self._cursor + 1, words, self.who, now(), n)
        snapshot = self._snapshot
        size = self._unsaved_bytes + sum(len(c.ids or b"") for c in pending.changes)
        with self._journal.transaction():
            self._journal.append(step, pending.changes, pending.texts)
            behind = step.id - snapshot
            # A snapshot of undone steps that are forgotten now must not stay.
            if behind <= 0 or behind > _SNAPSHOT_STEPS or size > _SNAPSHOT_BYTES:
                self._journal.keep_snapshot(self._state.to_values(), step.id)
                snapshot, size = step.id, 0
        self._cursor = self._last = step.id
        self._snapshot, self._unsaved_bytes = snapshot, size
        self._labels = (words, "")
        self.version += 1

    def _change_items(
        self,
        key: str,
        value: int,
        ids: NDArray[np.int64],
        *,
        who: str | None = None,
        when: str | None = None,
    ) -> int:
        """Give items a value inside a step; return how many had another."""
        pending = self._pending
        assert pending is not None
        before = (
            self._state.has(key, ids).astype(np.int32)
            if is_mask(key)
            else self._state.values(key, ids)
        )
        changed = 0
        for old in np.unique(before).tolist():
            if old == value:
                continue
            group = ids[before == old]
            self._note(
                JournalChange(
                    key, old, value, pack_ids(group), who or self.who, when or now()
                )
            )
            if pending.touched is None:
                pending.touched = np.zeros(self.n_items, bool)
            pending.touched[group] = True
            changed += group.size
        return changed

    def _change_document(
        self, key: str, value: str | bytes | None, *, who: str | None = None
    ) -> bool:
        """Replace a document inside a step, None removes it; tell if it was another."""
        old = self._state.documents.get(key)
        if old == value:
            return False
        self._note(JournalChange(key, old, value, None, who or self.who, now()))
        return True

    def _note(self, change: JournalChange) -> None:
        assert self._pending is not None
        self._state.apply(change)
        self._pending.changes.append(change)

    def _number_of(self, text: str) -> int:
        """Return the number of a text inside a step, a new one if need be."""
        assert self._pending is not None
        number = self._numbers.get(text)
        if number is None:
            number = max(self._texts, default=0) + 1
            self._texts[number] = self._pending.texts[number] = text
            self._numbers[text] = number
        return number

    def _text(self, number: int) -> str:
        return self._texts.get(number, "")

    # undo and redo

    @property
    def undo_label(self) -> str:
        """What `undo` would take back, "" for nothing."""
        return self._labels[0] if self.writable else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would make again, "" for nothing."""
        return self._labels[1] if self.writable else ""

    def undo(self) -> Step | None:
        """Take the last step back and return it; None if there is none."""
        with self._mutex:
            self._require_free()
            if self._cursor == 0:
                return None
            return self._go(self._cursor, self._cursor - 1)

    def redo(self) -> Step | None:
        """Make the step again that was taken back last; None if there is none."""
        with self._mutex:
            self._require_free()
            if self._cursor >= self._last:
                return None
            return self._go(self._cursor + 1, self._cursor + 1)

    def _require_free(self) -> None:
        self._require_writable()
        if self._pending is not None:
            raise InputError("A step is being made; undo and redo come after it.")

    def _go(self, number: int, cursor: int) -> Step:
        """Make or take back one step, and move the cursor."""
        forward = cursor == number
        changes = self._journal.changes(number)
        self._apply(changes if forward else changes[::-1], forward)
        try:
            self._journal.move(cursor)
        except BaseException:
            self._apply(changes[::-1] if forward else changes, not forward)
            raise
        self._cursor = cursor
        self._labels = self._labels_around(cursor)
        self.version += 1
        return _step(self._journal.steps(number, number)[0])

    def _apply(self, changes: Sequence[JournalChange], forward: bool) -> None:
        """Apply all changes or, where one does not fit, none."""
        done: list[JournalChange] = []
        try:
            for change in changes:
                self._state.apply(change, forward=forward)
                done.append(change)
        except BaseException:
            for change in reversed(done):
                self._state.apply(change, forward=not forward)
            raise

    def history(self, limit: int = 100) -> tuple[list[Step], list[Step]]:
        """Return steps that hold, the newest first, and undone ones, the next first."""
        with self._mutex:
            cursor = self._cursor
            done = self._journal.steps(cursor - limit + 1, cursor)
            undone = self._journal.steps(cursor + 1, cursor + limit)
        return [_step(s) for s in reversed(done)], [_step(s) for s in undone]

    def changes_of(self, key: str) -> Iterator[JournalChange]:
        """Yield all changes of a key that hold, in order; each ``new`` won over it."""
        with self._mutex:
            cursor = self._cursor
        return self._journal.changes_of(key, cursor)


def _step(step: JournalStep) -> Step:
    return Step(step.label, step.who, step.moment, step.n_items)
