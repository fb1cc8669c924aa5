"""The mask-backed selection behaves as a set."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from psygnal.containers import Selection

from napari_embed.errors import InputError
from napari_embed.gui.points.selection import (
    EVENT_IDS_MAX,
    RELAY_IDS_MAX,
    MaskSelection,
    as_mask,
)

N = 60


def _random_set(rng: np.random.Generator) -> set[int]:
    return set(rng.choice(N, size=rng.integers(0, N), replace=False).tolist())


def test_operations_match_python_sets(rng) -> None:
    for _ in range(200):
        a, b = _random_set(rng), _random_set(rng)
        ours = MaskSelection(N, list(a))
        for other in (b, frozenset(b), MaskSelection(N, list(b)), Selection(b)):
            assert set(ours | other) == a | b
            assert set(ours & other) == a & b
            assert set(ours - other) == a - b
            assert set(ours ^ other) == a ^ b
            assert (ours == other) == (a == b)
            assert (ours <= other) == (a <= b)
            assert (ours < other) == (a < b)
            assert (ours >= other) == (a >= b)
            assert (ours > other) == (a > b)
            assert ours.isdisjoint(other) == a.isdisjoint(b)
            assert ours.issubset(other) == a.issubset(b)
            assert ours.issuperset(other) == a.issuperset(b)
        assert set(b - ours) == b - a
        assert set(b & ours) == b & a
        assert set(b | ours) == b | a
        assert set(b ^ ours) == b ^ a
        assert len(ours) == len(a)
        assert sorted(ours) == sorted(a)
        assert list(reversed(ours)) == sorted(a, reverse=True)
        assert all((i in ours) == (i in a) for i in range(N))


@pytest.mark.parametrize(
    "name",
    [
        "update",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
        "__ior__",
        "__iand__",
        "__isub__",
        "__ixor__",
    ],
)
def test_changes_match_python_sets(rng, name) -> None:
    for _ in range(50):
        a, b = _random_set(rng), _random_set(rng)
        ours, expected = MaskSelection(N, list(a)), set(a)
        events: list = []
        ours.events.items_changed.connect(
            lambda new, old, e=events: e.append((new, old))
        )
        getattr(ours, name)(b)
        getattr(expected, name)(b)
        assert set(ours) == expected
        assert len(ours) == len(expected)
        if expected == a:
            assert not events
        else:
            assert len(events) == 1
            assert set(events[0][0]) == expected - a
            assert set(events[0][1]) == a - expected


def test_single_item_methods() -> None:
    ours = MaskSelection(N)
    assert not ours
    ours.add(np.int64(5))
    ours.toggle(6)
    assert ours == {5, 6}
    ours.discard(40)
    ours.discard("nothing like an id")
    ours.remove(5)
    with pytest.raises(KeyError):
        ours.remove(5)
    assert ours.active == 6
    ours.select_only(9)
    assert ours.pop() == 9
    with pytest.raises(KeyError):
        ours.pop()
    ours.replace_selection(range(3))
    assert ours == {0, 1, 2}
    ours.clear()
    assert len(ours) == 0
    assert "x" not in ours
    assert -1 not in ours


def test_active_is_the_only_one_selected() -> None:
    ours = MaskSelection(N)
    seen: list = []
    ours.events.active.connect(seen.append)
    ours.active = 4
    ours.add(5)
    ours.discard(4)
    ours.active = None
    assert seen == [4, None, 5, None]
    assert len(ours) == 0


def test_large_changes_carry_no_ids() -> None:
    ours = MaskSelection(EVENT_IDS_MAX + 1)
    events: list = []
    ours.events.items_changed.connect(lambda new, old: events.append((new, old)))
    ours.set_mask(np.ones(EVENT_IDS_MAX + 1, bool))
    assert events == [((), ())]
    assert ours.version == 1
    ours.set_mask(np.ones(EVENT_IDS_MAX + 1, bool))
    assert ours.version == 1
    assert len(ours) == EVENT_IDS_MAX + 1


def test_copies_are_independent() -> None:
    ours = MaskSelection(N, [1, 2])
    for twin in (ours.copy(), copy.copy(ours), copy.deepcopy(ours)):
        twin.add(3)
        assert set(twin) == {1, 2, 3}
    assert set(ours) == {1, 2}


def test_ids_are_checked() -> None:
    assert as_mask(np.array([], float), 3).sum() == 0
    for bad in ([3], [-1], np.ones(4, bool), [1.5], ["a"]):
        with pytest.raises(InputError):
            as_mask(bad, 3)
    with pytest.raises(InputError):
        MaskSelection(N).add(N)


def test_listeners_to_the_group_hear_small_selections_only() -> None:
    """napari's features table listens to the group, in quadratic time."""
    ours = MaskSelection(4 * RELAY_IDS_MAX)
    heard: list = []
    ours.events.connect(lambda: heard.append(len(ours)))
    direct: list = []
    ours.events.items_changed.connect(lambda: direct.append(len(ours)))
    sizes = (RELAY_IDS_MAX, 3 * RELAY_IDS_MAX, 2 * RELAY_IDS_MAX, 5, 6)
    for size in sizes:
        ours.replace_selection(np.arange(size))
    assert heard == [RELAY_IDS_MAX, 5, 6]
    assert direct == list(sizes)


def test_every_change_is_recorded(rng) -> None:
    ours = MaskSelection(N)
    state = np.zeros(N, bool)

    def follow(changed: np.ndarray) -> None:
        state[changed] ^= True

    ours.recorder = follow
    for _ in range(50):
        chosen = _random_set(rng)
        ours.replace_selection(chosen)
        ours.toggle(int(rng.integers(N)))
        ours.discard(int(rng.integers(N)))
        ours |= _random_set(rng)
        np.testing.assert_array_equal(state, ours.mask)
    ours.clear()
    assert not state.any()
