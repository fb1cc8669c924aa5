"""Where each quantity lives inside the packed arrays that kernels share.

A node is one row of integers and one row of floats, so that visiting it touches one or
two cache lines and a kernel needs few arguments (each costs launch time).
"""

from typing import NamedTuple

__all__ = [
    "BEGIN", "CHILD", "CHILDREN", "CHUNKS", "COUNT", "END", "GPU_LEVELS", "LEVEL0",
    "LIST_BEGIN", "LIST_END", "MAX_LEVELS", "META_SIZE", "NODES", "NODE_INTS",
    "OVERFLOW", "PARENT", "QUEUE", "ROPE", "TASKS", "TASK_ROOM", "Columns", "columns",
    "jacobian_size",
]  # fmt: skip

# Columns of a node's integers.
CHILD = 0  # first child, -1 in a leaf; children are consecutive
ROPE = 1  # next node in preorder outside this subtree, -1 at the end
BEGIN = 2  # first point (in tree order)
END = 3  # one past the last point
PARENT = 4
CHILDREN = 5  # number of children; before the split, the digit to split at
LIST_BEGIN = 6  # source nodes handed down to the children (in the queue)
LIST_END = 7
NODE_INTS = 8

# Entries of a hierarchy's counters.
NODES = 0  # nodes in use
OVERFLOW = 1  # bit 1: more nodes, bit 2: more queue entries than there is room for
QUEUE = 2  # queue entries asked for, counted past the end
COUNT = 3  # points
LEVEL0 = 8  # first node of each level
MAX_LEVELS = 34
META_SIZE = 48

# On a GPU the first levels are processed in parallel, one launch each; deeper ones
# (only very uneven maps have them) by one thread. On a CPU whole subtrees are tasks.
GPU_LEVELS = {2: 11, 3: 9}
# Subtrees that a pass over a hierarchy is cut into on a CPU, about; room for them.
TASKS = 128
TASK_ROOM = 16384

# Pieces that a pass over all points is cut into; their sums are added in order, so a
# result does not depend on the number of threads.
CHUNKS = 256


def jacobian_size(dim: int) -> int:
    """Return the number of distinct entries of a symmetric (dim, dim) matrix."""
    return dim * (dim + 1) // 2


class Columns(NamedTuple):
    """Columns of a node's floats for one dimension of the map."""

    com: int  # centre of mass
    moment: int  # sum of squared distances from the centre of mass
    diagonal: int  # squared length of the box diagonal
    low: int
    high: int
    s: int  # local expansion about the box centre: S, R (see traversal), Jacobian of R
    r: int
    j: int
    width: int


def columns(dim: int) -> Columns:
    """Return the float columns for a map of ``dim`` dimensions."""
    return Columns(
        com=0,
        moment=dim,
        diagonal=dim + 1,
        low=dim + 2,
        high=2 * dim + 2,
        s=3 * dim + 2,
        r=3 * dim + 3,
        j=4 * dim + 3,
        width=4 * dim + 3 + jacobian_size(dim),
    )
