"""Looking for items: by text, expression, likeness or problem. No Qt.

What needs vectors runs in an engine process of its own, so that a search does not wait
for an embedding; the rest on the reading thread. Only the newest search is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.curation.filters import Query, Result
from napari_embed.curation.problems import is_inspected
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.query import QueryEngine
from napari_embed.engine.client import EngineClient, Event
from napari_embed.engine.finding_client import Finder
from napari_embed.engine.likeness import Likeness
from napari_embed.engine.progress import Progress
from napari_embed.engine.similarity_client import SimilaritySearch
from napari_embed.errors import JobCancelled
from napari_embed.gui.controller import Controller
from napari_embed.gui.state import Message, ViewState

__all__ = ["PROBLEMS", "Found", "Problem", "Searches"]

logger = logging.getLogger(__name__)

MOST_ALIKE = 100


@dataclass(frozen=True)
class Problem:
    """A search for problems: its kind, how it is called, what it needs."""

    kind: str
    title: str
    reads_images: bool = False
    counts: bool = False


PROBLEMS: tuple[Problem, ...] = (
    Problem("near-duplicates", "Near-duplicates"),
    Problem("duplicates", "Exact duplicates", reads_images=True),
    Problem("mislabels", "Likely wrong labels"),
    Problem("outliers", "Outliers"),
    Problem("quality", "Dark, bright, blurred, odd images", reads_images=True),
    Problem("clusters", "Clusters"),
    Problem("label-next", "What to label next", counts=True),
    Problem("balanced", "Balanced sample of classes", counts=True),
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found, in the order to look at it.

    Attributes
    ----------
    ids
        (m,) int64, the best or worst first.
    title, note
        Plain text; names in it come from data.
    extra
        (e,) ids that can go: the copies that are not the best of their group.
    suggestions
        Better labels and the ids they are for.
    """

    ids: NDArray[np.int64]
    title: str
    note: str = ""
    extra: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    suggestions: tuple[tuple[str, NDArray[np.int64]], ...] = ()


def _found(finding: Finding) -> Found:
    suggestions = ()
    if finding.kind == "mislabels":
        suggestions = tuple(
            (name, finding.ids[finding.details == code])
            for code, name in enumerate(finding.detail_names)
            if (finding.details == code).any()
        )
    extra = finding.removable() if finding.keep.any() else np.zeros(0, np.int64)
    return Found(finding.ids, finding.title, finding.note, extra, suggestions)


class Searches:
    """The searches of one viewer's project.

    Parameters
    ----------
    controller
        Whose project is searched, and whose selection is set.
    client_factory
        Makes the engine's client, at the first search that needs it.
    post
        Hands a callable to the main thread.
    """

    changed = Signal()

    def __init__(
        self,
        controller: Controller,
        client_factory: Callable[[], EngineClient],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.found: Found | None = None
        self.busy = ""
        self.progress: Progress | None = None
        self._controller = controller
        self._make_client, self._post = client_factory, post
        self._client: EngineClient | None = None
        self._job: Any = None
        self._number = 0
        self._asked: tuple[tuple[Any, ...], QueryEngine] | None = None
        controller.state_changed.connect(self._follow)

    def close(self) -> None:
        """End the engine process of the searches."""
        self._number += 1
        if self._client is not None:
            self._client.close()

    def _follow(self, new: ViewState, old: ViewState) -> None:
        if (new.project and new.project.path) != (old.project and old.project.path):
            self.cancel()
            self.found, self._asked = None, None
            self.changed.emit()

    # --- wishes ------------------------------------------------------------------

    def find(self, text: str) -> None:
        """Look for ids, a part of a path, a label or a tag."""
        if text.strip():
            self._query("find", lambda engine: engine.find(text))

    def where(self, sql: str) -> None:
        """Look for the items for which an SQL expression holds."""
        if sql.strip():
            self._query("where", lambda engine: engine.run(Query(sql=sql)))

    def alike(self, mode: str = "mean") -> None:
        """Look for the items most like the selected ones."""
        ids = np.flatnonzero(self._controller.selection())
        if ids.size:
            self._likeness(Likeness(ids=ids, mode=mode, k=MOST_ALIKE))  # type: ignore[arg-type]
        else:
            self._controller.tell(Message("Select what to compare with first."))

    def like_image(self, path: Path) -> None:
        """Look for the items most like an image file."""
        self._likeness(Likeness(image=path, k=MOST_ALIKE))

    def problem(self, problem: Problem, *, count: int = 100) -> None:
        """Look for a problem; images are read first where that is needed."""
        project = self._project()
        if project is None:
            return
        options = {"count": count} if problem.counts else {}
        number = self._begin(problem.title)

        def search() -> None:
            finder = Finder(self._engine(), project.path)
            self._job = finder.submit(
                problem.kind,
                lambda finding: self._later(
                    number, lambda: self._show(_found(finding))
                ),
                lambda error: self._later(number, lambda: self._failed(error)),
                progress=lambda p: self._later(number, lambda: self._progressed(p)),
                within=self._kept(),
                **options,
            )

        if problem.reads_images and not is_inspected(project):
            self._try(lambda: self._inspect(number, project, search))
        else:
            self._try(search)

    def cancel(self) -> None:
        """Forget the search that is under way."""
        self._number += 1
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
        if self.busy:
            self.busy, self.progress = "", None
            self.changed.emit()

    # --- with what was found -------------------------------------------------------

    def select_found(self) -> None:
        """Select what was found again."""
        if self.found is not None:
            self._controller.select(self.found.ids)

    def exclude_extra(self) -> None:
        """Exclude the copies, all but the best of each group."""
        if self.found is not None and self.found.extra.size:
            extra = self.found.extra
            self._controller.select(extra)
            self._controller.exclude_selected()
            self.found = replace(self.found, extra=np.zeros(0, np.int64))
            self.changed.emit()

    def take_suggestions(self) -> None:
        """Correct the labels of what was found to those that were suggested."""
        if self.found is None or not self.found.suggestions:
            return
        pairs = self.found.suggestions

        def work(decisions: Any) -> None:
            with decisions.step("Take suggested labels"):
                for label, ids in pairs:
                    decisions.set_label(label, ids)

        self._controller.decide(work)
        self.found = replace(self.found, suggestions=())
        self.changed.emit()

    # --- how -----------------------------------------------------------------------

    def _project(self) -> Any:
        return self._controller.open_one

    def _kept(self) -> NDArray[np.int64] | None:
        """Return the ids that are not excluded, None for all."""
        out = self._controller.excluded()
        return np.flatnonzero(~out) if out.any() else None

    def _begin(self, title: str) -> int:
        self.cancel()
        self.busy = title
        self._controller.tell(None)
        self.changed.emit()
        return self._number

    def _engine(self) -> EngineClient:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _later(self, number: int, call: Callable[[], None]) -> None:
        self._post(lambda: call() if number == self._number else None)

    def _query(self, topic: str, ask: Callable[[QueryEngine], Result]) -> None:
        if self._project() is None:
            return
        number, decisions = self._begin("Searching"), self._controller.decisions
        state = self._controller.state
        shown, info = state.projection, state.project

        def work(project: Any) -> Result:
            return ask(self._asker(project, decisions, shown, info))

        self._controller.read(
            "search",
            work,
            lambda result: self._later(number, lambda: self._listed(result)),
            failed=lambda error: self._later(number, lambda: self._failed(error)),
        )

    def _asker(
        self, project: Any, decisions: Any, shown: Any, info: Any
    ) -> QueryEngine:
        """Return what answers queries; the columns it has read are kept.

        ``info`` is another object whenever the project was read anew.
        """
        about, asked = (project, decisions, shown, info), self._asked
        if asked is None or any(
            a is not b for a, b in zip(asked[0], about, strict=True)
        ):
            name = None if shown is None else shown.name
            asked = (about, QueryEngine(project, decisions, projection=name))
            self._asked = asked
        return asked[1]

    def _likeness(self, likeness: Likeness) -> None:
        project = self._project()
        if project is None:
            return
        number = self._begin("Most alike")
        wish = replace(likeness, within=self._kept())

        def search() -> None:
            self._job = SimilaritySearch(self._engine(), project.path).submit(
                wish,
                lambda result: self._later(number, lambda: self._listed(result)),
                lambda error: self._later(number, lambda: self._failed(error)),
                progress=lambda p: self._later(number, lambda: self._progressed(p)),
            )

        self._try(search)

    def _inspect(self, number: int, project: Any, then: Callable[[], None]) -> None:
        def follow(event: Event) -> None:
            if event.progress is not None:
                self._later(number, lambda: self._progressed(event.progress))
            if event.final and event.error is not None:
                self._later(number, lambda: self._failed(event.error))
            elif event.final:
                self._later(number, lambda: self._try(then))

        self._job = self._engine().submit("inspect", follow, path=str(project.path))

    def _try(self, start: Callable[[], None]) -> None:
        try:
            start()
        except Exception as error:  # noqa: BLE001  shown in place, whatever it was
            self._failed(error)

    def _progressed(self, progress: Progress | None) -> None:
        self.progress = progress
        self.changed.emit()

    def _failed(self, error: Exception | None) -> None:
        self.busy, self.progress, self._job = "", None, None
        if error is not None and not isinstance(error, JobCancelled):
            self._controller.fail(error)
        self.changed.emit()

    def _listed(self, result: Result) -> None:
        self._show(Found(result.ids, result.title, result.note))

    def _show(self, found: Found) -> None:
        self.busy, self.progress, self._job = "", None, None
        self.found = found
        self._controller.select(found.ids)
        self.changed.emit()
