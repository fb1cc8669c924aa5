"""The engine process dies, freezes, or is cancelled: the client lives and goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from napari_embed.engine.client import EngineClient, Event
from napari_embed.errors import DeviceLostError, JobCancelled

DUMMY = [sys.executable, str(Path(__file__).parent / "engine_dummy.py")]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def _engine_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("napari-embed")]


def _children() -> list[psutil.Process]:
    return [
        p for p in psutil.Process().children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE
    ]  # fmt: skip


@pytest.fixture
def engine() -> Iterator[EngineClient]:
    """A client; afterwards no child process, thread or open pipe may be left."""
    me = psutil.Process()
    children, files = len(_children()), me.num_fds()
    with EngineClient(command=DUMMY, threads=1, cancel_grace_s=0.5) as client:
        yield client
    assert len(_children()) == children
    assert _engine_threads() == []
    assert me.num_fds() <= files + 1


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("exit", "exit status 3"),
        ("SIGSEGV", "SIGSEGV"),
        ("SIGKILL", "SIGKILL"),
        ("terminate", "SIGABRT.*Fatal Python error: Aborted"),
    ],
)
def test_a_dead_engine_is_told_and_replaced(
    engine: EngineClient, how: str, text: str
) -> None:
    for _ in range(3):
        events: list[Event] = []
        job = engine.submit("die", events.append, how=how)
        with pytest.raises(DeviceLostError, match=text) as caught:
            job.wait(30)
        assert "Finished work is kept" in str(caught.value)
        assert [e.kind for e in events] == ["progress", "error"]
        assert engine.submit("count", n=2).wait(30)["counted"] == 2


def test_waiting_jobs_survive_the_death_of_the_one_before(engine: EngineClient) -> None:
    dying = engine.submit("die", how="SIGKILL")
    after = engine.submit("count", n=3)
    with pytest.raises(DeviceLostError):
        dying.wait(30)
    assert after.wait(30)["counted"] == 3


def test_an_engine_killed_while_idle_is_not_noticed_by_the_next_job(
    engine: EngineClient,
) -> None:
    for pause_s in (0.0, 0.0, 0.3):
        engine.submit("count", n=1).wait(30)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        time.sleep(pause_s)
        assert engine.submit("count", n=2).wait(30)["counted"] == 2


def test_cancel_at_random_moments(engine: EngineClient, chance: random.Random) -> None:
    for _ in range(10):
        job = engine.submit("count", n=100_000, step_s=0.001)
        time.sleep(chance.uniform(0, 0.3))
        asked = time.monotonic()
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(10)
        assert time.monotonic() - asked < 5
    assert engine.submit("count", n=2).wait(30)["counted"] == 2


@pytest.mark.parametrize("frozen", [False, True])
def test_a_job_that_does_not_listen_is_ended_hard(
    engine: EngineClient, frozen: bool
) -> None:
    started = threading.Event()
    job = engine.submit("deaf", lambda e: started.set())
    assert started.wait(30)
    pid = engine.pid
    assert pid is not None
    if frozen:
        os.kill(pid, signal.SIGSTOP)
    job.cancel()
    with pytest.raises(JobCancelled, match="kept"):
        job.wait(10)
    assert engine.submit("count", n=2).wait(30)["counted"] == 2
    assert engine.pid != pid


def test_close_during_a_job_and_from_a_listener() -> None:
    for from_listener in (False, True):
        client = EngineClient(command=DUMMY, threads=1, cancel_grace_s=0.5)
        begun = threading.Event()
        closed = threading.Event()

        def listener(
            event: Event, client: EngineClient = client,
            begun: threading.Event = begun, closed: threading.Event = closed,
            from_listener: bool = from_listener,
        ) -> None:  # fmt: skip
            if not begun.is_set():
                begun.set()
                if from_listener:
                    client.close()
                    closed.set()

        job = client.submit("count", listener, n=100_000)
        assert begun.wait(30)
        if from_listener:
            assert closed.wait(10)
        else:
            client.close()
        with pytest.raises(JobCancelled):
            job.wait(10)
    deadline = time.monotonic() + 5
    while (_engine_threads() or _children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _engine_threads() == []
    assert _children() == []


def test_open_and_close_many_times_leaves_nothing() -> None:
    me = psutil.Process()
    EngineClient(command=DUMMY).close()
    files = me.num_fds()
    for i in range(10):
        client = EngineClient(command=DUMMY, threads=1, cancel_grace_s=0.2)
        job = client.submit("count" if i % 2 else "deaf", n=3)
        if i % 3 == 0:
            time.sleep(0.1)
        client.close()
        assert job.over
    assert _children() == []
    assert _engine_threads() == []
    assert me.num_fds() <= files + 1


@pytest.mark.parametrize("how", ["end", "SIGKILL"])
def test_the_engine_ends_with_its_client(how: str) -> None:
    code = (
        "import sys, time\n"
        "from napari_embed.engine.client import EngineClient\n"
        f"client = EngineClient(command={DUMMY!r})\n"
        "import threading\n"
        "begun = threading.Event()\n"
        "client.submit('deaf', lambda e: begun.set())\n"
        "begun.wait(30)\n"
        "print(client.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        engine = psutil.Process(int(client.stdout.readline()))
        if how == "SIGKILL":
            client.kill()
        client.stdin.close()
        client.wait(30)
    engine.wait(10)
