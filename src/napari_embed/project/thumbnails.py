"""Thumbnails of any items, fast enough to turn pages of a gallery."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import StoreError
from napari_embed.project.ledger import Ledger
from napari_embed.project.store import DiskArray

__all__ = ["ThumbnailReader"]

_log = logging.getLogger(__name__)


class ThumbnailReader:
    """Reads rows of the thumbnails array; safe to use from several threads.

    Parameters
    ----------
    disk
        The array, (n, h, w, 3) uint8.
    ledger
        Says which chunks exist.
    """

    def __init__(self, disk: DiskArray, ledger: Ledger) -> None:
        self._disk = disk
        self._done = np.zeros(disk.spec.n_chunks, dtype=bool)
        finished = [c for c in ledger.chunks(disk.name) if c < self._done.size]
        self._done[finished] = True

    def available(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each id whether its thumbnail has been written."""
        return np.asarray(self._done[ids // self._disk.spec.chunk_rows])

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (m, h, w, 3) uint8; zeros where there is none or it is damaged."""
        result = np.zeros((ids.size, *self._disk.spec.shape[1:]), np.uint8)
        chunks = ids // self._disk.spec.chunk_rows
        known = np.flatnonzero(self._done[chunks])
        if known.size == 0:
            return result
        try:
            result[known] = self._read_rows(ids[known])
        except StoreError:
            # One damaged chunk must not blank the page: read chunk by chunk.
            for chunk in np.unique(chunks[known]):
                self._read_chunk(ids, chunks == chunk, result)
        return result

    def _read_chunk(
        self, ids: NDArray[np.int64], member: NDArray[np.bool_], out: NDArray[Any]
    ) -> None:
        try:
            out[member] = self._read_rows(ids[member])
        except StoreError as error:
            _log.warning("Thumbnails are shown black: %s", error)

    def _read_rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        unique, where = np.unique(ids, return_inverse=True)
        return self._disk.read(unique)[where.ravel()]
