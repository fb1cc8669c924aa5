"""What people decide about items, finding problems, and taking items elsewhere."""

from napari_embed.curation.export import export_items

__all__ = ["export_items"]
