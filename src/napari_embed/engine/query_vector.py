"""The vector of something that is no item: an image file or a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.engine.embedding import EMBED_VERSION, OWN_VECTORS
from napari_embed.engine.likeness import Likeness
from napari_embed.engine.loading import load
from napari_embed.engine.progress import JobControl
from napari_embed.errors import ImageDecodeError, InputError, ModelError
from napari_embed.params import EmbedParams, fingerprint
from napari_embed.sources.images import decode_file

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project.reader import ProjectReader

__all__ = ["foreign_vector"]

_encoders: dict[tuple[str, str, str], Encoder] = {}
"""The encoder used last, because loading one may take seconds."""


def foreign_vector(
    project: ProjectReader, name: str, likeness: Likeness, control: JobControl
) -> NDArray[np.float32]:
    """Return the (d,) vector of an image file or a text.

    Parameters
    ----------
    project
        Open for reading.
    name
        Of the embeddings to compare with.
    likeness
        With ``image`` or ``text``.

    Raises
    ------
    InputError
        If the image cannot be read, the vectors came from elsewhere, or the encoder
        has no text side.
    """
    encoder = _encoder(project, name, control)
    if likeness.text is not None:
        return _of_text(encoder, likeness.text.strip())
    path = Path(str(likeness.image))
    try:
        image = decode_file(path.parent, path.name)
    except ImageDecodeError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    vector = encoder.encode([image])[0]
    if not np.isfinite(vector).all():
        reason = encoder.failures.get(0, "its vector is not finite")
        raise InputError(f"{path} cannot be used: {reason}.")
    return np.asarray(vector, np.float32)


def _of_text(encoder: Encoder, text: str) -> NDArray[np.float32]:
    embed_texts: Any = getattr(encoder, "embed_texts", None)
    if embed_texts is None:
        raise InputError(
            f"The encoder {encoder.name} knows no words. Embed with one that has a "
            "text side (see `napari-embed encoders`) to look for text."
        )
    return np.asarray(embed_texts([text])[0], np.float32)


def _encoder(project: ProjectReader, name: str, control: JobControl) -> Encoder:
    """Return the encoder that made the embeddings, with what it learned."""
    stage = project.stage_info(f"embeddings/{name}")
    key = (str(project.path), name, stage.fingerprint)
    if key in _encoders:
        return _encoders[key]
    if name == OWN_VECTORS:
        raise InputError(
            "The vectors of this project came with its items, so an image or a text "
            "has none to compare. Embed the images with an encoder first."
        )
    channels = int(getattr(project.source(), "channels_each", 0))
    if channels:
        raise InputError(
            f"The items of this project have {channels} channels each, which an image "
            "file or a text cannot be compared with. Compare with items instead."
        )
    params = EmbedParams.from_dict(dict(stage.params))
    encoder = load(params, control)
    made = fingerprint(
        "embeddings", EMBED_VERSION, project.manifest.root, encoder.fingerprint
    )
    if made != stage.fingerprint:
        raise ModelError(
            f"The vectors {name} were made by another version of {params.encoder}, or "
            "with other weights. Embed again to compare with images or texts."
        )
    if encoder.needs_fit:
        state = project.read_encoder_state(name, fingerprint=made)
        if state is None:
            raise ModelError(
                f"What {params.encoder} learned from this project is missing. Embed "
                "again to compare with images."
            )
        encoder.load_state(state)
    _encoders.clear()
    _encoders[key] = encoder
    return encoder
