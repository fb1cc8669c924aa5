"""What people decided as columns that colour the points: tags and corrected labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from napari_embed.curation.columns import final_labels
from napari_embed.curation.decisions import Decisions
from napari_embed.gui.coloring import Coloring, categories
from napari_embed.gui.state import ColumnInfo, DecisionsView

__all__ = ["FINAL_LABEL", "TAGS", "decided_columns", "read_decided"]

TAGS, FINAL_LABEL = "tags", "final_label"
SEVERAL = "several tags"
SEVERAL_COLOR = (0.92, 0.92, 0.92, 1.0)


def decided_columns(
    view: DecisionsView | None, columns: Collection[ColumnInfo]
) -> tuple[ColumnInfo, ...]:
    """Return the columns of decisions that there are; a taken name gives way.

    Named as in queries and exports: ``decided.NAME`` beside a column NAME of the items.
    """
    taken = {column.name for column in columns}
    found = []
    for name, there in (
        (TAGS, view is not None and bool(view.tags)),
        (FINAL_LABEL, view is not None and bool(view.labels)),
    ):
        if there:
            free = f"decided.{name}" if name in taken else name
            found.append(ColumnInfo(free, "category", decided=name))
    return tuple(found)


def read_decided(project: Any, decisions: Decisions, name: str) -> Coloring:
    """Return the colouring by `TAGS` or `FINAL_LABEL`.

    Tags keep their own colours; an item with more than one is of a class for itself.
    """
    if name == FINAL_LABEL:
        return categories(*final_labels(project, decisions))
    tags = decisions.tags()
    codes = np.full(decisions.n_items, -1, np.int32)
    count = np.zeros(decisions.n_items, np.uint16)
    for code, tag in enumerate(tags):
        mine = decisions.tagged(tag.name)
        codes[mine] = code
        count += mine
    names, palette = [tag.name for tag in tags], [_rgba(tag.color) for tag in tags]
    if (count > 1).any():
        codes[count > 1] = len(tags)
        names.append(SEVERAL)
        palette.append(SEVERAL_COLOR)
    found = categories(codes, names)
    return replace(found, palette=np.array(palette, np.float32).reshape(-1, 4))


def _rgba(color: str) -> tuple[float, ...]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 1.0
