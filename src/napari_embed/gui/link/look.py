"""How pictures of one channel are shown: contrast limits and colours. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Look", "full_range", "look_of_layer"]


@dataclass(frozen=True)
class Look:
    """Contrast limits and 256 colours; None leaves pictures as they are.

    Attributes
    ----------
    limits
        Values that get the first and the last colour.
    table
        uint8 (256, 3).
    """

    limits: tuple[float, float] | None = None
    table: NDArray[np.uint8] | None = None

    def to_rgb(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return uint8 (h, w, 3) of a picture (h, w), (h, w, 1) or (h, w, 3)."""
        if values.ndim == 3 and values.shape[-1] == 3:
            red = values[..., 0]
            grey = (
                self.table is not None
                and np.array_equal(red, values[..., 1])
                and np.array_equal(red, values[..., 2])
            )
            if not grey:
                return _as_uint8(values, None)
            values = red
        elif values.ndim == 3:
            values = values[..., 0]
        index = _as_uint8(values, self.limits)
        if self.table is None:
            return np.repeat(index[..., None], 3, axis=-1)
        rgb: NDArray[np.uint8] = self.table[index]
        return rgb


def full_range(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return contrast limits: the whole range of uint8, else of the values."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)


def _as_uint8(
    values: NDArray[np.generic], limits: tuple[float, float] | None
) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 and limits in (None, (0.0, 255.0)):
        return values  # type: ignore[return-value]
    low, high = limits or full_range(values)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = (values.astype(np.float32) - low) * scale
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)


def look_of_layer(layer: object | None) -> Look:
    """Return the look of a napari image layer; of colour layers none."""
    if layer is None or layer.rgb:  # type: ignore[attr-defined]
        return Look()
    ramp = np.linspace(0, 1, 256) ** float(layer.gamma)  # type: ignore[attr-defined]
    colors = np.asarray(layer.colormap.map(ramp))[:, :3]  # type: ignore[attr-defined]
    low, high = layer.contrast_limits  # type: ignore[attr-defined]
    return Look((float(low), float(high)), np.round(colors * 255).astype(np.uint8))
