"""What napari's File > Open and Open Sample give: projects and the bundled images."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import IncompleteStageError
from napari_embed.gui.opening import is_project

__all__ = ["get_reader", "open_sample_project", "sample_images", "sample_stack"]

LayerData = tuple[Any, dict[str, Any], str]
FOR_A_MOMENT = "napari-embed sample"


def sample_images() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Return the bundled images uint8 (4000, 28, 28) and their class names (4000,)."""
    source = resources.files("napari_embed.data").joinpath("fashion_sample.npz")
    with (
        resources.as_file(source) as path,
        np.load(path, allow_pickle=False) as data,
    ):
        return data["images"], data["label_names"][data["labels"]]


def sample_stack() -> list[LayerData]:
    """Return the sample as an image stack, for napari's *Open Sample*."""
    images, labels = sample_images()
    meta = {"name": "Fashion images", "metadata": {"labels": labels}}
    return [(images, meta, "image")]


def _window_viewer() -> Any | None:
    """Return the current viewer if it has a window to put panels in."""
    viewer = napari.current_viewer()
    return viewer if getattr(viewer, "window", None) is not None else None


def open_sample_project() -> list[LayerData]:
    """Open the sample's project in the panels, for napari's *Open Sample*.

    Without a window there is nowhere to show a project; the images come as a stack.
    """
    viewer = _window_viewer()
    if viewer is None:
        return sample_stack()
    from qtpy.QtCore import QTimer

    from napari_embed.gui.docks.all_panels import open_all_panels

    def tidy() -> None:
        if FOR_A_MOMENT in viewer.layers:
            viewer.layers.remove(FOR_A_MOMENT)

    open_all_panels(viewer).controller.open_sample()
    # napari refuses a sample without any layer; this one goes at once, the project's
    # own layers come with its first map.
    QTimer.singleShot(0, tidy)
    empty = np.zeros((0, 3), dtype=np.float32)
    return [(empty, {"name": FOR_A_MOMENT}, "points")]


def get_reader(path: str | list[str]) -> Callable[[Any], list[Any]] | None:
    """Return a reader for project folders (``.embed``), None for anything else."""
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    return _read_project if is_project(Path(path)) else None


def _read_project(path: str | list[str]) -> list[Any]:
    """Open a project in the panels; without a window, return its first map as points.

    Raises
    ------
    IncompleteStageError
        If there is neither a window nor a map.
    """
    place = Path(path[0] if isinstance(path, list) else path)
    viewer = _window_viewer()
    if viewer is not None:
        from napari_embed.gui.docks.all_panels import open_all_panels

        open_all_panels(viewer).controller.open_path(place)
        return [(None,)]
    from napari_embed.project import Project

    with Project.open(place, mode="r") as project:
        names = project.projection_names()
        if not names:
            raise IncompleteStageError(
                f"{place} has no map yet. Compute one with `napari-embed project "
                f"{place}`, or open it in a napari window."
            )
        positions = project.read_projection(names[0]).positions
    return [(positions, {"name": names[0], "size": 0.5}, "points")]
