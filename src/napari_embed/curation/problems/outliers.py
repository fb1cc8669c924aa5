"""Items far from everything else."""

from __future__ import annotations

import numpy as np

from napari_embed.curation.ids import Ids
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import neighbors_of
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["outliers"]

_FAR = 3.5
_MAD_TO_SIGMA = 1.4826


def outliers(
    project: ProjectReader,
    *,
    embeddings: str | None = None,
    within: Ids | None = None,
    n_neighbors: int = 10,
    limit: int | None = None,
) -> Finding:
    """Return the items with the largest mean distance to their nearest neighbors.

    The score counts robust standard deviations above the collection's median, on the
    logarithm of the distance.

    Parameters
    ----------
    project
        With a neighbor graph.
    embeddings
        Whose graph; by default the newest.
    within
        Items to look at.
    n_neighbors
        Neighbors whose distance counts.
    limit
        How many to return; by default those with a score above 3.5.

    Raises
    ------
    IncompleteStageError
        If neighbors were not found yet.
    """
    if n_neighbors < 1 or (limit is not None and limit < 0):
        raise InputError("n_neighbors must be 1 or more, limit 0 or more.")
    near = neighbors_of(project, embeddings=embeddings, within=within, most=n_neighbors)
    far = np.full(len(near.indices), np.nan, np.float32)
    for rows in near.blocks():
        there = np.isfinite(near.distances[rows])
        total = np.where(there, near.distances[rows], 0).sum(axis=1)
        far[rows] = total / np.maximum(there.sum(axis=1), 1)
    ids = np.flatnonzero(near.valid)
    # Copies have distance 0: they lie at the other end and must not stretch the scale.
    values = np.log(np.maximum(far[ids], np.finfo(np.float32).tiny))
    middle = float(np.median(values)) if ids.size else 0.0
    spread = (
        _MAD_TO_SIGMA * float(np.median(np.abs(values - middle))) if ids.size else 0
    )
    score = (values - middle) / (spread or 1.0)
    order = np.argsort(-score, kind="stable")
    count = int((score > _FAR).sum()) if limit is None else min(limit, ids.size)
    order = order[:count]
    return Finding(
        "outliers",
        f"Outliers: {count:,} of {ids.size:,} items",
        ids[order],
        score[order].astype(np.float32),
        "robust standard deviations above the typical distance",
    )
