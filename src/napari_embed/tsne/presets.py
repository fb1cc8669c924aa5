"""What the accuracy presets mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy
    from napari_embed.params import ProjectionParams

__all__ = ["accuracy_of"]

# theta by preset, for 2D and 3D.
_THETA = {
    "fast": (0.75, 0.85),
    "default": (0.6, 0.7),
    "accurate": (0.45, 0.5),
}


def accuracy_of(params: ProjectionParams) -> Accuracy:
    """Return theta and sizes for the preset, with the caller's own values on top."""
    from napari_embed.kernels.repulsion import Accuracy

    theta = params.theta
    if theta is None:
        theta = _THETA[params.preset][params.n_components - 2]
    return Accuracy(theta=theta, leaf_size=16, bucket=64, near_theta=theta)
