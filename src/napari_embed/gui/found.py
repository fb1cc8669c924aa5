"""What searches in the window look for, and what they find. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.problems.duplicates import DuplicatePairs
from napari_embed.curation.problems.findings import Finding

__all__ = ["PROBLEMS", "Bars", "Found", "Problem", "Scores", "found_of", "scores_of"]


@dataclass(frozen=True)
class Problem:
    """A search for problems: its kind, how it is called, what it needs."""

    kind: str
    title: str
    reads_images: bool = False
    counts: bool = False
    uses_labels: bool = False


PROBLEMS: tuple[Problem, ...] = (
    Problem("near-duplicates", "Near-duplicates"),
    Problem("duplicates", "Exact duplicates", reads_images=True),
    Problem("mislabels", "Likely wrong labels", uses_labels=True),
    Problem("outliers", "Outliers"),
    Problem("quality", "Dark, bright, blurred, odd images", reads_images=True),
    Problem("clusters", "Clusters", uses_labels=True),
    Problem("label-next", "What to label next", counts=True),
    Problem("balanced", "Balanced sample of classes", counts=True, uses_labels=True),
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found, in the order to look at it.

    Attributes
    ----------
    ids
        (m,) int64, the best or worst first.
    title, note
        Plain text; names in it come from data.
    extra
        (e,) ids that can go: the copies that are not the best of their group.
    suggestions
        Better labels and the ids they are for.
    scores, score_name
        (m,) float32 number of each item, or None, and what it is.
    pairs, distance
        Of near-duplicates: what other groups can be cut from, and where these were.
    """

    ids: NDArray[np.int64]
    title: str
    note: str = ""
    extra: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    suggestions: tuple[tuple[str, NDArray[np.int64]], ...] = ()
    scores: NDArray[np.float32] | None = None
    score_name: str = ""
    pairs: DuplicatePairs | None = None
    distance: float = 0.0


@dataclass(frozen=True, eq=False)
class Bars:
    """How often the numbers of a column occur, to be drawn.

    Attributes
    ----------
    column
        Its name.
    counts, chosen
        (bins,) int64 of all items, and of those for which the other filters hold.
    edges
        (bins + 1,) float64.
    """

    column: str
    counts: NDArray[np.int64]
    chosen: NDArray[np.int64]
    edges: NDArray[np.float64]


def found_of(finding: Finding) -> Found:
    """Return a list of findings as it is shown."""
    suggestions = ()
    if finding.kind == "mislabels":
        suggestions = tuple(
            (name, finding.ids[finding.details == code])
            for code, name in enumerate(finding.detail_names)
            if (finding.details == code).any()
        )
    extra = finding.removable() if finding.keep.any() else np.zeros(0, np.int64)
    return Found(
        finding.ids, finding.title, finding.note, extra, suggestions,
        finding.scores, finding.score_name,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scores:
    """The numbers by which items were found, looked up by id.

    Attributes
    ----------
    ids
        (m,) int64, ascending.
    values
        (m,) float32.
    name
        What they are.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    name: str

    def text(self, item: int) -> str:
        """Return the number of an item in words, "" where it has none."""
        place = int(np.searchsorted(self.ids, item))
        if place >= len(self.ids) or self.ids[place] != item:
            return ""
        return f"{float(self.values[place]):.3g}"


def scores_of(found: Found) -> Scores | None:
    """Return the scores of what was found, None where there are none."""
    if found.scores is None or len(found.scores) != len(found.ids):
        return None
    order = np.argsort(found.ids)
    return Scores(found.ids[order], found.scores[order], found.score_name)
