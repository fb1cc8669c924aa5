"""Hierarchies over sorted points: build, refit (paper section 4.1 and 5.1).

Both hierarchies of the method are built here: the embedding hierarchy over the points
of the map and the field hierarchy over the marked cells. A node is the set of points
whose Morton keys share a prefix, split where the first and last key differ (so every
inner node has at least two children), with the tight box around its points. Nodes are
compacted level by level; nothing depends on the extent of the map.
"""

from napari_embed.kernels.layout import (
    BEGIN,
    CHILD,
    CHILDREN,
    COUNT,
    END,
    HALT,
    LEVEL0,
    MAX_LEVELS,
    NODES,
    PARENT,
    ROPE,
    columns,
)
from napari_embed.kernels.runtime import ti

__all__ = ["build_nodes", "refit_nodes"]


@ti.func
def _same_digit_end(keys: ti.template(), first, last, shift, dim: ti.template()):
    """Return one past the last key that shares the first one's digit at ``shift``."""
    mask = ti.static((1 << dim) - 1)
    digit = (keys[first] >> shift) & mask
    lo = first + 1
    hi = last
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if ((keys[mid] >> shift) & mask) > digit:
            hi = mid
        else:
            lo = mid + 1
    return lo


@ti.func
def _split(
    node,
    dim: ti.template(),
    leaf_size,
    bucket,
    keys: ti.template(),
    ints: ti.template(),
    owner: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    full: ti.template(),
):
    """Give ``node`` its children, or leave it a leaf."""
    begin = ints[node, BEGIN]
    end = ints[node, END]
    shift = ints[node, CHILDREN]
    ints[node, CHILDREN] = 0
    differing = keys[begin] ^ keys[end - 1]
    if end - begin > leaf_size and differing != 0:
        while (differing >> shift) == 0:
            shift -= dim
        # First find the children's ends, then reserve their rows, then fill them.
        ends = ti.Vector.zero(ti.i32, ti.static(1 << dim))
        count = 0
        cursor = begin
        while cursor < end:
            cursor = _same_digit_end(keys, cursor, end, shift, dim)
            ends[count] = cursor
            count += 1
        first = ti.atomic_add(meta[NODES], count)
        if first + count > ints.shape[0]:
            status[HALT] |= full
        else:
            ints[node, CHILD] = first
            ints[node, CHILDREN] = count
            cursor = begin
            for k in range(count):
                child = first + k
                last = k == count - 1
                ints[child, CHILD] = -1
                ints[child, ROPE] = ti.select(last, ints[node, ROPE], child + 1)
                ints[child, BEGIN] = cursor
                ints[child, END] = ends[k]
                ints[child, PARENT] = node
                ints[child, CHILDREN] = ti.max(shift - dim, 0)
                cursor = ends[k]
    # The topmost nodes with few points, or leaves, are where a traversal ends.
    size = end - begin
    parent = ints[node, PARENT]
    owns = size <= bucket or ints[node, CHILD] < 0
    if parent >= 0 and ints[parent, END] - ints[parent, BEGIN] <= bucket:
        owns = False
    if owns:
        for r in range(begin, begin + size):
            owner[r] = node


@ti.func
def _split_subtree(
    root,
    dim: ti.template(),
    leaf_size,
    bucket,
    keys: ti.template(),
    ints: ti.template(),
    owner: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    full: ti.template(),
):
    """Build all below ``root``, in preorder."""
    node = root
    stop = ints[root, ROPE]
    while node != stop:
        _split(
            node, dim, leaf_size, bucket, keys, ints, owner, meta, status, full
        )  # fmt: skip
        following = ints[node, CHILD]
        if following < 0:
            following = ints[node, ROPE]
        node = following


@ti.func
def _start(ints: ti.template(), meta: ti.template()):
    """Make the root; without points there is none."""
    some = ti.min(meta[COUNT], 1)
    meta[NODES] = some
    ints[0, CHILD] = -1
    ints[0, BEGIN] = 0
    ints[0, END] = meta[COUNT]
    ints[0, ROPE] = -1
    ints[0, PARENT] = -1
    ints[0, CHILDREN] = 60  # the topmost digit, in 2D and in 3D
    meta[LEVEL0] = 0
    meta[LEVEL0 + 1] = some


@ti.func
def _close_level(
    level, meta: ti.template(), status: ti.template(), full: ti.template()
):
    """Record where the next level ends; there is none once nodes ran out."""
    last = meta[LEVEL0 + level + 1]
    if (status[HALT] & full) == 0:
        last = meta[NODES]
    meta[LEVEL0 + level + 2] = last


@ti.func
def build_nodes(
    dim: ti.template(),
    levels: ti.template(),
    leaf_size: ti.template(),
    bucket: ti.template(),
    keys: ti.template(),
    ints: ti.template(),
    owner: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    full: ti.template(),
    asked: ti.template(),
):
    """Build the nodes over ``meta[COUNT]`` sorted keys.

    Where there are more nodes than rows, sets the bit ``full`` of the status, notes
    how many were asked for, and leaves a hierarchy without nodes.

    Parameters
    ----------
    levels
        Levels to build in parallel (GPU); the subtrees below are a thread each. 0
        builds all in one thread, which takes 0.02 s for a million points and numbers
        the nodes the same way every time.
    leaf_size
        Split nodes with more points than this.
    bucket
        Size of the nodes a traversal ends at as target (``owner`` names them).
    keys
        (n,) sorted keys.
    ints, meta, status
        Node integers and counters, see ``layout``.
    owner
        (n,) the target bucket of each point.
    full, asked
        Bit and entry of the status that are of this hierarchy.
    """
    for _ in range(1):
        _start(ints, meta)
        if ti.static(levels == 0):
            for level in range(MAX_LEVELS):
                for node in range(meta[LEVEL0 + level], meta[LEVEL0 + level + 1]):
                    _split(
                        node, dim, leaf_size, bucket, keys, ints, owner, meta, status,
                        full,
                    )  # fmt: skip
                _close_level(level, meta, status, full)
    for level in ti.static(range(levels)):
        for node in range(meta[LEVEL0 + level], meta[LEVEL0 + level + 1]):
            _split(
                node, dim, leaf_size, bucket, keys, ints, owner, meta, status, full
            )  # fmt: skip
        for _ in range(1):
            _close_level(level, meta, status, full)
    if ti.static(levels > 0):
        for root in range(meta[LEVEL0 + levels], meta[LEVEL0 + levels + 1]):
            _split_subtree(
                root, dim, leaf_size, bucket, keys, ints, owner, meta, status, full
            )  # fmt: skip
    for _ in range(1):
        if (status[HALT] & full) != 0:
            status[asked] = ti.max(status[asked], meta[NODES])
            meta[NODES] = 0
            for level in range(MAX_LEVELS + 2):
                meta[LEVEL0 + level] = 0


@ti.func
def _fit_leaf(
    node,
    dim: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    points: ti.template(),
):
    """Set centre of mass, box and diagonal of a leaf from its points."""
    c = ti.static(columns(dim))
    begin = ints[node, BEGIN]
    end = ints[node, END]
    diagonal = 0.0
    spread = 0.0
    for k in ti.static(range(dim)):
        # Relative to the first point: no cancellation far from the origin.
        origin = points[k, begin]
        low = origin
        high = origin
        moment = 0.0
        for r in range(begin + 1, end):
            x = points[k, r]
            low = ti.min(low, x)
            high = ti.max(high, x)
            moment += x - origin
        mean = origin + moment / ti.cast(end - begin, ti.f32)
        for r in range(begin, end):
            x = points[k, r] - mean
            spread += x * x
        floats[node, c.com + k] = mean
        floats[node, c.low + k] = low
        floats[node, c.high + k] = high
        diagonal += (high - low) * (high - low)
    floats[node, c.diagonal] = diagonal
    floats[node, c.moment] = spread


@ti.func
def _fit_inner(node, dim: ti.template(), ints: ti.template(), floats: ti.template()):
    """Set centre of mass, box and diagonal of an inner node from its children."""
    c = ti.static(columns(dim))
    first = ints[node, CHILD]
    total = ti.cast(ints[node, END] - ints[node, BEGIN], ti.f32)
    low = ti.Vector.zero(ti.f32, dim)
    high = ti.Vector.zero(ti.f32, dim)
    moment = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        low[k] = floats[first, c.low + k]
        high[k] = floats[first, c.high + k]
    for child in range(first, first + ints[node, CHILDREN]):
        share = ti.cast(ints[child, END] - ints[child, BEGIN], ti.f32) / total
        for k in ti.static(range(dim)):
            low[k] = ti.min(low[k], floats[child, c.low + k])
            high[k] = ti.max(high[k], floats[child, c.high + k])
            moment[k] += share * floats[child, c.com + k]
    spread = 0.0
    for child in range(first, first + ints[node, CHILDREN]):
        mass = ti.cast(ints[child, END] - ints[child, BEGIN], ti.f32)
        spread += floats[child, c.moment]
        for k in ti.static(range(dim)):
            x = floats[child, c.com + k] - moment[k]
            spread += mass * x * x
    floats[node, c.moment] = spread
    diagonal = 0.0
    for k in ti.static(range(dim)):
        floats[node, c.com + k] = moment[k]
        floats[node, c.low + k] = low[k]
        floats[node, c.high + k] = high[k]
        diagonal += (high[k] - low[k]) * (high[k] - low[k])
    floats[node, c.diagonal] = diagonal


@ti.func
def _fit_subtree(root, dim: ti.template(), ints: ti.template(), floats: ti.template()):
    """Fit the inner nodes from ``root`` down, children before parents."""
    node = root
    while ints[node, CHILD] >= 0:
        node = ints[node, CHILD]
    while node != root:
        parent = ints[node, PARENT]
        if node + 1 < ints[parent, CHILD] + ints[parent, CHILDREN]:
            node += 1
            while ints[node, CHILD] >= 0:
                node = ints[node, CHILD]
        else:
            node = parent
            _fit_inner(node, dim, ints, floats)


@ti.func
def refit_nodes(
    dim: ti.template(),
    levels: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    points: ti.template(),
    meta: ti.template(),
):
    """Fit boxes and centres of mass to the points, from the leaves up.

    Parameters
    ----------
    levels
        Levels whose inner nodes are fitted in parallel (GPU), and the subtrees below
        them; 0 leaves all inner nodes to one thread, which is short work beside the
        leaves.
    points
        (dim, n) coordinates in tree order.
    """
    for node in range(meta[NODES]):
        if ints[node, CHILD] < 0:
            _fit_leaf(node, dim, ints, floats, points)
    if ti.static(levels == 0):
        for _ in range(1):
            # A child's number is always larger than its parent's.
            count = meta[NODES]
            for back in range(count):
                node = count - 1 - back
                if ints[node, CHILD] >= 0:
                    _fit_inner(node, dim, ints, floats)
    else:
        for root in range(meta[LEVEL0 + levels], meta[LEVEL0 + levels + 1]):
            _fit_subtree(root, dim, ints, floats)
    for back in ti.static(range(levels)):
        for node in range(
            meta[LEVEL0 + levels - 1 - back], meta[LEVEL0 + levels - back]
        ):
            if ints[node, CHILD] >= 0:
                _fit_inner(node, dim, ints, floats)
