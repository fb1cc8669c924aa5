"""What to look for when asking for similar items; travels between the processes.

Sets of ids are packed and written as base64, so that a million of them are one short
line of a message.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import (
    Ids,
    checked_ids,
    ordered_ids,
    pack_ids,
    unpack_ids,
)
from napari_embed.curation.filters import Result
from napari_embed.errors import InputError

__all__ = ["Likeness", "array_to_text", "result_from_answer"]

_MOST_TEXT = 1_000


@dataclass(frozen=True, eq=False)
class Likeness:
    """Something to compare items with: exactly one of ids, image and text.

    Attributes
    ----------
    ids
        Items, or a mask of them.
    image
        Path of an image file, embedded with the project's encoder.
    text
        Words, where the encoder has a text side.
    mode
        With several ids: "mean" compares with their mean, "any" with the nearest.
    k
        How many items to return.
    within
        Items to choose from; all when None.
    keep_query
        Return the items of ``ids`` as well, which are nearest to themselves.
    embeddings
        Name of the vectors; the newest complete ones when None.
    """

    ids: Ids | None = None
    image: str | Path | None = None
    text: str | None = None
    mode: Literal["mean", "any"] = "mean"
    k: int = 100
    within: Ids | None = None
    keep_query: bool = False
    embeddings: str | None = None

    def to_request(self, n_items: int) -> dict[str, Any]:
        """Return the arguments of the job "similar", checked.

        Raises
        ------
        InputError
            If there is not exactly one thing to compare with, or something is out of
            range.
        """
        given = [x is not None for x in (self.ids, self.image, self.text)]
        if sum(given) != 1:
            raise InputError("Look for one of: items, an image file, or a text.")
        if self.mode not in ("mean", "any"):
            raise InputError(f"mode must be 'mean' or 'any', got {self.mode!r:.40}.")
        if not isinstance(self.k, int | np.integer) or self.k < 1:
            raise InputError(f"k must be 1 or more, got {self.k!r:.40}.")
        if self.text is not None and not 1 <= len(self.text.strip()) <= _MOST_TEXT:
            raise InputError(
                f"Write 1 to {_MOST_TEXT:,} characters to look for, got "
                f"{len(self.text.strip()):,}."
            )
        wanted = None if self.ids is None else ordered_ids(self.ids, n_items)
        if wanted is not None and wanted.size == 0:
            raise InputError(
                "Nothing is selected, so there is nothing to compare with."
            )
        return {
            "ids": None if wanted is None else _packed(np.unique(wanted)),
            "image": None if self.image is None else str(Path(self.image).absolute()),
            "text": self.text,
            "mode": self.mode,
            "k": int(min(self.k, n_items)),
            "within": None
            if self.within is None
            else _packed(checked_ids(self.within, n_items)),
            "keep_query": self.keep_query,
            "embeddings": self.embeddings,
        }

    @classmethod
    def from_request(cls, arguments: dict[str, Any], n_items: int) -> Self:
        """Return what `to_request` was called on."""

        def ids(name: str) -> NDArray[np.int64] | None:
            packed = arguments.get(name)
            if packed is None:
                return None
            return unpack_ids(base64.b64decode(packed), n_items)

        names = ("image", "text", "mode", "k", "keep_query", "embeddings")
        values: dict[str, Any] = {name: arguments[name] for name in names}
        return cls(ids=ids("ids"), within=ids("within"), **values)

    def title(self) -> str:
        """Return the likeness in words, plain text."""
        if self.image is not None:
            return f"like {Path(self.image).name:.80}"
        if self.text is not None:
            return f'like "{self.text.strip():.80}"'
        ids = np.asarray(self.ids)
        count = int(ids.sum()) if ids.dtype == bool else ids.size
        if count == 1:
            one = int(np.flatnonzero(ids)[0]) if ids.dtype == bool else ids.ravel()[0]
            return f"like item {one}"
        how = "any" if self.mode == "any" else "the mean"
        return f"like {how} of {count:,} items"


def result_from_answer(answer: dict[str, Any], title: str) -> Result:
    """Return the result that the job "similar" sent."""
    ids = _array_from_text(answer["ids"], np.dtype("<i8"))
    distances = _array_from_text(answer["distances"], np.dtype("<f4"))
    return Result(ids, distances, title=title, note=str(answer.get("note") or ""))


def array_to_text(values: NDArray[Any]) -> str:
    """Return an array's bytes as text for a message."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _array_from_text(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array that `array_to_text` was given."""
    return np.frombuffer(base64.b64decode(text), dtype).copy()


def _packed(ids: NDArray[np.int64]) -> str:
    return base64.b64encode(pack_ids(ids)).decode("ascii")
