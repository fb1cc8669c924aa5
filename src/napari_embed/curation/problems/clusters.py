"""Clusters on a map or on the neighbor graph, named by their commonest label.

scikit-learn's HDBSCAN compares all pairs unless it gets a sparse graph of distances.
It gets one here: the nearest neighbors of each item, and one edge between the parts
that they leave apart; so a million items take minutes, not weeks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import (
    Codes,
    label_codes,
    neighbors_of,
    newest,
)
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["find_clusters"]

Progress = Callable[[int, int], None]

_NEIGHBORS = 15
_CORE = 5
_FEWEST_ITEMS = 10


def find_clusters(
    project: ProjectReader,
    *,
    space: Literal["map", "neighbors"] = "map",
    projection: str | None = None,
    embeddings: str | None = None,
    min_size: int | None = None,
    within: Ids | None = None,
    column: str = "label",
    labels: Codes | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Return the members of all clusters, the largest cluster first.

    The score says how firmly an item belongs to its cluster, 0 to 1. Items that belong
    to none are left out.

    Parameters
    ----------
    project
        With a map, or a neighbor graph.
    space
        "map": what lies together on the map. "neighbors": in the vectors' own space,
        where most items of real data belong to no cluster.
    projection, embeddings
        Which map or graph; by default the newest.
    min_size
        Items a cluster needs; by default a thousandth of all, at least 10.
    within
        Items to look at.
    column, labels
        What names the clusters.
    progress
        Called with (steps done, steps in all).

    Raises
    ------
    IncompleteStageError
        If there is no map, or no graph.
    InputError
        If fewer than 10 items have a place.
    """
    if space not in ("map", "neighbors"):
        raise InputError(f"space must be 'map' or 'neighbors', got {space!r}.")
    say = progress or (lambda done, total: None)
    say(0, 3)
    if space == "map":
        ids, near, far = _on_map(project, projection, within)
    else:
        ids, near, far = _on_graph(project, embeddings, within)
    size = min_size or max(10, ids.size // 1000)
    if not 2 <= size <= ids.size:
        raise InputError(f"min_size must be 2 to {ids.size:,}, got {size}.")
    say(1, 3)
    found, firm = _hdbscan(near, far, size)
    say(2, 3)
    member = found >= 0
    result = _named(
        project, ids[member], found[member], firm[member], column, labels, ids.size
    )
    say(3, 3)
    return result


def _on_map(
    project: ProjectReader, projection: str | None, within: Ids | None
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return ids, places of their neighbors among them, and distances on the map."""
    from scipy.spatial import cKDTree

    name = newest(project, "projections/", projection, "project")
    positions = project.read_projection(name).positions
    wanted = item_mask(within, project.n_items) & np.isfinite(positions).all(axis=1)
    ids = _enough(np.flatnonzero(wanted))
    points = positions[ids].astype(np.float64)
    tree = cKDTree(points, balanced_tree=False)
    far, near = tree.query(points, k=min(_NEIGHBORS + 1, ids.size), workers=-1)
    return ids, near.astype(np.int32), far


def _on_graph(
    project: ProjectReader, embeddings: str | None, within: Ids | None
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return ids, places of their neighbors among them, and their distances."""
    graph = neighbors_of(project, embeddings=embeddings, within=within, most=_NEIGHBORS)
    ids = _enough(np.flatnonzero(graph.valid))
    place = np.full(len(graph.indices), -1, np.int32)
    place[ids] = np.arange(ids.size, dtype=np.int32)
    near = graph.indices[ids]
    near = np.where(near >= 0, place[near], np.int32(-1))
    return ids, near, graph.distances[ids].astype(np.float64)


def _enough(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    if ids.size < _FEWEST_ITEMS:
        raise InputError(
            f"Clusters need at least {_FEWEST_ITEMS} items with a place, there are "
            f"{ids.size}."
        )
    return ids


def _hdbscan(
    near: NDArray[np.int32], far: NDArray[np.float64], min_size: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the cluster of each item, -1 for none, and how firmly it belongs."""
    from sklearn.cluster import HDBSCAN

    graph = _connected(near, far)
    # A row may have few entries in a small part: the core is what all of them have.
    core = int(min(_CORE, np.diff(graph.indptr).min()))
    model = HDBSCAN(
        min_cluster_size=min_size, min_samples=core, metric="precomputed",
        allow_single_cluster=False, copy=False,
    )  # fmt: skip
    model.fit(graph)
    return model.labels_.astype(np.int32), model.probabilities_.astype(np.float32)


def _connected(near: NDArray[np.int32], far: NDArray[np.float64]) -> Any:
    """Return a symmetric sparse graph of distances in one piece."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(near)
    row, column = np.nonzero((near >= 0) & (near != np.arange(n)[:, None]))
    # An entry of 0 would be no edge at all.
    smallest = np.finfo(np.float32).tiny
    values = np.maximum(far[row, column], smallest)
    there = near[row, column]
    graph = coo_matrix((values, (row, there)), (n, n)).tocsr()
    graph = graph.maximum(graph.T)
    count, part = connected_components(graph, directed=False)
    if count > 1:
        # Farther than anything else, so that the parts separate first.
        ends = np.unique(part, return_index=True)[1]
        apart = 2 * float(graph.data.max(initial=1.0))
        extra = coo_matrix(
            (np.full(count - 1, apart), (ends[:-1], ends[1:])), (n, n)
        ).tocsr()
        graph = graph + extra + extra.T
    return graph.tocsr()


def _named(
    project: ProjectReader,
    ids: NDArray[np.int64],
    found: NDArray[np.int32],
    firm: NDArray[np.float32],
    column: str,
    labels: Codes | None,
    checked: int,
) -> Finding:
    """Return the clusters by size, each with the label most of its members have."""
    count = int(found.max()) + 1 if found.size else 0
    sizes = np.bincount(found, minlength=count)
    place = np.empty(count, np.int32)
    place[np.argsort(-sizes, kind="stable")] = np.arange(count, dtype=np.int32)
    groups = place[found]
    names = _names(project, ids, groups, count, column, labels)
    order = np.lexsort((ids, -firm, groups))
    return Finding(
        "clusters",
        f"Clusters: {count:,} with {ids.size:,} of {checked:,} items",
        ids[order], firm[order], "how firmly it belongs", groups[order], names,
    )  # fmt: skip


def _names(
    project: ProjectReader,
    ids: NDArray[np.int64],
    groups: NDArray[np.int32],
    count: int,
    column: str,
    labels: Codes | None,
) -> tuple[str, ...]:
    """Return the commonest label of each group, numbered where it is not the only."""
    try:
        codes, names = label_codes(project, column, labels, what="no cluster has one")
    except InputError:
        return tuple(f"cluster {i + 1}" for i in range(count))
    known = codes[ids] >= 0
    pairs = groups[known].astype(np.int64) * len(names) + codes[ids][known]
    pair, often = np.unique(pairs, return_counts=True)
    commonest = {
        int(pair[i] // len(names)): names[int(pair[i] % len(names))]
        for i in np.argsort(often, kind="stable")  # the last one wins
    }
    seen: dict[str, int] = {}
    result = []
    for i in range(count):
        name = commonest.get(i, f"cluster {i + 1}")
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return tuple(result)
