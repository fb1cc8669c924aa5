"""Make the pictures of the documentation from real data, with the real program.

Run it under a virtual screen::

    xvfb-run -a -s "-screen 0 1920x1080x24" python scripts/make_screenshots.py

The bundled Fashion-MNIST images are embedded and laid out by clicks on the panels;
each picture is the whole window in one of the states on the way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
LONG_S = 600.0
SMALL = (1366, 768)
LARGE = (1920, 1080)
RADIUS_PX = 62.0


class Scene:
    """A napari window with all panels, and a camera for it."""

    def __init__(self, out: Path, *, theme: str, size: tuple[int, int]) -> None:
        import napari

        from napari_embed.gui.docks.all_panels import open_all_panels

        self.out = out
        self.viewer = napari.Viewer(show=False)
        self.viewer.theme = theme
        self.panels = open_all_panels(self.viewer)
        self.viewer.window.show()
        self.viewer.window.resize(*size)
        self.controller = self.panels.controller
        self.wait(1.0)

    def wait(self, seconds: float) -> None:
        """Let the window work."""
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], bool], seconds: float = LONG_S) -> bool:
        """Let the window work until ``condition``."""
        from qtpy.QtCore import QCoreApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QCoreApplication.processEvents()
            if condition():
                return True
            time.sleep(0.005)
        return False

    def need(self, condition: Callable[[], bool]) -> None:
        """Wait for ``condition``, or end with what the window says."""
        if not self.until(condition):
            sys.exit(f"Waited too long: {self.controller.state.message}")

    def picture(self, name: str, *, settle_s: float = 0.8) -> None:
        """Save the window."""
        layer = self.panels.session.map.layer
        self.wait(settle_s)
        if layer is not None:
            layer.set_hovered(-1)
            self.wait(0.2)
        path = self.out / name
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        sys.stdout.write(f"{path}\n")

    def lasso(self, class_name: str) -> None:
        """Draw a lasso on the screen around the densest part of a class."""
        from napari_embed.gui.points.geometry import project

        session = self.panels.session
        layer, coloring = session.map.layer, self.controller.coloring
        code = coloring.names.index(class_name)
        xyz = np.zeros((layer.n_items, 3))
        xyz[:, : layer.positions.shape[1]] = layer.positions
        x, y, _ = project(xyz, layer.canvas_matrix())
        seen = np.stack([x, y], axis=1)[coloring.codes == code]
        crowd = np.linalg.norm(seen[:, None] - seen[None], axis=2) < RADIUS_PX
        middle = seen[crowd.sum(axis=1).argmax()]
        radius = RADIUS_PX
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        wobble = 1 + 0.12 * np.sin(3 * angles)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * wobble[:, None]
        layer.select_lasso(middle + radius * ring)
        link = session.map.link
        self.need(lambda: len(link.shown_ids) > 0)

    def close(self) -> None:
        """Close the window."""
        from napari_embed.gui.session import close_session

        close_session(self.viewer)
        self.viewer.close()
        self.wait(0.5)


def compute(scene: Scene, d: int) -> None:
    """Press the button of the dimensions, then Run all; take a picture on the way."""
    panel = scene.panels.compute
    scene.panels.turn_to("compute")
    panel.dimensions.button(d).click()
    panel.run_all.click()
    controller = scene.controller
    pictures = {"embed": "computing.png", "projection": "live.png"} if d == 3 else {}

    def step() -> bool:
        stages = {s.stage: s for s in controller.state.stages}
        embed = stages["embed"].progress
        encoding = embed is not None and embed.phase == "images"
        if "embed" in pictures and encoding and embed.done > 0.3 * embed.total:
            scene.picture(pictures.pop("embed"), settle_s=0.0)
        if "projection" in pictures and len(panel.spark.points) >= 6:
            scene.picture(pictures.pop("projection"), settle_s=0.0)
        return not controller.state.running

    scene.need(step)
    scene.need(lambda: all(s.status == "done" for s in controller.state.stages))
    scene.wait(2.0)


def make(out: Path) -> None:
    """Make all pictures."""
    scene = Scene(out, theme="dark", size=SMALL)
    scene.picture("first-window.png")
    scene.panels.project.sample.click()
    scene.need(lambda: scene.controller.state.project is not None)
    compute(scene, 3)
    scene.panels.turn_to("project")
    scene.picture("project.png")
    scene.panels.turn_to("explore")
    camera = getattr(scene.viewer, "scene", scene.viewer).camera
    camera.angles = (0.0, 0.0, 60.0)
    scene.panels.session.map.fit()
    scene.picture("map-3d.png")
    scene.lasso("Ankle boot")
    scene.controller.set_tool("lasso")
    scene.picture("napari-embed.png", settle_s=1.5)
    scene.controller.clear_selection()
    compute(scene, 2)
    scene.picture("map-2d.png", settle_s=1.5)
    scene.close()
    scene = Scene(out, theme="light", size=LARGE)
    scene.panels.project.sample.click()
    scene.need(lambda: scene.controller.state.projection is not None)
    scene.wait(2.0)
    scene.lasso("Bag")
    scene.picture("map-light.png", settle_s=1.5)
    scene.close()


def main() -> None:
    """Read the arguments and make the pictures in a private settings folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/images")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["NAPARI_EMBED_SETTINGS"] = str(Path(folder) / "settings")
        os.environ["NAPARI_EMBED_DATA"] = str(Path(folder) / "data")
        make(out)


if __name__ == "__main__":
    main()
