"""The Taichi calls of one iteration: each joins stages, in the order of the text.

A call costs some ten microseconds and about six for every array, on any device; so one
iteration makes few of them and packs much into each. None waits for the host: bounds of
loops are read on the device, and where room runs out all calls that follow pass by
without moving a point (see ``status`` in ``layout``).
"""

from napari_embed.kernels.field import interpolate_cells, mark_cells, widen_boxes
from napari_embed.kernels.forces import bounded, sum_z
from napari_embed.kernels.hierarchy import build_nodes, refit_nodes
from napari_embed.kernels.layout import (
    FIELD_ASKED,
    FIELD_FULL,
    TREE_ASKED,
    TREE_FULL,
)
from napari_embed.kernels.near import sum_near
from napari_embed.kernels.published import OURS
from napari_embed.kernels.runtime import ti
from napari_embed.kernels.traversal import descend_all

__all__ = [
    "build_tree", "descend", "finish_cells", "finish_points", "fit_tree", "lay_field",
]  # fmt: skip


@ti.func
def _gather(
    dim: ti.template(), y: ti.template(), order: ti.template(), points: ti.template()
):
    """Copy (n, dim) positions to (dim, n) in tree order."""
    for r in range(y.shape[0]):
        for k in ti.static(range(dim)):
            points[k, r] = bounded(y[order[r], k])


@ti.kernel
def build_tree(
    dim: ti.template(),
    levels: ti.template(),
    leaf_size: ti.i32,
    bucket: ti.i32,
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    keys: ti.types.ndarray(dtype=ti.i64, ndim=1),
    permutation: ti.types.ndarray(dtype=ti.i64, ndim=1),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Build the embedding hierarchy over sorted keys, and fit it to the positions.

    Parameters
    ----------
    permutation, order
        (n,) row of each sorted point; the same as int32, result.

    See Also
    --------
    napari_embed.kernels.hierarchy.build_nodes
    """
    for r in range(order.shape[0]):
        order[r] = ti.cast(permutation[r], ti.i32)
    build_nodes(
        dim, levels, leaf_size, bucket, keys, ints, owner, meta, status, TREE_FULL,
        TREE_ASKED,
    )  # fmt: skip
    _gather(dim, y, order, points)
    refit_nodes(dim, levels, ints, floats, points, meta)


@ti.kernel
def fit_tree(
    dim: ti.template(),
    levels: ti.template(),
    y: ti.types.ndarray(dtype=ti.f32, ndim=2),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Fit the embedding hierarchy to positions that have moved since it was built."""
    _gather(dim, y, order, points)
    refit_nodes(dim, levels, ints, floats, points, meta)


@ti.kernel
def lay_field(
    dim: ti.template(),
    published: ti.template(),
    levels: ti.template(),
    spacing: ti.f32,
    share: ti.f32,
    limit: ti.i32,
    bucket: ti.i32,
    early: ti.i32,
    tree_depth: ti.i32,
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    grid: ti.types.ndarray(dtype=ti.f32, ndim=1),
    bits: ti.types.ndarray(dtype=ti.i32, ndim=2),
    counts: ti.types.ndarray(dtype=ti.i32, ndim=1),
    keys: ti.types.ndarray(dtype=ti.i64, ndim=1),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
):
    """Mark the cells around the points, and build and fit the field hierarchy.

    Parameters
    ----------
    limit
        Most cells that are of any use.
    bucket
        Leaf size of the field hierarchy, and targets that share one list.

    See Also
    --------
    napari_embed.kernels.field.mark_cells
    """
    mark_cells(
        dim, published, spacing, share, limit, early, tree_depth, source_floats,
        sources, grid, bits, counts, keys, points, meta, status,
    )  # fmt: skip
    build_nodes(
        dim, levels, bucket, bucket, keys, ints, owner, meta, status, FIELD_FULL,
        FIELD_ASKED,
    )  # fmt: skip
    refit_nodes(dim, levels, ints, floats, points, meta)
    if ti.static(published):
        widen_boxes(dim, grid, floats, meta)


@ti.kernel
def descend(
    dim: ti.template(),
    method: ti.template(),
    levels: ti.template(),
    bucket: ti.i32,
    theta2: ti.f32,
    source_ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    tasks: ti.types.ndarray(dtype=ti.i32, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
    work: ti.types.ndarray(dtype=ti.i64, ndim=1),
):
    """Traverse both hierarchies down to the target buckets.

    See Also
    --------
    napari_embed.kernels.traversal.descend_all
    """
    descend_all(
        dim, method, levels, bucket, theta2, source_ints, source_floats, ints, floats,
        queue, tasks, meta, status, work,
    )  # fmt: skip


@ti.kernel
def finish_points(
    dim: ti.template(),
    levels: ti.template(),
    theta2: ti.f32,
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    lists: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
    z: ti.types.ndarray(dtype=ti.f64, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
    work: ti.types.ndarray(dtype=ti.i64, ndim=1),
):
    """Finish S, R and Z with the points as targets.

    See Also
    --------
    napari_embed.kernels.near.sum_near
    """
    sum_near(
        dim, False, OURS, levels, theta2, ints, floats, points, ints, floats, points,
        owner, order, queue, lists, result, meta, status, work,
    )  # fmt: skip
    sum_z(levels, result, z)


@ti.kernel
def finish_cells(
    dim: ti.template(),
    method: ti.template(),
    levels: ti.template(),
    theta2: ti.f32,
    half: ti.f32,
    source_ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    source_floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    source_owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    sources: ti.types.ndarray(dtype=ti.f32, ndim=2),
    order: ti.types.ndarray(dtype=ti.i32, ndim=1),
    ints: ti.types.ndarray(dtype=ti.i32, ndim=2),
    floats: ti.types.ndarray(dtype=ti.f32, ndim=2),
    points: ti.types.ndarray(dtype=ti.f32, ndim=2),
    owner: ti.types.ndarray(dtype=ti.i32, ndim=1),
    grid: ti.types.ndarray(dtype=ti.f32, ndim=1),
    bits: ti.types.ndarray(dtype=ti.i32, ndim=2),
    queue: ti.types.ndarray(dtype=ti.i32, ndim=1),
    lists: ti.types.ndarray(dtype=ti.f32, ndim=2),
    values: ti.types.ndarray(dtype=ti.f32, ndim=2),
    result: ti.types.ndarray(dtype=ti.f32, ndim=2),
    z: ti.types.ndarray(dtype=ti.f64, ndim=1),
    meta: ti.types.ndarray(dtype=ti.i32, ndim=1),
    status: ti.types.ndarray(dtype=ti.i32, ndim=1),
    work: ti.types.ndarray(dtype=ti.i64, ndim=1),
):
    """Finish S, R and Z with the field's cells as targets, read back at the points.

    See Also
    --------
    napari_embed.kernels.near.sum_near, napari_embed.kernels.field.interpolate_cells
    """
    sum_near(
        dim, True, method, levels, theta2, source_ints, source_floats, sources, ints,
        floats, points, owner, order, queue, lists, values, meta, status, work,
    )  # fmt: skip
    interpolate_cells(
        dim, method, half, source_ints, source_floats, source_owner, sources, order,
        grid, bits, values, result, status,
    )  # fmt: skip
    sum_z(levels, result, z)
