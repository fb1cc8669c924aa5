"""Stages: what has been computed, from what, and how far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_embed.errors import (
    CorruptChunkError,
    IncompleteStageError,
    InputError,
    StoreError,
)
from napari_embed.project.ledger import STALE, ChunkRecord, Ledger, StageRecord
from napari_embed.project.store import DiskArray

__all__ = ["ChunkStage", "StageInfo", "StoredRows", "map_name", "stage_infos"]

StageState = Literal["missing", "partial", "sealed", "stale"]


@dataclass(frozen=True)
class StageInfo:
    """How far a stage is.

    Attributes
    ----------
    key
        "thumbnails", "embeddings/NAME", "measures/NAME", "neighbors/NAME" or
        "projections/NAME".
    state
        "missing", "partial" (can be resumed), "sealed", or "stale": finished or not,
        it was computed from something that has changed since.
    fingerprint
        Of the settings, the upstream and the code it was computed with.
    chunks_done, chunks_total
        Finished chunks and all.
    params, info
        Settings and whatever is worth showing, as the writer gave them.
    upstream
        Key of the stage it was computed from, or "".
    updated
        When, UTC, ISO 8601.
    revision
        Rises with every change; tells a reader that something is new.
    """

    key: str
    state: StageState
    fingerprint: str = ""
    chunks_done: int = 0
    chunks_total: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    upstream: str = ""
    updated: str = ""
    revision: int = 0


def stage_infos(ledger: Ledger) -> dict[str, StageInfo]:
    """Return the state of every stage the ledger knows."""
    records = {record.key: record for record in ledger.stages()}
    return {
        key: StageInfo(
            key=key,
            state=_state(record, records),
            fingerprint=record.fingerprint,
            chunks_done=ledger.chunk_count(key),
            chunks_total=record.chunks_total,
            params=record.params or {},
            info=record.info or {},
            upstream=record.upstream,
            updated=record.updated,
            revision=record.revision,
        )
        for key, record in records.items()
    }


def map_name(stages: Mapping[str, StageInfo], embeddings: str, plain: str) -> str:
    """Return the name of a map of some embeddings.

    The plain one ("tsne-3d") while these are the only embeddings, and afterwards for
    the ones it was made of; with the embeddings' name in front for all others.
    """
    kind = "embeddings/"
    names = {key.removeprefix(kind) for key in stages if key.startswith(kind)}
    long = f"{embeddings}-{plain}"
    if not names - {embeddings}:
        return plain
    if f"projections/{long}" not in stages:
        mine = {f"neighbors/{embeddings}", f"embeddings/{embeddings}"}
        for key in (f"projections/{plain}", f"checkpoints/{plain}"):
            if key in stages:
                return plain if stages[key].upstream in mine else long
    return long


def _state(record: StageRecord, records: Mapping[str, StageRecord]) -> StageState:
    if _is_stale(record, records, set()):
        return "stale"
    return "sealed" if record.sealed else "partial"


def _is_stale(
    record: StageRecord, records: Mapping[str, StageRecord], seen: set[str]
) -> bool:
    """Return whether what a stage was computed from has changed or is gone."""
    if not record.upstream or record.key in seen:
        return False
    upstream = records.get(record.upstream)
    if upstream is None or upstream.fingerprint != record.upstream_fingerprint:
        return True
    return _is_stale(upstream, records, seen | {record.key})


class ChunkStage:
    """One stage that is written chunk by chunk and can be resumed.

    Made by ``Project.begin_stage``. ``array`` is the Zarr array; write through `write`
    only, which also keeps the ledger.
    """

    def __init__(
        self, ledger: Ledger, key: str, disk: DiskArray, check: Callable[[], None]
    ) -> None:
        self.key = key
        self._ledger, self._disk, self._check = ledger, disk, check
        self.array = disk.zarr
        self._done = set(ledger.chunks(disk.name))

    @property
    def n_chunks(self) -> int:
        """Chunks in all."""
        return self._disk.spec.n_chunks

    @property
    def sealed(self) -> bool:
        """Whether the stage is finished."""
        record = self._ledger.stage(self.key)
        return bool(record and record.sealed)

    def rows(self, chunk: int) -> slice:
        """Return the item ids of one chunk as a slice."""
        return self._disk.spec.rows(chunk)

    def pending(self) -> list[int]:
        """Return the chunks that still have to be written, in order."""
        return [chunk for chunk in range(self.n_chunks) if chunk not in self._done]

    def write(
        self,
        chunk: int,
        values: NDArray[Any],
        *,
        errors: Mapping[int, str] | None = None,
    ) -> None:
        """Write one whole chunk; when this returns it survives a power cut.

        Parameters
        ----------
        chunk
            Its number.
        values
            (rows, *tail) of the stage's dtype; NaN rows for items without a result.
        errors
            {item id: reason} of this chunk's failed items. They reach the disk in
            the same transaction as the chunk, so that neither exists alone; given
            (even empty), they replace earlier ones of this chunk.

        Raises
        ------
        InputError
            If shape, dtype or an id do not fit.
        StoreError
            If the disk is full or cannot be written; the chunk is then pending.
        """
        self._check_chunk(chunk, errors)
        if chunk in self._done:
            self._ledger.remove_chunks(self._disk.name, [chunk])
            self._done.discard(chunk)
        self.accept(self._disk.write_chunk(chunk, values), errors=errors)

    def accept(
        self,
        record: ChunkRecord,
        *,
        errors: Mapping[int, str] | None = None,
        deep: bool = False,
    ) -> None:
        """Enter a chunk that is written, here or by another machine, as done.

        With ``deep`` its bytes are read and compared, too.

        Raises
        ------
        InputError
            If the chunk or an id does not exist.
        CorruptChunkError
            If its file is not there, or has another size than the record says.
        """
        chunk = record.chunk
        self._check_chunk(chunk, errors)
        if damage := self._disk.damage(record, deep=deep):
            raise CorruptChunkError(
                f"{self._disk.chunk_path(chunk)} is {damage} as seen from here, but "
                "was written by another machine. All machines need the same storage."
            )
        rows = self.rows(chunk)
        with self._ledger.transaction():
            self._ledger.add_chunks(self.key, self._disk.name, [record])
            self._ledger.remove_errors(STALE + self.key, rows.start, rows.stop)
            if errors is not None:
                self._ledger.remove_errors(self.key, rows.start, rows.stop)
                self._ledger.put_errors(self.key, errors)
        self._done.add(chunk)

    def _check_chunk(self, chunk: int, errors: Mapping[int, str] | None) -> None:
        self._check()
        if self.sealed:
            raise StoreError(f"{self.key} is finished; begin it with new settings.")
        rows = self.rows(chunk)
        bad = [i for i in errors or () if not rows.start <= i < rows.stop]
        if bad:
            raise InputError(f"Item {bad[0]} is not in chunk {chunk} of {self.key}.")

    def reopen(self, chunks: Iterable[int]) -> None:
        """Make chunks of an unfinished stage pending, as far as they are done."""
        self._check()
        lost = self._done & set(chunks)
        self._ledger.remove_chunks(self._disk.name, lost)
        self._done -= lost

    def seal(self, info: Mapping[str, Any] | None = None) -> None:
        """Mark the stage finished.

        Raises
        ------
        IncompleteStageError
            If chunks are still pending.
        """
        self._check()
        pending = self.pending()
        if pending:
            raise IncompleteStageError(
                f"{self.key} cannot be sealed: {len(pending)} of {self.n_chunks} "
                f"chunks are pending, the first is {pending[0]}."
            )
        self._ledger.set_sealed(self.key, True, info or {})


class StoredRows:
    """An (n, ...) array on disk, read by rows and checked against the ledger.

    Acts like an array for slices, index arrays and ``numpy.asarray`` (which loads it
    all); `blocks` walks through it with little memory. A chunk that is missing, or has
    another size than the ledger says, raises instead of reading as fill value.
    """

    def __init__(self, disk: DiskArray, ledger: Ledger, *, partial: bool) -> None:
        self._disk, self._partial, self._ledger = disk, partial, ledger
        self._records = ledger.chunks(disk.name)
        self.shape = disk.spec.shape
        self.dtype = np.dtype(disk.spec.dtype)
        self.ndim = len(self.shape)
        self.chunk_rows = disk.spec.chunk_rows
        self.available = len(self._records) == disk.spec.n_chunks

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, tuple):
            head, *tail = rows
            values = self[head]
            lead = () if isinstance(head, int | np.integer) else (slice(None),)
            return np.asarray(values[(*lead, *tail)])
        if isinstance(rows, int | np.integer):
            index = int(rows) + (len(self) if rows < 0 else 0)
            if not 0 <= index < len(self):
                raise IndexError(f"row {rows} of {len(self)}")
            return np.asarray(self[index : index + 1][0])
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            touched = range(start // self.chunk_rows, -(-stop // self.chunk_rows))
            return self._read(slice(start, max(start, stop)), touched)
        ids = np.asarray(rows)
        if ids.dtype == bool:
            ids = np.flatnonzero(ids)
        ids = np.where(ids < 0, ids + len(self), ids).astype(np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < len(self)):
            raise IndexError(f"rows must lie in 0 to {len(self) - 1}")
        if ids.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return self._read(ids, np.unique(ids // self.chunk_rows).tolist())

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first row, rows) in order, whole chunks unless ``rows`` is given."""
        step = rows or self.chunk_rows * max(1, 16_384 // self.chunk_rows)
        for start in range(0, len(self), step):
            yield start, self[start : start + step]

    def _rewritten(self, chunk: int) -> bool:
        """Return whether a writer took a chunk back since this reader looked."""
        now = self._ledger.chunks(self._disk.name).get(chunk)
        return now != self._records[chunk]

    def _read(self, rows: Any, touched: Any) -> NDArray[Any]:
        if isinstance(rows, slice) and rows.start == rows.stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        unwritten = []
        for chunk in touched:
            record = self._records.get(chunk)
            if record is None and self._partial:
                unwritten.append(chunk)
            elif record is None:
                raise IncompleteStageError(f"{self._disk.name} lacks chunk {chunk}.")
            elif damage := self._disk.damage(record, deep=False):
                if self._partial and self._rewritten(chunk):
                    unwritten.append(chunk)
                    continue
                raise CorruptChunkError(
                    f"{self._disk.chunk_path(chunk)} is damaged: {damage}. Run "
                    "`napari-embed verify` and compute that chunk again."
                )
        values = self._disk.read(rows)
        if unwritten:
            # A chunk may be half way into the file system; the ledger alone decides.
            ids = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            missing = np.isin(ids // self.chunk_rows, unwritten)
            values[missing] = self._disk.zarr.fill_value
        return values
