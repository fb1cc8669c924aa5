"""Commands before embedding and on the source: estimate, rescan, reroot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_embed.cli.console import BOTTLENECKS, Engine, duration, say
from napari_embed.cli.options import PROJECT, device, encoder, project_argument
from napari_embed.params import EmbedParams

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


@click.command(
    short_help="Say how long embedding will take.",
    epilog="""\b
Examples:
  napari-embed estimate photos.embed
  napari-embed estimate photos.embed --encoder torchvision/vit_b_16 --weights vit.pth
""",
)
@project_argument
@encoder
@click.option("--weights", type=PROJECT, help="File with the encoder's weights.")
@click.option("--batch-size", type=click.IntRange(1), help="Images at a time.")
@device
def estimate(
    project: Path,
    encoder: str,
    weights: Path | None,
    batch_size: int | None,
    device: str,
) -> int:
    """Try an encoder on a few hundred images of PROJECT; say what all of them take.

    Time, disk and memory of `napari-embed embed` with the same options. Nothing is
    written.
    """
    params = EmbedParams(
        encoder=encoder,
        weights=str(weights.absolute()) if weights else None,
        batch_size=batch_size,
        device=device,  # type: ignore[arg-type]
    )
    with Engine() as engine:
        found = engine.run(
            "estimate", path=str(project.absolute()), params=params.to_dict()
        )
    if not found["n_images"]:
        say(f"Nothing to do: every image of {project} has its vector.")
        return 0
    memory = found["memory_bytes"]
    say(f"{found['n_images']:,} images with {encoder}:")
    say(f"  time    about {duration(found['seconds'])}, {found['rate']:,.1f} images/s")
    say(f"  disk    about {found['disk_bytes'] / 2**20:,.0f} MiB")
    say(f"  memory  about {memory / 2**20:,.0f} MiB" if memory else "  memory  unknown")
    alone = f"{found['decode_rate']:,.0f} and {found['model_rate']:,.0f}/s"
    say(
        f"  slowest {BOTTLENECKS[found['bottleneck']]} (reading alone and the encoder "
        f"alone: {alone})"
    )
    return 0


COMMANDS = (estimate, rescan, reroot)
