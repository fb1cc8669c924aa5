"""The same picture twice: equal to the bit, or nearly so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import neighbors_of, sources_rank
from napari_embed.curation.problems.pictures import (
    MOST_DIFFERENT,
    SUGGESTED,
    differences,
    grey_pictures,
)
from napari_embed.curation.problems.quality import QUALITY_COLUMNS, is_inspected
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["DuplicatePairs", "duplicate_pairs", "exact_duplicates"]

Progress = Callable[[int, int], None]

# Share of the typical distance between neighbors, where there are no pictures.
SUGGESTED_SHARE = 0.5
# A group this large is more likely a chain than copies of one picture.
_CHAIN_ITEMS, _CHAIN_SHARE = 50, 0.02


def exact_duplicates(project: ProjectReader, *, within: Ids | None = None) -> Finding:
    """Return groups of items whose file, or whose pixels, are equal.

    The best of each group, marked in ``keep``, is the first by path: equal files have
    equal resolution.

    Raises
    ------
    IncompleteStageError
        If the contents were not measured yet.
    """
    digests = np.ascontiguousarray(project.measures("content", dtype="uint8")[:])
    wanted = item_mask(within, project.n_items) & digests.any(axis=1)
    ids = np.flatnonzero(wanted)
    keys = digests[ids].view([("high", "<u8"), ("low", "<u8")]).ravel()
    order = np.lexsort((keys["low"], keys["high"]))
    ordered = keys[order]
    new = np.r_[True, ordered[1:] != ordered[:-1]] if ids.size else np.zeros(0, bool)
    group = np.cumsum(new) - 1
    sizes = np.bincount(group) if ids.size else np.zeros(0, np.int64)
    twice = sizes[group] > 1
    members, group = ids[order][twice], group[twice]
    return _grouped(
        "duplicates", members, group, sizes[group].astype(np.float32),
        _rank(project, members), by_score=-1, score_name="copies",
        what="Exact duplicates",
    )  # fmt: skip


def _rank(project: ProjectReader, members: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return which of some items is better: more pixels, then the first path."""
    path = sources_rank(project)[members]
    pixels = np.zeros(members.size, np.float32)
    if is_inspected(project):
        quality = project.measures("quality")
        columns = [QUALITY_COLUMNS.index(name) for name in ("height", "width")]
        for start in range(0, members.size, 1 << 16):
            part = members[start : start + (1 << 16)]
            pixels[start : start + part.size] = quality[part][:, columns].prod(axis=1)
    order = np.lexsort((path, -np.nan_to_num(pixels)))
    rank = np.empty(members.size, np.int32)
    rank[order] = np.arange(members.size, dtype=np.int32)
    return rank


def _grouped(
    kind: str,
    ids: NDArray[np.int64],
    group: NDArray[Any],
    scores: NDArray[np.float32],
    rank: NDArray[np.int32],
    *,
    by_score: int,
    score_name: str,
    what: str,
    note: str = "",
) -> Finding:
    """Return groups, the best member first in each.

    ``by_score`` 1 puts the group with the smallest score first, -1 the largest.
    """
    if ids.size == 0:
        empty = np.zeros(0, np.float32)
        return Finding(kind, f"{what}: none", ids, empty, score_name, note=note)
    _, group = np.unique(group, return_inverse=True)
    first = np.full(group.max() + 1, np.inf)
    np.minimum.at(first, group, by_score * scores)
    best = np.full(first.size, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(best, group, rank)
    place = np.empty(first.size, np.int32)
    place[np.lexsort((best, first))] = np.arange(first.size, dtype=np.int32)
    number = place[group]
    order = np.lexsort((rank, number))
    keep = rank == best[group]
    extra = ids.size - first.size
    return Finding(
        kind,
        f"{what}: {first.size:,} groups, {extra:,} items more than needed",
        ids[order], scores[order], score_name, number[order],
        ("",) * int(first.size), keep[order], note=note,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DuplicatePairs:
    """Pairs of items that may be copies, sorted by distance once.

    Attributes
    ----------
    left, right
        (p,) int32 ids, left < right.
    distances
        (p,) float32, ascending: how different the pictures are (see
        `napari_embed.curation.problems.pictures`), or the distance of the vectors.
    rank
        (n,) int32, small for the better of two items: more pixels, then first path.
    typical
        Median distance of an item to its nearest neighbor.
    resolution_known
        Whether the rank knows the number of pixels.
    of_pictures
        Whether pictures were compared.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    distances: NDArray[np.float32]
    rank: NDArray[np.int32]
    typical: float
    resolution_known: bool = True
    of_pictures: bool = False

    def __post_init__(self) -> None:
        n, p = self.rank.size, self.distances.size
        if self.left.shape != (p,) or self.right.shape != (p,):
            raise InputError("A pair needs two ids and a distance.")
        if p and not (self.left.min() >= 0 and self.right.max() < n):
            raise InputError(f"Ids of pairs must lie in 0 to {n - 1}.")

    @property
    def largest(self) -> float:
        """The distance up to which pairs are known: the end of a slider."""
        return MOST_DIFFERENT if self.of_pictures else self.typical

    @property
    def suggested(self) -> float:
        """A distance to begin with."""
        return SUGGESTED if self.of_pictures else SUGGESTED_SHARE * self.typical

    def counts(self, thresholds: Sequence[float] | NDArray[Any]) -> NDArray[np.int64]:
        """Return how many pairs are at most so far apart."""
        found = np.searchsorted(self.distances, np.asarray(thresholds), side="right")
        return np.asarray(found, np.int64)

    def groups(self, threshold: float) -> Finding:
        """Return items joined by pairs at most ``threshold`` apart.

        The score is the distance to the nearest copy.

        Raises
        ------
        InputError
            If the threshold is negative or no number.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not threshold >= 0:
            raise InputError(f"A distance of 0 or more is needed, got {threshold!r}.")
        cut = int(np.searchsorted(self.distances, threshold, side="right"))
        left, right = self.left[:cut], self.right[:cut]
        member = np.zeros(self.rank.size, bool)
        member[left] = member[right] = True
        ids = np.flatnonzero(member)
        place = np.cumsum(member, dtype=np.int32) - 1
        pairs = coo_array(
            (np.ones(cut, np.int8), (place[left], place[right])), (ids.size, ids.size)
        )
        group = np.zeros(0, np.int32)
        if ids.size:
            group = connected_components(pairs, directed=False)[1]
        near = np.full(ids.size, np.inf, np.float32)
        # Distances ascend, so the first time an item appears is its nearest pair.
        for side in (left, right):
            first, at = np.unique(place[side], return_index=True)
            near[first] = np.minimum(near[first], self.distances[:cut][at])
        return _grouped(
            "near-duplicates", ids, group, near, self.rank[ids], by_score=1,
            score_name=("difference from the nearest copy" if self.of_pictures else
                        "distance to the nearest copy"), what="Near-duplicates",
            note=self._note(group),
        )  # fmt: skip

    def _note(self, group: NDArray[np.int32]) -> str:
        notes = []
        largest = int(np.bincount(group).max()) if group.size else 0
        if largest > max(_CHAIN_ITEMS, _CHAIN_SHARE * self.rank.size):
            notes.append(
                f"One group joins {largest:,} items, probably a chain of merely "
                "similar ones: choose a smaller distance."
            )
        if not self.resolution_known:
            notes.append(
                "The one to keep is the first by path; measure the images, and it is "
                "the largest."
            )
        return " ".join(notes)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays for a file, see `from_arrays`."""
        facts = json.dumps([self.typical, self.resolution_known, self.of_pictures])
        return {
            "left": self.left, "right": self.right, "distances": self.distances,
            "rank": self.rank, "facts": np.frombuffer(facts.encode(), np.uint8),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> DuplicatePairs:
        """Build from the values of `to_arrays`.

        Raises
        ------
        InputError
            If something is missing or does not fit.
        """
        try:
            typical, known, of_pictures = json.loads(arrays["facts"].tobytes())
            return cls(
                np.asarray(arrays["left"], np.int32),
                np.asarray(arrays["right"], np.int32),
                np.asarray(arrays["distances"], np.float32),
                np.asarray(arrays["rank"], np.int32),
                float(typical), bool(known), bool(of_pictures),
            )  # fmt: skip
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"These are no pairs: {error}") from error


def duplicate_pairs(
    project: ProjectReader,
    *,
    embeddings: str | None = None,
    within: Ids | None = None,
    n_neighbors: int = 16,
    pictures: bool = True,
    progress: Progress | None = None,
) -> DuplicatePairs:
    """Return the pairs of neighbors that may be copies.

    Where all items have pictures, these are compared; otherwise pairs of vectors that
    are closer than is typical are returned.

    Parameters
    ----------
    project
        With a neighbor graph.
    embeddings
        Whose graph; by default the newest.
    within
        Items to look at.
    n_neighbors
        How many neighbors of an item are looked at: copies of one picture are joined
        through each other, so a few are enough for large groups, too.
    pictures
        Compare pictures where there are some; False goes by vectors alone.
    progress
        Called with (rows done, rows in all).

    Raises
    ------
    IncompleteStageError
        If neighbors were not found yet.
    """
    near = neighbors_of(project, embeddings=embeddings, within=within, most=n_neighbors)
    n = len(near.indices)
    nearest = near.distances[near.valid, 0]
    positive = nearest[nearest > 0]
    typical = float(np.median(positive)) if positive.size else 0.0
    grey = grey_pictures(project) if pictures else None
    most = typical if grey is None else math.inf
    keys, distances = [], []
    for rows in near.blocks():
        far = near.distances[rows]
        row, column = np.nonzero((far <= most) & np.isfinite(far))
        here = row + rows.start
        there = near.indices[rows][row, column].astype(np.int64)
        low, high = np.minimum(here, there), np.maximum(here, there)
        keys.append(low * n + high)
        distances.append(far[row, column])
        if progress and grey is None:
            progress(rows.stop, n)
    key, at = np.unique(np.concatenate(keys), return_index=True)
    distance = np.concatenate(distances)[at]
    if grey is not None:
        distance = differences(grey, key // n, key % n, progress=progress)
        alike = distance <= MOST_DIFFERENT
        key, distance = key[alike], distance[alike]
    order = np.argsort(distance, kind="stable")
    key = key[order]
    return DuplicatePairs(
        (key // n).astype(np.int32),
        (key % n).astype(np.int32),
        distance[order],
        _rank(project, np.arange(n)),
        typical,
        is_inspected(project),
        grey is not None,
    )
