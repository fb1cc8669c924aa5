"""A Python function as an encoder, for models that no list has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_embed.encoders.batches import AdaptiveBatches
from napari_embed.encoders.preparation import image_problem
from napari_embed.encoders.protocol import Progress
from napari_embed.errors import InputError, ModelError
from napari_embed.params import fingerprint

__all__ = ["FunctionEncoder"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class FunctionEncoder:
    """Turns images into vectors with a function of yours.

    Parameters
    ----------
    function
        Takes a list of uint8 (h, w, 3) images and returns (b, dim) numbers.
    name
        Under which the vectors are stored: letters, digits and ``. _ + -``.
    dim
        Length of a vector.
    version
        Change it when the function changes: vectors of another version are computed
        again.
    metric
        What the vectors are compared with; for "cosine" they are given unit length.
    batch_size
        Most images per call; halved while memory runs out.

    Raises
    ------
    InputError
        If the name, the length or the metric is unusable.
    """

    needs_fit = False
    fit_size = 0

    def __init__(
        self,
        function: Callable[[list[NDArray[np.uint8]]], Any],
        *,
        name: str,
        dim: int,
        version: str | int = 1,
        metric: Literal["cosine", "euclidean"] = "cosine",
        batch_size: int = 64,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"name must be letters, digits and . _ + - (at most 100), got {name!r}."
            )
        if dim < 1 or batch_size < 1 or metric not in ("cosine", "euclidean"):
            raise InputError(
                "dim and batch_size must be 1 or more and metric 'cosine' or "
                f"'euclidean', got {dim}, {batch_size}, {metric!r}."
            )
        self._function = function
        self.name, self.dim, self.metric = name, dim, metric
        self.fingerprint = fingerprint("function", name, dim, metric, str(version))
        self.batches = AdaptiveBatches(batch_size, batch_size)
        self.failures: dict[int, str] = {}

    def fit(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> None:
        """Do nothing: there is nothing to learn."""

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing."""

    def encode(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return (b, dim) float32; NaN rows are in ``failures``.

        Raises
        ------
        ModelError
            If the function returns something else than (b, dim) numbers.
        """
        vectors = np.full((len(images), self.dim), np.nan, np.float32)
        problems = {row: image_problem(image) for row, image in enumerate(images)}
        self.failures = {row: why for row, why in problems.items() if why}
        rows = [row for row, why in problems.items() if not why]

        def forward(start: int, stop: int) -> None:
            chosen = rows[start:stop]
            found = np.asarray(self._function([images[row] for row in chosen]))
            if found.shape != (len(chosen), self.dim) or found.dtype.kind not in "iuf":
                raise ModelError(
                    f"The function of {self.name!r} must return ({len(chosen)}, "
                    f"{self.dim}) numbers, got {found.dtype} {found.shape}."
                )
            vectors[chosen] = found

        too_large = self.batches.run(len(rows), forward, progress=progress)
        self.failures |= {rows[i]: why for i, why in too_large.items()}
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            vectors[row] = np.nan
            self.failures.setdefault(row, "the encoder gave a vector with NaN or Inf")
        if self.metric == "cosine":
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors /= np.where(length > 0, length, 1.0).astype(np.float32)
        return vectors
