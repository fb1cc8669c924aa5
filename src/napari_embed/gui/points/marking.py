"""Which points are selected, hidden and excluded, and undo of all three."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_embed.errors import InputError
from napari_embed.gui.history import History, MaskChange, PackedMask

from . import tools
from .selection import MaskSelection, as_mask

__all__ = ["Marking"]

BoolMask = npt.NDArray[np.bool_]


class Marking:
    """Mixin of :class:`EmbeddingPoints`: masks over the points and their history.

    Three masks are independent of one another: *selected*, *hidden* (`set_visible`),
    and *excluded*. Points that are hidden, excluded or without a position are not
    drawn and not picked.
    """

    def _set_up_marking(self, n: int) -> None:
        self._visible_points: BoolMask | None = None
        self._excluded: BoolMask | None = None
        self._pickable: tuple[BoolMask | None] | None = None
        self.history = History()
        self._selection = MaskSelection(n)
        self._selection.recorder = self._record_selection
        self._selection.events.items_changed.connect(self._on_selection_changed)

    # -- selection

    @property
    def selected_data(self) -> MaskSelection:
        """Selected ids, with the interface of napari's selection."""
        return self._selection

    @selected_data.setter
    def selected_data(self, selected: Any) -> None:
        self._selection.replace_selection(selected)

    @property
    def mask(self) -> BoolMask:
        """Selected points as a read-only mask, bool (n,)."""
        return self._selection.mask

    @property
    def n_selected(self) -> int:
        """Number of selected points."""
        return len(self._selection)

    def selected_ids(self) -> npt.NDArray[np.intp]:
        """Return the selected ids in ascending order."""
        return self._selection.ids()

    def select(self, ids: Any, how: tools.How = "replace") -> None:
        """Change the selection.

        Parameters
        ----------
        ids : array-like of int, or mask bool (n,)
            Hidden points may be selected in this way.
        how : {"replace", "add", "subtract", "intersect", "toggle"}
            What to do with the points given.
        """
        given, now = as_mask(ids, self._n), self._selection.mask
        if how == "replace":
            pass
        elif how == "add":
            given |= now
        elif how == "subtract":
            given = now & ~given
        elif how == "intersect":
            given &= now
        elif how == "toggle":
            given ^= now
        else:
            raise InputError(
                f"how is {how!r}, expected replace, add, subtract, intersect or toggle."
            )
        self._selection.set_mask(given)

    def clear_selection(self) -> None:
        """Select nothing."""
        with self.history.step("clear the selection"):
            self._selection.clear()

    def invert_selection(self) -> None:
        """Select the visible points that are not selected, and only these."""
        mask = ~self._selection.mask
        if self.pickable is not None:
            mask &= self.pickable
        with self.history.step("invert the selection"):
            self._selection.set_mask(mask)

    def select_all(self) -> None:
        """Select all visible points, or none if they all are."""
        pickable = self.pickable
        mask = np.ones(self._n, bool) if pickable is None else pickable.copy()
        if np.array_equal(mask, self._selection.mask):
            mask[:] = False
        with self.history.step("select all"):
            self._selection.set_mask(mask)

    def _on_selection_changed(self) -> None:
        self._state_changed()
        self.signals.selection_changed.emit()

    # -- undo and redo

    def undo(self) -> str:
        """Take back the last change of selection, hiding or exclusion.

        Returns
        -------
        str
            What was taken back, "" if there is nothing left.
        """
        return self.history.undo()

    def redo(self) -> str:
        """Make the change that was taken back last again; return what it was."""
        return self.history.redo()

    def _record_selection(self, changed: BoolMask) -> None:
        change = MaskChange(changed)

        def flip() -> None:
            self._selection.set_mask(change.flip(self._selection.mask))

        self.history.record("select", flip, flip, nbytes=change.nbytes)

    def _record_hidden(
        self, label: str, before: BoolMask | None, after: BoolMask | None
    ) -> None:
        old, new = PackedMask(before), PackedMask(after)
        self.history.record(
            label,
            lambda: self._put_visible(old.unpack()),
            lambda: self._put_visible(new.unpack()),
            nbytes=old.nbytes + new.nbytes,
        )

    # -- visibility

    @property
    def visible_mask(self) -> BoolMask:
        """Points that are neither hidden nor excluded, read-only bool (n,)."""
        parts = [m for m in (self._visible_points, self._kept()) if m is not None]
        if not parts:
            return np.broadcast_to(np.True_, self._n)
        view = (parts[0] & parts[-1] if len(parts) > 1 else parts[0]).view()
        view.flags.writeable = False
        return view

    @property
    def n_visible(self) -> int:
        """Number of points that are neither hidden nor excluded."""
        if self._visible_points is None and self._excluded is None:
            return self._n
        return int(np.count_nonzero(self.visible_mask))

    @property
    def hidden_mask(self) -> BoolMask:
        """Points that are hidden, excluded or not; read-only bool (n,)."""
        shown = self._visible_points
        return np.broadcast_to(np.False_, self._n) if shown is None else ~shown

    def set_visible(self, mask: Any) -> None:
        """Show these points and hide all others; the selection stays as it is.

        Parameters
        ----------
        mask : mask bool (n,), or array-like of int
            Points to show. Excluded ones are shown when they are included again.
        """
        shown = as_mask(mask, self._n)
        self._put_visible(None if shown.all() else shown)

    def _put_visible(self, shown: BoolMask | None) -> None:
        self._visible_points = shown
        self._visibility_changed()

    def _visibility_changed(self) -> None:
        self._pickable = None
        self._state_changed()
        self.signals.visibility_changed.emit()

    def _hide(self, label: str, shown: BoolMask | None) -> None:
        """Show other points, as a step that can be undone."""
        if shown is not None and shown.all():
            shown = None
        before = self._visible_points
        if before is None and shown is None:
            return
        self._record_hidden(label, before, shown)
        self._put_visible(shown)

    def show_all(self) -> None:
        """Hide nothing; excluded points stay away."""
        self._hide("show all", None)

    def hide_selected(self) -> None:
        """Hide the selected points and deselect them."""
        if self.n_selected:
            shown = ~self.mask
            if self._visible_points is not None:
                shown &= self._visible_points
            with self.history.step("hide"):
                self.clear_selection()
                self._hide("hide", shown)

    def isolate_selected(self) -> None:
        """Show only the selected points, which stay selected."""
        if self.n_selected:
            shown = self.mask.copy()
            if self._visible_points is not None:
                shown &= self._visible_points
            self._hide("isolate", shown)

    @property
    def shown(self) -> BoolMask:
        """The name in napari for :attr:`visible_mask`."""
        return self.visible_mask

    @shown.setter
    def shown(self, shown: Any) -> None:
        if self._ready:
            self.set_visible(np.broadcast_to(np.asarray(shown, bool), self._n))

    @property
    def pickable(self) -> BoolMask | None:
        """Points that are visible and have a place; None means all."""
        if self._pickable is None:
            parts = [
                m
                for m in (self._visible_points, self._kept(), self._finite)
                if m is not None
            ]
            all_of = np.logical_and.reduce(parts) if parts else None
            self._pickable = (all_of,)
        return self._pickable[0]

    # -- exclusion

    @property
    def excluded_mask(self) -> BoolMask:
        """Items the user has taken out of the map, read-only bool (n,)."""
        if self._excluded is None:
            return np.broadcast_to(np.False_, self._n)
        view = self._excluded.view()
        view.flags.writeable = False
        return view

    @property
    def n_excluded(self) -> int:
        """Number of excluded items."""
        return 0 if self._excluded is None else int(np.count_nonzero(self._excluded))

    def _kept(self) -> BoolMask | None:
        return None if self._excluded is None else ~self._excluded

    def set_excluded(self, mask: Any) -> None:
        """Exclude exactly these items, as a step that can be undone.

        Excluded items are neither drawn nor picked, and :meth:`show_all` leaves them
        out. Nothing is deleted.

        Parameters
        ----------
        mask : mask bool (n,), or array-like of int
        """
        self._exclude("exclude", as_mask(mask, self._n))

    def exclude_selected(self) -> None:
        """Exclude the selected items and deselect them."""
        if self.n_selected:
            with self.history.step("exclude"):
                out = self.excluded_mask | self.mask
                self.clear_selection()
                self._exclude("exclude", out)

    def include_all(self) -> None:
        """Take every excluded item back in."""
        self._exclude("include all", np.zeros(self._n, bool))

    def _exclude(self, label: str, out: BoolMask) -> None:
        change = MaskChange(out != self.excluded_mask)

        def flip() -> None:
            self._put_excluded(change.flip(self.excluded_mask))

        if not np.array_equal(out, self.excluded_mask):
            self.history.record(label, flip, flip, nbytes=change.nbytes)
            self._put_excluded(out)

    def _put_excluded(self, out: BoolMask) -> None:
        self._excluded = out if out.any() else None
        self._visibility_changed()
        self.signals.excluded_changed.emit()
