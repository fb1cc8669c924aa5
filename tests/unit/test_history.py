"""Undo and redo: steps, groups, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.gui.history import History, MaskChange, PackedMask


class Number:
    """A value whose changes are recorded."""

    def __init__(self, history: History) -> None:
        self.history, self.value = history, 0

    def put(self, value: int) -> None:
        before, self.value = self.value, value
        self.history.record(
            f"to {value}", lambda: self.put(before), lambda: self.put(value)
        )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 4096])
def test_a_change_flips_there_and_back(rng, n, share) -> None:
    before = rng.random(n) < 0.5
    changed = rng.random(n) < share
    change = MaskChange(changed)
    after = change.flip(before)
    np.testing.assert_array_equal(after, before ^ changed)
    assert after is not before
    np.testing.assert_array_equal(change.flip(after), before)
    packed = PackedMask(after)
    np.testing.assert_array_equal(packed.unpack(), after)
    assert packed.unpack().dtype == bool


def test_a_change_of_millions_is_small(rng) -> None:
    few = np.zeros(5_000_000, bool)
    few[rng.integers(0, few.size, 1000)] = True
    assert MaskChange(few).nbytes < 5_000
    assert MaskChange(rng.random(5_000_000) < 0.5).nbytes < 630_000
    assert PackedMask(None).unpack() is None


def test_undo_and_redo_walk_the_steps() -> None:
    history = History()
    number = Number(history)
    calls: list = []
    history.changed.connect(lambda: calls.append(1))
    for value in (1, 2, 3):
        number.put(value)
    assert (history.undo_label, history.redo_label, len(history)) == ("to 3", "", 3)
    assert [history.undo(), number.value] == ["to 3", 2]
    assert [history.undo(), number.value] == ["to 2", 1]
    assert [history.redo(), number.value] == ["to 2", 2]
    number.put(9)
    assert history.redo() == ""
    assert number.value == 9
    assert [history.undo() for _ in range(4)] == ["to 9", "to 2", "to 1", ""]
    assert number.value == 0
    assert len(calls) == 3 + 2 + 1 + 1 + 3
    history.clear()
    assert history.redo() == ""


def test_a_group_is_one_step() -> None:
    history = History()
    first, second = Number(history), Number(history)
    with history.step("both"):
        first.put(1)
        with history.step("inner"):
            second.put(2)
        first.put(3)
    with history.step("nothing happened"):
        pass
    assert len(history) == 1
    assert history.undo() == "both"
    assert (first.value, second.value) == (0, 0)
    history.redo()
    assert (first.value, second.value) == (3, 2)


def test_a_group_that_fails_can_still_be_undone() -> None:
    history = History()
    number = Number(history)

    def fails() -> None:
        with history.step("half"):
            number.put(1)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        fails()
    assert history.undo() == "half"
    assert number.value == 0


def test_memory_is_bounded(rng) -> None:
    history = History(most_bytes=10_000, most_steps=50)
    for step in range(1000):
        history.record(str(step), int, int, nbytes=1000)
        assert history.nbytes <= 10_000
    assert len(history) == 10
    small = History(most_steps=50)
    for step in range(1000):
        small.record(str(step), int, int)
    assert len(small) == 50
    assert small.undo_label == "999"
    huge = History(most_bytes=10)
    huge.record("one step is always kept", int, int, nbytes=10**9)
    assert len(huge) == 1


def test_a_wish_while_undoing_is_not_recorded() -> None:
    history = History()
    history.record("again", lambda: history.undo() and None, lambda: None)
    history.record("outer", lambda: history.record("x", int, int), int)
    assert history.undo() == "outer"
    assert history.undo_label == "again"
    assert history.undo() == "again"
    assert len(history) == 0


def test_decisions_stand_among_the_other_steps() -> None:
    history, log = History(), []
    number = Number(history)

    def decide(name: str) -> object:
        return history.record_kept(
            "...", lambda: log.append(f"-{name}"), lambda: log.append(f"+{name}")
        )

    number.put(1)
    first = decide("a")
    history.rename(first, "a")
    number.put(2)
    history.drop(decide("nothing"))
    assert history.undo_label == "to 2"
    assert [history.undo() for _ in range(3)] == ["to 2", "a", "to 1"]
    assert [history.redo() for _ in range(3)] == ["to 1", "a", "to 2"]
    assert log == ["-a", "+a"]
    number.put(3)
    history.mark_kept()
    history.undo()
    # Taken back elsewhere: the last one made, and all that were undone.
    history.forget_kept(last=True)
    assert (history.undo_label, history.redo_label, len(history)) == ("to 2", "", 2)
    history.append_kept("b", lambda: log.append("-b"), lambda: log.append("+b"))
    assert history.undo() == "b"
    with history.paused():
        number.put(9)
        history.mark_kept()
    assert history.redo() == "b"
    assert log == ["-a", "+a", "-b", "+b"]
