"""`Project`: a folder ``NAME.embed`` with everything computed from one source."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.errors import (
    InputError,
    StoreError,
    StoreReadOnlyError,
)
from napari_embed.project import results
from napari_embed.project.atomic import (
    beside,
    checksum_bytes,
    checksum_file,
    free_bytes,
    remove_stale,
    remove_tree,
    store_errors,
    sweep,
)
from napari_embed.project.checkpoints import (
    KINDS,
    remove_checkpoint,
    write_checkpoint,
)
from napari_embed.project.error_list import write_error_list
from napari_embed.project.growing import (
    FILES_NAME,
    finish_update,
    is_unfinished,
    stage_update,
    write_file_states,
)
from napari_embed.project.items import ITEMS_NAME, write_items
from napari_embed.project.ledger import FileRecord, Ledger, StageRecord
from napari_embed.project.lock import WriterLock
from napari_embed.project.manifest import Manifest, read_manifest
from napari_embed.project.reader import THUMBNAILS, Progress, ProjectReader, check_key
from napari_embed.project.stages import ChunkStage
from napari_embed.project.store import ArraySpec, DiskArray, create_root
from napari_embed.sources import Source, SourceSpec, open_source
from napari_embed.sources.changes import file_root, file_states

__all__ = ["Project"]

_log = logging.getLogger(__name__)

_MAX_THUMBNAIL_PX = 64
_SAMPLE_ITEMS = 16


class Project(ProjectReader):
    """One project on disk; a context manager. Made by `create` and `open`.

    One process writes at a time, any number read. Reading is safe from several
    threads; writing belongs to one. Every method that writes raises
    `StoreReadOnlyError` in mode "r".
    """

    notes: tuple[str, ...] = ()
    """What the source left out when the project was made, in sentences."""

    @classmethod
    def create(
        cls,
        path: str | Path,
        spec: SourceSpec,
        *,
        name: str | None = None,
        thumbnail_size: int | None = None,
        chunk_rows: int = 512,
        progress: Progress | None = None,
    ) -> Project:
        """List a source's items and make a new project of them, open for writing.

        Parameters
        ----------
        path
            The new folder, usually named ``NAME.embed``. It must not exist, or be
            empty. It appears only when it is complete.
        spec
            Where the items come from.
        name
            Shown to people; by default the folder's name.
        thumbnail_size
            Side of the thumbnails in pixels; by default the longest side of a sample
            of the images, at most 64.
        chunk_rows
            Items per chunk, the unit of work and of a resume.
        progress
            Called with (items found, 0) while listing.

        Raises
        ------
        InputError
            If the source has no items or is malformed.
        StoreError
            If the folder exists already or cannot be written.
        """
        target = Path(path).expanduser().absolute()
        _check_target(target)
        if not 1 <= chunk_rows <= 1 << 20:
            raise InputError(f"chunk_rows must be 1 to 1048576, got {chunk_rows}.")
        if thumbnail_size is not None and not 1 <= thumbnail_size <= 512:
            raise InputError(f"thumbnail_size must be 1 to 512, got {thumbnail_size}.")
        source = open_source(spec)
        items = source.list_items(progress=progress)
        if items.num_rows == 0:
            raise InputError(f"{spec.path} holds no items. Choose another source.")
        size = thumbnail_size or _thumbnail_size(source, items)
        with store_errors("create", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target)
        unfinished = beside(target)
        try:
            with store_errors("create", target):
                unfinished.mkdir()
            create_root(unfinished)
            write_items(unfinished / ITEMS_NAME, items)
            root = file_root(source)
            if root is not None:
                names = items["source"].to_pylist()
                states = file_states(root, names, progress=progress)
                write_file_states(unfinished / FILES_NAME, states)
            Ledger.create(unfinished)
            Manifest(
                name=name or target.name.removesuffix(".embed"),
                source=source.spec,
                n_items=items.num_rows,
                chunk_rows=chunk_rows,
                thumbnail_px=size,
                has_images=source.has_images,
                items_checksum=checksum_file(unfinished / ITEMS_NAME)[1],
            ).write(unfinished)
            with store_errors("create", target):
                os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        project = cls.open(target, mode="a")
        project.notes = tuple(getattr(source, "notes", ()))
        return project

    @classmethod
    def open(cls, path: str | Path, *, mode: Literal["r", "a"] = "r") -> Project:
        """Open a project; "r" touches nothing, "a" takes the writer's lock.

        Raises
        ------
        StoreError
            If the folder is no project, or is damaged.
        StoreVersionError
            If a newer version wrote it.
        StoreLockedError
            In mode "a", if another process writes; the message names it.
        """
        if mode not in ("r", "a"):
            raise InputError(f"mode must be 'r' or 'a', got {mode!r}.")
        root = Path(path).expanduser().absolute()
        read_manifest(root)  # a foreign folder must not even get a lock file
        if mode == "r":
            _refuse_unfinished(root)
            return cls(root, None)
        lock = WriterLock(root)
        try:
            if is_unfinished(root):
                with contextlib.closing(Ledger(root, writable=True)) as ledger:
                    finish_update(root, ledger)
            project = cls(root, lock)
        except BaseException:
            lock.release()
            raise
        try:
            results.finish_swaps(root, project._ledger)
            sweep(root)
            return project
        except BaseException:
            project.close()
            raise

    def close(self) -> None:
        """Write the list of errors and give the lock back; twice does no harm."""
        if self._lock is not None:
            try:
                write_error_list(self.path, self.errors())
            except (StoreError, InputError) as error:
                _log.warning("The list of errors is not written: %s", error)
        super().close()

    # chunked stages

    def begin_stage(
        self,
        key: str,
        *,
        fingerprint: str,
        shape_tail: Sequence[int],
        dtype: str | np.dtype[Any] | type,
        params: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
        upstream: str | None = None,
    ) -> ChunkStage:
        """Start a chunked stage, or continue it when the fingerprint is the same.

        A changed fingerprint, shape or dtype discards the stage's chunks and errors;
        stages computed from it then show as "stale". Finished chunks whose file is
        missing or has another size become pending again.

        Parameters
        ----------
        key
            "thumbnails", "embeddings/NAME" or "measures/NAME".
        fingerprint
            Of settings, upstream and code, see `napari_embed.params.fingerprint`.
        shape_tail, dtype
            Shape of one row and "uint8", "float32" or "int32".
        params, info
            Plain values kept with the stage.
        upstream
            Key of the stage it is computed from, if any.
        """
        self._require_writable()
        check_key(key, (THUMBNAILS, "embeddings/", "measures/"))
        record = StageRecord(
            key, fingerprint, upstream or "", self._fingerprint_of(upstream),
            params, info, chunks_total=self.n_chunks,
        )  # fmt: skip
        disk = self._open_or_create(
            key, fingerprint, tuple(shape_tail), str(np.dtype(dtype))
        )
        with self._ledger.transaction():
            old = self._ledger.stage(key)
            if old is None or old.fingerprint != fingerprint:
                self._ledger.clear_stage(key)
                self._ledger.put_stage(record)
            size, checksum = checksum_file(disk.path / "zarr.json")
            self._ledger.put_file(FileRecord(f"{key}/zarr.json", key, size, checksum))
            chunks = self._ledger.chunks(key).values()
            lost = [r.chunk for r in chunks if disk.damage(r, deep=False)]
        if lost:
            _log.warning("%s: %d chunks are damaged and pending again", key, len(lost))
            self.invalidate_chunks(key, lost)
        self.refresh()
        return ChunkStage(self._ledger, key, disk, self._require_writable)

    def _open_or_create(
        self, key: str, fingerprint: str, tail: tuple[int, ...], dtype: str
    ) -> DiskArray:
        inner = self._inner_rows(key)
        spec = ArraySpec(
            (self.n_items, *tail), dtype, self.chunk_rows, inner,
            (("fingerprint", fingerprint),),
        )  # fmt: skip
        record = self._ledger.stage(key)
        if record is not None and record.fingerprint == fingerprint:
            with contextlib.suppress(StoreError):
                disk = DiskArray.open(
                    self.path, key, rows=self.n_items, dtype=dtype, inner_rows=inner
                )
                if disk.spec == spec:
                    return disk
            previous = self._ledger.file(f"{key}/zarr.json")
            if previous is not None and previous.checksum == checksum_bytes(
                spec.metadata_bytes()
            ):
                return DiskArray.create(self.path, key, spec)  # only zarr.json is bad
        # The ledger forgets first: a kill between the two costs time, not truth.
        self._ledger.delete_stage(key)
        remove_tree(self.path, self.path / key)
        return DiskArray.create(self.path, key, spec)

    def _fingerprint_of(self, upstream: str | None) -> str:
        if not upstream:
            return ""
        record = self._ledger.stage(upstream)
        if record is None:
            known = ", ".join(r.key for r in self._ledger.stages()) or "none"
            raise InputError(
                f"upstream must be the key of a stage of this project ({known}), got "
                f"{upstream!r}."
            )
        return record.fingerprint

    def invalidate_chunks(self, key: str, chunks: Iterable[int] | None = None) -> None:
        """Make chunks of a stage pending again, all of them when None is given.

        A neighbor graph or projection is then missing as a whole and must be computed
        again; so is what an encoder learned ("encoders/NAME"), which is learned again
        when it is needed. What was kept of unfinished work ("checkpoints/NAME",
        "pieces/NAME") is removed.
        """
        self._require_writable()
        if key.startswith("encoders/"):
            self._ledger.clear_stage(key)
            return
        if key.startswith(KINDS):
            kind, _, name = key.partition("/")
            self.remove_checkpoint(name, kind=kind)
            return
        record = self._ledger.stage(key)
        if record is None:
            raise InputError(f"There is no stage {key!r} in this project.")
        with self._ledger.transaction():
            if chunks is None or not _is_chunked(key):
                self._ledger.clear_stage(key)
            else:
                self._ledger.remove_chunks(key, chunks)
            self._ledger.set_sealed(key, False, record.info or {})
        self.refresh()

    def record_errors(self, rows: Mapping[int, str], stage: str) -> None:
        """Record why items failed in a stage: {item id: reason}."""
        self._require_writable()
        bad = [i for i in rows if not 0 <= i < self.n_items]
        if bad:
            raise InputError(f"There is no item {bad[0]}; there are {self.n_items}.")
        self._ledger.put_errors(stage, rows)

    # items

    def update_items(
        self,
        items: pa.Table,
        states: NDArray[np.int64],
        *,
        touched: Sequence[int] = (),
        retake: Sequence[str] = (),
        single: bool = False,
    ) -> None:
        """Take over a new list of items; see `napari_embed.project.rescan`.

        A kill leaves the old list, or the next writer finishes the change. Touched
        chunks become pending, neighbors and maps out of date; maps keep their rows and
        have NaN for new items.

        Parameters
        ----------
        items
            The known items at their rows, then the new ones.
        states
            (m, 2) size and time of their files.
        touched
            Known items whose file has changed.
        retake
            Keys of embeddings that are taken over anew as a whole.
        single
            Only the touched and the new rows become pending, see `stale_items`.
        """
        self._require_writable()
        if items.num_rows < self.n_items or states.shape != (items.num_rows, 2):
            raise InputError("A list of items can only grow, with a state for each.")
        stage_update(
            self.path, self._ledger, self.manifest, items=items, states=states,
            touched=touched, retake=retake, single=single,
        )  # fmt: skip
        finish_update(self.path, self._ledger)
        self._reread()

    def set_source(self, spec: SourceSpec) -> None:
        """Say where the items are now; what was computed from them stays."""
        self._require_writable()
        manifest = dataclasses.replace(
            self.manifest, source=spec, root_fingerprint=self.manifest.root
        )
        manifest.write(self.path)
        self._reread()

    # results

    def write_encoder_state(
        self, name: str, arrays: Mapping[str, NDArray[Any]], *, fingerprint: str = ""
    ) -> None:
        """Store what an encoder learned from this project's images."""
        self._require_writable()
        check_key(f"encoders/{name}", ("encoders/",))
        results.write_encoder_state(self.path, self._ledger, name, arrays, fingerprint)

    def write_neighbors(
        self,
        name: str,
        graph: NeighborGraph,
        *,
        fingerprint: str,
        params: Mapping[str, Any] | None = None,
        upstream: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a neighbor graph over all items, replacing one of that name.

        ``upstream`` is the key of the stage it was computed from, such as
        "embeddings/descriptor".
        """
        record = self._result_record(
            f"neighbors/{name}", graph.n, fingerprint, params, upstream, info
        )
        results.write_neighbors(self.path, self._ledger, record, graph)

    def write_projection(
        self,
        name: str,
        projection: Projection,
        *,
        fingerprint: str,
        params: Mapping[str, Any] | None = None,
        upstream: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a map of all items, replacing one of that name.

        ``upstream`` is the key of the stage it was computed from, such as
        "neighbors/descriptor"; None for an imported layout.
        """
        record = self._result_record(
            f"projections/{name}", projection.n, fingerprint, params, upstream, info
        )
        results.write_projection(self.path, self._ledger, record, projection)

    def write_checkpoint(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        *,
        fingerprint: str,
        params: Mapping[str, Any] | None = None,
        upstream: str | None = None,
        info: Mapping[str, Any] | None = None,
        kind: str = "checkpoints",
    ) -> None:
        """Keep how far the unfinished map ``name`` is, replacing what was kept.

        When this returns it survives a power cut; a kill before leaves the old one.

        Parameters
        ----------
        name
            Of the map.
        arrays
            Plain arrays, at most 512 bytes per item together.
        fingerprint
            Of all that the map depends on.
        params, upstream, info
            As for `write_projection`.
        kind
            "pieces" for the open chunk of an encoder instead of a map.
        """
        self._require_writable()
        key = f"{kind}/{name}"
        check_key(key, KINDS)
        record = StageRecord(
            key, fingerprint, upstream or "", self._fingerprint_of(upstream),
            params, info,
        )  # fmt: skip
        write_checkpoint(self.path, self._ledger, record, arrays)

    def remove_checkpoint(self, name: str, *, kind: str = "checkpoints") -> None:
        """Delete what `write_checkpoint` kept, if anything is."""
        self._require_writable()
        key = f"{kind}/{name}"
        check_key(key, KINDS)
        remove_checkpoint(self.path, self._ledger, key)

    def _result_record(
        self,
        key: str,
        n: int,
        fingerprint: str,
        params: Mapping[str, Any] | None,
        upstream: str | None,
        info: Mapping[str, Any] | None,
    ) -> StageRecord:
        self._require_writable()
        check_key(key, ("neighbors/", "projections/"))
        if n != self.n_items:
            raise InputError(f"{key} has {n} rows, the project {self.n_items} items.")
        upstream_fingerprint = self._fingerprint_of(upstream)
        return StageRecord(
            key, fingerprint, upstream or "", upstream_fingerprint, params, info
        )

    # limits

    def check_free_space(self, bytes_needed: int) -> None:
        """Raise a `StoreError` when the disk has less than ``bytes_needed`` free."""
        free = free_bytes(self.path)
        if free < bytes_needed:
            raise StoreError(
                f"{self.path} needs {bytes_needed / 2**20:,.0f} MiB of disk, "
                f"{free / 2**20:,.0f} MiB are free. Free some space and start again; "
                "nothing was changed."
            )

    def _require_writable(self) -> None:
        if self._lock is None:
            raise StoreReadOnlyError(
                f"{self.path} is open for reading only. Open it with mode='a' to "
                "change it."
            )


def _check_target(target: Path) -> None:
    if target.is_symlink() or target.exists():
        if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
            return
        raise StoreError(
            f"{target} exists already. Choose another name, or open it if it is a "
            "project; nothing was changed."
        )


def _refuse_unfinished(root: Path) -> None:
    if is_unfinished(root):
        raise StoreError(
            f"A change of the list of items in {root} is not finished. Run "
            f"`napari-embed rescan {root}` to finish it."
        )


def _is_chunked(key: str) -> bool:
    return key == THUMBNAILS or key.startswith(("embeddings/", "measures/"))


def _thumbnail_size(source: Source, items: pa.Table) -> int:
    """Return the longest side of a sample, rounded up to 4 pixels, 4 to 64."""
    if not source.has_images:
        return _MAX_THUMBNAIL_PX
    rows = np.unique(np.linspace(0, items.num_rows - 1, _SAMPLE_ITEMS).astype(np.int64))
    sides = [
        max(item.image.shape[:2])
        for item in source.read(items.take(pa.array(rows)))
        if item.image is not None
    ]
    longest = max(sides, default=_MAX_THUMBNAIL_PX)
    return int(min(_MAX_THUMBNAIL_PX, max(4, -(-longest // 4) * 4)))
