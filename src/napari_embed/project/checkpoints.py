"""How far unfinished work is: arrays to go on from, one set per map or encoder.

The file that the ledger names is never written to. A newer one goes beside it, the
ledger changes over in one transaction, and only then the older one goes; so a kill at
any moment leaves a whole one. ``checkpoints/NAME`` (of a map) and ``pieces/NAME`` (of a
chunk being encoded) are stages of the ledger, with the fingerprint of what they are
made of; they are never sealed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_embed.errors import CorruptChunkError
from napari_embed.project.atomic import checksum_file, store_errors
from napari_embed.project.ledger import FileRecord, Ledger, StageRecord
from napari_embed.project.npz import read_npz, write_npz
from napari_embed.project.store import file_damage

__all__ = ["KINDS", "read_checkpoint", "remove_checkpoint", "write_checkpoint"]

KINDS = ("checkpoints/", "pieces/")
"""What the keys of these stages begin with."""

# Two names that take turns.
_ENDINGS = (".a.npz", ".b.npz")


def write_checkpoint(
    root: Path,
    ledger: Ledger,
    record: StageRecord,
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Replace the arrays kept under ``record.key``."""
    key = record.key
    old = _recorded(ledger, key)
    path = key + _ENDINGS[old is not None and old.path.endswith(_ENDINGS[0])]
    folder = (root / key).parent
    with store_errors("create", folder):
        folder.mkdir(exist_ok=True)
    write_npz(root / path, arrays)
    size, checksum = checksum_file(root / path)
    with ledger.transaction():
        ledger.clear_stage(key)
        ledger.put_stage(dataclasses.replace(record, sealed=False, chunks_total=0))
        ledger.put_file(FileRecord(path, key, size, checksum))
    if old is not None and old.path != path:
        with contextlib.suppress(OSError):
            (root / old.path).unlink()


def read_checkpoint(
    root: Path, ledger: Ledger, key: str, most_bytes: int
) -> dict[str, NDArray[Any]] | None:
    """Return the arrays kept under a key, or None when there are none.

    Raises
    ------
    CorruptChunkError
        If the file is not the one that was written.
    """
    if ledger.stage(key) is None:
        return None
    record = _recorded(ledger, key)
    if record is None:
        raise CorruptChunkError(f"The ledger names no file for {key}.")
    damage = file_damage(root / record.path, record.size, record.checksum)
    if damage:
        raise CorruptChunkError(f"{root / record.path} is damaged: {damage}.")
    return read_npz(root / record.path, most_bytes=most_bytes)


def remove_checkpoint(root: Path, ledger: Ledger, key: str) -> None:
    """Forget and delete what is kept under a key; nothing there is no error."""
    if ledger.stage(key) is not None:
        ledger.delete_stage(key)
    for ending in _ENDINGS:
        with contextlib.suppress(OSError):
            (root / (key + ending)).unlink()
    with contextlib.suppress(OSError):  # not empty: another map's
        (root / key).parent.rmdir()


def _recorded(ledger: Ledger, key: str) -> FileRecord | None:
    """Return the record of a key's file, under one of the two names we give."""
    found = (ledger.file(key + ending) for ending in _ENDINGS)
    return next((record for record in found if record is not None), None)
