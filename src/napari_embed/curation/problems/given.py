"""What searches for problems start from: neighbors, labels, the items to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_mask
from napari_embed.errors import IncompleteStageError, InputError
from napari_embed.project.reader import ProjectReader

__all__ = ["Codes", "Neighbors", "label_codes", "neighbors_of", "newest"]

Codes = tuple[NDArray[np.int32], list[str]]
"""Labels as codes (n,) int32, -1 where there is none, and their names."""

_BLOCK_ROWS = 1 << 17


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest neighbors of each item among the items that count.

    Attributes
    ----------
    indices
        (n, k) int32, nearest first, -1 where there is none.
    distances
        (n, k) float32, in the metric's own unit (not squared), Inf where none.
    valid
        (n,) bool, items that count and have at least one neighbor.
    name
        Of the embeddings.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    valid: NDArray[np.bool_]
    name: str

    def blocks(self) -> list[slice]:
        """Return slices of rows that keep temporary arrays small."""
        n = len(self.indices)
        return [slice(i, min(i + _BLOCK_ROWS, n)) for i in range(0, n, _BLOCK_ROWS)]


def newest(project: ProjectReader, kind: str, name: str | None, todo: str) -> str:
    """Return the name of a finished stage of a kind: the one asked for, or the newest.

    Raises
    ------
    IncompleteStageError
        If there is none; the sentence ends with the command ``todo`` that makes it.
    """
    done = [
        s for s in project.stages() if s.key.startswith(kind) and s.state == "sealed"
    ]
    names = {s.key.removeprefix(kind): s.updated for s in done}
    if name is not None and name not in names:
        known = ", ".join(sorted(names)) or "none"
        raise IncompleteStageError(
            f"This project has no finished {kind}{name} (finished: {known}). Make it "
            f"first: napari-embed {todo} {project.path}"
        )
    if not names:
        raise IncompleteStageError(
            f"This project has no finished {kind.rstrip('/')} yet. Make them first: "
            f"napari-embed {todo} {project.path}"
        )
    return name if name is not None else max(names, key=lambda key: names[key])


def neighbors_of(
    project: ProjectReader,
    *,
    embeddings: str | None,
    within: Ids | None,
    most: int,
) -> Neighbors:
    """Read the nearest neighbors of a project's stored graph.

    Neighbors outside ``within`` are dropped, so items near many of these have fewer.

    Raises
    ------
    IncompleteStageError
        If neighbors were not found yet.
    """
    name = newest(project, "neighbors/", embeddings, "neighbors")
    graph = project.read_neighbors(name, most=most)
    indices = np.array(graph.indices)
    distances = np.array(graph.distances)
    found = Neighbors(indices, distances, np.zeros(len(indices), bool), name)
    wanted = item_mask(within, len(indices))
    for rows in found.blocks():
        ids, far = indices[rows], distances[rows]
        bad = (ids < 0) | ~wanted[ids] | ~wanted[rows, None]
        if bad.any():
            ids[bad] = -1
            far[bad] = np.inf
            _compact(ids, far)
        np.sqrt(np.maximum(far, 0, out=far), out=far)
        found.valid[rows] = ids[:, 0] >= 0
    return found


def _compact(ids: NDArray[np.int32], far: NDArray[np.float32]) -> None:
    """Move what is left of each row to its front, in place and in order."""
    broken = np.flatnonzero((ids[:, :-1] < 0).any(axis=1))
    if broken.size:
        order = np.argsort(ids[broken] < 0, axis=1, kind="stable")
        ids[broken] = np.take_along_axis(ids[broken], order, axis=1)
        far[broken] = np.take_along_axis(far[broken], order, axis=1)


def label_codes(
    project: ProjectReader, column: str, labels: Codes | None, *, what: str
) -> Codes:
    """Return the labels given, or those of a column.

    Raises
    ------
    InputError
        If they do not fit, or no item has one.
    """
    if labels is None:
        codes, names = project.categories(column)
    else:
        codes, names = np.asarray(labels[0]), [str(x) for x in labels[1]]
        if codes.shape != (project.n_items,) or codes.dtype.kind not in "iu":
            raise InputError(
                f"Labels need {project.n_items} whole numbers, got shape "
                f"{codes.shape} of {codes.dtype}."
            )
        codes = codes.astype(np.int32)
        if codes.size and not (codes.min() >= -1 and codes.max() < len(names)):
            raise InputError(f"A label code is outside -1 to {len(names) - 1}.")
    if not (codes >= 0).any():
        raise InputError(
            f"No item has a label in the column {column!r}, so {what}. Columns of "
            f"this project: {', '.join(project.columns())}."
        )
    return codes, names


def sources_rank(project: ProjectReader) -> NDArray[np.int32]:
    """Return the place of each item in the order of the paths, (n,) int32."""
    source: Any = project.items(["source"])["source"].cast(pa.string())
    if bool(pc.all(pc.less_equal(source[:-1], source[1:]), min_count=0).as_py()):
        # As folders are listed; sorting a million paths takes a second.
        return np.arange(len(source), dtype=np.int32)
    order = np.asarray(pc.sort_indices(source))
    rank = np.empty(order.size, np.int32)
    rank[order] = np.arange(order.size, dtype=np.int32)
    return rank
