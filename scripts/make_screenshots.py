"""Make the pictures of the documentation from real data, with the real program.

Run it under a virtual screen::

    xvfb-run -a -s "-screen 0 1920x1080x24" python scripts/make_screenshots.py

The bundled Fashion-MNIST images are embedded and laid out by clicks on the panels;
each picture is the whole window in one of the states on the way. With ``--cifar`` or
``--million`` finished projects are shown instead, and nothing is computed::

    ... make_screenshots.py --cifar cifar10.embed --million vectors_1000000.embed

With ``--nuclei`` the image and the labels of an OME-Zarr become layers, and a project
of their objects is made and laid out by clicks::

    ... make_screenshots.py --nuclei dsb_montage_v05.ome.zarr
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
MOST_BYTES = 560_000


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

        def failed() -> bool:
            message = self.controller.state.message
            return message is not None and message.level == "error"

        if not self.until(lambda: failed() or condition()) or not condition():
            sys.exit(f"Not reached: {self.controller.state.message}")

    def picture(self, name: str, *, settle_s: float = 0.8) -> None:
        """Save the window."""
        layer = self.panels.session.map.layer
        self.wait(settle_s)
        if layer is not None:
            layer.set_hovered(-1)
            self.wait(0.2)
        path = self.out / name
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        shrink(path)
        sys.stdout.write(f"{path}\n")

    def dress(self, theme: str, size: tuple[int, int]) -> None:
        """Take another theme and size."""
        self.viewer.theme = theme
        self.viewer.window.resize(*size)
        self.wait(0.5)
        self.panels.session.map.fit()
        self.wait(0.5)

    def show_map(self, project: Path, name: str) -> None:
        """Open a finished project on one of its maps."""
        self.controller.open_path(project, projection=name)
        controller = self.controller
        self.need(lambda: controller.state.projection is not None)
        self.need(lambda: controller.colors_settled)
        self.wait(2.0)

    def turn(self, angles: tuple[float, float, float]) -> None:
        """Look from another side, at all points."""
        getattr(self.viewer, "scene", self.viewer).camera.angles = angles
        self.panels.session.map.fit()
        self.wait(0.5)

    def fill(self) -> None:
        """Turn the cloud, as it is seen, to where it fills the room it has best."""
        camera = getattr(self.viewer, "scene", self.viewer).camera
        ahead, up = (np.array(v) for v in (camera.view_direction, camera.up_direction))
        aside, best = np.cross(ahead, up), (0.0, 0.0)
        for roll in np.deg2rad(range(0, 180, 15)):
            camera.set_view_direction(ahead, np.cos(roll) * up + np.sin(roll) * aside)
            self.panels.session.map.fit()
            best = max(best, (float(camera.zoom), roll))
        roll = best[1]
        camera.set_view_direction(ahead, np.cos(roll) * up + np.sin(roll) * aside)
        self.panels.session.map.fit()
        self.wait(0.5)

    def seen(self) -> np.ndarray:
        """Return where the points are on the canvas, (n, 2) float64 in pixels."""
        layer = self.panels.session.map.layer
        xyz = np.zeros((layer.n_items, 4))
        xyz[:, : layer.positions.shape[1]] = layer.positions
        xyz[:, 3] = 1
        on_screen = xyz @ layer.canvas_matrix()
        return on_screen[:, :2] / on_screen[:, 3:]

    def lasso(self, class_name: str, *, share: bool = False) -> np.ndarray:
        """Draw a lasso around the densest part of a class; return its corners.

        With ``share`` around the part that the class has most to itself.
        """
        session, coloring = self.panels.session, self.controller.coloring
        seen = self.seen()
        own = coloring.codes == coloring.names.index(class_name)
        middle = best_spot(seen, own, share=share)
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        wobble = 1 + 0.12 * np.sin(3 * angles)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * wobble[:, None]
        corners = middle + RADIUS_PX * ring
        session.map.layer.select_lasso(corners)
        if session.map.link is not None:
            self.need(lambda: len(session.map.link.shown_ids) > 0)
        return corners

    def point_at(self, item: int) -> None:
        """Move the cursor to the point of an item."""
        from qtpy.QtCore import QPoint
        from qtpy.QtGui import QCursor

        middle = self.viewer.window._qt_window.centralWidget()
        x, y = (int(v) for v in self.seen()[item])
        QCursor.setPos(middle.mapToGlobal(QPoint(x, y)))

    def close(self) -> None:
        """Close the window."""
        from napari_embed.gui.session import close_session

        close_session(self.viewer)
        self.viewer.close()
        self.wait(0.5)


def shrink(path: Path) -> None:
    """Keep a picture small: 256 colours where it would be large, found in itself."""
    from PIL import Image

    with Image.open(path) as picture:
        plain = picture.convert("RGB")
    plain.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        way = Image.Quantize.MAXCOVERAGE  # rare colours count, those of a legend say
        few = plain.quantize(256, way, kmeans=2, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def best_spot(
    points: np.ndarray, own: np.ndarray, *, share: bool = False
) -> np.ndarray:
    """Return the middle of the window of RADIUS_PX with the most ``own`` points.

    With ``share`` of the one with the largest share of them among windows that have at
    least half of the most.
    """
    from scipy.ndimage import uniform_filter

    placed = np.isfinite(points).all(axis=1)  # what could not be read is nowhere
    points, own = points[placed], own[placed]
    step = RADIUS_PX / 4
    low = points.min(axis=0)
    bins = [np.arange(low[i], points[:, i].max() + 2 * step, step) for i in (0, 1)]

    def crowd(chosen: np.ndarray) -> np.ndarray:
        counts = np.histogram2d(*points[chosen].T, bins=bins)[0]
        return uniform_filter(counts, 7, mode="constant")

    score = crowd(own)
    if share:
        many = score >= 0.5 * score.max()
        everyone = np.maximum(crowd(np.ones_like(own)), 1e-9)
        score = np.where(many, score / everyone, 0.0)
    cell = np.unravel_index(score.argmax(), score.shape)
    return low + (np.array(cell) + 0.5) * step


def inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return which points lie in a polygon: the sides to their right, counted."""
    x, y = points.T
    odd = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        if y0 != y1:
            crossed = (y0 > y) != (y1 > y)
            odd ^= crossed & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return odd


def finished(out: Path, project: Path, label: str, file: str) -> None:
    """Lasso where one class is dense on a finished 3D map; show the images."""
    scene = Scene(out, theme="dark", size=SMALL)
    scene.show_map(project, "tsne-3d")
    scene.panels.turn_to("explore")
    scene.turn((0.0, 0.0, 60.0))
    around(scene, label, file)
    if file.startswith("cifar10"):
        scene.controller.clear_selection()
        scene.dress("light", LARGE)
        around(scene, label, file.replace(".png", "-light.png"))
        scene.controller.clear_selection()
        legend(scene)
    scene.close()


def around(scene: Scene, label: str, file: str) -> None:
    """Draw the lasso and take the picture."""
    scene.lasso(label, share=True)
    scene.panels.session.map.link.order = "random"
    scene.wait(1.0)
    scene.fill()
    scene.controller.clear_selection()
    scene.lasso(label, share=True)
    scene.controller.set_tool("lasso")
    scene.picture(file, settle_s=3.0)


def legend(scene: Scene) -> None:
    """Show a class alone, a hidden one, and the missing, in both themes."""
    panel, names = scene.panels.explore.legend, scene.controller.coloring.names
    scene.controller.set_hidden_classes(
        {names.index(n) for n in ("airplane", "cat", "deer", "dog", "frog", "horse")}
    )
    panel.view.setFocus()
    scene.controller.set_tool("pan")
    for theme, size in (("dark", LARGE), ("light", SMALL)):
        scene.dress(theme, size)
        scene.fill()
        scene.picture(f"legend-{theme}.png", settle_s=2.0)


def gallery(out: Path, project: Path, label: str) -> None:
    """Show the gallery, an image at full size and the picture at the cursor."""
    for theme, size, file in (
        ("dark", LARGE, "gallery.png"),
        ("light", SMALL, "gallery-small.png"),
    ):
        scene = Scene(out, theme=theme, size=size)
        scene.show_map(project, "tsne-3d")
        scene.panels.turn_to("explore")
        scene.turn((0.0, 0.0, 60.0))
        scene.lasso(label, share=True)
        session = scene.panels.session
        session.map.link.order = "random"
        scene.controller.panel_wanted.emit("gallery")
        scene.wait(1.0)
        if size == LARGE:
            scene.need(lambda session=session: not session.map.link.loading)
            session.open_image(int(session.map.link.shown_ids[4]))
            scene.wait(2.0)
            scene.point_at(int(session.map.link.ids[20]))
            scene.wait(1.5)
            # As it is: waiting for the picture would take the cursor's card away.
            path = str(out / file)
            scene.viewer.window.screenshot(path, canvas_only=False, flash=False)
            shrink(Path(path))
            sys.stdout.write(f"{path}\n")
        else:
            scene.picture(file, settle_s=3.0)
        scene.close()


def million(out: Path, project: Path) -> None:
    """Lasso in a million points in 3D, counted again by brute force."""
    scene = Scene(out, theme="dark", size=SMALL)
    scene.show_map(project, "pca-3d")
    scene.panels.turn_to("explore")
    scene.turn((0.0, -25.0, 60.0))
    names, counts = scene.controller.coloring.names, scene.controller.coloring.counts
    before = scene.seen()
    corners = scene.lasso(names[int(np.argmax(counts))])
    expected = int(inside(before, corners).sum())
    scene.wait(1.0)
    said = scene.panels.explore.status.text()
    wanted = f"1,000,000 shown, {expected:,} selected"
    if not said.startswith(wanted):
        sys.exit(f"The window says {said!r}, counted was {wanted!r}")
    sys.stdout.write(f"{said}\n")
    scene.controller.set_tool("lasso")
    scene.picture("million-3d.png", settle_s=3.0)
    scene.close()


def compute(scene: Scene, d: int, pictures: dict[str, str]) -> None:
    """Press the button of the dimensions, then Run all; take pictures on the way.

    ``pictures`` are the files by stage: of the images being embedded, and of the map
    forming, beside which the panel that is open then stays open.
    """
    panel = scene.panels.compute
    panel.dimensions.button(d).click()
    panel.run_all.click()
    controller, left = scene.controller, dict(pictures)

    def step() -> bool:
        stages = {s.stage: s for s in controller.state.stages}
        embed = stages["embed"].progress
        encoding = embed is not None and embed.phase == "images"
        if "embed" in left and encoding and embed.done > 0.3 * embed.total:
            scene.picture(left.pop("embed"), settle_s=0.0)
        forming = controller.compute.live and len(panel.spark.points) >= 7
        if "projection" in left and forming:
            controller.compute.pause()  # a small map would be done before the picture
            scene.picture(left.pop("projection"), settle_s=0.5)
            controller.compute.resume()
        return not controller.state.running

    scene.need(step)
    scene.need(lambda: all(s.status == "done" for s in controller.state.stages))
    scene.wait(2.0)


def curate(scene: Scene) -> None:
    """Tag what a lasso holds, correct a label, look for wrong ones."""
    from napari_embed.gui.found import PROBLEMS

    controller = scene.controller
    scene.panels.turn_to("curate")
    for name in ("wrong label", "blurred", "for the catalogue"):
        controller.new_tag(name)
    scene.lasso("Bag")
    controller.tag_items("for the catalogue")
    scene.lasso("Shirt")
    controller.tag_items("wrong label")
    controller.set_label("T-shirt/top")
    scene.lasso("Trouser")
    scene.need(lambda: len(controller.state.decisions.done) == 6)
    scene.picture("curate.png", settle_s=1.5)
    controller.clear_selection()
    scene.panels.turn_to("find")
    kinds = [problem.kind for problem in PROBLEMS]
    scene.panels.find.problem.setCurrentIndex(kinds.index("mislabels"))
    scene.panels.find.run.click()
    scene.need(lambda: scene.panels.session.searches.found is not None)
    scene.picture("find.png", settle_s=1.5)
    controller.clear_selection()
    scene.panels.turn_to("explore")


def make(out: Path) -> None:
    """Make all pictures."""
    scene = Scene(out, theme="dark", size=SMALL)
    scene.picture("first-window.png")
    scene.panels.project.sample.click()
    scene.need(lambda: scene.controller.state.project is not None)
    scene.panels.turn_to("compute")
    compute(scene, 3, {"embed": "computing.png", "projection": "live.png"})
    scene.panels.turn_to("project")
    scene.picture("project.png")
    scene.panels.turn_to("explore")
    scene.turn((0.0, 0.0, 60.0))
    scene.picture("map-3d.png")
    scene.lasso("Ankle boot")
    scene.fill()
    scene.controller.clear_selection()
    scene.lasso("Ankle boot")
    scene.controller.set_tool("lasso")
    scene.picture("napari-embed.png", settle_s=1.5)
    scene.controller.set_tool("pan")
    curate(scene)
    scene.controller.set_tool("pan")
    scene.dress("light", LARGE)
    scene.panels.turn_to("explore")
    compute(scene, 2, {"projection": "live-light.png"})
    scene.dress("dark", SMALL)
    scene.panels.turn_to("explore")
    scene.picture("map-2d.png", settle_s=1.5)
    scene.close()
    scene = Scene(out, theme="light", size=LARGE)
    scene.panels.project.sample.click()
    scene.need(lambda: scene.controller.state.projection is not None)
    scene.wait(2.0)
    scene.lasso("Bag")
    scene.picture("map-light.png", settle_s=1.5)
    scene.close()


def objects(out: Path, root: Path) -> None:
    """Make items of the nuclei of an OME-Zarr, from layers to the linked map."""
    import zarr
    from qtpy.QtCore import Qt

    from napari_embed.gui.docks.gallery import open_gallery
    from napari_embed.gui.docks.objects import open_objects

    pixel = {"scale": (0.65, 0.65), "units": ("um", "um")}
    image = np.asarray(zarr.open_array(str(root / "s0"), mode="r"))[0]
    labels = np.asarray(zarr.open_array(str(root / "labels/nuclei/s0"), mode="r"))
    scene = Scene(out, theme="dark", size=LARGE)
    viewer, controller = scene.viewer, scene.controller
    viewer.add_image(image, name="DNA", contrast_limits=(0, 160), **pixel)
    viewer.add_labels(np.squeeze(labels).astype(np.int32), name="nuclei", **pixel)
    window = scene.panels.project.new_objects()
    scene.need(lambda: window.spec is not None)
    scene.wait(0.5)
    window.grab().save(str(out / "objects-new.png"))
    window.go.click()
    scene.need(lambda: controller.state.project is not None)
    for layer in (viewer.layers["DNA"], viewer.layers["nuclei"]):
        layer.visible = False
    controller.compute.run_all()
    scene.need(lambda: controller.state.projection and not controller.state.running)
    panel = open_objects(viewer)
    scene.need(lambda: panel.labels is not None)
    open_gallery(viewer)
    dock = panel.parentWidget()
    while dock is not None and not hasattr(dock, "setFloating"):
        dock = dock.parentWidget()
    for way, size in ((Qt.Orientation.Horizontal, 560), (Qt.Orientation.Vertical, 600)):
        viewer.window._qt_window.resizeDocks([dock], [size], way)
    scene.wait(0.5)
    scene.panels.session.map.fit()
    controller.color_by("area_um2")
    scene.need(lambda: controller.colors_settled)
    seen = scene.seen()
    apart = np.hypot(*(seen - np.median(seen, axis=0)).T)
    controller.select(np.argsort(apart)[:300])
    panel.model.layers[0].contrast_limits = (0, 120)
    panel.step(1)
    scene.wait(1.0)
    scene.picture("objects.png", settle_s=1.5)
    scene.close()


def main() -> None:
    """Read the arguments and make the pictures in a private settings folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/images")
    parser.add_argument("--cifar", type=Path, help="project of CIFAR-10 with tsne-3d")
    parser.add_argument(
        "--fashion", type=Path, help="project of Fashion-MNIST's 10,000 test images"
    )
    parser.add_argument(
        "--million", type=Path, help="project of a million own vectors with pca-3d"
    )
    parser.add_argument("--nuclei", type=Path, help="OME-Zarr with labels nuclei")
    wish = parser.parse_args()
    wish.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["NAPARI_EMBED_SETTINGS"] = str(Path(folder) / "settings")
        os.environ["NAPARI_EMBED_DATA"] = str(Path(folder) / "data")
        if wish.cifar:
            finished(wish.out, wish.cifar, "truck", "cifar10-3d.png")
            gallery(wish.out, wish.cifar, "ship")
        if wish.fashion:
            finished(wish.out, wish.fashion, "8", "fashion10k-3d.png")
        if wish.million:
            million(wish.out, wish.million)
        if wish.nuclei:
            objects(wish.out, wish.nuclei)
        if not (wish.cifar or wish.fashion or wish.million or wish.nuclei):
            make(wish.out)


if __name__ == "__main__":
    main()
