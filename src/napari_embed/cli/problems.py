"""Commands that find problems: duplicates, outliers, mislabels, quality and so on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from napari_embed.cli.console import Engine, say
from napari_embed.cli.options import PROJECT, project_argument, seed

if TYPE_CHECKING:
    from napari_embed.curation.problems import Finding
    from napari_embed.project import Project

__all__ = ["COMMANDS"]

LINES_SHOWN = 50

Command = TypeVar("Command", bound=Callable[..., Any])

EMBEDDINGS = click.option(
    "--embeddings", metavar="NAME", help="Which; by default the newest."
)


def listing(command: Command) -> Command:
    """Add what all searches have: PROJECT, --json, --limit, --tag, --report."""
    for option in (
        click.option(
            "--with-excluded", is_flag=True, help="Also look at excluded items."
        ),
        click.option("--report", type=PROJECT, help="Write an HTML report here, too."),
        click.option(
            "--tag",
            metavar="NAME",
            help="Tag what was found (of copies: the extra ones).",
        ),
        click.option(
            "--limit", type=click.IntRange(0), help="List at most so many items."
        ),
        click.option("--json", "as_json", is_flag=True, help="For programs."),
    ):
        command = option(command)
    return project_argument(command)


def _search(
    path: Path,
    kind: str,
    options: dict[str, Any],
    *,
    as_json: bool,
    limit: int | None,
    tag: str | None,
    report: Path | None,
    with_excluded: bool,
    measure: bool = False,
) -> int:
    """Run one search and show, tag and report what it finds."""
    from napari_embed.curation.decisions import Decisions
    from napari_embed.curation.problems import find
    from napari_embed.project import Project

    if measure:
        _measure(path, quiet=as_json)
    mode = "a" if tag else "r"
    with (
        Project.open(path) as project,
        Decisions.open(project, mode=mode) as decisions,  # type: ignore[arg-type]
    ):
        if not with_excluded:
            options["within"] = ~decisions.excluded()
        found = find(project, kind, **options)
        if limit is not None:
            found = found.head(limit)
        if tag and len(found):
            extra = found.removable() if kind.endswith("duplicates") else found.ids
            decisions.add_tag(tag, extra)
        if report is not None and len(found):
            from napari_embed.curation.export import export_items

            export_items(project, report, format="report", ids=found.ids, finding=found)
        if as_json:
            say(json.dumps(_facts(project, found), indent=2))
            return 0
        _show(project, found)
    if tag and len(found):
        say(f"Tagged {extra.size:,} items {tag!r}.")
    if report is not None and len(found):
        say(f"Wrote {report}.")
    return 0


def _measure(path: Path, *, quiet: bool, again: bool = False) -> None:
    """Measure the images unless that is done."""
    from napari_embed.curation.problems import is_inspected
    from napari_embed.project import Project

    with Project.open(path) as project:
        if is_inspected(project) and not again:
            return
    with Engine(quiet=quiet) as engine:
        result = engine.run("inspect", path=str(path.absolute()), again=again)
    if not quiet and result["n_failed"]:
        say(f"{result['n_failed']:,} images could not be read and are left out.")


def _rows(project: Project, found: Finding) -> list[dict[str, Any]]:
    """Return one dictionary per item."""
    items = project.items(["source", "label"], rows=found.ids)
    rows: list[dict[str, Any]] = found.table().to_pylist()
    sources, labels = items["source"].to_pylist(), items["label"].to_pylist()
    for row, source, label in zip(rows, sources, labels, strict=True):
        row["source"], row["label"] = source, label
        group = row["group"]
        row["group_name"] = None if group is None else found.group_names[group] or None
    return rows


def _facts(project: Project, found: Finding) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "title": found.title,
        "note": found.note,
        "score": found.score_name,
        "n_items": len(found),
        "n_groups": found.n_groups,
        "items": _rows(project, found),
    }


def _show(project: Project, found: Finding) -> None:
    say(found.title)
    if found.note:
        say(found.note)
    if not len(found):
        return
    say(f"{'item':>9}  {'score':>8}  (score: {found.score_name})")
    group = None
    for row in _rows(project, found.head(LINES_SHOWN)):
        if row["group"] is not None and row["group"] != group:
            group = row["group"]
            say(f"  {_plain(row['group_name'] or f'group {group + 1}')}")
        words = [str(row["source"])]
        words += [f"label {row['label']}"] if row["label"] is not None else []
        if row["detail"] is not None and row["detail"] != row["group_name"]:
            words.append(f"perhaps {row['detail']}")
        words += ["(keep)"] if row["keep"] else []
        say(f"{row['id']:>9}  {row['score']:>8.3g}  {_plain('  '.join(words))}")
    left = len(found) - LINES_SHOWN
    if left > 0:
        say(f"and {left:,} more; --json lists all, --report makes a page with pictures")


def _plain(text: str) -> str:
    """Return text from data on one line."""
    return "".join(c if c.isprintable() else "?" for c in text)


@click.command(
    short_help="Find copies of the same picture.",
    epilog="""\b
Examples:
  napari-embed duplicates photos.embed                   equal to the bit
  napari-embed duplicates photos.embed --near            nearly equal
  napari-embed duplicates photos.embed --near --distance 0.01 --tag copy
""",
)
@listing
@click.option("--near", is_flag=True, help="Nearly equal; needs neighbors.")
@click.option(
    "--distance",
    type=click.FloatRange(0),
    help="With --near: how different copies may be, 0 to 0.05 (default 0.005); without "
    "pictures the distance of their vectors, by default half of what is typical.",
)
@EMBEDDINGS
def duplicates(
    project: Path,
    near: bool,
    distance: float | None,
    embeddings: str | None,
    **shown: Any,
) -> int:
    """Find groups of equal, or nearly equal, images in PROJECT.

    In each group the largest image, then the first by path, is marked to keep. Images
    are only listed; nothing is deleted.
    """
    if not near:
        if distance is not None or embeddings is not None:
            raise click.UsageError("--distance and --embeddings need --near.")
        return _search(project, "duplicates", {}, measure=True, **shown)
    options = {"embeddings": embeddings, "threshold": distance}
    return _search(project, "near-duplicates", options, **shown)


@click.command(short_help="Find items far from everything else.")
@listing
@click.option(
    "--neighbors",
    "n_neighbors",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Neighbors whose distance counts.",
)
@EMBEDDINGS
def outliers(
    project: Path,
    n_neighbors: int,
    embeddings: str | None,
    limit: int | None,
    **shown: Any,
) -> int:
    """List the items of PROJECT that lie farthest from their neighbors.

    With --limit the farthest so many, else those beyond 3.5 robust standard deviations.
    """
    options = {"n_neighbors": n_neighbors, "embeddings": embeddings, "limit": limit}
    return _search(project, "outliers", options, limit=None, **shown)


@click.command(short_help="Find labels that are probably wrong.")
@listing
@click.option(
    "--column", default="label", show_default=True, help="Whose values to check."
)
@click.option(
    "--neighbors",
    "n_neighbors",
    type=click.IntRange(2),
    default=30,
    show_default=True,
    help="Neighbors that vote.",
)
@EMBEDDINGS
def mislabels(
    project: Path,
    column: str,
    n_neighbors: int,
    embeddings: str | None,
    **shown: Any,
) -> int:
    """List the items of PROJECT whose neighbors have another label, surest first."""
    options = {
        "column": column, "n_neighbors": n_neighbors, "embeddings": embeddings,
    }  # fmt: skip
    return _search(project, "mislabels", options, **shown)


@click.command(
    short_help="Find dark, bright, blurred, empty or odd images.",
    epilog="""\b
Examples:
  napari-embed quality photos.embed
  napari-embed quality photos.embed --issue blurred --issue dark --report bad.html
""",
)
@listing
@click.option(
    "--issue",
    "issues",
    multiple=True,
    help="Only this one: dark, bright, blurred, low information, odd size, odd aspect.",
)
@click.option("--again", is_flag=True, help="Measure anew: files have changed.")
def quality(project: Path, issues: tuple[str, ...], again: bool, **shown: Any) -> int:
    """List the images of PROJECT that are of poor or unusual quality.

    Images are measured the first time, which reads each once; it can be interrupted.
    """
    if again:
        _measure(project, quiet=shown["as_json"], again=True)
    options = {"issues": issues} if issues else {}
    return _search(project, "quality", options, measure=True, **shown)


@click.command(short_help="Find clusters, named by their commonest label.")
@listing
@click.option(
    "--space",
    type=click.Choice(["map", "neighbors"]),
    default="map",
    show_default=True,
    help="What lies together on the map, or among the neighbors.",
)
@click.option("--projection", metavar="NAME", help="Which map; by default the newest.")
@click.option(
    "--min-size",
    type=click.IntRange(2),
    help="Items a cluster needs; by default a thousandth of all, at least 10.",
)
@EMBEDDINGS
def clusters(
    project: Path,
    space: str,
    projection: str | None,
    min_size: int | None,
    embeddings: str | None,
    **shown: Any,
) -> int:
    """Find the clusters of PROJECT with HDBSCAN, the largest first."""
    options = {
        "space": space, "projection": projection, "min_size": min_size,
        "embeddings": embeddings,
    }  # fmt: skip
    return _search(project, "clusters", options, **shown)


@click.command(
    short_help="Choose items: what to label next, or as many of each class.",
    epilog="""\b
Examples:
  napari-embed sample photos.embed 200                     diverse and typical
  napari-embed sample photos.embed 200 --how spread        rare ones, too
  napari-embed sample photos.embed 1000 --how balanced     as many of each label
""",
)
@listing
@click.argument("count", type=click.IntRange(1))
@click.option(
    "--how",
    type=click.Choice(["typical", "spread", "balanced"]),
    default="typical",
    show_default=True,
    help="typical, spread: what to label next; balanced: as many of each class.",
)
@click.option(
    "--column",
    default="label",
    show_default=True,
    help="Classes for balanced; for the others, items that have a value are known.",
)
@EMBEDDINGS
@seed
def sample(
    project: Path,
    count: int,
    how: str,
    column: str,
    embeddings: str | None,
    seed: int,
    **shown: Any,
) -> int:
    """Choose COUNT items of PROJECT.

    If every item has a label, typical and spread choose among all of them.
    """
    options: dict[str, Any] = {"count": count, "random_state": seed}
    if how == "balanced":
        return _search(project, "balanced", options | {"column": column}, **shown)
    options |= {
        "strategy": how, "embeddings": embeddings,
        "labelled": _labelled(project, column),
    }  # fmt: skip
    return _search(project, "label-next", options, **shown)


def _labelled(path: Path, column: str) -> Any:
    """Return which items have a label, or None when all or none have one."""
    from napari_embed.project import Project

    with Project.open(path) as project:
        has = project.categories(column)[0] >= 0
    return None if has.all() or not has.any() else has


COMMANDS = (duplicates, outliers, mislabels, quality, clusters, sample)
