"""Morton keys: positions to integers whose order follows a space-filling curve.

Lauterbach et al. 2009 ("Fast BVH construction on GPUs"); paper section 5.1.
"""

from napari_embed.kernels.layout import CHUNKS, FAN, HALT, PIECES
from napari_embed.kernels.runtime import ti

__all__ = ["bits_per_axis", "morton_keys", "spread"]

# Positions beyond this many units are compressed, so that one far point (t-SNE maps
# seldom pass a few hundred units) cannot take the resolution from all others. A smooth
# monotone map keeps every box a box.
_SQUASH = 4096.0


def bits_per_axis(dim: int) -> int:
    """Return the resolution of a 63-bit key: 31 bits in 2D, 21 in 3D."""
    return 31 if dim == 2 else 21


@ti.func
def squash(x):
    """Map the real line to (-4096, 4096), identity near 0; NaN goes to the edge."""
    result = _SQUASH
    # Fast arithmetic assumes there is no NaN, so look at the bits.
    if (ti.bit_cast(x, ti.i32) & 0x7FFFFFFF) < 0x7F800000:
        z = ti.max(-1e15, ti.min(1e15, x))
        result = z / (1.0 + ti.abs(z) / _SQUASH)
    return result


@ti.func
def spread(v, dim: ti.template()):
    """Interleave the bits of ``v`` with ``dim - 1`` zeros each (int64)."""
    x = ti.cast(v, ti.i64)
    if ti.static(dim == 2):
        x = (x | (x << 16)) & ti.i64(0x0000FFFF0000FFFF)
        x = (x | (x << 8)) & ti.i64(0x00FF00FF00FF00FF)
        x = (x | (x << 4)) & ti.i64(0x0F0F0F0F0F0F0F0F)
        x = (x | (x << 2)) & ti.i64(0x3333333333333333)
        x = (x | (x << 1)) & ti.i64(0x5555555555555555)
    else:
        x = (x | (x << 32)) & ti.i64(0x001F00000000FFFF)
        x = (x | (x << 16)) & ti.i64(0x001F0000FF0000FF)
        x = (x | (x << 8)) & ti.i64(0x100F00F00F00F00F)
        x = (x | (x << 4)) & ti.i64(0x10C30C30C30C30C3)
        x = (x | (x << 2)) & ti.i64(0x1249249249249249)
    return x


@ti.func
def _bounds_of(
    row,
    first,
    count,
    stride,
    dim: ti.template(),
    y: ti.template(),
    partial: ti.template(),
):
    """Write the bounds of ``count`` positions to a row of ``partial``."""
    for k in ti.static(range(dim)):
        low = 1e30
        high = -1e30
        for t in range(count):
            u = squash(y[first + t * stride, k])
            low = ti.min(low, u)
            high = ti.max(high, u)
        partial[row, k] = low
        partial[row, 3 + k] = high


@ti.func
def _join_bounds(row, first, count, dim: ti.template(), partial: ti.template()):
    """Write the bounds that some rows of ``partial`` have together to another row."""
    for k in ti.static(range(dim)):
        low = 1e30
        high = -1e30
        for other in range(first, first + count):
            low = ti.min(low, partial[other, k])
            high = ti.max(high, partial[other, 3 + k])
        partial[row, k] = low
        partial[row, 3 + k] = high


@ti.func
def _find_bounds(
    dim: ti.template(),
    levels: ti.template(),
    n: ti.template(),
    y: ti.template(),
    partial: ti.template(),
):
    """Write the bounds of all positions to row CHUNKS of ``partial``."""
    if ti.static(levels == 0):
        for w in range(CHUNKS):
            size = (n + CHUNKS - 1) // CHUNKS
            count = ti.max(0, ti.min(n, (w + 1) * size) - w * size)
            _bounds_of(w, w * size, count, 1, dim, y, partial)
        for _ in range(1):
            _join_bounds(CHUNKS, 0, CHUNKS, dim, partial)
    else:
        base = ti.static(CHUNKS + 1)
        for w in range(PIECES):
            count = ti.max(0, n - w + PIECES - 1) // PIECES
            _bounds_of(base + w, w, count, PIECES, dim, y, partial)
        for w in range(FAN * FAN):
            _join_bounds(base + PIECES + w, base + w * FAN, FAN, dim, partial)
        for w in range(FAN):
            first = base + PIECES
            _join_bounds(first + FAN * FAN + w, first + w * FAN, FAN, dim, partial)
        for _ in range(1):
            _join_bounds(CHUNKS, base + PIECES + FAN * FAN, FAN, dim, partial)


@ti.kernel
def morton_keys(
    dim: ti.template(),
    levels: ti.template(),
    n: ti.i32,
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    built_from: ti.types.ndarray(dtype=ti.f32, ndim=2),
    partial: ti.types.ndarray(dtype=ti.f32, ndim=2),
    keys: ti.types.ndarray(dtype=ti.i64, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Write the key of each position, over the bounds of all positions.

    Parameters
    ----------
    levels
        More than 0 on a GPU, which takes the bounds in finer pieces.
    y
        (n, dim) positions.
    built_from
        (n, dim) result: a copy of ``y``, unless the status says halt; then it stays
        what the hierarchy to come back to was built from.
    partial
        (SUMS_SIZE, 6) scratch; row CHUNKS receives low and high bounds.
    keys
        (n,) result.
    """
    _find_bounds(dim, levels, n, y, partial)
    for i in range(n):
        # One scale for all axes: cells of the curve stay square.
        side = ti.cast(1e-30, ti.f64)
        for k in ti.static(range(dim)):
            side = ti.max(
                side,
                ti.cast(partial[CHUNKS, 3 + k], ti.f64)
                - ti.cast(partial[CHUNKS, k], ti.f64),
            )
        # From an integer: as a float32 it would be 2^31, one bit too many for the key.
        cells = ti.cast(ti.static((1 << (31 if dim == 2 else 21)) - 1), ti.f64)
        key = ti.cast(0, ti.i64)
        for k in ti.static(range(dim)):
            offset = ti.cast(squash(y[i, k]), ti.f64) - ti.cast(
                partial[CHUNKS, k], ti.f64
            )
            key |= spread(ti.cast(offset / side * cells, ti.i64), dim) << k
        keys[i] = key
        if status[HALT] == 0:
            for k in ti.static(range(dim)):
                built_from[i, k] = y[i, k]
