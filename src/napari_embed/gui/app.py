"""Open napari on a project, with all panels; or save a picture of that and end.

Qt ends the whole program when there is no display, so a small process tries first.
"""

from __future__ import annotations

import argparse
import gc
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import EmbedError, InputError

if TYPE_CHECKING:
    from napari_embed.gui.session import ViewerSession

__all__ = ["dense_group", "main", "spare_the_window", "window_problem"]

logger = logging.getLogger(__name__)
PROBE_S = 60
OPEN_S = 120
DRAW_S = 30
SELECT_DEFAULT = 48
_PROBE = """
import sys
try:
    import napari, qtpy
    from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
    from qtpy.QtWidgets import QApplication
except Exception as error:
    sys.exit(f"binding: {error}")
app = QApplication([])
surface = QOffscreenSurface()
surface.create()
context = QOpenGLContext()
if not (context.create() and context.makeCurrent(surface)):
    sys.exit("gl")
"""


def window_problem() -> str:
    """Return one sentence why no napari window can be opened here, or ""."""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "Qt did not start within a minute. Is the display reachable?"
    if probe.returncode == 0:
        return ""
    words = probe.stderr.strip().splitlines()
    last = words[-1] if words else f"exit code {probe.returncode}"
    if last == "gl":
        return (
            "OpenGL is missing, and napari draws with it. Install a driver (on Debian "
            "or Ubuntu: libgl1 libegl1 libgl1-mesa-dri), or run under `xvfb-run -a`."
        )
    if last.startswith("binding: "):
        return (
            f"napari cannot be loaded ({last.removeprefix('binding: ')}). Install the "
            'window with `pip install "napari-embed[all]"`.'
        )
    reason = next((w for w in words if "display" in w or "xcb" in w), last)
    return (
        f"No window can be opened here ({reason.strip()}). On a machine without a "
        "display run it under `xvfb-run -a`; if a library is named, install that."
    )


def dense_group(
    positions: NDArray[np.float32], codes: NDArray[np.int32] | None, count: int
) -> NDArray[np.int64]:
    """Return the ids of ``count`` points that lie close together.

    They are the nearest to the middle of the class whose points are closest together
    (of all points when there are no classes).
    """
    placed = np.flatnonzero(np.isfinite(positions).all(axis=1))
    where = positions[placed]
    best, spread = np.median(where, axis=0), np.inf
    for code in np.unique(codes[placed]) if codes is not None and codes.size else ():
        members = where[codes[placed] == code]
        if code < 0 or len(members) < 10:
            continue
        middle = np.median(members, axis=0)
        distance = float(np.median(np.linalg.norm(members - middle, axis=1)))
        if distance < spread:
            best, spread = middle, distance
    order = np.argsort(np.linalg.norm(where - best, axis=1), kind="stable")
    return np.sort(placed[order[:count]])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m napari_embed.gui",
        description="Open napari on a project of napari-embed.",
    )
    parser.add_argument(
        "project",
        nargs="?",
        help="a project (.embed), a folder of images, an array or a table",
    )
    parser.add_argument("--projection", metavar="NAME", help="which map to show")
    parser.add_argument(
        "--screenshot",
        metavar="FILE",
        help="select a group of points, save the window as a PNG and end",
    )
    parser.add_argument(
        "--select",
        type=int,
        default=SELECT_DEFAULT,
        metavar="N",
        help="how many points the picture has selected (default: %(default)s)",
    )
    parser.add_argument("--theme", choices=("dark", "light"), help="colours of napari")
    parser.add_argument(
        "--size", default="1366x768", metavar="WxH", help="size of the window"
    )
    return parser.parse_args(argv)


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InputError(f"--size must look like 1366x768, got {text!r}.") from None
    return width, height


def main(argv: Sequence[str] | None = None) -> int:
    """Run the application; return the exit code."""
    wish = _arguments(argv)
    problem = window_problem()
    if not problem:
        try:
            return _run(wish)
        except EmbedError as error:
            problem = str(error)
    sys.stderr.write(problem + "\n")
    return 1


def _run(wish: argparse.Namespace) -> int:
    width, height = _size(wish.size)
    if wish.project and not Path(wish.project).expanduser().exists():
        raise InputError(f"There is no {wish.project}. Give a project or its images.")
    if wish.screenshot and not wish.project:
        raise InputError("--screenshot needs a project to show.")
    import napari

    from napari_embed.gui.docks.all_panels import open_all_panels
    from napari_embed.gui.session import close_session

    viewer = napari.Viewer(show=False)
    if wish.theme:
        viewer.theme = wish.theme
    panels = open_all_panels(viewer)
    panels.controller.remembers = not wish.screenshot
    viewer.window.show()
    # After showing: napari restores the size of the last session then.
    viewer.window.resize(width, height)
    spare_the_window()
    if wish.project:
        panels.controller.open_path(wish.project, projection=wish.projection)
    if not wish.screenshot:
        napari.run()
        return 0
    try:
        _save_picture(viewer, panels.session, Path(wish.screenshot), wish.select)
    finally:
        close_session(viewer)
        viewer.close()
    return 0


def spare_the_window() -> None:
    """Keep the garbage collector from what lives as long as the program.

    Looking through modules, viewer and panels takes it 0.15 s each time, in which the
    window stands still; napari calls it whenever a layer is removed.
    """
    gc.collect()
    gc.freeze()


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Let the window work until ``condition`` or the time is over."""
    from qtpy.QtCore import QCoreApplication, QEventLoop

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        if condition():
            return True
        time.sleep(0.005)
    return False


def _save_picture(viewer: Any, session: ViewerSession, file: Path, count: int) -> None:
    controller = session.controller

    def settled() -> bool:
        state = controller.state
        colored = state.color_kind != "none" or controller.colors_settled
        failed = state.message is not None and state.message.level == "error"
        return failed or (state.projection is not None and colored)

    arrived = _wait(settled, OPEN_S)
    state = controller.state
    if state.projection is None:
        message = state.message.text if state.message else "it has no map yet"
        reason = message if arrived else "it did not open in time"
        raise InputError(f"No picture of the project: {reason}")
    if count > 0 and session.map.layer is not None:
        coloring = controller.coloring
        codes = coloring.codes if coloring is not None else None
        controller.select(dense_group(session.map.layer.data, codes, count))
        link = session.map.link
        if link is not None:
            _wait(lambda: len(link.shown_ids) > 0, DRAW_S)
            session.map.fit()
    # One more second for what is drawn a moment after the camera rests.
    _wait(lambda: False, 1.0)
    if session.map.layer is not None:
        session.map.layer.set_hovered(-1)  # the pointer may stand anywhere
        _wait(lambda: False, 0.2)
    try:
        viewer.window.screenshot(str(file), canvas_only=False, flash=False)
    except OSError as error:
        raise InputError(f"The picture cannot be saved: {error}") from error
