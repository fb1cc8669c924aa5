"""One look for all figures of the layout engine."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

__all__ = [
    "CLASSES", "COLOR", "COMPONENTS", "GREY", "INK", "LABEL", "REFITS", "apply",
    "panels",
]  # fmt: skip

INK, GREY, PALE = "#1f2429", "#8b929a", "#e6e9ec"
TEAL, ORANGE, PLUM = "#0b7285", "#d9480f", "#7048a8"
# What a line shows, in every figure in which it occurs.
COLOR = {"default": TEAL, "paper": ORANGE, "projected": ORANGE, "plain": PLUM}
LABEL = {
    "default": "default", "paper": "paper (as published)",
    "projected": "published, projected diagonal", "plain": "published, plain diagonal",
}  # fmt: skip
REFITS = {0: GREY, 4: TEAL, 8: ORANGE}
COMPONENTS = {
    "build": "#495057", "refit": "#adb5bd", "field": "#f2b84b", "far": "#7fc8d8",
    "near": TEAL, "read back": "#e8875a", "attraction, update": "#a3b18a",
}  # fmt: skip
CLASSES = {
    "T-shirt": "#4477aa", "trousers": "#228833", "pullover": "#cc6677",
    "dress": "#ddaa33", "coat": "#882255", "sandal": "#33bbee", "shirt": "#ee7733",
    "sneaker": "#332288", "bag": "#999933", "ankle boot": "#44aa99",
}  # fmt: skip
WIDTH = 8.0  # inches; 1,600 pixels at 200 dpi


def apply() -> None:
    """Set fonts, lines and grids."""
    mpl.rcParams.update(
        {
            "font.size": 9.5,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.labelcolor": INK,
            "axes.edgecolor": GREY,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": PALE,
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
        }
    )


def panels(
    rows: int, columns: int, *, height: float, share: bool = True
) -> tuple[plt.Figure, Any]:
    """Return a figure of page width and its (rows, columns) axes.

    Axes of a row share their y axis if ``share``.
    """
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTH, height), squeeze=False,
        sharey="row" if share else False,
    )  # fmt: skip
    return figure, np.asarray(grid)
