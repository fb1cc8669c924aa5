"""Jobs on the source of a project: look for changes, follow it to another place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_embed.engine.embedding import import_positions
from napari_embed.project.rescan import look_again, move_source

if TYPE_CHECKING:
    from typing import Any

    from napari_embed.engine.progress import JobControl
    from napari_embed.project import Project

__all__ = ["run_reroot", "run_rescan"]


def run_rescan(project: Project, control: JobControl) -> dict[str, Any]:
    """Find files that were added, changed or lost since the items were listed.

    Only what they touch is to be computed afterwards. Positions that come with the
    items are taken over at once.

    Raises
    ------
    InputError
        If the source is not where it was, or its items are no files.
    JobCancelled
        If the user asked to stop; nothing is changed then.
    """
    found = look_again(project, progress=control.reporter("items", unit="items"))
    import_positions(project)
    return found.to_dict()


def run_reroot(
    project: Project, place: str | Path, control: JobControl
) -> dict[str, Any]:
    """Follow the source to another place; see `move_source`."""
    sampled = move_source(project, place, progress=control.reporter("items"))
    return {"found": sampled, "source": project.spec.to_dict()}
