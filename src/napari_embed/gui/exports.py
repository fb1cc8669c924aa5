"""Exports of one viewer's project: what is meant, how far it is, what came of it.

No Qt. They run in an engine process of their own, so that none waits for an embedding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.curation.problems import is_inspected
from napari_embed.engine.client import EngineClient, Event
from napari_embed.engine.exporting import DECISIONS, Exporter, ExportWish
from napari_embed.engine.progress import Progress
from napari_embed.errors import InputError, JobCancelled
from napari_embed.gui.controller import Controller
from napari_embed.gui.searches import Searches
from napari_embed.gui.state import Message, ViewState

__all__ = ["REPLACE", "Exported", "Exports", "Scope"]

REPLACE = "replace"
"""Action of the message that asks whether a file may be replaced."""


@dataclass(frozen=True)
class Scope:
    """Which items: "all", "selected", "shown", "found", or a "tag" or "saved" name."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class Exported:
    """A finished export: where, how many rows, how many bytes (None: a folder)."""

    path: Path
    n_items: int
    n_bytes: int | None
    what: str = "items"


class Exports:
    """Starts and stops exports; panels hear of it through ``changed``.

    Parameters
    ----------
    controller
        Whose project is exported.
    searches
        Whose last result is one of the scopes.
    client_factory
        Makes the engine's client.
    post
        Hands a callable to the main thread.
    """

    changed = Signal()

    def __init__(
        self,
        controller: Controller,
        searches: Searches,
        client_factory: Callable[[], EngineClient],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.busy = False
        self.progress: Progress | None = None
        self.done: Exported | None = None
        self._controller, self._searches = controller, searches
        self._make_client, self._post = client_factory, post
        self._client: EngineClient | None = None
        self._job: Any = None
        self._refused: tuple[ExportWish, Scope, bool] | None = None
        self._number = 0
        controller.state_changed.connect(self._follow)

    def close(self) -> None:
        """End what is running; nothing half-written stays."""
        self._number += 1
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _follow(self, new: ViewState, old: ViewState) -> None:
        if (new.project and new.project.path) != (old.project and old.project.path):
            self.cancel()
            self.done = self._refused = None
            self.changed.emit()

    # --- which items ---------------------------------------------------------------

    def scopes(self) -> Iterator[tuple[Scope, str, int]]:
        """Yield (scope, words, count) of everything that can be exported now."""
        state, found = self._controller.state, self._searches.found
        if state.project is None:
            return
        yield Scope("all"), "Everything", state.project.n_items
        if state.n_selected:
            yield Scope("selected"), "The selection", state.n_selected
        if state.n_drawn < state.n_loaded - state.n_excluded:
            yield Scope("shown"), "What the map shows", state.n_drawn
        if found is not None and found.ids.size:
            yield Scope("found"), f"Found: {found.title}", int(found.ids.size)
        for tag in state.decisions.tags if state.decisions else ():
            if tag.count:
                yield Scope("tag", tag.name), f"Tag: {tag.name}", tag.count
        for kept in state.decisions.selections if state.decisions else ():
            yield Scope("saved", kept.name), f"Saved: {kept.name}", kept.n_items

    def _chosen(self, scope: Scope) -> NDArray[np.int64] | None:
        """Return what the canvas and the searches know of; None leaves it to others."""
        if scope.kind == "selected":
            return np.flatnonzero(self._controller.selection())
        if scope.kind == "shown":
            return np.flatnonzero(self._controller.drawn())
        if scope.kind == "found" and self._searches.found is not None:
            return self._searches.found.ids
        return None

    # --- wishes ----------------------------------------------------------------------

    def start(
        self, wish: ExportWish, scope: Scope, *, with_excluded: bool = False
    ) -> None:
        """Export; whatever is wrong with the wish is told, and nothing is changed.

        Parameters
        ----------
        wish
            Its ``ids`` are those of the scope.
        scope
            Which items.
        with_excluded
            Also excluded ones.
        """
        project, decisions = self._controller.open_one, self._controller.decisions
        if project is None or self.busy:
            return
        self._controller.tell(None)
        self.busy, self.done, self.progress = True, None, None
        self._refused = (wish, scope, with_excluded)
        self._number += 1
        number, chosen = self._number, self._chosen(scope)
        on_map = self._controller.excluded()

        def work(project: Any) -> ExportWish:
            if wish.format == DECISIONS:
                return wish
            ids = chosen
            if scope.kind == "tag" and decisions is not None:
                ids = np.flatnonzero(decisions.tagged(scope.name))
            elif scope.kind == "saved" and decisions is not None:
                ids = decisions.selection(scope.name)
            out = np.zeros(project.n_items, bool)
            if decisions is not None:
                out |= decisions.excluded()
            if len(on_map) == len(out):
                out |= on_map
            if out.any() and not with_excluded:
                ids = np.flatnonzero(~out) if ids is None else ids[~out[ids]]
            if ids is not None and not ids.size:
                raise InputError("None of these items is left, so nothing is written.")
            return replace(wish, ids=ids)

        # On the reading thread, behind the decisions that are still being written.
        self._controller.read(
            "export", work,
            lambda ready: self._ours(number, lambda: self._submit(number, ready)),
            failed=lambda error: self._ours(number, lambda: self._failed(error)),
        )  # fmt: skip
        self.changed.emit()

    def replace_file(self) -> None:
        """Export again what was refused because the file exists."""
        if self._refused is not None:
            wish, scope, with_excluded = self._refused
            wish = replace(wish, overwrite=True)
            self.start(wish, scope, with_excluded=with_excluded)

    def cancel(self) -> None:
        """Stop the export; nothing of it stays."""
        if not self.busy:
            return
        job = self._job
        if job is not None:
            job.cancel()
        else:
            self._number += 1
            self._ended()

    # --- how -------------------------------------------------------------------------

    def _submit(self, number: int, wish: ExportWish) -> None:
        project = self._controller.open_one
        try:
            self._client = self._client or self._make_client()
            exporter = Exporter(self._client, project)
            exporter.check(wish)
            if wish.format == "coco" and not is_inspected(project):
                self._measure(number, lambda: self._write(number, exporter, wish))
            else:
                self._write(number, exporter, wish)
        except Exception as error:  # noqa: BLE001  shown in place, whatever it was
            self._failed(error, wish)

    def _measure(self, number: int, then: Callable[[], None]) -> None:
        """Measure the images first, which this format tells the sizes of."""

        def follow(event: Event) -> None:
            if event.progress is not None:
                self._later(number, lambda: self._progressed(event.progress))
            if event.final and event.error is not None:
                self._later(number, lambda: self._failed(event.error))
            elif event.final:
                self._later(number, then)

        assert self._client is not None
        path = str(self._controller.open_one.path)  # type: ignore[union-attr]
        self._job = self._client.submit("inspect", follow, path=path)

    def _write(self, number: int, exporter: Exporter, wish: ExportWish) -> None:
        self._job = exporter.submit(
            wish,
            lambda count: self._later(number, lambda: self._written(wish, count)),
            lambda error: self._later(number, lambda: self._failed(error, wish)),
            progress=lambda p: self._later(number, lambda: self._progressed(p)),
        )

    def _ours(self, number: int, call: Callable[[], None]) -> None:
        if number == self._number:
            call()

    def _later(self, number: int, call: Callable[[], None]) -> None:
        self._post(lambda: self._ours(number, call))

    def _progressed(self, progress: Progress | None) -> None:
        self.progress = progress
        self.changed.emit()

    def _written(self, wish: ExportWish, count: int) -> None:
        path = wish.path.expanduser().absolute()
        size = None
        if path.is_file():
            size = os.path.getsize(path)
        what = "decisions" if wish.format == DECISIONS else "items"
        self.done = Exported(path, count, size, what)
        self._refused = None
        self._ended()

    def _failed(self, error: Exception | None, wish: ExportWish | None = None) -> None:
        self._ended()
        if error is None or isinstance(error, JobCancelled):
            return
        path = None if wish is None else wish.path.expanduser()
        if path is not None and path.is_file() and not wish.overwrite:  # type: ignore[union-attr]
            self._controller.tell(
                Message(
                    f"{path.name} exists already in {path.parent}.",
                    kept="It was not changed. Choose another name, or replace it.",
                    level="warning",
                    action=REPLACE,
                    action_label="Replace it",
                )
            )
        else:
            self._controller.fail(error, kept="Nothing was written.")

    def _ended(self) -> None:
        self.busy, self.progress, self._job = False, None, None
        self.changed.emit()
