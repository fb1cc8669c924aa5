"""Fill a project with vectors: encode its images, or import vectors that exist."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Projection
from napari_embed.engine.chunks import ChunkRunner
from napari_embed.engine.cluster import chunks_on_cluster, connect
from napari_embed.engine.decoders import contained
from napari_embed.engine.learning import Sample, fit, nothing_readable
from napari_embed.engine.loading import for_channels, load, useful_px
from napari_embed.engine.mending import mend_rows, stale_chunks
from napari_embed.engine.pieces import KIND
from napari_embed.engine.progress import JobControl
from napari_embed.engine.remote import ChunkJob
from napari_embed.engine.result import StageResult
from napari_embed.errors import InputError, StoreError
from napari_embed.params import EmbedParams, fingerprint
from napari_embed.project.handover import clear_handovers, read_handovers

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import ChunkStage, Project
    from napari_embed.sources import Source
    from napari_embed.sources.spec import ImageReader

__all__ = [
    "OWN_VECTORS",
    "EmbedRun",
    "begin",
    "chunk_job",
    "embed_images",
    "embeddings_name",
    "finish",
    "import_positions",
    "import_vectors",
    "make_thumbnails",
    "prepare",
]

logger = logging.getLogger(__name__)

OWN_VECTORS = "vectors"
"""Name of the embeddings that came with the items."""

# A change of what the code below computes raises its number.
EMBED_VERSION = 1
THUMBNAIL_VERSION = 1
IMPORT_VERSION = 1


def embeddings_name(encoder: str) -> str:
    """Return the name under which an encoder's vectors are stored."""
    return encoder.replace("/", "-").replace(":", "-")


def _items_fingerprint(project: Project) -> str:
    return project.manifest.root


def _thumbnail_stage(project: Project) -> ChunkStage:
    shape = project.thumbnail_shape
    return project.begin_stage(
        "thumbnails",
        fingerprint=fingerprint(
            "thumbnails", THUMBNAIL_VERSION, _items_fingerprint(project), list(shape)
        ),
        shape_tail=shape,
        dtype=np.uint8,
        params={"size": shape[0]},
    )


def make_thumbnails(
    project: Project, control: JobControl, *, note_unread: bool
) -> None:
    """Make the thumbnails that are missing, without encoding anything."""
    stage = _thumbnail_stage(project)
    with contained(project.source(), project.n_items, project.path) as reader:
        runner = ChunkRunner(project, reader, thumbnails=stage, note_unread=note_unread)
        runner.run(control)
        runner.seal({})


def _failed_ids(project: Project, key: str) -> NDArray[np.int64]:
    table = project.errors()
    member = np.asarray(table["stage"].to_pylist()) == key
    return np.asarray(table["id"])[member] if member.size else np.zeros(0, np.int64)


def _retry(project: Project, key: str) -> int:
    """Make the chunks of failed items pending again; return how many items failed."""
    failed = _failed_ids(project, key)
    chunks = np.unique(failed // project.chunk_rows).tolist()
    for stage in (key, "thumbnails"):
        if chunks and project.stage_info(stage).state != "missing":
            project.invalidate_chunks(stage, chunks)
    return int(failed.size)


def _retry_of(project: Project, key: str, print_: str) -> None:
    """Make failed items of one encoder pending again, those of an open chunk too."""
    project.remove_checkpoint(key.removeprefix("embeddings/"), kind=KIND)
    if project.stage_info(key).fingerprint == print_:
        _retry(project, key)


@dataclass(frozen=True)
class EmbedRun:
    """What a run of an encoder over a project needs.

    Attributes
    ----------
    params, source, encoder
        The settings; where images come from; what turns them into vectors.
    name, fingerprint
        Of the embeddings.
    detail
        Pixels on the shorter side that the encoder can make use of.
    sample
        What the encoder learns from, if it has to.
    """

    params: EmbedParams
    source: Source
    encoder: Encoder
    name: str
    fingerprint: str
    detail: int
    sample: Sample

    def n_left(self, project: Project) -> int:
        """Return how many images have no vector yet."""
        stage = project.stage_info(f"embeddings/{self.name}")
        if stage.fingerprint != self.fingerprint:
            return project.n_items
        return max(0, project.n_items - stage.chunks_done * project.chunk_rows)


def prepare(
    project: Project,
    params: EmbedParams,
    control: JobControl,
    *,
    encoder: Encoder | None = None,
) -> EmbedRun:
    """Open the source and load the encoder, unless one is given; writes nothing."""
    source = project.source()
    if encoder is not None:
        params = replace(params, encoder=encoder.name)
    encoder = for_channels(encoder or load(params, control), source)
    print_ = fingerprint(
        "embeddings", EMBED_VERSION, _items_fingerprint(project), encoder.fingerprint
    )
    detail = useful_px(params.encoder)
    sample = Sample(project, source, params.random_state, detail)
    name = embeddings_name(params.encoder)
    return EmbedRun(params, source, encoder, name, print_, detail, sample)


def embed_images(
    project: Project,
    params: EmbedParams,
    control: JobControl,
    *,
    retry_failed: bool = False,
    encoder: Encoder | None = None,
    scheduler: str | None = None,
) -> StageResult:
    """Encode every image and make its thumbnail; go on where a run was interrupted.

    Parameters
    ----------
    project
        Open for writing.
    params
        Encoder and its settings.
    control
        Progress out, cancel and pause in.
    retry_failed
        Try images again that could not be read before.
    encoder
        One that is loaded already; ``params`` then names no encoder.
    scheduler
        Address of a Dask scheduler whose workers do it, such as
        "tcp://10.0.0.5:8786"; they need the same packages and see the same folders.

    Raises
    ------
    InputError
        If no image at all can be read, or no scheduler answers.
    ComputeError
        If the scheduler or its workers are lost; finished chunks are kept.
    JobCancelled
        If the user asked to stop; finished chunks are kept.
    """
    started = time.monotonic()
    if scheduler and encoder is not None:
        raise InputError(
            "A cluster loads encoders by name; an encoder object works on this "
            "computer only. Name one, or leave out the scheduler."
        )
    run = prepare(project, params, control, encoder=encoder)
    with (
        connect(scheduler) if scheduler else nullcontext() as client,
        contained(run.source, project.n_items, project.path) as reader,
    ):
        runner, mended = begin(project, run, reader, control, retry_failed=retry_failed)
        todo, begun = runner.works(), time.monotonic()
        if todo and client is not None:
            job = chunk_job(project, run)
            chunks_on_cluster(client, job, todo, control, runner.accept)
        elif todo:
            runner.run(control)
    seconds = max(time.monotonic() - begun, 1e-3)
    info = finish(project, run, runner)
    return StageResult(
        "embed",
        run.name,
        computed=bool(todo or mended),
        n_items=project.n_items,
        n_failed=info["n_failed"],
        n_done_now=runner.encoded + mended,
        seconds=time.monotonic() - started,
        info=info | {"rate": runner.encoded / seconds or None},
    )


def begin(
    project: Project,
    run: EmbedRun,
    reader: ImageReader,
    control: JobControl,
    *,
    retry_failed: bool = False,
) -> tuple[ChunkRunner, int]:
    """Begin both stages, or go on with them, up to the chunks that are to be done.

    The encoder learns what it has to, single rows of finished chunks are done again,
    and what shards have written is entered. Returns what does the chunks, and how many
    single rows were done.
    """
    key, encoder = f"embeddings/{run.name}", run.encoder
    if retry_failed:
        _retry_of(project, key, run.fingerprint)
    thumbnails = _thumbnail_stage(project)
    vectors = project.begin_stage(
        key,
        fingerprint=run.fingerprint,
        shape_tail=(encoder.dim,),
        dtype=np.float32,
        params=run.params.to_dict(),
        info=_info(run),
    )
    again = stale_chunks(project, vectors, thumbnails)
    runner = ChunkRunner(
        project, reader, thumbnails=thumbnails, encoder=encoder, vectors=vectors,
        shrink_to=run.detail,
    )  # fmt: skip
    _check_space(project, len(runner.pending()) + len(again), encoder.dim)
    if (again or runner.has_to_encode) and encoder.needs_fit:
        sample = replace(run.sample, source=reader)
        fit(project, sample, encoder, control, name=run.name, made_of=run.fingerprint)
    mended = 0
    if again:
        mended = mend_rows(
            project, reader, encoder, vectors, thumbnails, control,
            chunks=again, shrink_to=run.detail,
        )  # fmt: skip
    _take_handovers(project, run, runner)
    return runner, mended


def _take_handovers(project: Project, run: EmbedRun, runner: ChunkRunner) -> None:
    """Enter the chunks that shards have written; what is not as told is left to do."""
    for done in read_handovers(project.path, run.name, run.fingerprint):
        try:
            runner.enter(done)
        except (InputError, StoreError) as error:
            logger.warning("A chunk of a shard is computed again: %s", error)
    clear_handovers(project.path, run.name)


def finish(project: Project, run: EmbedRun, runner: ChunkRunner) -> dict[str, Any]:
    """Seal both stages and return what is kept with the vectors."""
    key = f"embeddings/{run.name}"
    info = _info(run)
    info["n_failed"] = _count_failed(project, key, runner.first_errors)
    runner.seal(info)
    return info


def _info(run: EmbedRun) -> dict[str, Any]:
    return {
        "encoder": run.params.encoder,
        "dim": run.encoder.dim,
        "metric": run.encoder.metric,
    }


def chunk_job(project: Project, run: EmbedRun) -> ChunkJob:
    """Return what other machines have to know of a run that has begun."""
    return ChunkJob(
        project=str(project.path),
        items_checksum=project.manifest.items_checksum,
        source=run.source.spec.to_dict(),
        params=run.params.to_dict(),
        encoder=run.encoder.fingerprint,
        state=project.encoder_state_file(run.name) if run.encoder.needs_fit else None,
        detail=run.detail,
        vectors=project.chunk_target(f"embeddings/{run.name}"),
        thumbnails=project.chunk_target("thumbnails"),
    )


def _check_space(project: Project, chunks: int, dim: int) -> None:
    """Refuse to begin what the disk cannot hold (thumbnails at a third, packed)."""
    side = project.thumbnail_shape[0]
    project.check_free_space(chunks * project.chunk_rows * (4 * dim + side * side))


def _count_failed(project: Project, key: str, reasons: list[str]) -> int:
    """Return how many items have no vector.

    Raises
    ------
    InputError
        If none has one. The chunks count as not done then, so that the next run tries
        the images again.
    """
    failed = int(_failed_ids(project, key).size)
    if failed == project.n_items:
        project.invalidate_chunks(key)
        project.invalidate_chunks("thumbnails")
        raise nothing_readable(project.n_items, reasons)
    return failed


def import_vectors(
    project: Project, control: JobControl, *, retry_failed: bool = False
) -> StageResult:
    """Store the vectors that came with the items as embeddings "vectors".

    Rows with NaN or Inf are recorded as errors and left out of everything;
    ``retry_failed`` reads them, and images that could not be read, again.

    Raises
    ------
    InputError
        If the source has no (n, d) vectors, or none of them is finite.
    """
    started = time.monotonic()
    source = project.source()
    vectors, dim = _vectors_of(project, source)
    key = f"embeddings/{OWN_VECTORS}"
    if retry_failed:
        for failing in (key, "thumbnails"):
            _retry(project, failing)
    stage = project.begin_stage(
        key,
        fingerprint=fingerprint(
            "import", IMPORT_VERSION, _items_fingerprint(project), dim
        ),
        shape_tail=(dim,),
        dtype=np.float32,
        params={"encoder": OWN_VECTORS},
    )
    todo = stage.pending()
    project.check_free_space(len(todo) * project.chunk_rows * 4 * dim)
    sizes = [stage.rows(chunk).stop - stage.rows(chunk).start for chunk in todo]
    done = project.n_items - sum(sizes)
    for chunk, size in zip(todo, sizes, strict=True):
        rows = stage.rows(chunk)
        values, errors = _finite_rows(vectors[rows], rows.start)
        stage.write(chunk, values, errors=errors)
        done += size
        control.progress("vectors", done, project.n_items, unit="rows")
    failed = int(_failed_ids(project, key).size)
    if failed == project.n_items:
        project.invalidate_chunks(key)
        raise InputError(
            f"None of the {failed:,} vectors in {project.spec.path} is finite; every "
            "row holds NaN or Inf."
        )
    info = {"dim": dim, "metric": "euclidean", "n_failed": failed}
    if not stage.sealed:
        stage.seal(info)
    if project.has_images:
        make_thumbnails(project, control, note_unread=True)
    return StageResult(
        "embed",
        OWN_VECTORS,
        computed=bool(todo),
        n_items=project.n_items,
        n_failed=failed,
        n_done_now=sum(sizes),
        seconds=time.monotonic() - started,
        info=info,
    )


def _vectors_of(project: Project, source: Source) -> tuple[Any, int]:
    """Return the source's vectors, which can be sliced by rows, and their length."""
    vectors = source.vectors()
    if vectors is None:
        what = "no vectors; choose an encoder, its images can be embedded"
        if not project.has_images:
            what = (
                "neither vectors nor images, so there is nothing to embed; positions "
                "that came with it are a map already: napari-embed view "
                f"{project.path}"
            )
        raise InputError(f"{project.spec.path} holds {what}.")
    shape = tuple(vectors.shape)
    if len(shape) != 2 or shape[0] != project.n_items or shape[1] < 1:
        raise InputError(
            f"Vectors of shape ({project.n_items}, d) were expected, one row per item; "
            f"{project.spec.path} has {shape}."
        )
    return vectors, int(shape[1])


def _finite_rows(
    block: NDArray[Any], first: int
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return float32 rows, NaN where a row is not finite, and why per item id."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(block, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    values[bad] = np.nan
    reason = "The vector holds NaN or Inf, or a number too large for 32 bits."
    return values, {first + int(i): reason for i in bad}


def import_positions(project: Project) -> str | None:
    """Store the positions that came with the items; return the projection's name."""
    positions = project.source().positions()
    if positions is None:
        return None
    values = np.array(positions, dtype=np.float32)
    if values.shape[0] != project.n_items or values.shape[1:] not in ((2,), (3,)):
        raise InputError(
            f"Positions of shape ({project.n_items}, 2 or 3) were expected, got "
            f"{values.shape}."
        )
    values[~np.isfinite(values).all(axis=1)] = np.nan
    name = f"given-{values.shape[1]}d"
    scans = [project.manifest.scans] if project.manifest.scans else []
    print_ = fingerprint("given", IMPORT_VERSION, _items_fingerprint(project), *scans)
    stored = project.stage_info(f"projections/{name}")
    if stored.fingerprint != print_ or stored.state != "sealed":
        info = {"n_components": int(values.shape[1]), "method": "given"}
        project.write_projection(
            name, Projection(values, info=info), fingerprint=print_, info=info
        )
    return name
