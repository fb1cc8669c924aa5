"""The source array as an image layer of the same viewer: go to the image of an item."""

from __future__ import annotations

from typing import Any

from napari.layers import Image

from napari_embed.gui.link.sheet_layer import ContactSheet

__all__ = ["go_to_image", "stacks_of"]


def stacks_of(viewer: Any, n_items: int) -> list[Image]:
    """Return the visible image layers with one image per item along the first axis.

    Such a layer has at least three axes; of a colour image the last one is not counted.
    """
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Image)
        and not isinstance(layer, ContactSheet)
        and layer.visible
        and layer.ndim >= 3
        and not layer.multiscale
        and len(layer.data) == n_items
    ]


def go_to_image(viewer: Any, n_items: int, item: int) -> bool:
    """Move the sliders to an item in every stack of the viewer.

    Returns
    -------
    bool
        Whether a slider was moved. An axis that is displayed has none: a stack of
        three axes in 3D is a volume.
    """
    moved = False
    for layer in stacks_of(viewer, n_items):
        axis = viewer.dims.ndim - layer.ndim
        if axis in viewer.dims.displayed:
            continue
        place = layer.data_to_world([item] + [0] * (layer.ndim - 1))
        viewer.dims.set_point(axis, float(place[0]))
        moved = True
    return moved
