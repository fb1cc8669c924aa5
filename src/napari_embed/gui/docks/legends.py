"""The two legends of the Explore panel, kept in step with the controller."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_embed.gui.coloring import Coloring
from napari_embed.gui.controller import Controller
from napari_embed.gui.legend import CategoryLegend, LegendModel, NumberLegend
from napari_embed.gui.state import ViewState

__all__ = ["Legends"]


class Legends:
    """A legend for classes and one for numbers, of which at most one is seen.

    Both count the items on the map, hidden or not: neither those without a place nor
    those that are excluded.

    Parameters
    ----------
    controller
        Where colours, hidden classes and what counts come from.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.categories = CategoryLegend()
        self.categories.setMinimumHeight(150)
        self.categories.visibility_changed.connect(controller.set_hidden_classes)
        self.categories.color_changed.connect(controller.set_class_color)
        self.categories.colors_reset.connect(controller.reset_class_colors)
        self.numbers = NumberLegend()
        self.numbers.limits_changed.connect(controller.set_color_limits)
        self.numbers.missing_shown.connect(
            lambda shown: controller.set_hidden_classes(() if shown else (-1,))
        )
        self._colored: Any = None  # what was counted: codes or bins, and of whom
        self._items: tuple[Any, int] = (None, 0)
        self._tally = np.zeros(1, np.int64)

    def show(self, new: ViewState, old: ViewState) -> None:
        """Show what colours the points now."""
        self.categories.setVisible(new.color_kind == "category")
        self.numbers.setVisible(new.color_kind == "number")
        coloring = self._controller.coloring
        if coloring is None:
            return
        by_class = coloring.kind == "category"
        colored = coloring.codes if by_class else coloring.bins
        items = (self._controller.placed, new.n_excluded)
        other_column = colored is not self._colored
        other_items = items[0] is not self._items[0] or items[1] != self._items[1]
        self._colored, self._items = colored, items
        if not by_class:
            if other_column or other_items:
                self._tally = coloring.tally(self._controller.counted())
            self._show_numbers(coloring, new)
            return
        if other_column:
            self.categories.set_model(
                LegendModel(
                    coloring.codes,
                    coloring.names,
                    coloring.palette,
                    self._controller.counted(),
                )
            )
            self.count_selected()
        elif other_items:
            self.categories.set_counted(self._controller.counted())
        if new.color_version != old.color_version:
            self.categories.set_palette(coloring.palette)
        model = self.categories.model
        if model is not None and model.hidden != new.hidden_classes:
            model.restore((new.hidden_classes, frozenset(), frozenset()))
            self.count_selected()

    def _show_numbers(self, coloring: Coloring, new: ViewState) -> None:
        self.numbers.show_numbers(
            self._tally[:-1],
            coloring.extent,
            new.color_limits,
            new.colormap,
            n_missing=int(self._tally[-1]),
            missing_hidden=-1 in new.hidden_classes,
        )

    def count_selected(self) -> None:
        """Count the selected items of each class."""
        mask = self._controller.selection()
        model = self.categories.model
        if model is not None and len(mask) == len(model.codes):
            self.categories.set_selection(mask)
