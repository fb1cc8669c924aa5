"""The field: marked grid cells as targets, and reading it back at the points.

Only grid nodes that some point interpolates from are kept (paper section 4.1), as one
bit each in a map over Morton codes; everything else is stored for the marked nodes
alone, in curve order, so the field hierarchy is built by ``hierarchy.build`` like any
other. A grid that would need more bits than the map has is refused, not squeezed.

Reading back blends each corner's value plus *half* its first-order Taylor step with the
usual linear weights. That cancels the second-order error of linear interpolation on the
same 2^d corners; linear interpolation alone limits the published method to 4-9 % (2D)
and 18-24 % (3D) force error even where the field is exact.
"""

from napari_embed.kernels.heaps import heap_of
from napari_embed.kernels.layout import (
    BEGIN,
    CELLS,
    CELLS_FULL,
    COUNT,
    END,
    HALT,
    NO_GRID,
    NODES,
    SINGLE_CELLS,
    columns,
    jacobian_size,
)
from napari_embed.kernels.morton import spread
from napari_embed.kernels.published import OURS
from napari_embed.kernels.runtime import ti
from napari_embed.kernels.traversal import add_source

__all__ = [
    "BITS", "COUNTS_SIZE", "GRID_SIZE", "MAX_GRID_BITS", "SPACING", "interpolate_cells",
    "mark_cells", "widen_boxes",
]  # fmt: skip

# Floats that describe the grid: origin (3), spacing, nodes per axis, bits per axis.
GRID_SIZE = 8
SPACING = 3
NODES_PER_AXIS = 4
BITS = 5
# Nodes per axis, as a power of two: 8192 in 2D (a bit map of 8 MB), 512 in 3D (16 MB).
MAX_GRID_BITS = {2: 13, 3: 9}
# Pieces that the bit map is cut into, a square; counts of the pieces, of each
# _SIDE pieces together, and a flag whether there is anything to list.
_SIDE = 64
_PIECES = _SIDE * _SIDE
_GO = _PIECES + _SIDE
COUNTS_SIZE = _GO + 1
# As published: levels that the embedding hierarchy must have more than the field for
# cells to be traversed one by one.
_SINGLE_FROM = 4


@ti.func
def _compact_bits(code, dim: ti.template()):
    """Undo ``spread`` for one axis of a cell's code."""
    x = code
    if ti.static(dim == 2):
        x = x & 0x55555555
        x = (x | (x >> 1)) & 0x33333333
        x = (x | (x >> 2)) & 0x0F0F0F0F
        x = (x | (x >> 4)) & 0x00FF00FF
        x = (x | (x >> 8)) & 0x0000FFFF
    else:
        x = x & 0x09249249
        x = (x | (x >> 2)) & 0x030C30C3
        x = (x | (x >> 4)) & 0x0300F00F
        x = (x | (x >> 8)) & 0x030000FF
        x = (x | (x >> 16)) & 0x000003FF
    return x


@ti.func
def _corner_code(cell, corner: ti.template(), dim: ti.template()):
    code = ti.cast(0, ti.i64)
    for k in ti.static(range(dim)):
        code |= spread(cell[k] + ti.static((corner >> k) & 1), dim) << k
    return ti.cast(code, ti.i32)


@ti.func
def _within(x, grid: ti.template()):
    """Return the cell that a coordinate lies in; one of the grid, were it NaN."""
    last = (1 << ti.cast(grid[BITS], ti.i32)) - 2
    return ti.max(0, ti.min(last, ti.cast(x, ti.i32)))


@ti.func
def _popcount(bits):
    x = ti.cast(bits, ti.u32)
    x = x - ((x >> 1) & ti.u32(0x55555555))
    x = (x & ti.u32(0x33333333)) + ((x >> 2) & ti.u32(0x33333333))
    x = (x + (x >> 4)) & ti.u32(0x0F0F0F0F)
    return ti.cast((x * ti.u32(0x01010101)) >> 24, ti.i32)


@ti.func
def _lay_grid(
    dim: ti.template(),
    published: ti.template(),
    spacing: ti.template(),
    share: ti.template(),
    early: ti.template(),
    tree_depth: ti.template(),
    floats: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    counts: ti.template(),
    status: ti.template(),
):
    """Place the grid over the root box of the embedding hierarchy."""
    c = ti.static(columns(dim))
    extent = 0.0
    for k in ti.static(range(dim)):
        extent = ti.max(extent, floats[0, c.high + k] - floats[0, c.low + k])
    h = ti.max(ti.min(spacing, share * extent), 1e-12)
    if ti.static(published):
        # As in the authors' program: the width in cells, rounded up to a power of two.
        width = ti.min(floats[0, c.high] - floats[0, c.low], 1e6)
        power = 8.0
        while power < ti.min(ti.floor(width / spacing), 1e6):
            power *= 2.0
        h = ti.max(width / power, 1e-12)
    # One node of margin, one for the far corner.
    nodes = ti.min(extent / h, 1e6) + 4.0
    depth = 3
    while ti.cast(1 << depth, ti.f32) < nodes:
        depth += 1
    if dim * depth > 30 or (1 << (dim * depth - 5)) > bits.shape[1]:
        status[HALT] |= NO_GRID
        counts[_GO] = 0
        depth = 0
    for k in ti.static(range(dim)):
        grid[k] = floats[0, c.low + k] - 1.5 * h
    grid[SPACING] = h
    grid[NODES_PER_AXIS] = nodes
    grid[BITS] = ti.cast(depth, ti.f32)
    if ti.static(published):
        shallow = tree_depth - depth >= _SINGLE_FROM
        status[SINGLE_CELLS] = ti.select(early == 1 or shallow, 1, 0)


@ti.func
def _words(grid: ti.template(), dim: ti.template()):
    """Return how many words of the bit map are in use."""
    return 1 << ti.max(0, dim * ti.cast(grid[BITS], ti.i32) - 5)


@ti.func
def _list_piece(
    piece,
    dim: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    counts: ti.template(),
    keys: ti.template(),
    targets: ti.template(),
):
    """Write codes and coordinates of the nodes marked in one piece of the map."""
    words = _words(grid, dim)
    size = (words + _PIECES - 1) // _PIECES
    row = counts[piece]
    for word in range(piece * size, ti.min(words, (piece + 1) * size)):
        bits[1, word] = row
        marked = bits[0, word]
        if marked != 0:
            for b in range(32):
                if (marked >> b) & 1 == 1:
                    code = word * 32 + b
                    keys[row] = ti.cast(code, ti.i64)
                    for k in ti.static(range(dim)):
                        index = _compact_bits(code >> k, dim)
                        targets[k, row] = (
                            grid[k] + ti.cast(index, ti.f32) * grid[SPACING]
                        )
                    row += 1


@ti.func
def _count_marked(
    dim: ti.template(),
    limit: ti.template(),
    room: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    counts: ti.template(),
    meta: ti.template(),
    status: ti.template(),
):
    """Count the marked nodes before each piece of the map, and all of them."""
    for piece in range(_PIECES):
        words = _words(grid, dim)
        size = (words + _PIECES - 1) // _PIECES
        total = 0
        if counts[_GO] == 1:
            for word in range(piece * size, ti.min(words, (piece + 1) * size)):
                total += _popcount(bits[0, word])
        counts[piece] = total
    for group in range(_SIDE):
        total = 0
        for piece in range(group * _SIDE, (group + 1) * _SIDE):
            here = counts[piece]
            counts[piece] = total
            total += here
        counts[_PIECES + group] = total
    for _ in range(1):
        total = 0
        for group in range(_SIDE):
            here = counts[_PIECES + group]
            counts[_PIECES + group] = total
            total += here
        if counts[_GO] == 1:
            status[CELLS] = total
            if total > limit:
                status[HALT] |= NO_GRID
            elif total > room:
                status[HALT] |= CELLS_FULL
            if total > ti.min(limit, room):
                counts[_GO] = 0
                total = 0
        else:
            total = 0
        meta[COUNT] = total
    for piece in range(_PIECES):
        counts[piece] += counts[_PIECES + piece // _SIDE]


@ti.func
def mark_cells(
    dim: ti.template(),
    published: ti.template(),
    spacing: ti.template(),
    share: ti.template(),
    limit: ti.template(),
    early: ti.template(),
    tree_depth: ti.template(),
    floats: ti.template(),
    sources: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    counts: ti.template(),
    keys: ti.template(),
    targets: ti.template(),
    meta: ti.template(),
    status: ti.template(),
):
    """Mark the grid nodes around every point and list them in curve order.

    Halts with NO_GRID when the grid has more nodes than ``bits`` has room for or more
    than ``limit`` are marked, and with CELLS_FULL when more are marked than ``keys``
    has room for; ``status[CELLS]`` tells how many. ``meta[COUNT]`` is 0 then.

    Parameters
    ----------
    published
        Whether to size the grid as the authors do: the extent of x over ``spacing``,
        rounded up to a power of two (at least 8), is its number of cells along x.
    spacing, share
        Distance of grid nodes: ``spacing``, or this share of the extent if smaller.
    early, tree_depth
        As published: whether the exaggeration is on, and levels of the embedding
        hierarchy; they decide whether cells are traversed one by one. The rule is the
        authors' program's; their paper states the depths alone (section 5.3).
    floats
        Floats of the embedding hierarchy, fitted: its root is the extent.
    sources
        (dim, n) coordinates.
    grid
        (GRID_SIZE,) result: where the grid lies.
    bits
        (2, words) one bit per node, and the number of nodes before each word.
    counts
        (COUNTS_SIZE,) scratch.
    keys, targets
        (room,), (dim, room) result: codes and coordinates of the marked nodes.
    """
    for _ in range(1):
        grid[BITS] = 0.0
        counts[_GO] = 0
        if status[HALT] == 0:
            counts[_GO] = 1
            _lay_grid(
                dim, published, spacing, share, early, tree_depth, floats, grid, bits,
                counts, status,
            )  # fmt: skip
    for word in range(_words(grid, dim)):
        bits[0, word] = 0
    for i in range(sources.shape[1]):
        if counts[_GO] == 1:
            cell = ti.Vector.zero(ti.i32, dim)
            for k in ti.static(range(dim)):
                cell[k] = _within((sources[k, i] - grid[k]) / grid[SPACING], grid)
            for corner in ti.static(range(1 << dim)):
                code = _corner_code(cell, corner, dim)
                bit = 1 << (code & 31)
                if (bits[0, code >> 5] & bit) == 0:
                    ti.atomic_or(bits[0, code >> 5], bit)
    _count_marked(dim, limit, keys.shape[0], grid, bits, counts, meta, status)
    for piece in range(_PIECES):
        if counts[_GO] == 1:
            _list_piece(piece, dim, grid, bits, counts, keys, targets)


@ti.func
def widen_boxes(
    dim: ti.template(), grid: ti.template(), floats: ti.template(), meta: ti.template()
):
    """Let the boxes of field nodes cover their cells, not just the cells' centres."""
    for node in range(meta[NODES]):
        c = ti.static(columns(dim))
        for k in ti.static(range(dim)):
            floats[node, c.low + k] -= 0.5 * grid[SPACING]
            floats[node, c.high + k] += 0.5 * grid[SPACING]


@ti.func
def _read_field(
    r,
    dim: ti.template(),
    method: ti.template(),
    half: ti.template(),
    source_ints: ti.template(),
    source_floats: ti.template(),
    source_owner: ti.template(),
    sources: ti.template(),
    order: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    values: ti.template(),
    result: ti.template(),
):
    """Blend S and R of the corners around one point; its own heap is added apart."""
    c = ti.static(columns(dim))
    cell = ti.Vector.zero(ti.i32, dim)
    place = ti.Vector.zero(ti.f32, dim)
    for k in ti.static(range(dim)):
        x = (sources[k, r] - grid[k]) / grid[SPACING]
        cell[k] = _within(x, grid)
        place[k] = x - ti.cast(cell[k], ti.f32)
    heap = -1
    mass = 0.0
    moment = 0.0
    away = ti.Vector.zero(ti.f32, dim)
    if ti.static(method == OURS):
        heap = heap_of(
            r, grid[SPACING], dim, source_ints, source_floats, source_owner
        )  # fmt: skip
        if heap >= 0:
            mass = ti.cast(source_ints[heap, END] - source_ints[heap, BEGIN], ti.f32)
            moment = source_floats[heap, c.moment]
            for k in ti.static(range(dim)):
                away[k] = sources[k, r] - source_floats[heap, c.com + k]
    total = ti.Vector.zero(ti.f32, 1 + dim)
    for corner in ti.static(range(1 << dim)):
        code = _corner_code(cell, corner, dim)
        below = (1 << (code & 31)) - 1
        row = bits[1, code >> 5] + _popcount(bits[0, code >> 5] & below)
        weight = 1.0
        step = ti.Vector.zero(ti.f32, dim)  # from the corner to the point
        for k in ti.static(range(dim)):
            if ti.static((corner >> k) & 1 == 1):
                weight *= place[k]
                step[k] = (place[k] - 1.0) * grid[SPACING]
            else:
                weight *= 1.0 - place[k]
                step[k] = place[k] * grid[SPACING]
        here = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
        for k in ti.static(range(1 + dim + jacobian_size(dim))):
            here[k] = values[row, k]
        if heap >= 0:
            add_source(away - step, -mass, -moment, here, dim, method)
        total += weight * _half_step(here, half * step, dim)
    if heap >= 0:
        own = ti.Vector.zero(ti.f32, ti.static(1 + dim + jacobian_size(dim)))
        add_source(away, mass, moment, own, dim, method)
        for k in ti.static(range(1 + dim)):
            total[k] += own[k]
    for k in ti.static(range(1 + dim)):
        result[order[r], k] = total[k]


@ti.func
def _half_step(local, delta, dim: ti.template()):
    """Return S and R a first-order step of ``delta`` away from (S, R, J)."""
    result = ti.Vector.zero(ti.f32, 1 + dim)
    result[0] = local[0]
    for a in ti.static(range(dim)):
        result[0] -= 2.0 * local[1 + a] * delta[a]
        result[1 + a] = local[1 + a]
        for b in ti.static(range(dim)):
            low = ti.static(min(a, b))
            high = ti.static(max(a, b))
            entry = ti.static(1 + dim + low * dim - low * (low - 1) // 2 + high - low)
            result[1 + a] += local[entry] * delta[b]
    return result


@ti.func
def interpolate_cells(
    dim: ti.template(),
    method: ti.template(),
    half: ti.template(),
    source_ints: ti.template(),
    source_floats: ti.template(),
    source_owner: ti.template(),
    sources: ti.template(),
    order: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    values: ti.template(),
    result: ti.template(),
    status: ti.template(),
):
    """Read S and R at every point from the field.

    Parameters
    ----------
    method
        OURS; or PUBLISHED, which knows no heaps.
    half
        Share of the Taylor step: 0.5, or 0 for plain linear interpolation.
    source_owner
        (n,) bucket of each point in the embedding hierarchy.
    values
        (cells, ...) S, R, J of the marked nodes.
    result
        (n, 1 + dim) S and R, row ``order[r]`` for point r.
    """
    for r in range(sources.shape[1]):
        if status[HALT] == 0:
            _read_field(
                r, dim, method, half, source_ints, source_floats, source_owner, sources,
                order, grid, bits, values, result,
            )  # fmt: skip
