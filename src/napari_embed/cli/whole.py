"""The commands that do everything: `map` on your images, `demo` on the sample."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import click

from napari_embed.cli.compute import (
    SUFFIX,
    default_project,
    outcome,
    report_embed,
    report_projection,
)
from napari_embed.cli.console import Engine, say
from napari_embed.cli.options import PROJECT, device, dims, encoder
from napari_embed.cli.viewer import demo_view, open_viewer
from napari_embed.errors import InputError, MissingDependencyError
from napari_embed.params import EmbedParams, ProjectionParams

__all__ = ["COMMANDS"]


def _all_steps(
    source: str, path: Path, *, encoder: str, dims: int, device: str
) -> tuple[dict[str, Any], str]:
    """Make the project if it is not there, embed, lay out; return result and map."""
    where = str(path.absolute())
    _require_faiss()
    with Engine() as engine:
        if path.exists():
            _require_same_source(path, source)
            say(f"Going on with {path}.")
        else:
            engine.run("create", path=where, source=source)
            say(f"Made {path}.")
        embed_params = EmbedParams(encoder=encoder, device=device)  # type: ignore[arg-type]
        result = engine.run("embed", path=where, params=embed_params.to_dict())
        report_embed(result)
        params = ProjectionParams(n_components=dims, device=device)  # type: ignore[arg-type]
        laid_out = engine.run(
            "project", path=where, params=params.to_dict(), embeddings=result["name"]
        )
        report_projection(laid_out)
    return laid_out, str(laid_out["name"])


def _require_same_source(path: Path, source: str) -> None:
    """Refuse to show one folder's map for another: both may be called "images".

    Raises
    ------
    InputError
        If the project was made from something else.
    """
    from napari_embed.project.manifest import read_manifest

    made_from = read_manifest(path).source
    wanted = Path(source).expanduser()
    if source == "sample" and not wanted.exists():
        same = made_from.kind == "sample"
    else:
        same = made_from.location.resolve() == wanted.resolve()
    if not same:
        raise InputError(
            f"{path} was made from {made_from.path}, not from {source}. Name another "
            f"project: napari-embed map {source} other{SUFFIX}"
        )


def _require_faiss() -> None:
    """Find out before the images are embedded, not after it.

    Raises
    ------
    MissingDependencyError
        If FAISS is not there, or only its empty folder is.
    """
    spec = importlib.util.find_spec("faiss")
    if spec is None or spec.origin is None:
        found = "is not installed" if spec is None else "is damaged"
        raise MissingDependencyError(
            f"FAISS, which finds neighbors, {found}. Install exactly one of\n"
            '    pip install --force-reinstall "napari-embed[cpu]"\n'
            '    pip install --force-reinstall "napari-embed[gpu]"'
        )


@click.command(
    name="map",
    short_help="All steps in one, from SOURCE to napari.",
    epilog="""\b
Examples:
  napari-embed map photos/
  napari-embed map photos/ --dims 2 --encoder lite0 --no-view
""",
)
@click.argument("source")
@click.argument("project", type=PROJECT, required=False)
@encoder
@dims
@click.option("--no-view", is_flag=True, help="Do not open napari at the end.")
@device
def map_(
    source: str,
    project: Path | None,
    encoder: str,
    dims: str,
    no_view: bool,
    device: str,
) -> int:
    """Do all steps in one: new, embed, neighbors, project, view.

    If PROJECT is there already, it goes on with that.
    """
    target = project or default_project(source)
    result, name = _all_steps(
        source, target, encoder=encoder, dims=int(dims), device=device
    )
    code = outcome(result, target)
    if no_view:
        say(f"To see it: napari-embed view {target}")
        return code
    return open_viewer(target, projection=name) or code


@click.command(short_help="Show the bundled sample as a 3D map in napari.")
@click.option(
    "--project",
    "path",
    type=PROJECT,
    help="Where to keep the project; by default in your data folder.",
)
@click.option("--no-view", is_flag=True, help="Do not open napari at the end.")
@device
def demo(path: Path | None, no_view: bool, device: str) -> int:
    """Show the bundled sample: 4,000 real images as a 3D map in napari.

    The images are from Fashion-MNIST (MIT licence). The first time takes a minute or
    two, then the project is there. On a machine without a display a picture of the
    window is saved as demo.png.
    """
    target = path or _demo_project()
    result, name = _all_steps(
        "sample", target, encoder="descriptor", dims=3, device=device
    )
    if no_view:
        say(f"To see it: napari-embed view {target}")
        return outcome(result, target)
    return demo_view(target, projection=name)


def _demo_project() -> Path:
    import platformdirs

    override = os.environ.get("NAPARI_EMBED_DATA")
    folder = Path(override or platformdirs.user_data_dir("napari-embed"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The project cannot be kept in {folder}: {error}. Choose another place: "
            "napari-embed demo --project demo.embed"
        ) from error
    return folder / f"Fashion sample{SUFFIX}"


COMMANDS = (demo, map_)
