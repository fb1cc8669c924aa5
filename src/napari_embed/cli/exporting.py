"""The command that takes items elsewhere: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_embed.cli.console import say
from napari_embed.cli.options import PROJECT, project_argument
from napari_embed.errors import IncompleteStageError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_embed.curation.decisions import Decisions
    from napari_embed.project import Project

__all__ = ["COMMANDS"]

FORMATS = (
    "parquet", "csv", "jsonl", "paths", "coco", "fiftyone", "folder", "h5ad", "zarr",
    "report",
)  # fmt: skip
_MOST_IDS_BYTES = 1 << 30


def _ids(
    project: Project, decisions: Decisions, only: dict[str, Any]
) -> NDArray[np.int64] | None:
    """Return the chosen items in order, None for all."""
    import numpy as np

    chosen: NDArray[np.int64] | None = None
    if only["ids_file"] is not None:
        chosen = _read_ids(only["ids_file"])
    if only["selection"] is not None:
        mine = decisions.selection(only["selection"])
        chosen = mine if chosen is None else chosen[np.isin(chosen, mine)]
    keep = np.ones(project.n_items, bool)
    if only["tag"] is not None:
        keep &= decisions.tagged(only["tag"])
    if only["where"] is not None:
        keep &= _holds(project, decisions, only["where"])
    if not only["with_excluded"]:
        keep &= ~decisions.excluded()
    if chosen is None:
        return None if keep.all() else np.flatnonzero(keep)
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < project.n_items):
        raise InputError(
            f"Ids must lie in 0 to {project.n_items - 1}, found {chosen.min()} to "
            f"{chosen.max()}."
        )
    return chosen[keep[chosen]]


def _holds(project: Project, decisions: Decisions, sql: str) -> NDArray[np.bool_]:
    """Return for which items an expression holds, (n,)."""
    import numpy as np

    from napari_embed.curation.filters import Query
    from napari_embed.curation.query import QueryEngine

    names = project.projection_names()
    found = np.zeros(project.n_items, bool)
    with QueryEngine(
        project, decisions, projection=names[-1] if names else None
    ) as engine:
        found[engine.run(Query(sql=sql)).ids] = True
    return found


def _read_ids(path: Path) -> NDArray[np.int64]:
    """Return the whole numbers of a file, one a line; "-" is the standard input."""
    import numpy as np

    with click.open_file(str(path), encoding="utf-8", errors="replace") as file:
        text = file.read(_MOST_IDS_BYTES)
    try:
        return np.array([int(word) for word in text.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} must hold ids, one whole number a line: {str(error)[:100]}."
        ) from error


def _projections(project: Project, first: str | None) -> list[str] | None:
    """Return the maps, the wanted one first."""
    if first is None:
        return None
    names = project.projection_names()
    if first not in names:
        if not names:
            raise IncompleteStageError(
                "This project has no map yet. Make one: "
                f"napari-embed project {project.path}"
            )
        raise InputError(
            f"There is no map {first!r}. Maps of this project: {', '.join(names)}."
        )
    return [first, *(name for name in reversed(names) if name != first)]


@click.command(
    short_help="Write items as a table, data set, folder or report.",
    epilog="""\b
Examples:
  napari-embed export photos.embed photos.csv
  napari-embed export photos.embed photos.parquet --projection tsne-2d
  napari-embed export photos.embed clean --format folder --links
  napari-embed export photos.embed train.json --format coco
  napari-embed export photos.embed cells.h5ad
  napari-embed export photos.embed large.csv --where "width > 500"
""",
)
@project_argument
@click.argument("out", type=PROJECT)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="By default what the ending of OUT says.",
)
@click.option("--projection", metavar="NAME", help="Main map; by default the newest.")
@click.option("--force", is_flag=True, help="Replace the file OUT if it is there.")
@click.option(
    "--ids", "ids_file", type=PROJECT, help="File with ids, one a line; - reads them."
)
@click.option("--selection", metavar="NAME", help="Only a saved selection, in order.")
@click.option("--tag", metavar="NAME", help="Only items with this tag.")
@click.option(
    "--where", metavar="SQL", help="Only items for which an expression holds."
)
@click.option("--with-excluded", is_flag=True, help="Also excluded items.")
@click.option(
    "--relative-paths", is_flag=True, help="Image paths as the source lists them."
)
@click.option(
    "--all-columns",
    is_flag=True,
    help="CSV: also the id, tags and every other column. Other tables have them.",
)
@click.option(
    "--raw-text",
    is_flag=True,
    help="CSV: do not put a ' before text that a spreadsheet would run as a formula.",
)
@click.option("--links", is_flag=True, help="Folder: links to the images, no copies.")
@click.option("--flat", is_flag=True, help="Folder: no folder per label.")
@click.option("--title", help="Of a report.")
def export(
    project: Path,
    out: Path,
    kind: str | None,
    projection: str | None,
    force: bool,
    relative_paths: bool,
    all_columns: bool,
    raw_text: bool,
    links: bool,
    flat: bool,
    title: str | None,
    **only: Any,
) -> int:
    """Write items of PROJECT to OUT; nothing is written inside the project.

    Formats: parquet, csv, jsonl, paths (.txt), coco and fiftyone (.json), folder (of
    pictures), h5ad and zarr (AnnData), report (.html). Excluded items are left out,
    corrected labels take the place of the given ones.
    """
    from napari_embed.curation.decisions import Decisions
    from napari_embed.curation.export import export_items
    from napari_embed.project import Project

    options: dict[str, Any] = {
        name: value
        for name, value, given in (
            ("all_columns", True, all_columns),
            ("guard_text", False, raw_text),
            ("how", "link", links),
            ("by_label", False, flat),
            ("title", title, title is not None),
        )
        if given
    }
    with (
        Project.open(project) as opened,
        Decisions.open(opened, mode="r") as decisions,
    ):
        rows = export_items(
            opened, out, format=kind, ids=_ids(opened, decisions, only),
            projections=_projections(opened, projection), decisions=decisions,
            overwrite=force, absolute_paths=not relative_paths, **options,
        )  # fmt: skip
    say(f"Wrote {rows:,} items to {out}.")
    return 0


COMMANDS = (export,)
