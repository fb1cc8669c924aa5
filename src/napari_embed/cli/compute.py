"""Commands that do one step: new, embed, neighbors, project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_embed.cli.console import Engine, duration, say
from napari_embed.cli.options import (
    PROJECT,
    device,
    dims,
    encoder,
    project_argument,
    seed,
)
from napari_embed.params import (
    PRESETS,
    EmbedParams,
    NeighborParams,
    ProjectionParams,
)

__all__ = [
    "COMMANDS",
    "EXIT_SOME_FAILED",
    "SUFFIX",
    "default_project",
    "outcome",
    "report_embed",
    "report_projection",
    "say_notes",
]

EXIT_SOME_FAILED = 3
SUFFIX = ".embed"
KINDS = (
    "auto", "folder", "table", "images", "vectors", "ome-zarr", "objects", "sample",
)  # fmt: skip


def outcome(result: dict[str, Any], project: Path) -> int:
    """Say how many items failed and return the exit code."""
    failed = int(result.get("n_failed") or 0)
    if not failed:
        return 0
    say(
        f"{failed:,} of {result['n_items']:,} items have no vector and are left out. "
        f"Why: napari-embed status {project} --errors, or errors.csv in it"
    )
    return EXIT_SOME_FAILED


def say_notes(result: dict[str, Any]) -> None:
    """Say what the source left out when a project was made."""
    for note in result["info"].get("notes") or ():
        say(f"Note: {note}")


def default_project(source: str) -> Path:
    """Return where the project of a source goes: SOURCE.embed, in this folder."""
    path = Path(source).expanduser()
    name = path.resolve().name if path.is_dir() else path.stem
    return Path(f"{name or 'project'}{SUFFIX}")


def _named_option(text: str) -> tuple[str, str]:
    """Split NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}")
    return name, value


@click.command(
    short_help="Make a project from a folder, table or array.",
    epilog="""\b
Examples:
  napari-embed new photos/                        photos.embed, here
  napari-embed new cells.csv cells.embed          a table with a column of image paths
  napari-embed new images.npy --name "Plate 7"    an array (n, h, w) or (n, h, w, 3)
  napari-embed new vectors.npy --kind vectors     vectors that you have already
""",
)
@click.argument("source")
@click.argument("project", type=PROJECT, required=False)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="What SOURCE is; auto looks at it.",
)
@click.option("--name", help="Shown in the window; by default the project's name.")
@click.option(
    "--label", metavar="COLUMN", help="Column of a table, or array of an npz."
)
@click.option("--root", metavar="FOLDER", help="Where a table's relative paths start.")
@click.option(
    "--labels",
    metavar="NAME",
    help="Labels whose objects are the items (kind objects).",
)
@click.option(
    "--option",
    "more",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another option of the source: image_path or vectors (columns of a table), "
    "array (which one of an npz or Zarr), layout (NHW, NHWC or NCHW), tile (pixels) "
    "and channels (such as 0,2) of an OME-Zarr.",
)
@click.option(
    "--thumbnail-size", type=click.IntRange(1, 512), help="Side in pixels, at most 512."
)
def new(
    source: str,
    project: Path | None,
    kind: str,
    name: str | None,
    label: str | None,
    root: str | None,
    labels: str | None,
    more: tuple[str, ...],
    thumbnail_size: int | None,
) -> int:
    """Make a project from SOURCE: list its items, change nothing there.

    SOURCE is a folder of images (subfolders become labels), a table with image paths
    (.csv, .tsv, .parquet), an array of images or vectors (.npy, .npz, .zarr), an
    OME-Zarr image or plate, or the word "sample". PROJECT is the new folder,
    SOURCE.embed in this folder by default.
    """
    target = project or default_project(source)
    given = {"label": label, "root": root, "labels": labels}
    options = {name: value for name, value in given.items() if value is not None}
    options |= dict(map(_named_option, more))
    with Engine() as engine:
        result = engine.run(
            "create",
            path=str(target.absolute()),
            source=source,
            kind=kind,
            options=options,
            name=name,
            thumbnail_size=thumbnail_size,
        )
    say(
        f"Made {target} with {result['n_items']:,} items in "
        f"{duration(result['seconds'])}."
    )
    say_notes(result)
    projection = result["info"].get("projection")
    if projection:
        say(f"Its positions are the map {projection}.")
    return outcome(result, target)


def report_embed(result: dict[str, Any]) -> None:
    """Say what embedding did."""
    info, n = result["info"], result["n_items"]
    if left := info.get("chunks_left"):
        say(
            f"Embedded {result['n_done_now']:,} items with {result['name']}; "
            f"{left:,} chunks are left to other shards."
        )
        return
    if not result["computed"]:
        say(f"Nothing to do: all {n:,} items have their {result['name']} vectors.")
        return
    now, seconds, rate = result["n_done_now"], result["seconds"], info.get("rate")
    before = n - now - int(result["n_failed"])
    text = f"Embedded {now:,} items with {result['name']} ({info['dim']} numbers each)"
    text += f" in {duration(seconds)}"
    if rate:
        text += f", {rate:,.0f} images per second"
    say(text + (f"; {before:,} were done before." if before > 0 else "."))


@click.command(
    short_help="Turn images into vectors; can be interrupted.",
    epilog="""\b
Examples:
  napari-embed embed photos.embed
  napari-embed embed photos.embed --encoder lite0
  napari-embed embed photos.embed --encoder torchvision/vit_b_16 --weights vit.pth
  napari-embed embed photos.embed --scheduler tcp://10.0.0.5:8786      a Dask cluster

Interrupt it at any time; run it again and it goes on. `napari-embed encoders` lists
the encoders.
""",
)
@project_argument
@encoder
@click.option("--weights", type=PROJECT, help="File with the encoder's weights.")
@click.option("--batch-size", type=click.IntRange(1), help="Images at a time.")
@click.option("--retry-failed", is_flag=True, help="Try unreadable images again.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Do only every N-th chunk, from the I-th; for job arrays without Dask.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask scheduler whose workers do it, such as tcp://10.0.0.5:8786.",
)
@device
@seed
def embed(
    project: Path,
    encoder: str,
    weights: Path | None,
    batch_size: int | None,
    retry_failed: bool,
    shard: str | None,
    scheduler: str | None,
    device: str,
    seed: int,
) -> int:
    """Turn every image of PROJECT into a vector, and make its thumbnail.

    Vectors that came with the items are taken over as they are. Images that cannot be
    read are listed with a reason and never stop the run (exit code 3).
    """
    if shard and (scheduler or retry_failed):
        raise click.UsageError(
            "--shard goes with neither --scheduler nor --retry-failed."
        )
    params = EmbedParams(
        encoder=encoder,
        weights=str(weights.absolute()) if weights else None,
        batch_size=batch_size,
        device=device,  # type: ignore[arg-type]
        random_state=seed,
    )
    with Engine() as engine:
        result = engine.run(
            "embed",
            path=str(project.absolute()),
            params=params.to_dict(),
            retry_failed=retry_failed,
            scheduler=scheduler,
            shard=shard,
        )
    report_embed(result)
    return outcome(result, project)


@click.command(
    short_help="Find nearest neighbors (project does it if need be).",
    epilog="""\b
Examples:
  napari-embed neighbors photos.embed
  napari-embed neighbors photos.embed --k 150 --metric cosine

Not needed before `napari-embed project`, which does it if it was not done.
""",
)
@project_argument
@click.option(
    "--k",
    type=click.IntRange(1),
    default=90,
    show_default=True,
    help="Neighbors per item.",
)
@click.option(
    "--metric",
    type=click.Choice(["auto", "euclidean", "cosine"]),
    default="auto",
    show_default=True,
    help="auto takes the encoder's own.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "ivf", "hnsw"]),
    default="auto",
    show_default=True,
    help="auto chooses by size.",
)
@click.option("--embeddings", metavar="NAME", help="Which; by default the newest.")
@device
@seed
def neighbors(
    project: Path,
    k: int,
    metric: str,
    method: str,
    embeddings: str | None,
    device: str,
    seed: int,
) -> int:
    """Find the nearest neighbors of every item of PROJECT."""
    params = NeighborParams(
        n_neighbors=k,
        metric=metric,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        device=device,  # type: ignore[arg-type]
        random_state=seed,
    )
    with Engine() as engine:
        result = engine.run(
            "neighbors",
            path=str(project.absolute()),
            params=params.to_dict(),
            embeddings=embeddings,
        )
    info = result["info"]
    if result["computed"]:
        recall = info.get("recall")
        found = f", {recall:.1%} of the true ones found" if recall else ""
        say(
            f"Found {info['k']} neighbors of each of {result['n_done_now']:,} items in "
            f"{duration(result['seconds'])}{found}."
        )
    else:
        say(f"Nothing to do: {info['k']} neighbors of each item are there.")
    return outcome(result, project)


def report_projection(result: dict[str, Any]) -> None:
    """Say what laying out did."""
    info = result["info"]
    if not result["computed"]:
        say(f"Nothing to do: the map {result['name']} is there.")
        return
    text = f"Laid out {result['n_done_now']:,} items in {info['n_components']}D in "
    text += f"{duration(result['seconds'])}: map {result['name']}"
    kl = info.get("kl_divergence")
    if kl is not None:
        text += f", {info['n_iter']} iterations, KL divergence {kl:.3f}"
    if info.get("ended") not in (None, "max_iter"):
        text += f" (ended early: {info['ended']})"
    say(text + ".")


@click.command(
    short_help="Lay the items out in 2D or 3D.",
    epilog="""\b
Examples:
  napari-embed project photos.embed                       3D t-SNE
  napari-embed project photos.embed --dims 2 --perplexity 50
  napari-embed project photos.embed --method pca          instant, linear
  napari-embed project photos.embed --preset accurate --name careful
""",
)
@project_argument
@dims
@click.option(
    "--method",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="How to lay items out.",
)
@click.option(
    "--perplexity",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    help="Neighbors that count; 10 to 100.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="default",
    show_default=True,
    help="Speed against accuracy; paper is the published method, to compare.",
)
@click.option(
    "--theta", type=click.FloatRange(0), help="Overrides the preset; 0 is exact."
)
@click.option(
    "--max-iter",
    type=click.IntRange(1),
    default=750,
    show_default=True,
    help="Iterations of t-SNE.",
)
@click.option(
    "--init",
    type=click.Choice(["auto", "pca", "random"]),
    default="auto",
    show_default=True,
    help="Where t-SNE starts; auto is pca, random with the preset paper.",
)
@click.option("--no-early-stop", is_flag=True, help="Run all iterations.")
@click.option("--embeddings", metavar="NAME", help="Which; by default the newest.")
@click.option("--name", help="Of the map; by default as in tsne-3d.")
@device
@seed
def project(
    project: Path,
    dims: str,
    method: str,
    perplexity: float,
    preset: str,
    theta: float | None,
    max_iter: int,
    init: str,
    no_early_stop: bool,
    embeddings: str | None,
    name: str | None,
    device: str,
    seed: int,
) -> int:
    """Lay the items of PROJECT out in 2D or 3D.

    Neighbors are found first if that was not done. Several maps live side by side under
    their names.
    """
    params = ProjectionParams(
        method=method,  # type: ignore[arg-type]
        n_components=int(dims),
        perplexity=perplexity,
        preset=preset,
        theta=theta,
        max_iter=max_iter,
        init=init,  # type: ignore[arg-type]
        early_stop=not no_early_stop,
        device=device,  # type: ignore[arg-type]
        random_state=seed,
    )
    with Engine() as engine:
        result = engine.run(
            "project",
            path=str(project.absolute()),
            params=params.to_dict(),
            embeddings=embeddings,
            name=name,
        )
    report_projection(result)
    return outcome(result, project)


COMMANDS = (new, embed, neighbors, project)
