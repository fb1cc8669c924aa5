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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.engine.embedding import (
    OWN_VECTORS,
    embed_images,
    import_positions,
    import_vectors,
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

if TYPE_CHECKING:
    from napari_embed.project import StageInfo
    from napari_embed.sources import SourceSpec
    from napari_embed.tsne.optimizer import IterationReport

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

FEWEST_ITEMS = 4
NEIGHBORS_PER_PERPLEXITY = 3

Publish = Callable[[int, float, "NDArray[np.float32] | None"], None]
"""``publish(iteration, kl_divergence, positions)``: KL may be NaN, positions (over all
items, NaN where there is none) may be None."""


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
) -> StageResult:
    """Give every item a vector: encode the images, or import vectors that came along.

    Vectors are imported when the project has no images, or when the encoder's name is
    "vectors".

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
    return embed_images(project, params, control, retry_failed=retry_failed)


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


def _content(stage: StageInfo) -> list[str | int]:
    """Return what identifies the content of a stage that others are computed from.

    Items that failed and were mended later change it, not the stage's fingerprint.
    """
    return [stage.fingerprint, int(stage.info.get("n_failed") or 0)]


def projection_name(project: Project, embeddings: str, params: ProjectionParams) -> str:
    """Return the default name of a map: with the embeddings' if there are several."""
    plain = f"{params.method}-{params.n_components}d"
    others = set(project.embeddings_names()) - {embeddings}
    return f"{embeddings}-{plain}" if others else plain


def _valid_vectors(
    project: Project, name: str, control: JobControl
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the finite vectors (m, d) and their item ids (m,)."""
    stored = project.embeddings(name)
    vectors = np.empty(stored.shape, np.float32)
    for first, block in stored.blocks():
        vectors[first : first + len(block)] = block
        control.progress("reading", first + len(block), len(stored), unit="rows")
    valid = np.isfinite(vectors).all(axis=1)
    ids = np.flatnonzero(valid)
    if ids.size < FEWEST_ITEMS:
        raise InputError(
            f"At least {FEWEST_ITEMS} items with vectors are needed, {name} has "
            f"{ids.size} of {len(stored)}."
        )
    return (vectors if ids.size == len(stored) else vectors[valid]), ids


def _over_all_items(
    graph: NeighborGraph, ids: NDArray[np.int64], n: int
) -> NeighborGraph:
    """Return a graph of some items as one of all; -1 and Inf for the others."""
    if ids.size == n:
        return graph
    indices = np.full((n, graph.k), -1, np.int32)
    distances = np.full((n, graph.k), np.inf, np.float32)
    indices[ids] = np.where(graph.indices >= 0, ids[graph.indices], -1)
    distances[ids] = graph.distances
    return NeighborGraph(indices, distances, graph.metric, graph.recall)


def _of_valid_items(graph: NeighborGraph, ids: NDArray[np.int64]) -> NeighborGraph:
    """Undo `_over_all_items`."""
    if ids.size == graph.n:
        return graph
    number = np.full(graph.n, -1, np.int32)
    number[ids] = np.arange(ids.size, dtype=np.int32)
    indices = graph.indices[ids]
    indices = np.where(indices >= 0, number[indices], -1).astype(np.int32)
    return NeighborGraph(indices, graph.distances[ids], graph.metric, graph.recall)


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
        "neighbors", NEIGHBORS_VERSION, _content(source), settings.to_dict()
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
    vectors, ids = _valid_vectors(project, name, control)
    settings = params
    if params.metric == "auto":
        cosine = source.info.get("metric") == "cosine"
        settings = replace(params, metric="cosine" if cosine else "euclidean")
    graph = _search(vectors, settings, min(wanted, ids.size - 1), control)
    info = {"k": graph.k, "k_wanted": wanted, "n_valid": int(ids.size)}
    project.write_neighbors(
        name,
        _over_all_items(graph, ids, project.n_items),
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
    vectors: NDArray[np.float32], params: NeighborParams, k: int, control: JobControl
) -> NeighborGraph:
    """Find ``k`` neighbors of every vector."""
    from napari_embed.tsne import neighbor_graph

    control.progress("neighbors", 0, len(vectors), unit="steps")
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


def _perplexity(wanted: float, n: int, control: JobControl) -> float:
    """Return the perplexity that ``n`` items allow, at most the one wanted."""
    most = (n - 1) / NEIGHBORS_PER_PERPLEXITY
    if wanted <= most:
        return wanted
    control.log(
        f"A perplexity of {wanted:g} needs more than "
        f"{math.ceil(NEIGHBORS_PER_PERPLEXITY * wanted)} items with vectors; for these "
        f"{n} it is lowered to {most:.3g}."
    )
    return most


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
    upstream = f"embeddings/{source_name}"
    if params.method == "tsne":
        upstream = f"neighbors/{source_name}"
        settings = neighbors or _stored_neighbor_params(project, upstream)
        k = math.ceil(NEIGHBORS_PER_PERPLEXITY * params.perplexity)
        run_neighbors(project, settings, control, embeddings=source_name, at_least=k)
    print_ = fingerprint(
        "projection",
        PROJECTION_VERSION,
        _content(project.stage_info(upstream)),
        replace(params, device="auto").to_dict(),
    )
    stored = project.stage_info(f"projections/{name}")
    if stored.state == "sealed" and stored.fingerprint == print_:
        return StageResult(
            "project", name, computed=False, n_items=project.n_items,
            n_failed=int(stored.info.get("n_without") or 0), info=dict(stored.info),
        )  # fmt: skip
    projection = _lay_out(project, source_name, params, control, publish)
    without = int(np.isnan(projection.positions).any(axis=1).sum())
    info = _projection_info(params, source_name, projection, without)
    # A map that was ended by hand is not what these settings give.
    ended = "-stopped" if control.stop_requested else ""
    project.write_projection(
        name,
        projection,
        fingerprint=print_ + ended,
        params=params.to_dict(),
        upstream=upstream,
        info=info,
    )
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


def _lay_out(
    project: Project,
    embeddings: str,
    params: ProjectionParams,
    control: JobControl,
    publish: Publish | None,
) -> Projection:
    """Return the map over all items."""
    vectors, ids = _valid_vectors(project, embeddings, control)
    places = _Places(ids, project.n_items)
    if params.method == "pca":
        found = _pca(vectors, params, control)
    else:
        graph = project.read_neighbors(embeddings)
        found = _tsne(vectors, graph, params, control, places, publish)
    return replace(found, positions=places.over_all(found.positions))


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


class _Places:
    """Spreads positions of the valid items over all items."""

    def __init__(self, ids: NDArray[np.int64], n: int) -> None:
        self.ids, self._n = ids, n

    def over_all(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, d) positions, NaN for items that have none."""
        if self.ids.size == self._n:
            return positions
        result = np.full((self._n, positions.shape[1]), np.nan, np.float32)
        result[self.ids] = positions
        return result


def _pca(
    vectors: NDArray[np.float32], params: ProjectionParams, control: JobControl
) -> Projection:
    from napari_embed.tsne import pca_projection

    control.progress("PCA", 0, 1, unit="maps")
    found: Projection = pca_projection(
        vectors, n_components=params.n_components, random_state=params.random_state
    )
    control.progress("PCA", 1, 1, unit="maps")
    return found


def _tsne(
    vectors: NDArray[np.float32],
    graph: NeighborGraph,
    params: ProjectionParams,
    control: JobControl,
    places: _Places,
    publish: Publish | None,
) -> Projection:
    from napari_embed.tsne import affinities, initial_positions
    from napari_embed.tsne.optimizer import optimize
    from napari_embed.tsne.presets import start_of

    ids = places.ids
    perplexity = _perplexity(params.perplexity, ids.size, control)
    # The map must not depend on how many more neighbors happen to be stored.
    k = min(graph.k, math.ceil(NEIGHBORS_PER_PERPLEXITY * perplexity))
    graph = _of_valid_items(graph, ids)
    graph = replace(
        graph,
        indices=np.ascontiguousarray(graph.indices[:, :k]),
        distances=np.ascontiguousarray(graph.distances[:, :k]),
    )
    control.progress("affinities", 0, ids.size, unit="rows")
    joint = affinities(graph, perplexity=perplexity)
    control.progress("affinities", ids.size, ids.size, unit="rows")
    how = start_of(params)
    start = initial_positions(
        vectors if how["init"] == "pca" else None,
        ids.size,
        n_components=params.n_components,
        random_state=params.random_state,
        **how,
    )

    def follow(report: IterationReport) -> bool:
        control.progress("t-SNE", report.iteration, report.max_iter, unit="iterations")
        if publish is not None:
            positions = report.positions
            publish(
                report.iteration,
                report.kl_divergence,
                None if positions is None else places.over_all(positions),
            )
        return control.stop_requested

    # The first iteration builds the kernels: its time says nothing about the others,
    # so the rate of the stage "t-SNE" is counted from its end.
    control.progress("starting t-SNE", 0, 1, unit="steps")
    return optimize(joint, start, params, device=params.device, callback=follow)
