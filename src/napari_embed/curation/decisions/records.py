"""What the decisions are made of, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SavedSelection", "SavedView", "Step", "Tag"]


@dataclass(frozen=True)
class Tag:
    """A mark that items can have, as many as one likes.

    Attributes
    ----------
    name
        Plain text in one line.
    color
        "#rrggbb".
    shortcut
        Number key 1 to 9 that sets it, or None.
    """

    name: str
    color: str
    shortcut: int | None = None


@dataclass(frozen=True)
class Step:
    """One step of undo: words for people, who, when (UTC), how many items changed."""

    label: str
    who: str
    when: str
    n_items: int


@dataclass(frozen=True)
class SavedSelection:
    """A selection that was given a name."""

    name: str
    n_items: int
    who: str
    when: str


@dataclass(frozen=True)
class SavedView:
    """A view (camera, colours, filters ...) that was given a name."""

    name: str
    who: str
    when: str
