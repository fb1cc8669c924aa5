"""The dual traversal: sources and targets, both as hierarchies (paper section 4.2).

For every target p the repulsion needs, with ``w = 1 / (1 + |p - y|^2)``,

    S(p) = sum_j w           R(p) = sum_j (p - y_j) w^2  = -grad S / 2

(the paper's V is -R). ``far`` walks down the targets level by level. Each target takes
the sources its parent could not settle, adds those that are far enough to its own
first-order expansion (S, R and the symmetric Jacobian J of R) about its box centre, and
hands the others down; the expansion itself is shifted to the children, which is the
paper's field accumulation with a first-order term. ``near`` ends this at buckets of a
few dozen targets: what is left becomes one list of point masses, evaluated for every
target of the bucket in one vectorised loop.

Sources handed down lie in a work queue. Space is counted first and then reserved at
once for a whole list, so the order of every sum is fixed, whatever the number of
threads; a queue that is too small raises a flag and the caller repeats with more room.
"""

from napari_embed.kernels.layout import (
    BEGIN,
    CHILD,
    CHUNKS,
    COUNT,
    END,
    LEVEL0,
    LIST_BEGIN,
    LIST_END,
    NODES,
    OVERFLOW,
    PARENT,
    QUEUE,
    ROPE,
    TASK_ROOM,
    TASKS,
    columns,
    jacobian_size,
)
from napari_embed.kernels.runtime import ti

__all__ = ["LIST_ROOM", "far", "near_in_lists"]

# Point masses gathered before they are evaluated: a list stays in the L1 cache.
LIST_ROOM = 1024
# The acceptance test compares with sqrt(CORE + distance^2). The kernel is smooth at
# scale 1, so tiny boxes need no opening even where they touch (and coincident points do
# not make the work quadratic); a core of 1/4 is half as tolerant there as 1, which
# costs little and halves the error of small maps.
CORE = 0.25
# Leaves with more points than this are summed in place, not gathered.
_GATHER = 64


@ti.func
def add_source(offset, mass, moment, local: ti.template(), dim: ti.template()):
    """Add a group of points around ``target - offset`` to (S, R, J) in ``local``.

    ``moment`` is the sum of the group's squared distances from its centre. Spread
    evenly over all directions, it adds the Laplacian of the kernel, which removes the
    bias that centres of mass alone leave in S (and so in Z).
    """
    d2 = 1.0
    for k in ti.static(range(dim)):
        d2 += offset[k] * offset[k]
    w = 1.0 / d2
    mw = mass * w
    mww = mw * w
    alpha = ti.static(4.0 / dim - 1.0)
    beta = ti.static(4.0 / dim)
    tww = moment * w * w
    local[0] += mw + tww * (alpha - beta * w)
    slope = mww + tww * w * (2.0 * alpha - 3.0 * beta * w)
    for a in ti.static(range(dim)):
        local[1 + a] += slope * offset[a]
    for a in ti.static(range(dim)):
        for b in ti.static(range(a, dim)):
            entry = ti.static(1 + dim + a * dim - a * (a - 1) // 2 + b - a)
            local[entry] -= 4.0 * mww * (offset[a] * w) * offset[b]
            if ti.static(a == b):
                local[entry] += mww


@ti.func
def shifted(local, delta, dim: ti.template()):
    """Return (S, R, J) moved by ``delta``: S to second, R to first order."""
    result = local
    for a in ti.static(range(dim)):
        change = 0.0
        for b in ti.static(range(dim)):
            low = ti.static(min(a, b))
            high = ti.static(max(a, b))
            entry = ti.static(1 + dim + low * dim - low * (low - 1) // 2 + high - low)
            change += local[entry] * delta[b]
        result[1 + a] += change
        result[0] -= delta[a] * (2.0 * local[1 + a] + change)
    return result


@ti.func
def _expansion(node, floats: ti.template(), dim: ti.template()):
    c = ti.static(columns(dim))
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    for k in ti.static(range(1 + dim + jacobian_size(dim))):
        local[k] = floats[node, c.s + k]
    return local


@ti.func
def _centre(node, floats: ti.template(), dim: ti.template()):
    c = ti.static(columns(dim))
    centre = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        centre[k] = 0.5 * (floats[node, c.low + k] + floats[node, c.high + k])
    return centre


@ti.func
def _descend(
    target,
    dim: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    queue: ti.template(),
    meta: ti.template(),
):
    """Settle what can be settled at ``target``, queue the rest for its children."""
    c = ti.static(columns(dim))
    centre = _centre(target, floats, dim)
    own_diagonal = floats[target, c.diagonal]
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    first = 0
    last = 1
    parent = ints[target, PARENT]
    if parent >= 0:
        first = ints[parent, LIST_BEGIN]
        last = ints[parent, LIST_END]
        above = _centre(parent, floats, dim)
        local = shifted(_expansion(parent, floats, dim), centre - above, dim)
    count = 0
    slot = 0
    # Sums and the length of the list first, then the list into its reserved place.
    for write in range(2):
        for q in range(first, last):
            node = queue[q]
            stop = source_ints[node, ROPE]
            while node != stop:
                offset = ti.Vector.zero(ti.f32, dim)
                d2 = CORE
                for k in ti.static(range(dim)):
                    offset[k] = centre[k] - source_floats[node, c.com + k]
                    d2 += offset[k] * offset[k]
                diagonal = source_floats[node, c.diagonal]
                following = source_ints[node, ROPE]
                if ti.max(diagonal, own_diagonal) < theta2 * d2:
                    if write == 0:
                        mass = source_ints[node, END] - source_ints[node, BEGIN]
                        add_source(
                            offset,
                            ti.cast(mass, ti.f32),
                            source_floats[node, c.moment],
                            local,
                            dim,
                        )
                elif source_ints[node, CHILD] < 0 or diagonal <= own_diagonal:
                    if write == 0:
                        count += 1
                    else:
                        queue[slot] = node
                        slot += 1
                else:
                    following = source_ints[node, CHILD]
                node = following
        if write == 0:
            slot = ti.atomic_add(meta[QUEUE], count)
            if slot + count > queue.shape[0] or slot < 0:
                meta[OVERFLOW] |= 2
                slot = 0
                last = first
                count = 0
            ints[target, LIST_BEGIN] = slot
            ints[target, LIST_END] = slot + count
    for k in ti.static(range(1 + dim + jacobian_size(dim))):
        floats[target, c.s + k] = local[k]


@ti.kernel
def far(
    dim: ti.template(),
    levels: ti.template(),
    bucket: ti.i32,
    theta2: ti.f32,
    source_ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    tasks: ti.types.ndarray(dtype=ti.i32, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Traverse both hierarchies down to the target buckets.

    A pair is settled when the larger box diagonal is under
    ``theta * sqrt(CORE + distance^2)``.

    Parameters
    ----------
    levels
        Target levels to process in parallel (GPU); 0 makes subtrees of the targets
        the parallel tasks (CPU). The sums are the same.
    bucket
        Targets with at most this many points are left to ``near``.
    theta2
        Square of theta; 0 settles nothing.
    source_ints, source_floats
        The embedding hierarchy.
    ints, floats, meta
        The target hierarchy; the same arrays where points are the targets.
    queue
        Work queue of source nodes.
    tasks
        (TASK_ROOM,) scratch.
    """
    for _ in range(1):
        meta[OVERFLOW] &= 1
        meta[QUEUE] = 1
        queue[0] = 0
        tasks[0] = 0
        if ti.static(levels == 0):
            # The top of the hierarchy, down to subtrees that are tasks.
            few = ti.max(bucket, meta[COUNT] // TASKS)
            node = 0
            while node >= 0:
                following = ints[node, ROPE]
                size = ints[node, END] - ints[node, BEGIN]
                if ints[node, CHILD] >= 0 and size > bucket:
                    if size <= few and tasks[0] < TASK_ROOM - 1:
                        tasks[0] += 1
                        tasks[tasks[0]] = node
                    else:
                        _descend(
                            node, dim, theta2, source_ints, source_floats, ints,
                            floats, queue, meta,
                        )  # fmt: skip
                        following = ints[node, CHILD]
                node = following
    if ti.static(levels == 0):
        ti.loop_config(block_dim=1)
        for task in range(1, tasks[0] + 1):
            node = tasks[task]
            stop = ints[node, ROPE]
            while node != stop:
                following = ints[node, ROPE]
                size = ints[node, END] - ints[node, BEGIN]
                if ints[node, CHILD] >= 0 and size > bucket:
                    _descend(
                        node, dim, theta2, source_ints, source_floats, ints, floats,
                        queue, meta,
                    )  # fmt: skip
                    following = ints[node, CHILD]
                node = following
    for level in ti.static(range(levels)):
        for target in range(meta[LEVEL0 + level], meta[LEVEL0 + level + 1]):
            inner = ints[target, CHILD] >= 0
            if inner and ints[target, END] - ints[target, BEGIN] > bucket:
                _descend(
                    target, dim, theta2, source_ints, source_floats, ints, floats,
                    queue, meta,
                )  # fmt: skip
    if ti.static(levels > 0):
        for _ in range(1):
            for target in range(meta[LEVEL0 + levels], meta[NODES]):
                inner = ints[target, CHILD] >= 0
                if inner and ints[target, END] - ints[target, BEGIN] > bucket:
                    _descend(
                        target, dim, theta2, source_ints, source_floats, ints, floats,
                        queue, meta,
                    )  # fmt: skip


@ti.func
def _start_targets(
    bucket_node,
    dim: ti.template(),
    jacobian: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    order: ti.template(),
    result: ti.template(),
):
    """Set each target of a bucket to the expansion handed down to it."""
    parent = ints[bucket_node, PARENT]
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    centre = ti.Vector.zero(ti.f32, dim)
    if parent >= 0:
        local = _expansion(parent, floats, dim)
        centre = _centre(parent, floats, dim)
    for r in range(ints[bucket_node, BEGIN], ints[bucket_node, END]):
        delta = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            delta[k] = targets[k, r] - centre[k]
        here = shifted(local, delta, dim)
        row = r
        if ti.static(not jacobian):
            row = order[r]
        for k in ti.static(range(1 + dim + (jacobian_size(dim) if jacobian else 0))):
            result[row, k] = here[k]


@ti.func
def _add_list(
    chunk,
    count,
    begin,
    end,
    dim: ti.template(),
    jacobian: ti.template(),
    targets: ti.template(),
    order: ti.template(),
    lists: ti.template(),
    result: ti.template(),
):
    """Add a list of point masses to every target in [begin, end)."""
    # Whole vectors: masses of 0 fill the last one up.
    padded = (count + 15) // 16 * 16
    for j in range(count, padded):
        for k in ti.static(range(dim + 2)):
            lists[chunk, k * LIST_ROOM + j] = 0.0
    for r in range(begin, end):
        p = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            p[k] = targets[k, r]
        local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
        for j in range(padded):
            offset = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                offset[k] = p[k] - lists[chunk, k * LIST_ROOM + j]
            mass = lists[chunk, dim * LIST_ROOM + j]
            moment = lists[chunk, (dim + 1) * LIST_ROOM + j]
            add_source(offset, mass, moment, local, dim)
        row = r
        if ti.static(not jacobian):
            row = order[r]
        for k in ti.static(range(1 + dim + (jacobian_size(dim) if jacobian else 0))):
            result[row, k] += local[k]


@ti.func
def _add_range(
    first,
    last,
    begin,
    end,
    dim: ti.template(),
    jacobian: ti.template(),
    sources: ti.template(),
    targets: ti.template(),
    order: ti.template(),
    result: ti.template(),
):
    """Add the source points [first, last) to every target in [begin, end)."""
    for r in range(begin, end):
        p = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            p[k] = targets[k, r]
        local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
        for j in range(first, last):
            offset = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                offset[k] = p[k] - sources[k, j]
            add_source(offset, 1.0, 0.0, local, dim)
        row = r
        if ti.static(not jacobian):
            row = order[r]
        for k in ti.static(range(1 + dim + (jacobian_size(dim) if jacobian else 0))):
            result[row, k] += local[k]


@ti.kernel
def near_in_lists(
    dim: ti.template(),
    jacobian: ti.template(),
    theta2: ti.f32,
    source_ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    targets: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    lists: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Finish the traversal at each target bucket (for CPU: long vectorised lists).

    A source node is taken as a point mass when its diagonal is under
    ``theta * sqrt(CORE + distance^2)`` with the distance to the bucket's *box*, so that
    the test holds for each of its targets; leaves that fail are summed directly.

    Parameters
    ----------
    jacobian
        Whether the targets are cells: then results stay in tree order and carry J.
    sources, targets
        (dim, n) coordinates in tree order.
    owner, order
        (n,) bucket of each target; its row in ``result``.
    lists
        (CHUNKS, (dim + 2) * LIST_ROOM) scratch.
    result
        (n, 1 + dim or more) S, R and, for cells, J.
    """
    ti.loop_config(block_dim=1)
    for chunk in range(CHUNKS):
        n = meta[COUNT]
        if meta[OVERFLOW] != 0:
            n = 0
        step = (n + CHUNKS - 1) // CHUNKS
        r = chunk * step
        stop_at = ti.min(n, r + step)
        # A bucket belongs to the piece that its first target lies in.
        while r < stop_at and ints[owner[r], BEGIN] != r:
            r += 1
        while r < stop_at:
            bucket_node = owner[r]
            begin = r
            end = ints[bucket_node, END]
            r = end
            _start_targets(
                bucket_node, dim, jacobian, ints, floats, targets, order, result
            )
            c = ti.static(columns(dim))
            low = ti.Vector.zero(ti.f32, dim)
            high = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                low[k] = floats[bucket_node, c.low + k]
                high[k] = floats[bucket_node, c.high + k]
            first = 0
            last = 1
            parent = ints[bucket_node, PARENT]
            if parent >= 0:
                first = ints[parent, LIST_BEGIN]
                last = ints[parent, LIST_END]
            count = 0
            node = -1
            stop = -1
            going = True
            while going:
                if node == stop:
                    if first < last:
                        node = queue[first]
                        stop = source_ints[node, ROPE]
                        first += 1
                    else:
                        going = False
                else:
                    d2 = CORE
                    for k in ti.static(range(dim)):
                        x = source_floats[node, c.com + k]
                        gap = ti.max(0.0, ti.max(low[k] - x, x - high[k]))
                        d2 += gap * gap
                    b = source_ints[node, BEGIN]
                    e = source_ints[node, END]
                    following = source_ints[node, ROPE]
                    if source_floats[node, c.diagonal] < theta2 * d2:
                        for k in ti.static(range(dim)):
                            x = source_floats[node, c.com + k]
                            lists[chunk, k * LIST_ROOM + count] = x
                        mass = ti.cast(e - b, ti.f32)
                        lists[chunk, dim * LIST_ROOM + count] = mass
                        lists[chunk, (dim + 1) * LIST_ROOM + count] = source_floats[
                            node, c.moment
                        ]
                        count += 1
                    elif source_ints[node, CHILD] >= 0:
                        following = source_ints[node, CHILD]
                    elif e - b > _GATHER:
                        _add_range(
                            b, e, begin, end, dim, jacobian, sources, targets, order,
                            result,
                        )  # fmt: skip
                    else:
                        for j in range(b, e):
                            for k in ti.static(range(dim)):
                                x = sources[k, j]
                                lists[chunk, k * LIST_ROOM + count + j - b] = x
                            lists[chunk, dim * LIST_ROOM + count + j - b] = 1.0
                            lists[chunk, (dim + 1) * LIST_ROOM + count + j - b] = 0.0
                        count += e - b
                    node = following
                if count > LIST_ROOM - _GATHER - 16 or not going:
                    _add_list(
                        chunk, count, begin, end, dim, jacobian, targets, order,
                        lists, result,
                    )  # fmt: skip
                    count = 0
