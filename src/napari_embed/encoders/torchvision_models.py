"""torchvision models by name as feature extractors.

torchvision is imported here only, when such an encoder is loaded; its own loader of
weights is never used, because it may run code from a cached file.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_embed.encoders.batched import BatchedEncoder, Recipe
from napari_embed.encoders.catalogue import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TorchvisionModel,
)
from napari_embed.encoders.devices import choose_device
from napari_embed.encoders.networks import NetworkFeatures
from napari_embed.encoders.preparation import crop_centre, prepare
from napari_embed.encoders.protocol import Progress
from napari_embed.encoders.weights_cache import check_sha256, fetch, pin_or_check
from napari_embed.encoders.weights_file import load_into, read_weights
from napari_embed.errors import MissingDependencyError
from napari_embed.params import fingerprint

__all__ = ["build_network", "load_torchvision_encoder"]

logger = logging.getLogger(__name__)

REVISION = 1
"""Raise it whenever a change changes a vector by more than rounding."""

CPU_BATCH = 16


def import_torchvision_models() -> Any:
    """Import ``torchvision.models``, or say in a sentence why it cannot be used.

    Raises
    ------
    MissingDependencyError
        If it is not installed or does not fit the installed torch.
    """
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "torchvision models need the package torchvision. Install it with: "
            'pip install "napari-embed[torchvision]"'
        ) from error
    except Exception as error:  # noqa: BLE001, RUF100  a mismatched build raises anything
        raise MissingDependencyError(
            f"The installed torchvision does not work with torch {torch.__version__} "
            f"({str(error)[:120]}). Install builds that belong together: "
            "pip install --upgrade torch torchvision"
        ) from error
    return models


def build_network(
    model: TorchvisionModel, tensors: dict[str, torch.Tensor], *, source: str
) -> torch.nn.Module:
    """Return the network without its classifier, with the given weights.

    Weights of the classifier are ignored, so weights tuned for other classes fit.

    Raises
    ------
    ModelError
        If the weights belong to another architecture.
    """
    models = import_torchvision_models()
    with torch.device("meta"):
        network = models.get_model(model.model, weights=None)
        parent, _, leaf = model.head.rpartition(".")
        setattr(network.get_submodule(parent), leaf, torch.nn.Identity())
    kept = {k: v for k, v in tensors.items() if not k.startswith(f"{model.head}.")}
    return load_into(network, kept, source=source)


def load_torchvision_encoder(
    model: TorchvisionModel,
    device: str,
    weights: Path | None,
    batch_size: int | None,
    progress: Progress | None,
) -> BatchedEncoder:
    """Build the encoder; see :func:`~napari_embed.encoders.load_encoder`."""
    place = choose_device(device)
    import_torchvision_models()  # before a download of hundreds of MB
    if weights is None:
        path = fetch(
            model.url,
            model.file_name,
            sha256_prefix=model.sha256 or model.sha256_prefix,
            progress=progress,
        )
        tensors, digest = read_weights(path, verify=partial(_verify_download, model))
    else:
        path = weights
        tensors, digest = read_weights(path)
        logger.info("weights %s have SHA-256 %s", path, digest)
    network = build_network(model, tensors, source=str(path))
    resize = partial(
        crop_centre,
        resize_size=model.resize_size,
        crop_size=model.crop_size,
        mode=model.interpolation,
    )
    recipe = Recipe(
        name=model.encoder_name,
        fingerprint=fingerprint(
            model.encoder_name,
            REVISION,
            digest,
            [model.resize_size, model.crop_size, model.interpolation],
        ),
        features_dim=model.dim,
        dim=model.dim,
        prepare=partial(prepare, resize=resize, size=model.crop_size),
        features=NetworkFeatures(
            network,
            place,
            mean=[255 * value for value in IMAGENET_MEAN],
            std=[255 * value for value in IMAGENET_STD],
        ),
        cpu_batch=CPU_BATCH,
    )
    return BatchedEncoder(recipe, place, batch_size=batch_size)


def _verify_download(model: TorchvisionModel, digest: str) -> None:
    """Check a cached file: published digits first, then the pin of the first use."""
    check_sha256(digest, model.sha256 or model.sha256_prefix, model.file_name)
    pin_or_check(model.file_name, digest)
