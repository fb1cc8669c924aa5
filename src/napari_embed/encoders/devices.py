"""Where an encoder runs and with which precision."""

from __future__ import annotations

import torch

from napari_embed.errors import InputError

__all__ = ["choose_device", "cpu_has_bfloat16", "fast_dtype"]


def choose_device(device: str) -> torch.device:
    """Return the torch device for "auto", "cpu" or "cuda".

    Raises
    ------
    InputError
        If CUDA is asked for and not there, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}.")
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise InputError(
            "No CUDA device was found, but device='cuda' was asked for. Use "
            "device='auto', or install a torch build with CUDA and the driver."
        )
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")


def cpu_has_bfloat16() -> bool:
    """Tell whether the processor has bfloat16 instructions (AVX-512 BF16 or AMX).

    Without them bfloat16 is emulated and slower than float32. torch tells it only
    through functions without a public name, so their absence counts as "no".
    """
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return any(bool(check()) for check in checks if check is not None)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype for mixed precision on a device; float32 means none."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
