"""Looking for items: by text, expression, likeness or problem. No Qt.

What needs vectors runs in an engine process of its own, so that a search does not wait
for an embedding; the rest on the reading thread. Only the newest search is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.curation.columns import final_labels
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.filters import Result
from napari_embed.curation.problems import is_inspected
from napari_embed.curation.problems.duplicates import DuplicatePairs
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.query import QueryEngine
from napari_embed.engine.client import EngineClient, Event
from napari_embed.engine.finding_client import Finder
from napari_embed.engine.likeness import Likeness
from napari_embed.engine.progress import Progress
from napari_embed.engine.similarity_client import SimilaritySearch
from napari_embed.errors import JobCancelled
from napari_embed.gui.controller import Controller
from napari_embed.gui.filtering import Filtering
from napari_embed.gui.found import Found, Problem, found_of
from napari_embed.gui.state import Message, ViewState

__all__ = ["Searches"]

logger = logging.getLogger(__name__)

MOST_ALIKE = 100
NEAR = "near-duplicates"
T = TypeVar("T")


class Searches(Filtering):
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
        self._no_filters()
        self.busy = self.preview = ""
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
            self._no_filters()
            self.changed.emit()

    # --- wishes ------------------------------------------------------------------

    def find(self, text: str) -> None:
        """Look for ids, a part of a path, a label or a tag."""
        if text.strip():
            self._query(lambda engine: engine.find(text), self._listed)

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

    def like_text(self, text: str) -> None:
        """Look for the items that words describe best."""
        if text.strip():
            self._likeness(Likeness(text=text, k=MOST_ALIKE))

    def problem(self, problem: Problem, *, count: int = 100) -> None:
        """Look for a problem; images are read first where that is needed.

        Corrected labels count instead of those that items came with.
        """
        project = self._project()
        if project is None:
            return
        options: dict[str, Any] = {"count": count} if problem.counts else {}
        number, decisions = self._begin(problem.title), self._controller.decisions

        def labelled(labels: Any) -> None:
            options["labels"] = labels
            self._try(search)

        def search() -> None:
            finder = Finder(self._engine(), project.path)
            submit: Any = partial(finder.submit, problem.kind)
            done: Callable[[Any], None] = self._found_problem
            if problem.kind == NEAR:
                submit, done = finder.submit_pairs, self._found_pairs
            self._job = submit(
                lambda found: self._later(number, lambda: done(found)),
                lambda error: self._later(number, lambda: self._failed(error)),
                progress=lambda p: self._later(number, lambda: self._progressed(p)),
                within=self._kept(),
                **options,
            )

        if problem.reads_images and not is_inspected(project):
            self._try(lambda: self._inspect(number, project, search))
        elif problem.uses_labels and decisions is not None:
            self._controller.read(
                "labels",
                lambda opened: _corrected(opened, decisions),
                lambda labels: self._later(number, lambda: labelled(labels)),
                failed=lambda error: self._later(number, lambda: self._failed(error)),
            )
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

    def try_distance(self, distance: float) -> None:
        """Say how many copies another distance would give, without selecting them."""
        if self.found is not None and self.found.pairs is not None:

            def tell(found: Found) -> None:
                self.preview = found.title
                self.changed.emit()

            self._group(self.found.pairs, distance, tell)

    def take_distance(self, distance: float) -> None:
        """Join and select near-duplicates up to another distance."""
        if self.found is not None and self.found.pairs is not None:
            self._group(self.found.pairs, distance, self._show)

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

    def _query(
        self,
        ask: Callable[[QueryEngine], Result],
        listed: Callable[[Result], None],
    ) -> None:
        """Search; what was found before stays when it fails."""
        if self._project() is None:
            return
        number = self._begin("Searching")
        self._ask(
            "search",
            ask,
            lambda result: self._later(number, lambda: listed(result)),
            failed=lambda error: self._later(number, lambda: self._failed(error)),
        )

    def _ask(
        self,
        topic: str,
        ask: Callable[[QueryEngine], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Ask on the reading thread; the newest question of a topic is answered."""
        decisions, state = self._controller.decisions, self._controller.state
        shown, info = state.projection, state.project

        def work(project: Any) -> T:
            return ask(self._asker(project, decisions, shown, info))

        self._controller.read(topic, work, done, failed=failed)

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

    def _found_problem(self, finding: Finding) -> None:
        self._show(found_of(finding))

    def _found_pairs(self, pairs: DuplicatePairs) -> None:
        self._group(pairs, pairs.suggested, self._show)

    def _group(
        self, pairs: DuplicatePairs, distance: float, done: Callable[[Found], None]
    ) -> None:
        """Join pairs to groups on the reading thread."""
        number = self._number

        def work(_project: Any) -> Found:
            found = found_of(pairs.groups(distance))
            return replace(found, pairs=pairs, distance=distance)

        self._controller.read(
            "groups",
            work,
            lambda found: self._later(number, lambda: done(found)),
            failed=lambda error: self._later(number, lambda: self._failed(error)),
        )

    def _listed(self, result: Result) -> None:
        scores = result.distances
        name = "" if scores is None else "distance"
        self._show(
            Found(result.ids, result.title, result.note, scores=scores, score_name=name)
        )

    def _show(self, found: Found) -> None:
        self.busy, self.progress, self._job = "", None, None
        self.preview, self.found = "", found
        self._controller.select(found.ids)
        self.changed.emit()


def _corrected(project: Any, decisions: Decisions) -> Any:
    """Return labels with corrections, None where none was corrected."""
    if not (decisions.corrected()[0] >= 0).any():
        return None
    return final_labels(project, decisions)
