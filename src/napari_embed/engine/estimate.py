"""What embedding will take, from a short trial: time, disk and memory.

The trial decodes and encodes a few hundred images, spread over the project, just as the
run does, and watches the memory of this process meanwhile. Nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.decoding import PIECE_IMAGES, decode_ahead
from napari_embed.engine.embedding import EmbedRun, prepare
from napari_embed.engine.learning import FIT_BYTES
from napari_embed.errors import InputError

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.engine.decoding import Piece
    from napari_embed.engine.progress import JobControl
    from napari_embed.params import EmbedParams
    from napari_embed.project import Project

__all__ = ["Estimate", "resident_bytes", "run_estimate"]

TRIAL_PIECES = 5
TRIAL_S = 20.0
FIT_IMAGES = 512
WATCH_S = 0.01
# What writing chunks adds to a trial that writes nothing, from bench_embed.py.
WRITING_BYTES = 64 << 20
_INNER_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What embedding the rest of a project will take.

    Attributes
    ----------
    n_images
        Images without a vector of this encoder.
    seconds
        Until all have one, the learning of the encoder included.
    disk_bytes
        Of vectors and thumbnails.
    memory_bytes
        Largest memory of the engine process; None where it cannot be measured.
    rate
        Images per second.
    decode_rate, model_rate
        Images per second of reading alone and of the encoder alone.
    bottleneck
        "decode" or "model".
    trial_images, trial_seconds
        What the trial was.
    """

    n_images: int
    seconds: float
    disk_bytes: int
    memory_bytes: int | None
    rate: float
    decode_rate: float
    model_rate: float
    bottleneck: str
    trial_images: int
    trial_seconds: float


def resident_bytes() -> int | None:
    """Return the memory this process holds now; None where the system does not say."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Watch:
    """Notes the most memory this process held."""

    def __init__(self) -> None:
        self.most = resident_bytes()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._note()

    def _look(self) -> None:
        while not self._ended.wait(WATCH_S):
            self._note()

    def _note(self) -> None:
        now = resident_bytes()
        if now is not None:
            self.most = max(self.most or 0, now)


def run_estimate(
    project: Project, params: EmbedParams, control: JobControl
) -> dict[str, Any]:
    """Try an encoder on some images and return an `Estimate` as plain values.

    Parameters
    ----------
    project
        Open for reading.
    params, control
        As everywhere.

    Raises
    ------
    InputError
        If the project has no images, or none of the tried ones can be read.
    """
    if not project.has_images:
        raise InputError(
            f"{project.path} has no images: taking its vectors over needs no encoder "
            "and takes seconds."
        )
    started = time.monotonic()
    watch = _Watch()
    with watch.running():
        run = prepare(project, params, control)
        learning_s, learning_bytes = 0.0, 0
        before = resident_bytes() or 0
        if run.encoder.needs_fit:
            learning_s, learning_bytes = _learn(project, run, control)
        trial = _Trial(run.encoder, control)
        trial.run(
            decode_ahead(project, run.source, _spread(project), shrink_to=run.detail)
        )
        decode_rate = _decode_rate(project, run)
    memory = watch.most
    if memory is not None:
        memory = max(memory, before + learning_bytes) + WRITING_BYTES
    rate, model_rate = trial.n / trial.seconds, trial.n / trial.model_s
    left = run.n_left(project)
    return asdict(
        Estimate(
            n_images=left,
            seconds=left / rate + (learning_s if left else 0.0),
            disk_bytes=round(left * trial.bytes_each),
            memory_bytes=memory,
            rate=rate,
            decode_rate=decode_rate,
            model_rate=model_rate,
            bottleneck="decode" if decode_rate < model_rate else "model",
            trial_images=min(trial.tried, project.n_items),
            trial_seconds=time.monotonic() - started,
        )
    )


def _learn(project: Project, run: EmbedRun, control: JobControl) -> tuple[float, int]:
    """Let the encoder learn; return the seconds and bytes that takes.

    From as many images as in the run where that is quick, because its memory is often
    the peak; else from a few, and what they took is scaled.
    """
    wanted = min(run.encoder.fit_size, project.n_items)
    seconds, size, tried = 0.0, 0, min(FIT_IMAGES, wanted)
    while True:
        started = time.monotonic()
        images = run.sample.read(tried, control)
        run.encoder.fit(images, progress=control.reporter("learning", unit="images"))
        share = wanted / len(images)
        seconds = (time.monotonic() - started) * share
        size = round(share * sum(image.nbytes for image in images))
        if tried == wanted or seconds > TRIAL_S:
            return seconds, min(size, FIT_BYTES)
        tried = wanted


def _spread(project: Project) -> list[tuple[int, slice, int]]:
    """Return pieces to try, spread over the project."""
    n, size = project.n_items, project.thumbnail_shape[0]
    count = min(TRIAL_PIECES, -(-n // PIECE_IMAGES))
    starts = np.linspace(0, max(0, n - PIECE_IMAGES), count).astype(int).tolist()
    return [(i, slice(s, min(n, s + PIECE_IMAGES)), size) for i, s in enumerate(starts)]


def _decode_rate(project: Project, run: EmbedRun) -> float:
    """Return the images per second of reading, when nothing else runs."""
    items = project.items(rows=slice(0, PIECE_IMAGES))
    started = time.monotonic()
    n = sum(1 for _ in run.source.read(items, shrink_to=run.detail))
    return n / max(time.monotonic() - started, 1e-6)


@dataclass(frozen=True)
class _Lap:
    """One piece of a trial: its images, the encoder's seconds, and when it ended."""

    n: int
    model_s: float
    ended: float


class _Trial:
    """Encodes pieces as a run does, and measures."""

    def __init__(self, encoder: Encoder, control: JobControl) -> None:
        self._encoder, self._control = encoder, control
        self.bytes_each = 0.0
        self.tried = self.n = 0
        self.seconds = self.model_s = 0.0

    def run(self, pieces: Iterator[Piece]) -> None:
        """Take pieces until time is up; of several the first only warms up.

        Raises
        ------
        InputError
            If not one image can be read.
        """
        begun = time.monotonic()
        laps: list[_Lap] = []
        for piece in pieces:
            images = [image for image in piece.images if image is not None]
            if not images:
                continue
            at = time.monotonic()
            vectors = self._encoder.encode(images)
            now = time.monotonic()
            if not laps:
                self.bytes_each = _packed_bytes(vectors, piece.thumbnails)
            laps.append(_Lap(len(images), now - at, now))
            self.tried += len(images)
            self._control.progress("trial", self.tried, 0, unit="images")
            if now - begun > TRIAL_S:
                break
        if not laps:
            raise InputError("None of the images that were tried can be read.")
        counted = laps[1:] or laps
        self.n = sum(lap.n for lap in counted)
        self.model_s = sum(lap.model_s for lap in counted)
        self.seconds = laps[-1].ended - (laps[0].ended if len(laps) > 1 else begun)


def _packed_bytes(
    vectors: NDArray[np.float32], thumbnails: NDArray[np.uint8] | None
) -> float:
    """Return the bytes on disk per item, packed as the store does."""
    packer = numcodecs.Zstd(level=1)
    size = len(packer.encode(np.ascontiguousarray(vectors))) / len(vectors)
    if thumbnails is not None:
        blocks = [
            np.ascontiguousarray(thumbnails[i : i + _INNER_ROWS])
            for i in range(0, len(thumbnails), _INNER_ROWS)
        ]
        size += sum(len(packer.encode(b)) for b in blocks) / len(thumbnails)
    return float(size)
