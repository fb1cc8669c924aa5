"""Commands of the manifest: what the command palette and the menus offer.

Each acts on the current viewer and opens the panels first where it needs them.
"""

from __future__ import annotations

from collections.abc import Callable

import napari

from napari_embed.errors import InputError
from napari_embed.gui.display import DENSITY_MODES
from napari_embed.gui.docks.all_panels import AllPanels, open_all_panels
from napari_embed.gui.docks.gallery import open_gallery as show_gallery
from napari_embed.gui.docks.keys import show_keys
from napari_embed.gui.session import ViewerSession, session_for

__all__ = [
    "clear_selection", "compute_cancel", "compute_pause", "compute_run_all", "density",
    "exclude_selected", "find_alike", "fit_selection", "front_only", "hide_selected",
    "include_all", "invert_selection", "isolate_selected", "keys", "marker_per_class",
    "new_objects", "next_page", "open_all", "open_export", "open_find", "open_folder",
    "open_gallery", "open_objects", "open_project", "open_sample", "other_dimensions",
    "previous_page", "redo", "redo_decision", "review_selected", "show_all",
    "tag_again", "toggle_hover",
    "tool_box", "tool_lasso", "tool_pan", "undo", "undo_decision",
]  # fmt: skip


def _session() -> ViewerSession:
    viewer = napari.current_viewer()
    if viewer is None:
        raise InputError("There is no napari viewer. Open one first.")
    return session_for(viewer)


def _panels(tab: str) -> AllPanels:
    panels = open_all_panels(_session().viewer)
    panels.turn_to(tab)
    return panels


def open_all() -> None:
    """Open the dock with all panels."""
    open_all_panels(_session().viewer)


def open_gallery() -> None:
    """Open the gallery of images, or turn to it."""
    show_gallery(_session().viewer).view.setFocus()


def open_objects() -> None:
    """Open the picture that objects lie in."""
    _session().controller.panel_wanted.emit("objects")


def new_objects() -> None:
    """Make a project of the objects of a labels image."""
    _panels("project").project.new_objects()


def toggle_hover() -> None:
    """Show the picture of the point under the cursor, or do not."""
    session = _session()
    session.show_hover(not session.hover_shown)


def open_folder() -> None:
    """Choose a folder of images."""
    _panels("project").project.choose_folder()


def open_project() -> None:
    """Choose a project."""
    _panels("project").project.choose_project()


def open_sample() -> None:
    """Open the bundled sample as a project."""
    _panels("project").controller.open_sample()


def compute_run_all() -> None:
    """Embed, find neighbours and lay out a map."""
    _panels("compute").controller.compute.run_all()


def compute_pause() -> None:
    """Pause the running job, or go on with it."""
    compute = _session().controller.compute
    paused = any(run.status == "paused" for run in compute.queue.runs.values())
    (compute.resume if paused else compute.pause)()


def compute_cancel() -> None:
    """Cancel the running job; finished work is kept."""
    _session().controller.compute.cancel()


def tool_pan() -> None:
    """Drag turns and moves the view."""
    _session().controller.set_tool("pan")


def tool_box() -> None:
    """Drag a rectangle around points."""
    _session().controller.set_tool("box")


def tool_lasso() -> None:
    """Drag around points."""
    _session().controller.set_tool("lasso")


def other_dimensions() -> None:
    """Turn from the 2D to the 3D map, or back."""
    controller = _session().controller
    controller.show_dimensions(5 - controller.state.ndisplay)


def density() -> None:
    """Take the next way to show density: off, mixed colours, heat."""
    controller = _session().controller
    now = DENSITY_MODES.index(controller.state.display.density)
    controller.set_display(density=DENSITY_MODES[(now + 1) % len(DENSITY_MODES)])


def marker_per_class() -> None:
    """Give each class a marker of its own, or all the same again."""
    controller = _session().controller
    controller.set_display(shapes=not controller.state.display.shapes)


def front_only() -> None:
    """Let box and lasso leave out points that others hide, or select through again."""
    controller = _session().controller
    controller.set_display(front_only=not controller.state.display.front_only)


def invert_selection() -> None:
    """Select what is not selected."""
    _session().controller.invert_selection()


def clear_selection() -> None:
    """Select nothing."""
    _session().controller.clear_selection()


def hide_selected() -> None:
    """Hide the selected points."""
    _session().controller.hide_selected()


def isolate_selected() -> None:
    """Show the selected points only."""
    _session().controller.isolate_selected()


def show_all() -> None:
    """Show every point and class."""
    _session().controller.show_all()


def exclude_selected() -> None:
    """Take the selected items out of the map; nothing is deleted."""
    _session().controller.exclude_selected()


def include_all() -> None:
    """Take excluded items back in."""
    _session().controller.include_all()


def find_alike() -> None:
    """Look for the items most like the selected ones."""
    _session().searches.alike()


def open_find() -> None:
    """Open the panel of searches and problems."""
    _panels("find").find.text.setFocus()


def open_export() -> None:
    """Open the panel that writes items to files."""
    _panels("export").export.path.setFocus()


def review_selected() -> None:
    """Go through the selected items by keys."""
    _session().review_selected()


def tag_again() -> None:
    """Give the selected items the tag that was used last."""
    _session().controller.tag_again()


def undo_decision() -> None:
    """Take the last decision back, also one of an earlier day."""
    _session().controller.undo_decision()


def redo_decision() -> None:
    """Make the decision that was taken back again."""
    _session().controller.redo_decision()


def undo() -> None:
    """Take back what was selected, hidden, excluded or decided last."""
    _session().controller.undo()


def redo() -> None:
    """Make what was taken back again."""
    _session().controller.redo()


def fit_selection() -> None:
    """Look at the selected points, or at all."""
    _session().controller.fit_selection()


def _turn(step: Callable[[object], None]) -> None:
    link = _session().map.link
    if link is not None:
        step(link)


def next_page() -> None:
    """Show the next page of images."""
    _turn(lambda link: link.next())  # type: ignore[attr-defined]


def previous_page() -> None:
    """Show the previous page of images."""
    _turn(lambda link: link.prev())  # type: ignore[attr-defined]


def keys() -> None:
    """Show the list of keys."""
    show_keys(open_all_panels(_session().viewer))
