"""Find problems: each search returns a `Finding`, a list of items with scores."""

from napari_embed.curation.problems.clusters import find_clusters
from napari_embed.curation.problems.duplicates import (
    DuplicatePairs,
    duplicate_pairs,
    exact_duplicates,
)
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.mislabels import mislabels
from napari_embed.curation.problems.outliers import outliers
from napari_embed.curation.problems.picks import balanced_sample, label_next
from napari_embed.curation.problems.quality import (
    ISSUES,
    QUALITY_COLUMNS,
    QualityLimits,
    is_inspected,
    measure_image,
    quality_problems,
)
from napari_embed.curation.problems.searching import FIND_KINDS, find

__all__ = [
    "FIND_KINDS",
    "ISSUES",
    "QUALITY_COLUMNS",
    "DuplicatePairs",
    "Finding",
    "QualityLimits",
    "balanced_sample",
    "duplicate_pairs",
    "exact_duplicates",
    "find",
    "find_clusters",
    "is_inspected",
    "label_next",
    "measure_image",
    "mislabels",
    "outliers",
    "quality_problems",
]
