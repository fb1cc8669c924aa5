"""New points on a fixed map: each finds its own minimum, and none sees another."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_embed.kernels.layout import BEGIN, CHILD, CHUNKS, END, ROPE, columns
from napari_embed.kernels.published import OURS
from napari_embed.kernels.repulsion import Accuracy, Repulsion
from napari_embed.kernels.runtime import Device, ti
from napari_embed.kernels.traversal import CORE, add_source

__all__ = ["FixedMap"]

_FIRST_REACH = 1.0
_LONGEST = 2.0
_SHORTEST = 1e-5
# A step that the quadratic model says gains less than this is not worth a look: the
# sums behind the cost are in float32 and no more exact.
_LEAST_GAIN = 1e-7
# Curvature (half the cost's) below this is downhill on both sides, not flat.
_SADDLE = -1e-4
_SWEEPS = 5


@ti.func
def _field(
    p,
    dim: ti.template(),
    theta2,
    ints: ti.template(),
    floats: ti.template(),
    sources: ti.template(),
):
    """Return S in float64, and (S, R, J) of the fixed points at ``p``."""
    c = ti.static(columns(dim))
    exact = ti.cast(0.0, ti.f64)
    total = ti.Vector.zero(ti.f32, ti.static(1 + dim + dim * (dim + 1) // 2))
    node = 0
    while node >= 0:
        following = ints[node, ROPE]
        d2 = CORE
        offset = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            offset[k] = p[k] - floats[node, c.com + k]
            d2 += offset[k] * offset[k]
        begin = ints[node, BEGIN]
        end = ints[node, END]
        # Sums of sums: float32 stays exact enough over many thousand terms. S alone
        # is compared with itself a step further, where less than that counts.
        part = ti.Vector.zero(ti.f32, ti.static(1 + dim + dim * (dim + 1) // 2))
        if floats[node, c.diagonal] < theta2 * d2:
            mass = ti.cast(end - begin, ti.f32)
            add_source(offset, mass, floats[node, c.moment], part, dim, OURS)
        elif ints[node, CHILD] >= 0:
            following = ints[node, CHILD]
        else:
            for j in range(begin, end):
                for k in ti.static(range(dim)):
                    offset[k] = p[k] - sources[k, j]
                add_source(offset, 1.0, 0.0, part, dim, OURS)
        exact += ti.cast(part[0], ti.f64)
        total += part
        node = following
    return exact, total


@ti.func
def _eigen(matrix: ti.template(), vectors: ti.template(), dim: ti.template()):
    """Make a symmetric matrix diagonal by Jacobi rotations; columns are vectors."""
    for a in ti.static(range(dim)):
        for b in ti.static(range(dim)):
            vectors[a, b] = ti.cast(a == b, ti.f32)
    for _ in range(ti.static(1 if dim == 2 else _SWEEPS)):
        for a in ti.static(range(dim)):
            for b in ti.static(range(a + 1, dim)):
                if ti.abs(matrix[a, b]) > 1e-30:
                    half = (matrix[b, b] - matrix[a, a]) / (2.0 * matrix[a, b])
                    t = 1.0 / (ti.abs(half) + ti.sqrt(half * half + 1.0))
                    if half < 0:
                        t = -t
                    cos = 1.0 / ti.sqrt(t * t + 1.0)
                    sin = t * cos
                    for k in ti.static(range(dim)):
                        left, right = matrix[k, a], matrix[k, b]
                        matrix[k, a] = cos * left - sin * right
                        matrix[k, b] = sin * left + cos * right
                    for k in ti.static(range(dim)):
                        left, right = matrix[a, k], matrix[b, k]
                        matrix[a, k] = cos * left - sin * right
                        matrix[b, k] = sin * left + cos * right
                    for k in ti.static(range(dim)):
                        left, right = vectors[k, a], vectors[k, b]
                        vectors[k, a] = cos * left - sin * right
                        vectors[k, b] = sin * left + cos * right


@ti.func
def _step(gradient, curvature, reach, dim: ti.template()):
    """Return a step of at most ``reach`` downhill, zero where there is none left.

    Newton's step with the size of each curvature, so that it runs away from a saddle
    and from a maximum. On top of either the slope vanishes; there it goes along the
    most negative curvature.
    """
    matrix = curvature
    axes = ti.Matrix.zero(ti.f32, dim, dim)
    _eigen(matrix, axes, dim)
    step = ti.Vector.zero(ti.f32, dim)
    down = ti.Vector.zero(ti.f32, dim)
    gain = 0.0
    lowest = 0.0
    for a in ti.static(range(dim)):
        along = 0.0
        for k in ti.static(range(dim)):
            along += axes[k, a] * gradient[k]
        size = ti.max(ti.abs(matrix[a, a]), 1e-12)
        # Beyond the reach the model says nothing, and the step is cut anyway.
        move = ti.min(ti.abs(along) / size, 2.0 * reach)
        gain += ti.abs(along) * move
        if along > 0:
            move = -move
        for k in ti.static(range(dim)):
            step[k] += move * axes[k, a]
        if matrix[a, a] < lowest:
            lowest = matrix[a, a]
            for k in ti.static(range(dim)):
                down[k] = axes[k, a] if along <= 0 else -axes[k, a]
    if gain < _LEAST_GAIN:
        step *= 0.0
        if lowest < _SADDLE:
            step = reach * down
    length = step.norm()
    if length > reach:
        step *= reach / length
    return step


@ti.func
def _cost(
    i,
    p,
    dim: ti.template(),
    theta2,
    mean_s,
    ints: ti.template(),
    floats: ti.template(),
    sources: ti.template(),
    anchors: ti.template(),
    weights: ti.template(),
):
    """Return the cost of point ``i`` at ``p``, half its gradient and curvature."""
    s, local = _field(p, dim, theta2, ints, floats, sources)
    value = s / ti.cast(mean_s, ti.f64)
    gradient = ti.Vector.zero(ti.f32, dim)
    curvature = ti.Matrix.zero(ti.f32, dim, dim)
    for a in ti.static(range(dim)):
        gradient[a] = -local[1 + a] / mean_s
        for b in ti.static(range(dim)):
            low, high = ti.static(min(a, b), max(a, b))
            entry = ti.static(1 + dim + low * dim - low * (low - 1) // 2 + high - low)
            curvature[a, b] = -local[entry] / mean_s
    for j in range(weights.shape[1]):
        away = ti.Vector.zero(ti.f32, dim)
        d2 = 1.0
        for k in ti.static(range(dim)):
            away[k] = p[k] - anchors[i, j, k]
            d2 += away[k] * away[k]
        value += ti.cast(weights[i, j], ti.f64) * ti.log(ti.cast(d2, ti.f64))
        pull = weights[i, j] / d2
        gradient += pull * away
        for a in ti.static(range(dim)):
            curvature[a, a] += pull
            for b in ti.static(range(dim)):
                curvature[a, b] -= 2.0 * pull * (away[a] / d2) * away[b]
    return value, gradient, curvature


@ti.kernel
def _fields(
    dim: ti.template(),
    theta2: ti.f32,
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    targets: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Write S and R of the fixed points at each target."""
    for i in range(targets.shape[0]):
        p = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            p[k] = targets[i, k]
        _, here = _field(p, dim, theta2, ints, floats, sources)
        for k in ti.static(range(1 + dim)):
            result[i, k] = here[k]


@ti.kernel
def _descend(
    dim: ti.template(),
    theta2: ti.f32,
    mean_s: ti.f32,
    max_iter: ti.i32,
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    anchors: ti.types.ndarray(dtype=ti.f32, ndim=3),
    weights: ti.types.ndarray(dtype=ti.f32, ndim=2),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
):
    """Move each point downhill; a step that does not pay is undone and shortened."""
    for i in range(points.shape[0]):
        best = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            best[k] = points[i, k]
        cost, slope, curvature = _cost(
            i, best, dim, theta2, mean_s, ints, floats, sources, anchors, weights
        )
        reach = _FIRST_REACH
        it = 1
        while it < max_iter:
            step = _step(slope, curvature, reach, dim)
            length = step.norm()
            if length < _SHORTEST:
                it = max_iter
            else:
                trial = best + step
                value, gradient, bend = _cost(
                    i, trial, dim, theta2, mean_s, ints, floats, sources, anchors,
                    weights,
                )  # fmt: skip
                if value < cost:
                    best = trial
                    cost = value
                    slope = gradient
                    curvature = bend
                    if length > 0.9 * reach:
                        reach = ti.min(2.0 * reach, _LONGEST)
                else:
                    reach = 0.25 * length
            it += 1
        for k in ti.static(range(dim)):
            points[i, k] = best[k]


class FixedMap:
    """The field of points that stay where they are.

    Parameters
    ----------
    positions
        (n, dim) float32 fixed points, n of 1 or more; copied.
    device
        What :func:`napari_embed.kernels.runtime.start` returned.
    accuracy
        Its theta is used; 0 is the exact sum.

    Attributes
    ----------
    mean_s
        Z / n: mean over the fixed points of S, each without its own term.
    """

    def __init__(
        self, positions: NDArray[np.float32], device: Device, accuracy: Accuracy
    ) -> None:
        n, self.dim = (int(size) for size in positions.shape)
        y = _array(positions)
        self._repulsion = Repulsion(
            n, self.dim, device, replace(accuracy, target="points")
        )
        self._repulsion.rebuild(y)
        self._repulsion.evaluate(y)
        self.mean_s = max(float(self._repulsion.z[CHUNKS]) / n, 0.0)
        self._theta2 = accuracy.theta**2

    def field(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (m, 1 + dim): S and R of all fixed points at (m, dim) targets."""
        result = ti.ndarray(ti.f32, shape=(len(targets), 1 + self.dim))
        tree = self._repulsion.tree
        _fields(
            self.dim, self._theta2, tree.ints, tree.floats, tree.points,
            _array(targets), result,
        )  # fmt: skip
        values: NDArray[np.float32] = result.to_numpy()
        return values

    def place(
        self,
        anchors: NDArray[np.float32],
        weights: NDArray[np.float32],
        start: NDArray[np.float32],
        *,
        max_iter: int,
    ) -> NDArray[np.float32]:
        """Move points to the minimum near their start, each on its own.

        The cost of a point y with weights p on its anchors a is
        ``sum p log(1 + |y - a|^2) + S(y) / mean_s``: half its gradient is the force on
        y in t-SNE if Z stays what it is for the fixed map.

        Parameters
        ----------
        anchors, weights
            (m, k, dim) positions each point is drawn to, and (m, k) how much; a row of
            weights sums to 1.
        start
            (m, dim).
        max_iter
            Evaluations per point at most.

        Returns
        -------
        ndarray
            (m, dim) float32.
        """
        points = _array(start)
        tree = self._repulsion.tree
        # One fixed point alone has no pairs: it repels as one of two would.
        mean_s = self.mean_s if self.mean_s > 0 else 1.0
        _descend(
            self.dim, self._theta2, mean_s, max_iter, tree.ints, tree.floats,
            tree.points, _array(anchors), _array(weights), points,
        )  # fmt: skip
        values: NDArray[np.float32] = points.to_numpy()
        return values


def _array(values: NDArray[np.float32]) -> object:
    array = ti.ndarray(ti.f32, shape=values.shape)
    array.from_numpy(np.ascontiguousarray(values, np.float32))
    return array
