"""Names, labels and notes that people give: checked, always plain text."""

from __future__ import annotations

import re
import unicodedata

from napari_embed.errors import InputError

__all__ = ["MOST_NAME", "MOST_NOTE", "checked_color", "cleaned_name", "cleaned_note"]

MOST_NAME = 100
"""Characters of a name of a tag, label, selection or view."""
MOST_NOTE = 10_000

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_SHOWN = 40


def cleaned_name(text: str, what: str) -> str:
    """Return a name in one line, without spaces around it.

    Marks such as ``<b>`` are kept: a name is shown as the characters it has.

    Raises
    ------
    InputError
        If it is empty, longer than `MOST_NAME`, or has control characters.
    """
    name = _plain(text, what, MOST_NAME)
    if not name:
        raise InputError(f"The {what} is empty. Give it a name.")
    bad = sorted({c for c in name if not c.isprintable()})
    if bad:
        raise InputError(
            f"The {what} {_shown(name)} has a character that cannot be shown "
            f"({bad[0]!r}). Write it in one line of plain text."
        )
    return name


def cleaned_note(text: str) -> str:
    """Return a note without spaces around it; line breaks and tabs may be inside.

    Raises
    ------
    InputError
        If it is longer than `MOST_NOTE`, or has other control characters.
    """
    note = _plain(text, "note", MOST_NOTE)
    bad = sorted({c for c in note if not (c.isprintable() or c in "\n\t")})
    if bad:
        raise InputError(
            f"The note has a character that cannot be shown ({bad[0]!r}). Write plain "
            "text."
        )
    return note


def checked_color(color: str) -> str:
    """Return a colour as "#rrggbb".

    Raises
    ------
    InputError
        If it is none.
    """
    if not (isinstance(color, str) and _COLOR.fullmatch(color)):
        raise InputError(f"A colour is written #rrggbb, got {_shown(str(color))}.")
    return color.lower()


def _plain(text: str, what: str, most: int) -> str:
    if not isinstance(text, str):
        raise InputError(f"The {what} must be text, got {type(text).__name__}.")
    if len(text) > 4 * most:  # before anything looks at a megabyte
        raise InputError(
            f"The {what} {_shown(text)} has {len(text):,} characters; at most {most:,} "
            "are allowed. Nothing was changed."
        )
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    if len(plain) > most:
        raise InputError(
            f"The {what} {_shown(plain)} has {len(plain):,} characters; at most "
            f"{most:,} are allowed. Nothing was changed."
        )
    if any("\ud800" <= c <= "\udfff" for c in plain):
        raise InputError(f"The {what} holds half a character. Write it anew.")
    return plain


def _shown(text: str) -> str:
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return '"' + "".join(c if c.isprintable() else "?" for c in short) + '"'
