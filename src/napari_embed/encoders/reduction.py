"""Principal components: exact, deterministic, stored as two plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError, ModelError

__all__ = ["PrincipalComponents", "fit_principal_components"]

BLOCK_ROWS = 4096
RELATIVE_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class PrincipalComponents:
    """A linear map of features onto their directions of largest variance.

    Attributes
    ----------
    mean
        (D,) float32.
    components
        (dim, D) float32, orthonormal rows, largest variance first. Rows beyond the
        rank of the sample are zero, so that ``dim`` never depends on the sample.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of both arrays by name."""
        return {"mean": self.mean.copy(), "components": self.components.copy()}

    @classmethod
    def from_state(
        cls, state: Mapping[str, NDArray[Any]], *, features: int, dim: int
    ) -> PrincipalComponents:
        """Build from arrays of unknown origin.

        Raises
        ------
        ModelError
            If names, shapes, dtypes or values are not those of :meth:`state`.
        """
        expected = {"mean": (features,), "components": (dim, features)}
        arrays = {}
        for name, shape in expected.items():
            array = np.asarray(state[name]) if name in state else None
            if (
                array is None
                or array.shape != shape
                or array.dtype.kind != "f"
                or not np.isfinite(array).all()
            ):
                found = "nothing" if array is None else f"{array.shape} {array.dtype}"
                raise ModelError(
                    f"The stored state of the encoder does not fit: {name!r} must be "
                    f"finite float32 of shape {shape}, found {found}. Fit it again."
                )
            arrays[name] = np.ascontiguousarray(array, np.float32)
        return cls(**arrays)


def fit_principal_components(
    features: NDArray[np.float32], *, dim: int
) -> PrincipalComponents:
    """Return the ``dim`` leading principal components of a sample.

    Exact: eigenvectors of the covariance matrix in float64. The sign of each is
    fixed by making its entry of largest magnitude positive.

    Parameters
    ----------
    features
        (n, D), finite, n >= 1.
    dim
        Rows of the result; those beyond the rank (at most n - 1) are zero.

    Raises
    ------
    InputError
        If there are no features.
    """
    n, D = features.shape
    if n == 0:
        raise InputError(
            "The encoder cannot be fitted: none of the images could be used."
        )
    mean = features.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((D, D))
    for start in range(0, n, BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS] - mean
        covariance += block.T @ block
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim].T
    significant = values > RELATIVE_RANK_TOLERANCE * max(values[0], 0.0)
    significant &= np.arange(values.size) < n - 1
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    components = np.zeros((dim, D), np.float32)
    components[: len(vectors)] = vectors * (signs * significant)[:, None]
    return PrincipalComponents(mean.astype(np.float32), components)
