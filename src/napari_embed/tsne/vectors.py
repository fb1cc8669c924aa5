"""Vectors read in blocks, checked, and brought to a range float32 can square.

Squared distances overflow float32 for values near 1e19 and vanish below 1e-19, and the
search library ends the process when it meets such a distance. So every vector passes
here first: finite values only, the common offset removed, an extreme scale divided out
by a power of two (which rounds nothing), and far outliers drawn in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError

__all__ = ["OUTLIER_LIMIT", "PreparedVectors", "Progress", "VectorsLike", "prepare"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

OUTLIER_LIMIT = 1e9
"""Largest distance from the centre, in units of the typical one; its square is safe."""

_SAMPLE = 4096
_SAMPLE_VALUES = 1 << 24
_BLOCK_VALUES = 1 << 22
_SAFE_SCALE = (1e-6, 1e6)
_NAMED_ROWS = 10


class VectorsLike(Protocol):
    """Anything with a shape that gives rows by slice: NumPy, memmap, Zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(n, d)``."""
        ...

    def __getitem__(self, rows: slice) -> Any:
        """Return rows."""
        ...


@dataclass(frozen=True)
class PreparedVectors:
    """Rows of ``source``, block by block, centred and at a safe scale.

    Attributes
    ----------
    source
        (n, d) rows as the caller gave them; never changed.
    metric
        "euclidean" or "cosine". Cosine rows come out as unit vectors; a zero vector,
        which has no direction, gets an axis of its own: orthogonal to every other
        vector, equal to other zero vectors.
    centre
        (d_out,) float64, subtracted from every row (distances do not change, their
        rounding error falls).
    scale
        A power of two; true distance = prepared distance x scale.
    block_rows
        Rows read at a time.
    """

    source: VectorsLike
    metric: str
    centre: NDArray[np.float64]
    scale: float
    block_rows: int

    @property
    def n(self) -> int:
        """Number of vectors."""
        return int(self.source.shape[0])

    @property
    def dim(self) -> int:
        """Length of a prepared vector (one more than given if cosine met zeros)."""
        return int(self.centre.size)

    def blocks(
        self, *, report: bool = False
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield (rows, prepared float32 block) over all vectors in order.

        With ``report``, far outliers that were drawn in are logged at the end.
        """
        far = 0
        for rows in _slices(self.n, self.block_rows):
            block, clipped = self._prepare(_read(self.source, rows))
            far += clipped
            yield rows, block
        if far and report:
            logger.warning(
                "%d of %d vectors lie more than %g typical distances from the rest; "
                "they were drawn in to that distance.",
                far, self.n, OUTLIER_LIMIT,
            )  # fmt: skip

    def _prepare(self, raw: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
        if self.metric == "cosine":
            raw = _unit_rows(raw, self.dim)
        exact = raw.dtype == np.float32 and self.scale == 1.0
        work = raw if exact else raw.astype(np.float64) / self.scale
        with np.errstate(over="ignore"):
            block = work - (self.centre / self.scale).astype(work.dtype)
        clipped = _draw_in(block)
        return np.ascontiguousarray(block, dtype=np.float32), clipped


def prepare(
    vectors: VectorsLike,
    *,
    metric: str = "euclidean",
    random_state: int = 0,
    progress: Progress | None = None,
) -> PreparedVectors:
    """Check all vectors in one pass and find their centre and scale.

    Parameters
    ----------
    vectors
        (n, d) real numbers: an array, a memory map, a Zarr array.
    metric
        "euclidean" or "cosine".
    random_state
        Seed of the sample of at most 4,096 rows that sets centre and scale.
    progress
        Called as ``progress(rows_read, n)``.

    Raises
    ------
    InputError
        If the shape or dtype does not fit, or rows hold NaN or Inf (they are named).
    """
    source = _as_source(vectors)
    d = int(source.shape[1])
    if metric not in ("euclidean", "cosine"):
        raise InputError(f"metric must be 'euclidean' or 'cosine', got {metric!r}.")
    block_rows = _block_rows(source, d)
    sample, any_zero = _survey(source, block_rows, random_state, progress)
    dim = d
    if metric == "cosine":
        dim = d + 1 if any_zero else d
        sample = _unit_rows(sample, dim)
    centre, scale = _centre_and_scale(sample, dim)
    return PreparedVectors(source, metric, centre, scale, block_rows)


def _as_source(vectors: Any) -> VectorsLike:
    if not hasattr(vectors, "shape") or not hasattr(vectors, "__getitem__"):
        try:
            vectors = np.asarray(vectors)
        except ValueError as error:
            raise InputError(
                "Vectors must be a rectangular (n, d) array of numbers; the rows given "
                "have different lengths."
            ) from error
    shape = tuple(vectors.shape)
    if len(shape) != 2 or shape[1] < 1:
        raise InputError(
            f"Vectors must have shape (n, d) with d of 1 or more, got {shape}. One row "
            "per item, one column per feature."
        )
    result: VectorsLike = vectors
    return result


def _block_rows(source: VectorsLike, d: int) -> int:
    rows = int(np.clip(_BLOCK_VALUES // d, 64, 1 << 16))
    chunks = getattr(source, "chunks", None)
    if isinstance(chunks, tuple) and isinstance(chunks[0], int) and chunks[0] > 0:
        # Whole chunks, so that none is decoded twice.
        rows = max(rows // chunks[0], 1) * chunks[0]
    return rows


def _slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _read(source: VectorsLike, rows: slice) -> NDArray[Any]:
    block = np.asarray(source[rows])
    if block.dtype.kind not in "fiub":
        raise InputError(
            f"Vectors must hold real numbers, found dtype {block.dtype}. Convert them "
            "to float32."
        )
    if block.dtype == np.float32:
        return block
    # Half precision and small integers fit float32 exactly; the rest stays float64.
    small = block.dtype.kind in "iufb" and block.dtype.itemsize <= 2
    return block.astype(np.float32 if small else np.float64)


def _survey(
    source: VectorsLike, step: int, random_state: int, progress: Progress | None
) -> tuple[NDArray[np.float64], bool]:
    """One pass: refuse NaN and Inf, pick sample rows, look for zero rows."""
    n, d = (int(size) for size in source.shape)
    generator = np.random.default_rng(random_state)
    count = int(np.clip(_SAMPLE_VALUES // d, 64, _SAMPLE))
    wanted = np.sort(generator.choice(n, min(n, count), replace=False))
    parts: list[NDArray[np.float64]] = [np.empty((0, d))]
    bad: list[int] = []
    bad_count = 0
    any_zero = False
    for rows in _slices(n, step):
        block = _read(source, rows)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            found = rows.start + np.flatnonzero(~finite)
            bad_count += found.size
            bad.extend(int(row) for row in found[: _NAMED_ROWS - len(bad)])
        any_zero = any_zero or not block.any(axis=1).all()
        low, high = np.searchsorted(wanted, (rows.start, rows.stop))
        parts.append(block[wanted[low:high] - rows.start].astype(np.float64))
        if progress is not None:
            progress(rows.stop, n)
    if bad_count:
        more = f" and {bad_count - len(bad)} more" if bad_count > len(bad) else ""
        raise InputError(
            f"Input contains NaN or Inf in {bad_count} of {n} vectors: rows "
            f"{', '.join(map(str, bad))}{more}. Remove or repair these rows."
        )
    return np.concatenate(parts), any_zero


def _unit_rows(raw: NDArray[Any], dim: int) -> NDArray[np.float64]:
    """Return unit vectors; zero rows point along one extra axis if there is one."""
    rows = raw.astype(np.float64)
    # Dividing by the largest entry first keeps the squares in range.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    zero = largest[:, 0] == 0.0
    largest[zero] = 1.0
    rows /= largest
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 0.5)
    if dim > rows.shape[1]:
        rows = np.column_stack([rows, zero.astype(np.float64)])
    return rows


def _centre_and_scale(
    sample: NDArray[np.float64], dim: int
) -> tuple[NDArray[np.float64], float]:
    """Medians, which one huge row cannot move."""
    if not sample.size:
        return np.zeros(dim), 1.0
    # Halving keeps the midpoint of two huge medians in range.
    centre = 2.0 * np.median(0.5 * sample, axis=0)
    away = np.abs(0.5 * sample - 0.5 * centre).max(axis=1)
    away = away[away > 0]
    typical = 2.0 * float(np.median(away)) if away.size else 1.0
    if _SAFE_SCALE[0] <= typical <= _SAFE_SCALE[1]:
        return centre, 1.0
    return centre, float(2.0 ** np.clip(np.round(np.log2(typical)), -1000, 1000))


def _draw_in(block: NDArray[Any]) -> int:
    """Shrink rows beyond OUTLIER_LIMIT in place; return how many there were."""
    largest = np.abs(block).max(axis=1, initial=0.0)
    far = np.flatnonzero(largest > OUTLIER_LIMIT / np.sqrt(block.shape[1]))
    if not far.size:
        return 0
    block[far] = np.nan_to_num(block[far])  # Inf: the largest number of its kind
    largest = np.abs(block).max(axis=1, initial=0.0)
    rows = block[far].astype(np.float64) / largest[far, None].astype(np.float64)
    length = np.linalg.norm(rows, axis=1)
    beyond = length > OUTLIER_LIMIT / largest[far].astype(np.float64)
    shrunk = rows / length[:, None] * OUTLIER_LIMIT
    block[far[beyond]] = shrunk[beyond]
    return int(beyond.sum())
