"""Whole results: neighbor graphs, projections and encoder states.

A result is written aside and flushed, the ledger notes the intended swap, the folders
are swapped, and only then is the stage sealed. After a kill the old result is in place,
or the next writer finishes the swap; a mixture is never read.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.errors import (
    CorruptChunkError,
    IncompleteStageError,
    InputError,
    StoreError,
)
from napari_embed.params import canonical_json
from napari_embed.project.atomic import (
    STAGING,
    checksum_bytes,
    checksum_file,
    new_staging_folder,
    remove_tree,
    store_errors,
    sync_folder,
)
from napari_embed.project.ledger import (
    ChunkRecord,
    FileRecord,
    Ledger,
    StageRecord,
)
from napari_embed.project.npz import npz_bytes, read_npz, write_npz
from napari_embed.project.shared import MAX_STATE_BYTES, StateFile
from napari_embed.project.stages import StoredRows
from napari_embed.project.store import ArraySpec, DiskArray, create_root, file_damage

__all__ = [
    "encoder_state_file",
    "finish_swaps",
    "is_encoder_state",
    "read_encoder_state",
    "read_neighbors",
    "read_projection",
    "write_encoder_state",
    "write_neighbors",
    "write_projection",
]

_CHUNK_BYTES = 8 << 20
_RETRIES = 20
_RETRY_PAUSE_S = 0.05
_SWAP_KEY = re.compile(r"(neighbors|projections)/[A-Za-z0-9][A-Za-z0-9._+ -]{0,99}")
_STAGING = re.compile(r"[0-9a-f]{32}")

Result = TypeVar("Result")


def write_neighbors(
    root: Path, ledger: Ledger, record: StageRecord, graph: NeighborGraph
) -> None:
    """Replace a neighbor graph: (n, k) int32 ids and float32 squared distances."""
    recall = graph.recall if math.isfinite(graph.recall) else None
    info = {**(record.info or {}), "metric": graph.metric, "recall": recall}
    arrays = {"indices": graph.indices, "distances": graph.distances}
    _replace(root, ledger, record, arrays, info)


def read_neighbors(
    root: Path, ledger: Ledger, key: str, n: int, most: int | None = None
) -> NeighborGraph:
    """Return a finished neighbor graph of ``n`` items, or its nearest columns."""

    def read(record: StageRecord) -> NeighborGraph:
        info = record.info or {}
        indices = _read_array(root, ledger, record, "indices", n, "int32", most)
        distances = _read_array(root, ledger, record, "distances", n, "float32", most)
        recall = info.get("recall")
        return NeighborGraph(
            indices,
            distances,
            str(info.get("metric", "euclidean")),
            float("nan") if recall is None else float(recall),
        )

    return _read_steady(ledger, key, read)


def write_projection(
    root: Path, ledger: Ledger, record: StageRecord, projection: Projection
) -> None:
    """Replace a projection: (n, 2) or (n, 3) float32 positions."""
    kl = projection.kl_divergence
    info = {
        **(record.info or {}),
        "kl_divergence": kl if math.isfinite(kl) else None,
        "n_iter": int(projection.n_iter),
        "details": projection.info,
    }
    _replace(root, ledger, record, {"": projection.positions}, info)


def read_projection(root: Path, ledger: Ledger, key: str, n: int) -> Projection:
    """Return a finished projection of ``n`` items."""

    def read(record: StageRecord) -> Projection:
        info = record.info or {}
        kl = info.get("kl_divergence")
        return Projection(
            _read_array(root, ledger, record, "", n, "float32"),
            float("nan") if kl is None else float(kl),
            int(info.get("n_iter", 0)),
            dict(info.get("details") or {}),
        )

    return _read_steady(ledger, key, read)


def _replace(
    root: Path,
    ledger: Ledger,
    record: StageRecord,
    arrays: Mapping[str, NDArray[Any]],
    info: Mapping[str, Any],
) -> None:
    """Write arrays aside, note the swap in the ledger, then do it."""
    canonical_json(dict(info))  # refuses what JSON cannot hold, before any writing
    key = record.key
    folder = new_staging_folder(root)
    try:
        plan = _write_aside(folder, record, arrays)
    except BaseException:
        remove_tree(root, folder)
        raise
    total = sum(len(chunks) for chunks in plan["chunks"].values())
    unsealed = dataclasses.replace(record, info=info, sealed=False, chunks_total=total)
    with ledger.transaction():
        ledger.clear_stage(key)
        ledger.put_stage(unsealed)
        ledger.put_swap(key, plan)
    _finish_swap(root, ledger, key, plan)
    remove_tree(root, folder)


def _write_aside(
    folder: Path, record: StageRecord, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Write complete arrays into a staging folder; return what the ledger needs."""
    chunks: dict[str, list[tuple[int, int, str]]] = {}
    files: dict[str, tuple[int, str]] = {}
    for name, values in arrays.items():
        path = f"{record.key}/{name}" if name else record.key
        disk = DiskArray.create(folder, path, _spec(values, record))
        written = [
            disk.write_chunk(i, np.ascontiguousarray(values[disk.spec.rows(i)]))
            for i in range(disk.spec.n_chunks)
        ]
        chunks[path] = [(r.chunk, r.size, r.checksum) for r in written]
        files[f"{path}/zarr.json"] = checksum_file(disk.path / "zarr.json")
    return {"staging": folder.name, "chunks": chunks, "files": files}


def finish_swaps(root: Path, ledger: Ledger) -> None:
    """Finish the swaps a killed writer had begun; called by the next one.

    Raises
    ------
    StoreError
        If a noted swap is malformed.
    """
    for key, text in ledger.swaps().items():
        try:
            plan = json.loads(text)
            good = _SWAP_KEY.fullmatch(key) and _STAGING.fullmatch(plan["staging"])
            if not good or set(plan) != {"staging", "chunks", "files"}:
                raise ValueError("unknown content")
            _finish_swap(root, ledger, key, plan)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(
                f"The ledger's note on {key!r:.120} is damaged: {error}. Restore "
                f"{ledger.path} from a backup."
            ) from error


def _finish_swap(root: Path, ledger: Ledger, key: str, plan: dict[str, Any]) -> None:
    """Move a staged result into place, unless that is done, and seal it."""
    staged = root / STAGING / plan["staging"] / key
    if staged.exists():
        create_root((root / key).parent)
        remove_tree(root, root / key)
        with store_errors("write", root / key):
            os.replace(staged, root / key)
            sync_folder((root / key).parent)
    elif any(file_damage(root / p, *f) for p, f in plan["files"].items()):
        ledger.remove_swap(key)  # the staged result is lost: compute it again
        return
    with ledger.transaction():
        for path, chunks in plan["chunks"].items():
            ledger.add_chunks(key, path, [ChunkRecord(*chunk) for chunk in chunks])
        for path, (size, checksum) in plan["files"].items():
            ledger.put_file(FileRecord(path, key, size, checksum))
        record = ledger.stage(key)
        ledger.set_sealed(key, True, (record.info if record else None) or {})
        ledger.remove_swap(key)


def _spec(values: NDArray[Any], record: StageRecord) -> ArraySpec:
    row_bytes = max(1, values[:1].nbytes)
    rows = max(1, min(values.shape[0], _CHUNK_BYTES // row_bytes))
    attributes = (("fingerprint", record.fingerprint),)
    return ArraySpec(values.shape, str(values.dtype), rows, 0, attributes)


def _read_array(
    root: Path,
    ledger: Ledger,
    record: StageRecord,
    name: str,
    n: int,
    dtype: str,
    most: int | None = None,
) -> NDArray[Any]:
    """Return a whole array, or only its first ``most`` columns."""
    path = f"{record.key}/{name}" if name else record.key
    disk = DiskArray.open(root, path, rows=n, dtype=dtype)
    if dict(disk.spec.attributes).get("fingerprint") != record.fingerprint:
        raise CorruptChunkError(
            f"{disk.path} belongs to another run than the ledger says. Compute "
            f"{record.key} again."
        )
    rows = StoredRows(disk, ledger, partial=False)
    if most is None or rows.ndim != 2 or most >= rows.shape[1]:
        return rows[:]
    values = np.empty((n, most), rows.dtype)
    for start, block in rows.blocks():
        values[start : start + len(block)] = block[:, :most]
    return values


def _read_steady(
    ledger: Ledger, key: str, read: Callable[[StageRecord], Result]
) -> Result:
    """Read a result, again if a writer replaced it meanwhile."""
    for attempt in range(_RETRIES):
        record = ledger.stage(key)
        if record is None or not record.sealed:
            if record is not None and attempt + 1 < _RETRIES // 4:
                time.sleep(_RETRY_PAUSE_S)  # perhaps being swapped in just now
                continue
            raise IncompleteStageError(
                f"{key} is not computed yet in this project. Compute it first."
            )
        failure: Exception | None = None
        try:
            result = read(record)
        except (StoreError, InputError) as error:
            failure = error
        after = ledger.stage(key)
        if after is not None and after.revision == record.revision:
            if failure is not None:
                if isinstance(failure, StoreError):
                    raise failure
                raise CorruptChunkError(f"{key} is damaged: {failure}") from failure
            return result
        time.sleep(_RETRY_PAUSE_S)
    raise StoreError(f"{key} kept changing while it was read; try again.")


def write_encoder_state(
    root: Path,
    ledger: Ledger,
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    fingerprint: str,
) -> None:
    """Store what an encoder learned from this project's images (npz, no pickle)."""
    path = f"encoders/{name}.npz"
    with store_errors("create", root / "encoders"):
        (root / "encoders").mkdir(exist_ok=True)
    write_npz(root / path, arrays)
    size, checksum = checksum_file(root / path)
    ledger.put_file(FileRecord(path, f"encoders/{name}", size, checksum, fingerprint))


def is_encoder_state(
    ledger: Ledger, name: str, arrays: Mapping[str, NDArray[Any]]
) -> bool:
    """Return whether these arrays are, to the bit, what was stored."""
    record = ledger.file(f"encoders/{name}.npz")
    content = npz_bytes(arrays)
    found = (len(content), checksum_bytes(content))
    return record is not None and found == (record.size, record.checksum)


def encoder_state_file(ledger: Ledger, name: str) -> StateFile | None:
    """Return where an encoder's stored arrays are, or None when there are none."""
    record = ledger.file(f"encoders/{name}.npz")
    if record is None:
        return None
    return StateFile(record.path, record.size, record.checksum)


def read_encoder_state(
    root: Path, ledger: Ledger, name: str, fingerprint: str | None
) -> dict[str, NDArray[Any]] | None:
    """Return an encoder's stored arrays, or None when there are none that fit."""
    path = f"encoders/{name}.npz"
    record = ledger.file(path)
    if record is None or (fingerprint is not None and record.tag != fingerprint):
        return None
    damage = file_damage(root / path, record.size, record.checksum)
    if damage:
        raise CorruptChunkError(
            f"{root / path} is damaged: {damage}. Compute the embeddings again."
        )
    return read_npz(root / path, most_bytes=MAX_STATE_BYTES)
