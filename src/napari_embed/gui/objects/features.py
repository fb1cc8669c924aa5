"""What is known of the objects of one picture, as the features table of their layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.objects_table import object_frame
from napari_embed.gui.coloring import Coloring

__all__ = ["object_features"]

# Of the place in the project, and what says nothing beside the label itself.
_LEFT_OUT = ("field", "plate", "well")


def object_features(
    project: Any,
    rows: NDArray[np.int64],
    *,
    projection: str | None,
    decisions: Any = None,
    column: str = "",
    coloring: Coloring | None = None,
) -> Any:
    """Return a data frame with one row per object; call it on the reading thread.

    Columns: ``index`` and ``label`` (the label, as napari and other plugins look it
    up), ``class``, ``tags``, measures, ``map_x`` and so on, and what the map is
    coloured by.

    Parameters
    ----------
    project
        Open, of objects.
    rows
        (m,) items of one picture.
    projection
        Map whose places are columns.
    decisions
        Tags; None leaves them out.
    column, coloring
        What the map is coloured by.
    """
    frame = object_frame(project, projection).iloc[rows].reset_index(drop=True)
    frame = frame.drop(columns=[n for n in _LEFT_OUT if n in frame])
    frame = frame.rename(columns={"label": "class"})
    label = frame.pop("label_id")
    frame["class"] = frame["class"].astype(object).where(frame["class"].notna(), "")
    frame.insert(0, "index", label)
    frame.insert(1, "label", label)
    if decisions is not None:
        frame["tags"] = [", ".join(tags) for tags in decisions.tags_of(rows)]
    if coloring is not None and column and column not in frame and column != "label":
        frame[column] = _colored(coloring, rows)
    return frame


def _colored(coloring: Coloring, rows: NDArray[np.int64]) -> Any:
    if coloring.kind == "number":
        return coloring.values[rows]
    names = np.array([*coloring.names, ""], object)
    return names[coloring.codes[rows]]
