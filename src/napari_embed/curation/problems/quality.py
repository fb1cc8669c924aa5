"""Pictures that are dark, bright, blurred, empty, or of an odd size or shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.curation.problems.findings import Finding
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = [
    "ISSUES",
    "QUALITY_COLUMNS",
    "QualityLimits",
    "is_inspected",
    "measure_image",
    "quality_problems",
]

QUALITY_COLUMNS = (
    "height", "width", "bytes", "brightness", "dark_end", "light_end", "contrast",
    "sharpness", "entropy",
)  # fmt: skip
"""Columns of the stage "measures/quality"; the last six come from `measure_image`."""

ISSUES = ("dark", "bright", "blurred", "low information", "odd size", "odd aspect")

_GREYS = np.arange(256)
_FLAT = 1.0 / 255


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """Where a picture begins to be a problem.

    Attributes
    ----------
    dark
        Its light end (95th percentile of grey, 0 to 1) is below this.
    bright
        Its dark end (5th percentile) is above this.
    blurred
        Its sharpness is below this share of the collection's median.
    low_information
        The entropy of its greys is below this, in bits (8 at most).
    odd_size
        It has so many times more or fewer pixels than the median.
    odd_aspect
        It is so many times wider or narrower than the median.
    """

    dark: float = 0.2
    bright: float = 0.85
    blurred: float = 0.35
    low_information: float = 2.0
    odd_size: float = 8.0
    odd_aspect: float = 2.5

    def __post_init__(self) -> None:
        shares = (self.dark, self.bright, self.blurred)
        if not all(0 < share < 1 for share in shares):
            raise InputError("dark, bright and blurred must lie between 0 and 1.")
        if not (0 < self.low_information <= 8):
            raise InputError("low_information is in bits, above 0 and at most 8.")
        if not (self.odd_size > 1 and self.odd_aspect > 1):
            raise InputError("odd_size and odd_aspect are ratios above 1.")


def measure_image(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return brightness, dark end, light end, contrast, sharpness and entropy.

    Parameters
    ----------
    image
        uint8 (h, w, 3).

    Returns
    -------
    (6,) float32: mean, 5th and 95th percentile and standard deviation of grey, 0 to 1;
    standard deviation of the Laplacian over that of grey; bits.
    """
    grey = Image.fromarray(image).convert("L")
    counts = np.asarray(grey.histogram(), np.float64)
    total = counts.sum()
    share = counts / total
    mean = float(share @ _GREYS)
    deviation = float(np.sqrt(max(0.0, share @ (_GREYS - mean) ** 2)))
    low, high = np.searchsorted(np.cumsum(counts), (0.05 * total, 0.95 * total))
    used = share[share > 0]
    entropy = float(-(used * np.log2(used)).sum())
    values = np.asarray(grey, np.float32)
    sharpness = _edges(values) / max(deviation, 1.0)
    return np.array(
        [mean / 255, low / 255, high / 255, deviation / 255, sharpness, entropy],
        np.float32,
    )


def _edges(grey: NDArray[np.float32]) -> float:
    """Return the standard deviation of the Laplacian; 0 for a picture too small."""
    if min(grey.shape) < 3:
        return 0.0
    inner = 4 * grey[1:-1, 1:-1]
    inner = inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(inner.std())


def is_inspected(project: ProjectReader) -> bool:
    """Return whether the images of a project were measured to the end."""
    return project.stage_info("measures/quality").state == "sealed"


def quality_problems(
    project: ProjectReader,
    *,
    issues: Sequence[str] = ISSUES,
    limits: QualityLimits | None = None,
    within: Ids | None = None,
) -> Finding:
    """Return the pictures beyond a limit; one row each, with its worst issue.

    The score is how far it is beyond that issue's limit, above 0 to 1. Groups are the
    issues.

    Raises
    ------
    IncompleteStageError
        If the images were not measured yet.
    InputError
        If an issue is unknown.
    """
    unknown = [name for name in issues if name not in ISSUES]
    if unknown or not issues:
        raise InputError(
            f"Issues to look for: {', '.join(ISSUES)}; got {', '.join(unknown) or 0}."
        )
    limits = limits or QualityLimits()
    values = project.measures("quality")[:]
    wanted = item_mask(within, project.n_items) & np.isfinite(values[:, 3])
    ids = np.flatnonzero(wanted)
    severe = _severity(values[ids], limits)[:, [ISSUES.index(x) for x in issues]]
    worst = severe.argmax(axis=1).astype(np.int32)
    score = severe.max(axis=1, initial=0.0)
    bad = np.flatnonzero(score > 0)
    bad = bad[np.lexsort((ids[bad], -score[bad], worst[bad]))]
    names = tuple(issues)
    return Finding(
        "quality",
        f"Image quality: {bad.size:,} of {ids.size:,} images",
        ids[bad], score[bad], "how far beyond the limit", worst[bad], names,
        details=worst[bad], detail_names=names,
    )  # fmt: skip


def _severity(
    values: NDArray[np.float32], limits: QualityLimits
) -> NDArray[np.float32]:
    """Return (m, issues): how far beyond each limit, 0 where within it."""
    column = {name: values[:, i] for i, name in enumerate(QUALITY_COLUMNS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        sharp = column["sharpness"] / _median(column["sharpness"])
        size = column["height"] * column["width"]
        aspect = column["width"] / column["height"]
        found = [
            1 - column["light_end"] / limits.dark,
            (column["dark_end"] - limits.bright) / (1 - limits.bright),
            1 - sharp / limits.blurred,
            1 - column["entropy"] / limits.low_information,
            1 - limits.odd_size / _fold(size / _median(size)),
            1 - limits.odd_aspect / _fold(aspect / _median(aspect)),
        ]
    # A flat picture has no edges to be blurred.
    found[2][column["contrast"] < _FLAT] = 0
    stacked = np.stack(found, axis=1).astype(np.float32)
    return np.asarray(np.clip(np.nan_to_num(stacked, nan=0.0), 0, 1))


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if values.size else 1.0


def _fold(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a ratio and its inverse as the larger of the two."""
    return np.asarray(np.maximum(ratio, 1 / ratio))
