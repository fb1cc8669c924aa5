"""The end of the traversal: what is left for the targets of each bucket.

On a CPU all that ``traversal.descend_all`` handed down to a bucket of a few dozen
targets becomes one list of point masses, which each of its targets runs through in a
vectorised loop. On a GPU each target is a thread; those of one bucket take the same
way. Both settle the same pairs.
"""

from napari_embed.kernels.layout import (
    BEGIN,
    CHILD,
    CHUNKS,
    COUNT,
    END,
    HALT,
    LIST_BEGIN,
    LIST_END,
    PARENT,
    ROPE,
    SINGLE_CELLS,
    columns,
    jacobian_size,
)
from napari_embed.kernels.published import OURS, entered, settles_projected
from napari_embed.kernels.runtime import ti
from napari_embed.kernels.traversal import (
    CORE,
    add_source,
    centre_of,
    expansion_of,
    shifted,
)

__all__ = ["LIST_ROOM", "sum_near"]

# Point masses gathered before they are evaluated: a list stays in the L1 cache.
LIST_ROOM = 1024
# Leaves with more points than this are summed in place, not gathered.
_GATHER = 64


@ti.func
def _is_single(method: ti.template(), status: ti.template()):
    """Return 1 where nothing was done above the buckets, as published early on."""
    result = 0
    if ti.static(method != OURS):
        result = status[SINGLE_CELLS]
    return result


@ti.func
def _parent_of(bucket_node, single, method: ti.template(), ints: ti.template()):
    """Return the node that handed sources down, or -1 where all is still to do."""
    parent = ints[bucket_node, PARENT]
    if ti.static(method != OURS):
        if single == 1:
            parent = -1
    return parent


@ti.func
def _start_targets(
    bucket_node,
    single,
    dim: ti.template(),
    jacobian: ti.template(),
    method: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    order: ti.template(),
    result: ti.template(),
):
    """Set each target of a bucket to the expansion handed down to it."""
    parent = _parent_of(bucket_node, single, method, ints)
    local = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    centre = ti.Vector.zero(ti.f32, dim)
    if parent >= 0:
        local = expansion_of(parent, floats, dim)
        centre = centre_of(parent, floats, dim)
    for r in range(ints[bucket_node, BEGIN], ints[bucket_node, END]):
        delta = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            delta[k] = targets[k, r] - centre[k]
        here = shifted(local, delta, dim, method)
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
    method: ti.template(),
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
            add_source(offset, mass, moment, local, dim, method)
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
    method: ti.template(),
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
            add_source(offset, 1.0, 0.0, local, dim, method)
        row = r
        if ti.static(not jacobian):
            row = order[r]
        for k in ti.static(range(1 + dim + (jacobian_size(dim) if jacobian else 0))):
            result[row, k] += local[k]


@ti.func
def _distance2(
    node,
    bucket_node,
    dim: ti.template(),
    source_floats: ti.template(),
    floats: ti.template(),
):
    """Return CORE plus the squared distance of a source to the bucket's box."""
    c = ti.static(columns(dim))
    d2 = CORE
    for k in ti.static(range(dim)):
        x = source_floats[node, c.com + k]
        below = floats[bucket_node, c.low + k] - x
        above = x - floats[bucket_node, c.high + k]
        gap = ti.max(0.0, ti.max(below, above))
        d2 += gap * gap
    return d2


@ti.func
def _settles(
    node,
    bucket_node,
    single,
    dim: ti.template(),
    method: ti.template(),
    theta2,
    source_floats: ti.template(),
    floats: ti.template(),
):
    """Return whether a source may be a point mass for all targets of a bucket."""
    c = ti.static(columns(dim))
    result = False
    if ti.static(method == OURS):
        d2 = _distance2(node, bucket_node, dim, source_floats, floats)
        result = source_floats[node, c.diagonal] < theta2 * d2
    else:
        offset = centre_of(bucket_node, floats, dim)
        for k in ti.static(range(dim)):
            offset[k] -= source_floats[node, c.com + k]
        result = settles_projected(
            offset, node, bucket_node, single, dim, theta2, source_floats, floats
        )
    return result


@ti.func
def _sum_bucket(
    chunk,
    bucket_node,
    single,
    dim: ti.template(),
    jacobian: ti.template(),
    method: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    sources: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    order: ti.template(),
    queue: ti.template(),
    lists: ti.template(),
    result: ti.template(),
):
    """Add to a bucket all that was handed down to it; return the interactions."""
    c = ti.static(columns(dim))
    begin = ints[bucket_node, BEGIN]
    end = ints[bucket_node, END]
    done = ti.cast(0, ti.i64)
    first = 0
    last = 1
    parent = _parent_of(bucket_node, single, method, ints)
    if parent >= 0:
        first = ints[parent, LIST_BEGIN]
        last = ints[parent, LIST_END]
    count = 0
    node = -1
    stop = -1
    going = True
    # One loop over all subtrees handed down, so that lists are summed in one place.
    while going:
        if node == stop:
            if first < last:
                node = queue[first]
                stop = source_ints[node, ROPE]
                node = entered(node, parent, method, source_ints)
                first += 1
            else:
                going = False
        else:
            b, e = source_ints[node, BEGIN], source_ints[node, END]
            following = source_ints[node, ROPE]
            if _settles(
                node, bucket_node, single, dim, method, theta2, source_floats, floats
            ):
                for k in ti.static(range(dim)):
                    lists[chunk, k * LIST_ROOM + count] = source_floats[node, c.com + k]
                lists[chunk, dim * LIST_ROOM + count] = ti.cast(e - b, ti.f32)
                moment = source_floats[node, c.moment]
                lists[chunk, (dim + 1) * LIST_ROOM + count] = moment
                count += 1
            elif source_ints[node, CHILD] >= 0:
                following = source_ints[node, CHILD]
            elif e - b > _GATHER:
                done += ti.cast(e - b, ti.i64) * (end - begin)
                _add_range(
                    b, e, begin, end, dim, jacobian, method, sources, targets, order,
                    result,
                )  # fmt: skip
            else:
                for j in range(b, e):
                    for k in ti.static(range(dim)):
                        lists[chunk, k * LIST_ROOM + count + j - b] = sources[k, j]
                    lists[chunk, dim * LIST_ROOM + count + j - b] = 1.0
                    lists[chunk, (dim + 1) * LIST_ROOM + count + j - b] = 0.0
                count += e - b
            node = following
        if count > LIST_ROOM - _GATHER - 16 or not going:
            done += ti.cast(count, ti.i64) * (end - begin)
            _add_list(
                chunk, count, begin, end, dim, jacobian, method, targets, order, lists,
                result,
            )  # fmt: skip
            count = 0
    return done


@ti.func
def _sum_in_lists(
    dim: ti.template(),
    jacobian: ti.template(),
    method: ti.template(),
    theta2: ti.template(),
    source_ints: ti.template(),
    source_floats: ti.template(),
    sources: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    owner: ti.template(),
    order: ti.template(),
    queue: ti.template(),
    lists: ti.template(),
    result: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Finish the traversal bucket by bucket (for CPU: long vectorised lists)."""
    ti.loop_config(block_dim=1)
    for chunk in range(CHUNKS):
        single = _is_single(method, status)
        n = meta[COUNT]
        if status[HALT] != 0:
            n = 0
        step = (n + CHUNKS - 1) // CHUNKS
        done = ti.cast(0, ti.i64)
        r = chunk * step
        stop_at = ti.min(n, r + step)
        # A bucket belongs to the piece that its first target lies in.
        while r < stop_at and ints[owner[r], BEGIN] != r:
            r += 1
        while r < stop_at:
            bucket_node = owner[r]
            r = ints[bucket_node, END]
            _start_targets(
                bucket_node, single, dim, jacobian, method, ints, floats, targets,
                order, result,
            )  # fmt: skip
            done += _sum_bucket(
                chunk, bucket_node, single, dim, jacobian, method, theta2, source_ints,
                source_floats, sources, ints, floats, targets, order, queue, lists,
                result,
            )  # fmt: skip
        work[chunk] = done


@ti.func
def _sum_target(
    r,
    dim: ti.template(),
    jacobian: ti.template(),
    method: ti.template(),
    theta2,
    source_ints: ti.template(),
    source_floats: ti.template(),
    sources: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    owner: ti.template(),
    order: ti.template(),
    queue: ti.template(),
    result: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Finish the traversal for one target (for GPU)."""
    c = ti.static(columns(dim))
    single = _is_single(method, status)
    p = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        p[k] = targets[k, r]
    total = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
    done = 0
    first = 0
    last = 1
    parent = _parent_of(owner[r], single, method, ints)
    if parent >= 0:
        first = ints[parent, LIST_BEGIN]
        last = ints[parent, LIST_END]
        above = centre_of(parent, floats, dim)
        total = shifted(expansion_of(parent, floats, dim), p - above, dim, method)
    for q in range(first, last):
        node = queue[q]
        stop = source_ints[node, ROPE]
        node = entered(node, parent, method, source_ints)
        # Sums of sums: float32 stays exact enough over many thousand terms.
        part = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
        while node != stop:
            begin = source_ints[node, BEGIN]
            end = source_ints[node, END]
            following = source_ints[node, ROPE]
            offset = ti.Vector.zero(ti.f32, dim)
            if _settles(
                node, owner[r], single, dim, method, theta2, source_floats, floats
            ):
                for k in ti.static(range(dim)):
                    offset[k] = p[k] - source_floats[node, c.com + k]
                mass = ti.cast(end - begin, ti.f32)
                moment = source_floats[node, c.moment]
                add_source(offset, mass, moment, part, dim, method)
                done += 1
            elif source_ints[node, CHILD] >= 0:
                following = source_ints[node, CHILD]
            else:
                for j in range(begin, end):
                    for k in ti.static(range(dim)):
                        offset[k] = p[k] - sources[k, j]
                    add_source(offset, 1.0, 0.0, part, dim, method)
                done += end - begin
            node = following
        total += part
    row = r
    if ti.static(not jacobian):
        row = order[r]
    for k in ti.static(range(1 + dim + (jacobian_size(dim) if jacobian else 0))):
        result[row, k] = total[k]
    ti.atomic_add(work[r % CHUNKS], ti.cast(done, ti.i64))


@ti.func
def sum_near(
    dim: ti.template(),
    jacobian: ti.template(),
    method: ti.template(),
    levels: ti.template(),
    theta2: ti.template(),
    source_ints: ti.template(),
    source_floats: ti.template(),
    sources: ti.template(),
    ints: ti.template(),
    floats: ti.template(),
    targets: ti.template(),
    owner: ti.template(),
    order: ti.template(),
    queue: ti.template(),
    lists: ti.template(),
    result: ti.template(),
    meta: ti.template(),
    status: ti.template(),
    work: ti.template(),
):
    """Finish the traversal at each target bucket.

    A source node is taken as a point mass when its diagonal is under
    ``theta * sqrt(CORE + distance^2)`` with the distance to the bucket's *box*, so that
    the test holds for each of its targets; leaves that fail are summed directly.

    Parameters
    ----------
    jacobian
        Whether the targets are cells: then results stay in tree order and carry J.
    method
        OURS; or PUBLISHED, with buckets of one cell.
    levels
        0 works through lists, bucket by bucket (CPU); more has a thread per target.
    sources, targets
        (dim, n) coordinates in tree order.
    owner, order
        (n,) bucket of each target; its row in ``result``.
    lists
        (CHUNKS, (dim + 2) * LIST_ROOM) scratch.
    result
        (n, 1 + dim or more) S, R and, for cells, J.
    work
        (CHUNKS + 1,) interactions done, by piece.
    """
    if ti.static(levels == 0):
        _sum_in_lists(
            dim, jacobian, method, theta2, source_ints, source_floats, sources, ints,
            floats, targets, owner, order, queue, lists, result, meta, status, work,
        )  # fmt: skip
    else:
        for chunk in range(CHUNKS):
            work[chunk] = ti.cast(0, ti.i64)
        for r in range(meta[COUNT]):
            if status[HALT] == 0:
                _sum_target(
                    r, dim, jacobian, method, theta2, source_ints, source_floats,
                    sources, ints, floats, targets, owner, order, queue, result, status,
                    work,
                )  # fmt: skip
