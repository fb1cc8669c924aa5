"""The jobs of the engine process: plain arguments in, plain results out.

A project is opened for one job only, so that its lock is held only while working.
Arguments common to all but "create" and "info": ``path`` of the project, ``params`` as
a dictionary (defaults for what is missing).
"""

from __future__ import annotations

import platform
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine import pipeline
from napari_embed.engine.environment import usable_cpus
from napari_embed.engine.estimate import run_estimate
from napari_embed.engine.exporting import export_in_engine
from napari_embed.engine.finding import find_to_file
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.likeness import Likeness
from napari_embed.engine.positions import PositionsBuffer
from napari_embed.engine.progress import JobControl
from napari_embed.engine.repair import run_repair
from napari_embed.engine.rescan import run_reroot, run_rescan
from napari_embed.engine.shards import Shard, embed_shard
from napari_embed.engine.similarity import SimilarityEngine
from napari_embed.engine.worker import Emit, JobFunction
from napari_embed.errors import InputError, StoreError, StoreLockedError
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.project.manifest import read_manifest
from napari_embed.sources import SourceSpec, detect_source

__all__ = ["JOBS"]

PACKAGES = ("napari-embed", "torch", "torchvision", "taichi", "faiss-cpu", "faiss-gpu")


_SIMILARITY = SimilarityEngine()

# A process that was killed or closed a moment ago may still be letting go.
LOCK_WAIT_S = 3.0
LOCK_STEP_S = 0.2


def _open(arguments: dict[str, Any], control: JobControl) -> Project:
    path = arguments.get("path")
    if not path:
        raise InputError("No project was named.")
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return Project.open(str(path), mode="a")
        except StoreLockedError:
            if time.monotonic() > end:
                raise
        control.check()
        time.sleep(LOCK_STEP_S)


def _create(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path; spec (a dictionary) or source (a path, or "sample") and kind."""
    if arguments.get("spec"):
        spec = SourceSpec.from_dict(arguments["spec"])
    else:
        kind = arguments.get("kind") or "auto"
        source = str(arguments.get("source") or "")
        _refuse_project(source)
        spec = detect_source(source, kind=kind)
    if arguments.get("options"):
        spec = spec.with_options(**arguments["options"])
    return pipeline.run_create(
        str(arguments["path"]),
        spec,
        control,
        name=arguments.get("name"),
        thumbnail_size=arguments.get("thumbnail_size"),
    ).to_dict()


def _refuse_project(source: str) -> None:
    """Refuse a project, which is a Zarr group with thumbnails that look like images."""
    root = Path(source).expanduser().absolute()
    try:
        read_manifest(root)
    except StoreError:
        return
    raise InputError(
        f"{root} is a project, not a source of items. Open it, or go on with it: "
        f"napari-embed embed {source}"
    )


def _embed(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, params, retry_failed, scheduler, shard."""
    params = EmbedParams.from_dict(arguments.get("params") or {})
    if arguments.get("shard"):
        shard = Shard.parse(str(arguments["shard"]))
        return embed_shard(str(arguments["path"]), params, shard, control).to_dict()
    with _open(arguments, control) as project:
        return pipeline.run_embed(
            project,
            params,
            control,
            retry_failed=bool(arguments.get("retry_failed")),
            scheduler=arguments.get("scheduler") or None,
        ).to_dict()


def _neighbors(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, params, embeddings."""
    params = NeighborParams.from_dict(arguments.get("params") or {})
    with _open(arguments, control) as project:
        return pipeline.run_neighbors(
            project, params, control, embeddings=arguments.get("embeddings")
        ).to_dict()


def _project(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, params, embeddings, name, neighbors, positions.

    ``positions`` is the name of a buffer that gets the map while it forms.
    """
    params = ProjectionParams.from_dict(arguments.get("params") or {})
    neighbors = arguments.get("neighbors")
    with ExitStack() as stack:
        buffer = None
        if arguments.get("positions"):
            buffer = PositionsBuffer.attach(str(arguments["positions"]))
            stack.enter_context(buffer)
        project = stack.enter_context(_open(arguments, control))
        return pipeline.run_projection(
            project,
            params,
            control,
            embeddings=arguments.get("embeddings"),
            name=arguments.get("name"),
            publish=_publisher(buffer, emit),
            neighbors=NeighborParams.from_dict(neighbors) if neighbors else None,
        ).to_dict()


def _inspect(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, again."""
    with _open(arguments, control) as project:
        return run_inspect(
            project, control, again=bool(arguments.get("again"))
        ).to_dict()


def _repair(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path."""
    with _open(arguments, control) as project:
        return run_repair(project, control).to_dict()


def _find(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Arguments: project_path, kind, options, given, out; see `engine.finding`.

    Reads only, so another process may write meanwhile.
    """
    with Project.open(str(arguments["project_path"])) as project:
        return find_to_file(project, arguments, control)


def _export(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: see `engine.exporting`. Reads the project only."""
    return export_in_engine(arguments, control)


def _estimate(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, params. Reads only."""
    params = EmbedParams.from_dict(arguments.get("params") or {})
    with Project.open(str(arguments["path"])) as project:
        return run_estimate(project, params, control)


def _rescan(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path."""
    with _open(arguments, control) as project:
        return run_rescan(project, control)


def _reroot(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: path, place."""
    with _open(arguments, control) as project:
        return run_reroot(project, str(arguments["place"]), control)


def _similar(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Arguments: project_path, and those of a `Likeness`. Only reads."""
    with Project.open(str(arguments["project_path"]), mode="r") as project:
        likeness = Likeness.from_request(arguments, project.n_items)
        return _SIMILARITY.search(project, likeness, control)


def _warm(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Arguments: project_path, embeddings. Loads vectors before they are searched."""
    with Project.open(str(arguments["project_path"]), mode="r") as project:
        _SIMILARITY.load(project, arguments.get("embeddings"), control)
    return {}


def _publisher(buffer: PositionsBuffer | None, emit: Emit) -> pipeline.Publish:
    """Return what hands positions to the buffer and KL to the client."""

    def publish(
        iteration: int, kl: float, positions: NDArray[np.float32] | None
    ) -> None:
        if np.isfinite(kl):
            emit("kl", iteration=iteration, kl_divergence=kl)
        if buffer is not None and positions is not None:
            sequence = buffer.write(positions)
            emit("positions", sequence=sequence, iteration=iteration)

    return publish


def _info(arguments: dict[str, Any], control: JobControl, emit: Emit) -> dict[str, Any]:
    """Return what this process runs on."""
    import torch

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "cpus": usable_cpus(),
        "packages": found,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
    }


JOBS: dict[str, JobFunction] = {
    "create": _create,
    "embed": _embed,
    "neighbors": _neighbors,
    "project": _project,
    "inspect": _inspect,
    "repair": _repair,
    "find": _find,
    "export": _export,
    "estimate": _estimate,
    "rescan": _rescan,
    "reroot": _reroot,
    "similar": _similar,
    "warm": _warm,
    "info": _info,
}
"""Job functions by the name a client asks for."""
