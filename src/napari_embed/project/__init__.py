"""The project on disk: items, arrays, ledger, lock, fingerprints, verify."""

from napari_embed.project.project import Project
from napari_embed.project.stages import ChunkStage, StageInfo, StoredRows
from napari_embed.project.verify import Problem

__all__ = ["ChunkStage", "Problem", "Project", "StageInfo", "StoredRows"]
