"""A ranked selection of items that can be narrowed, ranked, decided about, exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.curation.decisions import Ids
from napari_embed.curation.export import export_items, format_of
from napari_embed.curation.filters import Filter, Query, Result
from napari_embed.engine.likeness import Likeness
from napari_embed.errors import InputError

if TYPE_CHECKING:
    from napari_embed.collection.collection import Collection

__all__ = ["Selection"]

_SHOWN = 10


class Selection:
    """Items of a collection in an order; every method that chooses returns a new one.

    Methods that decide (`tag`, `exclude` ...) return the selection itself, so that
    calls can be chained. An empty selection is no error: deciding about it changes
    nothing.

    Attributes
    ----------
    distances
        (m,) float32 by which the items are ranked, or None.
    title, note
        What was looked for, and what there is to know about the result.
    """

    def __init__(self, collection: Collection, result: Result) -> None:
        self._collection = collection
        self._ids = result.ids
        self.distances = result.distances
        self.title, self.note = result.title, result.note

    @property
    def ids(self) -> NDArray[np.int64]:
        """Item ids (m,), the best first."""
        return self._ids

    def __len__(self) -> int:
        return int(self.ids.size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids.tolist())

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.ids[:_SHOWN].tolist()))
        more = ", ..." if len(self) > _SHOWN else ""
        return f"<{len(self):,} items ({self.title}): {shown}{more}>"

    # choosing

    def where(self, sql: str) -> Selection:
        """Keep the items for which an SQL expression holds, in their order.

        Columns are those of the items, ``tags`` (a list), ``excluded``,
        ``corrected_label``, ``final_label``, ``note``, and x, y, z of the newest map:
        ``where("label = 'cat' AND 'blurred' IN tags")``.

        Raises
        ------
        InputError
            If it does not parse, with a sentence that says where.
        """
        return self._among(self._collection.query.run(Query(sql=sql)))

    def filter(self, *filters: Filter) -> Selection:
        """Keep the items for which all filters hold, in their order."""
        return self._among(self._collection.query.run(Query(filters)))

    def find(self, text: str) -> Selection:
        """Keep the items whose id, path, label or tag a text means."""
        n = self._collection.project.n_items
        return self._among(self._collection.query.find(text, limit=n))

    def sorted_by(self, column: str, *, descending: bool = False) -> Selection:
        """Return the same items sorted by a column or SQL expression."""
        query = Query(order_by=column, descending=descending)
        found = self._collection.query.run(query)
        inside = np.zeros(self._collection.project.n_items, bool)
        inside[self.ids] = True
        title = f"{self.title}, by {column}"
        return self._new(Result(found.ids[inside[found.ids]], title=title))

    def head(self, count: int) -> Selection:
        """Return the first ``count`` items."""
        if count < 0:
            raise InputError(f"count must be 0 or more, got {count}.")
        far = None if self.distances is None else self.distances[:count]
        return self._new(Result(self.ids[:count], far, self.title, self.note))

    def similar(
        self,
        *,
        ids: Ids | None = None,
        image: str | Path | None = None,
        text: str | None = None,
        mode: Literal["mean", "any"] = "mean",
        k: int = 100,
        embeddings: str | None = None,
    ) -> Selection:
        """Return the nearest items with their distances, nearest first.

        With ``ids``, ``image`` or ``text``: those of this selection that are like them.
        Without: those of the whole collection that are like this selection.

        Parameters
        ----------
        ids
            Items to be like.
        image
            Path of an image file to be like.
        text
            Words to be like, where the encoder has a text side.
        mode
            Like the "mean" of several items, or like "any" of them.
        k
            How many items at most.
        embeddings
            Which vectors; the newest by default.

        Raises
        ------
        InputError
            If there is nothing to compare with.
        """
        within = self.ids
        if ids is None and image is None and text is None:
            if self is self._collection:
                raise InputError("Say what to be like: ids, an image or a text.")
            ids, within = self.ids, self._collection.ids
        return self._new(
            self._collection.search.run(
                Likeness(
                    ids=ids, image=image, text=text, mode=mode, k=k, within=within,
                    embeddings=embeddings,
                )
            )
        )  # fmt: skip

    def _among(self, result: Result) -> Selection:
        """Return the items of this selection that are in a result, in this order."""
        held = np.zeros(self._collection.project.n_items, bool)
        held[result.ids] = True
        ids = self.ids
        keep = held[ids]
        far = None if self.distances is None else self.distances[keep]
        title = " and ".join(t for t in (self.title, result.title) if t)
        return self._new(Result(ids[keep], far, title, self.note))

    def _new(self, result: Result) -> Selection:
        return Selection(self._collection, result)

    # deciding

    def tag(self, name: str) -> Self:
        """Give all items a tag, which is made if need be."""
        self._collection.decisions.add_tag(name, self.ids)
        return self

    def untag(self, name: str) -> Self:
        """Take a tag away from all items."""
        self._collection.decisions.remove_tag(name, self.ids)
        return self

    def relabel(self, label: str | None) -> Self:
        """Correct the label of all items; None takes the correction back."""
        self._collection.decisions.set_label(label, self.ids)
        return self

    def exclude(self) -> Self:
        """Take all items out; files stay as they are."""
        self._collection.decisions.exclude(self.ids)
        return self

    def restore(self) -> Self:
        """Take all items in again."""
        self._collection.decisions.restore(self.ids)
        return self

    def annotate(self, text: str | None) -> Self:
        """Write a note to all items; None removes it."""
        self._collection.decisions.set_note(text, self.ids)
        return self

    def save(self, name: str) -> Self:
        """Keep the selection under a name in the project."""
        self._collection.decisions.save_selection(name, self.ids)
        return self

    # taking along

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return columns of the items (all by default), with ``distance`` if ranked."""
        table = self._collection.project.items(columns, self.ids)
        if self.distances is not None:
            table = table.append_column("distance", pa.array(self.distances))
        return table

    def export(
        self,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002  the word that everyone uses
        projection: str | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Self:
        """Write the items with all decisions to a file or folder.

        The ending says the format unless ``format`` does; ``projection`` is the main
        map, by default the newest. See `napari_embed.curation.export.export_items`. CSV
        has all columns unless ``all_columns=False``.

        Raises
        ------
        InputError
            If nothing is selected, or a format or option does not exist.
        StoreError
            If the file exists already or cannot be written.
        """
        project = self._collection.project
        names = project.projection_names()[::-1]
        if projection is not None:
            names = [projection, *(name for name in names if name != projection)]
        if format_of(path, format).key == "csv":
            options.setdefault("all_columns", True)
        export_items(
            project, path, format=format, ids=self.ids, projections=names,
            decisions=self._collection.decisions, overwrite=overwrite, **options,
        )  # fmt: skip
        return self
