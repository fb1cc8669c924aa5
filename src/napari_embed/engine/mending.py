"""Rows of finished chunks done again: an object was edited, its neighbors were not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_embed.engine.progress import JobControl
from napari_embed.sources.images import letterbox
from napari_embed.sources.objects.crops import as_rgb

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import ChunkStage, Project
    from napari_embed.sources.spec import ImageReader

__all__ = ["mend_rows", "stale_chunks"]


def stale_chunks(project: Project, *stages: ChunkStage) -> list[int]:
    """Return the chunks in which only single rows of some stages are to be done again.

    Where a chunk is pending as a whole in one stage, it becomes so in the others.
    """
    whole = {chunk for stage in stages for chunk in stage.pending()}
    single: set[int] = set()
    for stage in stages:
        ids = project.stale_items(stage.key)
        chunks = set(np.unique(ids // project.chunk_rows).tolist())
        stage.reopen(chunks & whole)
        single |= chunks - whole
    return sorted(single)


def mend_rows(
    project: Project,
    source: ImageReader,
    encoder: Encoder,
    vectors: ChunkStage,
    thumbnails: ChunkStage,
    control: JobControl,
    *,
    chunks: list[int],
    shrink_to: int,
) -> int:
    """Compute the stale rows of ``chunks`` (see `stale_chunks`); return how many.

    Each chunk is on disk before the next begins; a kill makes one pending as a whole.

    Raises
    ------
    JobCancelled
        If the user asked to stop; the other rows stay stale.
    """
    stale = np.union1d(
        project.stale_items(vectors.key), project.stale_items(thumbnails.key)
    )
    stale = stale[np.isin(stale // project.chunk_rows, chunks)]
    failed = {int(i): str(why) for i, stage, why in zip(
        *(project.errors()[name].to_pylist() for name in ("id", "stage", "reason")),
        strict=True,
    ) if stage == vectors.key}  # fmt: skip
    done = 0
    for chunk in chunks:
        control.check()
        control.progress("images", done, stale.size, unit="images")
        rows = vectors.rows(chunk)
        ids = stale[(stale >= rows.start) & (stale < rows.stop)]
        read = list(source.read(project.items(rows=ids), shrink_to=shrink_to))
        block, small = vectors.array[rows], thumbnails.array[rows]
        block[ids - rows.start], small[ids - rows.start] = np.nan, 0
        errors = {
            i: why for i, why in failed.items()
            if rows.start <= i < rows.stop and i not in ids
        }  # fmt: skip
        good = []
        for item, (image, reason) in zip(ids.tolist(), read, strict=True):
            if image is None:
                errors[item] = reason or "The image could not be read."
            else:
                good.append((item, image))
                small[item - rows.start] = letterbox(as_rgb(image), small.shape[1])
        if good:
            at = [item - rows.start for item, _ in good]
            block[at] = encoder.encode([image for _, image in good])
            for row, reason in encoder.failures.items():
                errors[good[row][0]] = reason
        vectors.write(chunk, block, errors=errors)
        if not thumbnails.sealed:  # another encoder made them already
            thumbnails.write(chunk, small)
        done += ids.size
        control.progress("images", done, stale.size, unit="images")
    return int(stale.size)
