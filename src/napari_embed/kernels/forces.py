"""Attraction, gradient step and KL divergence: one pass over the rows of P each.

With q = 1 / (1 + |y_i - y_j|^2), the gradient without its factor 4 is

    exaggeration * sum_j p_ij q (y_i - y_j)  -  R(y_i) / Z

(paper eq. 7-8). ``R`` and ``Z`` come from the traversal; see there.
"""

from napari_embed.kernels.layout import CHUNKS, DONE, FAN, HALT, PIECES
from napari_embed.kernels.runtime import ti

__all__ = ["bounded", "divergence", "renumber", "step", "sum_z"]

# Beyond this distance 1/(1+d^2) is 0 in float32; squares must stay finite.
_FAR = 1e15


@ti.func
def bounded(x):
    """Keep squares of coordinates finite."""
    return ti.max(-_FAR, ti.min(_FAR, x))


@ti.func
def _fold(sums: ti.template()):
    """Add the PIECES sums behind ``sums[CHUNKS]`` up into that entry, in order."""
    base = ti.static(CHUNKS + 1)
    for w in range(FAN * FAN):
        total = ti.cast(0.0, ti.f64)
        for t in range(FAN):
            total += sums[base + w * FAN + t]
        sums[base + PIECES + w] = total
    for w in range(FAN):
        total = ti.cast(0.0, ti.f64)
        for t in range(FAN):
            total += sums[base + PIECES + w * FAN + t]
        sums[base + PIECES + FAN * FAN + w] = total
    for _ in range(1):
        total = ti.cast(0.0, ti.f64)
        for t in range(FAN):
            total += sums[base + PIECES + FAN * FAN + t]
        sums[CHUNKS] = total


@ti.func
def _add_chunks(sums: ti.template()):
    """Add the CHUNKS sums before ``sums[CHUNKS]`` up into that entry, in order."""
    for _ in range(1):
        total = ti.cast(0.0, ti.f64)
        for chunk in range(CHUNKS):
            total += sums[chunk]
        sums[CHUNKS] = total


@ti.func
def sum_z(levels: ti.template(), result: ti.template(), z: ti.template()):
    """Sum S over all points into ``z[CHUNKS]``, without each point's own term."""
    if ti.static(levels == 0):
        for chunk in range(CHUNKS):
            n = result.shape[0]
            step_size = (n + CHUNKS - 1) // CHUNKS
            total = ti.cast(0.0, ti.f64)
            for i in range(chunk * step_size, ti.min(n, (chunk + 1) * step_size)):
                total += ti.cast(result[i, 0], ti.f64) - 1.0
            z[chunk] = total
        _add_chunks(z)
    else:
        for w in range(PIECES):
            total = ti.cast(0.0, ti.f64)
            for t in range(ti.max(0, result.shape[0] - w + PIECES - 1) // PIECES):
                total += ti.cast(result[w + t * PIECES, 0], ti.f64) - 1.0
            z[CHUNKS + 1 + w] = total
        _fold(z)


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
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Move every point once: attraction, gradient, gains, momentum, step clip.

    Does nothing but copy positions while the status says halt; else counts the step.

    Parameters
    ----------
    y, y_next
        (n, dim) positions before and after.
    motion
        (n, 2 dim) velocity and gain; a point whose gain is 0 is pinned.
    result, z
        (n, 1 + dim) S and R; ``z[CHUNKS]`` is Z.
    starts, columns, values
        P by rows.
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
                offset[k] = bounded(p[k] - y[j, k])
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
            if status[HALT] == 0:
                motion[i, dim + k] = gain
            length += move[k] * move[k]
        shrink = 1.0
        if length > clip * clip:
            shrink = clip / ti.sqrt(length)
        for k in ti.static(range(dim)):
            if status[HALT] == 0:
                motion[i, k] = move[k] * shrink
                y_next[i, k] = p[k] + move[k] * shrink
            else:
                y_next[i, k] = p[k]
    for _ in range(1):
        if status[HALT] == 0:
            status[DONE] += 1


@ti.func
def _row_divergence(
    i,
    dim: ti.template(),
    y: ti.template(),
    starts: ti.template(),
    columns: ti.template(),
    values: ti.template(),
):
    """Return sum p ln(1 + d^2) over one row of P (float64)."""
    row = 0.0
    for e in range(starts[i], starts[i + 1]):
        j = columns[e]
        d2 = 1.0
        for k in ti.static(range(dim)):
            offset = bounded(y[i, k] - y[j, k])
            d2 += offset * offset
        row += values[e] * ti.log(d2)
    return ti.cast(row, ti.f64)


@ti.kernel
def divergence(
    dim: ti.template(),
    levels: ti.template(),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    sums: ti.types.ndarray(dtype=ti.f64, ndim=1),
):
    """Sum p ln(1 + d^2) over all pairs of P into ``sums[CHUNKS]``.

    The KL divergence is this plus sum p ln p plus ln Z (paper eq. 1, 5).
    """
    if ti.static(levels == 0):
        for chunk in range(CHUNKS):
            n = y.shape[0]
            step_size = (n + CHUNKS - 1) // CHUNKS
            total = ti.cast(0.0, ti.f64)
            for i in range(chunk * step_size, ti.min(n, (chunk + 1) * step_size)):
                total += _row_divergence(i, dim, y, starts, columns, values)
            sums[chunk] = total
        _add_chunks(sums)
    else:
        for w in range(PIECES):
            total = ti.cast(0.0, ti.f64)
            for t in range(ti.max(0, y.shape[0] - w + PIECES - 1) // PIECES):
                i = w + t * PIECES
                total += _row_divergence(i, dim, y, starts, columns, values)
            sums[CHUNKS + 1 + w] = total
        _fold(sums)


@ti.kernel
def renumber(
    dim: ti.template(),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    place: ti.types.ndarray(dtype=ti.i32, ndim=1),
    starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    cumulated: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_starts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_columns: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_values: ti.types.ndarray(dtype=ti.f32, ndim=1),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    motion: ti.types.ndarray(dtype=ti.f32, ndim=2),
    places: ti.types.ndarray(dtype=ti.i32, ndim=1),
    new_y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    new_motion: ti.types.ndarray(dtype=ti.f32, ndim=2),
    new_places: ti.types.ndarray(dtype=ti.i32, ndim=1),
    built_from: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Renumber P and the points: new row r is old row ``order[r]``.

    Parameters
    ----------
    order
        (n,) old row of each new one; leaves as 0, 1, ... n - 1.
    place
        (n,) scratch.
    cumulated
        (n + 1,) what ``new_starts`` becomes: lengths of the new rows, added up.
    built_from
        (n, dim) result: a copy of ``new_y``.
    """
    for r in range(order.shape[0]):
        place[order[r]] = r
        new_starts[r] = cumulated[r]
        if r == 0:
            new_starts[order.shape[0]] = cumulated[order.shape[0]]
    for r in range(order.shape[0]):
        old_row = order[r]
        base = starts[old_row]
        first = new_starts[r]
        for e in range(first, new_starts[r + 1]):
            old = base + e - first
            new_columns[e] = place[columns[old]]
            new_values[e] = values[old]
        for k in ti.static(range(dim)):
            new_y[r, k] = y[old_row, k]
            built_from[r, k] = y[old_row, k]
        for k in ti.static(range(2 * dim)):
            new_motion[r, k] = motion[old_row, k]
        new_places[r] = places[old_row]
        order[r] = r
