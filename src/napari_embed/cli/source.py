"""Commands on the source of a project: rescan, reroot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_embed.cli.console import Engine, say
from napari_embed.cli.options import PROJECT, project_argument

__all__ = ["COMMANDS"]


def _changes(found: dict[str, Any]) -> str:
    """Return "3 added, 1 changed", or that there are none."""
    kinds = ("added", "changed", "missing", "returned")
    words = [f"{found[kind]:,} {kind}" for kind in kinds if found[kind]]
    return ", ".join(words) or "no changes"


@click.command(
    short_help="Find added, changed and missing files.",
    epilog="""\b
Examples:
  napari-embed rescan photos.embed
  napari-embed rescan photos.embed && napari-embed embed photos.embed

Items keep their ids: new ones come at the end, missing ones stay and are marked.
""",
)
@project_argument
def rescan(project: Path) -> int:
    """Look at the source of PROJECT again and take over what has changed.

    Afterwards `napari-embed embed` computes only the chunks that hold new or changed
    images. Maps stay to be seen and count as out of date.
    """
    with Engine() as engine:
        found = engine.run("rescan", path=str(project.absolute()))
    say(f"{project} has {found['n_items']:,} items: {_changes(found)}.")
    if found["missing_in_all"]:
        say(
            f"{found['missing_in_all']:,} files are not there; their vectors are kept. "
            f"Which: napari-embed status {project} --errors"
        )
    if found["chunks"]:
        say(
            f"{found['chunks']:,} of {found['n_chunks']:,} chunks have to be computed: "
            f"napari-embed embed {project}"
        )
    return 0


@click.command(
    short_help="Say where the images are now.",
    epilog="""\b
Examples:
  napari-embed reroot photos.embed /new/disk/photos
  napari-embed reroot cells.embed /new/disk/cells.csv     the table has moved
  napari-embed reroot cells.embed /new/disk/images        its images have moved
""",
)
@project_argument
@click.argument("place", type=PROJECT)
def reroot(project: Path, place: Path) -> int:
    """Tell PROJECT that its source is at PLACE now; nothing is computed again.

    A sample of the images must be there with the size they had.
    """
    with Engine() as engine:
        result = engine.run(
            "reroot", path=str(project.absolute()), place=str(place.absolute())
        )
    say(
        f"{project} reads its images from {place} now ({result['found']:,} of a sample "
        "found)."
    )
    return 0


COMMANDS = (rescan, reroot)
