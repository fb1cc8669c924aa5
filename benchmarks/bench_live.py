"""Feed the window with positions as t-SNE does, and see how many it takes.

A second process writes maps of N points into the shared buffer, 20 a second, as the
engine would; the window with all panels polls, moves the points and prepares the next
frame. Measured: updates a second, CPU time of the GUI thread for each, and the longest
time for which the event loop did nothing else. Drawing by the graphics card (or its
software stand-in) is left out: the canvas is hidden and the frame only prepared.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/bench_live.py
    ... bench_live.py --points 5000000 --name live_5m
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FRAMES_PER_S = 20
FEEDER = """
import sys, time
import numpy as np
from napari_embed.engine.positions import PositionsBuffer
name, rate = sys.argv[1], float(sys.argv[2])
with PositionsBuffer.attach(name) as buffer:
    n, d = buffer.shape
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, d)).astype(np.float32)
    map_ = centers[rng.integers(0, 50, n)]
    map_ += rng.normal(size=(n, d)).astype(np.float32) * np.float32(0.15)
    print("ready", flush=True)
    step, due = 0, time.monotonic()
    while True:
        step += 1
        buffer.write(map_ * np.float32(1e-2 * 1.02 ** min(step, 400)))
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
"""


def summary(values: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and largest."""
    at = np.percentile(values, (50, 95, 100))
    return dict(zip(("median", "p95", "max"), (round(float(v), 2) for v in at),
                    strict=True))  # fmt: skip


def wait_ms(cost: float) -> float:
    """Return how long the window waits after an update that took ``cost``, in ms."""
    from napari_embed.gui.session import LIVE_MS

    return max(float(LIVE_MS), cost)


class Live:
    """A window that shows a map while another process writes it."""

    def __init__(self, n: int, d: int) -> None:
        import napari

        from _loop import LoopWatch, without_drawing
        from napari_embed.gui.docks.all_panels import open_all_panels

        self.n, self.d = n, d
        self.viewer = napari.Viewer(show=False)
        self.panels = open_all_panels(self.viewer)
        self.viewer.window.show()
        self.session = self.panels.session
        self.compute = self.panels.controller.compute
        self.watch = LoopWatch()
        self.watch.until(lambda: False, 1.0)
        without_drawing(self.viewer)
        self.costs_ms: list[float] = []
        self._time_polls()

    def _time_polls(self) -> None:
        """Measure each update together with preparing the frame."""
        show = self.compute.poll_live

        def timed() -> bool:
            start = time.thread_time()
            shown = show()
            if shown:
                self.session.map.layer._link._before_draw()
                self.costs_ms.append(1000 * (time.thread_time() - start))
            return shown

        self.compute.poll_live = timed  # type: ignore[method-assign]

    def run(self, seconds: float) -> dict[str, Any]:
        """Take positions for some seconds."""
        arguments = self.compute._start_live(self.n, self.d, f"tsne-{self.d}d")
        command = [sys.executable, "-c", FEEDER, arguments["positions"]]
        feeder = subprocess.Popen([*command, str(FRAMES_PER_S)], stdout=subprocess.PIPE)
        try:
            assert feeder.stdout is not None
            feeder.stdout.readline()
            self.panels.controller.update(busy="")
            self.session._watch_live(None, None)
            self.watch.until(lambda: len(self.costs_ms) >= 3, 60)  # layer and order
            self.costs_ms.clear()
            wall, cpu = time.perf_counter(), time.thread_time()
            self.watch.until(lambda: False, seconds)
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            written = self.compute._live._buffer.sequence
        finally:
            feeder.kill()
            feeder.wait()
        costs = list(self.costs_ms)
        self.compute._end_live()
        cost = float(np.median(costs))
        free = 1000 / (cost + wait_ms(cost))
        return {
            "updates": len(costs),
            "seconds": round(wall, 2),
            "updates per second": round(len(costs) / wall, 2),
            "updates per second on a free core": round(free, 2),
            "GUI thread CPU ms per update": summary(costs),
            "longest CPU ms without events": round(self.watch.worst_ms(), 2),
            "share of the GUI thread's CPU": round(cpu / wall, 3),
            "maps written": written,
        }


def main() -> None:
    """Measure 2D and 3D and save the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--name", default="live")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["NAPARI_EMBED_SETTINGS"] = str(Path(folder) / "settings")
        from _record import record
        from napari_embed.gui.session import close_session

        results = {}
        for d in (3, 2):
            live = Live(wish.points, d)
            results[f"{d}D, {wish.points:,} points"] = found = live.run(wish.seconds)
            print(d, found, flush=True)
            close_session(live.viewer)
            live.viewer.close()
        settings = {"maps offered per second": FRAMES_PER_S, "drawing": "left out"}
        record(wish.name, results, settings=settings)


if __name__ == "__main__":
    main()
