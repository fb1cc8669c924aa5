"""Measure every image once: a hash of its content, and what tells its quality.

Chunk by chunk, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.problems.quality import QUALITY_COLUMNS, measure_image
from napari_embed.engine.progress import JobControl
from napari_embed.engine.result import StageResult
from napari_embed.errors import InputError
from napari_embed.params import fingerprint
from napari_embed.sources.content import DIGEST_BYTES, content_digest, read_content

if TYPE_CHECKING:
    from napari_embed.project import ChunkStage, Project

__all__ = ["run_inspect"]

# A change of what the code below computes raises its number.
INSPECT_VERSION = 1

CONTENT, QUALITY = "measures/content", "measures/quality"
_CHECK_EVERY = 32


def run_inspect(
    project: Project, control: JobControl, *, again: bool = False
) -> StageResult:
    """Measure what is not measured yet.

    The stages "measures/content", (n, 16) uint8 hashes, zeros where a file cannot be
    read; and "measures/quality", (n, 9) float32, see ``QUALITY_COLUMNS``, NaN where an
    image cannot be decoded. Vectors without images are hashed, too.

    Parameters
    ----------
    project
        Open for writing.
    control
        Progress out, cancel and pause in.
    again
        Measure everything anew: files may have changed.

    Raises
    ------
    InputError
        If the project has neither images nor vectors.
    JobCancelled
        If the user asked to stop; finished chunks are kept.
    """
    started = time.monotonic()
    source = project.source()
    vectors = None if project.has_images else source.vectors()
    if vectors is None and not project.has_images:
        raise InputError(
            f"{project.path} has positions only, so there is nothing to measure."
        )
    content, quality = _begin(project, CONTENT, DIGEST_BYTES, "uint8"), None
    quality = _begin(project, QUALITY, len(QUALITY_COLUMNS), "float32")
    if again:
        for key in (CONTENT, QUALITY):
            project.invalidate_chunks(key)
        content = _begin(project, CONTENT, DIGEST_BYTES, "uint8")
        quality = _begin(project, QUALITY, len(QUALITY_COLUMNS), "float32")
    todo = sorted(set(content.pending()) | set(quality.pending()))
    done_now = 0
    for chunk in todo:
        rows = content.rows(chunk)
        if vectors is None:
            hashes, values = _images(project, source, rows, control)
        else:
            hashes, values = _of_vectors(vectors[rows])
        for stage, block in ((content, hashes), (quality, values)):
            if not stage.sealed:
                stage.write(chunk, block)
        done_now += rows.stop - rows.start
        control.progress("measuring", rows.stop, project.n_items, unit="images")
    for stage in (content, quality):
        if not stage.sealed:
            stage.seal({})
    failed = _unread(project)
    return StageResult(
        "inspect",
        "measures",
        computed=bool(todo),
        n_items=project.n_items,
        n_failed=failed,
        n_done_now=done_now,
        seconds=time.monotonic() - started,
    )


def _begin(project: Project, key: str, width: int, dtype: str) -> ChunkStage:
    return project.begin_stage(
        key,
        fingerprint=fingerprint(key, INSPECT_VERSION, project.manifest.root),
        shape_tail=(width,),
        dtype=dtype,
    )


def _images(
    project: Project, source: Any, rows: slice, control: JobControl
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return hashes and measures of one chunk of images."""
    n = rows.stop - rows.start
    hashes = np.zeros((n, DIGEST_BYTES), np.uint8)
    values = np.full((n, len(QUALITY_COLUMNS)), np.nan, np.float32)
    items = project.items(["source"], rows=rows)
    for i, content in enumerate(read_content(source, items, measure_image)):
        if content.digest is not None:
            hashes[i] = np.frombuffer(content.digest, np.uint8)
            values[i, 2] = content.n_bytes
        if content.measured is not None:
            values[i, :2] = content.height, content.width
            values[i, 3:] = content.measured
        if i % _CHECK_EVERY == 0:
            control.progress(
                "measuring", rows.start + i, project.n_items, unit="images"
            )
    return hashes, values


def _of_vectors(
    block: NDArray[Any],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return hashes of vectors; there is no picture to measure."""
    values = np.ascontiguousarray(block, dtype=np.float32)
    hashes = [content_digest(row.tobytes()) for row in values]
    stacked = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(values), -1)
    empty = np.full((len(values), len(QUALITY_COLUMNS)), np.nan, np.float32)
    return stacked, empty


def _unread(project: Project) -> int:
    """Return how many images could not be decoded."""
    if not project.has_images:
        return 0
    brightness = QUALITY_COLUMNS.index("brightness")
    blocks = project.measures("quality").blocks()
    return sum(int(np.isnan(block[:, brightness]).sum()) for _, block in blocks)
