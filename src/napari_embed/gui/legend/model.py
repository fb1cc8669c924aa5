"""What a legend knows: classes, counts, colours, which are hidden. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_embed.errors import InputError
from napari_embed.gui.legend.palettes import MISSING_COLOR, category_palette

__all__ = ["LONGEST_NAME", "MISSING", "OTHER", "TOP", "LegendModel", "LegendRow"]

MISSING = -1
OTHER = -2
TOP = 20
LONGEST_NAME = 200
NO_LABEL = "(no label)"
RGBA = tuple[float, float, float, float]


@dataclass(frozen=True)
class LegendRow:
    """One line: a class, "(no label)", or all classes beyond the first ones.

    ``shown`` is True, False, or None where some of "other" are hidden; ``parts`` are
    the colours of the first four of "other".
    """

    code: int
    name: str
    count: int
    selected: int
    color: RGBA
    shown: bool | None
    parts: tuple[RGBA, ...] = ()


class LegendModel:
    """Classes of a column, sorted by count.

    Parameters
    ----------
    codes
        (n,) class per item; -1 is missing.
    names
        One per class. Plain text; cut at 200 characters for display.
    palette
        (m, 4) RGBA in 0..1; made if None.
    counted
        (n,) which items count, those on the map say. All if None.
    """

    def __init__(
        self,
        codes: ArrayLike,
        names: Sequence[str],
        palette: ArrayLike | None = None,
        counted: NDArray[np.bool_] | None = None,
    ):
        self.codes = np.asarray(codes)
        self.names = tuple(_shorten(str(name)) for name in names)
        m = len(self.names)
        if self.codes.size and int(self.codes.max()) >= m:
            raise InputError(
                f"class {int(self.codes.max())} has no name; {m} names were given. "
                "Give one name per class."
            )
        self.set_palette(category_palette(m) if palette is None else palette)
        self._shifted = self.codes + 1
        self.selected = np.zeros(m + 1, dtype=np.int64)
        self.set_counted(counted)
        self.hidden: frozenset[int] = frozenset()
        self._before_isolation: frozenset[int] = frozenset()
        self._isolated: frozenset[int] = frozenset()

    @property
    def all_codes(self) -> tuple[int, ...]:
        """All classes, most frequent first, then missing if there is any."""
        missing = (MISSING,) if self.counts[0] else ()
        return (*self._order, *missing)

    @property
    def other_codes(self) -> tuple[int, ...]:
        """Classes that are folded into "other"."""
        return tuple(self._order[TOP:]) if len(self._order) > TOP + 1 else ()

    def set_palette(self, palette: ArrayLike) -> None:
        """Give all classes other colours, (m, 4) RGBA in 0..1."""
        colors, m = np.array(palette, np.float32), len(self.names)
        if colors.shape != (m, 4):
            raise InputError(
                f"a palette of {m} classes has shape ({m}, 4); found {colors.shape}"
            )
        self.palette = colors

    def set_counted(self, mask: NDArray[np.bool_] | None) -> None:
        """Count, and sort by, these items; (n,) mask, None for all."""
        everyone = mask is None or bool(mask.all())
        self.counts = self._count(None if everyone else mask)
        order = np.argsort(-self.counts[1:], kind="stable")
        self._order = [int(code) for code in order]

    def set_selection(self, mask: NDArray[np.bool_] | None) -> None:
        """Count the selected items per class; (n,) mask."""
        self.selected = self._count(mask)

    def rows(self, *, search: str = "", unfolded: bool = False) -> list[LegendRow]:
        """Return the lines to show; a search looks at all classes."""
        if search.strip():
            return [self._row(code) for code in self.found(search)]
        folded = () if unfolded else self.other_codes
        top = self._order[: len(self._order) - len(folded)]
        rows = [self._row(code) for code in top]
        if folded:
            rows.append(self._other_row(folded))
        if self.counts[0]:
            rows.append(self._row(MISSING))
        return rows

    def name(self, code: int) -> str:
        """Return what a class is called."""
        return NO_LABEL if code == MISSING else self.names[code] or NO_LABEL

    def color(self, code: int) -> RGBA:
        """Return the colour of a class; missing is grey."""
        if code < 0:
            return MISSING_COLOR
        r, g, b, a = (float(value) for value in self.palette[code])
        return r, g, b, a

    def set_color(self, code: int, rgba: Sequence[float]) -> None:
        """Give a class another colour."""
        self.palette[code] = np.clip(np.asarray(rgba, dtype=np.float32), 0, 1)

    def members(self, code: int) -> frozenset[int]:
        """Return the classes a line stands for."""
        return frozenset(self.other_codes) if code == OTHER else frozenset((code,))

    def toggle(self, code: int) -> frozenset[int]:
        """Hide the line's classes, or show them if all are hidden."""
        members = self.members(code)
        hidden = members <= self.hidden
        self.hidden = self.hidden - members if hidden else self.hidden | members
        self._isolated = frozenset()
        return self.hidden

    def isolate(self, code: int) -> frozenset[int]:
        """Show only the line's classes; again: show what was shown before."""
        return self.isolate_all(self.members(code))

    def isolate_all(self, codes: Iterable[int]) -> frozenset[int]:
        """Show only these classes; again: show what was shown before."""
        members = frozenset(codes)
        if self._isolated == members:
            self.hidden = self._before_isolation
            self._isolated = frozenset()
        else:
            if not self._isolated:
                self._before_isolation = self.hidden
            self.hidden = frozenset(self.all_codes) - members
            self._isolated = members
        return self.hidden

    def found(self, search: str) -> tuple[int, ...]:
        """Return the classes whose names hold all words of ``search``."""
        words = search.casefold().split()
        return tuple(
            code
            for code in self.all_codes
            if all(word in self.name(code).casefold() for word in words)
        )

    def show_all(self) -> frozenset[int]:
        """Hide nothing."""
        self.hidden = self._isolated = frozenset()
        return self.hidden

    def state(self) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
        """Return what `restore` takes."""
        return self.hidden, self._isolated, self._before_isolation

    def restore(
        self, state: tuple[frozenset[int], frozenset[int], frozenset[int]]
    ) -> None:
        """Go back to an earlier `state`."""
        self.hidden, self._isolated, self._before_isolation = state

    def visible_mask(self) -> NDArray[np.bool_]:
        """Return (n,) which items are not hidden."""
        shown = np.ones(len(self.names) + 1, dtype=bool)
        shown[[code + 1 for code in self.hidden]] = False
        return shown[self._shifted]

    def _count(self, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        shifted = self._shifted if mask is None else self._shifted[mask]
        return np.bincount(shifted, minlength=len(self.names) + 1).astype(np.int64)

    def _row(self, code: int) -> LegendRow:
        return LegendRow(
            code,
            self.name(code),
            int(self.counts[code + 1]),
            int(self.selected[code + 1]),
            self.color(code),
            code not in self.hidden,
        )

    def _other_row(self, folded: tuple[int, ...]) -> LegendRow:
        at = np.asarray(folded) + 1
        hidden = sum(code in self.hidden for code in folded)
        shown = True if not hidden else False if hidden == len(folded) else None
        return LegendRow(
            OTHER,
            f"{len(folded):,} other classes",
            int(self.counts[at].sum()),
            int(self.selected[at].sum()),
            MISSING_COLOR,
            shown,
            tuple(self.color(code) for code in folded[:4]),
        )


def _shorten(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
