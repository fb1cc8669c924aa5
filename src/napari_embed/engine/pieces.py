"""Keeps the finished pieces of a chunk that was interrupted.

A chunk is the unit that the ledger calls done. With a slow encoder it takes minutes,
and a run that is cancelled before would lose them; so its pieces are kept in the
project, and the next run of the same encoder begins with the piece after them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import InputError, StoreError
from napari_embed.params import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_embed.project import Project

__all__ = ["KeptPieces"]

_log = logging.getLogger(__name__)

KIND = "pieces"
# Seconds of encoding that a kill may cost when one chunk takes longer.
EVERY_S = 20.0
_VERSION = 1
_MOST_REASON = 2000
_MOST_BYTES_BESIDE = 1 << 20


class KeptPieces:
    """What is done of one chunk.

    Parameters
    ----------
    project
        Open for writing.
    name
        Of the embeddings.
    made_of
        Fingerprint of the vectors.
    dim, thumbnail_px
        Numbers per vector; side of a thumbnail.
    piece_images
        Images per piece; only whole pieces are taken up.
    """

    def __init__(
        self,
        project: Project,
        name: str,
        *,
        made_of: str,
        dim: int,
        thumbnail_px: int,
        piece_images: int,
    ) -> None:
        self._project, self._name = project, name
        self._dim, self._px, self._piece = dim, thumbnail_px, piece_images
        self._fingerprint = fingerprint(
            "pieces", _VERSION, made_of, dim, thumbnail_px, piece_images
        )
        self._since = time.monotonic()
        self._there = project.stage_info(f"{KIND}/{name}").state != "missing"

    def load(
        self, chunk: int, rows: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], dict[int, str]] | None:
        """Return vectors, thumbnails and errors of the first rows of a chunk."""
        stored = self._project.stage_info(f"{KIND}/{self._name}")
        if stored.state == "missing":
            return None
        fits = stored.fingerprint == self._fingerprint
        if not fits or stored.info.get("chunk") != chunk:
            self.discard()
            return None
        n = rows.stop - rows.start
        pixels = 3 * self._px * self._px
        most = n * (4 * self._dim + pixels + 4 * _MOST_REASON + 8) + _MOST_BYTES_BESIDE
        try:
            arrays = self._project.read_checkpoint(
                self._name, kind=KIND, most_bytes=most
            )
            return self._checked(arrays or {}, rows)
        except (StoreError, ValueError, KeyError, TypeError) as error:
            _log.warning("Images of a stopped chunk are encoded again: %s", error)
            self.discard()
            return None

    def _checked(
        self, arrays: dict[str, NDArray[Any]], rows: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], dict[int, str]]:
        vectors, small = arrays["vectors"], arrays["thumbnails"]
        ids, reasons = arrays["ids"], arrays["reasons"]
        m = len(vectors)
        good = 0 < m < rows.stop - rows.start and m % self._piece == 0
        good = good and vectors.shape == (m, self._dim) and vectors.dtype == np.float32
        good = good and small.shape == (m, self._px, self._px, 3)
        good = good and small.dtype == np.uint8 and ids.dtype == np.int64
        good = good and ids.shape == reasons.shape == (len(ids),)
        good = good and reasons.dtype.kind == "U"
        good = good and bool(((ids >= rows.start) & (ids < rows.start + m)).all())
        if not good:
            raise InputError("they do not fit this chunk")
        errors = {int(i): str(text) for i, text in zip(ids, reasons, strict=True)}
        return vectors, small, errors

    @property
    def due(self) -> bool:
        """Whether work would be lost that is worth a write."""
        return time.monotonic() - self._since >= EVERY_S

    def save(
        self,
        chunk: int,
        vectors: Sequence[NDArray[np.float32]],
        thumbnails: Sequence[NDArray[np.uint8]],
        errors: dict[int, str],
    ) -> None:
        """Keep the first pieces of a chunk; a full disk costs only them."""
        block = np.concatenate(vectors)
        arrays: dict[str, NDArray[Any]] = {
            "vectors": block,
            "thumbnails": np.concatenate(thumbnails),
            "ids": np.array(list(errors), np.int64),
            "reasons": np.array([r[:_MOST_REASON] for r in errors.values()], str),
        }
        try:
            self._project.write_checkpoint(
                self._name, arrays, kind=KIND, fingerprint=self._fingerprint,
                info={"chunk": chunk, "rows": len(block)},
            )  # fmt: skip
        except StoreError as error:
            _log.warning("The pieces of a chunk cannot be kept: %s", error)
        else:
            self._there = True
        self._since = time.monotonic()

    def discard(self) -> None:
        """Remove what is kept: the chunk is written, or it does not fit."""
        self._since = time.monotonic()
        if self._there:
            self._project.remove_checkpoint(self._name, kind=KIND)
            self._there = False
