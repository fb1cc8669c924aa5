"""Where items come from: folders, tables, arrays, vectors and the bundled sample."""

from napari_embed.sources.opening import detect_source, open_source
from napari_embed.sources.spec import DecodedItem, Source, SourceSpec

__all__ = ["DecodedItem", "Source", "SourceSpec", "detect_source", "open_source"]
