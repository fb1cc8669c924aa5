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

_FIRST_STEP = 1.0
_LONGEST = 2.0
_SHORTEST = 1e-5


@ti.func
def _field(
    p,
    dim: ti.template(),
    theta2,
    ints: ti.template(),
    floats: ti.template(),
    sources: ti.template(),
):
    """Return (S, R) of the fixed points at ``p``."""
    c = ti.static(columns(dim))
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
        # Sums of sums: float32 stays exact enough over many thousand terms.
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
        total += part
        node = following
    result = ti.Vector.zero(ti.f32, 1 + dim)
    for k in ti.static(range(1 + dim)):
        result[k] = total[k]
    return result


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
        here = _field(p, dim, theta2, ints, floats, sources)
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
    """Move each point downhill; a step that does not pay is undone and halved."""
    for i in range(points.shape[0]):
        best = ti.Vector.zero(ti.f32, dim)
        trial = ti.Vector.zero(ti.f32, dim)
        slope = ti.Vector.zero(ti.f32, dim)
        for k in ti.static(range(dim)):
            trial[k] = points[i, k]
        best = trial
        cost = 3e38
        step = _FIRST_STEP
        it = 0
        while it < max_iter:
            here = _field(trial, dim, theta2, ints, floats, sources)
            value = here[0] / mean_s
            gradient = ti.Vector.zero(ti.f32, dim)
            for k in ti.static(range(dim)):
                gradient[k] = -here[1 + k] / mean_s
            for j in range(weights.shape[1]):
                away = ti.Vector.zero(ti.f32, dim)
                d2 = 1.0
                for k in ti.static(range(dim)):
                    away[k] = trial[k] - anchors[i, j, k]
                    d2 += away[k] * away[k]
                value += weights[i, j] * ti.log(d2)
                gradient += (weights[i, j] / d2) * away
            if value <= cost:
                best = trial
                cost = value
                slope = gradient
                if it > 0:
                    step *= 1.5
            else:
                step *= 0.5
            length = slope.norm()
            move = ti.min(step * length, _LONGEST)
            if move < _SHORTEST:
                it = max_iter
            else:
                trial = best - (move / length) * slope
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
