"""`Decisions`: tags, corrected labels, exclusion and notes of a project's items."""

from __future__ import annotations

import contextlib
import getpass
import json
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import Ids, checked_ids, ordered_ids
from napari_embed.curation.decisions.records import Step, Tag
from napari_embed.curation.decisions.saved import SavedThings
from napari_embed.curation.decisions.state import EXCLUDED, TAG
from napari_embed.curation.decisions.wording import (
    checked_color,
    cleaned_name,
    cleaned_note,
)
from napari_embed.errors import (
    InputError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
)
from napari_embed.project.journal import Journal
from napari_embed.project.lock import CURATION_LOCK_NAME, WriterLock
from napari_embed.project.reader import ProjectReader

__all__ = ["MOST_TAGS", "TAG_COLORS", "Decisions", "items_words"]

MOST_TAGS = 1_000
TAG_COLORS = (
    "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442",
    "#9467bd", "#8c564b", "#17becf",
)  # fmt: skip
"""Colours that tags get in turn, told apart by colour-blind people too."""

_DEFINITION = "tag-definition:"
_SHORTCUTS = range(1, 10)


def items_words(n: int) -> str:
    """Return "1 item" or "1,234 items"."""
    return f"{n:,} item{'' if n == 1 else 's'}"


class Decisions(SavedThings):
    """What people decided about the items of one project; a context manager.

    Made by `open`. Everything is kept in ``state.sqlite`` the moment it is decided, can
    be undone and redone, also after a restart, and does not depend on vectors or maps.
    Images are never changed. Safe to use from several threads; calls that change
    something wait for the disk.
    """

    @classmethod
    def open(
        cls,
        project: ProjectReader,
        *,
        mode: Literal["r", "a", "auto"] = "auto",
        who: str | None = None,
    ) -> Self:
        """Open the decisions of a project.

        Parameters
        ----------
        project
            The project, open for reading or writing.
        mode
            "a" takes the curation lock, which is another one than that of computing;
            "r" changes nothing; "auto" is "a" where that is possible, else "r", and
            ``read_only_reason`` then says why.
        who
            Name noted with each decision; by default the user's login name.

        Raises
        ------
        StoreLockedError
            In mode "a", if another process decides; the message names it.
        StoreReadOnlyError
            In mode "a", if the folder cannot be written to.
        StoreError
            If the log is damaged.
        """
        if mode not in ("r", "a", "auto"):
            raise InputError(f"mode must be 'r', 'a' or 'auto', got {mode!r}.")
        name = cleaned_name(who or _login_name(), "name of the person")
        lock, reason = None, ""
        if mode != "r":
            try:
                lock = WriterLock(project.path, CURATION_LOCK_NAME)
            except (StoreLockedError, StoreReadOnlyError) as error:
                if mode == "a":
                    raise
                reason = str(error)
        try:
            journal = Journal(project.path, writable=lock is not None)
            try:
                return cls(journal, lock, project.n_items, name, reason)
            except BaseException:
                journal.close()
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # tags

    def tags(self) -> list[Tag]:
        """Return all tags in the order they were made."""
        return [tag for _, tag in self._definitions()]

    def tag_counts(self) -> dict[str, int]:
        """Return how many items have each tag."""
        with self._mutex:
            return {
                tag.name: self._state.count(TAG + key)
                for key, tag in self._definitions()
            }

    def define_tag(
        self, name: str, *, color: str | None = None, shortcut: int | None = None
    ) -> Tag:
        """Make a tag, or change colour or shortcut of the one of that name.

        Parameters
        ----------
        name
            At most 100 characters in one line, shown as they are.
        color
            "#rrggbb"; by default the next of `TAG_COLORS`.
        shortcut
            Number key 1 to 9; another tag that had it loses it.
        """
        name = cleaned_name(name, "tag")
        with self._mutex:
            if self._key_of(name) is not None:
                return self.change_tag(name, color=color, shortcut=shortcut)
            with self.step(f'New tag "{name}"'):
                key = self._make_tag(name, color=color)
            if shortcut is not None:
                return self.change_tag(name, shortcut=shortcut)
            return dict(self._definitions())[key]

    def change_tag(
        self,
        name: str,
        *,
        new_name: str | None = None,
        color: str | None = None,
        shortcut: int | None = None,
    ) -> Tag:
        """Give a tag another name, colour or shortcut (0 takes it away).

        Raises
        ------
        InputError
            If there is no such tag, or another one has the new name.
        """
        with self._mutex:
            key = self._known(name)
            old = dict(self._definitions())[key]
            new = old.name if new_name is None else cleaned_name(new_name, "tag")
            if self._key_of(new) not in (None, key):
                raise InputError(
                    f'There is a tag "{new}" already. Choose another name.'
                )
            if shortcut not in (None, 0, *_SHORTCUTS):
                raise InputError(f"A shortcut is a number key 1 to 9, got {shortcut}.")
            keys = old.shortcut if shortcut is None else shortcut or None
            tag = Tag(new, old.color if color is None else checked_color(color), keys)
            with self.step(f'Change tag "{new}"'):
                for other, that in self._definitions():
                    if other != key and keys and that.shortcut == keys:
                        self._define(other, Tag(that.name, that.color))
                self._define(key, tag)
            return tag

    def delete_tag(self, name: str) -> Step | None:
        """Take a tag away from all items and forget it; can be undone."""
        with self._mutex:
            key, version = self._known(name), self.version
            with self.step(f'Delete tag "{name}"'):
                self._change_items(TAG + key, 0, np.flatnonzero(self.tagged(name)))
                self._change_document(_DEFINITION + key, None)
            return self._made(version)

    def add_tag(self, name: str, ids: Ids) -> Step | None:
        """Give items a tag, which is made if need be; None if all had it."""
        name, wanted = cleaned_name(name, "tag"), checked_ids(ids, self.n_items)
        with self._mutex:
            key, version = self._key_of(name), self.version
            if wanted.size == 0 or (key and self._state.has(TAG + key, wanted).all()):
                self._require_writable()
                return None
            with self.step(lambda n: f'Tag {items_words(n)} "{name}"'):
                key = key or self._make_tag(name)
                self._change_items(TAG + key, 1, wanted)
            return self._made(version)

    def remove_tag(self, name: str, ids: Ids) -> Step | None:
        """Take a tag away from items; None if none had it.

        Raises
        ------
        InputError
            If there is no such tag.
        """
        wanted = checked_ids(ids, self.n_items)
        with self._mutex:
            key, version = self._known(name), self.version
            with self.step(lambda n: f'Remove tag "{name}" from {items_words(n)}'):
                self._change_items(TAG + key, 0, wanted)
            return self._made(version)

    def toggle_tag(self, name: str, ids: Ids) -> Step | None:
        """Take a tag away if all these items have it, else give it to all."""
        with self._mutex:
            key = self._key_of(cleaned_name(name, "tag"))
            wanted = checked_ids(ids, self.n_items)
            if key and wanted.size and self._state.has(TAG + key, wanted).all():
                return self.remove_tag(name, wanted)
            return self.add_tag(name, wanted)

    def tagged(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) bool: which items have a tag.

        Raises
        ------
        InputError
            If there is no such tag.
        """
        with self._mutex:
            return self._state.mask(TAG + self._known(name))

    def tags_of(self, ids: Ids) -> list[tuple[str, ...]]:
        """Return the tags of each item, in the order they were made."""
        wanted = ordered_ids(ids, self.n_items)
        found: list[list[str]] = [[] for _ in range(wanted.size)]
        for name, rows in self.tag_members(wanted):
            for row in rows.tolist():
                found[row].append(name)
        return [tuple(names) for names in found]

    def tag_members(self, ids: Ids) -> list[tuple[str, NDArray[np.int64]]]:
        """Return which of some items have each tag, as places in ``ids``."""
        wanted = ordered_ids(ids, self.n_items)
        with self._mutex:
            return [
                (tag.name, np.flatnonzero(self._state.has(TAG + key, wanted)))
                for key, tag in self._definitions()
            ]

    def _definitions(self) -> list[tuple[str, Tag]]:
        """Return (key, tag) in the order they were made."""
        with self._mutex:
            found = [
                (*_parsed(text), key.removeprefix(_DEFINITION))
                for key, text in self._state.documents.items()
                if key.startswith(_DEFINITION)
            ]
        found.sort(key=lambda row: (row[0], row[2]))
        return [(key, tag) for _, tag, key in found]

    def _key_of(self, name: str) -> str | None:
        return next((k for k, tag in self._definitions() if tag.name == name), None)

    def _known(self, name: str) -> str:
        key = self._key_of(name)
        if key is None:
            known = ", ".join(tag.name for tag in self.tags()[:20]) or "none yet"
            raise InputError(f'There is no tag "{name:.100}". Known: {known}.')
        return key

    def _make_tag(self, name: str, *, color: str | None = None) -> str:
        tags = self.tags()
        if len(tags) >= MOST_TAGS:
            raise InputError(
                f"There are {MOST_TAGS:,} tags already, which is the most. Delete some."
            )
        used = [tag.color for tag in tags]
        free = min(TAG_COLORS, key=used.count)
        key = uuid.uuid4().hex[:12]
        chosen = free if color is None else checked_color(color)
        self._define(key, Tag(name, chosen))
        return key

    def _define(self, key: str, tag: Tag) -> None:
        documents = self._state.documents
        old = documents.get(_DEFINITION + key)
        used = [
            _parsed(t)[0] for k, t in documents.items() if k.startswith(_DEFINITION)
        ]
        values = {
            "name": tag.name,
            "color": tag.color,
            "shortcut": tag.shortcut,
            "order": _parsed(old)[0] if old else max(used, default=0) + 1,
        }
        text = json.dumps(values, ensure_ascii=False)
        self._change_document(_DEFINITION + key, text)

    # corrected labels and notes

    def set_label(self, label: str | None, ids: Ids) -> Step | None:
        """Correct the label of items; None takes the correction back."""
        text = None if label is None else cleaned_name(label, "label")

        def words(n: int) -> str:
            if text is None:
                return f"Take back the label of {items_words(n)}"
            return f'Label {items_words(n)} "{text}"'

        return self._set_text("label", text, ids, words)

    def corrected(self) -> tuple[NDArray[np.int32], list[str]]:
        """Return the corrected labels as codes (n,), -1 where there is none, and names.

        Names are sorted.
        """
        return self._coded("label")

    def labels_of(self, ids: Ids) -> list[str | None]:
        """Return the corrected label of each item, None where there is none."""
        return [text or None for text in self._texts_of("label", ids)]

    def set_note(self, text: str | None, ids: Ids) -> Step | None:
        """Write a note to items in place of the one they have; None removes it."""
        note = cleaned_note(text or "") or None
        verb = "Note on" if note else "Remove the note of"
        return self._set_text("note", note, ids, lambda n: f"{verb} {items_words(n)}")

    def notes(self) -> tuple[NDArray[np.int32], list[str]]:
        """Return the notes as codes (n,), -1 where there is none, and texts."""
        return self._coded("note")

    def notes_of(self, ids: Ids) -> list[str]:
        """Return the note of each item, "" where there is none."""
        return self._texts_of("note", ids)

    def _set_text(
        self, key: str, text: str | None, ids: Ids, words: Any
    ) -> Step | None:
        wanted = checked_ids(ids, self.n_items)
        with self._mutex:
            version = self.version
            with self.step(words):
                number = 0 if text is None else self._number_of(text)
                self._change_items(key, number, wanted)
            return self._made(version)

    def _texts_of(self, key: str, ids: Ids) -> list[str]:
        wanted = ordered_ids(ids, self.n_items)
        with self._mutex:
            return [self._text(n) for n in self._state.values(key, wanted).tolist()]

    def _coded(self, key: str) -> tuple[NDArray[np.int32], list[str]]:
        with self._mutex:
            numbers = self._state.column(key)
            used = np.unique(numbers[numbers > 0])
            texts = sorted((self._text(n), n) for n in used.tolist())
            codes = np.full(int(used.max(initial=0)) + 1, -1, np.int32)
            codes[[n for _, n in texts]] = np.arange(len(texts))
            return codes[numbers], [text for text, _ in texts]

    # exclusion

    def exclude(self, ids: Ids) -> Step | None:
        """Take items out of maps, galleries and exports; files stay as they are."""
        return self._exclude(ids, 1, "Exclude")

    def restore(self, ids: Ids) -> Step | None:
        """Take excluded items in again."""
        return self._exclude(ids, 0, "Restore")

    def excluded(self) -> NDArray[np.bool_]:
        """Return (n,) bool: which items are out."""
        with self._mutex:
            return self._state.mask(EXCLUDED)

    @property
    def n_excluded(self) -> int:
        """How many items are out."""
        with self._mutex:
            return self._state.count(EXCLUDED)

    def _exclude(self, ids: Ids, value: int, verb: str) -> Step | None:
        wanted = checked_ids(ids, self.n_items)
        with self._mutex:
            version = self.version
            with self.step(lambda n: f"{verb} {items_words(n)}"):
                self._change_items(EXCLUDED, value, wanted)
            return self._made(version)

    # for files of decisions

    def tag_keys(self) -> list[tuple[str, str]]:
        """Return (key in the log, name) of all tags."""
        return [(key, tag.name) for key, tag in self._definitions()]

    def text_of(self, numbers: NDArray[np.int32]) -> list[str]:
        """Return labels or notes by their numbers in the log."""
        with self._mutex:
            return [self._text(number) for number in numbers.tolist()]

    def take_over(self, kind: str, text: str, ids: Ids, *, who: str, when: str) -> int:
        """Take over what another person decided, inside a step.

        Parameters
        ----------
        kind
            "tag", "label", "note" or "excluded".
        text
            The tag, label or note.
        ids
            Items.
        who, when
            Noted in place of the own name and time.

        Returns
        -------
        How many items changed.
        """
        wanted, value = checked_ids(ids, self.n_items), 1
        with self._mutex, self.step("Take over"):
            if kind == "tag":
                key = TAG + (self._key_of(text) or self._make_tag(text))
            elif kind == "excluded":
                key = EXCLUDED
            else:
                key, value = kind, self._number_of(text)
            return self._change_items(key, value, wanted, who=who, when=when)

    # what the window looked like

    def remember(self, session: Mapping[str, Any]) -> None:
        """Keep what the window looked like last; does nothing where it only reads."""
        text = json.dumps(dict(session))
        with self._mutex:
            if self.writable:
                self._journal.remember("window", text)

    def remembered(self) -> dict[str, Any]:
        """Return what `remember` kept, {} where there is nothing usable."""
        text = self._journal.session("window")
        values = None
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(text) if text else None
        return values if isinstance(values, dict) else {}


def _login_name() -> str:
    """Return who is logged in; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _parsed(text: str | bytes) -> tuple[int, Tag]:
    """Return place and definition of a tag; the data base may hold anything."""
    try:
        values = json.loads(text)
        order, name, shortcut = values["order"], values["name"], values["shortcut"]
        if not (isinstance(order, int) and shortcut in (None, *_SHORTCUTS)):
            raise ValueError("order or shortcut")
        return order, Tag(
            cleaned_name(name, "tag"), checked_color(values["color"]), shortcut
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"The log of decisions holds a damaged tag: {error!r:.200}. Restore "
            "state.sqlite from a backup; images and arrays are not touched."
        ) from error
