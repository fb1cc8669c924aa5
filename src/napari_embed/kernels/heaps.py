"""Heaps: many points at one place, where a grid would read the field badly.

Reading the field at a point blends the corners of its cell, and the error of that is a
share of what each source nearby adds to the corners. For sources spread over the map
these errors cancel; those of a heap (coincident or nearly coincident points) add up and
act as a force on the heap itself: half of all force in a 3D map of six heaps. So a
point reads the field of all others, and its own heap is added as it is.
"""

from napari_embed.kernels.layout import BEGIN, CHILD, END, PARENT, columns
from napari_embed.kernels.runtime import ti

__all__ = ["heap_of"]

# A heap's diagonal is at most this share of the grid's spacing, and it has some points.
_SHARE = 0.5
_POINTS = 8
# Blending is exact enough for a heap of any size where the grid is finer than this, as
# it is while the map is small.
_FINE = 0.125


@ti.func
def heap_of(
    r,
    spacing,
    dim: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    owner: ti.template(),
):
    """Return the largest node of the embedding hierarchy that is a heap around ``r``.

    Parameters
    ----------
    r
        Point, in tree order.
    spacing
        Distance of the grid's nodes.
    owner
        (n,) bucket of each point: where the search begins.

    Returns
    -------
    int
        The node, -1 where there is none.
    """
    c = ti.static(columns(dim))
    limit2 = (_SHARE * spacing) ** 2
    node = -1
    if spacing > _FINE:
        node = owner[r]
        if floats[node, c.diagonal] <= limit2:
            above = ints[node, PARENT]
            while above >= 0:
                if floats[above, c.diagonal] <= limit2:
                    node = above
                    above = ints[node, PARENT]
                else:
                    above = -1
        else:
            going = True
            while going:
                node = ints[node, CHILD]
                if node >= 0:
                    while ints[node, END] <= r:
                        node += 1  # children are consecutive
                    going = floats[node, c.diagonal] > limit2
                else:
                    going = False
    if node >= 0:
        if ints[node, END] - ints[node, BEGIN] < _POINTS:
            node = -1
    return node
