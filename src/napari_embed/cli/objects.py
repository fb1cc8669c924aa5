"""The commands for objects of a labels image: look at crops, make a project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_embed.cli.compute import SUFFIX, default_project, outcome, say_notes
from napari_embed.cli.console import Engine, duration, say
from napari_embed.cli.options import PROJECT
from napari_embed.errors import InputError

if TYPE_CHECKING:
    from napari_embed.sources import SourceSpec

__all__ = ["COMMANDS"]

Command = Callable[..., Any]
_CHOICES = {
    "labels": "Name of the labels group; for files a column, or labels/{column}.png.",
    "image": "For files: the column of the images, or a pattern images/{column}.png.",
    "label": "For files: the column with the class of a picture.",
    "size": "Side of the crops, such as 20um or 48px; fit takes each object's box. "
    "By default nearly all objects fit in.",
    "margin": "Around an object, where the size is found or fit.  [default: 2px]",
    "channels": "Which channels, from 0, such as 0,2.  [default: the first three]",
    "limits": "What is black and white in each channel, such as 100-4000,50-900.",
    "min-area": "Leave out smaller objects, such as 20um2 or 60px.",
    "max-area": "Leave out larger objects.",
    "pixel-size": "Micrometres a pixel, where the image does not say it.",
}
_WORDS = {
    "combine": (("rgb", "concat"), "Channels as colours, or a vector for each."),
    "normalize": (("channel", "image", "fixed"), "Where brightness limits come from."),
    "plane": (("best", "max"), "Of a stack: the fullest plane, or the brightest."),
}


def _crop_options(command: Command) -> Command:
    """Add the options of the source."""
    command = click.option(
        "--mask", is_flag=True, help="Black out what is not the object."
    )(command)
    command = click.option(
        "--no-edge", is_flag=True, help="Leave out objects that touch the border."
    )(command)
    for name, (words, text) in reversed(_WORDS.items()):
        command = click.option(f"--{name}", type=click.Choice(words), help=text)(
            command
        )
    for name, text in reversed(_CHOICES.items()):
        command = click.option(f"--{name}", metavar="TEXT", help=text)(command)
    return command


def _spec(source: str, given: dict[str, Any]) -> SourceSpec:
    from napari_embed.sources import SourceSpec

    options = {name: str(v) for name, v in given.items() if isinstance(v, str)}
    if given.get("mask"):
        options["mask"] = "on"
    if given.get("no_edge"):
        options["edge"] = "leave-out"
    path = Path(source).expanduser().absolute()
    return SourceSpec("objects", str(path), dict(options))


@click.group(short_help="Objects of a labels image as items.")
def objects() -> None:
    """Make every object of a segmentation an item: one cell, one point."""


@objects.command("preview", short_help="Save a picture of ten crops.")
@click.argument("source")
@click.argument(
    "picture", type=click.Path(path_type=Path, dir_okay=False), default="crops.png"
)
@_crop_options
def preview(source: str, picture: Path, **given: Any) -> int:
    """Cut ten objects out of SOURCE and save them, with a scale bar, as PICTURE."""
    from PIL import Image

    from napari_embed.sources.objects.preview import preview_objects, sheet

    found = preview_objects(_spec(source, given))
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        raise InputError(f"{picture} must end in .png, .jpg or .tif.")
    Image.fromarray(sheet(found)).save(picture)
    say(f"{found.words()}. Saved {picture}.")
    for note in found.notes:
        say(f"Note: {note}")
    return 0


@objects.command(
    "new",
    short_help="Make a project of all objects.",
    epilog=f"""\b
Examples:
  napari-embed objects preview plate.zarr --labels nuclei --size 20um
  napari-embed objects new plate.zarr --labels nuclei --size 20um --no-edge
  napari-embed objects new pairs.csv --image images/{{id}}.png --labels masks/{{id}}.png
  napari-embed embed plate{SUFFIX}
""",
)
@click.argument("source")
@click.argument("project", type=PROJECT, required=False)
@_crop_options
def new_objects(source: str, project: Path | None, **given: Any) -> int:
    """Find the objects of SOURCE and make a project of them; nothing is changed there.

    SOURCE is an OME-Zarr image or plate with labels, a folder with the folders images
    and labels, or a table of image and labels files.
    """
    target = project or default_project(source)
    with Engine() as engine:
        result = engine.run(
            "create", path=str(target.absolute()), spec=_spec(source, given).to_dict()
        )
    say(
        f"Made {target} with {result['n_items']:,} objects in "
        f"{duration(result['seconds'])}."
    )
    say_notes(result)
    return outcome(result, target)


@objects.command("table", short_help="Write measures and map where other tools look.")
@click.argument("project", type=PROJECT)
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--projection", metavar="NAME", help="Which map; by default the newest.")
@click.option("--name", default="napari_embed", show_default=True, help="Of the table.")
@click.option("--force", is_flag=True, help="Replace what is there.")
def table(
    project: Path, out: Path | None, projection: str | None, name: str, force: bool
) -> int:
    """Add a table to the OME-Zarr of PROJECT, or write an AnnData file OUT (.h5ad).

    The tables lie beside the labels and are read by ngio, Fractal and napari plugins;
    images and labels are not changed. SpatialData reads the AnnData file as a table.
    """
    from napari_embed.curation.objects_table import export_anndata, write_ome_tables
    from napari_embed.project import Project

    with Project.open(project) as opened:
        names = opened.projection_names()
        if projection is not None and projection not in names:
            known = ", ".join(names) or "none yet"
            raise InputError(f"There is no map {projection!r}. It has: {known}.")
        shown = projection or (names[-1] if names else None)
        if out is None:
            n = write_ome_tables(opened, name=name, projection=shown, overwrite=force)
            say(f"Added the table {name} to {n:,} pictures of {opened.spec.path}.")
        else:
            n = export_anndata(opened, out, projection=shown, overwrite=force)
            say(f"Wrote {n:,} objects to {out}.")
    return 0


COMMANDS = (objects,)
