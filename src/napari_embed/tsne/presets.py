"""What the accuracy presets mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy
    from napari_embed.params import ProjectionParams

__all__ = ["accuracy_of", "start_of"]

# theta by preset, for 2D and 3D, and the distance of grid nodes.
_THETA = {
    "fast": (0.75, 0.85), "default": (0.6, 0.7), "accurate": (0.45, 0.5),
    "paper": (0.25, 0.4),
}  # fmt: skip
_CELL_SIZE = {"fast": 0.71, "default": 0.5, "accurate": 0.35}
# Errors weigh more while the map is small, and accuracy is cheap there.
_EARLY = 0.75
# The authors' program: cells per unit of length before rounding up, theta of its
# single-hierarchy traversal, points in a leaf, spread of the random start.
_PAPER_DENSITY = (2.0, 1.2)
_PAPER_EARLY_THETA = 0.5
_PAPER_LEAF = 4
_PAPER_START_STD = 0.1


def accuracy_of(params: ProjectionParams) -> Accuracy:
    """Return theta and sizes for the preset, with the caller's own values on top.

    A theta of the caller's scales the early one of the preset with it.
    """
    from napari_embed.kernels.repulsion import Accuracy

    dim = params.n_components
    preset_theta = _THETA[params.preset][dim - 2]
    theta = preset_theta if params.theta is None else params.theta
    if params.preset == "paper":
        return Accuracy(
            theta=theta,
            early_theta=_PAPER_EARLY_THETA * theta / preset_theta,
            cell_size=params.cell_size or 1 / _PAPER_DENSITY[dim - 2],
            target="cells",
            leaf_size=_PAPER_LEAF,
            published=True,
        )
    return Accuracy(
        theta=theta,
        early_theta=_EARLY * theta,
        cell_size=params.cell_size or _CELL_SIZE[params.preset],
        target=params.target,
    )


def start_of(params: ProjectionParams) -> dict[str, Any]:
    """Return ``init`` and ``std`` of the start, for ``initial_positions``.

    "auto" is PCA, and for the preset "paper" the authors' start: random, with a
    standard deviation of 0.1.
    """
    from napari_embed.tsne.initialization import START_STD

    if params.init != "auto":
        return {"init": params.init, "std": START_STD}
    if params.preset == "paper":
        return {"init": "random", "std": _PAPER_START_STD}
    return {"init": "pca", "std": START_STD}
