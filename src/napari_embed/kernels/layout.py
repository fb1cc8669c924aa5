"""Where each quantity lives inside the packed arrays that kernels share.

A node is one row of integers and one row of floats, so that visiting it touches one or
two cache lines and a kernel needs few arguments (each costs launch time).
"""

from typing import NamedTuple

__all__ = [
    "BEGIN", "CELLS", "CELLS_FULL", "CHILD", "CHILDREN", "CHUNKS", "COUNT", "DONE",
    "END", "FAN", "FIELD_ASKED", "FIELD_FULL", "HALT", "LEVEL0", "LIST_BEGIN",
    "LIST_END", "MAX_LEVELS", "META_SIZE", "NODES", "NODE_INTS", "NO_GRID", "PARENT",
    "PIECES", "QUEUE", "QUEUE_FULL", "ROPE", "SINGLE_CELLS", "STATUS_SIZE", "SUMS_SIZE",
    "TASKS", "TASK_ROOM", "TREE_ASKED", "TREE_FULL", "Columns", "columns",
    "jacobian_size", "parallel_levels",
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
NODES = 0  # nodes in use; none where there was no room for them
COUNT = 1  # points
LEVEL0 = 8  # first node of each level
MAX_LEVELS = 34
META_SIZE = 48

# Entries of the status, which all kernels of one map share. The host looks at it once
# in many iterations; nothing inside an iteration needs it.
HALT = 0  # bits below; while any is set no point moves, until the host made room
DONE = 1  # gradient steps completed
TREE_ASKED = 2  # nodes asked for by either hierarchy, queue entries, cells
FIELD_ASKED = 3
QUEUE = 4  # counted past the end of the queue
CELLS = 5
SINGLE_CELLS = 6  # as published: whether cells are traversed one by one now
STATUS_SIZE = 8
# Bits of HALT.
TREE_FULL = 1
FIELD_FULL = 2
QUEUE_FULL = 4
CELLS_FULL = 8
NO_GRID = 16  # too wide a map, or too many cells: points are the better targets

# Subtrees that a pass over a hierarchy is cut into on a CPU, about; room for them.
TASKS = 128
TASK_ROOM = 16384

# Pieces that a pass over all points is cut into; their sums are added in order, so a
# result does not depend on the number of threads.
CHUNKS = 256
# On a GPU they are cut finer, and the sums of PIECES are added FAN at a time: no thread
# has long work by itself. These sums lie behind the total, which is entry CHUNKS.
FAN = 32
PIECES = FAN**3
SUMS_SIZE = CHUNKS + 1 + PIECES + FAN**2 + FAN


def parallel_levels(kind: str, dim: int) -> int:
    """Return how many levels of a hierarchy are processed in parallel, one by one.

    On a GPU each is a launch of its own, and the subtrees below them are a thread each:
    65,536 of them in 2D and 262,144 in 3D, were the tree even. The number is fixed, as
    every other would have to be compiled. On a CPU it is 0: subtrees are tasks.
    """
    return {2: 8, 3: 6}[dim] if kind == "cuda" else 0


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
