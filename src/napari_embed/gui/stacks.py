"""An image layer of the viewer as a source: a stack of images becomes items."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from napari_embed.errors import InputError
from napari_embed.gui.settings import data_folder

__all__ = ["save_stack", "stack_problem"]

_BYTES_AT_A_TIME = 64 << 20


def stack_problem(layer: Any) -> str:
    """Return why a layer is no stack of images, or "" when it is one.

    (n, h, w), or (n, h, w, 3 or 4) of a layer that napari shows in colour.
    """
    if type(layer).__name__ != "Image":
        return "Select an image layer first."
    if getattr(layer, "multiscale", False):
        return f"{layer.name} has several scales; open its file instead."
    shape = tuple(layer.data.shape)
    if len(shape) != (4 if layer.rgb else 3) or min(shape) < 1:
        return (
            f"{layer.name} has shape {shape}; a stack of images (n, h, w), or in "
            "colour (n, h, w, 3), was expected."
        )
    if np.dtype(layer.data.dtype).kind not in "biuf":
        return f"{layer.name} holds {layer.data.dtype}; numbers were expected."
    return ""


def save_stack(data: Any, name: str) -> Path:
    """Write a stack as an array file that stays beside its project; return its path.

    Slices of about 64 MiB are computed at a time, so a lazy array fits, too.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    plain = re.sub(r"[^\w .+-]+", "_", name).strip(" .") or "layer"
    folder = data_folder() / "layers"
    shape = tuple(data.shape)
    step = max(1, _BYTES_AT_A_TIME // max(1, int(np.prod(shape[1:])) * 8))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while (path := folder / f"{plain}{f' {number}' * (number > 1)}.npy").exists():
            number += 1
        dtype = np.dtype(data.dtype)
        out = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
        for start in range(0, shape[0], step):
            out[start : start + step] = np.asarray(data[start : start + step])
        out.flush()
    except OSError as error:
        raise InputError(f"The layer cannot be kept in {folder}: {error}.") from error
    return path
