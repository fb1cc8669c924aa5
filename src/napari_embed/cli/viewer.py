"""Start napari in a process of its own; the command line never loads Qt."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from napari_embed.cli.console import say
from napari_embed.errors import InputError, MissingDependencyError

__all__ = ["demo_view", "has_display", "open_viewer"]

BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
PICTURE = "demo.png"
SCREEN = "-screen 0 1400x900x24"


def has_display() -> bool:
    """Return whether windows can be shown."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _require_viewer() -> None:
    """Say what to install if napari or a Qt binding is missing.

    Raises
    ------
    MissingDependencyError
        With the line to paste.
    """
    missing = [] if importlib.util.find_spec("napari") else ["napari"]
    if not any(importlib.util.find_spec(name) for name in BINDINGS):
        missing.append("a Qt binding")
    if missing:
        raise MissingDependencyError(
            f"The window needs {' and '.join(missing)}. Install it with\n"
            '    pip install "napari-embed[all]"'
        )


def _command(project: Path, projection: str | None) -> list[str]:
    command = [sys.executable, "-m", "napari_embed.gui", str(project)]
    return [*command, "--projection", projection] if projection else command


def open_viewer(project: Path, *, projection: str | None = None) -> int:
    """Open napari on a project, wait until it is closed, return its exit code.

    Raises
    ------
    MissingDependencyError
        If napari is not installed.
    InputError
        If there is no display.
    """
    _require_viewer()
    if not has_display():
        raise InputError(
            "There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set). "
            "The project is complete; open it on a machine with one, or save a "
            f"picture:\n    xvfb-run -a {sys.executable} -m napari_embed.gui "
            f"{project} --screenshot map.png"
        )
    say(f"Opening napari on {project}.")
    return subprocess.run(_command(project, projection), check=False).returncode


def demo_view(project: Path, *, projection: str) -> int:
    """Open napari; without a display save a picture of it in this folder.

    Raises
    ------
    MissingDependencyError
        If napari or, without a display, xvfb-run is not installed.
    """
    if has_display():
        return open_viewer(project, projection=projection)
    _require_viewer()
    xvfb = shutil.which("xvfb-run")
    if xvfb is None:
        raise MissingDependencyError(
            f"There is no display here, and no virtual one. The project is {project}. "
            "For a picture of it install Xvfb and run the demo again:\n"
            "    sudo apt-get install xvfb xauth libgl1 libegl1 libgl1-mesa-dri"
        )
    picture = Path(PICTURE).absolute()
    say(f"There is no display here; saving a picture of the window as {picture} ...")
    command = [xvfb, "-a", "-s", SCREEN, *_command(project, projection)]
    code = subprocess.run(
        [*command, "--screenshot", str(picture)], check=False
    ).returncode
    if code == 0 and not picture.is_file():
        code = 1
    say(f"Saved {picture}." if code == 0 else "The picture could not be made.")
    return code
