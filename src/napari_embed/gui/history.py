"""Undo and redo of what the user selected, hid or excluded, in bounded memory. No Qt.

One history serves a map: its layer records selections, the controller what is hidden
and, in their place among these, the decisions that the project keeps.
Masks are kept as the ids that changed or as packed bits, whichever is smaller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

__all__ = [
    "MOST_BYTES",
    "MOST_STEPS",
    "History",
    "HistoryStep",
    "MaskChange",
    "PackedMask",
]

MOST_BYTES = 64 * 2**20
"""Memory of all steps together: a hundred steps that change half of 5M points."""

MOST_STEPS = 500

BoolMask = NDArray[np.bool_]


class MaskChange:
    """Which items of a mask changed; applied twice it changes nothing.

    Parameters
    ----------
    changed : ndarray of bool, shape (n,)
    """

    def __init__(self, changed: BoolMask) -> None:
        self._n = len(changed)
        count = int(np.count_nonzero(changed))
        self._ids: NDArray[np.int32] | None = None
        self._bits: NDArray[np.uint8] | None = None
        if 4 * count <= self._n // 8:
            self._ids = np.flatnonzero(changed).astype(np.int32)
        else:
            self._bits = np.packbits(changed)

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return 100 + sum(a.nbytes for a in (self._ids, self._bits) if a is not None)

    def flip(self, mask: BoolMask) -> BoolMask:
        """Return a new mask (n,) with the changed items turned over."""
        if self._ids is not None:
            flipped = mask.copy()
            flipped[self._ids] ^= True
            return flipped
        assert self._bits is not None
        return mask ^ np.unpackbits(self._bits, count=self._n).view(bool)


class PackedMask:
    """A mask in an eighth of its memory; None stays None."""

    def __init__(self, mask: BoolMask | None) -> None:
        self._n = 0 if mask is None else len(mask)
        self._bits = None if mask is None else np.packbits(mask)

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return 100 + (0 if self._bits is None else self._bits.nbytes)

    def unpack(self) -> BoolMask | None:
        """Return the mask (n,) as it was."""
        if self._bits is None:
            return None
        return np.unpackbits(self._bits, count=self._n).view(bool)


@dataclass(eq=False)
class HistoryStep:
    """What one wish of the user changed, in order.

    ``kept`` says that it is a decision, which the project's own log has as well.
    """

    label: str
    edits: list[tuple[Callable[[], None], Callable[[], None]]] = field(
        default_factory=list
    )
    nbytes: int = 0
    kept: bool = False


class History:
    """Steps that can be undone and redone.

    Whoever changes something calls `record` with two functions that take the change
    back and make it again. What is recorded inside ``with step(label)`` is one step.
    Nothing is recorded while a step is being undone or redone.

    Parameters
    ----------
    most_bytes, most_steps
        The oldest steps are forgotten beyond either.
    """

    changed = Signal()

    def __init__(
        self, *, most_bytes: int = MOST_BYTES, most_steps: int = MOST_STEPS
    ) -> None:
        self._most_bytes, self._most_steps = most_bytes, most_steps
        self._done: deque[HistoryStep] = deque()
        self._undone: list[HistoryStep] = []
        self._open: HistoryStep | None = None
        self._paused = False
        self.replaying: Literal["", "undo", "redo"] = ""

    @property
    def undo_label(self) -> str:
        """What `undo` would take back, "" for nothing."""
        return self._done[-1].label if self._done else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would make again, "" for nothing."""
        return self._undone[-1].label if self._undone else ""

    @property
    def nbytes(self) -> int:
        """Memory of all steps."""
        return sum(s.nbytes for s in (*self._done, *self._undone))

    def __len__(self) -> int:
        return len(self._done)

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Make one step of all that is recorded inside; the outermost label counts."""
        if self._open is not None:
            yield
            return
        self._open = HistoryStep(label)
        try:
            yield
        finally:
            step, self._open = self._open, None
            if step.edits:
                self._add(step)

    def record(
        self,
        label: str,
        undo: Callable[[], None],
        redo: Callable[[], None],
        *,
        nbytes: int = 100,
    ) -> None:
        """Take note of a change that has been made."""
        if self.replaying or self._paused:
            return
        step = self._open if self._open is not None else HistoryStep(label)
        step.edits.append((undo, redo))
        step.nbytes += nbytes
        if self._open is None:
            self._add(step)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    # --- decisions, which the project's log has as well --------------------------

    def mark_kept(self) -> None:
        """Say that the change recorded last is a decision."""
        step = self._open or (self._done[-1] if self._done else None)
        if step is not None and not (self.replaying or self._paused):
            step.kept = True

    def record_kept(
        self, label: str, undo: Callable[[], None], redo: Callable[[], None]
    ) -> HistoryStep:
        """Take note of a decision, and return the step for `rename` and `drop`."""
        step = HistoryStep(label, [(undo, redo)], 100, kept=True)
        self._add(step)
        return step

    def rename(self, step: HistoryStep, label: str) -> None:
        """Call a step otherwise."""
        step.label = label
        self.changed.emit()

    def drop(self, step: HistoryStep) -> None:
        """Forget a step that changed nothing."""
        for steps in (self._done, self._undone):
            if step in steps:
                steps.remove(step)
        self.changed.emit()

    def forget_kept(self, *, last: bool) -> None:
        """Forget decisions that were taken back elsewhere.

        All that could be made again, and with ``last`` the last one that was made.
        """
        self._undone = [step for step in self._undone if not step.kept]
        found = next((s for s in reversed(self._done) if s.kept), None)
        if last and found is not None:
            self._done.remove(found)
        self.changed.emit()

    def append_kept(
        self, label: str, undo: Callable[[], None], redo: Callable[[], None]
    ) -> None:
        """Take note of a decision made again elsewhere; what was undone stays so."""
        self._done.append(HistoryStep(label, [(undo, redo)], 100, kept=True))
        self.changed.emit()

    def _add(self, step: HistoryStep) -> None:
        self._undone.clear()
        self._done.append(step)
        total = sum(s.nbytes for s in self._done)
        while len(self._done) > 1 and (
            total > self._most_bytes or len(self._done) > self._most_steps
        ):
            total -= self._done.popleft().nbytes
        self.changed.emit()

    def undo(self) -> str:
        """Take the last step back; return its label, "" if there is none."""
        if not self._done or self.replaying:
            return ""
        step = self._done.pop()
        self._replay("undo", [undo for undo, _ in reversed(step.edits)])
        self._undone.append(step)
        self.changed.emit()
        return step.label

    def redo(self) -> str:
        """Make the step that was taken back last again; return its label."""
        if not self._undone or self.replaying:
            return ""
        step = self._undone.pop()
        self._replay("redo", [redo for _, redo in step.edits])
        self._done.append(step)
        self.changed.emit()
        return step.label

    def _replay(
        self, how: Literal["undo", "redo"], calls: list[Callable[[], None]]
    ) -> None:
        self.replaying = how
        try:
            for call in calls:
                call()
        finally:
            self.replaying = ""

    def clear(self) -> None:
        """Forget every step, as when other points are shown."""
        if self._done or self._undone:
            self._done.clear()
            self._undone.clear()
            self.changed.emit()
