"""Which items to label next, and samples with as many items of each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import Codes, label_codes, newest
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["balanced_sample", "label_next"]

Progress = Callable[[int, int], None]

# Bounds on memory and time: vectors that centers are learned from, centers, candidates
# of the spread pick, labelled ones it keeps away from.
_LEARN_ROWS = 100_000
_MOST_CENTERS = 2048
_CANDIDATES = 50_000
_LABELLED = 5_000
_BLOCK_ROWS = 8192
_DENSITY_NEIGHBORS = 10


def label_next(
    project: ProjectReader,
    count: int,
    *,
    strategy: Literal["typical", "spread"] = "typical",
    embeddings: str | None = None,
    labelled: Ids | None = None,
    within: Ids | None = None,
    random_state: int = 0,
    progress: Progress | None = None,
) -> Finding:
    """Choose the items whose labels would teach the most.

    "typical" (after Hacohen et al. 2022) forms as many groups as picks, prefers groups
    without labels, and takes from each the item in the densest place: diverse and
    dense. "spread" takes again and again the item farthest from all labelled and
    chosen ones: it covers rare items, and outliers too; among at most 50,000 random
    candidates.

    Parameters
    ----------
    project
        With embeddings.
    count
        How many to choose.
    strategy
        See above.
    embeddings
        Which; by default the newest.
    labelled
        Items that have a label already; they are not chosen.
    within
        Items to choose from.
    random_state
        Seed.
    progress
        Called with (steps done, steps in all).

    Raises
    ------
    IncompleteStageError
        If there are no finished embeddings.
    InputError
        If there is nothing to choose from.
    """
    if strategy not in ("typical", "spread"):
        raise InputError(f"strategy must be 'typical' or 'spread', got {strategy!r}.")
    name = newest(project, "embeddings/", embeddings, "embed")
    has_label = np.zeros(project.n_items, bool)
    if labelled is not None:
        has_label = item_mask(labelled, project.n_items)
    pool = _Pool(project, name, item_mask(within, project.n_items), has_label)
    count = _checked_count(count, int((pool.valid & ~has_label).sum()))
    rng = np.random.default_rng(random_state)
    say = progress or (lambda done, total: None)
    choose = pool.typical if strategy == "typical" else pool.spread
    ids, scores, score_name = choose(count, rng, say)
    left = int((pool.valid & ~has_label).sum())
    return Finding(
        "label-next", f"To label next: {ids.size:,} of {left:,} items without a label",
        ids, scores, score_name,
    )  # fmt: skip


def _checked_count(count: int, available: int) -> int:
    if count < 1:
        raise InputError(f"At least one item has to be chosen, got {count}.")
    if available == 0:
        raise InputError("There is no item left to choose from.")
    return min(int(count), available)


class _Pool:
    """The vectors of a project, read by blocks."""

    def __init__(
        self,
        project: ProjectReader,
        name: str,
        wanted: NDArray[np.bool_],
        labelled: NDArray[np.bool_],
    ) -> None:
        self._project, self._name = project, name
        self._rows = project.embeddings(name)
        info = project.stage_info(f"embeddings/{name}").info
        self._cosine = info.get("metric") == "cosine"
        self._labelled = labelled
        self.valid = wanted & self._finite()

    def _finite(self) -> NDArray[np.bool_]:
        finite = np.ones(len(self._rows), bool)
        table = self._project.errors()
        failed = np.asarray(table["id"])[
            np.asarray(table["stage"].to_pylist(), object) == f"embeddings/{self._name}"
        ]
        finite[failed.astype(np.int64)] = False
        return finite

    def _vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some vectors, of length 1 where the metric is cosine."""
        values = self._rows[np.sort(ids)][np.argsort(np.argsort(ids))]
        if self._cosine:
            norm = np.linalg.norm(values, axis=1, keepdims=True)
            values = values / np.maximum(norm, np.finfo(np.float32).tiny)
        return np.asarray(np.nan_to_num(values), np.float32)

    def typical(
        self, count: int, rng: np.random.Generator, say: Progress
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], str]:
        """Return the densest item of each group, groups without a label first."""
        ids = np.flatnonzero(self.valid)
        n_labelled = int(self._labelled[ids].sum())
        n_groups = min(ids.size, _MOST_CENTERS, count + min(count, n_labelled))
        group, far = self._cluster(ids, n_groups, rng, say)
        dense = self._density(ids, far)
        labelled = self._labelled[ids]
        has = np.bincount(group, labelled, n_groups)
        size = np.bincount(group, minlength=n_groups)
        # First every group's densest item, then every group's second and so on;
        # within a round, groups with few labels and many items come first.
        free = np.flatnonzero(~labelled)
        free = free[np.lexsort((-dense[free], group[free]))]
        start = np.searchsorted(group[free], np.arange(n_groups))
        turn = np.arange(free.size) - start[group[free]]
        turn = turn + has[group[free]].astype(np.int64)
        order = np.lexsort((-size[group[free]], turn))[:count]
        chosen = free[order]
        return ids[chosen], dense[chosen], "density where it lies"

    def _cluster(
        self,
        ids: NDArray[np.int64],
        n_groups: int,
        rng: np.random.Generator,
        say: Progress,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest of ``n_groups`` centers, and the distance to it."""
        from sklearn.cluster import MiniBatchKMeans

        learn = ids if ids.size <= _LEARN_ROWS else rng.choice(ids, _LEARN_ROWS, False)
        steps = 1 + -(-ids.size // _BLOCK_ROWS)
        say(0, steps)
        model = MiniBatchKMeans(
            n_groups, batch_size=4096, n_init=1, max_iter=20,
            random_state=int(rng.integers(1 << 31)),
        ).fit(self._vectors(np.sort(learn)))  # fmt: skip
        centers = model.cluster_centers_.astype(np.float32)
        group = np.empty(ids.size, np.int64)
        far = np.empty(ids.size, np.float32)
        half = (centers**2).sum(axis=1) / 2
        for step, start in enumerate(range(0, ids.size, _BLOCK_ROWS)):
            block = self._vectors(ids[start : start + _BLOCK_ROWS])
            score = block @ centers.T - half
            stop = start + len(block)
            group[start:stop] = score.argmax(axis=1)
            squared = (block**2).sum(axis=1) - 2 * score.max(axis=1)
            far[start:stop] = np.sqrt(np.maximum(squared, 0))
            say(step + 2, steps)
        return group, far

    def _density(
        self, ids: NDArray[np.int64], far: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the inverse distance to the neighbors, or to the center without."""
        key = f"neighbors/{self._name}"
        if self._project.stage_info(key).state == "sealed":
            graph = self._project.read_neighbors(self._name, most=_DENSITY_NEIGHBORS)
            squared = graph.distances[ids]
            there = np.isfinite(squared)
            total = np.sqrt(np.where(there, np.maximum(squared, 0), 0)).sum(axis=1)
            mean = total / np.maximum(there.sum(axis=1), 1)
            far = np.where(there.any(axis=1), mean, np.inf).astype(np.float32)
        floor = np.finfo(np.float32).eps * (float(np.median(far)) or 1.0)
        return np.asarray(1 / np.maximum(far, floor), np.float32)

    def spread(
        self, count: int, rng: np.random.Generator, say: Progress
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], str]:
        """Return the items that lie farthest from each other (greedy k-center)."""
        free = np.flatnonzero(self.valid & ~self._labelled)
        if free.size > max(_CANDIDATES, count):
            free = np.sort(rng.choice(free, max(_CANDIDATES, count), replace=False))
        vectors = self._vectors(free)
        length = (vectors**2).sum(axis=1)
        nearest = np.full(free.size, np.inf, np.float32)

        def approach(center: NDArray[np.float32]) -> None:
            squared = length - 2 * (vectors @ center) + center @ center
            np.minimum(nearest, np.maximum(squared, 0), out=nearest)

        known = np.flatnonzero(self.valid & self._labelled)
        if known.size > _LABELLED:
            known = rng.choice(known, _LABELLED, replace=False)
        for center in self._vectors(known) if known.size else ():
            approach(center)
        chosen: list[int] = []
        scores: list[float] = []
        if not known.size:  # begin in the middle, not with an outlier
            middle = vectors.mean(axis=0)
            first = int((length - 2 * (vectors @ middle)).argmin())
            chosen, scores = [first], [0.0]
            approach(vectors[first])
            nearest[first] = -1
        while len(chosen) < count:
            best = int(nearest.argmax())
            scores.append(float(np.sqrt(max(0.0, float(nearest[best])))))
            chosen.append(best)
            approach(vectors[best])
            nearest[best] = -1
            if len(chosen) % 16 == 0:
                say(len(chosen), count)
        say(count, count)
        return (
            free[chosen], np.asarray(scores, np.float32),
            "distance to the nearest labelled or chosen one",
        )  # fmt: skip


def balanced_sample(
    project: ProjectReader,
    count: int,
    *,
    column: str = "label",
    labels: Codes | None = None,
    within: Ids | None = None,
    random_state: int = 0,
) -> Finding:
    """Choose items at random, as many of each class as possible.

    Classes with too few items give all they have; the others share the rest.

    Parameters
    ----------
    project, count, within, random_state
        As for `label_next`.
    column
        Whose values are the classes.
    labels
        Codes and names instead, such as clusters.

    Raises
    ------
    InputError
        If no item has a class.
    """
    codes, names = label_codes(project, column, labels, what="nothing can be balanced")
    rng = np.random.default_rng(random_state)
    ids = np.flatnonzero(item_mask(within, project.n_items) & (codes >= 0))
    count = _checked_count(count, ids.size)
    sizes = np.bincount(codes[ids], minlength=len(names))
    share = _shares(sizes, count)
    ids = rng.permutation(ids)
    ids = ids[np.argsort(codes[ids], kind="stable")]
    start = np.cumsum(sizes) - sizes
    turn = np.arange(ids.size) - start[codes[ids]]
    chosen = ids[turn < share[codes[ids]]]
    used = np.flatnonzero(share)
    place = np.full(len(names), -1, np.int32)
    place[used] = np.arange(used.size, dtype=np.int32)
    groups = place[codes[chosen]]
    return Finding(
        "balanced",
        f"Balanced sample: {chosen.size:,} items of {used.size:,} classes",
        chosen, sizes[codes[chosen]].astype(np.float32), "items of its class",
        groups, tuple(names[i] for i in used),
        note=_note(sizes[used], share[used]),
    )  # fmt: skip


def _shares(sizes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return how many items each class gives, as equal as they allow."""
    order = np.argsort(sizes, kind="stable")
    share = np.zeros(sizes.size, np.int64)
    left = count
    for done, i in enumerate(order):
        share[i] = min(int(sizes[i]), left // (sizes.size - done))
        left -= int(share[i])
    for i in order[::-1]:  # what division left over, one each
        more = min(left, int(sizes[i] - share[i]), 1)
        share[i] += more
        left -= more
    return share


def _note(sizes: NDArray[Any], share: NDArray[np.int64]) -> str:
    short = int((share < share.max()).sum() - (share == share.max() - 1).sum())
    if short <= 0 or not (sizes == share).any():
        return ""
    return f"{short:,} classes have too few items and give all of theirs."
