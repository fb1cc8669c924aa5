"""The chunk tasks: items to vectors and thumbnails.

A chunk is the unit of work and of a resume: its images are decoded ahead, encoded piece
by piece, and written as a whole. Those of a chunk that was left in the middle are kept
beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine import decoding
from napari_embed.engine.bottleneck import Stopwatch
from napari_embed.engine.decoding import Piece, decode_ahead
from napari_embed.engine.pieces import KIND, KeptPieces
from napari_embed.engine.progress import JobControl, ProgressCallback
from napari_embed.errors import JobCancelled
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import ChunkStage, Project
    from napari_embed.project.handover import Handover
    from napari_embed.project.ledger import ChunkRecord
    from napari_embed.sources.spec import ImageReader

__all__ = ["ChunkAnswer", "ChunkRunner", "ChunkWork", "encode_piece"]


@dataclass(frozen=True)
class ChunkWork:
    """One chunk to do: its number and rows, and which of the two results it lacks."""

    number: int
    start: int
    stop: int
    encode: bool
    show: bool


@dataclass(frozen=True)
class ChunkAnswer:
    """One chunk that is written.

    Attributes
    ----------
    work
        What was to be done.
    vectors, thumbnails
        Size and hash of the files, None where there was nothing to do.
    errors
        {item id: reason} of its images without a vector.
    encoded
        Images that went through the encoder.
    """

    work: ChunkWork
    vectors: ChunkRecord | None
    thumbnails: ChunkRecord | None
    errors: dict[int, str]
    encoded: int


def encode_piece(
    encoder: Encoder, piece: Piece, *, progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Return one row per item, (m, dim), NaN without an image.

    Adds what the encoder could not take to the errors of the piece.
    """
    block = np.full((len(piece.ids), encoder.dim), np.nan, np.float32)
    good = [i for i, image in enumerate(piece.images) if image is not None]
    if good:
        images = [image for image in piece.images if image is not None]
        block[good] = encoder.encode(images, progress=progress)
        for row, reason in encoder.failures.items():
            piece.errors[piece.ids[good[row]]] = reason
    return block


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
    note_unread
        Whether images that cannot be read are errors of the thumbnails; where images
        are encoded, they belong to the vectors.
    """

    def __init__(
        self,
        project: Project,
        source: ImageReader,
        *,
        thumbnails: ChunkStage,
        encoder: Encoder | None = None,
        vectors: ChunkStage | None = None,
        shrink_to: int = DEFAULT_SHRINK_TO_PX,
        note_unread: bool = False,
    ) -> None:
        self._shrink_to, self._note_unread = shrink_to, note_unread
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
        if self._vectors is not None:
            name = self._vectors.key.removeprefix("embeddings/")
            self._project.remove_checkpoint(name, kind=KIND)

    def works(self) -> list[ChunkWork]:
        """Return what is to be done, for other machines."""
        return [
            ChunkWork(
                chunk, rows.start, rows.stop, chunk in self._to_encode,
                chunk in self._to_show,
            )
            for chunk in self.pending()
            for rows in (self._thumbnails.rows(chunk),)
        ]  # fmt: skip

    def accept(self, answer: ChunkAnswer) -> None:
        """Enter what another machine wrote.

        Raises
        ------
        CorruptChunkError
            If its files cannot be seen from here.
        """
        if answer.thumbnails is not None:
            self._thumbnails.accept(answer.thumbnails)
        if answer.vectors is not None and self._vectors is not None:
            self._vectors.accept(answer.vectors, errors=answer.errors)
            self._note(answer.errors)
        self.encoded += answer.encoded

    def enter(self, done: Handover) -> None:
        """Enter a chunk that a shard wrote, after a look at every byte of it.

        Raises
        ------
        InputError, CorruptChunkError
            If there is no such chunk, or its files are others.
        """
        chunk = done.chunk
        if done.thumbnails is not None and chunk in self._to_show:
            self._thumbnails.accept(done.thumbnails, deep=True)
            self._to_show.discard(chunk)
        if done.vectors is None or self._vectors is None:
            return
        if chunk in self._to_encode:
            self._vectors.accept(done.vectors, errors=done.errors, deep=True)
            self._to_encode.discard(chunk)
            self._note(done.errors)

    def _note(self, errors: Mapping[int, str]) -> None:
        self.first_errors += list(errors.values())[: 3 - len(self.first_errors)]

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
                    assert self._encoder is not None
                    blocks.append(encode_piece(self._encoder, piece, progress=report))
                    self.encoded += sum(image is not None for image in piece.images)
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
            piece_images=decoding.PIECE_IMAGES,
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

    def _write(self, parts: list[Piece], blocks: list[NDArray[np.float32]]) -> None:
        chunk = parts[0].chunk
        errors = {k: v for piece in parts for k, v in piece.errors.items()}
        if chunk in self._to_show:
            pictures = [p.thumbnails for p in parts if p.thumbnails is not None]
            unread = errors if self._note_unread else None
            self._thumbnails.write(chunk, np.concatenate(pictures), errors=unread)
        if self._vectors is not None and chunk in self._to_encode:
            self._note(errors)
            self._vectors.write(chunk, np.concatenate(blocks), errors=errors)
            if self._kept is not None:
                self._kept.discard()
