"""What the published method does differently (paper section 4.3, and its program).

Kernels take a method as a compile-time argument: OURS, or for side-by-side runs
PUBLISHED. That adds to S and R alone, copies an ancestor's values, and judges a node by
the diagonal of its box projected across the line of sight. Where the status says
SINGLE_CELLS it takes the published fallback, in which every cell goes through the
embedding hierarchy by itself (paper section 5.3).
"""

from napari_embed.kernels.layout import CHILD, PARENT, columns
from napari_embed.kernels.runtime import ti

__all__ = [
    "OURS", "PUBLISHED", "START_DEPTH", "entered", "is_deep", "settles_projected",
]  # fmt: skip

OURS, PUBLISHED = 0, 1
# No pair of nodes is settled above this level (paper section 5.2).
START_DEPTH = {2: 3, 3: 2}


@ti.func
def _projected2(offset, distance2, node, floats: ti.template(), dim: ti.template()):
    """Return the squared length of a box's diagonal across the line of sight.

    Paper eq. 20-21: the direction of sight is mirrored to be nearly orthogonal to the
    diagonal, and what of the diagonal lies along it is taken off. In 3D there are
    three ways to mirror it; the most orthogonal one counts, which gives the largest
    length (in 2D the two ways give the same).
    """
    c = ti.static(columns(dim))
    inverse = ti.rsqrt(distance2)
    length2 = 0.0
    total = 0.0
    part = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        side = floats[node, c.high + k] - floats[node, c.low + k]
        length2 += side * side
        part[k] = ti.abs(offset[k]) * inverse * side
        total += part[k]
    along = ti.abs(2.0 * part[0] - total)
    for k in ti.static(range(1, dim)):
        along = ti.min(along, ti.abs(2.0 * part[k] - total))
    return length2 - along * along


@ti.func
def settles_projected(
    offset,
    source,
    target,
    single,
    dim: ti.template(),
    theta2,
    source_floats: ti.template(),
    floats: ti.template(),
):
    """Return whether a pair of nodes ``offset`` apart is settled (paper eq. 19).

    The larger projected diagonal must be under theta times the distance; where every
    cell goes by itself (``single``) only the source's counts.
    """
    distance2 = 0.0
    for k in ti.static(range(dim)):
        distance2 += offset[k] * offset[k]
    result = False
    if distance2 > 0.0:
        size2 = _projected2(offset, distance2, source, source_floats, dim)
        if single == 0:
            own2 = _projected2(offset, distance2, target, floats, dim)
            size2 = ti.max(size2, own2)
        result = size2 < theta2 * distance2
    return result


@ti.func
def entered(node, parent, method: ti.template(), source_ints: ti.template()):
    """Return where to start in a source handed down by the target ``parent``.

    As published it is at the children: both sides go down a level together (paper
    section 4.2).
    """
    result = node
    if ti.static(method != OURS):
        if parent >= 0 and source_ints[node, CHILD] >= 0:
            result = source_ints[node, CHILD]
    return result


@ti.func
def is_deep(parent, dim: ti.template(), method: ti.template(), ints: ti.template()):
    """Return whether pairs may be settled at a child of the target ``parent``."""
    depth = 0
    ancestor = parent
    if ti.static(method != OURS):
        while ancestor >= 0 and depth < ti.static(START_DEPTH[dim]):
            depth += 1
            ancestor = ints[ancestor, PARENT]
    return depth == ti.static(START_DEPTH[dim])
