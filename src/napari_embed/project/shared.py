"""A project as other machines see it: its folder, without ledger and lock.

SQLite is not meant for many machines at once. So only one process, the one that drives,
touches the ledger; the others read the items and write chunks, each its own, and tell
the driver what they wrote.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import CorruptChunkError, StoreError
from napari_embed.project.items import ITEMS_NAME, ItemsTable
from napari_embed.project.ledger import ChunkRecord
from napari_embed.project.manifest import read_manifest
from napari_embed.project.npz import read_npz
from napari_embed.project.store import ArraySpec, DiskArray, file_damage

__all__ = ["MAX_STATE_BYTES", "ChunkTarget", "SharedProject", "StateFile"]

MAX_STATE_BYTES = 1 << 30
"""Larger files of what an encoder learned are refused."""


@dataclass(frozen=True)
class ChunkTarget:
    """Where chunks of a stage are written: its key and the layout of its array."""

    key: str
    spec: ArraySpec


@dataclass(frozen=True)
class StateFile:
    """File of what an encoder learned: path inside the project, size, hash."""

    path: str
    size: int
    checksum: str


class SharedProject:
    """A project on storage that several machines share.

    Parameters
    ----------
    root
        The folder.
    items_checksum
        Of the items that the driver sees.

    Raises
    ------
    StoreError
        If this machine does not see that project there.
    """

    def __init__(self, root: Path, items_checksum: str) -> None:
        self.root = root
        here = f"on {socket.gethostname()}"
        advice = (
            "Put the project on storage that every worker has under the same path, "
            "and start again; finished work is kept."
        )
        try:
            manifest = read_manifest(root)
        except StoreError as error:
            raise StoreError(
                f"A worker {here} cannot see the project {root}: {error} {advice}"
            ) from error
        if manifest.items_checksum != items_checksum:
            raise StoreError(
                f"A worker {here} sees another project, or an older state of it, at "
                f"{root}. {advice}"
            )
        self.manifest = manifest
        self._items = ItemsTable(root / ITEMS_NAME, manifest.n_items)

    def items(self, *, rows: slice) -> pa.Table:
        """Return the items of some rows."""
        return self._items.read(rows=rows)

    def write(
        self, target: ChunkTarget, chunk: int, values: NDArray[Any]
    ) -> ChunkRecord:
        """Write one whole chunk, flush it to the disk and return its record.

        Raises
        ------
        StoreError
            If the stage was begun anew with other settings meanwhile.
        """
        spec = target.spec
        disk = DiskArray.open(
            self.root, target.key, rows=spec.shape[0], dtype=spec.dtype,
            inner_rows=spec.inner_rows,
        )  # fmt: skip
        if disk.spec != spec:
            raise StoreError(
                f"{target.key} in {self.root} was begun anew with other settings while "
                "this run was writing to it. Run one at a time."
            )
        return disk.write_chunk(chunk, values)

    def encoder_state(self, file: StateFile) -> dict[str, NDArray[np.generic]]:
        """Return what the encoder learned.

        Raises
        ------
        CorruptChunkError
            If the file is not the one that the driver wrote.
        """
        path = self.root / file.path
        if damage := file_damage(path, file.size, file.checksum):
            raise CorruptChunkError(
                f"{path} is damaged as seen from {socket.gethostname()}: {damage}. "
                "Compute the embeddings again."
            )
        return read_npz(path, most_bytes=MAX_STATE_BYTES)
