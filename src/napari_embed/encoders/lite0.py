"""The encoder ``lite0``: EfficientNet-Lite0 with weights from a small package."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from napari_embed.encoders.batched import BatchedEncoder, Recipe
from napari_embed.encoders.devices import choose_device
from napari_embed.encoders.lite0_network import Lite0Network
from napari_embed.encoders.networks import NetworkFeatures
from napari_embed.encoders.preparation import prepare, squash
from napari_embed.encoders.weights_cache import check_sha256
from napari_embed.encoders.weights_file import load_into, read_weights
from napari_embed.params import fingerprint

__all__ = ["SHA256", "load_lite0", "load_lite0_network"]

REVISION = 1
"""Raise it whenever a change changes a vector by more than rounding."""

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 96
DIM = 128
FIT_SIZE = 5_000
CPU_BATCH = 32
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


def load_lite0_network(weights: Path) -> Lite0Network:
    """Return the network with the published weights, checked before they are read.

    Raises
    ------
    UntrustedModelError
        If the file is not the published one.
    """
    tensors, _ = read_weights(
        weights, verify=partial(check_sha256, expected=SHA256, source=str(weights))
    )
    for name in ("_fc.weight", "_fc.bias"):
        tensors.pop(name, None)
    with torch.device("meta"):
        network = Lite0Network()
    load_into(network, tensors, source=str(weights))
    return network


def load_lite0(
    device: str, weights: Path, batch_size: int | None, random_state: int
) -> BatchedEncoder:
    """Build the encoder; see :func:`~napari_embed.encoders.load_encoder`."""
    place = choose_device(device)
    network = load_lite0_network(weights).fuse()
    resize = partial(squash, size=SIZE, mode="bicubic")
    recipe = Recipe(
        name="lite0",
        fingerprint=fingerprint("lite0", REVISION, SHA256, SIZE, random_state),
        features_dim=Lite0Network.features_dim,
        dim=DIM,
        prepare=partial(prepare, resize=resize, size=SIZE),
        features=NetworkFeatures(network, place, mean=MEAN, std=STD),
        cpu_batch=CPU_BATCH,
        fit_size=FIT_SIZE,
    )
    return BatchedEncoder(
        recipe, place, batch_size=batch_size, random_state=random_state
    )
