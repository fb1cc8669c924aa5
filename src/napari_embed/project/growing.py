"""Changing the list of items of a project that has results already.

Everything new is written aside first: the items, the state of their files, the
manifest, the arrays' metadata and the maps with rows for the new items. A rename makes
it the next state of the project, and from then on every writer that finds it finishes
it, step by step, each of which may be repeated. What was not touched is not written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_embed.errors import StoreError
from napari_embed.project.atomic import (
    atomic_file,
    checksum_bytes,
    checksum_file,
    new_staging_folder,
    remove_tree,
    store_errors,
    sync_folder,
    write_atomic,
)
from napari_embed.project.checkpoints import KINDS, remove_checkpoint
from napari_embed.project.items import ITEMS_NAME, write_items
from napari_embed.project.ledger import (
    STALE,
    ChunkRecord,
    FileRecord,
    Ledger,
    StageRecord,
)
from napari_embed.project.manifest import MANIFEST_NAME, Manifest, read_manifest
from napari_embed.project.stages import StoredRows
from napari_embed.project.store import ArraySpec, DiskArray

__all__ = [
    "FILES_NAME",
    "finish_update",
    "is_unfinished",
    "read_file_states",
    "stage_update",
    "write_file_states",
]

FILES_NAME = "files.parquet"
_UPDATE = ".update"
_PLAN = "plan.json"
_ARRAYS = "arrays"
_STALE = "Its source has changed."
_GONE = (
    "It was not there at the last look for changes (its file, its row of the table or "
    "its label); its vector and thumbnail are kept."
)


def write_file_states(path: Path, states: NDArray[np.int64]) -> None:
    """Write size (bytes, -1 missing, -2 unknown) and time (ns) of every item's file."""
    table = pa.table({"size": states[:, 0], "mtime_ns": states[:, 1]})
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_file_states(path: Path, n: int) -> NDArray[np.int64] | None:
    """Return (n, 2) as written, or None where there is nothing that fits."""
    try:
        table = pq.read_table(path, columns=["size", "mtime_ns"])
        states = np.stack([np.asarray(column) for column in table.columns], axis=1)
    except (OSError, pa.ArrowException, ValueError):
        return None
    if states.shape != (n, 2) or states.dtype != np.int64:
        return None
    return states


def is_unfinished(root: Path) -> bool:
    """Return whether a killed writer left an update to be finished."""
    return (root / _UPDATE).is_dir()


def stage_update(
    root: Path,
    ledger: Ledger,
    manifest: Manifest,
    *,
    items: pa.Table,
    states: NDArray[np.int64],
    touched: Sequence[int],
    retake: Sequence[str] = (),
    single: bool = False,
) -> None:
    """Write the next state of a project aside and declare it complete.

    Parameters
    ----------
    root, ledger, manifest
        The project as it is.
    items
        All items, known ones at their old rows, new ones at the end.
    states
        (m, 2) of their files.
    touched
        Known items whose file has changed.
    retake
        Keys of chunked stages that have to be taken over anew as a whole.
    single
        Keep the touched chunks of vectors and thumbnails, and mark the rows.
    """
    before, after = manifest.n_items, items.num_rows
    folder = new_staging_folder(root)
    try:
        write_items(folder / ITEMS_NAME, items)
        write_file_states(folder / FILES_NAME, states)
        dataclasses.replace(
            manifest,
            n_items=after,
            items_checksum=checksum_file(folder / ITEMS_NAME)[1],
            root_fingerprint=manifest.root,
            scans=manifest.scans + 1,
        ).write(folder)
        chunks = {int(i) // manifest.chunk_rows for i in touched}
        if after > before and before % manifest.chunk_rows:
            chunks.add(before // manifest.chunk_rows)
        maps = {}
        if after > before:
            _stage_metadata(root, folder, ledger, before, after)
            maps = _stage_maps(root, folder, ledger, before, after)
        plan = {
            "before": before,
            "chunks": sorted(chunks),
            "maps": maps,
            "retake": list(retake),
            "stale": [*map(int, touched), *range(before, after)] if single else [],
        }
        write_atomic(folder / _PLAN, json.dumps(plan).encode())
        with store_errors("write", root):
            sync_folder(folder)
            os.rename(folder, root / _UPDATE)
            sync_folder(root)
    except BaseException:
        remove_tree(root, folder)
        raise


def _stage_metadata(
    root: Path, folder: Path, ledger: Ledger, before: int, after: int
) -> None:
    """Write the metadata of the chunked arrays for more rows."""
    for stage in ledger.stages():
        if not _is_chunked(stage.key):
            continue
        try:
            dtype, inner = _layout(root / stage.key)
            disk = DiskArray.open(
                root, stage.key, rows=before, dtype=dtype, inner_rows=inner
            )
        except StoreError:
            continue  # damaged: it is computed anew
        spec = dataclasses.replace(disk.spec, shape=(after, *disk.spec.shape[1:]))
        path = folder / _ARRAYS / stage.key / "zarr.json"
        path.parent.mkdir(parents=True)
        write_atomic(path, spec.metadata_bytes())


def _layout(array: Path) -> tuple[str, int]:
    """Return type and rows per inner chunk as the metadata say; `DiskArray` checks."""
    try:
        values = json.loads((array / "zarr.json").read_bytes())
        codec = values["codecs"][0].get("configuration", {})
        inner = int(codec.get("chunk_shape", [0])[0])
        return str(values["data_type"]), inner
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "", 0


def _stage_maps(
    root: Path, folder: Path, ledger: Ledger, before: int, after: int
) -> dict[str, Any]:
    """Write the finished maps with rows of NaN for the new items."""
    maps = {}
    for stage in ledger.stages():
        if not stage.key.startswith("projections/") or not stage.sealed:
            continue
        try:
            disk = DiskArray.open(root, stage.key, rows=before, dtype="float32")
            known = StoredRows(disk, ledger, partial=False)[:]
        except StoreError:
            continue  # damaged: it is computed anew
        shape = (after, known.shape[1])
        values = np.full(shape, np.nan, np.float32)
        values[:before] = known
        spec = ArraySpec(
            shape, "float32", disk.spec.chunk_rows, 0, disk.spec.attributes
        )
        written = DiskArray.create(folder / _ARRAYS, stage.key, spec)
        records = [
            written.write_chunk(i, values[spec.rows(i)]) for i in range(spec.n_chunks)
        ]
        maps[stage.key] = [(r.chunk, r.size, r.checksum) for r in records]
    return maps


def finish_update(root: Path, ledger: Ledger) -> None:
    """Finish what `stage_update` declared complete; does nothing without one.

    Raises
    ------
    StoreError
        If the staged state is damaged.
    """
    folder = root / _UPDATE
    if not is_unfinished(root):
        return
    try:
        plan = json.loads((folder / _PLAN).read_bytes())
        maps = {key: [ChunkRecord(*c) for c in v] for key, v in plan["maps"].items()}
        before, chunks = int(plan["before"]), [int(c) for c in plan["chunks"]]
        retake = [str(key) for key in plan["retake"]]
        stale = [int(i) for i in plan.get("stale", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{folder} is damaged: {error}. Restore a backup of the project."
        ) from error
    manifest = read_manifest(folder)
    states = read_file_states(_either(folder, root, FILES_NAME), manifest.n_items)
    known = {record.key for record in ledger.stages()}
    with ledger.transaction():
        for stage in ledger.stages():
            if _is_chunked(stage.key):
                keep = not stage.key.startswith("measures/") and bool(stale)
                lost = [] if keep else chunks
                _reopen_chunks(root, ledger, stage, manifest, before, lost, retake)
                if keep and ledger.stage(stage.key) is not None:
                    _mark_stale(ledger, stage.key, stale)
            elif stage.key.startswith("projections/"):
                _keep_map(root, ledger, stage, manifest, before, maps)
            elif manifest.n_items > before and stage.key.startswith("neighbors/"):
                ledger.delete_stage(stage.key)
            elif not stage.key.startswith(KINDS):
                ledger.put_stage(dataclasses.replace(stage, upstream_fingerprint=""))
        if states is not None:
            _note_missing(ledger, states)
    for key in known:
        if key.startswith(KINDS):
            remove_checkpoint(root, ledger, key)
        elif manifest.n_items > before:
            _move_array(root, folder, ledger, key)
    for name in (ITEMS_NAME, FILES_NAME):
        if (folder / name).exists():
            with store_errors("write", root / name):
                os.replace(folder / name, root / name)
    write_atomic(root / MANIFEST_NAME, (folder / MANIFEST_NAME).read_bytes())
    remove_tree(root, folder)


def _mark_stale(ledger: Ledger, key: str, stale: list[int]) -> None:
    """Make rows of finished chunks pending; the rest of their chunks stays."""
    ledger.put_errors(STALE + key, dict.fromkeys(stale, _STALE))
    record = ledger.stage(key)
    if record is not None and record.sealed:
        ledger.put_stage(dataclasses.replace(record, sealed=False))


def _is_chunked(key: str) -> bool:
    return key == "thumbnails" or key.startswith(("embeddings/", "measures/"))


def _either(folder: Path, root: Path, name: str) -> Path:
    """Return where a file is that may have been moved already."""
    return folder / name if (folder / name).exists() else root / name


def _reopen_chunks(
    root: Path,
    ledger: Ledger,
    stage: StageRecord,
    manifest: Manifest,
    before: int,
    chunks: list[int],
    retake: list[str],
) -> None:
    """Make the touched chunks of vectors or thumbnails pending."""
    total = -(-manifest.n_items // manifest.chunk_rows)
    lost = range(total) if stage.key in retake else chunks
    grown = manifest.n_items > before
    if not (lost or grown):
        return
    ledger.remove_chunks(stage.key, lost)
    ledger.put_stage(dataclasses.replace(stage, sealed=False, chunks_total=total))
    if not grown:
        return
    content = _read(root / _UPDATE / _ARRAYS / stage.key / "zarr.json")
    if content is None:
        ledger.delete_stage(stage.key)
        return
    _put_metadata(ledger, stage.key, content)


def _put_metadata(ledger: Ledger, key: str, content: bytes) -> None:
    path = f"{key}/zarr.json"
    ledger.put_file(FileRecord(path, key, len(content), checksum_bytes(content)))


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None


def _keep_map(
    root: Path,
    ledger: Ledger,
    stage: StageRecord,
    manifest: Manifest,
    before: int,
    maps: dict[str, list[ChunkRecord]],
) -> None:
    """Leave a map to be seen, as out of date."""
    if manifest.n_items == before:
        ledger.put_stage(dataclasses.replace(stage, upstream_fingerprint=""))
        return
    staged = root / _UPDATE / _ARRAYS / stage.key / "zarr.json"
    content = _read(staged) or _read(root / stage.key / "zarr.json")
    if stage.key not in maps or content is None:
        ledger.delete_stage(stage.key)
        return
    ledger.clear_stage(stage.key)
    records = maps[stage.key]
    ledger.put_stage(
        dataclasses.replace(stage, upstream_fingerprint="", chunks_total=len(records))
    )
    ledger.add_chunks(stage.key, stage.key, records)
    _put_metadata(ledger, stage.key, content)


def _note_missing(ledger: Ledger, states: NDArray[np.int64]) -> None:
    gone = np.flatnonzero(states[:, 0] == -1)
    ledger.remove_errors("source", 0, len(states))
    ledger.put_errors("source", dict.fromkeys(gone.tolist(), _GONE))


def _move_array(root: Path, folder: Path, ledger: Ledger, key: str) -> None:
    """Bring staged metadata or a staged map into place."""
    staged = folder / _ARRAYS / key
    if ledger.stage(key) is None:
        remove_tree(root, root / key)
    elif not staged.exists():
        return
    elif _is_chunked(key):
        write_atomic(root / key / "zarr.json", (staged / "zarr.json").read_bytes())
    else:
        remove_tree(root, root / key)
        with store_errors("write", root / key):
            os.replace(staged, root / key)
            sync_folder((root / key).parent)
