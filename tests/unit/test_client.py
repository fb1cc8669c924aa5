"""The client and its protocol, against a worker with made-up jobs."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_embed.engine import protocol
from napari_embed.engine.client import EngineClient, Event
from napari_embed.engine.positions import PositionsBuffer
from napari_embed.errors import (
    ComputeError,
    DeviceLostError,
    DeviceMemoryError,
    InputError,
    JobCancelled,
    StoreError,
)

DUMMY = Path(__file__).parent.parent / "reliability/engine_dummy.py"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineClient]:
    with EngineClient(command=[sys.executable, str(DUMMY)], threads=1) as client:
        yield client


def test_nothing_starts_before_the_first_job_and_then_without_waiting() -> None:
    with EngineClient(command=[sys.executable, str(DUMMY)]) as client:
        assert not client.running
        began = time.perf_counter()
        job = client.submit("count", n=1)
        handed_over_s = time.perf_counter() - began
        assert client.running
        assert job.wait(30)["counted"] == 1
        total_s = time.perf_counter() - began
    assert not client.running
    assert handed_over_s < total_s


def test_progress_then_done_on_a_reader_thread(engine: EngineClient) -> None:
    events: list[tuple[str, Event]] = []
    job = engine.submit(
        "count",
        lambda e: events.append((threading.current_thread().name, e)),
        n=50,
    )
    assert job.wait(30) == {"counted": 50}
    kinds = [e.kind for _, e in events]
    assert kinds[-1] == "done"
    assert set(kinds[:-1]) == {"progress"}
    progress = [e.progress for _, e in events if e.progress]
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[0].total == 50
    assert all(e.job_id == job.id for _, e in events)
    assert {name for name, _ in events} == {"napari-embed-engine"}


def test_jobs_run_in_the_order_submitted(engine: EngineClient) -> None:
    order: list[int] = []
    jobs = [
        engine.submit(
            "count", lambda e: order.append(e.job_id) if e.final else None, n=3
        )
        for _ in range(5)
    ]
    for job in jobs:
        job.wait(30)
    assert order == [j.id for j in jobs]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("input", InputError, "There are no images in x."),
        ("memory", DeviceMemoryError, "not enough memory"),
        ("full", StoreError, "disk is full"),
        ("bug", ComputeError, "Unexpected KeyError"),
    ],
)
def test_errors_keep_their_class_and_the_engine_lives_on(
    engine: EngineClient, how: str, kind: type[Exception], text: str
) -> None:
    events: list[Event] = []
    with pytest.raises(kind, match=text):
        engine.submit("fail", events.append, how=how).wait(30)
    pid = engine.pid
    assert events[-1].data["kind"] == kind.__name__
    assert engine.submit("count", n=1).wait(30)["counted"] == 1
    assert engine.pid == pid


def test_an_unknown_job_is_refused_by_name(engine: EngineClient) -> None:
    with pytest.raises(InputError, match=r"no job 'dance'.*count"):
        engine.submit("dance").wait(30)


def test_cancel_pause_resume_stop(engine: EngineClient) -> None:
    started = threading.Event()
    job = engine.submit("count", lambda e: started.set(), n=10_000)
    assert started.wait(30)
    job.pause()
    time.sleep(0.2)
    with pytest.raises(TimeoutError):
        job.wait(0.2)
    job.resume()
    pid = engine.pid
    job.cancel()
    with pytest.raises(JobCancelled, match="kept"):
        job.wait(10)
    assert engine.pid == pid  # it listened, so its process lives on

    started.clear()
    job = engine.submit("count", lambda e: started.set(), n=10_000)
    assert started.wait(30)
    job.stop()
    assert job.wait(10)["counted"] < 10_000


def test_a_waiting_job_can_be_cancelled(engine: EngineClient) -> None:
    first = engine.submit("count", n=100)
    second = engine.submit("count", n=1)
    second.cancel()
    with pytest.raises(JobCancelled, match="before it began"):
        second.wait(5)
    assert first.wait(30)["counted"] == 100


def test_what_libraries_print_is_no_message(engine: EngineClient) -> None:
    result = engine.submit("chatter").wait(30)
    assert "forged" not in result
    assert result["stdin_is_empty"]
    assert result["nan"] is None
    assert result["count"] == 3
    environment = result["environment"]
    assert environment["TI_SKIP_VERSION_CHECK"] == "ON"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["NAPARI_EMBED_THREADS"] == "1"


def test_live_positions_arrive(engine: EngineClient) -> None:
    seen: list[int] = []
    with PositionsBuffer.create(100, 3) as buffer:
        job = engine.submit(
            "publish",
            lambda e: (
                seen.append(e.data["sequence"]) if e.kind == "positions" else None
            ),
            positions=buffer.name,
        )
        job.wait(30)
        found = buffer.read()
        assert found is not None
        assert found[0] == 5
        np.testing.assert_array_equal(found[1], np.full((100, 3), 4, np.float32))
    assert seen == [1, 2, 3, 4, 5]


def test_a_fault_in_a_listener_stops_nothing(engine: EngineClient) -> None:
    def listener(event: Event) -> None:
        raise RuntimeError("listener")

    assert engine.submit("count", listener, n=20).wait(30)["counted"] == 20


def test_a_listener_may_submit_the_next_job(engine: EngineClient) -> None:
    results: list[dict] = []
    finished = threading.Event()

    def second(event: Event) -> None:
        if event.final:
            results.append(event.data)
            finished.set()

    def first(event: Event) -> None:
        if event.final:
            engine.submit("count", second, n=2)

    engine.submit("count", first, n=1)
    assert finished.wait(30)
    assert results == [{"counted": 2}]


def test_a_program_that_is_not_there() -> None:
    with (
        EngineClient(command=["/no/such/python"]) as client,
        pytest.raises(DeviceLostError, match="could not be started"),
    ):
        client.submit("count", n=1)


def test_a_worker_that_cannot_start_is_told_with_its_last_words() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no module named torch')"]
    with (
        EngineClient(command=command) as client,
        pytest.raises(DeviceLostError, match="no module named torch"),
    ):
        client.submit("count", n=1).wait(30)


def test_after_close_nothing_is_accepted() -> None:
    client = EngineClient(command=[sys.executable, str(DUMMY)])
    client.close()
    client.close()
    with pytest.raises(DeviceLostError, match="closed"):
        client.submit("count", n=1)


def test_protocol_survives_what_json_lacks() -> None:
    message = {"a": math.inf, "b": [math.nan, 1.5], "c": np.float32(0.5), 3: Path("x")}
    assert protocol.decode(protocol.encode(message)) == {
        "a": None,
        "b": [None, 1.5],
        "c": 0.5,
        "3": "x",
    }
    assert protocol.encode({"label": "zwei\nZeilen ü"}).count(b"\n") == 1
    with pytest.raises(ValueError, match="object"):
        protocol.decode(b"[1]\n")


def test_errors_are_rebuilt_only_from_our_own_tree() -> None:
    assert type(protocol.rebuild_error("InputError", "x")) is InputError
    for kind in ("SystemExit", "annotations", "__all__", "nonsense"):
        assert type(protocol.rebuild_error(kind, "x")) is ComputeError
