"""The order points are drawn in: every prefix is an even sample of the whole.

While the camera moves only a prefix of the points is drawn. Sorting along a Morton
curve and then visiting the ranks in bit-reversed order makes every prefix spread
evenly over the map, and mixes the classes, so none is always drawn on top.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .layer import EmbeddingPoints

__all__ = ["bit_reversed_ranks", "even_order", "refine_order", "shuffled_order"]

Order = npt.NDArray[np.intp]


@lru_cache(maxsize=1)
def shuffled_order(n: int) -> Order:
    """Return a fixed random order of ``n`` points, read-only: the quick first choice.

    The last one is kept, so that another thread can make it before it is needed.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(np.arange(n, dtype=np.int32)).astype(np.intp)
    order.flags.writeable = False
    return order


def bit_reversed_ranks(n: int) -> Order:
    """Return 0..n-1 in van der Corput order: any prefix is evenly spread."""
    if n < 2:
        return np.arange(n, dtype=np.intp)
    bits = int(n - 1).bit_length()
    values = np.zeros(1, dtype=np.int32)
    for bit in range(bits):
        values = np.concatenate([values, values | np.int32(1 << (bits - 1 - bit))])
    # Doubling in this way lists 0, 1/2, 1/4, 3/4, ... of the full power of two.
    return values[values < n].astype(np.intp)


def even_order(positions: npt.NDArray[np.floating]) -> Order:
    """Return an order whose prefixes sample the map evenly in space.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Points that are not finite are drawn nowhere; they come at the place their
        clipped coordinate gives them.
    """
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isfinite(positions), positions, np.nan)
        low = np.nanmin(finite, axis=0, initial=np.inf)
        high = np.nanmax(finite, axis=0, initial=-np.inf)
        span = np.where(high > low, high - low, 1.0)
        scaled = np.nan_to_num((finite - low) / span, nan=0.0)
    cells = np.minimum(scaled * 1024, 1023).astype(np.uint32)
    code = np.zeros(len(cells), dtype=np.uint32)
    for axis in range(cells.shape[1]):
        code |= _spread(cells[:, axis]) << np.uint32(axis)
    along_curve = np.argsort(code)
    return along_curve[bit_reversed_ranks(len(positions))]


def refine_order(layer: EmbeddingPoints) -> threading.Thread:
    """Give the layer an even drawing order as soon as a thread has sorted it.

    Until then, and for maps that keep moving, its random order is nearly as good.
    """
    weak, relay, positions = weakref.ref(layer), layer._relay, layer._xyz.copy()

    def deliver(order: Order) -> None:
        target = weak()
        if target is not None and target.n_items == len(order):
            target.set_drawing_order(order)

    def work() -> None:
        order = even_order(positions)
        # The window may have been closed meanwhile, and Qt's side with it.
        with contextlib.suppress(RuntimeError):
            relay.post(lambda: deliver(order))

    thread = threading.Thread(target=work, name="drawing-order", daemon=True)
    thread.start()
    return thread


def _spread(value: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Put two empty bits between the ten lowest bits."""
    value = (value | value << np.uint32(16)) & np.uint32(0x030000FF)
    value = (value | value << np.uint32(8)) & np.uint32(0x0300F00F)
    value = (value | value << np.uint32(4)) & np.uint32(0x030C30C3)
    return (value | value << np.uint32(2)) & np.uint32(0x09249249)
