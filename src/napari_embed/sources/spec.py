"""What a source is: its description, its items and the shape of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = [
    "DEFAULT_SHRINK_TO_PX",
    "MAX_ITEMS",
    "DecodedItem",
    "ImageReader",
    "ProgressCallback",
    "Source",
    "SourceKind",
    "SourceSpec",
    "ValueRange",
]

SourceKind = Literal[
    "folder", "table", "images", "vectors", "ome-zarr", "objects", "sample"
]
ProgressCallback = Callable[[int, int], None]
OptionValue = str | int | float | bool | None

MAX_ITEMS = 100_000_000
"""More rows than this are refused: a lying header would otherwise eat all memory."""

DEFAULT_SHRINK_TO_PX = 256
"""Images are halved while their shorter side stays at least this long."""


@dataclass(frozen=True)
class SourceSpec:
    """Where items come from; stored in the project and enough to open it again.

    Attributes
    ----------
    kind
        "folder", "table", "images", "vectors", "ome-zarr", "objects" or
        "sample".
    path
        Folder or file; the name of the bundled data set for "sample".
    options
        Plain values that the kind understands, such as ``root`` or ``label``.

    Raises
    ------
    InputError
        If the kind is unknown.
    """

    kind: SourceKind
    path: str
    options: dict[str, OptionValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise InputError(
                f"Unknown kind of source {self.kind!r}. "
                f"Known: {', '.join(get_args(SourceKind))}."
            )
        if "\0" in self.path:
            raise InputError("A path cannot hold a NUL character.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"kind": self.kind, "path": self.path, "options": dict(self.options)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceSpec:
        """Build from the values of `to_dict`; they may come from a foreign file.

        Raises
        ------
        InputError
            If a value is missing or has the wrong type.
        """
        kind, path = values.get("kind"), values.get("path")
        options = values.get("options", {})
        plain = (str, int, float, bool, type(None))
        if (
            not isinstance(kind, str)
            or not isinstance(path, str)
            or not isinstance(options, dict)
            or not all(isinstance(v, plain) for v in options.values())
        ):
            raise InputError(f"Not the description of a source: {values!r:.200}.")
        return cls(
            cast(SourceKind, kind), path, {str(k): v for k, v in options.items()}
        )

    def with_options(self, **options: OptionValue) -> SourceSpec:
        """Return a copy with some options replaced."""
        return SourceSpec(self.kind, self.path, {**self.options, **options})

    @property
    def location(self) -> Path:
        """The path with ``~`` expanded, absolute."""
        return Path(self.path).expanduser().absolute()


class DecodedItem(NamedTuple):
    """One image, or the reason why there is none.

    Attributes
    ----------
    image
        uint8 (h, w, 3), or None.
    error
        A sentence for the errors table, or None.
    """

    image: NDArray[np.uint8] | None
    error: str | None


class ValueRange(NamedTuple):
    """How the numbers of images of one channel are spread, found on a sample.

    Attributes
    ----------
    limits
        What is shown as black and as white.
    extremes
        Smallest and largest value.
    """

    limits: tuple[float, float]
    extremes: tuple[float, float]


class ImageReader(Protocol):
    """What gives images of items: a source, or decoders around it."""

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one decoded item per row, in order; a bad image never raises."""
        ...


class Source(ImageReader, Protocol):
    """A place items come from. The row order of `list_items` is the item id."""

    @property
    def spec(self) -> SourceSpec:
        """The description this source was opened from."""
        ...

    @property
    def has_images(self) -> bool:
        """Whether `read` can return images."""
        ...

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return one row per item: ``source``, ``label`` and extra columns."""
        ...

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return one image, given its ``source`` value, unreduced."""
        ...

    def vectors(self) -> Any | None:
        """Return an (n, d) float array that can be sliced by rows, or None."""
        ...

    def positions(self) -> NDArray[np.float32] | None:
        """Return (n, 2) or (n, 3) positions that came with the items, or None."""
        ...
