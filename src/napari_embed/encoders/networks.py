"""Running a network on pixels: normalisation, memory layout, precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_embed.encoders.devices import fast_dtype
from napari_embed.errors import DeviceMemoryError

__all__ = ["NetworkFeatures"]


class NetworkFeatures:
    """(b, 3, s, s) uint8 to (b, d) float32 by a network in evaluation mode.

    Runs channels last, and under mixed precision where the device has it.

    Parameters
    ----------
    network
        Maps normalised float pixels to features.
    mean, std
        Per channel, in units of 0 to 255: the network sees ``(value - mean) / std``.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        network = _move(network, device).eval()
        # torch's type hints do not know this form of "to".
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._dtype = fast_dtype(device)
        self._scale = 1 / torch.tensor(std, device=device).view(1, -1, 1, 1)
        mean_block = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self._offset = mean_block * self._scale

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of a block that lies on the device."""
        x = pixels.float() * self._scale - self._offset
        x = x.contiguous(memory_format=torch.channels_last)
        mixed = self._dtype != torch.float32
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=mixed):
            features: torch.Tensor = self._network(x)
        return features.float()


def _move(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    try:
        return network.to(device)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The model does not fit into the memory of {device}: {error} Close other "
            "programs that use it, choose a smaller encoder, or use device='cpu'."
        ) from error
