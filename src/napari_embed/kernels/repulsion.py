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
from napari_embed.kernels import field, layout, morton, near, passes, published
from napari_embed.kernels.layout import (
    CELLS,
    CELLS_FULL,
    CHUNKS,
    COUNT,
    DONE,
    FIELD_ASKED,
    FIELD_FULL,
    HALT,
    META_SIZE,
    NO_GRID,
    NODE_INTS,
    QUEUE,
    QUEUE_FULL,
    STATUS_SIZE,
    SUMS_SIZE,
    TASK_ROOM,
    TREE_ASKED,
    TREE_FULL,
    columns,
    jacobian_size,
)
from napari_embed.kernels.runtime import Device, ti

__all__ = ["Accuracy", "Repulsion"]

# Cells cost more than points (they carry a Jacobian), so they must be clearly fewer.
# The gap between the two shares keeps the choice from flickering.
_CELLS_BELOW = 0.35
_POINTS_ABOVE = 0.5
_NO_LIMIT = 2**31 - 1


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

    def __init__(self, dim: int, capacity: int, node_room: int) -> None:
        self.dim = dim
        self.meta = ti.ndarray(ti.i32, shape=META_SIZE)
        self.meta.fill(0)
        self.reserve_points(capacity)
        self.reserve_nodes(node_room)

    def reserve_points(self, capacity: int) -> None:
        """Make room for ``capacity`` points (contents are lost)."""
        self.capacity = capacity
        self.points = ti.ndarray(ti.f32, shape=(self.dim, capacity))
        self.owner = ti.ndarray(ti.i32, shape=capacity)

    def reserve_nodes(self, node_room: int) -> None:
        """Make room for ``node_room`` nodes (contents are lost)."""
        self.ints = ti.ndarray(ti.i32, shape=(node_room, NODE_INTS))
        self.floats = ti.ndarray(ti.f32, shape=(node_room, columns(self.dim).width))
        self.floats.fill(0.0)
        self.ints.fill(-1)

    def grow_nodes(self, asked: int) -> None:
        """Make room for more than were asked for, which were not counted to the end."""
        # A hierarchy whose inner nodes have two children cannot pass 2 n nodes.
        self.reserve_nodes(max(256, min(2 * self.capacity, 2 * asked)))


class _Field:
    """Arrays of the marked cells; made when cells are first tried."""

    def __init__(self, dim: int, room: int) -> None:
        self.tree = _Tree(dim, room, max(256, room // 8))
        self.grid = ti.ndarray(ti.f32, shape=field.GRID_SIZE)
        self.grid.fill(0.0)
        words = 1 << (dim * field.MAX_GRID_BITS[dim] - 5)
        self.bits = ti.ndarray(ti.i32, shape=(2, words))
        self.counts = ti.ndarray(ti.i32, shape=field.COUNTS_SIZE)
        self._reserve(room)

    def grow(self, asked: int) -> None:
        """Make room for more cells than were asked for (contents are lost)."""
        self.tree.reserve_points(asked + asked // 4)
        self._reserve(self.tree.capacity)

    def _reserve(self, room: int) -> None:
        dim = self.tree.dim
        self.keys = ti.ndarray(ti.i64, shape=room)
        self.values = ti.ndarray(ti.f32, shape=(room, 1 + dim + jacobian_size(dim)))


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

    levels
        Levels of a hierarchy that are processed in parallel; None takes what suits
        the device. 0 is the form for a CPU, anything else that for a GPU.

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
    status
        What kernels and host tell each other, see ``layout``.
    built_from
        (n, dim) the positions that the embedding hierarchy was built from.
    keys, permutation
        (n,) int64 tensors: sorted keys, and the row of each, at the last rebuild.
    cells_on
        Whether cells are the targets now.
    regrown
        How often the host had to make room.
    steps_done
        Gradient steps completed, as of the last :meth:`settle`.

    Notes
    -----
    :meth:`evaluate` and :meth:`consider_cells` return when all is done. A minimisation
    calls :meth:`launch` instead, which never waits, and :meth:`settle` now and then.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        device: Device,
        accuracy: Accuracy,
        *,
        queue_room: int | None = None,
        levels: int | None = None,
    ) -> None:
        self.n = n
        self.dim = dim
        self.accuracy = accuracy
        self.regrown = 0
        self.steps_done = 0
        self.theta = accuracy.theta
        self.early = False
        self.cells_on = accuracy.target == "cells" and accuracy.theta > 0
        if levels is None:
            levels = layout.parallel_levels(device.kind, dim)
        self.levels = levels
        self.status = ti.ndarray(ti.i32, shape=STATUS_SIZE)
        self.status.fill(0)
        self.tree = _Tree(dim, n, n // 2 + 256)
        self.tree.meta[COUNT] = n
        self.field: _Field | None = None
        self.keys = torch.zeros(
            n, dtype=torch.int64, device="cuda" if device.kind == "cuda" else "cpu"
        )
        self.permutation = torch.arange(n, device=self.keys.device)
        self.order = ti.ndarray(ti.i32, shape=n)
        self.order.from_numpy(np.arange(n, dtype=np.int32))
        self.built_from = ti.ndarray(ti.f32, shape=(n, dim))
        self.built_from.fill(0.0)
        self.result = ti.ndarray(ti.f32, shape=(n, 1 + dim))
        self.result.fill(0.0)
        self.z = ti.ndarray(ti.f64, shape=SUMS_SIZE)
        self.z.fill(0.0)
        self.work = ti.ndarray(ti.i64, shape=CHUNKS + 1)
        self.work.fill(0)
        self._partial = ti.ndarray(ti.f32, shape=(SUMS_SIZE, 6))
        self._lists = ti.ndarray(ti.f32, shape=(CHUNKS, (dim + 2) * near.LIST_ROOM))
        self._tasks = ti.ndarray(ti.i32, shape=TASK_ROOM)
        if queue_room is None:
            queue_room = 65536 + (4 if dim == 2 else 12) * n
        self.queue = ti.ndarray(ti.i32, shape=max(16, queue_room))

    def set_stage(self, *, early: bool) -> None:
        """Take the opening parameter of early or of later iterations."""
        self.early = early
        self.theta = self.accuracy.early_theta if early else self.accuracy.theta

    @property
    def meta(self) -> object:
        """Counters of the hierarchy that is the target."""
        if self.cells_on and self.field is not None:
            return self.field.tree.meta
        return self.tree.meta

    def interactions(self) -> dict[str, int]:
        """Return the interactions of the evaluation before, by kind.

        "node" are between a source node and a target node, "point" between a source
        node or point and a single target (a point or a cell).
        """
        work = self.work.to_numpy()
        return {"node": int(work[CHUNKS]), "point": int(work[:CHUNKS].sum())}

    def rebuild(self, y: object) -> None:
        """Sort the points along the curve, build the embedding hierarchy and fit it.

        Returns without waiting; nodes that ran out are seen by :meth:`settle`.

        Parameters
        ----------
        y
            (n, dim) float32 positions on the device.
        """
        tree, sizes = self.tree, self.accuracy
        morton.morton_keys(
            self.dim, self.levels, self.n, y, self.built_from, self._partial,
            self.keys, self.status,
        )  # fmt: skip
        if self.levels == 0:
            # NumPy sorts keys 2-3 times as fast as torch does on a CPU.
            keys = self.keys.numpy()
            permutation = np.argsort(keys, kind="stable")
            keys[:] = keys[permutation]
            self.permutation = torch.from_numpy(permutation)
        else:
            self.keys, self.permutation = torch.sort(self.keys, stable=True)
        passes.build_tree(
            self.dim, self.levels, sizes.leaf_size, sizes.bucket, y, self.keys,
            self.permutation, self.order, tree.points, tree.ints, tree.floats,
            tree.owner, tree.meta, self.status,
        )  # fmt: skip

    def consider_cells(self, y: object) -> bool:
        """Choose between cells and points for the next evaluations.

        Returns
        -------
        bool
            Whether both hierarchies now fit ``y``, as :meth:`launch` may want to know.
        """
        if self.accuracy.target == "points" or self.accuracy.theta == 0:
            return False
        halted = -1
        while halted not in (0, NO_GRID):
            self._fit(y)
            self._lay()
            halted, count = self._make_room()
            if halted & TREE_FULL:
                self.rebuild(self.built_from)
        if self.accuracy.target == "cells" or halted:
            self.cells_on = not halted
        elif self.cells_on:
            self.cells_on = count < _POINTS_ABOVE * self.n
        else:
            self.cells_on = count < _CELLS_BELOW * self.n
        return True

    def evaluate(self, y: object) -> None:
        """Compute S, R and Z for the (n, dim) positions ``y``."""
        self.launch(y)
        while not self.settle():
            self.launch(y)

    def launch(
        self, y: object, *, tree_fits: bool = False, field_fits: bool = False
    ) -> None:
        """Do as :meth:`evaluate`, if there is room for all, without waiting for it.

        Parameters
        ----------
        tree_fits
            Whether :meth:`rebuild` was called with just these positions.
        field_fits
            Whether :meth:`consider_cells` was, and returned True.
        """
        if not (tree_fits or field_fits):
            self._fit(y)
        if self.cells_on:
            if not field_fits:
                self._lay()
            self._evaluate_cells()
        else:
            self._evaluate_points()

    def settle(self) -> bool:
        """Wait for all that was launched; return whether all of it was done.

        If not, there is room for it now (or points are the targets), the hierarchy is
        the one of the first evaluation that failed, and everything launched since is
        to be launched again; ``steps_done`` tells how far it had come.
        """
        halted, _ = self._make_room()
        if not halted:
            return True
        self.rebuild(self.built_from)
        return False

    def _make_room(self) -> tuple[int, int]:
        """Enlarge what was too small; return why all had halted, and cells marked."""
        status = self.status.to_numpy()
        self.steps_done = int(status[DONE])
        halted = int(status[HALT])
        if halted:
            if halted & TREE_FULL:
                self.tree.grow_nodes(int(status[TREE_ASKED]))
            if halted & QUEUE_FULL:
                self._grow_queue(int(status[QUEUE]))
            if halted & NO_GRID:
                self.cells_on = False
            elif self.field is not None:
                if halted & FIELD_FULL:
                    self.field.tree.grow_nodes(int(status[FIELD_ASKED]))
                if halted & CELLS_FULL:
                    self.field.grow(int(status[CELLS]))
            if not halted & NO_GRID:
                self.regrown += 1
            status[[HALT, TREE_ASKED, FIELD_ASKED]] = 0
            self.status.from_numpy(status)
        return halted, int(status[CELLS])

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

    def _fit(self, y: object) -> None:
        tree = self.tree
        passes.fit_tree(
            self.dim, self.levels, y, self.order, tree.points, tree.ints, tree.floats,
            tree.meta,
        )  # fmt: skip

    def _lay(self) -> None:
        """Mark the cells and build the field hierarchy.

        Cells are no use where the map is too wide for a grid, or where there are more
        of them than points and nobody insists.
        """
        if self.field is None:
            self.field = _Field(self.dim, max(4096, self.n // 2))
        tree, cells, sizes = self.tree, self.field, self.accuracy
        limit = self.n if sizes.target == "auto" else _NO_LIMIT
        depth = 1 + math.ceil(math.log(max(2, self.n), 2**self.dim))
        passes.lay_field(
            self.dim, sizes.published, self.levels, sizes.cell_size, sizes.cell_share,
            limit, self._cell_bucket(), int(self.early), depth, tree.floats,
            tree.points, cells.grid, cells.bits, cells.counts, cells.keys,
            cells.tree.points, cells.tree.ints, cells.tree.floats, cells.tree.owner,
            cells.tree.meta, self.status,
        )  # fmt: skip

    def _cell_bucket(self) -> int:
        # As published, the field hierarchy ends at single cells.
        return 1 if self.accuracy.published else self.accuracy.bucket

    def _evaluate_points(self) -> None:
        tree, theta2 = self.tree, self.theta**2
        self._descend(tree, published.OURS, self.accuracy.bucket)
        passes.finish_points(
            self.dim, self.levels, theta2, tree.ints, tree.floats, tree.points,
            tree.owner, self.order, self.queue, self._lists, self.result, self.z,
            tree.meta, self.status, self.work,
        )  # fmt: skip

    def _evaluate_cells(self) -> None:
        tree, cells = self.tree, self.field
        if cells is None:  # only _lay makes it
            return
        method, half = published.OURS, 0.5
        if self.accuracy.published:
            method, half = published.PUBLISHED, 0.0
        self._descend(cells.tree, method, self._cell_bucket())
        passes.finish_cells(
            self.dim, method, self.levels, self.theta**2, half, tree.ints, tree.floats,
            tree.owner, tree.points, self.order, cells.tree.ints, cells.tree.floats,
            cells.tree.points, cells.tree.owner, cells.grid, cells.bits, self.queue,
            self._lists, cells.values, self.result, self.z, cells.tree.meta,
            self.status, self.work,
        )  # fmt: skip

    def _descend(self, target: _Tree, method: int, bucket: int) -> None:
        tree = self.tree
        passes.descend(
            self.dim, method, self.levels, bucket, self.theta**2, tree.ints,
            tree.floats, target.ints, target.floats, self.queue, self._tasks,
            target.meta, self.status, self.work,
        )  # fmt: skip
