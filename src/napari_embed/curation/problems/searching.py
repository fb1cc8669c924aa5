"""All searches by name, for the command line and the engine process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from napari_embed.curation.problems.clusters import find_clusters
from napari_embed.curation.problems.duplicates import duplicate_pairs, exact_duplicates
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.mislabels import mislabels
from napari_embed.curation.problems.outliers import outliers
from napari_embed.curation.problems.picks import balanced_sample, label_next
from napari_embed.curation.problems.quality import QualityLimits, quality_problems
from napari_embed.errors import InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["FIND_KINDS", "call_checked", "find"]

_FUNCTIONS: dict[str, Callable[..., Finding]] = {
    "duplicates": exact_duplicates,
    "outliers": outliers,
    "mislabels": mislabels,
    "quality": quality_problems,
    "clusters": find_clusters,
    "label-next": label_next,
    "balanced": balanced_sample,
}
FIND_KINDS = ("near-duplicates", *_FUNCTIONS)
"""Names of the searches."""

_WITH_PROGRESS = ("clusters", "label-next")


def find(
    project: ProjectReader,
    kind: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Finding:
    """Run one search by its name in `FIND_KINDS`, with that function's options.

    "near-duplicates" has the options of `duplicate_pairs` and ``threshold``, by default
    the suggested one; ``limits`` of "quality" may be a dictionary.

    Raises
    ------
    InputError
        If the kind, or an option of it, is unknown.
    """
    if kind == "near-duplicates":
        threshold = options.pop("threshold", None)
        pairs = call_checked(
            duplicate_pairs, project=project, progress=progress, **options
        )
        found: Finding = pairs.groups(
            pairs.suggested if threshold is None else float(threshold)
        )
        return found
    if kind not in _FUNCTIONS:
        raise InputError(f"Nothing finds {kind!r}. Known: {', '.join(FIND_KINDS)}.")
    if isinstance(options.get("limits"), Mapping):
        options["limits"] = call_checked(QualityLimits, **options["limits"])
    if kind in _WITH_PROGRESS:
        options["progress"] = progress
    result: Finding = call_checked(_FUNCTIONS[kind], project=project, **options)
    return result


def call_checked(function: Callable[..., Any], **options: Any) -> Any:
    """Call a function with options that came from outside.

    Raises
    ------
    InputError
        If it has no such option, or needs another.
    """
    try:
        inspect.signature(function).bind(
            *([options["project"]] if "project" in options else []),
            **{k: v for k, v in options.items() if k != "project"},
        )
    except TypeError as error:
        raise InputError(f"This search does not work like that: {error}.") from error
    return function(**options)
