"""Repulsion of all points on all points: the kernels joined, with their memory.

:class:`Repulsion` owns both hierarchies and the work queue for one map of fixed size.
Arrays are allocated once and only grow when a count says that they are too small.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from napari_embed.errors import DeviceMemoryError
from napari_embed.kernels import (
    field,
    forces,
    hierarchy,
    morton,
    near,
    published,
    traversal,
)
from napari_embed.kernels.layout import (
    CHUNKS,
    COUNT,
    GPU_LEVELS,
    META_SIZE,
    NODE_INTS,
    NODES,
    OVERFLOW,
    QUEUE,
    TASK_ROOM,
    columns,
    jacobian_size,
)
from napari_embed.kernels.runtime import Device, ti

__all__ = ["Accuracy", "Repulsion"]

# Cells cost more than points (they carry a Jacobian), so they must be clearly fewer.
# The gap between the two shares keeps the choice from flickering.
_CELLS_BELOW = 0.35
_POINTS_ABOVE = 0.5
# As published: levels that the embedding hierarchy must have more than the field for
# cells to be traversed one by one.
_SINGLE_FROM = 4


@dataclass(frozen=True)
class Accuracy:
    """What decides between speed and accuracy.

    Attributes
    ----------
    theta
        Opening parameter; 0 is the exact sum.
    early_theta
        The same while the map is small (early exaggeration), where most of the
        repulsion cancels and errors weigh more.
    cell_size
        Distance of grid nodes where cells are the targets.
    cell_share
        The same as a share of the map's extent, whichever is smaller: a small map
        needs a fine grid.
    target
        "cells" (field hierarchy), "points" (embedding hierarchy) or "auto". A map too
        wide for a grid, and theta 0, take points in any case.
    leaf_size
        Points in a leaf of the embedding hierarchy.
    bucket
        Targets that share one list.
    published
        Whether to work as the paper and its authors' program do, for comparison: see
        ``kernels/published.py``. ``early_theta`` is then of the traversal of single
        cells that the first iterations use, and cells should be the targets.
    """

    theta: float = 0.6
    early_theta: float = 0.45
    cell_size: float = 0.5
    cell_share: float = 1 / 64
    target: Literal["auto", "cells", "points"] = "auto"
    leaf_size: int = 16
    bucket: int = 64
    published: bool = False


class _Tree:
    """Arrays of one hierarchy over at most ``capacity`` points."""

    def __init__(self, dim: int, capacity: int, node_room: int, where: str) -> None:
        self.dim = dim
        self.where = where
        self.meta = torch.zeros(META_SIZE, dtype=torch.int32, device=where)
        self.reserve_points(capacity)
        self.reserve_nodes(node_room)

    def reserve_points(self, capacity: int) -> None:
        """Make room for ``capacity`` points (contents are lost)."""
        self.capacity = capacity
        self.keys = torch.zeros(capacity, dtype=torch.int64, device=self.where)
        self.points = ti.ndarray(ti.f32, shape=(self.dim, capacity))
        self.owner = ti.ndarray(ti.i32, shape=capacity)

    def reserve_nodes(self, node_room: int) -> None:
        """Make room for ``node_room`` nodes (contents are lost)."""
        self.ints = ti.ndarray(ti.i32, shape=(node_room, NODE_INTS))
        self.floats = ti.ndarray(ti.f32, shape=(node_room, columns(self.dim).width))
        self.floats.fill(0.0)
        self.ints.fill(-1)


class _Field:
    """Arrays of the marked cells; made when cells are first tried."""

    def __init__(self, dim: int, room: int, where: str) -> None:
        self.dim = dim
        self.tree = _Tree(dim, room, max(256, room // 8), where)
        self.grid = torch.zeros(field.GRID_SIZE, dtype=torch.float32, device=where)
        words = 1 << (dim * field.MAX_GRID_BITS[dim] - 5)
        self.bits = ti.ndarray(ti.i32, shape=(2, words))
        self.counts = ti.ndarray(ti.i32, shape=CHUNKS + 1)
        self.reserve(room)

    def reserve(self, room: int) -> None:
        """Make room for ``room`` cells (contents are lost)."""
        if room > self.tree.capacity:
            self.tree.reserve_points(room)
        width = 1 + self.dim + jacobian_size(self.dim)
        self.values = ti.ndarray(ti.f32, shape=(room, width))


class Repulsion:
    """S, R and Z of every point of a map.

    Parameters
    ----------
    n, dim
        Points and dimensions.
    device
        What :func:`napari_embed.kernels.runtime.start` returned.
    accuracy
        Opening parameter and sizes.
    queue_room
        Entries of the work queue; None takes a size that normally suffices.

    Attributes
    ----------
    theta
        Opening parameter of the next evaluations.
    early
        Whether the next evaluations are of the early iterations.
    result
        (n, 1 + dim) S and R of each point.
    z
        ``z[CHUNKS]`` is Z.
    cells_on
        Whether cells are the targets now.
    regrown
        How often an array had to grow.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        device: Device,
        accuracy: Accuracy,
        *,
        queue_room: int | None = None,
    ) -> None:
        self.n = n
        self.dim = dim
        self.device = device
        self.accuracy = accuracy
        self.regrown = 0
        self.theta = accuracy.theta
        self.early = False
        self.cells_on = accuracy.target == "cells" and accuracy.theta > 0
        self.levels = GPU_LEVELS[dim] if device.kind == "cuda" else 0
        self._where = "cuda" if device.kind == "cuda" else "cpu"
        self.tree = _Tree(dim, n, n // 2 + 256, self._where)
        self.tree.meta[COUNT] = n
        self.field: _Field | None = None
        self.order = torch.arange(n, dtype=torch.int32, device=self._where)
        self.result = ti.ndarray(ti.f32, shape=(n, 1 + dim))
        self.result.fill(0.0)
        self.z = torch.zeros(CHUNKS + 1, dtype=torch.float64, device=self._where)
        self.work = torch.zeros(CHUNKS + 1, dtype=torch.int64, device=self._where)
        self.sums = torch.zeros_like(self.z)
        self.partial = ti.ndarray(ti.f32, shape=(CHUNKS + 1, 6))
        self.lists = ti.ndarray(ti.f32, shape=(CHUNKS, (dim + 2) * near.LIST_ROOM))
        self.tasks = ti.ndarray(ti.i32, shape=TASK_ROOM)
        if queue_room is None:
            queue_room = 65536 + (4 if dim == 2 else 12) * n
        self.queue = ti.ndarray(ti.i32, shape=max(16, queue_room))

    def set_stage(self, *, early: bool) -> None:
        """Take the opening parameter of early or of later iterations."""
        self.early = early
        self.theta = self.accuracy.early_theta if early else self.accuracy.theta

    @property
    def meta(self) -> torch.Tensor:
        """Counters of the hierarchy that is the target."""
        if self.cells_on and self.field is not None:
            return self.field.tree.meta
        return self.tree.meta

    def interactions(self) -> dict[str, int]:
        """Return the interactions of the evaluation before, by kind.

        "node" are between a source node and a target node, "point" between a source
        node or point and a single target (a point or a cell).
        """
        work = self.work.cpu()
        return {"node": int(work[CHUNKS]), "point": int(work[:CHUNKS].sum())}

    def rebuild(self, y: object) -> None:
        """Sort the points along the curve and build the embedding hierarchy.

        Parameters
        ----------
        y
            (n, dim) float32 positions on the device.
        """
        tree = self.tree
        morton.morton_keys(self.dim, self.n, y, self.partial, tree.keys)
        if self.device.kind == "cpu":
            # NumPy sorts keys 2-3 times as fast as torch does on a CPU.
            keys = tree.keys.numpy()
            order = np.argsort(keys, kind="stable")
            self.order = torch.from_numpy(order.astype(np.int32))
            keys[:] = keys[order]
        else:
            tree.keys, order = torch.sort(tree.keys, stable=True)
            self.order = order.to(torch.int32)
        self._build(tree, self.accuracy.leaf_size, self.accuracy.bucket)

    def _build(self, tree: _Tree, leaf_size: int, bucket: int) -> None:
        while True:
            hierarchy.build(
                self.dim, self.levels, leaf_size, bucket, tree.keys, tree.ints,
                tree.owner, tree.meta,
            )  # fmt: skip
            if not int(tree.meta[OVERFLOW]) & 1:
                return
            # A hierarchy whose inner nodes have two children cannot pass 2 n nodes.
            asked = 2 * int(tree.meta[NODES])
            tree.reserve_nodes(max(256, min(2 * tree.capacity, asked)))
            self.regrown += 1

    def consider_cells(self, y: object) -> None:
        """Choose between cells and points for the next evaluations."""
        if self.accuracy.target == "points" or self.accuracy.theta == 0:
            return
        self._fit(y)
        count = self._mark()
        if count is None or self.accuracy.target == "cells":
            self.cells_on = count is not None
        elif self.cells_on:
            self.cells_on = count < _POINTS_ABOVE * self.n
        else:
            self.cells_on = count < _CELLS_BELOW * self.n

    def evaluate(self, y: object) -> None:
        """Compute S, R and Z for the (n, dim) positions ``y``."""
        self._fit(y)
        if self.cells_on and self._mark() is None:
            self.cells_on = False
        if self.cells_on:
            self._evaluate_cells()
        else:
            self._evaluate_points()
        forces.sum_z(self.result, self.z)

    def _fit(self, y: object) -> None:
        tree = self.tree
        forces.gather(self.dim, y, self.order, tree.points)
        hierarchy.refit(
            self.dim, self.levels, tree.ints, tree.floats, tree.points, tree.meta
        )

    def _mark(self) -> int | None:
        """Mark cells; return how many, or None if they are no use.

        They are none where the map is too wide for a grid, or where there are more of
        them than points and nobody insists.
        """
        if self.field is None:
            self.field = _Field(self.dim, max(4096, self.n // 2), self._where)
        cells, sizes = self.field, self.accuracy
        while True:
            field.mark(
                self.dim, sizes.published, sizes.cell_size, sizes.cell_share,
                self.tree.floats, self.tree.points, cells.grid, cells.bits,
                cells.counts, cells.tree.keys, cells.tree.points, cells.tree.meta,
            )  # fmt: skip
            overflow, count = (
                int(cells.tree.meta[OVERFLOW]),
                int(cells.tree.meta[COUNT]),
            )
            if overflow & 4 or (sizes.target == "auto" and count > self.n):
                return None
            if not overflow & 8:
                return count
            cells.reserve(count + count // 4)
            self.regrown += 1

    def _evaluate_points(self) -> None:
        self._traverse(
            self.tree,
            self.result,
            jacobian=False,
            method=published.OURS,
            bucket=self.accuracy.bucket,
        )

    def _evaluate_cells(self) -> None:
        cells = self.field
        if cells is None:  # only _mark makes it
            return
        # As published, the field hierarchy ends at single cells.
        bucket = 1 if self.accuracy.published else self.accuracy.bucket
        self._build(cells.tree, bucket, bucket)
        hierarchy.refit(
            self.dim, self.levels, cells.tree.ints, cells.tree.floats,
            cells.tree.points, cells.tree.meta,
        )  # fmt: skip
        method, half = published.OURS, 0.5
        if self.accuracy.published:
            method, half = self._published_method(cells), 0.0
            published.widen(
                self.dim, float(cells.grid[field.SPACING]), cells.tree.floats,
                cells.tree.meta,
            )  # fmt: skip
        self._traverse(
            cells.tree, cells.values, jacobian=True, method=method, bucket=bucket
        )
        field.interpolate(
            self.dim, half, self.tree.points, self.order, cells.grid, cells.bits,
            cells.values, self.result,
        )  # fmt: skip

    def _published_method(self, cells: _Field) -> int:
        """Return DUAL, or SINGLE early and where the field is much less deep.

        The rule is the authors' program's; their paper states the depths alone
        (section 5.3).
        """
        fanout = 2**self.dim
        depth = 1 + math.ceil(math.log(max(2, self.n), fanout))
        shallow = depth - int(cells.grid[field.BITS]) >= _SINGLE_FROM
        return published.SINGLE if self.early or shallow else published.DUAL

    def _traverse(
        self,
        target: _Tree,
        result: object,
        *,
        jacobian: bool,
        method: int,
        bucket: int,
    ) -> None:
        tree, theta2 = self.tree, self.theta**2
        if method == published.SINGLE:
            bucket = target.capacity  # nothing to do above the cells
        while True:
            traversal.far(
                self.dim, method, self.levels, bucket, theta2, tree.ints,
                tree.floats, target.ints, target.floats, self.queue, self.tasks,
                target.meta, self.work,
            )  # fmt: skip
            if not int(target.meta[OVERFLOW]) & 2:
                break
            self._grow_queue(int(target.meta[QUEUE]))
        if self.levels == 0:
            near.near_in_lists(
                self.dim, jacobian, method, theta2, tree.ints, tree.floats, tree.points,
                target.ints, target.floats, target.points, target.owner, self.order,
                self.queue, self.lists, result, target.meta, self.work,
            )  # fmt: skip
        else:
            self.work[:CHUNKS] = 0
            near.near_per_target(
                self.dim, jacobian, method, theta2, tree.ints, tree.floats, tree.points,
                target.ints, target.floats, target.points, target.owner, self.order,
                self.queue, result, target.meta, self.work,
            )  # fmt: skip

    def _grow_queue(self, asked: int) -> None:
        room = int(self.queue.shape[0])
        # A negative count means that it wrapped.
        wanted = 2 * max(room, asked) if asked >= 0 else 8 * room
        if wanted >= 2**31 - 1:
            raise DeviceMemoryError(
                f"The work queue needs more than {room:,} entries. Raise theta, or use "
                "fewer points."
            )
        self.queue = ti.ndarray(ti.i32, shape=wanted)
        self.regrown += 1
