"""`Collection`: all items of an open project, and what is needed to work with them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_embed.collection.selection import Selection
from napari_embed.curation.decisions import Decisions, Ids, Step
from napari_embed.curation.decisions.idset import ordered_ids
from napari_embed.curation.filters import Result
from napari_embed.curation.query import QueryEngine
from napari_embed.engine.client import EngineClient
from napari_embed.engine.finding_client import Finder
from napari_embed.engine.similarity_client import SimilaritySearch
from napari_embed.project import Project

__all__ = ["Collection", "open_project"]


def open_project(
    path: str | Path,
    *,
    mode: Literal["r", "a", "auto"] = "auto",
    who: str | None = None,
) -> Collection:
    """Open a project to choose items and decide about them.

    Parameters
    ----------
    path
        A folder that ``napari-embed new`` made.
    mode
        "a" to decide, "r" to look only, "auto" to decide unless another process does
        (``collection.decisions.read_only_reason`` then says which).
    who
        Name noted with each decision; by default the user's login name.

    Raises
    ------
    StoreError
        If it is no project.
    StoreLockedError
        In mode "a", if another process decides.
    """
    project = Project.open(path)
    try:
        return Collection(project, Decisions.open(project, mode=mode, who=who))
    except BaseException:
        project.close()
        raise


class Collection(Selection):
    """All items of a project that are not excluded; a context manager.

    Made by `open_project`. Vectors are searched in an engine process, which starts with
    the first search and ends with `close`.

    Attributes
    ----------
    project
        The project, open for reading.
    decisions
        What people decided.
    """

    def __init__(self, project: Project, decisions: Decisions) -> None:
        super().__init__(self, Result(np.zeros(0, np.int64)))
        self.project, self.decisions = project, decisions

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of all items that are not excluded now."""
        return np.flatnonzero(~self.decisions.excluded())

    def __repr__(self) -> str:
        return f"<Collection {self.project.name!r}, {self.project.n_items:,} items>"

    @cached_property
    def query(self) -> QueryEngine:
        """What answers filters and expressions."""
        names = self.project.projection_names()
        return QueryEngine(
            self.project, self.decisions, projection=names[-1] if names else None
        )

    @cached_property
    def search(self) -> SimilaritySearch:
        """What finds similar items."""
        return SimilaritySearch(self._engine, self.project.path)

    @cached_property
    def _engine(self) -> EngineClient:
        return EngineClient()

    def everything(self) -> Selection:
        """Return all items, excluded ones too."""
        ids = np.arange(self.project.n_items)
        return self._new(Result(ids, title="all items, excluded ones too"))

    def items(self, ids: Ids) -> Selection:
        """Return items by id, in the order given."""
        wanted = ordered_ids(ids, self.project.n_items)
        return self._new(Result(wanted, title="items by id"))

    def named(self, name: str) -> Selection:
        """Return a selection that was saved under a name."""
        ids = self.decisions.selection(name)
        return self._new(Result(ids, title=f'selection "{name}"'))

    def problems(self, kind: str, **options: Any) -> Selection:
        """Return what a search for problems finds, the worst first, with its scores.

        Parameters
        ----------
        kind
            "duplicates", "near-duplicates", "outliers", "mislabels", "quality",
            "clusters", "label-next" or "balanced".
        options
            Those of that search, see `napari_embed.curation.problems`.
        """
        options.setdefault("within", self.ids)
        found = Finder(self._engine, self.project.path).run(kind, **options)
        return self._new(Result(found.ids, found.scores, found.title, found.note))

    def undo(self) -> Step | None:
        """Take the last decision back and return it; None if there is none."""
        return self.decisions.undo()

    def redo(self) -> Step | None:
        """Decide again what was taken back last; None if there is nothing."""
        return self.decisions.redo()

    def close(self) -> None:
        """End the engine process and close the project; twice does no harm."""
        for name in ("query", "_engine"):
            found = self.__dict__.pop(name, None)
            if found is not None:
                found.close()
        self.__dict__.pop("search", None)
        self.decisions.close()
        self.project.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
