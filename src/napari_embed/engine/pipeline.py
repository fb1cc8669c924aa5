"""The stages of a project: create, embed, neighbors, projection.

Each takes an open project and a :class:`JobControl`, does what is not done yet, and
returns a :class:`StageResult`. A stage carries a fingerprint of its settings, of what
it was computed from and of the code's version: a sealed stage with the same fingerprint
is left alone, a changed one is computed again, and what was computed from the old one
shows as stale.

Items without a vector (an unreadable image, a NaN row) take part in nothing: their
neighbor ids are -1 and their positions NaN.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.engine.checkpoint import Checkpoint
from napari_embed.engine.embedding import (
    OWN_VECTORS,
    embed_images,
    import_positions,
    import_vectors,
)
from napari_embed.engine.layout import (
    NEIGHBORS_PER_PERPLEXITY,
    Publish,
    lay_out,
    over_all_items,
    valid_vectors,
)
from napari_embed.engine.progress import JobControl
from napari_embed.engine.result import StageResult
from napari_embed.errors import IncompleteStageError, InputError
from napari_embed.params import (
    EmbedParams,
    NeighborParams,
    ProjectionParams,
    fingerprint,
)
from napari_embed.project import Project
from napari_embed.project.stages import map_name

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import StageInfo
    from napari_embed.sources import SourceSpec
    from napari_embed.tsne.vectors import VectorsLike

__all__ = [
    "Publish",
    "projection_name",
    "run_create",
    "run_embed",
    "run_neighbors",
    "run_projection",
]

# A change of what the code below computes raises its number.
NEIGHBORS_VERSION = 1
PROJECTION_VERSION = 1


def run_create(
    path: str | Path,
    spec: SourceSpec,
    control: JobControl,
    *,
    name: str | None = None,
    thumbnail_size: int | None = None,
) -> StageResult:
    """Make a project of a source; vectors and positions it brings are imported.

    Raises
    ------
    InputError
        If the source has no items or cannot be understood.
    StoreError
        If the folder exists already or cannot be written.
    """
    started = time.monotonic()
    project = Project.create(
        path,
        spec,
        name=name,
        thumbnail_size=thumbnail_size,
        progress=control.reporter("items"),
    )
    try:
        with project:
            failed, given = _import_all(project, control)
    except InputError:
        # A project of unusable vectors would only be in the way of the next attempt.
        shutil.rmtree(project.path, ignore_errors=True)
        raise
    return StageResult(
        "create",
        project.name,
        computed=True,
        n_items=project.n_items,
        n_failed=failed,
        n_done_now=project.n_items,
        seconds=time.monotonic() - started,
        info={
            "path": str(project.path),
            "projection": given,
            "has_images": project.has_images,
            "notes": list(project.notes),
        },
    )


def _import_all(project: Project, control: JobControl) -> tuple[int, str | None]:
    """Take over what came with the items; return failed vectors and the map's name."""
    failed = 0
    if project.source().vectors() is not None:
        failed = import_vectors(project, control).n_failed
    return failed, import_positions(project)


def run_embed(
    project: Project,
    params: EmbedParams,
    control: JobControl,
    *,
    retry_failed: bool = False,
    encoder: Encoder | None = None,
    scheduler: str | None = None,
) -> StageResult:
    """Give every item a vector: encode the images, or import vectors that came along.

    Vectors are imported when the project has no images, or when the encoder's name is
    "vectors". ``encoder`` is one of your own, such as a ``FunctionEncoder``; it takes
    the place of the one that ``params`` names. ``scheduler`` is the address of a Dask
    scheduler whose workers encode the images.

    Raises
    ------
    InputError
        If no item at all gets a vector.
    JobCancelled
        If the user asked to stop; finished chunks are kept.
    """
    if params.encoder == OWN_VECTORS or not project.has_images:
        result = import_vectors(project, control, retry_failed=retry_failed)
        import_positions(project)
        return result
    return embed_images(
        project, params, control, retry_failed=retry_failed, encoder=encoder,
        scheduler=scheduler,
    )  # fmt: skip


def _choose_embeddings(project: Project, name: str | None) -> str:
    """Return the name of finished embeddings: the one asked for, or the newest."""
    done = [
        s
        for s in project.stages()
        if s.key.startswith("embeddings/") and s.state == "sealed"
    ]
    names = [s.key.removeprefix("embeddings/") for s in done]
    if name is not None:
        if name not in names:
            known = ", ".join(names) or "none"
            raise IncompleteStageError(
                f"The embeddings {name!r} are not complete in this project (complete: "
                f"{known}). Embed first: napari-embed embed {project.path}"
            )
        return name
    if not done:
        raise IncompleteStageError(
            "This project has no complete embeddings. Embed first: "
            f"napari-embed embed {project.path}"
        )
    return max(done, key=lambda s: s.updated).key.removeprefix("embeddings/")


def _content(project: Project, stage: StageInfo) -> list[str | int]:
    """Return what identifies the content of a stage that others are computed from.

    Items that failed and were mended later change it, not the stage's fingerprint; so
    do items that were added or whose file changed.
    """
    scans = [project.manifest.scans] if project.manifest.scans else []
    return [stage.fingerprint, int(stage.info.get("n_failed") or 0), *scans]


def projection_name(project: Project, embeddings: str, params: ProjectionParams) -> str:
    """Return the default name of a map: with the embeddings' if there are several."""
    stages = {stage.key: stage for stage in project.stages()}
    return map_name(stages, embeddings, f"{params.method}-{params.n_components}d")


def run_neighbors(
    project: Project,
    params: NeighborParams,
    control: JobControl,
    *,
    embeddings: str | None = None,
    at_least: int = 1,
) -> StageResult:
    """Find the nearest neighbors of every item that has a vector.

    Parameters
    ----------
    project, params, control
        As everywhere.
    embeddings
        Which ones; by default the newest.
    at_least
        Neighbors that are needed whatever ``params`` says (for a large perplexity). A
        stored graph with more neighbors than asked for is left as it is.

    Raises
    ------
    IncompleteStageError
        If the embeddings are not complete.
    InputError
        If fewer than 4 items have vectors.
    """
    started = time.monotonic()
    name = _choose_embeddings(project, embeddings)
    source = project.stage_info(f"embeddings/{name}")
    stored = project.stage_info(f"neighbors/{name}")
    wanted = max(params.n_neighbors, at_least)

    # Without the number of neighbors: a map takes as many as its perplexity needs, so a
    # graph that grows leaves the maps made from its nearest ones as they are.
    settings = replace(params, n_neighbors=1, device="auto")
    print_ = fingerprint(
        "neighbors", NEIGHBORS_VERSION, _content(project, source), settings.to_dict()
    )
    enough = int(stored.info.get("k_wanted") or 0) >= wanted
    if stored.state == "sealed" and enough and stored.fingerprint == print_:
        return StageResult(
            "neighbors",
            name,
            computed=False,
            n_items=project.n_items,
            n_failed=int(source.info.get("n_failed") or 0),
            info=dict(stored.info),
        )
    vectors, ids = valid_vectors(project, name, control)
    settings = params
    if params.metric == "auto":
        cosine = source.info.get("metric") == "cosine"
        settings = replace(params, metric="cosine" if cosine else "euclidean")
    graph = _search(vectors, ids.size, settings, min(wanted, ids.size - 1), control)
    info = {"k": graph.k, "k_wanted": wanted, "n_valid": int(ids.size)}
    project.write_neighbors(
        name,
        over_all_items(graph, ids, project.n_items),
        fingerprint=print_,
        params=params.to_dict(),
        upstream=source.key,
        info=info,
    )
    return StageResult(
        "neighbors",
        name,
        computed=True,
        n_items=project.n_items,
        n_failed=project.n_items - ids.size,
        n_done_now=int(ids.size),
        seconds=time.monotonic() - started,
        info=info | {"metric": graph.metric, "recall": graph.recall},
    )


def _search(
    vectors: VectorsLike, n: int, params: NeighborParams, k: int, control: JobControl
) -> NeighborGraph:
    """Find ``k`` neighbors of every vector."""
    from napari_embed.tsne import neighbor_graph

    control.progress("neighbors", 0, n, unit="steps")
    graph: NeighborGraph = neighbor_graph(
        vectors,
        n_neighbors=k,
        metric=params.metric,
        method=params.method,
        device=params.device,
        random_state=params.random_state,
        progress=control.reporter("neighbors", unit="steps"),
    )
    control.check()
    return graph


def run_projection(
    project: Project,
    params: ProjectionParams,
    control: JobControl,
    *,
    embeddings: str | None = None,
    name: str | None = None,
    publish: Publish | None = None,
    neighbors: NeighborParams | None = None,
) -> StageResult:
    """Lay the items out in 2D or 3D; finds neighbors first if that was not done.

    A t-SNE that was cancelled, killed or ended by hand goes on where it was.

    Parameters
    ----------
    project, params, control
        As everywhere. ``control.stop()`` ends t-SNE early and keeps its map.
    embeddings
        Which ones; by default the newest.
    name
        Of the map; by default method and dimensions, as in "tsne-3d".
    publish
        Gets the map while it forms.
    neighbors
        How to find neighbors if that has to be done; by default as they were found.

    Raises
    ------
    IncompleteStageError
        If the embeddings are not complete.
    InputError
        If fewer than 4 items have vectors.
    """
    started = time.monotonic()
    source_name = _choose_embeddings(project, embeddings)
    name = name or projection_name(project, source_name, params)
    upstream = _upstream(project, source_name, params, control, neighbors)
    print_ = _made_of(project, upstream, params)
    stored = project.stage_info(f"projections/{name}")
    checkpoint = Checkpoint(
        project, name, made_of=print_, params=params, upstream=upstream,
        control=control,
    )  # fmt: skip
    if stored.state == "sealed" and stored.fingerprint == print_:
        checkpoint.discard()
        return StageResult(
            "project", name, computed=False, n_items=project.n_items,
            n_failed=int(stored.info.get("n_without") or 0), info=dict(stored.info),
        )  # fmt: skip
    projection = lay_out(
        project, source_name, params, control, publish, checkpoint=checkpoint
    )
    without = int(np.isnan(projection.positions).any(axis=1).sum())
    info = _projection_info(params, source_name, projection, without)
    # A map that was ended by hand is not what these settings give.
    project.write_projection(
        name,
        projection,
        fingerprint=print_ + ("-stopped" if control.stop_requested else ""),
        params=params.to_dict(),
        upstream=upstream,
        info=info,
    )
    if not control.stop_requested:
        checkpoint.discard()
    if publish is not None:
        publish(projection.n_iter, projection.kl_divergence, projection.positions)
    return StageResult(
        "project",
        name,
        computed=True,
        n_items=project.n_items,
        n_failed=without,
        n_done_now=project.n_items - without,
        seconds=time.monotonic() - started,
        info=info | {"ended": projection.info.get("ended")},
    )


def _made_of(project: Project, upstream: str, params: ProjectionParams) -> str:
    """Return the fingerprint of a map; the device does not count."""
    return fingerprint(
        "projection",
        PROJECTION_VERSION,
        _content(project, project.stage_info(upstream)),
        replace(params, device="auto").to_dict(),
    )


def _upstream(
    project: Project,
    embeddings: str,
    params: ProjectionParams,
    control: JobControl,
    neighbors: NeighborParams | None,
) -> str:
    """Return the key of what a map is computed from; neighbors are found if needed."""
    if params.method != "tsne":
        return f"embeddings/{embeddings}"
    key = f"neighbors/{embeddings}"
    settings = neighbors or _stored_neighbor_params(project, key)
    k = math.ceil(NEIGHBORS_PER_PERPLEXITY * params.perplexity)
    run_neighbors(project, settings, control, embeddings=embeddings, at_least=k)
    return key


def _projection_info(
    params: ProjectionParams, embeddings: str, projection: Projection, without: int
) -> dict[str, Any]:
    kl = projection.kl_divergence
    return {
        "method": params.method,
        "n_components": params.n_components,
        "embeddings": embeddings,
        "n_without": without,
        "n_iter": projection.n_iter,
        "kl_divergence": kl if math.isfinite(kl) else None,
    }


def _stored_neighbor_params(project: Project, key: str) -> NeighborParams:
    """Return how the neighbors of a project were found, or the defaults."""
    stored = project.stage_info(key)
    if stored.state == "missing" or not stored.params:
        return NeighborParams()
    return NeighborParams.from_dict(dict(stored.params))
