"""The controller's half that fills the canvas: positions and colours.

No Qt. Positions and columns are read by `Background`; the canvas is told the
differences through its `MapView`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.errors import InputError
from napari_embed.gui.background import Background
from napari_embed.gui.coloring import Coloring, read_coloring
from napari_embed.gui.decided_columns import decided_columns, read_decided
from napari_embed.gui.legend import category_palette
from napari_embed.gui.state import ColumnInfo, Message, ProjectionInfo, ViewState
from napari_embed.gui.views import MapView

__all__ = ["Showing"]

FLAT = "This is the 3D map seen flat."
FLAT_HINT = "For a 2D map choose 2D in the Compute panel and press Start."


@dataclass
class _Taste:
    """What the user has chosen for a column; kept while the window is open."""

    colors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    limits: tuple[float, float] | None = None


def _palette(
    coloring: Coloring, chosen: dict[str, tuple[float, ...]]
) -> NDArray[np.float32]:
    """Return the palette with the colours that were chosen for some names."""
    palette = coloring.palette.copy()
    for code, name in enumerate(coloring.names) if chosen else ():
        if name in chosen:
            palette[code] = chosen[name]
    return palette


class Showing:
    """Mixin of `Controller`: one map at a time and its colours."""

    state: ViewState
    update: Callable[..., None]
    fail: Callable[..., None]
    tell: Callable[[Message | None], None]
    _push_visible: Callable[[], None]
    _restore_map: Callable[[], None]
    _restore_colors: Callable[[], None]
    _map: MapView
    _background: Background
    _project: Any | None
    _incoming: Any | None
    _decisions: Decisions | None
    _tastes: dict[tuple[str, str], _Taste]

    def _show_nothing(self) -> None:
        """Forget map, colours and what was hidden."""
        self._coloring: Coloring | None = None
        self._hidden_classes: frozenset[int] = frozenset()
        self._placed = np.zeros(0, dtype=bool)
        self._hidden_points = np.zeros(0, dtype=bool)
        self._shown_live = False
        self._seen_last: dict[int, str] = {}

    @property
    def coloring(self) -> Coloring | None:
        """The colours in use."""
        return self._coloring

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which items have a place on the map, (n,); empty without a map."""
        return self._placed

    # --- map -------------------------------------------------------------------

    def show_projection(self, name: str) -> None:
        """Put the map called ``name`` on the canvas."""
        project, info = self._project, self.state.project
        chosen = info.projection(name) if info else None
        if project is None or chosen is None or self._incoming is not None:
            return

        def work() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            positions = project.read_projection(name).positions
            self._map.prepare(len(positions))
            return positions, np.isfinite(positions).all(axis=1)

        self._background.run(
            "projection",
            work,
            lambda found: self._arrive(
                found[0], chosen, lambda: self._show(*found, chosen)
            ),
            self.fail,
        )

    def _arrive(
        self,
        positions: NDArray[np.float32],
        info: ProjectionInfo,
        then: Callable[[], None],
    ) -> None:
        """Let the points come to the canvas step by step; then show them."""
        self._map.arrive(
            positions,
            name=info.name,
            n_components=info.n_components,
            then=then,
            failed=self.fail,
        )

    def _show(
        self,
        positions: NDArray[np.float32],
        placed: NDArray[np.bool_],
        info: ProjectionInfo,
    ) -> None:
        seamless = self._shown_live and self._same_layout(positions, info)
        self._shown_live = False
        self._placed = placed
        if len(self._hidden_points) != len(placed):
            self._hidden_points = np.zeros(len(placed), dtype=bool)
        if seamless:
            self._map.update_positions(positions)
        else:
            self._map.show(positions, name=info.name, n_components=info.n_components)
            self._push_colors()
        self._push_visible()
        self._seen_last[info.n_components] = info.name
        self.update(
            projection=info,
            ndisplay=self.state.ndisplay if seamless else info.n_components,
            data_version=self.state.data_version + 1,
            n_loaded=int(placed.sum()),
            n_selected=int(self._map.selection().sum()),
            n_excluded=int(np.count_nonzero(self._map.excluded())),
        )
        self._tell_missing(len(placed) - int(placed.sum()))
        self._restore_map()

    def _tell_missing(self, n_missing: int) -> None:
        """Say so where more items have no place than images could not be read."""
        known = self.state.project.n_errors if self.state.project else 0
        if n_missing > known:
            self.tell(
                Message(
                    f"{n_missing - known:,} items have no place on this map: their "
                    "positions are no finite numbers.",
                    kept="All others are shown.",
                    level="warning",
                )
            )

    def show_dimensions(self, d: int) -> None:
        """Turn to the 2D or the 3D map; without a 2D map see the 3D one flat."""
        shown = self.state.projection
        if shown is None or d == self.state.ndisplay:
            return
        other = self._map_of(d) if not self._shown_live else None
        if shown.n_components != d and other is not None:
            self.show_projection(other)
        elif shown.n_components >= d:
            self._map.set_ndisplay(d)
            self._note_dimensions(d)
        else:
            # The button that was pressed goes back.
            self.update(data_version=self.state.data_version + 1)
            self.tell(
                Message(
                    "This project has no 3D map yet.",
                    kept="Choose 3D in the Compute panel and press Start.",
                )
            )

    def _ndisplay_changed(self, d: int) -> None:
        """Follow napari's own switch of dimensions."""
        shown = self.state.projection
        other = self._map_of(d) if not self._shown_live else None
        if shown is not None and shown.n_components != d and other is not None:
            self.show_projection(other)
        self._note_dimensions(d)

    def _note_dimensions(self, d: int) -> None:
        shown = self.state.projection
        self.update(ndisplay=d)
        if (
            d == 2
            and shown is not None
            and shown.n_components == 3
            and (self._map_of(2) is None or self._shown_live)
        ):
            self.tell(Message(FLAT, kept=FLAT_HINT))
        elif self.state.message is not None and self.state.message.text == FLAT:
            self.tell(None)

    def _map_of(self, d: int) -> str | None:
        """Return the map of ``d`` dimensions that belongs to the one shown.

        The one of the same vectors and method, else the one seen last, else the first.
        """
        info, shown = self.state.project, self.state.projection
        names = (
            [p.name for p in info.projections if p.n_components == d] if info else []
        )
        wished = shown.name.replace(f"-{5 - d}d", f"-{d}d") if shown else ""
        for name in (wished, self._seen_last.get(d)):
            if name in names:
                return name
        return names[0] if names else None

    def _same_layout(
        self, positions: NDArray[np.float32], info: ProjectionInfo
    ) -> bool:
        shown = self.state.projection
        return (
            shown is not None
            and shown.n_components == info.n_components
            and shown.name == info.name
            and len(self._placed) == len(positions)
        )

    def show_live(self, positions: NDArray[np.float32], name: str) -> None:
        """Show positions that are still being computed."""
        d = positions.shape[1]
        info = ProjectionInfo(name, d, name)
        if self._shown_live and self._same_layout(positions, info):
            self._map.update_positions(positions)
            self.update(data_version=self.state.data_version + 1)
        else:
            # At once: a small map may be finished before it has come step by step.
            self._show(positions, np.isfinite(positions).all(axis=1), info)
            self._shown_live = True

    def drop_live(self, before: ProjectionInfo | None) -> None:
        """Go back to the map ``before``; without one keep the unfinished in view."""
        shown = self.state.projection
        if not self._shown_live or shown is None:
            return
        if before is not None and self.state.project is not None:
            stored = self.state.project.projection(before.name)
            if stored is not None:
                self.show_projection(stored.name)
                return
        self.update(projection=replace(shown, title=f"{shown.name}, not saved"))

    # --- colours and classes -----------------------------------------------------

    def _color_by_default(self) -> None:
        columns = self.state.project.columns if self.state.project else ()
        label = next((c.name for c in columns if c.name == "label"), None)
        self.color_by(label)

    def _list_columns(self) -> None:
        """List what can colour the points now."""
        own = self.state.project.columns if self.state.project else ()
        decided = decided_columns(self.state.decisions, own)
        self.update(columns=(*own, *decided))

    def color_by(self, column: str | None) -> None:
        """Colour the points by a column or by what was decided; None: one colour."""
        self._list_columns()
        self.colors_settled = False
        chosen = next((c for c in self.state.columns if c.name == column), None)
        if chosen is None:
            self._background.drop("column")
            self._colored(None, None)
            return

        def done(coloring: Coloring) -> None:
            # A label column without any label colours nothing.
            empty = coloring.kind == "category" and not coloring.names
            self._colored(None if empty else chosen.name, None if empty else coloring)

        self._read_column(chosen, done)

    def _read_column(
        self, column: ColumnInfo, done: Callable[[Coloring], None]
    ) -> None:
        project, decisions = self._project, self._decisions
        if project is None:
            return

        def work() -> Coloring:
            if column.decided and decisions is not None:
                return read_decided(project, decisions, column.decided)
            return read_coloring(project, column)

        def failed(error: Exception) -> None:
            self.colors_settled = True
            self._restore_colors()
            self.fail(error)

        self._background.run("column", work, done, failed)

    def _color_decided(self) -> None:
        """Let the colours follow the decisions; what is hidden stays so by its name."""
        shown = next(
            (c for c in self.state.columns if c.name == self.state.color_column), None
        )
        self._list_columns()
        if shown is None or not shown.decided or not self.colors_settled:
            return
        if shown not in self.state.columns:  # the last tag was deleted
            self._color_by_default()
            return

        def done(coloring: Coloring) -> None:
            before = self._coloring
            if before is None or self.state.color_column != shown.name:
                return
            old = [before.names[c] if c >= 0 else None for c in self._hidden_classes]
            new = {name: code for code, name in enumerate(coloring.names)}
            hidden = [-1 if name is None else new.get(name) for name in old]
            chosen = self._taste(shown.name).colors
            self._coloring = replace(coloring, palette=_palette(coloring, chosen))
            self._hidden_classes = frozenset(c for c in hidden if c is not None)
            self.update(
                hidden_classes=self._hidden_classes,
                color_version=self.state.color_version + 1,
            )
            self._push_colors()
            self._push_visible()

        self._read_column(shown, done)

    def _colored(self, column: str | None, coloring: Coloring | None) -> None:
        self.colors_settled = True
        self._hidden_classes = frozenset()
        taste = self._taste(column)
        limits = (0.0, 1.0)
        if coloring is not None:
            coloring = replace(coloring, palette=_palette(coloring, taste.colors))
            limits = taste.limits or coloring.limits
        self._coloring = coloring
        self.update(
            color_column=column,
            color_kind=coloring.kind if coloring else "none",
            color_limits=limits,
            hidden_classes=frozenset(),
        )
        self._push_colors()
        self._push_visible()
        self._restore_colors()

    def _taste(self, column: str | None) -> _Taste:
        """Return what the user has chosen for a column of the open project."""
        path = str(self.state.project.path) if self.state.project else ""
        return self._tastes.setdefault((path, column or ""), _Taste())

    def set_colormap(self, name: str) -> None:
        """Choose the colours of numbers."""
        self.update(colormap=name)
        self._push_colors()

    def set_color_limits(self, limits: tuple[float, float] | None) -> None:
        """Choose the numbers of the first and the last colour; None: as at first.

        Raises
        ------
        InputError
            If they are not finite, or not one below the other.
        """
        coloring = self._coloring
        if coloring is None or coloring.kind != "number":
            return
        low, high = limits or coloring.limits
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise InputError(
                f"The colours cannot go from {low:g} to {high:g}: give two numbers, "
                "the smaller one first."
            )
        self._taste(self.state.color_column).limits = limits
        self.update(color_limits=(float(low), float(high)))
        self._push_colors()

    def _push_colors(self) -> None:
        if not self._placed.size:
            return
        coloring = self._coloring
        if coloring is None:
            self._map.color_plain()
        elif coloring.kind == "category":
            self._map.color_by_categories(
                coloring.codes,
                coloring.palette,
                column=self.state.color_column or "",
                names=coloring.names,
            )
        else:
            self._map.color_by_values(
                coloring.values, self.state.colormap, self.state.color_limits
            )

    def set_class_color(self, code: int, rgba: Sequence[float]) -> None:
        """Give a class another colour (RGBA in 0..1), for as long as the window."""
        coloring = self._coloring
        if coloring is None or not 0 <= code < len(coloring.palette):
            return
        name = coloring.names[code]
        self._taste(self.state.color_column).colors[name] = tuple(rgba)
        palette = coloring.palette.copy()
        palette[code] = rgba
        self._recolor(palette)

    def reset_class_colors(self) -> None:
        """Give all classes the colours they had at first."""
        if self._coloring is not None and self._coloring.kind == "category":
            self._taste(self.state.color_column).colors.clear()
            self._recolor(category_palette(len(self._coloring.names)))

    def _recolor(self, palette: NDArray[np.float32]) -> None:
        assert self._coloring is not None
        self._coloring = replace(self._coloring, palette=palette)
        self._push_colors()
        self.update(color_version=self.state.color_version + 1)
