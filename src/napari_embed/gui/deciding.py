"""The controller's half that keeps what people decide: tags, labels, exclusion.

No Qt. Decisions are written on the reading thread, in the order they were made; what
is excluded on the canvas and what is kept are brought together after each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.errors import EmbedError
from napari_embed.gui.background import Background
from napari_embed.gui.state import DecisionsView, Message, TagView, ViewState
from napari_embed.gui.undoing import keep_excluded
from napari_embed.gui.views import MapView

__all__ = ["Deciding", "OpenDecisions"]

logger = logging.getLogger(__name__)

OpenDecisions = Callable[[Any], Decisions]
"""``open_decisions(project)`` returns its decisions, writable where possible."""

MOST_STEPS = 100
Work = Callable[[Decisions], object]


def _read(decisions: Decisions) -> DecisionsView:
    counts = decisions.tag_counts()
    done, undone = decisions.history(MOST_STEPS)
    return DecisionsView(
        tags=tuple(
            TagView(tag.name, tag.color, tag.shortcut, counts.get(tag.name, 0))
            for tag in decisions.tags()
        ),
        labels=tuple(decisions.corrected()[1]),
        selections=tuple(decisions.selections()),
        views=tuple(decisions.views()),
        done=tuple(done),
        undone=tuple(undone),
        read_only=decisions.read_only_reason,
    )


class Deciding:
    """Mixin of `Controller`: tags, corrected labels, notes, lasting exclusion."""

    state: ViewState
    update: Callable[..., None]
    tell: Callable[[Message | None], None]
    fail: Callable[..., None]
    selection: Callable[[], NDArray[np.bool_]]
    select: Callable[..., None]
    _tell_undo: Callable[[], None]
    _color_decided: Callable[[], None]
    _list_columns: Callable[[], None]
    _look_to_keep: Callable[[], Callable[[], dict[str, Any]] | None]
    _map: MapView
    _background: Background
    _project: Any | None
    _open_decisions: OpenDecisions | None

    def _no_decisions(self) -> None:
        self._decisions: Decisions | None = None
        # What is not written yet, and all decisions that are not closed yet.
        self._pending: dict[int, Work] = {}
        self._awaited = 0  # answers that have not arrived
        self._following = False  # the canvas follows the decisions, not the user
        self._last_tag = ""

    def _start_deciding(self) -> None:
        self._numbers = count()
        self._to_close: list[tuple[Decisions, dict[int, Work]]] = []
        self._no_decisions()

    # --- life --------------------------------------------------------------------

    def _decisions_of(self, project: Any) -> tuple[Decisions | None, Any, Any]:
        """Open and read the decisions of a project; on the reading thread.

        Returns them, what there is to show of them, and the last look of a window.
        """
        if self._open_decisions is None:
            return None, None, {}
        try:
            decisions = self._open_decisions(project)
            found = _read(decisions), decisions.excluded()
            return decisions, found, decisions.remembered()
        except EmbedError as error:
            logger.info("No decisions: %s", error)
            return None, (DecisionsView(read_only=str(error)), None), {}

    def _adopt_decisions(self, decisions: Decisions | None, found: Any) -> None:
        self._no_decisions()
        self._decisions = decisions
        if decisions is not None:
            self._to_close.append((decisions, self._pending))
        if found is not None:
            view, excluded = found
            self.update(decisions=view)
            self._tell_undo()
            self._list_columns()
            if excluded is not None and excluded.any():
                self._put_excluded(excluded)

    def _release_decisions(self) -> None:
        """Close them on the reading thread, behind what is still to be written."""
        decisions, pending = self._decisions, self._pending
        self._no_decisions()
        if decisions is not None:
            self._background.run(
                f"release {id(decisions)}",
                decisions.close,
                lambda _: self._to_close.remove((decisions, pending)),
                _nothing,
            )

    def _reopen_decisions(
        self, then: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        """Open them anew, as when the project has got more items.

        ``then`` gets the last look of a window at the project, {} without one.
        """
        project = self._project
        self._release_decisions()

        def done(found: tuple[Decisions | None, Any, Any]) -> None:
            self._adopt_decisions(*found[:2])
            if then is not None:
                then(found[2])

        def failed(error: Exception) -> None:
            self.fail(error)
            if then is not None:
                then({})

        self._background.run(
            "decisions",
            lambda: self._decisions_of(project),
            done,
            failed,
            dropped=lambda found: found[0] and found[0].close(),
        )

    def _close_decisions(self) -> None:
        """Write what the reading thread did not get to and the last look, and close."""
        look, last = self._look_to_keep(), self._decisions
        self._decisions = None
        for decisions, pending in self._to_close:
            try:
                for work in list(pending.values()):
                    work(decisions)
                if look is not None and decisions is last:
                    decisions.remember(look())
            except EmbedError as error:
                logger.warning("The last decisions were not kept: %s", error)
            finally:
                decisions.close()
        self._to_close.clear()

    # --- one decision ------------------------------------------------------------

    @property
    def decisions(self) -> Decisions | None:
        """What is decided in the open project; safe to read on other threads."""
        return self._decisions

    @property
    def can_decide(self) -> bool:
        """Whether decisions are kept in the project."""
        return self._decisions is not None and self._decisions.writable

    def decide(self, work: Work, label: str = "decide") -> None:
        """Run ``work(decisions)`` on the reading thread and show what came of it.

        It stands in the history in its place, called ``label`` until its own name is
        known.
        """
        if self._decisions is None:
            return
        undo, redo = self._kept_steps(made := [0])
        step = self._map.history.record_kept(label, undo, redo)

        def counted(decisions: Decisions) -> None:
            before = decisions.version
            try:
                work(decisions)
            finally:
                made[0] = decisions.version - before

        def told(view: DecisionsView | None) -> None:
            if view is None or not made[0]:
                self._map.history.drop(step)
            elif view.done:
                self._map.history.rename(step, view.done[0].label)

        self._write(counted, told)

    def _kept_steps(
        self, made: Sequence[int] = (1,)
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return what takes the last ``made[0]`` decisions back, and makes them again.

        That number is looked up when it is their turn on the reading thread.
        """

        def repeated(how: str) -> Callable[[], None]:
            def act(decisions: Decisions) -> None:
                for _ in range(made[0]):
                    getattr(decisions, how)()

            return lambda: self._write(act)

        return repeated("undo"), repeated("redo")

    def _write(
        self, work: Work, told: Callable[[DecisionsView | None], None] | None = None
    ) -> None:
        """Run work on the reading thread, then ``told`` with what holds (None: failed).

        It stands in no history.
        """
        decisions = self._decisions
        if decisions is None:
            return
        number, pending = next(self._numbers), self._pending
        pending[number] = work
        self._awaited += 1

        def act() -> tuple[DecisionsView, NDArray[np.bool_]]:
            pending.pop(number)(decisions)
            return _read(decisions), decisions.excluded()

        def done(found: tuple[DecisionsView, NDArray[np.bool_]]) -> None:
            if self._decisions is decisions:
                self._awaited -= 1
                if told is not None:
                    told(found[0])
                self._decided(*found)

        def failed(error: Exception) -> None:
            if self._decisions is decisions:
                self._awaited -= 1
                if told is not None:
                    told(None)
            self.fail(error, kept="Nothing was changed.")

        self._background.run(f"decide {number}", act, done, failed)

    def _decided(self, view: DecisionsView, excluded: NDArray[np.bool_]) -> None:
        self.update(decisions=view)
        self._tell_undo()
        if not self._awaited:
            self._color_decided()
        # With more on its way the canvas is ahead of what was just read.
        if not self._awaited and not np.array_equal(self._map.excluded(), excluded):
            self._put_excluded(excluded)

    def _put_excluded(self, excluded: NDArray[np.bool_]) -> None:
        """Let the canvas follow the decisions; that is no step of its own."""
        self._following = True
        try:
            with self._map.history.paused():
                self._map.set_excluded(excluded)
        finally:
            self._following = False

    def _follow_excluded(self) -> None:
        """Keep what the user has excluded or taken back on the canvas."""
        mask = np.array(self._map.excluded())
        if self._following or not self.can_decide or self._decisions is None:
            return
        if len(mask) == self._decisions.n_items:
            how = self._map.history.replaying
            self._map.history.mark_kept()
            self._write(lambda d: keep_excluded(d, mask, replaying=how))

    # --- wishes ------------------------------------------------------------------

    def _chosen(self, ids: Any = None) -> NDArray[np.int64]:
        if ids is not None:
            return np.asarray(ids, dtype=np.int64)
        return np.flatnonzero(self.selection())

    def _wants_items(self, ids: NDArray[np.int64], what: str) -> bool:
        if ids.size == 0:
            self.tell(Message(f"Select the items to {what} first."))
        return ids.size > 0

    def new_tag(self, name: str) -> None:
        """Make a tag; the first nine get the number keys 1 to 9."""
        name = name.strip()

        def make(decisions: Decisions) -> None:
            tags = decisions.tags()
            used = {tag.shortcut for tag in tags}
            free = next((key for key in range(1, 10) if key not in used), None)
            if name not in {tag.name for tag in tags}:
                with decisions.step(f'New tag "{name}"'):
                    decisions.define_tag(name, shortcut=free)

        if name:
            self._last_tag = name
            self.decide(make)

    def change_tag(self, name: str, **changes: Any) -> None:
        """Give a tag another ``new_name``, ``color`` or ``shortcut``."""
        self.decide(lambda d: d.change_tag(name, **changes))

    def delete_tag(self, name: str) -> None:
        """Forget a tag; undo brings it back with its items."""
        self.decide(lambda d: d.delete_tag(name))

    def tag_items(self, name: str, ids: Any = None) -> None:
        """Give the selected items, or these, a tag."""
        items = self._chosen(ids)
        if name and self._wants_items(items, "tag"):
            self._last_tag = name
            self.decide(lambda d: d.add_tag(name, items))

    def untag_items(self, name: str, ids: Any = None) -> None:
        """Take a tag off the selected items, or these."""
        items = self._chosen(ids)
        if name and self._wants_items(items, "take the tag off"):
            self.decide(lambda d: d.remove_tag(name, items))

    def tag_again(self) -> None:
        """Give the selected items the tag that was used last."""
        tags = self.state.decisions.tags if self.state.decisions else ()
        names = [tag.name for tag in tags]
        if names:
            self.tag_items(self._last_tag if self._last_tag in names else names[0])
        else:
            self.tell(Message("There is no tag yet.", kept="Make one in Curate."))
            self.panel_wanted.emit("curate")  # type: ignore[attr-defined]

    def tag_by_key(self, key: int, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """Give items the tag of a number key, or take it off if all have it."""
        tags = self.state.decisions.tags if self.state.decisions else ()
        name = next((tag.name for tag in tags if tag.shortcut == key), "")
        items = self._chosen(ids)
        if name and items.size:
            self._last_tag = name
            self.decide(lambda d: d.toggle_tag(name, items))

    def select_tagged(self, name: str) -> None:
        """Select the items that have a tag."""
        decisions = self._decisions
        if decisions is not None:
            self._background.run(
                "tagged", lambda: decisions.tagged(name), self.select, self.fail
            )

    def set_label(self, label: str | None) -> None:
        """Correct the label of the selected items; None takes that back."""
        items = self._chosen()
        if self._wants_items(items, "label"):
            self.decide(lambda d: d.set_label(label, items))

    def set_note(self, text: str) -> None:
        """Write a note to the selected items; "" removes it."""
        items = self._chosen()
        if self._wants_items(items, "write a note to"):
            self.decide(lambda d: d.set_note(text or None, items))


def _nothing(_: object) -> None:
    """Take an answer that nobody waits for."""
