"""Frames per second of the points in 3D, on a graphics card.

Each frame turns the camera and waits for the card (``glFinish``). Measured are all
points, the part that is drawn while the camera moves, and the density picture. With
``egl`` the points stand in a bare vispy scene without a window; otherwise in napari.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZES = (1_000_000, 5_000_000, 10_000_000)
CANVAS = (1920, 1080)
FRAMES, WARM_UP = 60, 5
GOAL = (5_000_000, 60.0)
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software")

NO_CARD = (
    "Frame rates need a graphics card, but OpenGL is drawn by {name!r} here. Run this "
    "on a machine with one: with --egl no display is needed; with Xvfb set "
    "__GLX_VENDOR_LIBRARY_NAME to the vendor's name (nvidia). --software measures the "
    "CPU all the same, to try the option."
)


def measure(sizes: list[int] | None, *, egl: bool, software: bool) -> None:
    """Measure and save frame rates; end with a message where there is no card."""
    scene = _bare_scene() if egl else _napari_scene()
    name = renderer()
    if not software and any(word in name.lower() for word in SOFTWARE):
        print(NO_CARD.format(name=name))
        sys.stdout.flush()
        os._exit(3)
    results: dict[str, dict[str, float]] = {}
    for n in sizes or SIZES:
        draw_modes, turn_and_draw = scene(n)
        found = {}
        for mode, prepare in draw_modes.items():
            prepare()
            found[mode] = round(frame_rate(turn_and_draw), 1)
            print(f"{n:>11,} {mode:24} {found[mode]:8.1f} frames/s", flush=True)
        results[f"{n:,}"] = found
    from _record import record

    key = f"{GOAL[0]:,}"
    if key in results:
        met = results[key]["all points"] >= GOAL[1]
        print(f"goal of {GOAL[1]:.0f} at {key}: {'met' if met else 'missed'}")
    record(
        "viewer_frames",
        {"frames_per_second": results, "renderer": name},
        settings={
            "canvas": CANVAS,
            "frames": FRAMES,
            "context": "egl" if egl else "napari",
        },
    )
    sys.stdout.flush()
    os._exit(0)


def renderer() -> str:
    """Return what OpenGL calls the card."""
    from vispy import gloo

    return str(gloo.gl.glGetParameter(gloo.gl.GL_RENDERER))


def frame_rate(turn_and_draw: Callable[[int], None]) -> float:
    """Return frames per second over ``FRAMES`` frames, or three seconds."""
    for number in range(WARM_UP):
        turn_and_draw(number)
    start, drawn = time.perf_counter(), 0
    while drawn < FRAMES and time.perf_counter() - start < 3:
        turn_and_draw(drawn)
        drawn += 1
    return drawn / (time.perf_counter() - start)


Scene = Callable[[int], tuple[dict[str, Callable[[], None]], Callable[[int], None]]]


def _napari_scene() -> Scene:
    """Return what shows n points in a napari window."""
    from vispy import gloo

    import bench_viewer

    first = bench_viewer.Stage(10, "ours")
    first.canvas.native.setFixedSize(*CANVAS)

    def show(n: int) -> Any:
        first.viewer.layers.clear()
        first.n = n
        first.xyz, first.labels = bench_viewer.clusters(n)
        first.classes = first.labels
        first.values = np.zeros(n, np.float32)
        first.construct()
        first.show()
        first.by_category()
        layer, link = first.layer, first.layer._link

        def take(most: int | None, density: str) -> Callable[[], None]:
            def act() -> None:
                layer.set_display(frame_points=most, density=density)

            return act

        def draw(_number: int) -> None:
            first.turn()
            first.canvas._scene_canvas._draw_scene()
            gloo.gl.glFinish()

        modes = {
            "all points": take(n, "off"),
            "while moving": take(None, "off"),
            "density, all points": take(n, "colors"),
        }
        link._rest.setInterval(600_000)  # the camera never rests meanwhile
        return modes, draw

    first.canvas._scene_canvas.set_current()
    return show


def _bare_scene() -> Scene:
    """Return what shows n points in a vispy scene without a window."""
    from vispy import app, gloo, scene

    try:
        app.use_app("egl")
    except RuntimeError as error:
        print(f"There is no OpenGL without a display here: {error}")
        sys.exit(3)
    canvas = scene.SceneCanvas(size=CANVAS, show=True)
    canvas.set_current()
    view = canvas.central_widget.add_view()
    view.camera = scene.TurntableCamera(fov=0, distance=200)
    view.camera.scale_factor = 140
    frame = gloo.FrameBuffer(
        gloo.Texture2D((CANVAS[1], CANVAS[0], 4)),
        gloo.RenderBuffer((CANVAS[1], CANVAS[0])),
    )
    shown: list[Any] = []

    def show(n: int) -> Any:
        import bench_viewer
        from napari_embed.gui.points import coloring
        from napari_embed.gui.points.density import Exposure
        from napari_embed.gui.points.vispy_layer import MOVING_POINTS
        from napari_embed.gui.points.visual import PointCloud, Style

        for old in shown:
            old.parent = None
        cloud = PointCloud(parent=view.scene)
        shown[:] = [cloud]
        xyz, labels = bench_viewer.clusters(n)
        order = np.random.default_rng(0).permutation(n)
        colors = coloring.by_categories(
            labels, np.random.default_rng(2).random((50, 4))
        )
        cloud.set_positions(xyz[order])
        cloud.set_order(order)
        cloud.set_state(colors.index)
        cloud.set_table(colors.table, colors.shapes)

        def take(most: int, exposure: Exposure | None) -> Callable[[], None]:
            def act() -> None:
                cloud.set_prefix(min(most, n))
                cloud.set_style(
                    Style(
                        axes=np.eye(3, dtype=np.float32), size=1.6,
                        size_limits=(1.0, 64.0), fog=0.3, exposure=exposure,
                    )
                )  # fmt: skip

            return act

        def draw(number: int) -> None:
            view.camera.azimuth = 3.0 * number
            with frame:
                canvas.context.set_viewport(0, 0, *CANVAS)
                canvas._draw_scene()
                gloo.gl.glFinish()

        modes = {
            "all points": take(n, None),
            "while moving": take(MOVING_POINTS, None),
            "density, all points": take(n, Exposure(diameter=2.0, peak=100.0)),
        }
        return modes, draw

    return show
