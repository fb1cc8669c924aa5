"""Reading weights as plain tensors: nothing in a file is ever run.

The file is opened once; its checksum is compared before the first byte is parsed, and
the same descriptor is parsed then, so that a file exchanged meanwhile changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch

from napari_embed.errors import (
    InputError,
    MissingDependencyError,
    ModelError,
    UntrustedModelError,
)

__all__ = ["SUFFIXES", "load_into", "read_weights"]

SUFFIXES = (".pth", ".pt", ".safetensors")
MAX_BYTES = 8 << 30


def read_weights(
    path: Path, verify: Callable[[str], None] | None = None
) -> tuple[dict[str, torch.Tensor], str]:
    """Read named tensors from a file.

    Parameters
    ----------
    path
        A .pth or .pt file (plain tensors by name, also under the key "state_dict" or
        "model"), or a .safetensors file.
    verify
        Called with the SHA-256 of the file before it is parsed; raises to refuse it.

    Returns
    -------
    The tensors on the CPU, and the SHA-256 as 64 hex digits.

    Raises
    ------
    InputError
        If there is no such file or its kind is not supported.
    UntrustedModelError
        If ``verify`` refuses it or it holds anything but tensors.
    ModelError
        If it is damaged.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} is not a weights file: expected a name that ends in "
            f"{', '.join(SUFFIXES)}."
        )
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"The weights {path} cannot be opened: {error}.") from error
    with stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise InputError(f"{path} is not a regular file of at most 8 GiB.")
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if verify is not None:
            verify(digest)
        stream.seek(0)
        if path.suffix.lower() == ".safetensors":
            content = _parse_safetensors(stream, path)
        else:
            content = _parse_torch(stream, path)
    return _named_tensors(content, path), digest


def _parse_safetensors(stream: IO[bytes], path: Path) -> Any:
    if find_spec("safetensors") is None:
        raise MissingDependencyError(
            f"Reading {path.name} needs a package: pip install safetensors"
        )
    from safetensors.torch import load

    try:
        return load(stream.read())
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001, RUF100  a hostile file can raise anything
        raise ModelError(f"{path} is not a safetensors file: {error}") from error


def _parse_torch(stream: IO[bytes], path: Path) -> Any:
    _refuse_compressed(stream, path)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001, RUF100  a hostile file can raise anything
        if type(error).__name__ == "UnpicklingError":
            raise UntrustedModelError(
                f"{path} is not a plain weights file (tensors by name), or it wants "
                "to run code; nothing of it was run. Save it with "
                "torch.save(model.state_dict(), path) or as .safetensors."
            ) from error
        raise ModelError(
            f"{path} cannot be read as weights (damaged, or another kind of file): "
            f"{str(error)[:200]}"
        ) from error


def _refuse_compressed(stream: IO[bytes], path: Path) -> None:
    """Refuse an archive that unpacks to more than its own size (torch stores plain)."""
    unpacked = 0
    try:
        if zipfile.is_zipfile(stream):
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # noqa: BLE001, RUF100  hostile files raise anything
        raise ModelError(f"{path} is damaged: {error}.") from error
    if unpacked > os.fstat(stream.fileno()).st_size:
        raise UntrustedModelError(
            f"{path} would unpack to {unpacked} bytes, more than its size; torch does "
            "not write such files. It was not opened."
        )
    stream.seek(0)


def _named_tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if (
        not isinstance(content, dict)
        or not content
        or not all(
            isinstance(k, str) and isinstance(v, torch.Tensor)
            for k, v in content.items()
        )
    ):
        raise ModelError(
            f"{path} holds no tensors by name. Save it with "
            "torch.save(model.state_dict(), path)."
        )
    return dict(content)


def load_into(
    network: torch.nn.Module, tensors: dict[str, torch.Tensor], *, source: str
) -> torch.nn.Module:
    """Give a network its weights, all of them and no others, in float32.

    The network may live on the "meta" device: the tensors take its place.

    Raises
    ------
    ModelError
        If names or shapes differ; the message names the first ones.
    """
    expected = network.state_dict()
    missing = [k for k in expected if k not in tensors]
    unknown = [k for k in tensors if k not in expected]
    # Older files lack these counters, which play no part when encoding.
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    differing = [
        f"{k} {tuple(tensors[k].shape)} instead of {tuple(expected[k].shape)}"
        for k in expected
        if k in tensors and tensors[k].shape != expected[k].shape
    ]
    if missing or unknown or differing:
        parts = [
            f"{len(found)} {word} ({', '.join(found[:3])})"
            for found, word in (
                (missing, "missing"),
                (unknown, "unknown"),
                (differing, "of another shape"),
            )
            if found
        ]
        raise ModelError(
            f"The weights {source} belong to another model: of {len(expected)} "
            f"tensors {'; '.join(parts)}. Choose the encoder these weights are for."
        )
    for k, reference in expected.items():
        if k not in tensors:
            tensors[k] = torch.zeros(reference.shape, dtype=reference.dtype)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.float().requires_grad_(False).eval()
