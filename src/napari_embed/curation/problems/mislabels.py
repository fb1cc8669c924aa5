"""Labels that the neighbors, or a classifier, do not agree with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import (
    Codes,
    Neighbors,
    label_codes,
    neighbors_of,
)
from napari_embed.errors import InputError, MissingDependencyError
from napari_embed.project.reader import ProjectReader

__all__ = ["mislabels"]

_BLOCK_VOTES = 1 << 24
# Votes of a few dozen neighbors scatter around what is usual.
_LIKELY = 2 / 3


def mislabels(
    project: ProjectReader,
    *,
    column: str = "label",
    labels: Codes | None = None,
    embeddings: str | None = None,
    within: Ids | None = None,
    n_neighbors: int = 30,
    probabilities: NDArray[np.floating] | None = None,
) -> Finding:
    """Return items whose label is probably wrong, and which one would be right.

    The share of neighbors with a label stands for its probability. As in confident
    learning (Northcutt et al. 2021), what counts as likely differs by label: two thirds
    of what is usual for the items that carry it. An item is listed when another label
    is likely and its own is less probable. The score is the difference of the two.

    Parameters
    ----------
    project
        With a neighbor graph (not needed with ``probabilities``).
    column
        Whose labels to check.
    labels
        Codes and names to check instead, such as corrected ones.
    embeddings
        Whose graph; by default the newest.
    within
        Items to look at; others do not vote either.
    n_neighbors
        Neighbors that vote, fewer where fewer are stored.
    probabilities
        (n, classes) in the order of the labels' names (sorted), from a model that was
        not trained on the item it judges; then the package cleanlab decides.

    Raises
    ------
    IncompleteStageError
        If neighbors were not found yet.
    InputError
        If there are no labels, or the probabilities do not fit.
    MissingDependencyError
        If cleanlab is needed and not installed.
    """
    codes, names = label_codes(project, column, labels, what="none can be wrong")
    if probabilities is not None:
        wanted = item_mask(within, project.n_items) & (codes >= 0)
        return _by_cleanlab(codes, names, np.asarray(probabilities), wanted)
    if n_neighbors < 2:
        raise InputError(f"At least 2 neighbors have to vote, got {n_neighbors}.")
    near = neighbors_of(project, embeddings=embeddings, within=within, most=n_neighbors)
    votes = _Votes(near, codes, len(names))
    usual = votes.usual()
    ids, scores, better = votes.judge(usual)
    order = np.argsort(-scores, kind="stable")
    checked = int((near.valid & (codes >= 0)).sum())
    return _finding(ids[order], scores[order], better[order], names, checked)


def _finding(
    ids: NDArray[np.int64],
    scores: NDArray[np.float32],
    better: NDArray[np.int32],
    names: list[str],
    checked: int,
) -> Finding:
    return Finding(
        "mislabels",
        f"Likely wrong labels: {ids.size:,} of {checked:,}",
        ids, scores, "how much more probable the suggested label is",
        details=better, detail_names=tuple(names),
    )  # fmt: skip


class _Votes:
    """Shares of labels among the neighbors of each item, block by block."""

    def __init__(self, near: Neighbors, codes: NDArray[np.int32], n_names: int) -> None:
        self._near, self._codes, self._n_names = near, codes, n_names
        step = max(1, _BLOCK_VOTES // max(n_names, near.indices.shape[1]))
        self._ids = np.flatnonzero(near.valid & (codes >= 0))
        self._parts = [self._ids[i : i + step] for i in range(0, self._ids.size, step)]

    def _labels(
        self, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the neighbors' labels, -1 where there is no vote, and the weights."""
        where = self._near.indices[ids]
        found = np.where(where >= 0, self._codes[where], np.int32(-1))
        weight = (found >= 0).astype(np.float32)
        total = weight.sum(axis=1, keepdims=True)
        return found, weight / np.maximum(total, 1)

    def usual(self) -> NDArray[np.float32]:
        """Return for each label how probable it is on average where it is carried."""
        total = np.zeros(self._n_names)
        count = np.zeros(self._n_names)
        for ids in self._parts:
            found, weight = self._labels(ids)
            own = self._codes[ids]
            share = (weight * (found == own[:, None])).sum(axis=1)
            total += np.bincount(own, share, self._n_names)
            count += np.bincount(own, minlength=self._n_names)
        mean = total / np.maximum(count, 1)
        # A label that nobody else confirms suggests nothing.
        return np.where(mean > 0, mean, np.inf).astype(np.float32)

    def judge(
        self, usual: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]:
        """Return ids, scores and better labels of the items to list."""
        lists: list[
            tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]
        ] = []
        for ids in self._parts:
            found, weight = self._labels(ids)
            row = np.repeat(np.arange(ids.size), found.shape[1])
            # Votes without a label fall into a column that is cut off.
            column = np.where(found >= 0, found, self._n_names).ravel()
            flat = np.bincount(
                row * (self._n_names + 1) + column,
                weight.ravel(),
                ids.size * (self._n_names + 1),
            )
            share = flat.reshape(ids.size, -1)[:, : self._n_names].astype(np.float32)
            every = np.arange(ids.size)
            own = share[every, self._codes[ids]]
            share[every, self._codes[ids]] = -1
            share[share < _LIKELY * usual] = -1
            better = share.argmax(axis=1).astype(np.int32)
            margin = share[every, better] - own
            bad = margin > 0
            lists.append((ids[bad], margin[bad], better[bad]))
        if not lists:
            nothing = np.zeros(0)
            return (
                nothing.astype(np.int64), nothing.astype(np.float32),
                nothing.astype(np.int32),
            )  # fmt: skip
        ids_, margins, betters = zip(*lists, strict=True)
        return np.concatenate(ids_), np.concatenate(margins), np.concatenate(betters)


def _by_cleanlab(
    codes: NDArray[np.int32],
    names: list[str],
    probabilities: NDArray[np.floating],
    wanted: NDArray[np.bool_],
) -> Finding:
    """Return what cleanlab finds in given probabilities."""
    if probabilities.shape != (codes.size, len(names)):
        raise InputError(
            f"Probabilities of shape {(codes.size, len(names))} are needed, one column "
            f"per label ({', '.join(names)!s:.200}), got {probabilities.shape}."
        )
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingDependencyError(
            "Probabilities are judged by the package cleanlab, which is not "
            'installed: pip install "napari-embed[cleanlab]"'
        ) from error
    ids = np.flatnonzero(wanted & np.isfinite(probabilities).all(axis=1))
    chances = probabilities[ids]
    used, given = np.unique(codes[ids], return_inverse=True)
    narrowed = chances[:, used]
    total = narrowed.sum(axis=1, keepdims=True)
    narrowed = np.where(total > 0, narrowed / np.maximum(total, 1e-12), 1 / used.size)
    order = np.asarray(
        find_label_issues(
            given, narrowed, return_indices_ranked_by="normalized_margin", n_jobs=1
        )
    )
    rows = ids[order]
    better = chances[order].argmax(axis=1).astype(np.int32)
    score = chances[order, better] - chances[order, codes[rows]]
    return _finding(rows, score.astype(np.float32), better, names, ids.size)
