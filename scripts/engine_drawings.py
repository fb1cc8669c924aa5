"""Drawings from a real map: the map, its two hierarchies, one target's traversal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine_style as style
import numpy as np
from engine_hierarchies import Hierarchy, Settled, both_hierarchies, settle
from engine_style import INK, ORANGE, TEAL
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

__all__ = ["draw_hierarchies", "draw_map", "draw_traversal", "real_map"]

# Fashion-MNIST numbers its classes in this order.
NUMBERED = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt",
            "sneaker", "bag", "ankle boot")  # fmt: skip
THETA = 0.6
DOTS = "#c3c8ce"


def real_map(
    items: int | None, keep: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the 2D map of Fashion-MNIST at iteration 750, and the labels."""
    from _fashion import STAGES, maps, problem
    from _tsne_data import fashion_mnist

    path = None if keep is None else keep / f"engine_map_{items or 'all'}.npy"
    if path is not None and path.is_file():
        _, labels = fashion_mnist(items)
        y: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return y, labels
    given = problem(items)
    y = maps(given, 2)[STAGES[-1]]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, y)
    return y, given.labels


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_map(y: NDArray[np.float32], labels: NDArray[np.uint8]) -> plt.Figure:
    """Draw the map in the colours of its classes, named where they are densest."""
    figure, axes = plt.subplots(figsize=(style.WIDTH, style.WIDTH * 0.92))
    order = np.random.default_rng(0).permutation(len(y))
    colors = np.array([style.CLASSES[name] for name in NUMBERED])
    axes.scatter(
        y[order, 0], y[order, 1], s=1.3 * min(1, 70_000 / len(y)) ** 0.5, lw=0,
        c=colors[labels[order]], alpha=0.75, rasterized=True,
    )  # fmt: skip
    halo = [patheffects.withStroke(linewidth=3.2, foreground="white")]
    for code, name in enumerate(NUMBERED):
        x, here = _densest(y[labels == code])
        axes.text(
            x, here, name, color=_darker(style.CLASSES[name]), fontsize=12,
            weight="bold", ha="center", va="center", path_effects=halo,
        )  # fmt: skip
    _bare(axes)
    return figure


def _darker(color: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.7 * part for part in to_rgb(color))


def _densest(y: NDArray[np.float32]) -> tuple[float, float]:
    """Return the middle of the fullest part of a class, smoothed widely."""
    from scipy.ndimage import gaussian_filter

    counts, xs, ys = np.histogram2d(y[:, 0], y[:, 1], bins=60)
    smooth = gaussian_filter(counts, 4)
    i, j = np.unravel_index(smooth.argmax(), smooth.shape)
    return float(xs[i : i + 2].mean()), float(ys[j : j + 2].mean())


def _boxes(
    axes: Axes, tree: Hierarchy, nodes: Any, *, pad: float = 0.0, **more: Any
) -> None:
    """Draw the boxes of nodes."""
    corners = []
    for node in nodes:
        (a, b), (c, d) = tree.low[node] - pad, tree.high[node] + pad
        corners.append([(a, b), (c, b), (c, d), (a, d)])
    axes.add_collection(PolyCollection(corners, **more))


def _at_level(tree: Hierarchy, level: int) -> NDArray[np.int64]:
    return np.flatnonzero(tree.depth() == level)


def _leaves(tree: Hierarchy) -> NDArray[np.int64]:
    return np.flatnonzero(tree.child < 0)


def _window(y: NDArray[np.float32], width: float) -> tuple[NDArray[np.float32], float]:
    """Return the corner of a square with a moderate number of points, and its side."""
    low = y.min(0)
    cells = np.floor((y - low) / width).astype(int)
    _, where, counts = np.unique(cells, axis=0, return_index=True, return_counts=True)
    chosen = cells[where[np.argsort(counts)[int(0.8 * len(counts))]]]
    corner: NDArray[np.float32] = low + chosen * width
    return corner, width


def draw_hierarchies(y: NDArray[np.float32], labels: Any) -> plt.Figure:
    """Draw both hierarchies at two levels, and both leaves' boxes from close by."""
    del labels
    points, field = both_hierarchies(y)
    corner, side = _window(y, 10.0)
    figure, grid = plt.subplots(2, 3, figsize=(style.WIDTH, 5.5))
    for row, (tree, color, name) in enumerate(
        ((points, TEAL, "Embedding hierarchy"), (field, ORANGE, "Field hierarchy"))
    ):
        pad = 0.5 * tree.spacing
        for column, level in enumerate((3, 5)):
            axes = grid[row, column]
            axes.scatter(y[:, 0], y[:, 1], s=0.25, lw=0, c=DOTS, rasterized=True)
            nodes = _at_level(tree, level)
            _boxes(axes, tree, nodes, pad=pad, fc="none", ec=color, lw=0.7)
            axes.set_title(f"level {level}: {len(nodes)} nodes", weight="normal")
            axes.autoscale()
            _bare(axes)
        axes.add_patch(Rectangle(corner, side, side, fc="none", ec=INK, lw=1.3))
        grid[row, 0].set_ylabel(name, color=color, weight="bold", fontsize=11)
        axes = grid[row, 2]
        axes.scatter(y[:, 0], y[:, 1], s=5, lw=0, c="#7d858d")
        if row:
            axes.scatter(*field.points.T, s=4.5, lw=0, c=ORANGE)
        nodes = _buckets(field, 64) if row else np.flatnonzero(tree.child < 0)
        _boxes(axes, tree, nodes, pad=pad, fc="none", ec=color, lw=1.0)
        what = "buckets of marked grid nodes" if row else "leaves of up to 16 points"
        axes.set_title(what, weight="normal")
        _bare(axes)
        axes.set(xlim=(corner[0], corner[0] + side), ylim=(corner[1], corner[1] + side))
        _frame(axes)
    return figure


def _frame(axes: Axes) -> None:
    """Frame a close-up as its square is framed on the whole map."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=1.3)


def _buckets(tree: Hierarchy, most: int) -> NDArray[np.int64]:
    """Return the topmost nodes with at most this many points."""
    size = tree.size()
    large = size > most
    first = ~large & (large[tree.parent] | (tree.parent < 0))
    return np.flatnonzero(first | (large & (tree.child < 0)))


def draw_traversal(y: NDArray[np.float32], labels: Any) -> plt.Figure:
    """Draw which source nodes account for all points at one bucket of targets."""
    from napari_embed.kernels.traversal import CORE

    del labels
    tree, _ = both_hierarchies(y)
    buckets = _buckets(tree, 64)
    middle = 0.5 * (tree.low[buckets] + tree.high[buckets])
    # A full bucket somewhat off the middle of the map.
    wanted = np.quantile(y, 0.4, axis=0)
    score = np.linalg.norm(middle - wanted, axis=1) - 0.3 * tree.size()[buckets]
    how = settle(tree, tree, int(buckets[score.argmin()]), THETA, CORE)
    figure, (whole, close) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 4.75), width_ratios=(1, 1)
    )
    centre = 0.5 * (tree.low[how.bucket] + tree.high[how.bucket])
    shades = plt.colormaps["GnBu"](np.linspace(0.3, 0.95, len(how.far)))
    for axes in (whole, close):
        axes.scatter(y[:, 0], y[:, 1], s=0.25 if axes is whole else 2, lw=0, c=DOTS,
                     rasterized=True)  # fmt: skip
        wide = 0.6 if axes is whole else 0.9
        for shade, nodes in zip(shades, how.far, strict=True):
            _boxes(axes, tree, nodes, fc=(*shade[:3], 0.28), ec=shade, lw=wide)
        _boxes(axes, tree, how.near, fc="none", ec=ORANGE, lw=wide)
        _boxes(axes, tree, how.leaves, fc=(*_rgb(ORANGE), 0.35), ec=ORANGE, lw=wide)
        _boxes(axes, tree, [how.bucket], fc="none", ec=INK, lw=1.6, zorder=5)
        _bare(axes)
    whole.autoscale()
    reach = 7 * float(np.max(tree.high[how.bucket] - tree.low[how.bucket]))
    close.set(xlim=(centre[0] - reach, centre[0] + reach),
              ylim=(centre[1] - reach, centre[1] + reach))  # fmt: skip
    whole.add_patch(
        Rectangle(centre - reach, 2 * reach, 2 * reach, fc="none", ec=INK, lw=1.3)
    )
    _frame(close)
    whole.set_title("All of the map")
    close.set_title("Around the targets")
    figure.legend(
        handles=_legend(tree, how, shades), loc="outside lower center", ncols=2
    )
    return figure


def _rgb(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(color)


def _legend(tree: Hierarchy, how: Settled, shades: Any) -> list[Any]:
    """Return what each colour stands for, with counts."""
    size = tree.size()
    points = [
        sum(int(size[n]) for n in part) for part in (*how.far, how.near, how.leaves)
    ]
    used = [i for i, nodes in enumerate(how.far) if nodes]
    few, many = used[-1], used[0]
    far = sum(len(nodes) for nodes in how.far)
    texts = (
        f"{size[how.bucket]} targets that share one list",
        f"far: {far} nodes ({sum(points[:-2]):,} points), each settled once for\n"
        f"{size[how.ancestors[few]]:,} (dark) to {size[how.ancestors[many]]:,} (pale) "
        "targets",
        f"near: {len(how.near)} nodes ({points[-2]:,} points), each a mass in the list",
        f"{len(how.leaves)} leaves whose {points[-1]:,} points are summed one by one",
    )
    looks: tuple[dict[str, Any], ...] = (
        {"fc": "none", "ec": INK, "lw": 1.6},
        {"fc": (*shades[few][:3], 0.5), "ec": shades[few]},
        {"fc": "none", "ec": ORANGE},
        {"fc": (*_rgb(ORANGE), 0.35), "ec": ORANGE},
    )
    return [
        Rectangle((0, 0), 1, 1, label=text, **look)
        for text, look in zip(texts, looks, strict=True)
    ]
