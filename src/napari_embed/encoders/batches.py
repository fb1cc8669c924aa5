"""Batches sized to memory: halved when it runs out, grown again when all is well."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import torch

from napari_embed.encoders.protocol import Progress
from napari_embed.errors import ComputeError, EmbedError

__all__ = ["AdaptiveBatches", "is_out_of_memory"]

logger = logging.getLogger(__name__)

GOOD_BATCHES_BEFORE_GROWTH = 20
OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    # cuDNN says this when it finds no algorithm that fits into free memory.
    "cudnn_status_not_supported",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on the device or on the host."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        t in text for t in OUT_OF_MEMORY_TEXTS
    )


class AdaptiveBatches:
    """Runs a function over ranges of items that fit into memory.

    Parameters
    ----------
    size
        Items in the first batch.
    maximum
        Most items in a batch. While memory has not run out, the size doubles after
        each full batch up to here; with ``size == maximum`` (the CPU, where larger
        batches are no faster) every run is split alike and gives the same bits.

    After memory ran out the size is halved, and doubled again after 20 good batches.
    """

    def __init__(self, size: int, maximum: int) -> None:
        self.size = min(size, maximum)
        self.maximum = maximum
        self._exploring = True
        self._good = 0

    def run(
        self,
        count: int,
        forward: Callable[[int, int], None],
        *,
        progress: Progress | None = None,
    ) -> dict[int, str]:
        """Call ``forward(start, stop)`` over ``range(count)``.

        Returns
        -------
        Items that do not fit into memory even alone, with the reason.

        Raises
        ------
        ComputeError
            If ``forward`` fails for another reason than memory.
        """
        failures: dict[int, str] = {}
        start = 0
        while start < count:
            stop = min(start + self.size, count)
            reason = self._attempt(forward, start, stop)
            if reason is None:
                self._note_success(full=stop - start == self.size)
                start = stop
            else:
                # Only now: while the error lives, its frames hold the tensors.
                _free_memory()
                if self._halve(stop - start):
                    continue
                failures[start] = f"does not fit into memory even alone: {reason}"
                start = stop
            if progress is not None:
                progress(start, count)
        return failures

    @staticmethod
    def _attempt(
        forward: Callable[[int, int], None], start: int, stop: int
    ) -> str | None:
        """Run one batch; return a reason if memory ran out."""
        try:
            forward(start, stop)
        except EmbedError:
            raise
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ComputeError(
                f"A batch of {stop - start} images could not be encoded: {error}"
            ) from error
        return None

    def _halve(self, tried: int) -> bool:
        """Make the next batch smaller; False if it was one item already."""
        self._exploring = False
        self._good = 0
        self.size = max(1, tried // 2)
        logger.info("memory ran out with %d images; next: %d", tried, self.size)
        return tried > 1

    def _note_success(self, *, full: bool) -> None:
        self._good += 1
        due = full if self._exploring else self._good >= GOOD_BATCHES_BEFORE_GROWTH
        if due and self.size < self.maximum:
            self.size = min(2 * self.size, self.maximum)
            self._good = 0


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
