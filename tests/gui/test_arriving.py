"""Points come to the canvas in several turns of the event loop, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gui_fakes import Desk, projection
from qtpy.QtCore import QTimer

from napari_embed.gui.session import close_session, session_for
from napari_embed.gui.turns import Turns

pytestmark = pytest.mark.gui
LONG_MS = 60_000


@pytest.fixture
def session(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_viewer.canvas.native.setFixedSize(300, 240)
    made = session_for(viewer)
    yield made
    close_session(viewer)


class Arrival:
    """Points on their way, and how it ended."""

    def __init__(self, session, positions: np.ndarray) -> None:
        self.ended: list[str] = []
        self.canvas = session.map
        name, d = "a map", positions.shape[1]

        def then() -> None:
            self.canvas.show(positions, name=name, n_components=d)
            self.ended.append("shown")

        self.canvas.arrive(
            positions,
            name=name,
            n_components=d,
            then=then,
            failed=lambda error: self.ended.append(str(error)),
        )


def test_events_come_between_steps(qtbot) -> None:
    turns, done = Turns(), []

    def first() -> None:
        done.append(1)
        QTimer.singleShot(0, lambda: done.append("event"))

    turns.start([first, lambda: done.append(2)], done.append)
    assert (done, turns.busy) == ([], True)
    qtbot.waitUntil(lambda: len(done) == 3, timeout=LONG_MS)
    assert (done, turns.busy) == ([1, "event", 2], False)


def test_an_error_ends_the_steps_and_is_told(qtbot) -> None:
    turns, done = Turns(), []

    def fail() -> None:
        raise ValueError("no room")

    turns.start([fail, lambda: done.append("more")], lambda e: done.append(str(e)))
    qtbot.waitUntil(lambda: bool(done), timeout=LONG_MS)
    qtbot.wait(20)
    assert done == ["no room"]


def test_a_step_that_starts_others_is_the_last(qtbot) -> None:
    turns, done = Turns(), []
    again = [lambda: done.append("new")]
    turns.start(
        [lambda: turns.start(again, done.append), lambda: done.append("old")],
        done.append,
    )
    qtbot.waitUntil(lambda: bool(done), timeout=LONG_MS)
    qtbot.wait(20)
    assert done == ["new"]


@pytest.mark.parametrize("d", [2, 3])
def test_points_arrive(session, qtbot, rng, d) -> None:
    positions = rng.normal(size=(200, d)).astype(np.float32)
    arrival = Arrival(session, positions)
    assert session.map.arriving
    assert session.map.layer is None
    qtbot.waitUntil(lambda: bool(arrival.ended), timeout=LONG_MS)
    layer = session.map.layer
    assert arrival.ended == ["shown"]
    assert list(session.viewer.layers) == [layer]
    assert session.viewer.dims.ndisplay == d
    assert session.map._cameras.untouched  # it was fitted
    np.testing.assert_array_equal(layer.positions, positions)


def test_napari_takes_the_visual_made_before(session, qtbot, rng, monkeypatch) -> None:
    made = []
    prepare = session.map._prepare_visual

    def note() -> None:
        prepare()
        made.append(session.map._coming.waiting_visual)

    monkeypatch.setattr(session.map, "_prepare_visual", note)
    arrival = Arrival(session, rng.normal(size=(50, 3)).astype(np.float32))
    qtbot.waitUntil(lambda: bool(arrival.ended), timeout=LONG_MS)
    (visual,) = made
    layer = session.map.layer
    assert visual is not None
    assert layer._link is visual
    canvas = session.viewer.window._qt_viewer.canvas
    assert canvas.layer_to_visual[layer] is visual


@pytest.mark.parametrize("after", ["_make_room_for_axes", "_prepare_visual", "_insert"])
def test_points_that_are_not_wanted_any_more_leave_nothing(
    session, qtbot, rng, monkeypatch, after
) -> None:
    step = getattr(session.map, after)

    def last() -> None:
        step()
        session.map.clear()

    monkeypatch.setattr(session.map, after, last)
    arrival = Arrival(session, rng.normal(size=(50, 3)).astype(np.float32))
    qtbot.waitUntil(lambda: not session.map.arriving, timeout=LONG_MS)
    qtbot.wait(20)
    assert arrival.ended == []
    assert len(session.viewer.layers) == 0
    assert session.viewer.dims.ndim == 2
    monkeypatch.undo()
    again = Arrival(session, rng.normal(size=(60, 2)).astype(np.float32))
    qtbot.waitUntil(lambda: bool(again.ended), timeout=LONG_MS)
    assert session.map.layer.n_items == 60


def test_points_deleted_while_they_arrive_stay_away(
    session, qtbot, rng, monkeypatch
) -> None:
    insert = session.map._insert

    def delete() -> None:
        insert()
        session.viewer.layers.clear()

    monkeypatch.setattr(session.map, "_insert", delete)
    arrival = Arrival(session, rng.normal(size=(50, 3)).astype(np.float32))
    qtbot.waitUntil(lambda: not session.map.arriving, timeout=LONG_MS)
    qtbot.wait(20)
    assert (arrival.ended, len(session.viewer.layers)) == ([], 0)


def test_other_points_take_the_place_of_former_ones(session, qtbot, rng) -> None:
    first = Arrival(session, rng.normal(size=(50, 3)).astype(np.float32))
    qtbot.waitUntil(lambda: bool(first.ended), timeout=LONG_MS)
    former = session.map.layer
    second = Arrival(session, rng.normal(size=(70, 2)).astype(np.float32))
    qtbot.waitUntil(lambda: bool(second.ended), timeout=LONG_MS)
    assert list(session.viewer.layers) == [session.map.layer]
    assert former._link is None
    assert session.map.layer.n_items == 70


@pytest.mark.parametrize("end", ["close", "cancel", "another"])
def test_a_project_that_waits_for_the_former_to_go_is_closed(
    tmp_path: Path, monkeypatch, end
) -> None:
    desk = Desk(tmp_path, projections={"m": projection(60, 2)})
    waiting = []
    monkeypatch.setattr(desk.map, "leave", lambda then, failed: waiting.append(then))
    desk.controller.open_path(desk.path)
    assert desk.controller.state.project is None
    if end == "close":
        desk.controller.close()
    elif end == "cancel":
        desk.controller.cancel_opening()
    else:
        first, desk.project = desk.project, type(desk.project)(desk.path)
        desk.controller.open_path(desk.path)
        assert first.closed
        assert not desk.project.closed
        waiting[-1]()
        assert desk.controller.state.project is not None
        return
    assert desk.project.closed
