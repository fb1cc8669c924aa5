"""What a search for problems returns: a list of items with scores and groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["Finding"]


def _none() -> NDArray[Any]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class Finding:
    """Items in the order to look at them: groups together, worst first.

    Attributes
    ----------
    kind
        "duplicates", "near-duplicates", "outliers", "mislabels", "quality",
        "clusters", "label-next" or "balanced".
    title
        One line for people. Names inside come from data: show it as plain text.
    ids
        (m,) int64, no item twice.
    scores
        (m,) float32, see ``score_name``.
    score_name
        What a score is.
    groups
        (m,) int32, number of the group, -1 for none.
    group_names
        One per group, "" where it has none.
    keep
        (m,) bool, the best member of each group of duplicates.
    details
        (m,) int32, index into ``detail_names`` or -1.
    detail_names
        Suggested labels, or what is wrong.
    note
        A sentence for people, "" when there is nothing to say.

    Raises
    ------
    InputError
        If lengths or indices do not fit.
    """

    kind: str
    title: str
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    score_name: str
    groups: NDArray[np.int32] = field(default_factory=_none)
    group_names: tuple[str, ...] = ()
    keep: NDArray[np.bool_] = field(default_factory=_none)
    details: NDArray[np.int32] = field(default_factory=_none)
    detail_names: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        m = self.ids.size
        for name, empty in (("groups", -1), ("details", -1), ("keep", False)):
            if getattr(self, name).size == 0 and m:
                object.__setattr__(self, name, np.full(m, empty, _TYPES[name]))
        for name, dtype in _TYPES.items():
            values = np.asarray(getattr(self, name), dtype)
            object.__setattr__(self, name, values)
            if values.shape != (m,):
                raise InputError(f"{name} must have shape ({m},), got {values.shape}.")
        for codes, names in (
            (self.groups, self.group_names),
            (self.details, self.detail_names),
        ):
            if m and not (codes.min() >= -1 and codes.max() < len(names)):
                raise InputError(f"A code is outside -1 to {len(names) - 1}.")

    def __len__(self) -> int:
        return int(self.ids.size)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.group_names)

    def removable(self) -> NDArray[np.int64]:
        """Return the members of groups that are not the one to keep."""
        removable = (self.groups >= 0) & ~self.keep
        return np.asarray(self.ids[removable], np.int64)

    def group(self, number: int) -> NDArray[np.int64]:
        """Return the members of one group, in order."""
        return np.asarray(self.ids[self.groups == number], np.int64)

    def head(self, count: int) -> Finding:
        """Return the first ``count`` items; groups keep their numbers."""
        cut = {name: getattr(self, name)[:count] for name in _TYPES}
        return replace(self, **cut)

    def codes(self, n_items: int) -> NDArray[np.int32]:
        """Return the group of every item of the project, -1 for none."""
        codes = np.full(n_items, -1, np.int32)
        codes[self.ids] = self.groups
        return codes

    def table(self) -> pa.Table:
        """Return the columns id, score, group, keep and detail."""
        none = [None]
        details = np.array([*self.detail_names, *none], object)[self.details]
        return pa.table(
            {
                "id": pa.array(self.ids),
                "score": pa.array(self.scores),
                "group": pa.array(self.groups, mask=self.groups < 0),
                "keep": pa.array(self.keep),
                "detail": pa.array(details.tolist(), pa.string()),
            }
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays for a file, see `from_arrays`."""
        words = {name: getattr(self, name) for name in _WORDS}
        text = json.dumps(words).encode()
        arrays = {name: getattr(self, name) for name in _TYPES}
        return {**arrays, "words": np.frombuffer(text, np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Finding:
        """Build from the values of `to_arrays`.

        Raises
        ------
        InputError
            If something is missing or does not fit.
        """
        try:
            words = json.loads(arrays["words"].tobytes())
            for name in ("group_names", "detail_names"):
                words[name] = tuple(map(str, words[name]))
            values: dict[str, Any] = {name: arrays[name] for name in _TYPES}
            return cls(**values, **{name: words[name] for name in _WORDS})
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"This is no list of findings: {error}") from error


_TYPES: dict[str, Any] = {
    "ids": np.int64,
    "scores": np.float32,
    "groups": np.int32,
    "keep": np.bool_,
    "details": np.int32,
}
_WORDS = ("kind", "title", "score_name", "group_names", "detail_names", "note")
