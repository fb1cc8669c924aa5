"""Time the points layer beside napari's own, as CPU time of the main thread.

Drawing by the graphics card (or its software stand-in) is left out: measured is what
keeps the window from answering. Each kind and size runs in its own process, so that
one cannot slow the other; napari's layer gets a time limit, and what it does not
finish is missing from the results.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/bench_viewer.py

Frame rates need a graphics card; without one this option says so and ends::

    python benchmarks/bench_viewer.py --frames            # a window of napari
    python benchmarks/bench_viewer.py --frames --egl      # no display needed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BUDGET_MS = {
    1_000_000: {
        "add": 600, "box": 60, "lasso": 60, "recolour by category": 15,
        "recolour by value": 15, "hide half": 15, "select half": 15, "hover": 30,
        "zoom step, half selected": 10, "new positions": 80,
    },
    5_000_000: {
        "add": 1500, "box": 250, "lasso": 250, "recolour by category": 40,
        "recolour by value": 40, "hide half": 40, "select half": 40, "hover": 90,
        "zoom step, half selected": 10, "new positions": 400,
    },
}  # fmt: skip


PARTS = ("box", "lasso", "new positions")
"""Steps of which only a part counts: releasing the button, passing the positions."""


def cpu_ms(action: Callable[[], Any]) -> float:
    """CPU time of the calling thread, milliseconds."""
    start = time.thread_time()
    action()
    return (time.thread_time() - start) * 1000


def clusters(n: int, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (n, dims) in 50 round clusters, and each point's cluster."""
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(50, 3)) * 20
    labels = rng.integers(0, 50, n)
    xyz = (centers[labels] + rng.normal(size=(n, 3)) * 3).astype(np.float32)
    return xyz[:, :dims].copy(), labels


class Stage:
    """A viewer with one layer of random clusters, and the mouse."""

    def __init__(self, n: int, kind: str, dims: int = 3) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.n, self.kind, self.dims = n, kind, dims
        self.rng = np.random.default_rng(0)
        self.xyz, self.labels = clusters(n, dims)
        self.values = self.rng.normal(size=n)
        self.half = self.rng.random(n) < 0.5
        palette = self.rng.random((50, 4))
        palette[:, 3] = 1
        self.palette = palette
        self.viewer = napari.Viewer(show=True)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.canvas.native.setFixedSize(800, 600)
        for _ in range(5):
            QApplication.processEvents()
        self.viewer.dims.ndisplay = dims
        self.canvas._scene_canvas.set_current()
        names = [f"class {c}" for c in range(50)]
        self.classes = pd.Categorical.from_codes(self.labels, names)
        self._warm_up()

    def _warm_up(self) -> None:
        """Show a few points first: imports and unit tables are not what is timed."""
        full = (self.xyz, self.classes, self.values)
        self.xyz, self.classes, self.values = (part[:10] for part in full)
        self.construct()
        self.show()
        self.viewer.layers.clear()
        self.xyz, self.classes, self.values = full

    def construct(self) -> None:
        """Make the layer."""
        features = {"class": self.classes, "value": self.values}
        if self.kind == "ours":
            from napari_embed.gui.points import EmbeddingPoints

            self.layer: Any = EmbeddingPoints(self.xyz, features=features)
        else:
            from napari.layers import Points

            self.layer = Points(
                self.xyz[:, ::-1], features=features, size=0.3, antialiasing=0,
                border_width=0, canvas_size_limits=(1, 64),
            )  # fmt: skip

    def show(self) -> None:
        """Add it to the viewer."""
        self.viewer.add_layer(self.layer)
        self.flush()

    def flush(self) -> None:
        """Do what the next frame would do before it draws."""
        if self.kind == "ours":
            self.layer._link._before_draw()

    def mouse(self, kind: str, at: Any, press: Any = None) -> Any:
        """Pass a mouse event to napari's canvas."""
        from vispy.app.canvas import MouseEvent

        event = MouseEvent(
            type=kind, pos=np.asarray(at, float), button=1, buttons=[1],
            modifiers=[], press_event=press,
        )  # fmt: skip
        getattr(self.canvas, f"_on_{kind}")(event)
        return event

    def drag(self, path: Any) -> None:
        """Press, move and release; keep what the release alone cost."""
        press = self.mouse("mouse_press", path[0])
        for at in path[1:]:
            self.mouse("mouse_move", at, press)
        start = time.thread_time()
        self.mouse("mouse_release", path[-1], press)
        self.flush()
        self.part_ms = (time.thread_time() - start) * 1000

    def tool(self, name: str) -> None:
        """Take a tool that selects."""
        if self.kind == "ours":
            self.layer.tool = name
        else:
            self.layer.mode = "select"

    def box(self) -> None:
        """Drag a box over about half the map."""
        self.drag([(5, 5), (200, 300), (400, 595)])

    def lasso(self) -> None:
        """Drag a lasso of 120 vertices."""
        angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        self.drag(np.c_[400 + 180 * np.cos(angle), 300 + 150 * np.sin(angle)])

    def click(self) -> None:
        """Click a point."""
        press = self.mouse("mouse_press", (390, 310))
        self.mouse("mouse_release", (390, 310), press)
        self.flush()

    def hover(self) -> None:
        """Ask for the status text at a place."""
        at = self.canvas._map_canvas2world((410, 290), self.canvas.view)
        self.layer.get_status(
            at,
            view_direction=self.canvas._calculate_view_direction((410, 290)),
            dims_displayed=[0, 1, 2],
            world=True,
        )

    def select_half(self) -> None:
        """Select half the points by program."""
        if self.kind == "ours":
            self.layer.select(self.half)
        else:
            self.layer.selected_data = np.flatnonzero(self.half)
        self.flush()

    def deselect(self) -> None:
        """Select nothing."""
        if self.kind == "ours":
            self.layer.clear_selection()
        else:
            self.layer.selected_data = set()

    def zoom(self) -> None:
        """One step of the mouse wheel."""
        camera = getattr(self.viewer, "scene", self.viewer).camera
        camera.zoom *= 1.01
        self.flush()
        self.canvas.on_draw(None)

    def by_category(self) -> None:
        """Colour by the 50 classes."""
        if self.kind == "ours":
            self.layer.color_by_categories(self.labels, self.palette)
        else:
            self.layer.face_color = "white"  # from number straight to class raises
            self.layer.face_color = "class"
        self.flush()

    def by_value(self) -> None:
        """Colour by a float feature."""
        if self.kind == "ours":
            self.layer.color_by_values(self.values)
        else:
            self.layer.face_color = "value"
        self.flush()

    def hide_half(self) -> None:
        """Hide half the points."""
        if self.kind == "ours":
            self.layer.set_visible(self.half)
        else:
            self.layer.shown = self.half
        self.flush()

    def show_all(self) -> None:
        """Hide nothing."""
        if self.kind == "ours":
            self.layer.show_all()
        else:
            self.layer.shown = True

    def move(self) -> None:
        """Give all points new positions."""
        self.xyz = self.xyz * np.float32(1.01)
        start = time.thread_time()
        if self.kind == "ours":
            self.layer.set_positions(self.xyz)
        else:
            self.layer.data = self.xyz[:, ::-1]
        self.flush()
        self.part_ms = (time.thread_time() - start) * 1000

    def frame(self) -> None:
        """Draw a frame and wait for it."""
        from vispy import gloo

        self.canvas._scene_canvas._draw_scene()
        gloo.gl.glFinish()

    def turn(self) -> None:
        """Turn or move the camera a little."""
        camera = getattr(self.viewer, "scene", self.viewer).camera
        if self.dims == 3:
            first, second, third = camera.angles
            camera.angles = (first + 3, second, third)
        else:
            z, y, x = camera.center
            camera.center = (z, y + 0.5, x + 0.5)

    def ndisplay(self) -> None:
        """Switch to 2D."""
        self.viewer.dims.ndisplay = 2
        self.flush()

    def steps(self) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
        """Name, what is timed, and what is done before it each time."""

        def nothing() -> None:
            """Prepare nothing."""

        yield "hover", self.hover, nothing
        self.tool("box")
        yield "click", self.click, self.deselect
        yield "select half", self.select_half, self.deselect
        yield "zoom step, half selected", self.zoom, nothing
        self.deselect()
        yield "zoom step, none selected", self.zoom, nothing
        yield "box", self.box, self.deselect
        if self.kind == "ours":
            self.tool("lasso")
            yield "lasso", self.lasso, self.deselect
        self.deselect()
        yield "hide half", self.hide_half, self.show_all
        self.show_all()
        yield "recolour by value", self.by_value, nothing
        yield "recolour by category", self.by_category, nothing
        yield "new positions", self.move, nothing
        yield (
            "3D to 2D",
            self.ndisplay,
            lambda: setattr(self.viewer.dims, "ndisplay", 3),
        )


def run(n: int, kind: str, out: Path) -> None:
    """Time every step once or more and write each result at once."""
    stage = Stage(n, kind)
    found: dict[str, float] = {}

    def keep(name: str, value: float) -> None:
        found[name] = round(value, 2)
        out.write_text(json.dumps(found))
        print(f"{kind:6} {n:>9,} {name:28} {value:10.1f}", flush=True)

    keep("construct", cpu_ms(stage.construct))
    keep("show", cpu_ms(stage.show))
    keep("add", found["construct"] + found["show"])
    for name, action, prepare in stage.steps():
        times = []
        while len(times) < 5 and sum(times) < 1500:
            prepare()
            spent = cpu_ms(action)
            times.append(stage.part_ms if name in PARTS else spent)
        keep(name, float(np.median(times)))
        if name in ("box", "lasso"):
            keep(f"selected by {name}", len(stage.layer.selected_data))
    import resource

    keep("peak memory, MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.stdout.flush()
    # Closing a window of a million stock points takes longer than all the rest.
    os._exit(0)


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results as a Markdown table."""
    names = list(dict.fromkeys(name for found in results.values() for name in found))
    lines = [
        "| CPU ms | " + " | ".join(results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in names:
        cells = (results[k].get(name) for k in results)
        text = (
            "-" if c is None else f"{c:,.0f}" if c >= 10 else f"{c:.1f}" for c in cells
        )
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run every kind and size in a process of its own and save the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--frames", action="store_true", help="frame rates instead")
    parser.add_argument("--egl", action="store_true", help="frames without a display")
    parser.add_argument(
        "--software", action="store_true", help="frames on the CPU, to try the option"
    )
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--limit", type=float, default=900, help="seconds per process")
    parser.add_argument("--name", default="viewer")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "N", "OUT"))
    arguments = parser.parse_args()
    if arguments.child:
        kind, n, out = arguments.child
        run(int(n), kind, Path(out))
    if arguments.frames:
        from _frames import measure

        sizes = arguments.points if "--points" in sys.argv else None
        measure(sizes, egl=arguments.egl, software=arguments.software)
        return
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAPARI_CONFIG": f"{folder}/settings.yaml"}
        for n in arguments.points:
            for kind in ("ours",) if arguments.ours_only else ("ours", "stock"):
                out = Path(folder) / f"{kind}{n}.json"
                command = [sys.executable, __file__, "--child", kind, str(n), str(out)]
                try:
                    subprocess.run(
                        command, env=environment, timeout=arguments.limit, check=True
                    )
                except subprocess.TimeoutExpired:
                    print(f"{kind} {n:,}: stopped after {arguments.limit:.0f} s")
                results[f"{kind} {n:,}"] = json.loads(out.read_text())
    from _record import record

    print(table(results))
    over = [
        f"{name} at {n:,}: {results[f'ours {n:,}'][name]:.0f} ms, budget {most} ms"
        for n, budget in BUDGET_MS.items()
        if f"ours {n:,}" in results
        for name, most in budget.items()
        if results[f"ours {n:,}"].get(name, np.inf) > most
    ]
    print("over budget: " + ("; ".join(over) or "nothing"))
    record(
        arguments.name,
        {"cpu_ms": results, "budget_ms": BUDGET_MS, "over_budget": over},
        settings={"canvas": [800, 600], "ndisplay": 3, "drawing": "left out"},
    )


if __name__ == "__main__":
    main()
