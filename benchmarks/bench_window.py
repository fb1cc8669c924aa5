"""How long each action of the window keeps the event loop, at a million points.

A project is opened in a real window with all panels, and looked at as a user does. For
each action: the longest time for which the event loop did nothing else, as CPU time of
the main thread, and how long the answer took. Drawing by the graphics card (or its
software stand-in) is left out: the canvas is hidden and each frame only prepared.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/bench_window.py P.embed
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WAIT_S = 180.0
BUDGET_MS = 100.0


class Actions:
    """A window on a project, and what a user does in it."""

    def __init__(self, project: Path) -> None:
        import napari

        from _loop import LoopWatch, without_drawing
        from napari_embed.gui.app import spare_the_window
        from napari_embed.gui.docks.all_panels import open_all_panels

        self.project = project
        self.viewer = napari.Viewer(show=False)
        self.panels = open_all_panels(self.viewer)
        self.viewer.window.show()
        spare_the_window()
        self.controller = self.panels.controller
        self.watch = LoopWatch()
        self.watch.until(lambda: False, 1.0)
        without_drawing(self.viewer)
        self.results: dict[str, dict[str, float]] = {}

    @property
    def layer(self) -> Any:
        """The points."""
        return self.panels.session.map.layer

    def time(
        self, name: str, action: Callable[[], Any], done: Callable[[], bool]
    ) -> None:
        """Do something and wait for it; note the longest span of the event loop."""
        from qtpy.QtCore import QTimer

        QTimer.singleShot(0, action)
        began = time.perf_counter()
        if not self.watch.until(done, WAIT_S):
            raise SystemExit(f"{name} took too long: {self.controller.state.message}")
        took = time.perf_counter() - began
        worst = self.watch.worst_ms()
        self.watch.until(lambda: False, 0.4)  # what follows by itself
        worst = max(worst, self.watch.worst_ms())
        start = time.thread_time()
        if self.layer is not None and self.layer._link is not None:
            self.layer._link._before_draw()
        frame = 1000 * (time.thread_time() - start)
        self.results[name] = {
            "longest CPU ms without events": round(worst, 1),
            "CPU ms to prepare the frame": round(frame, 1),
            "seconds": round(took, 2),
        }
        print(f"{name:34s} {self.results[name]}", flush=True)

    def run(self) -> None:
        """Do everything once."""
        controller = self.controller

        def shows(name: str) -> Callable[[], bool]:
            def shown() -> bool:
                state = controller.state
                at = state.projection.name if state.projection else ""
                return at == name and controller.colors_settled

            return shown

        maps: list[str] = []

        def opened() -> bool:
            state = controller.state
            return state.projection is not None and controller.colors_settled

        self.time("open, first map", lambda: controller.open_path(self.project), opened)
        first = self.layer

        def again() -> bool:
            return opened() and self.layer is not None and self.layer is not first

        self.time("open it again", lambda: controller.open_path(self.project), again)
        info = controller.state.project
        assert info is not None
        maps = [p.name for p in info.projections]
        two = next((p.name for p in info.projections if p.n_components == 2), maps[-1])
        for name in (two, maps[0]):
            self.time(
                f"to the map {name}",
                lambda n=name: controller.show_projection(n),
                shows(name),
            )
        for column in (None, *(c.name for c in info.columns[:3])):
            self.time(
                f"colour by {column or 'nothing'}",
                lambda c=column: controller.color_by(c),
                lambda c=column: (
                    controller.colors_settled and controller.state.color_column == c
                ),
            )
        self._look_around()

    def _look_around(self) -> None:
        controller = self.controller
        half = np.random.default_rng(0).random(self.layer.n_items) < 0.5
        legend = self.panels.explore.legend

        def selected() -> bool:
            return controller.state.n_selected > 0

        def hidden() -> bool:
            return controller.state.n_drawn < controller.state.n_loaded

        def all_shown() -> bool:
            return controller.state.n_drawn == controller.state.n_loaded

        controller.color_by(controller.state.project.columns[0].name)
        self.watch.until(lambda: controller.colors_settled, WAIT_S)
        if legend.model is not None:
            self.time("hide a class", lambda: legend.click(0), hidden)
            self.time("show all", controller.show_all, all_shown)
            self.time("isolate a class", lambda: legend.double_click(1), hidden)
            self.time("show all again", controller.show_all, all_shown)
            color = (1.0, 0.0, 0.0, 1.0)
            self.time(
                "a class's colour", lambda: legend.set_color(0, color), lambda: True
            )
        self.time("select half", lambda: controller.select(half), selected)
        self.time("invert", controller.invert_selection, selected)
        self.time("hide selected", controller.hide_selected, hidden)
        self.time("undo", controller.undo, all_shown)
        self.time("isolate selected", controller.isolate_selected, hidden)
        self.time("all points", controller.show_all, all_shown)
        self.time(
            "clear", controller.clear_selection,
            lambda: controller.state.n_selected == 0,
        )  # fmt: skip
        self._curate(half)

    def _curate(self, half: np.ndarray) -> None:
        """Search, tag, exclude and export, as the panels do."""
        controller, session = self.controller, self.panels.session
        searches, exports = session.searches, session.exports

        def steps(count: int) -> Callable[[], bool]:
            def decided() -> bool:
                view = controller.state.decisions
                return view is not None and len(view.done) - first == count

            return decided

        def found() -> Callable[[], bool]:
            before = searches.found
            return lambda: searches.found is not before and not searches.busy

        view = controller.state.decisions
        first = len(view.done) if view is not None else 0
        for tab in ("find", "curate", "export", "explore"):
            self.time(
                f"to the panel {tab}",
                lambda t=tab: self.panels.turn_to(t),
                lambda: True,
            )
        for name, ask in (
            ("find a part of a path", lambda: searches.find("0999")),
            ("... another, columns read", lambda: searches.find("0777")),
            ("SQL expression, a third", lambda: searches.where("id % 3 = 0")),
            (
                "SQL expression, as many again",
                lambda: searches.where("id % 3 = 1"),
            ),
        ):
            self.time(name, ask, found())
        self.time("select half again", lambda: controller.select(half),
                  lambda: controller.state.n_selected > 0)  # fmt: skip
        self.time("tag half", lambda: controller.tag_items("half"), steps(1))
        self.time("label half", lambda: controller.set_label("better"), steps(2))
        self.time("exclude half", controller.exclude_selected, steps(3))
        self.time("undo it in Curate", controller.undo_decision, steps(2))
        wanted = controller.panel_wanted
        self.time("open the gallery", lambda: wanted.emit("gallery"), lambda: True)
        with tempfile.TemporaryDirectory() as folder:
            panel, target = self.panels.export, Path(folder) / "all.parquet"
            self.panels.turn_to("export")
            panel.path.setText(str(target))
            self.time(
                "export everything as Parquet", panel.run.click,
                lambda: exports.done is not None and target.is_file(),
            )  # fmt: skip
        for _ in range(2):
            controller.undo_decision()
        self.watch.until(steps(0), WAIT_S)


def main() -> None:
    """Measure and save the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--name", default="window")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["NAPARI_EMBED_SETTINGS"] = str(Path(folder) / "settings")
        from _record import record
        from napari_embed.gui.session import close_session

        actions = Actions(wish.project)
        actions.run()
        n = actions.layer.n_items
        close_session(actions.viewer)
        actions.viewer.close()
        settings = {"points": n, "budget ms": BUDGET_MS, "drawing": "left out"}
        record(wish.name, actions.results, settings=settings)


if __name__ == "__main__":
    main()
