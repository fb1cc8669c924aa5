"""The controller's half that takes back: one order for window and decisions. No Qt.

What is selected or hidden is undone from the history of the map; what was decided,
from the log in the project, which lasts. A decision of this window stands in both, so
that one key takes back whatever came last; when the history is at its end, the log
goes on with the decisions of earlier days.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.gui.state import DecisionsView, ViewState
from napari_embed.gui.views import MapView

__all__ = ["Undoing", "keep_excluded"]


def keep_excluded(
    decisions: Decisions, mask: NDArray[np.bool_], *, replaying: str = ""
) -> None:
    """Make ``mask`` (n,) the items that are excluded.

    ``replaying`` "undo" or "redo" does so by undoing or redoing where that leads there.
    """
    if np.array_equal(decisions.excluded(), mask):
        return
    if replaying:
        there, back = decisions.undo, decisions.redo
        if replaying == "redo":
            there, back = back, there
        if there() is not None:
            if np.array_equal(decisions.excluded(), mask):
                return
            back()
    before = decisions.excluded()
    out, again = np.flatnonzero(mask & ~before), np.flatnonzero(before & ~mask)
    if out.size and again.size:
        with decisions.step("Exclude and restore"):
            decisions.restore(again)
            decisions.exclude(out)
    elif out.size:
        decisions.exclude(out)
    elif again.size:
        decisions.restore(again)


class Undoing:
    """Mixin of `Controller`: undo and redo."""

    state: ViewState
    update: Callable[..., None]
    can_decide: bool
    _map: MapView
    _write: Callable[..., None]
    _kept_steps: Callable[..., tuple[Callable[[], None], Callable[[], None]]]

    def undo(self) -> None:
        """Take back what was selected, hidden, excluded or decided last."""
        if self._map.history.undo_label:
            self._map.history.undo()
        else:
            self.undo_decision()

    def redo(self) -> None:
        """Make again what was taken back last."""
        if self._map.history.redo_label:
            self._map.history.redo()
        else:
            self.redo_decision()

    def undo_decision(self) -> None:
        """Take the last decision back, also one of an earlier day."""
        if self._steps("done"):
            self._map.history.forget_kept(last=True)
            self._write(lambda d: d.undo())

    def redo_decision(self) -> None:
        """Make the decision that was taken back again."""
        steps = self._steps("undone")
        if steps:
            self._map.history.forget_kept(last=False)
            self._map.history.append_kept(steps[0].label, *self._kept_steps())
            self._write(lambda d: d.redo())

    def _steps(self, which: str) -> tuple[Any, ...]:
        """Return the decisions that can be undone ("done") or redone ("undone")."""
        view = self.state.decisions or DecisionsView()
        return tuple(getattr(view, which)) if self.can_decide else ()

    def _tell_undo(self) -> None:
        history = self._map.history
        done, undone = self._steps("done"), self._steps("undone")
        self.update(
            undo_label=history.undo_label or (done[0].label if done else ""),
            redo_label=history.redo_label or (undone[0].label if undone else ""),
        )
