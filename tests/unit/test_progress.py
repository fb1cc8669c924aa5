"""Progress reports, cancel, pause and stop."""

from __future__ import annotations

import math
import threading
import time

import pytest

from napari_embed.engine.progress import JobControl, Progress
from napari_embed.errors import JobCancelled


def test_reports_rate_and_time_left() -> None:
    seen: list[Progress] = []
    control = JobControl(seen.append, interval_s=0)
    for done in range(0, 60, 10):
        control.progress("images", done, 100, unit="images")
        time.sleep(0.08)
    last = seen[-1]
    assert (last.stage, last.done, last.total, last.unit) == (
        "images",
        50,
        100,
        "images",
    )
    assert 0 < last.rate < 10 / 0.08
    assert last.eta_s == pytest.approx((100 - 50) / last.rate)
    assert last.fraction == 0.5


def test_a_resumed_stage_counts_only_what_it_did_itself() -> None:
    seen: list[Progress] = []
    control = JobControl(seen.append, interval_s=0)
    control.progress("images", 900_000, 1_000_000)
    time.sleep(0.25)
    control.progress("images", 900_010, 1_000_000)
    assert math.isnan(seen[0].rate)
    assert seen[-1].rate < 10 / 0.25


def test_reports_are_thinned_but_never_the_first_and_last() -> None:
    seen: list[Progress] = []
    control = JobControl(seen.append, interval_s=3600)
    report = control.reporter("rows", unit="rows")
    for done in range(1001):
        report(done, 1000)
    assert [p.done for p in seen] == [0, 1000]


def test_cancel_raises_at_the_next_report_and_wakes_a_paused_job() -> None:
    control = JobControl()
    control.pause()
    ended = threading.Event()

    def job() -> None:
        with pytest.raises(JobCancelled):
            control.check()
        ended.set()

    thread = threading.Thread(target=job)
    thread.start()
    assert not ended.wait(0.1)
    control.cancel()
    assert ended.wait(5)
    thread.join()
    with pytest.raises(JobCancelled):
        control.progress("images", 1, 2)


def test_time_spent_paused_does_not_lower_the_rate() -> None:
    seen: list[Progress] = []
    control = JobControl(seen.append, interval_s=0)
    control.progress("images", 0, 1000)
    time.sleep(0.25)
    control.pause()
    threading.Timer(1.0, control.resume).start()
    control.progress("images", 100, 1000)
    assert seen[-1].rate > 100  # 100 per 0.25 s of work, 80 per second with the pause


def test_stop_is_no_cancel() -> None:
    control = JobControl()
    control.stop()
    control.check()
    assert control.stop_requested
    assert not control.cancelled


def test_round_trip_as_plain_values() -> None:
    unknown = Progress("images", 1, 10)
    assert unknown.to_dict()["rate"] is None
    back = Progress.from_dict(unknown.to_dict())
    assert math.isnan(back.rate)
    assert math.isnan(back.eta_s)
    known = Progress("images", 1, 10, "images", 2.0, 4.5, "half")
    assert Progress.from_dict(known.to_dict()) == known
