"""From settings to an encoder that fits a source."""

from __future__ import annotations

from napari_embed.encoders import list_encoders, load_encoder
from napari_embed.encoders.channelwise import ChannelwiseEncoder
from napari_embed.encoders.protocol import Encoder
from napari_embed.engine.progress import JobControl
from napari_embed.params import EmbedParams
from napari_embed.sources import Source
from napari_embed.sources.spec import DEFAULT_SHRINK_TO_PX

__all__ = ["for_channels", "load", "useful_px"]


def load(params: EmbedParams, control: JobControl) -> Encoder:
    """Return the encoder that ``params`` name."""
    control.progress("encoder", 0, 1, unit="model", message=params.encoder)
    encoder = load_encoder(
        params.encoder,
        device=params.device,
        weights=params.weights,
        batch_size=params.batch_size,
        random_state=params.random_state,
        progress=control.reporter("download", unit="bytes"),
    )
    control.progress("encoder", 1, 1, unit="model", message=params.encoder)
    return encoder


def for_channels(encoder: Encoder, source: Source) -> Encoder:
    """Return what encodes the images of a source: RGB, or channel by channel."""
    channels = int(getattr(source, "channels_each", 0))
    return ChannelwiseEncoder(encoder, channels) if channels else encoder


def useful_px(encoder: str) -> int:
    """Return how many pixels on the shorter side make a difference to an encoder.

    Recipes resize to at most 8/7 of the input before they crop (256 for 224).
    """
    sizes = [info.input_size for info in list_encoders() if info.name == encoder]
    return max([DEFAULT_SHRINK_TO_PX, *(-(-8 * size // 7) for size in sizes)])
