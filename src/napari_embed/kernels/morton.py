"""Morton keys: positions to integers whose order follows a space-filling curve.

Lauterbach et al. 2009 ("Fast BVH construction on GPUs"); paper section 5.1.
"""

from napari_embed.kernels.layout import CHUNKS
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


@ti.kernel
def morton_keys(
    dim: ti.template(),
    n: ti.i32,
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    partial: ti.types.ndarray(dtype=ti.f32, ndim=2),
    keys: ti.types.ndarray(dtype=ti.i64, ndim=1),
):
    """Write the key of each position, over the bounds of all positions.

    Parameters
    ----------
    y
        (n, dim) positions.
    partial
        (CHUNKS + 1, 6) scratch; the last row receives low and high bounds.
    keys
        (n,) result.
    """
    for w in range(CHUNKS):
        step = (n + CHUNKS - 1) // CHUNKS
        for k in ti.static(range(dim)):
            low = 1e30
            high = -1e30
            for i in range(w * step, ti.min(n, (w + 1) * step)):
                u = squash(y[i, k])
                low = ti.min(low, u)
                high = ti.max(high, u)
            partial[w, k] = low
            partial[w, 3 + k] = high
    for _ in range(1):
        for k in ti.static(range(dim)):
            low = 1e30
            high = -1e30
            for w in range(CHUNKS):
                low = ti.min(low, partial[w, k])
                high = ti.max(high, partial[w, 3 + k])
            partial[CHUNKS, k] = low
            partial[CHUNKS, 3 + k] = high
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
