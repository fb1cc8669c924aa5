"""The one encoder class: prepare, run the features, reduce, in batches.

The encoders differ only in their :class:`Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_embed.encoders.batches import AdaptiveBatches
from napari_embed.encoders.preparation import image_problem
from napari_embed.encoders.protocol import Progress
from napari_embed.encoders.reduction import (
    PrincipalComponents,
    fit_principal_components,
)
from napari_embed.errors import ModelError

__all__ = ["BatchedEncoder", "Recipe"]

CUDA_FIRST_BATCH = 32
CUDA_LARGEST_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes one encoder differ from another.

    Attributes
    ----------
    name, fingerprint
        As in :class:`~napari_embed.encoders.protocol.Encoder`.
    features_dim
        Length of the features, before reduction.
    dim
        Length of the vectors; smaller than ``features_dim`` means that a fitted PCA
        lies between.
    prepare
        Images to (b, 3, s, s) uint8 on the CPU.
    features
        That block, on the device, to (b, features_dim) float32.
    cpu_batch
        Images per batch on a CPU.
    fit_size
        Images that fit the PCA.
    """

    name: str
    fingerprint: str
    features_dim: int
    dim: int
    prepare: Callable[[Sequence[NDArray[Any]]], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor]
    cpu_batch: int
    fit_size: int = 0


class BatchedEncoder:
    """An encoder with vectors of unit length; see the protocol for its methods."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        *,
        batch_size: int | None = None,
        random_state: int = 0,
    ) -> None:
        self._recipe = recipe
        self._device = device
        self._random_state = random_state
        if batch_size is not None:
            self.batches = AdaptiveBatches(batch_size, batch_size)
        elif device.type == "cuda":
            self.batches = AdaptiveBatches(CUDA_FIRST_BATCH, CUDA_LARGEST_BATCH)
        else:
            self.batches = AdaptiveBatches(recipe.cpu_batch, recipe.cpu_batch)
        self._components: PrincipalComponents | None = None
        self._projection: tuple[torch.Tensor, torch.Tensor] | None = None
        self.failures: dict[int, str] = {}
        self.metric = "cosine"

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._recipe.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._recipe.dim

    @property
    def fingerprint(self) -> str:
        """16 hex digits of code, weights and preprocessing."""
        return self._recipe.fingerprint

    @property
    def needs_fit(self) -> bool:
        """Whether a PCA must be fitted or loaded before encoding."""
        return self._recipe.dim < self._recipe.features_dim

    @property
    def fit_size(self) -> int:
        """Images that :meth:`fit` makes use of."""
        return self._recipe.fit_size if self.needs_fit else 0

    def fit(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> None:
        """Fit the PCA on a sample of ``images``."""
        if not self.needs_fit:
            return
        rows = np.arange(len(images))
        if rows.size > self.fit_size:
            rng = np.random.default_rng(self._random_state)
            rows = np.sort(rng.choice(rows.size, self.fit_size, replace=False))
        sample = [images[int(row)] for row in rows]
        features = np.full((len(sample), self._recipe.features_dim), np.nan, np.float32)
        self._run(sample, self._recipe.features, features, progress)
        usable = np.isfinite(features).all(axis=1)
        self._use(fit_principal_components(features[usable], dim=self.dim))

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return the fitted PCA as plain arrays; empty if there is none."""
        return {} if self._components is None else self._components.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back a fitted PCA."""
        if not self.needs_fit:
            return
        self._use(
            PrincipalComponents.from_state(
                state, features=self._recipe.features_dim, dim=self.dim
            )
        )

    def encode(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return (b, dim) float32 unit vectors; NaN rows are in ``failures``."""
        if self.needs_fit and self._components is None:
            raise ModelError(
                f"The encoder {self.name!r} is not fitted: call fit() with a sample "
                "of images, or load_state(), before encode()."
            )
        vectors = np.full((len(images), self.dim), np.nan, np.float32)
        self.failures = self._run(images, self._vectors, vectors, progress)
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            vectors[row] = np.nan
            self.failures.setdefault(row, "the encoder gave a vector with NaN or Inf")
        return vectors

    def _use(self, components: PrincipalComponents) -> None:
        self._components = components
        self._projection = (
            torch.from_numpy(components.mean).to(self._device),
            torch.from_numpy(components.components.T.copy()).to(self._device),
        )

    def _vectors(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = self._recipe.features(pixels)
        if self._projection is not None:
            mean, components = self._projection
            vectors = (vectors - mean) @ components
        # A zero vector (an image equal to the mean of the sample) stays zero.
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / torch.where(length > 0, length, 1.0)

    def _run(
        self,
        images: Sequence[NDArray[Any]],
        function: Callable[[torch.Tensor], torch.Tensor],
        out: NDArray[np.float32],
        progress: Progress | None,
    ) -> dict[int, str]:
        """Fill the rows of ``out``; return the rows that failed, with reasons."""
        problems = {row: image_problem(image) for row, image in enumerate(images)}
        failures = {row: why for row, why in problems.items() if why is not None}
        rows = [row for row, why in problems.items() if why is None]

        def forward(start: int, stop: int) -> None:
            chosen = rows[start:stop]
            pixels = self._recipe.prepare([images[row] for row in chosen])
            with torch.inference_mode():
                out[chosen] = function(pixels.to(self._device)).float().cpu().numpy()

        too_large = self.batches.run(len(rows), forward, progress=progress)
        return failures | {rows[i]: why for i, why in too_large.items()}
