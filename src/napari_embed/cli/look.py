"""Commands that look: view, status, encoders, verify."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_embed.cli.console import Engine, duration, say
from napari_embed.cli.options import project_argument
from napari_embed.cli.viewer import open_viewer

if TYPE_CHECKING:
    from napari_embed.project import Project

__all__ = ["COMMANDS"]

ERRORS_SHOWN = 20
STATE_WORDS = {
    "sealed": "done",
    "partial": "partly done",
    "stale": "out of date",
    "missing": "not done",
}


@click.command(short_help="Open napari on a project.")
@project_argument
@click.option("--projection", metavar="NAME", help="Which map to show first.")
def view(project: Path, projection: str | None) -> int:
    """Open napari on PROJECT: the map, the lasso, the images behind it."""
    from napari_embed.project import Project

    with Project.open(project):  # a clear sentence before a window appears
        pass
    return open_viewer(project, projection=projection)


def _facts(project: Project) -> dict[str, Any]:
    errors = project.errors()
    stages = Counter(errors["stage"].to_pylist())
    return {
        "path": str(project.path),
        "name": project.name,
        "n_items": project.n_items,
        "source": project.spec.to_dict(),
        "has_images": project.has_images,
        "columns": project.columns(),
        "stages": [
            {
                "key": stage.key,
                "state": stage.state,
                "chunks_done": stage.chunks_done,
                "chunks_total": stage.chunks_total,
                "params": dict(stage.params),
                "info": dict(stage.info),
                "upstream": stage.upstream,
                "updated": stage.updated,
            }
            for stage in project.stages()
        ],
        "n_failed": len(set(errors["id"].to_pylist())),
        "errors_by_stage": dict(stages),
        "size_bytes": project.size_on_disk(),
    }


def _stage_line(stage: dict[str, Any]) -> str:
    words = STATE_WORDS[stage["state"]]
    if stage["state"] == "partial" and stage["chunks_total"]:
        words += f", {stage['chunks_done'] / stage['chunks_total']:.0%}"
    info = stage["info"]
    if stage["key"].startswith("checkpoints/") and stage["state"] == "partial":
        words = f"iteration {info.get('iteration')} of {info.get('max_iter')}"
    if stage["key"].startswith("pieces/"):
        words = f"{info.get('rows')} images of the next chunk"
    shown = ("dim", "metric", "k", "recall", "n_iter", "kl_divergence")
    facts = [
        f"{key} {info[key]:.4g}"
        if isinstance(info[key], float)
        else f"{key} {info[key]}"
        for key in shown
        if info.get(key) not in (None, 0)
    ]
    return f"  {stage['key']:<32} {words:<18} {', '.join(facts)}"


@click.command(
    short_help="Tell how far a project is, and what failed.",
    epilog="""\b
Examples:
  napari-embed status photos.embed
  napari-embed status photos.embed --errors
  napari-embed status photos.embed --json
""",
)
@project_argument
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--errors", "all_errors", is_flag=True, help="List every failed item.")
def status(project: Path, as_json: bool, all_errors: bool) -> int:
    """Tell what is in PROJECT and how far each step is."""
    from napari_embed.project import Project

    with Project.open(project) as opened:
        facts = _facts(opened)
        if as_json:
            say(json.dumps(facts, indent=2))
            return 0
        say(f"{facts['name']}: {facts['n_items']:,} items")
        say(f"  from   {facts['source']['kind']} {facts['source']['path']}")
        say(f"  size   {facts['size_bytes'] / 1e6:,.1f} MB on disk")
        for stage in facts["stages"]:
            say(_stage_line(stage))
        if not facts["stages"]:
            say(f"  Nothing is computed yet. Next: napari-embed embed {project}")
        _show_errors(opened, everything=all_errors)
    return 0


def _show_errors(project: Project, *, everything: bool) -> None:
    table = project.errors()
    if not table.num_rows:
        return
    say(f"  {table.num_rows:,} failures:")
    shown = table if everything else table.slice(0, ERRORS_SHOWN)
    for row in shown.to_pylist():
        # Names come from data: a control character must not reach the terminal.
        name = "".join(c if c.isprintable() else "?" for c in str(row["source"]))
        reason = "".join(c if c.isprintable() else " " for c in str(row["reason"]))
        say(f"    {row['id']:>8}  {name}  ({row['stage']}): {reason}")
    left = table.num_rows - shown.num_rows
    if left:
        say(f"    and {left:,} more; --errors lists all")


@click.command(short_help="List the encoders and what each one needs.")
def encoders() -> int:
    """List what can turn images into vectors, and what each one needs."""
    from napari_embed.encoders import list_encoders

    for info in list_encoders():
        mark = "ready" if info.available else "needs something"
        say(f"{info.name:<24} {info.dim:>5} numbers   {mark}")
        say(f"    {info.title}. {info.description}")
        if info.requirement:
            say(f"    {info.requirement}")
    return 0


@click.command(
    short_help="Read every byte of a project; name and mend what is damaged.",
    epilog="""\b
Examples:
  napari-embed verify photos.embed
  napari-embed verify photos.embed --repair
""",
)
@project_argument
@click.option("--repair", is_flag=True, help="Make what is damaged again.")
def verify(project: Path, repair: bool) -> int:
    """Read every byte of PROJECT and name exactly what is damaged or missing.

    With --repair, exactly the damaged parts are computed again, with the settings they
    were made with, and everything is read once more. What cannot be made again is
    named with the reason (exit code 1).
    """
    from napari_embed.project import Project

    if repair:
        with Engine() as engine:
            return _report_repair(engine.run("repair", path=str(project.absolute())))
    with Project.open(project) as opened:
        problems = opened.verify()
    for problem in problems:
        say(str(problem))
    if not problems:
        say(f"{project} is whole.")
        return 0
    say(f"{len(problems)} problems. To mend: napari-embed verify {project} --repair")
    return 1


def _report_repair(result: dict[str, Any]) -> int:
    """Say what was damaged, what was made again and what was not."""
    for problem in result["found"]:
        say(str(problem))
    mended, left = int(result["n_mended"]), result["left"]
    if not result["found"]:
        say("The project is whole; nothing was changed.")
    else:
        took = duration(result["seconds"])
        say(f"{mended:,} of {len(result['found']):,} made again in {took}.")
    for path, reason in left:
        say(f"Not made again: {path}: {reason}")
    return 1 if left else 0


COMMANDS = (view, status, encoders, verify)
