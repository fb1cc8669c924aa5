"""Both hierarchies of one real map as plain arrays, and what one target does with them.

The traversal is followed here step by step in Python, by the rules of
``kernels/traversal.py`` and ``kernels/near.py``, so that it can be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.kernels import runtime
from napari_embed.params import ProjectionParams

__all__ = ["Hierarchy", "Settled", "both_hierarchies", "settle"]


@dataclass(frozen=True)
class Hierarchy:
    """Nodes of one hierarchy: children, boxes, points.

    Attributes
    ----------
    child, children, begin, end, parent
        (m,) first child (-1 in a leaf), number of children, range of points, parent.
    centre, low, high
        (m, 2) centre of mass and box.
    points
        (n, 2) points, or marked grid nodes, in tree order.
    spacing
        Distance of grid nodes; 0 where the points are those of the map.
    """

    child: NDArray[np.int32]
    children: NDArray[np.int32]
    begin: NDArray[np.int32]
    end: NDArray[np.int32]
    parent: NDArray[np.int32]
    centre: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    points: NDArray[np.float32]
    spacing: float = 0.0

    def depth(self) -> NDArray[np.int64]:
        """Return the level of each node; the root's is 0."""
        level = np.zeros(len(self.child), np.int64)
        for node in range(1, len(level)):
            level[node] = level[self.parent[node]] + 1
        return level

    def size(self) -> NDArray[np.int32]:
        """Return the number of points of each node."""
        return self.end - self.begin

    def diagonal2(self) -> NDArray[np.float64]:
        """Return the squared diagonal of each box."""
        sides = self.high.astype(np.float64) - self.low
        return (sides**2).sum(1)

    def offspring(self, node: int) -> range:
        """Return the children of a node."""
        first = int(self.child[node])
        return (
            range(first, first + int(self.children[node])) if first >= 0 else range(0)
        )


def _read(tree: Any, dim: int, spacing: float = 0.0) -> Hierarchy:
    from napari_embed.kernels.layout import (
        BEGIN,
        CHILD,
        CHILDREN,
        COUNT,
        END,
        NODES,
        PARENT,
        columns,
    )

    nodes, count = int(tree.meta[NODES]), int(tree.meta[COUNT])
    ints, floats = tree.ints.to_numpy()[:nodes], tree.floats.to_numpy()[:nodes]
    c = columns(dim)
    return Hierarchy(
        child=ints[:, CHILD],
        children=ints[:, CHILDREN],
        begin=ints[:, BEGIN],
        end=ints[:, END],
        parent=ints[:, PARENT],
        centre=floats[:, c.com : c.com + dim],
        low=floats[:, c.low : c.low + dim],
        high=floats[:, c.high : c.high + dim],
        points=tree.points.to_numpy()[:, :count].T,
        spacing=spacing,
    )


def both_hierarchies(y: NDArray[np.float32]) -> tuple[Hierarchy, Hierarchy]:
    """Return the embedding hierarchy and the field hierarchy of a 2D map."""
    device = runtime.start("cpu")
    from napari_embed.kernels import field
    from napari_embed.kernels.repulsion import Repulsion
    from napari_embed.tsne.presets import accuracy_of

    params = ProjectionParams(n_components=y.shape[1], target="cells")
    positions = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    positions.from_numpy(np.ascontiguousarray(y))
    repulsion = Repulsion(len(y), y.shape[1], device, accuracy_of(params))
    repulsion.rebuild(positions)
    repulsion.consider_cells(positions)
    repulsion.evaluate(positions)
    cells = repulsion.field
    spacing = float(cells.grid[field.SPACING])
    dim = y.shape[1]
    return _read(repulsion.tree, dim), _read(cells.tree, dim, spacing)


@dataclass(frozen=True)
class Settled:
    """How one target accounts for all points.

    Attributes
    ----------
    bucket
        The target's node: targets that share one list.
    ancestors
        Nodes above it, from the root down.
    far
        Source nodes that each ancestor settled, for all targets below it at once.
    near
        Source nodes in the bucket's list, each a single mass there.
    leaves
        Source leaves whose points are summed one by one.
    """

    bucket: int
    ancestors: list[int]
    far: list[list[int]]
    near: list[int]
    leaves: list[int]


def settle(
    sources: Hierarchy, targets: Hierarchy, bucket: int, theta: float, core: float
) -> Settled:
    """Follow the traversal down to one bucket of targets.

    Raises
    ------
    RuntimeError
        If a point was left out or counted twice.
    """
    ancestors = []
    node = int(targets.parent[bucket])
    while node >= 0:
        ancestors.insert(0, node)
        node = int(targets.parent[node])
    source2, target2 = sources.diagonal2(), targets.diagonal2()
    handed, far = [0], []
    for target in ancestors:
        middle = 0.5 * (targets.low[target] + targets.high[target])
        settled, waiting, stack = [], [], list(handed)
        while stack:
            node = stack.pop()
            away2 = core + float(((middle - sources.centre[node]) ** 2).sum())
            if max(source2[node], target2[target]) < theta**2 * away2:
                settled.append(node)
            elif sources.child[node] < 0 or source2[node] <= target2[target]:
                waiting.append(node)
            else:
                stack += sources.offspring(node)
        far.append(settled)
        handed = waiting
    near, leaves, stack = [], [], list(handed)
    while stack:
        node = stack.pop()
        x = sources.centre[node]
        gap = np.maximum(
            0, np.maximum(targets.low[bucket] - x, x - targets.high[bucket])
        )
        if source2[node] < theta**2 * (core + float((gap**2).sum())):
            near.append(node)
        elif sources.child[node] < 0:
            leaves.append(node)
        else:
            stack += sources.offspring(node)
    size = sources.size()
    counted = sum(int(size[n]) for part in (*far, near, leaves) for n in part)
    if counted != len(sources.points):
        raise RuntimeError(f"{counted} of {len(sources.points)} points accounted for")
    return Settled(bucket, ancestors, far, near, leaves)
