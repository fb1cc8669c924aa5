"""What the accuracy presets mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy
    from napari_embed.params import ProjectionParams

__all__ = ["accuracy_of"]

# theta by preset, for 2D and 3D, and the distance of grid nodes.
_THETA = {"fast": (0.75, 0.85), "default": (0.6, 0.7), "accurate": (0.45, 0.5)}
_CELL_SIZE = {"fast": 0.71, "default": 0.5, "accurate": 0.35}
# Errors weigh more while the map is small, and accuracy is cheap there.
_EARLY = 0.75


def accuracy_of(params: ProjectionParams) -> Accuracy:
    """Return theta and sizes for the preset, with the caller's own values on top."""
    from napari_embed.kernels.repulsion import Accuracy

    theta = params.theta
    if theta is None:
        theta = _THETA[params.preset][params.n_components - 2]
    return Accuracy(
        theta=theta,
        early_theta=_EARLY * theta,
        cell_size=params.cell_size or _CELL_SIZE[params.preset],
        target=params.target,
    )
