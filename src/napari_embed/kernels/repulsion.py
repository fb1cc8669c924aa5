"""Repulsion of all points on all points: the kernels joined, with their memory.

:class:`Repulsion` owns both hierarchies and the queue for one map of fixed size. All
arrays are allocated once and only grow when a count says that they are too small.
"""

from dataclasses import dataclass

import numpy as np
import torch

from napari_embed.errors import DeviceMemoryError
from napari_embed.kernels import forces, hierarchy, morton, traversal
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
)
from napari_embed.kernels.runtime import Device, ti

__all__ = ["Accuracy", "Repulsion", "Tree"]


@dataclass(frozen=True)
class Accuracy:
    """What decides between speed and accuracy.

    Attributes
    ----------
    theta
        Opening parameter; 0 is the exact sum.
    leaf_size
        Points in a leaf of the embedding hierarchy.
    bucket
        Targets that share one list.
    """

    theta: float = 0.6
    leaf_size: int = 8
    bucket: int = 32
    near_theta: float = 0.6


class Tree:
    """Arrays of one hierarchy over at most ``capacity`` points."""

    def __init__(self, dim: int, capacity: int, node_room: int, device: Device) -> None:
        self.dim = dim
        self.capacity = capacity
        where = "cuda" if device.kind == "cuda" else "cpu"
        self.meta = torch.zeros(META_SIZE, dtype=torch.int32, device=where)
        self.keys = torch.zeros(capacity, dtype=torch.int64, device=where)
        self.points = ti.ndarray(ti.f32, shape=(dim, capacity))
        self.owner = ti.ndarray(ti.i32, shape=capacity)
        self.reserve(node_room)

    def reserve(self, node_room: int) -> None:
        """Make room for ``node_room`` nodes (contents are lost)."""
        self.ints = ti.ndarray(ti.i32, shape=(node_room, NODE_INTS))
        self.floats = ti.ndarray(ti.f32, shape=(node_room, columns(self.dim).width))
        self.floats.fill(0.0)
        self.ints.fill(-1)

    @property
    def node_room(self) -> int:
        """Nodes there is room for."""
        return int(self.ints.shape[0])


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
        self.cells_on = False
        self.levels = GPU_LEVELS[dim] if device.kind == "cuda" else 0
        where = "cuda" if device.kind == "cuda" else "cpu"
        self.tree = Tree(dim, n, n // 2 + 256, device)
        self.tree.meta[COUNT] = n
        self.order = torch.arange(n, dtype=torch.int32, device=where)
        self.result = ti.ndarray(ti.f32, shape=(n, 1 + dim))
        self.result.fill(0.0)
        self.z = torch.zeros(CHUNKS + 1, dtype=torch.float64, device=where)
        self.sums = torch.zeros(CHUNKS + 1, dtype=torch.float64, device=where)
        self.partial = ti.ndarray(ti.f32, shape=(CHUNKS + 1, 6))
        self.lists = ti.ndarray(ti.f32, shape=(CHUNKS, (dim + 2) * traversal.LIST_ROOM))
        self.tasks = ti.ndarray(ti.i32, shape=TASK_ROOM)
        if queue_room is None:
            queue_room = 65536 + (4 if dim == 2 else 12) * n
        self.queue = ti.ndarray(ti.i32, shape=max(16, queue_room))

    @property
    def meta(self) -> torch.Tensor:
        """Counters of the hierarchy that is the target."""
        return self.tree.meta

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
            keys = tree.keys.numpy()
            order = np.argsort(keys, kind="stable")
            self.order = torch.from_numpy(order.astype(np.int32))
            keys[:] = keys[order]
        else:
            tree.keys, order = torch.sort(tree.keys, stable=True)
            self.order = order.to(torch.int32)
        self._build()

    def _build(self) -> None:
        tree, sizes = self.tree, self.accuracy
        while True:
            hierarchy.build(
                self.dim, self.levels, sizes.leaf_size, sizes.bucket, tree.keys,
                tree.ints, tree.owner, tree.meta,
            )  # fmt: skip
            if not int(tree.meta[OVERFLOW]) & 1:
                return
            # A hierarchy whose inner nodes have two children cannot pass 2 n nodes.
            tree.reserve(min(2 * tree.capacity, max(256, 2 * int(tree.meta[NODES]))))
            self.regrown += 1

    def evaluate(self, y: object) -> None:
        """Compute ``result`` (n, 1 + dim) and ``z[CHUNKS]`` for positions ``y``."""
        tree = self.tree
        forces.gather(self.dim, y, self.order, tree.points)
        hierarchy.refit(
            self.dim, self.levels, tree.ints, tree.floats, tree.points, tree.meta
        )
        theta2 = self.accuracy.theta**2
        while True:
            traversal.far(
                self.dim, self.levels, self.accuracy.bucket, theta2, tree.ints,
                tree.floats, tree.ints, tree.floats, self.queue, self.tasks, tree.meta,
            )  # fmt: skip
            if not int(tree.meta[OVERFLOW]) & 2:
                break
            self._grow_queue(int(tree.meta[QUEUE]))
        near2 = self.accuracy.near_theta**2
        traversal.near_in_lists(
            self.dim, False, near2, tree.ints, tree.floats, tree.points, tree.ints,
            tree.floats, tree.points, tree.owner, self.order, self.queue, self.lists,
            self.result, tree.meta,
        )  # fmt: skip
        forces.sum_z(self.result, self.z)

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
