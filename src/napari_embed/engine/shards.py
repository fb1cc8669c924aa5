"""Embedding as an array of jobs without a common scheduler: each does every n-th chunk.

The first process that gets the writer's lock begins the stages and teaches the encoder;
the others wait for that. All work without the lock and leave for each chunk a note of
what they wrote. At the end each enters the notes that are there; the last one finishes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_embed.engine import embedding
from napari_embed.engine.chunks import ChunkWork
from napari_embed.engine.decoders import pooled
from napari_embed.engine.progress import JobControl
from napari_embed.engine.remote import do_chunk, keep_encoder, put_away
from napari_embed.engine.result import StageResult
from napari_embed.errors import InputError, StoreLockedError
from napari_embed.project import Project
from napari_embed.project.handover import Handover, read_handovers, write_handover

if TYPE_CHECKING:
    from napari_embed.engine.embedding import EmbedRun
    from napari_embed.params import EmbedParams
    from napari_embed.sources.spec import ImageReader

__all__ = ["Shard", "embed_shard"]

POLL_S = 0.2
THUMBNAILS = "thumbnails"


@dataclass(frozen=True)
class Shard:
    """One of several equal jobs: ``number`` 1 to ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "3/10".

        Raises
        ------
        InputError
            If it is anything else.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(
                f"A shard is I/N with I from 1 to N, such as 3/10, not {text!r}."
            )
        return cls(int(found[1]), int(found[2]))


def embed_shard(
    path: str | Path, params: EmbedParams, shard: Shard, control: JobControl
) -> StageResult:
    """Do one shard's chunks of a project; finish the embeddings if it is the last.

    Raises
    ------
    InputError
        If the project has no images.
    JobCancelled
        If the user asked to stop; finished chunks are kept.
    """
    started = time.monotonic()
    with Project.open(path) as project:
        if not project.has_images:
            raise InputError(f"{project.path} has no images to be shared out.")
        run = embedding.prepare(project, params, control)
        with pooled(run.source) as reader:
            _begun(project, run, reader, control)
            encoded = _do(project, run, reader, shard, control)
            info = _enter(project, run, reader, control)
        return StageResult(
            "embed", run.name, computed=encoded > 0, n_items=project.n_items,
            n_failed=int(info.get("n_failed") or 0), n_done_now=encoded,
            seconds=time.monotonic() - started, info=info,
        )  # fmt: skip


def _begun(
    project: Project, run: EmbedRun, reader: ImageReader, control: JobControl
) -> None:
    """Return when the stages have begun and the encoder has learned."""
    while not _is_begun(project, run):
        try:
            with Project.open(project.path, mode="a") as writer:
                embedding.begin(writer, run, reader, control)
        except StoreLockedError:
            control.progress("waiting", 0, 1, message="for the shard that begins")
            time.sleep(POLL_S)
        project.refresh()
    state = project.read_encoder_state(run.name, fingerprint=run.fingerprint)
    if run.encoder.needs_fit and state is not None:
        run.encoder.load_state(state)


def _is_begun(project: Project, run: EmbedRun) -> bool:
    project.refresh()
    if project.stage_info(f"embeddings/{run.name}").fingerprint != run.fingerprint:
        return False
    if project.stage_info(THUMBNAILS).state == "missing":
        return False
    file = project.read_encoder_state(run.name, fingerprint=run.fingerprint)
    return file is not None or not run.encoder.needs_fit


def _do(
    project: Project,
    run: EmbedRun,
    reader: ImageReader,
    shard: Shard,
    control: JobControl,
) -> int:
    """Write the shard's chunks and return how many images were encoded."""
    job = embedding.chunk_job(project, run)
    keep_encoder(job, run.encoder, reader)
    works = list(_works(project, run, shard))
    total = sum(work.stop - work.start for work in works)
    done = encoded = 0
    control.progress("images", 0, total, unit="images")
    try:
        for work in works:
            answer = do_chunk(job, work)
            write_handover(
                project.path, run.name, run.fingerprint,
                Handover(work.number, answer.vectors, answer.thumbnails, answer.errors),
            )  # fmt: skip
            done += work.stop - work.start
            encoded += answer.encoded
            control.progress("images", done, total, unit="images")
    finally:
        put_away(job)
    return encoded


def _works(project: Project, run: EmbedRun, shard: Shard) -> Iterator[ChunkWork]:
    """Yield the shard's chunks that nobody has done."""
    noted = {
        note.chunk for note in read_handovers(project.path, run.name, run.fingerprint)
    }
    encoded = project.chunks_done(f"embeddings/{run.name}")
    shown = project.chunks_done(THUMBNAILS)
    # Where one of the two is pending as a whole, stale rows make the other so, too.
    old_vectors = _stale(project, f"embeddings/{run.name}")
    old_thumbnails = _stale(project, THUMBNAILS)
    for chunk in range(shard.number - 1, project.n_chunks, shard.count):
        start = chunk * project.chunk_rows
        encode, show = chunk not in encoded, chunk not in shown
        if chunk not in noted and (encode or show):
            yield ChunkWork(
                chunk, start, min(project.n_items, start + project.chunk_rows),
                encode=encode or chunk in old_vectors,
                show=show or chunk in old_thumbnails,
            )  # fmt: skip


def _stale(project: Project, key: str) -> set[int]:
    """Return the chunks of a stage that have rows of what items were before."""
    return set((project.stale_items(key) // project.chunk_rows).tolist())


def _enter(
    project: Project, run: EmbedRun, reader: ImageReader, control: JobControl
) -> dict[str, Any]:
    """Enter what all shards have written so far; finish when that is everything."""
    while True:
        try:
            with Project.open(project.path, mode="a") as writer:
                runner, _ = embedding.begin(writer, run, reader, control)
                left = len(runner.pending())
                if not left:
                    return embedding.finish(writer, run, runner)
                return {"dim": run.encoder.dim, "chunks_left": left}
        except StoreLockedError:
            control.progress("waiting", 0, 1, message="for another shard to finish")
            time.sleep(POLL_S)
