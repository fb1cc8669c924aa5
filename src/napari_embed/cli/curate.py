"""Commands that find items and decide about them: query, tag, exclude, decisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_embed.cli.choosing import choosing, chosen
from napari_embed.cli.console import say
from napari_embed.cli.options import PROJECT, project_argument
from napari_embed.errors import InputError

if TYPE_CHECKING:
    from napari_embed.collection import Collection, Selection
    from napari_embed.curation.decisions import Step

__all__ = ["COMMANDS"]

_LINES = 20

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
everything = click.option("--all", "everything", is_flag=True, help="All items.")
person = click.option("--who", metavar="NAME", help="Who decides; by default you.")


def _open(project: Path, who: str | None = None, *, decide: bool) -> Collection:
    from napari_embed.collection import open_project

    return open_project(project, mode="a" if decide else "r", who=who)


def _wanted(
    collection: Collection,
    choice: dict[str, Any],
    take_all: bool,
    *,
    with_excluded: bool = False,
) -> Selection:
    """Return the chosen items; a command that decides takes all only when told."""
    found = chosen(collection, choice, everything=with_excluded)
    if found is not None:
        return found
    if not take_all:
        raise InputError(
            "Say which items: --where, --find, --ids, --named, --like, --like-image, "
            "--like-text, or --all. Nothing was changed."
        )
    return collection.everything() if with_excluded else collection


def _report(step: Step | None, found: Selection, *, as_json: bool) -> int:
    """Say what a decision changed."""
    if as_json:
        facts = {"n_chosen": len(found), "n_changed": step.n_items if step else 0}
        facts["step"] = step.label if step else None  # type: ignore[assignment]
        say(json.dumps(facts))
    elif step is not None:
        say(f"{step.label}. Undo: napari-embed decisions undo PROJECT")
    elif len(found):
        say(f"Nothing to do: it is so already for all {len(found):,} items.")
    else:
        say("No item matches; nothing was changed.")
    if found.note and not as_json:
        say(found.note)
    return 0


@click.command(
    short_help="Find items by columns, path, label, or likeness.",
    epilog="""\b
Examples:
  napari-embed query photos.embed --where "label = 'cat' AND 'blurred' IN tags"
  napari-embed query photos.embed --like 17 --count 50 --json
  napari-embed query photos.embed --like-image new.jpg --save "like new"
  napari-embed query photos.embed --columns
""",
)
@project_argument
@choosing
@click.option("--order-by", metavar="SQL", help="Column or expression to sort by.")
@click.option("--descending", is_flag=True, help="With --order-by: largest first.")
@click.option("--limit", type=click.IntRange(1), help="Show at most so many.")
@click.option("--with-excluded", is_flag=True, help="Excluded items, too.")
@click.option("--save", metavar="NAME", help="Keep the result as a selection.")
@click.option("--columns", is_flag=True, help="List the columns and stop.")
@as_json
def query(
    project: Path,
    choice: dict[str, Any],
    order_by: str | None,
    descending: bool,
    limit: int | None,
    with_excluded: bool,
    save: str | None,
    columns: bool,
    as_json: bool,
) -> int:
    """Find items of PROJECT and list them, the nearest first where there are distances.

    Several options must all hold.
    """
    with _open(project, decide=bool(save)) as collection:
        if columns:
            names: dict[str, str] = {c.name: c.kind for c in collection.query.columns()}
            say(json.dumps(names, indent=2) if as_json else _column_lines(names))
            return 0
        found = _wanted(collection, choice, True, with_excluded=with_excluded)
        if order_by:
            found = found.sorted_by(order_by, descending=descending)
        found = found if limit is None else found.head(limit)
        if save:
            found.save(save)
        if as_json:
            say(json.dumps(_facts(found), indent=2))
        else:
            _show(found, save)
    return 0


def _column_lines(names: dict[str, str]) -> str:
    width = max(map(len, names))
    return "\n".join(f"{name:<{width}}  {kind}" for name, kind in names.items())


def _facts(found: Selection) -> dict[str, Any]:
    rows = found.table(["id", "source", "label"]).to_pylist()
    facts = {"title": found.title or "all items", "note": found.note, "n": len(found)}
    return facts | {"items": rows}


def _show(found: Selection, saved: str | None) -> None:
    say(f"{len(found):,} items ({found.title or 'all items'})")
    for row in found.head(_LINES).table(["id", "source", "label"]).to_pylist():
        far = f"  {row['distance']:.4f}" if "distance" in row else ""
        label = f"  ({row['label']})" if row["label"] is not None else ""
        name = "".join(c if c.isprintable() else "?" for c in str(row["source"]))
        say(f"{row['id']:>9}{far}  {name}{label}")
    if len(found) > _LINES:
        say(f"      and {len(found) - _LINES:,} more; --json lists all")
    if found.note:
        say(found.note)
    if saved:
        say(f'Saved as the selection "{saved}".')


@click.command(
    short_help="Give items a tag, or take it away.",
    epilog="""\b
Examples:
  napari-embed tag photos.embed small --where "width < 64"
  napari-embed tag photos.embed small --ids 3-9,12 --remove
""",
)
@project_argument
@click.argument("name")
@choosing
@everything
@click.option("--remove", is_flag=True, help="Take the tag away.")
@click.option("--color", metavar="#RRGGBB", help="Colour of the tag.")
@person
@as_json
def tag(
    project: Path,
    name: str,
    choice: dict[str, Any],
    everything: bool,
    remove: bool,
    color: str | None,
    who: str | None,
    as_json: bool,
) -> int:
    """Give items of PROJECT the tag NAME; it is made if need be. Can be undone."""
    with _open(project, who, decide=True) as collection:
        found = _wanted(collection, choice, everything)
        decisions = collection.decisions
        if remove:
            step = decisions.remove_tag(name, found.ids)
        else:
            step = decisions.add_tag(name, found.ids)
        if color:
            decisions.define_tag(name, color=color)
        return _report(step, found, as_json=as_json)


@click.command(
    short_help="Correct the label of items.",
    epilog="""\b
Examples:
  napari-embed relabel photos.embed cat --ids 17
  napari-embed relabel photos.embed --take-back --where "corrected_label = 'cat'"
""",
)
@project_argument
@click.argument("label", required=False)
@choosing
@everything
@click.option("--take-back", is_flag=True, help="Take corrections back.")
@person
@as_json
def relabel(
    project: Path,
    label: str | None,
    choice: dict[str, Any],
    everything: bool,
    take_back: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Correct the label of items of PROJECT to LABEL; the source stays as it is."""
    if (label is None) != take_back:
        raise InputError("Give a label, or --take-back. Nothing was changed.")
    with _open(project, who, decide=True) as collection:
        found = _wanted(collection, choice, everything)
        step = collection.decisions.set_label(label, found.ids)
        return _report(step, found, as_json=as_json)


@click.command(
    short_help="Take items out; files stay as they are.",
    epilog="""\b
Example:
  napari-embed exclude photos.embed --where "'blurred' IN tags"
""",
)
@project_argument
@choosing
@everything
@person
@as_json
def exclude(
    project: Path,
    choice: dict[str, Any],
    everything: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Take items of PROJECT out of maps, searches and exports. Can be undone."""
    with _open(project, who, decide=True) as collection:
        found = _wanted(collection, choice, everything)
        ids = found.ids
        found = collection.items(ids)
        step = collection.decisions.exclude(ids)
        return _report(step, found, as_json=as_json)


@click.command(
    short_help="Take excluded items in again.",
    epilog="""\b
Example:
  napari-embed restore photos.embed --all
""",
)
@project_argument
@choosing
@everything
@person
@as_json
def restore(
    project: Path,
    choice: dict[str, Any],
    everything: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Take excluded items of PROJECT in again. Can be undone."""
    with _open(project, who, decide=True) as collection:
        found = _wanted(collection, choice, everything, with_excluded=True)
        step = collection.decisions.restore(found.ids)
        return _report(step, found, as_json=as_json)


@click.group(short_help="List, undo, redo, export and merge decisions.")
def decisions() -> None:
    """See what was decided, take it back, or share it."""


@decisions.command("list")
@project_argument
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@as_json
def list_decisions(project: Path, limit: int, as_json: bool) -> int:
    """List tags, counts and the last steps of PROJECT."""
    with _open(project, decide=False) as collection:
        facts = _decision_facts(collection, limit)
    if as_json:
        say(json.dumps(facts, indent=2))
        return 0
    say(f"{facts['n_excluded']:,} excluded, {facts['n_relabelled']:,} relabelled")
    for tag in facts["tags"]:
        say(f"  {tag['color']}  {tag['n_items']:>9,}  {tag['name']}")
    for saved in facts["selections"]:
        say(f"  selection  {saved['n_items']:>9,}  {saved['name']}")
    for step in facts["steps"]:
        say(f"  {step['when']}  {step['who']}  {step['label']}")
    for step in facts["undone"]:
        say(f"  undone: {step['label']}")
    return 0


def _decision_facts(collection: Collection, limit: int) -> dict[str, Any]:
    made = collection.decisions
    counts = made.tag_counts()
    done, undone = made.history(limit)
    return {
        "n_excluded": made.n_excluded,
        "n_relabelled": int((made.corrected()[0] >= 0).sum()),
        "tags": [vars(t) | {"n_items": counts[t.name]} for t in made.tags()],
        "selections": [vars(s) for s in made.selections()],
        "steps": [vars(s) for s in done],
        "undone": [vars(s) for s in undone],
    }


def _move(project: Path, as_json: bool, *, back: bool) -> int:
    with _open(project, decide=True) as collection:
        step = collection.undo() if back else collection.redo()
    word = "Undone" if back else "Done again"
    if as_json:
        say(json.dumps({"step": vars(step) if step else None}))
    elif step is None:
        say("There is nothing to undo." if back else "There is nothing to redo.")
    else:
        say(f"{word}: {step.label} ({step.who}, {step.when})")
    return 0


@decisions.command()
@project_argument
@as_json
def undo(project: Path, as_json: bool) -> int:
    """Take the last step of PROJECT back."""
    return _move(project, as_json, back=True)


@decisions.command()
@project_argument
@as_json
def redo(project: Path, as_json: bool) -> int:
    """Make the step again that was taken back last."""
    return _move(project, as_json, back=False)


@decisions.command("export")
@project_argument
@click.argument("out", type=PROJECT)
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
def export_alone(project: Path, out: Path, force: bool) -> int:
    """Write the decisions of PROJECT alone to OUT (.csv or .parquet), to be merged."""
    from napari_embed.curation.exchange import export_decisions

    with _open(project, decide=False) as collection:
        rows = export_decisions(
            collection.project, collection.decisions, out, overwrite=force
        )
    say(f"Wrote {rows:,} decisions to {out}.")
    return 0


@decisions.command()
@project_argument
@click.argument("file", type=PROJECT)
@as_json
def merge(project: Path, file: Path, as_json: bool) -> int:
    """Take over the decisions in FILE, written by `decisions export`. Can be undone."""
    from napari_embed.curation.exchange import merge_decisions

    with _open(project, decide=True) as collection:
        report = merge_decisions(collection.project, collection.decisions, file)
    if as_json:
        say(json.dumps(vars(report)))
        return 0
    say(
        f"Took over {report.n_changed:,} of {report.n_rows:,} decisions by "
        f"{', '.join(report.people) or 'nobody'}."
    )
    if report.n_conflicts:
        say(
            f"{report.n_conflicts:,} items had another label or note here; the newer "
            "one holds."
        )
    return 0


COMMANDS = (query, tag, relabel, exclude, restore, decisions)
