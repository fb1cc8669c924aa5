"""Review: a list of items, one after the other, decided on by keys. No Qt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_embed.curation.decisions import Decisions
from napari_embed.gui.controller import Controller
from napari_embed.gui.settings import read_settings, settings_folder, write_settings
from napari_embed.gui.state import Message, ViewState

__all__ = ["Review"]

MOST_PLACES = 100
NOTHING = "Select the items to review first, or look for some in Find."


class Review:
    """Where somebody is in a list of items, and what is decided there.

    The place in a list is kept, also for another day.

    Parameters
    ----------
    controller
        Keeps the decisions.
    file
        Where places are kept.
    """

    changed = Signal()

    def __init__(self, controller: Controller, file: Path | None = None) -> None:
        self._file = file or settings_folder() / "reviews.json"
        self.ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self.at = 0
        self.tags: tuple[str, ...] = ()
        self.excluded = False
        self._controller = controller
        controller.state_changed.connect(self._follow)

    def _follow(self, new: ViewState, old: ViewState) -> None:
        if (new.project and new.project.path) != (old.project and old.project.path):
            self.leave()
        elif new.decisions is not old.decisions:
            self._look()

    # --- where we are ----------------------------------------------------------------

    @property
    def item(self) -> int:
        """The item that is looked at, -1 without one."""
        return int(self.ids[self.at]) if self.at < len(self.ids) else -1

    @property
    def left(self) -> int:
        """How many items come after this one."""
        return max(0, len(self.ids) - self.at - 1)

    @property
    def ended(self) -> bool:
        """Whether the last item was passed."""
        return bool(len(self.ids)) and self.at >= len(self.ids)

    def start(self, ids: NDArray[np.int64]) -> bool:
        """Begin with a list, where it was left the last time; False if it is empty."""
        self.leave()
        if not len(ids):
            self._controller.tell(Message(NOTHING))
            return False
        self.ids = np.array(ids, np.int64)
        at = read_settings(self._file).get(self._name())
        self.at = at if isinstance(at, int) and 0 < at < len(ids) else 0
        self._moved()
        return True

    def _name(self) -> str:
        project = self._controller.state.project
        about = str(project.path) if project is not None else ""
        made = hashlib.blake2b(self.ids.tobytes(), digest_size=12)
        made.update(about.encode("utf-8", "surrogatepass"))
        return made.hexdigest()

    def leave(self) -> None:
        """End the review; the place is kept, unless the end was reached."""
        if not len(self.ids):
            return
        places = read_settings(self._file)
        places.pop(self._name(), None)
        if 0 < self.at < len(self.ids):
            places[self._name()] = self.at
        for name in list(places)[:-MOST_PLACES]:
            del places[name]
        write_settings(self._file, places)
        self.ids, self.at = np.zeros(0, np.int64), 0
        self._moved()

    def step(self, by: int) -> None:
        """Go on or back; behind the last item is the end."""
        to = min(max(self.at + by, 0), len(self.ids))
        if to != self.at:
            self.at = to
            self._moved()

    def again(self) -> None:
        """Go to the first item."""
        self.step(-len(self.ids))

    def ahead(self, count: int) -> NDArray[np.int64]:
        """Return the items that come next, to be read before they are wanted."""
        return self.ids[self.at : self.at + count]

    def _moved(self) -> None:
        self.tags, self.excluded = (), False
        self._look()
        self.changed.emit()

    def _look(self) -> None:
        """Read what is decided about the item."""
        decisions, item = self._controller.decisions, self.item
        if decisions is None or item < 0:
            return

        def work(_project: object) -> tuple[tuple[str, ...], bool]:
            return decisions.tags_of([item])[0], bool(decisions.excluded()[item])

        def done(found: tuple[tuple[str, ...], bool]) -> None:
            if item == self.item:
                self.tags, self.excluded = found
                self.changed.emit()

        self._controller.read("reviewed", work, done)

    # --- what is decided -------------------------------------------------------------

    def _may(self) -> bool:
        if self.item >= 0 and not self._controller.can_decide:
            view = self._controller.state.decisions
            why = view.read_only if view is not None else ""
            self._controller.tell(
                Message("Nothing can be decided here.", kept=why, level="warning")
            )
            return False
        return self.item >= 0

    def tag(self, key: int) -> None:
        """Give the item the tag of a number key and go on; take it off and stay."""
        view = self._controller.state.decisions
        tags = view.tags if view is not None else ()
        name = next((tag.name for tag in tags if tag.shortcut == key), "")
        if not self._may():
            return
        if not name:
            self._controller.tell(
                Message(f"No tag has the key {key}.", kept="Make one in Curate.")
            )
            return
        stays = name in self.tags
        self._controller.tag_by_key(key, [self.item])
        if not stays:
            self.step(1)

    def exclude(self) -> None:
        """Exclude the item and go on; take an excluded one back in and stay."""
        if not self._may():
            return
        item, out = self.item, self.excluded

        def work(decisions: Decisions) -> None:
            (decisions.restore if out else decisions.exclude)([item])

        self._controller.decide(work)
        if not out:
            self.step(1)

    def undo(self) -> None:
        """Take the last decision back and show the item before."""
        if self._controller.can_decide:
            self._controller.undo_decision()
            self.step(-1)
