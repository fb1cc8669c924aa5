"""Live positions in shared memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_embed.engine.positions import PositionsBuffer, remove_leftovers
from napari_embed.errors import InputError

HAMMER = """
import sys, time
import numpy as np
from napari_embed.engine.positions import PositionsBuffer
with PositionsBuffer.attach(sys.argv[1]) as buffer:
    blocks = [np.full(buffer.shape, i, np.float32) for i in range(7)]
    number = 0
    while True:
        number += 1
        assert buffer.write(blocks[number % 7]) == number
        if number == 1:
            print("writing", flush=True)
        if number % 50 == 0:
            time.sleep(0.03)
"""


class SlowSlots:
    """The slots of a buffer, copied slowly enough for the writer to come round."""

    def __init__(self, slots: np.ndarray) -> None:
        self.slots, self.torn = slots, 0

    def __getitem__(self, slot: int) -> SlowSlots:
        self.slot = slot
        return self

    def copy(self) -> np.ndarray:
        source = self.slots[self.slot]
        result = np.empty_like(source)
        for part in np.array_split(np.arange(len(source)), 5):
            result[part] = source[part]
            time.sleep(0.001)
        self.torn += int(result.min() != result.max())
        return result


def test_what_is_written_is_read(rng: np.random.Generator) -> None:
    with PositionsBuffer.create(1000, 3) as buffer:
        assert buffer.read() is None
        with PositionsBuffer.attach(buffer.name) as writer:
            assert writer.shape == (1000, 3)
            for number in range(1, 5):
                positions = rng.normal(size=(1000, 3)).astype(np.float32)
                assert writer.write(positions) == number
                found = buffer.read(after=number - 1)
                assert found is not None
                assert found[0] == number
                np.testing.assert_array_equal(found[1], positions)
            assert buffer.read(after=4) is None
        assert found[1].flags.owndata  # a copy, valid after the buffer is gone


@pytest.mark.parametrize("slow", [False, True])
def test_no_torn_read_from_a_hammering_process(slow: bool) -> None:
    """Every block the writer publishes is constant, so a torn read would show."""
    with PositionsBuffer.create(20_000, 3) as buffer:
        slots = SlowSlots(buffer._slots)
        if slow:
            buffer._slots = slots  # type: ignore[assignment]
        command = [sys.executable, "-c", HAMMER, buffer.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == b"writing"
                seen, last = 0, 0
                end = time.monotonic() + 3
                while time.monotonic() < end:
                    found = buffer.read(after=last)
                    if found is None:
                        continue
                    number, positions = found
                    assert number > last
                    assert positions.min() == positions.max() == number % 7
                    seen, last = seen + 1, number
            finally:
                process.kill()
        assert seen >= 5
        if slow:
            assert slots.torn > 0  # the copies that had to be thrown away
        del slots
        # The writer died somewhere in a write: the newest finished block is whole.
        found = buffer.read()
        assert found is not None
        assert found[1].min() == found[1].max()


def test_a_writer_that_dies_does_not_take_the_memory_along() -> None:
    with PositionsBuffer.create(10, 2) as buffer:
        code = (
            "import sys, numpy as np\n"
            "from napari_embed.engine.positions import PositionsBuffer\n"
            "b = PositionsBuffer.attach(sys.argv[1])\n"
            "b.write(np.ones((10, 2), np.float32))\n"
        )
        subprocess.run([sys.executable, "-c", code, buffer.name], check=True)
        assert Path(buffer.name).exists()
        found = buffer.read()
        assert found is not None
        assert (found[1] == 1).all()


def test_close_removes_it_and_is_repeatable() -> None:
    buffer = PositionsBuffer.create(10, 2)
    path = Path(buffer.name)
    attached = PositionsBuffer.attach(buffer.name)
    buffer.close()
    buffer.close()
    assert not path.exists()
    attached.write(np.zeros((10, 2), np.float32))  # its own view stays valid
    attached.close()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_a_killed_owner_left_is_removed_and_the_living_kept() -> None:
    code = (
        "import time\n"
        "from napari_embed.engine.positions import PositionsBuffer\n"
        "b = PositionsBuffer.create(10, 2)\n"
        "print(b.name, flush=True)\n"
        "time.sleep(60)\n"
    )
    with (
        PositionsBuffer.create(10, 2) as mine,
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        remove_leftovers()
        assert left.exists()
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        remove_leftovers()
        assert not left.exists()
        assert Path(mine.name).exists()


@pytest.mark.parametrize(("n", "d"), [(0, 2), (5, 4), (-1, 3)])
def test_impossible_shapes_are_refused(n: int, d: int) -> None:
    with pytest.raises(InputError, match="n >= 1"):
        PositionsBuffer.create(n, d)


def test_attach_refuses_what_is_no_buffer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no live positions"):
        PositionsBuffer.attach(str(tmp_path / "napari-embed-positions-gone"))
    for content in (b"", b"x" * 10, b"\0" * 4096):
        path = tmp_path / "napari-embed-positions-fake"
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no live positions"):
            PositionsBuffer.attach(str(path))
    other = tmp_path / "notes.txt"
    other.write_bytes(b"x" * 4096)
    with pytest.raises(InputError, match="not the name"):
        PositionsBuffer.attach(str(other))
    with PositionsBuffer.create(100, 3) as buffer:
        cut = tmp_path / "napari-embed-positions-cut"
        cut.write_bytes(Path(buffer.name).read_bytes()[:200])
        with pytest.raises(InputError, match="should hold"):
            PositionsBuffer.attach(str(cut))


def test_a_wrong_shape_is_refused() -> None:
    with (
        PositionsBuffer.create(10, 2) as buffer,
        pytest.raises(InputError, match="10, 2"),
    ):
        buffer.write(np.zeros((10, 3), np.float32))
