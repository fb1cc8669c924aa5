"""The dual traversal: sources and targets, both as hierarchies (paper section 4.2).

For every target p the repulsion needs, with ``w = 1 / (1 + |p - y|^2)``,

    S(p) = sum_j w           R(p) = sum_j (p - y_j) w^2  = -grad S / 2

(the paper's V is -R). ``descend_all`` walks down the targets level by level. Each
target takes the sources its parent could not settle, adds those that are far enough to
its own first-order expansion (S, R and the symmetric Jacobian J of R) about its box
centre, and hands the others down; the expansion itself is shifted to the children,
which is the paper's field accumulation with a first-order term. ``near`` ends this at
buckets of a few dozen targets: what is left becomes one list of point masses, evaluated
for every target of the bucket in one vectorised loop.

With ``method`` other than OURS the kernels do what was published instead (order 0,
projected diagonals; see ``published``); the choice is made when they are compiled.

Sources handed down lie in a work queue. Space is counted first and then reserved at
once for a whole list, so the order of every sum is fixed, whatever the number of
threads; a queue that is too small halts all until the host has made room.
"""

from napari_embed.kernels.layout import (
    BEGIN,
    CHILD,
    CHUNKS,
    COUNT,
    END,
    HALT,
    LEVEL0,
    LIST_BEGIN,
    LIST_END,
    PARENT,
    QUEUE,
    QUEUE_FULL,
    ROPE,
    SINGLE_CELLS,
    TASK_ROOM,
    TASKS,
    columns,
    jacobian_size,
)
from napari_embed.kernels.published import OURS, entered, is_deep, settles_projected
from napari_embed.kernels.runtime import ti

__all__ = [
    "CORE", "add_source", "centre_of", "descend_all", "expansion_of", "shifted",
]  # fmt: skip

# The acceptance test compares with sqrt(CORE + distance^2). The kernel is smooth at
# scale 1, so tiny boxes need no opening even where they touch (and coincident points do
# not make the work quadratic); a core of 1/4 is half as tolerant there as 1, which
# costs little and halves the error of small maps.
CORE = 0.25


@ti.func
def add_source(
    offset,
    mass,
    moment,
    local: ti.template(),
    dim: ti.template(),
    method: ti.template(),
):
    """Add a group of points around ``target - offset`` to (S, R, J) in ``local``.

    ``moment`` is the sum of the group's squared distances from its centre. Spread
    evenly over all directions, it adds the Laplacian of the kernel, which removes the
    bias that centres of mass alone leave in S (and so in Z). As published (paper
    eq. 17-18), only mass counts, and only for S and R.
    """
    d2 = 1.0
    for k in ti.static(range(dim)):
        d2 += offset[k] * offset[k]
    w = 1.0 / d2
    mw = mass * w
    mww = mw * w
    if ti.static(method != OURS):
        local[0] += mw
        for a in ti.static(range(dim)):
            local[1 + a] += mww * offset[a]
    else:
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
def shifted(local, delta, dim: ti.template(), method: ti.template()):
    """Return (S, R, J) moved by ``delta``: S to second, R to first order.

    As published, an ancestor's values are copied (paper section 4.4).
    """
    result = local
    for a in ti.static(range(dim if method == OURS else 0)):
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
def expansion_of(node, floats: ti.template(), dim: ti.template()):
    """Return the local expansion (S, R, J) stored at a node."""
    c = ti.static(columns(dim))
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    for k in ti.static(range(1 + dim + jacobian_size(dim))):
        local[k] = floats[node, c.s + k]
    return local


@ti.func
def centre_of(node, floats: ti.template(), dim: ti.template()):
    """Return the centre of a node's box."""
    c = ti.static(columns(dim))
    centre = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        centre[k] = 0.5 * (floats[node, c.low + k] + floats[node, c.high + k])
    return centre


@ti.func
def _waits(
    node, diagonal, own_diagonal, method: ti.template(), source_ints: ti.template()
):
    """Return whether a source is handed down as it is, rather than opened."""
    result = True
    if ti.static(method == OURS):
        result = source_ints[node, CHILD] < 0 or diagonal <= own_diagonal
    return result


@ti.func
def _descend(
    target,
    dim: ti.template(),
    method: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    queue: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Settle what can be settled at ``target``, queue the rest for its children."""
    c = ti.static(columns(dim))
    centre = centre_of(target, floats, dim)
    own_diagonal = floats[target, c.diagonal]
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    first = 0
    last = 1
    parent = ints[target, PARENT]
    if parent >= 0:
        first = ints[parent, LIST_BEGIN]
        last = ints[parent, LIST_END]
        above = centre_of(parent, floats, dim)
        local = shifted(expansion_of(parent, floats, dim), centre - above, dim, method)
    deep = is_deep(parent, dim, method, ints)
    count = 0
    settled = 0
    slot = 0
    # Sums and the length of the list first, then the list into its reserved place.
    for write in range(2):
        for q in range(first, last):
            node = queue[q]
            stop = source_ints[node, ROPE]
            node = entered(node, parent, method, source_ints)
            while node != stop:
                offset = ti.Vector.zero(ti.f32, dim)
                d2 = CORE
                for k in ti.static(range(dim)):
                    offset[k] = centre[k] - source_floats[node, c.com + k]
                    d2 += offset[k] * offset[k]
                diagonal = source_floats[node, c.diagonal]
                following = source_ints[node, ROPE]
                settles = ti.max(diagonal, own_diagonal) < theta2 * d2
                if ti.static(method != OURS):
                    settles = deep and settles_projected(
                        offset, node, target, 0, dim, theta2, source_floats, floats
                    )
                if settles:
                    if write == 0:
                        settled += 1
                        mass = source_ints[node, END] - source_ints[node, BEGIN]
                        add_source(
                            offset, ti.cast(mass, ti.f32),
                            source_floats[node, c.moment], local, dim, method,
                        )  # fmt: skip
                elif _waits(node, diagonal, own_diagonal, method, source_ints):
                    if write == 0:
                        count += 1
                    else:
                        queue[slot] = node
                        slot += 1
                else:
                    following = source_ints[node, CHILD]
                node = following
        if write == 0:
            slot = ti.atomic_add(status[QUEUE], count)
            # The counter may have wrapped, so nothing is added to it here.
            if slot < 0 or count > queue.shape[0] - slot:
                status[HALT] |= QUEUE_FULL
                slot = 0
                last = first
                count = 0
            ints[target, LIST_BEGIN] = slot
            ints[target, LIST_END] = slot + count
    ti.atomic_add(work[CHUNKS], ti.cast(settled, ti.i64))
    for k in ti.static(range(1 + dim + jacobian_size(dim))):
        floats[target, c.s + k] = local[k]


@ti.func
def _descend_if_inner(
    target,
    bucket,
    dim: ti.template(),
    method: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    queue: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    if ints[target, CHILD] >= 0 and ints[target, END] - ints[target, BEGIN] > bucket:
        _descend(
            target, dim, method, theta2, source_ints, source_floats, ints, floats,
            queue, status, work,
        )  # fmt: skip


@ti.func
def _descend_subtree(
    root,
    stop,
    few,
    bucket,
    dim: ti.template(),
    method: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    queue: ti.template(),
    tasks: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Go through targets in preorder; those of at most ``few`` points become tasks."""
    node = root
    while node != stop:
        following = ints[node, ROPE]
        size = ints[node, END] - ints[node, BEGIN]
        if ints[node, CHILD] >= 0 and size > bucket:
            if size <= few and tasks[0] < TASK_ROOM - 1:
                tasks[0] += 1
                tasks[tasks[0]] = node
            else:
                _descend(
                    node, dim, method, theta2, source_ints, source_floats, ints, floats,
                    queue, status, work,
                )  # fmt: skip
                following = ints[node, CHILD]
        node = following


@ti.func
def _begin(
    method: ti.template(),
    queue: ti.template(),
    tasks: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Queue the root; return whether there is anything to do above the buckets.

    ``tasks[0]`` is 1 then: whether this pass began, whatever may halt it on its way.
    """
    work[CHUNKS] = ti.cast(0, ti.i64)
    go = 0
    if status[HALT] == 0:
        go = 1
        status[QUEUE] = 1
        queue[0] = 0
    if ti.static(method != OURS):
        if status[SINGLE_CELLS] == 1:
            go = 0
    tasks[0] = go
    return go


@ti.func
def descend_all(
    dim: ti.template(),
    method: ti.template(),
    levels: ti.template(),
    bucket: ti.template(),
    theta2: ti.template(),
    source_ints: ti.template(),
    source_floats: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    queue: ti.template(),
    tasks: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Traverse both hierarchies down to the target buckets.

    A pair is settled when the larger box diagonal is under
    ``theta * sqrt(CORE + distance^2)``.

    Parameters
    ----------
    method
        OURS, or PUBLISHED.
    levels
        Target levels to process in parallel (GPU), and the subtrees below them; 0
        makes subtrees of the targets the parallel tasks (CPU). The sums are the same.
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
    status
        Halts with QUEUE_FULL; ``status[QUEUE]`` tells how many were asked for.
    work
        (CHUNKS + 1,) interactions done; the last entry is of this pass.
    """
    if ti.static(levels == 0):
        for _ in range(1):
            go = _begin(method, queue, tasks, status, work)
            tasks[0] = 0
            if go == 1:
                few = ti.max(bucket, meta[COUNT] // TASKS)
                _descend_subtree(
                    0, -1, few, bucket, dim, method, theta2, source_ints, source_floats,
                    ints, floats, queue, tasks, status, work,
                )  # fmt: skip
        ti.loop_config(block_dim=1)
        for task in range(1, tasks[0] + 1):
            _descend_subtree(
                tasks[task], ints[tasks[task], ROPE], 0, bucket, dim, method, theta2,
                source_ints, source_floats, ints, floats, queue, tasks, status, work,
            )  # fmt: skip
    else:
        for _ in range(1):
            _begin(method, queue, tasks, status, work)
        for level in ti.static(range(levels)):
            for target in range(meta[LEVEL0 + level], meta[LEVEL0 + level + 1]):
                if tasks[0] == 1:
                    _descend_if_inner(
                        target, bucket, dim, method, theta2, source_ints, source_floats,
                        ints, floats, queue, status, work,
                    )  # fmt: skip
        for root in range(meta[LEVEL0 + levels], meta[LEVEL0 + levels + 1]):
            if tasks[0] == 1:
                _descend_subtree(
                    root, ints[root, ROPE], 0, bucket, dim, method, theta2, source_ints,
                    source_floats, ints, floats, queue, tasks, status, work,
                )  # fmt: skip
