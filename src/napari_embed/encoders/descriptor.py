"""The default encoder: a training-free descriptor of shape, colour and layout.

Histograms of oriented gradients (N. Dalal, B. Triggs, "Histograms of Oriented Gradients
for Human Detection", CVPR 2005) of a 32 x 32 picture, with a colour histogram and a
low-resolution picture, each of unit length and weighted, reduced to 128 dimensions by
PCA. The weights and the form were chosen on CIFAR-10 and Fashion-MNIST.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.nn.functional import avg_pool2d, pad

from napari_embed.encoders.batched import BatchedEncoder, Recipe
from napari_embed.encoders.devices import choose_device
from napari_embed.encoders.preparation import prepare, squash
from napari_embed.params import fingerprint

__all__ = ["DescriptorFeatures", "load_descriptor"]

REVISION = 1
"""Raise it whenever a change below changes a vector."""

SIZE = 32
CELLS = 8
ORIENTATIONS = 9
COLOUR_WEIGHT = 0.25
COLOUR_BINS = 8
LAYOUT_WEIGHT = 0.3
LAYOUT_SIZE = 8
DIM = 128
FIT_SIZE = 10_000
CPU_BATCH = 128


class DescriptorFeatures:
    """Features of a block of pictures: gradients, colours, layout.

    ``features(pixels)`` maps (b, 3, 32, 32) uint8 to (b, 864) float32; every value is
    finite for every picture, also a constant one.
    """

    dim = ORIENTATIONS * CELLS**2 + 3 * COLOUR_BINS * 4 + 3 * LAYOUT_SIZE**2

    def __init__(self, device: torch.device) -> None:
        angles = torch.arange(ORIENTATIONS) * (2 * math.pi / ORIENTATIONS)
        self._directions = torch.stack([angles.cos(), angles.sin()], 1).to(device)
        self._cells = _triangular_pooling(SIZE, CELLS).to(device)
        self._colours = torch.linspace(0, 1, COLOUR_BINS).view(1, 1, -1, 1, 1)
        self._colours = self._colours.to(device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of a block."""
        x = pixels.contiguous().float() / 255
        parts = (
            _unit(self._gradients(x)),
            COLOUR_WEIGHT * _unit(self._colour_histogram(x)),
            LAYOUT_WEIGHT * _unit(_layout(x)),
        )
        return torch.cat(parts, 1)

    def _gradients(self, x: torch.Tensor) -> torch.Tensor:
        """Return the square root of normalised orientation histograms per cell."""
        y = pad(x, (1, 1, 1, 1), mode="replicate")
        gx = y[..., 1:-1, 2:] - y[..., 1:-1, :-2]
        gy = y[..., 2:, 1:-1] - y[..., :-2, 1:-1]
        energy, channel = (gx * gx + gy * gy).max(1, keepdim=True)
        gx, gy = gx.gather(1, channel), gy.gather(1, channel)
        # The doubled angle makes a gradient and its opposite one orientation, without
        # computing an angle: (cos 2a, sin 2a) = (gx^2 - gy^2, 2 gx gy) / |g|^2.
        energy.clamp_min_(1e-12)
        doubled = torch.cat([gx * gx - gy * gy, 2 * gx * gy], 1) / energy
        b = x.shape[0]
        votes = (self._directions @ doubled.view(b, 2, -1)).clamp_min_(0)
        # cos^8 of the doubled angle: a smooth vote, half its height at 12 degrees.
        votes = votes.square_().square_().square_()
        votes *= energy.sqrt().view(b, 1, -1)
        votes = votes.view(b, ORIENTATIONS, SIZE, SIZE)
        cells = self._cells.T @ (votes @ self._cells)
        around = cells.square().sum(1, keepdim=True)
        around = avg_pool2d(pad(around, (1, 1, 1, 1), mode="replicate"), 3, 1) * 9
        return (cells / (around + 0.1).sqrt()).sqrt().flatten(1)

    def _colour_histogram(self, x: torch.Tensor) -> torch.Tensor:
        """Return soft histograms of intensity and two opponent colours, 2 x 2 cells."""
        red, green, blue = x.unbind(1)
        opponents = torch.stack(
            [
                (red + green + blue) / 3,
                (red - green) + 0.5,
                (red + green) / 2 - blue + 0.5,
            ],
            1,
        ).clamp_(0, 1)
        distance = (opponents[:, :, None] - self._colours).abs_() * (COLOUR_BINS - 1)
        weights = (1 - distance).clamp_min_(0).flatten(1, 2)
        return avg_pool2d(weights, SIZE // 2).sqrt().flatten(1)


def _layout(x: torch.Tensor) -> torch.Tensor:
    """Return a small picture without its mean brightness."""
    small: torch.Tensor = avg_pool2d(x, SIZE // LAYOUT_SIZE).flatten(1)
    return small - small.mean(1, keepdim=True)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    length: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(1e-6)


def _triangular_pooling(size: int, cells: int) -> torch.Tensor:
    """Return (size, cells) weights: each pixel votes for its two nearest cells."""
    step = size / cells
    pixels = torch.arange(size)[:, None] + 0.5
    centres = (torch.arange(cells)[None] + 0.5) * step
    return (1 - (pixels - centres).abs() / step).clamp_min(0) / step


def load_descriptor(
    device: str, batch_size: int | None, random_state: int
) -> BatchedEncoder:
    """Build the descriptor; see :func:`~napari_embed.encoders.load_encoder`."""
    place = choose_device(device)
    recipe = Recipe(
        name="descriptor",
        fingerprint=fingerprint("descriptor", REVISION, random_state),
        features_dim=DescriptorFeatures.dim,
        dim=DIM,
        prepare=partial(prepare, resize=partial(squash, size=SIZE), size=SIZE),
        features=DescriptorFeatures(place),
        cpu_batch=CPU_BATCH,
        fit_size=FIT_SIZE,
    )
    return BatchedEncoder(
        recipe, place, batch_size=batch_size, random_state=random_state
    )
