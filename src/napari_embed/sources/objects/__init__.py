"""Every object of a labels image as an item: found, measured and cut out."""

from napari_embed.sources.objects.source import ObjectsSource

__all__ = ["ObjectsSource"]
