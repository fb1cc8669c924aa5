"""Count what one evaluation of the repulsion was made of.

``Repulsion.interactions`` tells pairs of nodes from all others; here the others are
told apart, by going through the same lists once more.
"""

# Taichi reads annotations as objects, so they stay unquoted here.

from typing import Any

import numpy as np

from napari_embed.kernels import published
from napari_embed.kernels.layout import (
    BEGIN,
    CHILD,
    COUNT,
    END,
    LIST_BEGIN,
    LIST_END,
    ROPE,
    SINGLE_CELLS,
)
from napari_embed.kernels.near import _parent_of, _settles
from napari_embed.kernels.runtime import ti

__all__ = ["by_kind"]


@ti.kernel
def _count(
    dim: ti.template(),
    method: ti.template(),
    single: ti.i32,
    theta2: ti.f32,
    source_ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    found: ti.types.ndarray(dtype=ti.i64, ndim=1),
):
    for r in range(meta[COUNT]):
        bucket = owner[r]
        if ints[bucket, BEGIN] == r:
            parent = _parent_of(bucket, single, method, ints)
            first = 0
            last = 1
            if parent >= 0:
                first = ints[parent, LIST_BEGIN]
                last = ints[parent, LIST_END]
            nodes = 0
            points = 0
            for q in range(first, last):
                node = queue[q]
                stop = source_ints[node, ROPE]
                node = published.entered(node, parent, method, source_ints)
                while node != stop:
                    following = source_ints[node, ROPE]
                    if _settles(
                        node,
                        bucket,
                        single,
                        dim,
                        method,
                        theta2,
                        source_floats,
                        floats,
                    ):
                        nodes += 1
                    elif source_ints[node, CHILD] >= 0:
                        following = source_ints[node, CHILD]
                    else:
                        points += source_ints[node, END] - source_ints[node, BEGIN]
                    node = following
            size = ints[bucket, END] - r
            ti.atomic_add(found[0], ti.cast(nodes, ti.i64) * size)
            ti.atomic_add(found[1], ti.cast(points, ti.i64) * size)


def by_kind(repulsion: Any) -> dict[str, int]:
    """Return the interactions of the evaluation before, by kind.

    Returns
    -------
    dict
        "node_node": source node and target node; "node_point": source node and single
        target (point or cell); "point_point": source point and single target; "total".
    """
    target, method, single = repulsion.tree, published.OURS, 0
    if repulsion.cells_on:
        target = repulsion.field.tree
        if repulsion.accuracy.published:
            method = published.PUBLISHED
            single = int(repulsion.status[SINGLE_CELLS])
    found = np.zeros(2, np.int64)
    _count(
        repulsion.dim, method, single, repulsion.theta**2, repulsion.tree.ints,
        repulsion.tree.floats, target.ints, target.floats, target.owner,
        repulsion.queue, target.meta, found,
    )  # fmt: skip
    counted = repulsion.interactions()
    if counted["point"] != found.sum():
        raise RuntimeError(f"counted {found}, the kernels say {counted}")
    return {
        "node_node": counted["node"],
        "node_point": int(found[0]),
        "point_point": int(found[1]),
        "total": counted["node"] + counted["point"],
    }
