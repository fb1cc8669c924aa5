"""Models of timm (DINOv2 and all others) and open_clip (images and words).

Only their architectures are used. Weights are fetched or given as files and read by us,
as plain tensors: the loaders of these packages may run code from a file.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_embed.encoders.batched import BatchedEncoder, Recipe
from napari_embed.encoders.catalogue import IMAGENET_MEAN, IMAGENET_STD
from napari_embed.encoders.devices import choose_device
from napari_embed.encoders.hub_catalogue import EXTRAS, HUB_MODELS, HubModel
from napari_embed.encoders.networks import NetworkFeatures
from napari_embed.encoders.preparation import crop_centre, prepare
from napari_embed.encoders.weights_cache import cache_folder, pin_or_check
from napari_embed.encoders.weights_file import load_into, read_weights
from napari_embed.errors import InputError, MissingDependencyError, ModelError
from napari_embed.params import fingerprint

__all__ = ["TextImageEncoder", "load_open_clip_encoder", "load_timm_encoder"]

logger = logging.getLogger(__name__)

REVISION = 1
"""Raise it whenever a change changes a vector by more than rounding."""

CPU_BATCH = 16
TEXTS_PER_BATCH = 64
DINOV2_RESIZE, DINOV2_CROP = 256, 224


def _import(package: str) -> Any:
    """Import timm or open_clip, or say in a sentence why it cannot be used."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"Models of {package} need the package {error.name or package}. Install "
            f'it with: pip install "napari-embed[{EXTRAS[package]}]"'
        ) from error
    except Exception as error:  # noqa: BLE001, RUF100  a mismatched build raises anything
        raise MissingDependencyError(
            f"{package} cannot be imported ({str(error)[:120]}). Often torch and "
            "torchvision do not fit: pip install --upgrade torch torchvision"
        ) from error


def _weights(name: str, given: Path | None) -> tuple[dict[str, torch.Tensor], str, str]:
    """Return tensors, their SHA-256, and where they are from."""
    if given is not None:
        tensors, digest = read_weights(given)
        logger.info("weights %s have SHA-256 %s", given, digest)
        return tensors, digest, str(given)
    model = next((m for m in HUB_MODELS if m.encoder_name == name), None)
    if model is None:
        raise InputError(
            f"{name} has no weights that could be fetched. Give a file with them: "
            "--weights FILE (.safetensors or .pth)."
        )
    path = _fetch(model)
    pin = partial(pin_or_check, f"{model.repository}/{model.file_name}")
    tensors, digest = read_weights(path, verify=pin)
    return tensors, digest, f"{model.repository}/{model.file_name}"


def _fetch(model: HubModel) -> Path:
    """Return the file of a model's weights, downloaded at the first time."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependencyError(
            f"Weights of {model.encoder_name} are fetched with a package: pip install "
            "huggingface_hub. Or give a file: --weights FILE."
        ) from error
    folder = cache_folder() / "hub"
    try:
        return Path(
            hf_hub_download(model.repository, model.file_name, cache_dir=folder)
        )
    except Exception as error:  # noqa: BLE001, RUF100  network clients raise anything
        raise ModelError(
            f"The weights of {model.encoder_name} ({model.size_mb} MB) could not be "
            f"fetched: {str(error)[:200]} Check the network, or download "
            f"{model.file_name} of {model.repository} elsewhere and give it: "
            "--weights FILE."
        ) from error


def _recipe(
    name: str,
    digest: str,
    *,
    dim: int,
    network: torch.nn.Module,
    device: torch.device,
    resize_size: int,
    crop_size: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Recipe:
    mode = interpolation if interpolation in ("bilinear", "bicubic") else "bicubic"
    resize = partial(
        crop_centre, resize_size=resize_size, crop_size=crop_size, mode=mode
    )
    return Recipe(
        name=name,
        fingerprint=fingerprint(
            name, REVISION, digest, [resize_size, crop_size, mode, *mean, *std]
        ),
        features_dim=dim,
        dim=dim,
        prepare=partial(prepare, resize=resize, size=crop_size),
        features=NetworkFeatures(
            network, device, mean=[255 * v for v in mean], std=[255 * v for v in std]
        ),
        cpu_batch=CPU_BATCH,
    )


def load_timm_encoder(
    name: str, device: str, weights: Path | None, batch_size: int | None
) -> BatchedEncoder:
    """Build "timm/NAME"; see :func:`~napari_embed.encoders.load_encoder`."""
    place = choose_device(device)
    timm = _import("timm")
    model_name = name.partition("/")[2]
    if not timm.is_model(model_name):
        raise InputError(
            f'timm has no model {model_name!r}. Its names: python -c "import timm; '
            'print(*timm.list_models(), sep=chr(10))".'
        )
    tensors, digest, source = _weights(name, weights)
    dinov2 = "dinov2" in model_name
    more = {"dynamic_img_size": True} if dinov2 else {}
    network = timm.create_model(model_name, pretrained=False, num_classes=0, **more)
    expected = network.state_dict()
    # Weights of a classifier are ignored, so those tuned for other classes fit.
    head = str(network.pretrained_cfg.get("classifier") or "head")
    kept = {k: v for k, v in tensors.items() if k in expected or not _belongs(k, head)}
    load_into(network, kept, source=source)
    config = timm.data.resolve_data_config({}, model=network)
    crop = DINOV2_CROP if dinov2 else int(config["input_size"][-1])
    recipe = _recipe(
        name, digest, dim=int(network.num_features), network=network, device=place,
        resize_size=DINOV2_RESIZE if dinov2 else math.floor(crop / config["crop_pct"]),
        crop_size=crop, interpolation=str(config["interpolation"]),
        mean=IMAGENET_MEAN if dinov2 else config["mean"],
        std=IMAGENET_STD if dinov2 else config["std"],
    )  # fmt: skip
    return BatchedEncoder(recipe, place, batch_size=batch_size)


def _belongs(key: str, head: str) -> bool:
    return key == head or key.startswith(f"{head}.")


class _ImageSide(torch.nn.Module):
    """The half of a text and image model that takes images."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pixels)  # type: ignore[operator]
        return features


class TextImageEncoder(BatchedEncoder):
    """An encoder that puts words into the space of its images."""

    def __init__(
        self, recipe: Recipe, device: torch.device, *, model: torch.nn.Module,
        tokenize: Any, batch_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(recipe, device, batch_size=batch_size)
        self._model, self._tokenize = model, tokenize

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit vectors, one per text.

        Texts longer than the model takes (77 tokens) are cut.

        Raises
        ------
        InputError
            If a text is empty.
        """
        if any(not text.strip() for text in texts):
            raise InputError("A text to search for is empty. Write some words.")
        out = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            tokens = self._tokenize(list(texts[start : start + TEXTS_PER_BATCH]))
            with torch.inference_mode():
                found = self._model.encode_text(tokens.to(self._device)).float()  # type: ignore[operator]
                unit = torch.nn.functional.normalize(found, dim=1)
            out[start : start + TEXTS_PER_BATCH] = unit.cpu().numpy()
        return out


def load_open_clip_encoder(
    name: str, device: str, weights: Path | None, batch_size: int | None
) -> TextImageEncoder:
    """Build "open_clip/NAME"; see :func:`~napari_embed.encoders.load_encoder`."""
    place = choose_device(device)
    open_clip = _import("open_clip")
    model_name = name.partition("/")[2]
    if model_name not in open_clip.list_models():
        known = ", ".join(
            m.encoder_name for m in HUB_MODELS if m.package == "open_clip"
        )
        raise InputError(
            f"open_clip has no model {model_name!r}. Known with weights: {known}; all "
            'names: python -c "import open_clip; print(*open_clip.list_models())".'
        )
    config = open_clip.get_model_config(model_name)
    if "hf_tokenizer_name" in config["text_cfg"]:
        raise InputError(
            f"{model_name} needs a tokenizer that is downloaded as code and data from "
            "elsewhere; only models with open_clip's own tokenizer are used."
        )
    tensors, digest, source = _weights(name, weights)
    model = open_clip.create_model(
        model_name, load_weights=False, pretrained_text=False
    )
    load_into(model, tensors, source=source)
    size = config["vision_cfg"]["image_size"]
    size = int(size if isinstance(size, int) else size[0])
    recipe = _recipe(
        name, digest, dim=int(config["embed_dim"]), network=_ImageSide(model),
        device=place, resize_size=size, crop_size=size, interpolation="bicubic",
        mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD,
    )  # fmt: skip
    return TextImageEncoder(
        recipe, place, model=model, tokenize=open_clip.get_tokenizer(model_name),
        batch_size=batch_size,
    )  # fmt: skip
