"""Attraction, gradient step and KL divergence: one pass over the rows of P each.

With q = 1 / (1 + |y_i - y_j|^2), the gradient without its factor 4 is

    exaggeration * sum_j p_ij q (y_i - y_j)  -  R(y_i) / Z

(paper eq. 7-8). ``R`` and ``Z`` come from the traversal; see there.
"""

from napari_embed.kernels.layout import CHUNKS, OVERFLOW
from napari_embed.kernels.runtime import ti

__all__ = [
    "divergence",
    "gather",
    "move_rows",
    "move_state",
    "step",
    "sum_z",
]

# Beyond this distance 1/(1+d^2) is 0 in float32; squares must stay finite.
_FAR = 1e15


@ti.func
def _bounded(x):
    return ti.max(-_FAR, ti.min(_FAR, x))


@ti.kernel
def gather(
    dim: ti.template(),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Copy (n, dim) positions to (dim, n) coordinates in tree order."""
    for r in range(y.shape[0]):
        for k in ti.static(range(dim)):
            points[k, r] = _bounded(y[order[r], k])


@ti.kernel
def sum_z(
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
    z: ti.types.ndarray(dtype=ti.f64, ndim=1),
):
    """Sum S over all points into ``z[CHUNKS]``, without each point's own term."""
    for chunk in range(CHUNKS):
        n = result.shape[0]
        step_size = (n + CHUNKS - 1) // CHUNKS
        total = ti.cast(0.0, ti.f64)
        for i in range(chunk * step_size, ti.min(n, (chunk + 1) * step_size)):
            total += ti.cast(result[i, 0], ti.f64) - 1.0
        z[chunk] = total
    for _ in range(1):
        total = ti.cast(0.0, ti.f64)
        for chunk in range(CHUNKS):
            total += z[chunk]
        z[CHUNKS] = total


@ti.kernel
def step(
    dim: ti.template(),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    y_next: ti.types.ndarray(dtype=ti.f32, ndim=2),
    motion: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
    starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    z: ti.types.ndarray(dtype=ti.f64, ndim=1),
    exaggeration: ti.f32,
    rate: ti.f32,
    momentum: ti.f32,
    min_gain: ti.f32,
    clip: ti.f32,
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Move every point once: attraction, gradient, gains, momentum, step clip.

    Does nothing but copy positions when the traversal ran out of room.

    Parameters
    ----------
    y, y_next
        (n, dim) positions before and after.
    motion
        (n, 2 dim) velocity and gain; a point whose gain is 0 is pinned.
    result
        (n, 1 + dim) S and R.
    starts, columns, values
        P by rows.
    z
        ``z[CHUNKS]`` is Z.
    clip
        Longest step, in map units (openTSNE and FIt-SNE use 5).
    """
    for i in range(y.shape[0]):
        p = ti.Vector.zero(ti.f32, dim)
        pull = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            p[k] = y[i, k]
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            d2 = 1.0
            offset = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                offset[k] = _bounded(p[k] - y[j, k])
                d2 += offset[k] * offset[k]
            weight = values[e] / d2
            for k in ti.static(range(dim)):
                pull[k] += weight * offset[k]
        inverse = 0.0
        if z[CHUNKS] > 1e-30:
            inverse = ti.cast(1.0 / z[CHUNKS], ti.f32)
        move = ti.Vector.zero(ti.f32, dim)
        length = 0.0
        for k in ti.static(range(dim)):
            slope = exaggeration * pull[k] - result[i, 1 + k] * inverse
            velocity = motion[i, k]
            gain = motion[i, dim + k]
            if gain > 0.0:
                # Descent: a velocity along the slope goes the wrong way.
                if slope * velocity > 0.0:
                    gain = ti.max(gain * 0.8, min_gain)
                else:
                    gain += 0.2
            move[k] = momentum * velocity - rate * gain * slope
            if meta[OVERFLOW] == 0:
                motion[i, dim + k] = gain
            length += move[k] * move[k]
        shrink = 1.0
        if length > clip * clip:
            shrink = clip / ti.sqrt(length)
        for k in ti.static(range(dim)):
            if meta[OVERFLOW] == 0:
                motion[i, k] = move[k] * shrink
                y_next[i, k] = p[k] + move[k] * shrink
            else:
                y_next[i, k] = p[k]


@ti.kernel
def divergence(
    dim: ti.template(),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    sums: ti.types.ndarray(dtype=ti.f64, ndim=1),
):
    """Sum p ln(1 + d^2) over all pairs of P into ``sums[CHUNKS]``.

    The KL divergence is this plus sum p ln p plus ln Z (paper eq. 1, 5).
    """
    for chunk in range(CHUNKS):
        n = y.shape[0]
        step_size = (n + CHUNKS - 1) // CHUNKS
        total = ti.cast(0.0, ti.f64)
        for i in range(chunk * step_size, ti.min(n, (chunk + 1) * step_size)):
            row = 0.0
            for e in range(starts[i], starts[i + 1]):
                j = columns[e]
                d2 = 1.0
                for k in ti.static(range(dim)):
                    offset = _bounded(y[i, k] - y[j, k])
                    d2 += offset * offset
                row += values[e] * ti.log(d2)
            total += ti.cast(row, ti.f64)
        sums[chunk] = total
    for _ in range(1):
        total = ti.cast(0.0, ti.f64)
        for chunk in range(CHUNKS):
            total += sums[chunk]
        sums[CHUNKS] = total


@ti.kernel
def move_rows(
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    place: ti.types.ndarray(dtype=ti.i32, ndim=1),
    starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    new_starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_values: ti.types.ndarray(dtype=ti.f32, ndim=1),
):
    """Renumber P: new row r is old row ``order[r]``, old column j is ``place[j]``."""
    for r in range(order.shape[0]):
        base = starts[order[r]]
        for e in range(new_starts[r], new_starts[r + 1]):
            old = base + e - new_starts[r]
            new_columns[e] = place[columns[old]]
            new_values[e] = values[old]


@ti.kernel
def move_state(
    dim: ti.template(),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    motion: ti.types.ndarray(dtype=ti.f32, ndim=2),
    y_next: ti.types.ndarray(dtype=ti.f32, ndim=2),
    motion_next: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Renumber positions, velocities and gains: new point r is old ``order[r]``."""
    for r in range(order.shape[0]):
        for k in ti.static(range(dim)):
            y_next[r, k] = y[order[r], k]
        for k in ti.static(range(2 * dim)):
            motion_next[r, k] = motion[order[r], k]
