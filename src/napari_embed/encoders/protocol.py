"""What every encoder offers to the stations above."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder", "Progress", "TextEncoder"]

Progress = Callable[[int, int], None]
"""``progress(done, total)``; may raise :class:`~napari_embed.errors.JobCancelled`."""


class Encoder(Protocol):
    """Turns images into vectors, row by row.

    Attributes
    ----------
    name
        Name in the registry.
    dim
        Length of a vector; known before and not changed by :meth:`fit`.
    metric
        "cosine" or "euclidean": what the vectors are meant to be compared with.
        Vectors meant for "cosine" have unit length (or are zero).
    fingerprint
        16 hex digits that identify code, weights, preprocessing and, where the
        encoder is fitted, its ``random_state``. Device, batch size and precision are
        left out: they change results by rounding only.
    needs_fit
        Whether :meth:`fit` or :meth:`load_state` must come before :meth:`encode`.
    fit_size
        The number of images :meth:`fit` makes use of; 0 if it needs none.
    failures
        Rows of the latest :meth:`encode` that have no vector, with the reason.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def needs_fit(self) -> bool: ...  # noqa: D102
    @property
    def fit_size(self) -> int: ...  # noqa: D102
    @property
    def failures(self) -> Mapping[int, str]: ...  # noqa: D102

    def fit(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> None:
        """Learn what the encoder needs from a sample of images.

        Of more than ``fit_size`` images, ``fit_size`` are drawn by ``random_state``,
        and only these are asked of ``images``. Images that cannot be used are left
        out. Does nothing where ``needs_fit`` is False.

        Raises
        ------
        InputError
            If not one image can be used.
        """
        ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return what :meth:`fit` learnt as plain float32 arrays (maybe none)."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what :meth:`state` returned; it is checked, never trusted.

        Raises
        ------
        ModelError
            If names, shapes or values do not fit this encoder.
        """
        ...

    def encode(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of ``images``, one row each, in their order.

        Parameters
        ----------
        images
            (h, w, 3), (h, w, 1) or (h, w) uint8 arrays of any sizes, or one 4-D
            array.
        progress
            Called with usable images done and in all after each batch.

        Returns
        -------
        (b, dim) float32. A row is NaN where an image cannot be used (wrong shape or
        dtype), does not fit into memory even alone, or gives a vector that is not
        finite; ``failures`` then holds ``{row: reason}``. All other rows are finite.
        Batches are halved when memory runs out and grown again later; the split
        changes results by rounding only.

        Raises
        ------
        ModelError
            If the encoder is not fitted.
        ComputeError
            If the device fails for another reason than memory.
        """
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """The other side of an encoder that knows words, as those of open_clip."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit vectors in the space of the images.

        Raises
        ------
        InputError
            If a text is empty.
        """
        ...
