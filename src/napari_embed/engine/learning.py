"""What an encoder learns from the images of a project before it encodes them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.progress import JobControl
from napari_embed.errors import CorruptChunkError, InputError

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import Project
    from napari_embed.sources.spec import ImageReader

__all__ = ["Sample", "fit", "fit_as_before", "nothing_readable"]

logger = logging.getLogger(__name__)

FIT_BYTES = 1 << 30
FIT_BLOCK = 64
REASONS_SHOWN = 3


def nothing_readable(n: int, reasons: list[str]) -> InputError:
    """Return the error of a project none of whose images can be read."""
    shown = "; ".join(reasons[:REASONS_SHOWN])
    return InputError(
        f"None of the {n:,} images could be read, so there is nothing to embed. "
        f"First reasons: {shown}"
    )


def fit(
    project: Project,
    sample: Sample,
    encoder: Encoder,
    control: JobControl,
    *,
    name: str,
    made_of: str,
) -> None:
    """Teach the encoder on a sample, or give it what it learned before.

    The state is on disk before the first chunk, so every chunk of a project is made
    with the same one, whatever happens in between. ``made_of`` is the fingerprint of
    the embeddings ``name``.
    """
    try:
        state = project.read_encoder_state(name, fingerprint=made_of)
    except CorruptChunkError as error:
        logger.warning("The encoder learns again: %s", error)
        state = None
    if state is not None:
        encoder.load_state(state)
        return
    _learn(sample, encoder, control)
    project.write_encoder_state(name, encoder.state(), fingerprint=made_of)


def fit_as_before(
    project: Project,
    sample: Sample,
    encoder: Encoder,
    control: JobControl,
    *,
    name: str,
    made_of: str,
) -> bool:
    """Learn what was lost; keep it and return True only if it is the very same."""
    _learn(sample, encoder, control)
    state = encoder.state()
    if not project.is_encoder_state(name, state):
        return False
    project.write_encoder_state(name, state, fingerprint=made_of)
    return True


def _learn(sample: Sample, encoder: Encoder, control: JobControl) -> None:
    images = sample.read(encoder.fit_size, control)
    encoder.fit(images, progress=control.reporter("learning", unit="images"))


@dataclass(frozen=True)
class Sample:
    """Images for an encoder to learn from, the same ones at every call."""

    project: Project
    source: ImageReader
    random_state: int
    shrink_to: int

    def read(self, most: int, control: JobControl) -> list[NDArray[np.uint8]]:
        """Return up to ``most`` readable images, of at most `FIT_BYTES` together."""
        n = self.project.n_items
        wanted = min(n, most)
        rng = np.random.default_rng(self.random_state)
        # Four times as many, because some may not be readable.
        ids = rng.choice(n, size=min(n, 4 * wanted), replace=False)
        images: list[NDArray[np.uint8]] = []
        reasons: list[str] = []
        size = 0
        for start in range(0, ids.size, FIT_BLOCK):
            items = self.project.items(rows=ids[start:][:FIT_BLOCK])
            for image, reason in self.source.read(items, shrink_to=self.shrink_to):
                if image is not None:
                    images.append(image)
                    size += image.nbytes
                elif len(reasons) < REASONS_SHOWN:
                    reasons.append(reason or "no reason given")
            control.progress("sample", min(len(images), wanted), wanted, unit="images")
            if len(images) >= wanted or size > FIT_BYTES:
                break
        if not images:
            raise nothing_readable(ids.size, reasons)
        return images[:wanted]
