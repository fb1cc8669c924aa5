"""The whole diagonal of a node's box, in place of the projected one."""

# Taichi reads annotations as objects, so they stay unquoted here.

from napari_embed.kernels.layout import columns
from napari_embed.kernels.runtime import ti

__all__ = ["whole2"]


@ti.func
def whole2(offset, distance2, node, floats: ti.template(), dim: ti.template()):
    """Return the squared diagonal; parameters as in ``published._projected2``."""
    c = ti.static(columns(dim))
    length2 = 0.0
    for k in ti.static(range(dim)):
        side = floats[node, c.high + k] - floats[node, c.low + k]
        length2 += side * side
    return length2
