"""Named selections and views: undone and redone like every decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import (
    Ids,
    ordered_ids,
    pack_ids,
    unpack_ids,
)
from napari_embed.curation.decisions.log import DecisionLog, now
from napari_embed.curation.decisions.records import SavedSelection, SavedView
from napari_embed.curation.decisions.wording import cleaned_name
from napari_embed.errors import InputError, StoreError

__all__ = ["MOST_VIEW_BYTES", "SavedThings"]

MOST_VIEW_BYTES = 1 << 20
_SELECTION, _VIEW, _FACTS = "selection:", "view:", "facts:"


class SavedThings(DecisionLog):
    """The named selections and views of a project."""

    def save_selection(self, name: str, ids: Ids) -> None:
        """Keep a selection with its order, in place of one of that name.

        Saving what is saved already makes no step.

        Raises
        ------
        InputError
            If nothing is selected, or the name cannot be used.
        """
        name, wanted = cleaned_name(name, "name"), ordered_ids(ids, self.n_items)
        if wanted.size == 0:
            raise InputError("Nothing is selected, so there is nothing to save.")
        with self._mutex, self.step(f'Save selection "{name}"'):
            packed = pack_ids(wanted, ordered=True)
            if self._change_document(_SELECTION + name, packed):
                self._put_facts(_SELECTION + name, n_items=int(wanted.size))

    def selection(self, name: str) -> NDArray[np.int64]:
        """Return the ids of a named selection, in their order."""
        value = self._document(_SELECTION, name, "selection")
        if not isinstance(value, bytes):
            raise StoreError(f'The selection "{name}" is damaged. Delete it.')
        return unpack_ids(value, self.n_items)

    def selections(self) -> list[SavedSelection]:
        """Return all named selections, by name."""
        return [
            SavedSelection(name, int(f.get("n_items", 0)), f["who"], f["when"])
            for name, f in self._facts_of(_SELECTION)
        ]

    def rename_selection(self, name: str, new_name: str) -> None:
        """Give a named selection another name; can be undone.

        Raises
        ------
        InputError
            If there is none of that name, or one of the new name.
        """
        self._rename(_SELECTION, name, new_name, "selection")

    def delete_selection(self, name: str) -> None:
        """Forget a named selection; can be undone."""
        self._delete(_SELECTION, name, "selection")

    def save_view(self, name: str, view: Mapping[str, Any]) -> None:
        """Keep plain values (camera, colours, filters ...) in place of that name's.

        Raises
        ------
        InputError
            If they are no plain values or more than 1 MiB, or the name cannot be used.
        """
        name = cleaned_name(name, "name")
        try:
            text = json.dumps(dict(view), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"A view must be plain values: {error}.") from error
        if len(text.encode("utf-8", "replace")) > MOST_VIEW_BYTES:
            raise InputError("The view is larger than 1 MiB, so it is not saved.")
        with self._mutex, self.step(f'Save view "{name}"'):
            if self._change_document(_VIEW + name, text):
                self._put_facts(_VIEW + name)

    def view(self, name: str) -> dict[str, Any]:
        """Return the values of a named view."""
        value = self._document(_VIEW, name, "view")
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise StoreError(f'The view "{name}" is damaged. Delete it.') from error
        if not isinstance(found, dict):
            raise StoreError(f'The view "{name}" is damaged. Delete it.')
        return found

    def views(self) -> list[SavedView]:
        """Return all named views, by name."""
        return [SavedView(n, f["who"], f["when"]) for n, f in self._facts_of(_VIEW)]

    def rename_view(self, name: str, new_name: str) -> None:
        """Give a named view another name; can be undone. See `rename_selection`."""
        self._rename(_VIEW, name, new_name, "view")

    def delete_view(self, name: str) -> None:
        """Forget a named view; can be undone."""
        self._delete(_VIEW, name, "view")

    def _document(self, kind: str, name: str, what: str) -> str | bytes:
        with self._mutex:
            value = self._state.documents.get(kind + name)
            if value is None:
                known = ", ".join(n for n, _ in self._facts_of(kind)[:20]) or "none yet"
                raise InputError(f'There is no {what} "{name:.100}". Known: {known}.')
            return value

    def _rename(self, kind: str, name: str, new_name: str, what: str) -> None:
        new = cleaned_name(new_name, "name")
        with self._mutex:
            value = self._document(kind, name, what)
            if new == name:
                return
            if kind + new in self._state.documents:
                raise InputError(
                    f'There is a {what} "{new}" already. Choose another name.'
                )
            facts = self._state.documents.get(_FACTS + kind + name)
            with self.step(f'Rename {what} "{name}" to "{new}"'):
                for start, content in ((kind, value), (_FACTS + kind, facts)):
                    self._change_document(start + new, content)
                    self._change_document(start + name, None)

    def _delete(self, kind: str, name: str, what: str) -> None:
        with self._mutex:
            self._document(kind, name, what)
            with self.step(f'Delete {what} "{name}"'):
                self._change_document(kind + name, None)
                self._change_document(_FACTS + kind + name, None)

    def _put_facts(self, key: str, **facts: int) -> None:
        values = {"who": self.who, "when": now(), **facts}
        self._change_document(_FACTS + key, json.dumps(values, ensure_ascii=False))

    def _facts_of(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, facts) of all of a kind, by name."""
        found = []
        with self._mutex:
            for key in self._state.documents:
                if key.startswith(kind):
                    facts = json.loads(self._state.documents.get(_FACTS + key, "{}"))
                    facts = {"who": "", "when": ""} | facts
                    found.append((key.removeprefix(kind), facts))
        return sorted(found)
