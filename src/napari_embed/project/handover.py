"""Chunks that are written but not in the ledger: left by shards for the next writer.

A shard of a job array works without the writer's lock. For each chunk it leaves a small
file that says what it wrote; whoever opens the project for embedding next checks the
bytes and enters them. ``handover/NAME/CHUNK.json``, for embeddings NAME.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_embed.project.atomic import store_errors, write_atomic
from napari_embed.project.ledger import ChunkRecord

__all__ = ["Handover", "clear_handovers", "read_handovers", "write_handover"]

FOLDER = "handover"
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Handover:
    """One chunk.

    Attributes
    ----------
    chunk
        Its number.
    vectors, thumbnails
        Size and hash of what was written, None where that was done before.
    errors
        {item id: reason} of its images without a vector.
    """

    chunk: int
    vectors: ChunkRecord | None
    thumbnails: ChunkRecord | None
    errors: Mapping[int, str]


def write_handover(root: Path, name: str, fingerprint: str, done: Handover) -> None:
    """Leave one; it appears whole."""
    folder = root / FOLDER / name
    with store_errors("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    values = {
        "fingerprint": fingerprint,
        "vectors": _plain(done.vectors),
        "thumbnails": _plain(done.thumbnails),
        "errors": {str(item): reason for item, reason in done.errors.items()},
    }
    write_atomic(folder / f"{done.chunk}.json", json.dumps(values).encode())


def read_handovers(root: Path, name: str, fingerprint: str) -> Iterator[Handover]:
    """Yield those of embeddings with this fingerprint; any others are passed over."""
    for path in sorted((root / FOLDER / name).glob("*.json")):
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
        ):
            if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
                continue
            values = json.loads(path.read_bytes())
            if values["fingerprint"] != fingerprint:
                continue
            chunk = int(path.stem)
            errors = {int(item): str(why) for item, why in values["errors"].items()}
            yield Handover(
                chunk,
                _record(chunk, values["vectors"]),
                _record(chunk, values["thumbnails"]),
                errors,
            )


def clear_handovers(root: Path, name: str) -> None:
    """Remove those of some embeddings, after they are entered or have become void."""
    folder = root / FOLDER / name
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            path.unlink()
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _plain(record: ChunkRecord | None) -> list[Any] | None:
    return None if record is None else [record.size, record.checksum]


def _record(chunk: int, values: Any) -> ChunkRecord | None:
    if values is None:
        return None
    size, checksum = values
    return ChunkRecord(chunk, int(size), str(checksum))
