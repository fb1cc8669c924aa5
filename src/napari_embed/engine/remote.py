"""One chunk on any machine that sees the project's folder.

The same function serves the workers of a Dask cluster and the shards of a job array. It
reads the items, decodes and encodes them in the same pieces as a run on one machine,
and writes the chunk as a whole: the bytes are the same. Files of images are decoded in
processes of their own, so a bad one costs that image and no worker. The ledger stays
with the process that drives.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.chunks import ChunkAnswer, ChunkWork, encode_piece
from napari_embed.engine.decoders import pooled
from napari_embed.engine.decoding import decode_ahead
from napari_embed.engine.loading import for_channels, load
from napari_embed.engine.progress import JobControl
from napari_embed.engine.protocol import describe_error
from napari_embed.errors import ModelError
from napari_embed.params import EmbedParams
from napari_embed.project.shared import ChunkTarget, SharedProject, StateFile
from napari_embed.sources import SourceSpec, open_source

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.sources.spec import ImageReader

__all__ = [
    "ChunkJob",
    "Failure",
    "do_chunk",
    "guarded",
    "keep_encoder",
    "look",
    "put_away",
]


@dataclass(frozen=True)
class ChunkJob:
    """What a machine has to know of a run; plain values.

    Attributes
    ----------
    project
        Folder, the same on all machines.
    items_checksum
        Of the items, so that all mean the same project.
    source, params
        Where images come from and what encodes them, as dictionaries.
    encoder
        Fingerprint that the encoder must have.
    state
        What it learned, or None.
    detail
        Pixels on the shorter side that it can make use of.
    vectors, thumbnails
        Where results go.
    decoders
        Processes that decode for one worker.
    """

    project: str
    items_checksum: str
    source: dict[str, Any]
    params: dict[str, Any]
    encoder: str
    state: StateFile | None
    detail: int
    vectors: ChunkTarget
    thumbnails: ChunkTarget
    decoders: int = 2


@dataclass(frozen=True)
class Failure:
    """What a task failed with, as `describe_error` gives it."""

    kind: str
    message: str


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or a `Failure`.

    An exception of a foreign library may not survive the way between two processes;
    the driver would wait for it for ever.
    """
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001  process boundary, told to the driver
        told = describe_error(error)
        where = f" (worker on {socket.gethostname()})"
        return Failure(told["kind"], told["message"] + where)


class _Tools:
    """What a process needs for the chunks of one job; made once."""

    def __init__(
        self,
        job: ChunkJob,
        encoder: Encoder | None = None,
        reader: ImageReader | None = None,
    ) -> None:
        self.project = SharedProject(Path(job.project), job.items_checksum)
        source = open_source(SourceSpec.from_dict(job.source))
        params = EmbedParams.from_dict(job.params)
        self.encoder = encoder or for_channels(load(params, JobControl()), source)
        # An encoder keeps what failed in its latest batch, so one thread at a time.
        self.mutex = threading.Lock()
        if self.encoder.fingerprint != job.encoder:
            raise ModelError(
                f"The encoder {params.encoder} is not the same on all machines "
                f"(fingerprints {job.encoder} and {self.encoder.fingerprint}). Install "
                "the same versions and use the same weights everywhere."
            )
        if job.state is not None and encoder is None:
            self.encoder.load_state(self.project.encoder_state(job.state))
        opened = ExitStack()
        self.reader = reader or opened.enter_context(
            pooled(source, processes=job.decoders)
        )
        # Not before the last chunk that uses them is done.
        weakref.finalize(self, opened.close)


_MUTEX = threading.Lock()
_LATEST: list[tuple[ChunkJob, _Tools]] = []


def _tools(job: ChunkJob) -> _Tools:
    """Return the tools of a job; those of the latest one are kept."""
    with _MUTEX:
        if not _LATEST or _LATEST[0][0] != job:
            _LATEST.clear()
            _LATEST.append((job, _Tools(job)))
        return _LATEST[0][1]


def keep_encoder(job: ChunkJob, encoder: Encoder, reader: ImageReader) -> None:
    """Let this process use for a job an encoder that has learned, and a reader."""
    with _MUTEX:
        _LATEST[:] = [(job, _Tools(job, encoder, reader))]


def put_away(job: ChunkJob) -> None:
    """Forget a job that is done, its encoder and its decoder processes."""
    if not _MUTEX.acquire(blocking=False):  # another job is taking its place
        return
    try:
        if _LATEST and _LATEST[0][0] == job:
            _LATEST.clear()
    finally:
        _MUTEX.release()


def do_chunk(job: ChunkJob, work: ChunkWork) -> ChunkAnswer:
    """Decode, encode and write one chunk.

    Raises
    ------
    StoreError
        If this machine does not see the project or cannot write to it.
    ModelError
        If its encoder is another one.
    """
    tools = _tools(job)
    blocks: list[NDArray[np.float32]] = []
    small: list[NDArray[np.uint8]] = []
    errors: dict[int, str] = {}
    encoded = 0
    size = tools.project.manifest.thumbnail_px if work.show else 0
    chunk = (work.number, slice(work.start, work.stop), size)
    pieces = decode_ahead(tools.project, tools.reader, [chunk], shrink_to=job.detail)
    for piece in pieces:
        if work.encode:
            with tools.mutex:
                blocks.append(encode_piece(tools.encoder, piece))
            encoded += sum(image is not None for image in piece.images)
        if piece.thumbnails is not None:
            small.append(piece.thumbnails)
        errors |= piece.errors
    shown = vectors = None
    if small:
        values = np.concatenate(small)
        shown = tools.project.write(job.thumbnails, work.number, values)
    if blocks:
        values = np.concatenate(blocks)
        vectors = tools.project.write(job.vectors, work.number, values)
    return ChunkAnswer(work, vectors, shown, errors, encoded)


def look(job: ChunkJob) -> None:
    """Raise what keeps this machine from working on a job, as far as a look tells."""
    SharedProject(Path(job.project), job.items_checksum)
    open_source(SourceSpec.from_dict(job.source))
