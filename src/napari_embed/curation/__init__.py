"""What people decide about items, and taking it elsewhere."""

from napari_embed.curation.export import export_csv, export_parquet, export_table

__all__ = ["export_csv", "export_parquet", "export_table"]
