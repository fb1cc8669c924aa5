"""From images to chunks of vectors and thumbnails, decoding ahead of the encoder.

A chunk is the unit of work and of a resume: its images are decoded in order by a
thread, handed over in small pieces, encoded, and written as a whole. Pieces do not
depend on where a run was interrupted, so a resumed run gives the same bytes; those of a
chunk that was left in the middle are kept beside it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.bottleneck import Stopwatch
from napari_embed.engine.pieces import KeptPieces
from napari_embed.engine.progress import JobControl, ProgressCallback
from napari_embed.errors import JobCancelled
from napari_embed.sources.images import letterbox
from napari_embed.sources.objects.crops import as_rgb
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import ChunkStage, Project
    from napari_embed.sources import Source

__all__ = ["ChunkRunner", "decode_ahead"]

# Images per piece: enough for a forward pass, few enough to answer Cancel soon.
PIECE_IMAGES = 128
# Pieces decoded ahead; with images of 512 x 512 about 100 MiB each.
PIECES_AHEAD = 2


@dataclass(frozen=True)
class Piece:
    """Some consecutive items of one chunk, decoded.

    Attributes
    ----------
    chunk
        Number of the chunk.
    ids
        Item ids.
    images
        One uint8 (h, w, 3) image per id, None where it could not be read.
    thumbnails
        uint8 (m, s, s, 3), zeros where there is no image; None when not wanted.
    errors
        {item id: reason} of the images that could not be read.
    last
        Whether the chunk ends with this piece.
    """

    chunk: int
    ids: range
    images: list[NDArray[np.uint8] | None]
    thumbnails: NDArray[np.uint8] | None
    errors: dict[int, str]
    last: bool


def _decode_chunk(
    project: Project,
    source: Source,
    chunk: int,
    rows: slice,
    thumbnail_px: int,
    shrink_to: int,
) -> Iterator[Piece]:
    """Decode one chunk, piece by piece; ``thumbnail_px`` 0 makes no thumbnails."""
    items = source.read(project.items(rows=rows), shrink_to=shrink_to)
    images: list[NDArray[np.uint8] | None] = []
    errors: dict[int, str] = {}
    first = rows.start
    for index, (image, reason) in enumerate(items):
        number = rows.start + index
        images.append(image)
        if image is None:
            errors[number] = reason or "The image could not be read."
        last = number + 1 == rows.stop
        if len(images) == PIECE_IMAGES or last:
            small = None
            if thumbnail_px:
                small = np.zeros((len(images), thumbnail_px, thumbnail_px, 3), np.uint8)
                for i, picture in enumerate(images):
                    if picture is not None:
                        small[i] = letterbox(as_rgb(picture), thumbnail_px)
            ids = range(first, number + 1)
            yield Piece(chunk, ids, images, small, errors, last)
            images, errors, first = [], {}, number + 1


@dataclass
class _Feed:
    """The thread that decodes, and the queue between it and the encoder."""

    pieces: queue.Queue[Piece | BaseException | None] = field(
        default_factory=lambda: queue.Queue(PIECES_AHEAD)
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    def put(self, item: Piece | BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self.pieces.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def fill(self, pieces: Iterator[Piece]) -> None:
        try:
            for piece in pieces:
                self.put(piece)
                if self.stopped.is_set():
                    return
            self.put(None)
        except BaseException as error:  # noqa: BLE001  thread boundary: raised there
            self.put(error)


def decode_ahead(
    project: Project,
    source: Source,
    chunks: Sequence[tuple[int, slice, int]],
    *,
    shrink_to: int = DEFAULT_SHRINK_TO_PX,
) -> Iterator[Piece]:
    """Yield the pieces of ``chunks`` (number, rows, thumbnail size) in order.

    Large images may be reduced while decoding, to no less than ``shrink_to`` pixels on
    the shorter side.

    Decoding runs on a thread, ahead of whoever takes the pieces; what it raises is
    raised here. Leaving the loop early ends the thread.
    """
    feed = _Feed()
    pieces = (
        piece
        for chunk, rows, size in chunks
        for piece in _decode_chunk(project, source, chunk, rows, size, shrink_to)
    )
    thread = threading.Thread(
        target=feed.fill, args=(pieces,), name="napari-embed-decode", daemon=True
    )
    thread.start()
    try:
        while (item := feed.pieces.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        feed.stopped.set()
        thread.join()


def _shifted(
    control: JobControl, done: int, total: int, bottleneck: str
) -> ProgressCallback:
    """Return a callback for one piece that reports on all images."""

    def report(finished: int, _: int) -> None:
        control.progress(
            "images", done + finished, total, unit="images", bottleneck=bottleneck
        )

    return report


class ChunkRunner:
    """Encodes the pending chunks of two stages: vectors and thumbnails.

    Parameters
    ----------
    project, source
        Where items come from.
    encoder, vectors
        Ready to encode, and the stage its vectors go to; both None to make thumbnails
        only.
    thumbnails
        The stage of the thumbnails. Chunks that are done in both stages are left
        alone.
    shrink_to
        Pixels on an image's shorter side that the encoder can make use of.
    """

    def __init__(
        self,
        project: Project,
        source: Source,
        *,
        thumbnails: ChunkStage,
        encoder: Encoder | None = None,
        vectors: ChunkStage | None = None,
        shrink_to: int = DEFAULT_SHRINK_TO_PX,
    ) -> None:
        self._shrink_to = shrink_to
        self._project, self._source, self._encoder = project, source, encoder
        self._vectors, self._thumbnails = vectors, thumbnails
        self._to_encode = set(vectors.pending() if vectors else ())
        self._to_show = set(thumbnails.pending())
        self._kept: KeptPieces | None = None
        self.encoded = 0
        self.first_errors: list[str] = []

    def pending(self) -> list[int]:
        """Return the chunks that have to be decoded."""
        return sorted(self._to_encode | self._to_show)

    @property
    def has_to_encode(self) -> bool:
        """Whether any vectors are missing."""
        return bool(self._to_encode)

    def seal(self, info: Mapping[str, Any]) -> None:
        """Declare both stages finished; ``info`` is kept with the vectors."""
        if not self._thumbnails.sealed:
            self._thumbnails.seal({})
        if self._vectors is not None and not self._vectors.sealed:
            self._vectors.seal(dict(info))
        if self._kept is not None:
            self._kept.discard()

    def run(self, control: JobControl) -> None:
        """Do all pending chunks; each is on disk before the next begins."""
        project = self._project
        size = project.thumbnail_shape[0]
        todo = [
            (chunk, self._thumbnails.rows(chunk), size if chunk in self._to_show else 0)
            for chunk in self.pending()
        ]
        parts, blocks = self._take_up(todo)
        total = project.n_items
        done = total - sum(rows.stop - rows.start for _, rows, _ in todo)
        watch = Stopwatch()
        pieces = decode_ahead(project, self._source, todo, shrink_to=self._shrink_to)
        try:
            control.progress("images", done, total, unit="images")
            for piece in pieces:
                control.check()
                watch.lap("decode")
                parts.append(piece)
                if piece.chunk in self._to_encode:
                    report = _shifted(control, done, total, watch.slowest)
                    blocks.append(self._encode(piece, report))
                watch.lap("model")
                if piece.last:
                    self._write(parts, blocks)
                    parts, blocks = [], []
                elif self._kept is not None and self._kept.due:
                    self._keep(parts, blocks)
                watch.lap("disk")
                done += len(piece.ids)
                control.progress(
                    "images", done, total, unit="images", bottleneck=watch.slowest
                )
        except JobCancelled:
            self._keep(parts, blocks)
            raise

    def _take_up(
        self, todo: list[tuple[int, slice, int]]
    ) -> tuple[list[Piece], list[NDArray[np.float32]]]:
        """Return what was kept of the first chunk; its other images are left to do."""
        if not todo or self._encoder is None or self._vectors is None:
            return [], []
        chunk, rows, size = todo[0]
        self._kept = KeptPieces(
            self._project, self._vectors.key.removeprefix("embeddings/"),
            made_of=self._project.stage_info(self._vectors.key).fingerprint,
            dim=self._encoder.dim, thumbnail_px=self._project.thumbnail_shape[0],
            piece_images=PIECE_IMAGES,
        )  # fmt: skip
        found = self._kept.load(chunk, rows)
        if found is None or chunk not in self._to_encode:
            return [], []
        vectors, small, errors = found
        ids = range(rows.start, rows.start + len(vectors))
        todo[0] = (chunk, slice(ids.stop, rows.stop), size)
        return [Piece(chunk, ids, [], small, errors, last=False)], [vectors]

    def _keep(self, parts: list[Piece], blocks: list[NDArray[np.float32]]) -> None:
        """Keep the encoded pieces of a chunk that is not complete."""
        done = parts[: len(blocks)]
        small = [p.thumbnails for p in done if p.thumbnails is not None]
        # A chunk that has its thumbnails already is a rare case and not worth more.
        if self._kept is None or not done or len(small) < len(done):
            return
        errors = {k: v for piece in done for k, v in piece.errors.items()}
        self._kept.save(done[0].chunk, blocks, small, errors)

    def _encode(self, piece: Piece, progress: ProgressCallback) -> NDArray[np.float32]:
        """Return one row per item; NaN without an image. Adds to its errors."""
        assert self._encoder is not None
        block = np.full((len(piece.ids), self._encoder.dim), np.nan, np.float32)
        good = [i for i, image in enumerate(piece.images) if image is not None]
        if good:
            images = [image for image in piece.images if image is not None]
            block[good] = self._encoder.encode(images, progress=progress)
            for row, reason in self._encoder.failures.items():
                piece.errors[piece.ids[good[row]]] = reason
            self.encoded += len(good)
        return block

    def _write(self, parts: list[Piece], blocks: list[NDArray[np.float32]]) -> None:
        chunk = parts[0].chunk
        errors = {k: v for piece in parts for k, v in piece.errors.items()}
        if chunk in self._to_show:
            pictures = [p.thumbnails for p in parts if p.thumbnails is not None]
            # Where images are encoded, their errors belong to the vectors.
            unread = errors if self._vectors is None else None
            self._thumbnails.write(chunk, np.concatenate(pictures), errors=unread)
        if self._vectors is not None and chunk in self._to_encode:
            self.first_errors += list(errors.values())[: 3 - len(self.first_errors)]
            self._vectors.write(chunk, np.concatenate(blocks), errors=errors)
            if self._kept is not None:
                self._kept.discard()
