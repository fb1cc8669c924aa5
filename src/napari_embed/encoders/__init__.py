"""Images to vectors: a registry of encoders that run in batches sized to memory.

Importing this package loads neither torch nor any model, so that the window can list
the encoders; :func:`load_encoder` does.
"""

from __future__ import annotations

from napari_embed.encoders.protocol import Encoder, TextEncoder
from napari_embed.encoders.registry import EncoderInfo, list_encoders, load_encoder

__all__ = ["Encoder", "EncoderInfo", "TextEncoder", "list_encoders", "load_encoder"]
