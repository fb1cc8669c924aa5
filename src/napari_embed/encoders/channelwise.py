"""One vector for each channel of an image, joined: for images that are no colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.encoders.protocol import Encoder, Progress

__all__ = ["ChannelwiseEncoder"]


class ChannelwiseEncoder:
    """Encodes each channel as a grey image and joins the vectors.

    Parameters
    ----------
    encoder
        Encodes one channel.
    channels
        How many an image has.
    """

    def __init__(self, encoder: Encoder, channels: int) -> None:
        self._encoder = encoder
        self.channels = channels
        self.name = encoder.name
        self.metric = encoder.metric
        self._failures: dict[int, str] = {}

    @property
    def dim(self) -> int:
        """Length of a joined vector."""
        return self._encoder.dim * self.channels

    @property
    def fingerprint(self) -> str:
        """That of the encoder, with the number of channels."""
        return f"{self._encoder.fingerprint}x{self.channels}"

    @property
    def needs_fit(self) -> bool:
        """Whether the encoder has to learn."""
        return self._encoder.needs_fit

    @property
    def fit_size(self) -> int:
        """Images to learn from; each counts once for every channel."""
        return self._encoder.fit_size

    @property
    def failures(self) -> Mapping[int, str]:
        """Rows of the latest `encode` without a vector, with the reason."""
        return self._failures

    def fit(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> None:
        """Learn from all channels of all images; see `Encoder.fit`."""
        planes = [image[..., c] for image in images for c in range(self.channels)]
        self._encoder.fit(planes, progress=progress)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return what was learnt."""
        return self._encoder.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` returned."""
        self._encoder.load_state(state)

    def encode(
        self, images: Sequence[NDArray[Any]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return (b, channels * dim) vectors of (h, w, channels) images.

        Joined vectors of unit length are divided by the root of the number of
        channels, so that they have unit length too.
        """
        self._failures = {}
        parts = []
        for channel in range(self.channels):
            planes = [image[..., channel] for image in images]
            parts.append(
                self._encoder.encode(
                    planes, progress=progress if channel == 0 else None
                )
            )
            for row, reason in self._encoder.failures.items():
                self._failures.setdefault(row, f"channel {channel}: {reason}")
        joined = np.concatenate(parts, axis=1)
        if self.metric == "cosine":
            joined /= np.float32(np.sqrt(self.channels))
        joined[list(self._failures)] = np.nan
        return joined
