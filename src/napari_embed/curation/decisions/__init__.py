"""What people decide about items: tags, labels, exclusion, notes, with undo."""

from napari_embed.curation.decisions.idset import Ids
from napari_embed.curation.decisions.records import (
    SavedSelection,
    SavedView,
    Step,
    Tag,
)
from napari_embed.curation.decisions.store import Decisions

__all__ = ["Decisions", "Ids", "SavedSelection", "SavedView", "Step", "Tag"]
