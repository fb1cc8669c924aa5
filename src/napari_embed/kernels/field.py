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

from napari_embed.kernels.layout import CHUNKS, COUNT, OVERFLOW, columns
from napari_embed.kernels.morton import spread
from napari_embed.kernels.runtime import ti

__all__ = ["GRID_SIZE", "MAX_GRID_BITS", "interpolate", "mark"]

# Floats that describe the grid: origin (3), spacing, nodes per axis, bits per axis.
GRID_SIZE = 8
SPACING = 3
NODES_PER_AXIS = 4
BITS = 5
# Nodes per axis, as a power of two: 8192 in 2D (a bit map of 8 MB), 512 in 3D (16 MB).
MAX_GRID_BITS = {2: 13, 3: 9}


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
    spacing,
    share,
    floats: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    meta: ti.template(),
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
    meta[OVERFLOW] = 0
    if dim * depth > 30 or (1 << (dim * depth - 5)) > bits.shape[1]:
        meta[OVERFLOW] = 4
        depth = 0
    for k in ti.static(range(dim)):
        grid[k] = floats[0, c.low + k] - 1.5 * h
    grid[SPACING] = h
    grid[NODES_PER_AXIS] = nodes
    grid[BITS] = ti.cast(depth, ti.f32)
    meta[COUNT] = 0


@ti.func
def _list_chunk(
    chunk,
    dim: ti.template(),
    grid: ti.template(),
    bits: ti.template(),
    counts: ti.template(),
    keys: ti.template(),
    targets: ti.template(),
    meta: ti.template(),
):
    """Write codes and coordinates of the nodes marked in one piece of the map."""
    words = 1 << ti.max(0, dim * ti.cast(grid[BITS], ti.i32) - 5)
    step = (words + CHUNKS - 1) // CHUNKS
    row = counts[chunk]
    stop = ti.min(words, (chunk + 1) * step)
    if meta[OVERFLOW] != 0:
        stop = 0
    for word in range(chunk * step, stop):
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


@ti.kernel
def mark(
    dim: ti.template(),
    published: ti.template(),
    spacing: ti.f32,
    share: ti.f32,
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    grid: ti.types.ndarray(dtype=ti.f32, ndim=1),
    bits: ti.types.ndarray(dtype=ti.i32, ndim=2),
    counts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    keys: ti.types.ndarray(dtype=ti.i64, ndim=1),
    targets: ti.types.ndarray(dtype=ti.f32, ndim=2),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Mark the grid nodes around every point and list them in curve order.

    Sets bit 4 of ``meta[OVERFLOW]`` when the grid has more nodes than ``bits`` has
    room for, and bit 8 when more are marked than ``keys`` has room for; ``meta[COUNT]``
    tells how many.

    Parameters
    ----------
    published
        Whether to size the grid as the authors do: the extent of x over ``spacing``,
        rounded up to a power of two (at least 8), is its number of cells along x.
    spacing, share
        Distance of grid nodes: ``spacing``, or this share of the extent if smaller.
    floats
        Floats of the embedding hierarchy, fitted: its root is the extent.
    sources
        (dim, n) coordinates.
    grid
        (GRID_SIZE,) result: where the grid lies.
    bits
        (2, words) one bit per node, and the number of nodes before each word.
    counts
        (CHUNKS + 1,) scratch.
    keys, targets
        (room,), (dim, room) result: codes and coordinates of the marked nodes.
    """
    for _ in range(1):
        _lay_grid(dim, published, spacing, share, floats, grid, bits, meta)
    for word in range(1 << ti.max(0, dim * ti.cast(grid[BITS], ti.i32) - 5)):
        bits[0, word] = 0
    for i in range(sources.shape[1]):
        if meta[OVERFLOW] == 0:
            cell = ti.Vector.zero(ti.i32, dim)
            for k in ti.static(range(dim)):
                cell[k] = ti.cast((sources[k, i] - grid[k]) / grid[SPACING], ti.i32)
            for corner in ti.static(range(1 << dim)):
                code = _corner_code(cell, corner, dim)
                bit = 1 << (code & 31)
                if (bits[0, code >> 5] & bit) == 0:
                    ti.atomic_or(bits[0, code >> 5], bit)
    for chunk in range(CHUNKS):
        words = 1 << ti.max(0, dim * ti.cast(grid[BITS], ti.i32) - 5)
        step = (words + CHUNKS - 1) // CHUNKS
        total = 0
        for word in range(chunk * step, ti.min(words, (chunk + 1) * step)):
            total += _popcount(bits[0, word])
        counts[chunk] = total
    for _ in range(1):
        total = 0
        for chunk in range(CHUNKS):
            here = counts[chunk]
            counts[chunk] = total
            total += here
        meta[COUNT] = total
        if total > keys.shape[0]:
            meta[OVERFLOW] |= 8
    for chunk in range(CHUNKS):
        _list_chunk(chunk, dim, grid, bits, counts, keys, targets, meta)


@ti.kernel
def interpolate(
    dim: ti.template(),
    half: ti.f32,
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    grid: ti.types.ndarray(dtype=ti.f32, ndim=1),
    bits: ti.types.ndarray(dtype=ti.i32, ndim=2),
    values: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Read S and R at every point from the field.

    Parameters
    ----------
    half
        Share of the Taylor step: 0.5, or 0 for plain linear interpolation.
    values
        (cells, ...) S, R, J of the marked nodes.
    result
        (n, 1 + dim) S and R, row ``order[r]`` for point r.
    """
    for r in range(sources.shape[1]):
        cell = ti.Vector.zero(ti.i32, dim)
        place = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            x = (sources[k, r] - grid[k]) / grid[SPACING]
            cell[k] = ti.cast(x, ti.i32)
            place[k] = x - ti.cast(cell[k], ti.f32)
        total = ti.Vector.zero(ti.f32, 1 + dim)
        for corner in ti.static(range(1 << dim)):
            code = _corner_code(cell, corner, dim)
            below = (1 << (code & 31)) - 1
            row = bits[1, code >> 5] + _popcount(bits[0, code >> 5] & below)
            weight = 1.0
            delta = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                if ti.static((corner >> k) & 1 == 1):
                    weight *= place[k]
                    delta[k] = half * (place[k] - 1.0) * grid[SPACING]
                else:
                    weight *= 1.0 - place[k]
                    delta[k] = half * place[k] * grid[SPACING]
            s = values[row, 0]
            for a in ti.static(range(dim)):
                here = values[row, 1 + a]
                s -= 2.0 * here * delta[a]
                for b in ti.static(range(dim)):
                    low = ti.static(min(a, b))
                    high = ti.static(max(a, b))
                    entry = ti.static(
                        1 + dim + low * dim - low * (low - 1) // 2 + high - low
                    )
                    here += values[row, entry] * delta[b]
                total[1 + a] += weight * here
            total[0] += weight * s
        for k in ti.static(range(1 + dim)):
            result[order[r], k] = total[k]
