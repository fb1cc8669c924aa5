"""Draw docs/images/engine-*.png: the engine's figures.

    python scripts/make_engine_figures.py                 # all
    python scripts/make_engine_figures.py refit theta     # some

Curves are drawn from ``benchmarks/results/paper_*.json``; maps and hierarchies from a
run of the preset "default" on all of Fashion-MNIST in 2D, which takes a minute and is
kept in ``--keep FOLDER`` if one is given. A figure whose results are missing is left
out. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import engine_drawings as drawings
import engine_style as style
import numpy as np
from engine_style import COLOR, GREY, INK, LABEL
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks/results"
IMAGES = REPOSITORY / "docs/images"
DIMENSIONS = (2, 3)

_log = logging.getLogger("figures")

Rows = list[dict[str, Any]]


class MissingError(Exception):
    """A figure's results have not been measured."""


def load(name: str) -> Rows:
    """Return the rows of a saved result."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise MissingError(path.name)
    rows: Rows = json.loads(path.read_text())["results"]
    return rows


def largest(pattern: str) -> tuple[Rows, int]:
    """Return the rows of the result with most items, and how many those are."""
    found = sorted(
        (int(path.stem.rsplit("_", 1)[1]), path) for path in RESULTS.glob(pattern)
    )
    if not found:
        raise MissingError(pattern)
    items, path = found[-1]
    return load(path.stem), items


def save(figure: plt.Figure, name: str) -> None:
    """Write one picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"engine-{name}.png"
    figure.savefig(path, dpi=200)
    plt.close(figure)
    _log.info("%s", path)


def pick(rows: Rows, **wanted: Any) -> Rows:
    """Return the rows with these values."""
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def plain_numbers(axis: Any, *, percent: bool = False) -> None:
    """Write 0.01 as 1 %, 20000000 as 20M, and nothing between decades."""

    def text(value: float, _: object = None) -> str:
        if percent:
            return f"{100 * value:g} %"
        for size, letter in ((1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:g}{letter}"
        return f"{value:g}"

    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def curve(
    axes: Axes, x: Iterable[float], y: Iterable[float], key: str, **more: Any
) -> None:
    """Draw one line in the colour of what it shows."""
    settings = {"color": COLOR[key], "label": LABEL[key], "marker": "o", "ms": 4} | more
    axes.plot(list(x), list(y), **settings)


def theta() -> None:
    """Error against interactions and CPU time, theta along the curves."""
    rows, _items = largest("paper_theta_forces_*.json")
    figure, grid = style.panels(2, 2, height=6.6)
    for column, dim in enumerate(DIMENSIONS):
        for row, (axes, cost) in enumerate(
            zip(grid[:, column], ("interactions", "cpu_seconds"), strict=True)
        ):
            for preset in ("paper", "default"):
                some = pick(rows, dim=dim, iteration=750, preset=preset)
                xs = [
                    r["interactions"]["total"] if row == 0 else r["cpu_seconds"]
                    for r in some
                ]
                ys = [r["rms_error"] for r in some]
                curve(axes, xs, ys, preset)
                _mark_thetas(axes, some, xs, ys, preset)
            axes.set(xscale="log", yscale="log")
            axes.margins(x=0.14)
            plain_numbers(axes.yaxis, percent=True)
            plain_numbers(axes.xaxis)
            axes.set_xlabel(
                "interactions"
                if cost == "interactions"
                else "CPU seconds, one evaluation"
            )
            if column == 0:
                axes.set_ylabel("force error (rms)")
        grid[0, column].set_title(f"{dim}D")
    grid[0, 0].legend(loc="lower left")
    save(figure, "theta")


def _mark_thetas(
    axes: Axes, rows: Rows, xs: list[float], ys: list[float], preset: str
) -> None:
    """Write theta at the ends of a curve, and ring the preset's own."""
    own = {
        ("default", 2): 0.6,
        ("default", 3): 0.7,
        ("paper", 2): 0.25,
        ("paper", 3): 0.4,
    }
    for i, row in enumerate(rows):
        asked = row["theta_asked"]
        if i in (0, len(rows) - 1):
            axes.annotate(
                f"θ {asked:g}", (xs[i], ys[i]), xytext=(5, 5),
                textcoords="offset points", color=COLOR[preset], fontsize=8,
            )  # fmt: skip
        if abs(asked - own[preset, row["dim"]]) < 0.03:
            axes.plot(xs[i], ys[i], "o", ms=9, mfc="none", mec=COLOR[preset], mew=1.4)


def theta_runs() -> None:
    """Draw final KL and CPU time of whole runs against theta."""
    rows, _items = largest("paper_theta_runs_*.json")
    figure, grid = style.panels(2, 2, height=6.0)
    for column, dim in enumerate(DIMENSIONS):
        for preset in ("paper", "default"):
            some = pick(rows, dim=dim, preset=preset)
            thetas = [r["theta"] for r in some]
            curve(grid[0, column], thetas, [r["exact_kl"] for r in some], preset)
            curve(grid[1, column], thetas, [r["cpu_seconds"] for r in some], preset)
        grid[0, column].set_title(f"{dim}D")
        grid[1, column].set(xlabel="θ", yscale="log")
        plain_numbers(grid[1, column].yaxis)
    grid[0, 0].set_ylabel("final KL (exact)")
    grid[1, 0].set_ylabel("CPU seconds, whole run")
    grid[0, 0].legend(loc="upper left")
    save(figure, "theta-runs")


def criterion() -> None:
    """Projected against plain diagonals, and the default beside them."""
    rows, _items = largest("paper_criterion_forces_*.json")
    shown = {
        "published, projected": "projected",
        "published, plain": "plain",
        "ours, core 1/4": "default",
    }
    figure, grid = style.panels(1, 2, height=3.7)
    for axes, dim in zip(grid[0], DIMENSIONS, strict=True):
        for name, key in shown.items():
            some = pick(rows, dim=dim, iteration=750, criterion=name)
            xs = [r["interactions"]["total"] for r in some]
            curve(axes, xs, [r["rms_error"] for r in some], key)
        axes.set(xscale="log", yscale="log", title=f"{dim}D", xlabel="interactions")
        plain_numbers(axes.yaxis, percent=True)
        plain_numbers(axes.xaxis)
    grid[0, 0].set_ylabel("force error (rms)")
    grid[0, 0].legend(loc="lower left")
    save(figure, "criterion")


def refit() -> None:
    """CPU time per iteration with 0, 4 and 8 refits between rebuilds."""
    rows, _items = largest("paper_refit_default_*.json")
    figure, grid = style.panels(1, 2, height=3.5)
    window = 45  # as many rebuilds of each kind in every window
    for axes, dim in zip(grid[0], DIMENSIONS, strict=True):
        for row in pick(rows, dim=dim):
            seconds = np.asarray(row["seconds_by_iteration"]) * 1000
            # Other programs and the renumbering every 50 iterations make spikes.
            near = np.lib.stride_tricks.sliding_window_view(seconds, window)
            smooth = np.sort(near, axis=1)[:, : -window // 5].mean(axis=1)
            axes.plot(
                np.arange(len(smooth)) + window // 2, smooth,
                color=style.REFITS[row["refits"]], lw=1.1,
                label=f"{row['refits']} refits",
            )  # fmt: skip
        axes.axvline(250, color=GREY, lw=0.8, ls=":")
        axes.set(title=f"{dim}D", xlabel="iteration")
    grid[0, 0].set_ylim(0, None)
    grid[0, 0].set_ylabel("CPU milliseconds per iteration")
    grid[0, 0].legend(loc="upper left")
    save(figure, "refit")


def subset_rows() -> dict[str, Rows]:
    """Return the growing subsets of each preset that was measured."""
    names = [
        p
        for p in ("default", "paper")
        if (RESULTS / f"paper_subsets_{p}.json").is_file()
    ]
    if not names:
        raise MissingError("paper_subsets_default.json")
    return {p: load(f"paper_subsets_{p}") for p in names}


def subsets() -> None:
    """Time and KL over growing subsets."""
    both = subset_rows()
    figure, grid = style.panels(2, 2, height=6.4)
    for column, dim in enumerate(DIMENSIONS):
        for preset, rows in both.items():
            some = pick(rows, dim=dim)
            sizes = [r["items"] for r in some]
            curve(grid[0, column], sizes, [r["cpu_seconds"] for r in some], preset)
            curve(grid[1, column], sizes, [r["exact_kl"] for r in some], preset)
        grid[0, column].set(xscale="log", yscale="log", title=f"{dim}D")
        grid[1, column].set(xscale="log", xlabel="images")
        for axes in grid[:, column]:
            sizes = sorted({r["items"] for rows in both.values() for r in rows})
            axes.xaxis.set_major_locator(FixedLocator(sizes))
            axes.xaxis.set_minor_locator(FixedLocator([]))
            plain_numbers(axes.xaxis)
        grid[0, column].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plain_numbers(grid[0, column].yaxis)
    low = min(axes.get_ylim()[0] for axes in grid[1])
    high = max(axes.get_ylim()[1] for axes in grid[1])
    for axes in grid[1]:
        axes.set_ylim(low, high)
    grid[0, 0].set_ylabel("CPU seconds, whole run")
    grid[1, 0].set_ylabel("final KL (exact)")
    grid[1, 0].legend(loc="upper left")
    save(figure, "subsets")


def preservation() -> None:
    """Precision against recall of neighborhoods of k = 1 to 3 x perplexity."""
    both = subset_rows()
    sizes = sorted(
        size
        for size in {r["items"] for rows in both.values() for r in rows}
        if all(pick(b, items=size, dim=d) for b in both.values() for d in DIMENSIONS)
    )
    shown = [sizes[0], sizes[-1]]
    widest = max(max(r["recall"]) for b in both.values() for r in b)
    figure, grid = style.panels(1, 2, height=4.0)
    for axes, size in zip(grid[0], shown, strict=True):
        for dim, dashes in ((2, "-"), (3, (0, (4, 2)))):
            for preset, rows in both.items():
                row = pick(rows, dim=dim, items=size)[0]
                curve(
                    axes, row["recall"], row["precision"], preset, ls=dashes,
                    marker="", label=f"{LABEL[preset]}, {dim}D",
                )  # fmt: skip
        axes.set(
            title=f"{size:,} images",
            xlabel="recall",
            xlim=(0, 1.03 * widest),
            ylim=(0, 1),
        )
    grid[0, 0].set_ylabel("precision")
    grid[0, 1].legend(loc="lower left")
    save(figure, "preservation")


def components() -> None:
    """Draw what each part of an iteration takes."""
    rows, _items = largest("paper_components_*.json")
    figure, grid = style.panels(1, 2, height=4.0, share=False)
    names = list(rows[0]["milliseconds"])
    for axes, dim in zip(grid[0], DIMENSIONS, strict=True):
        some = [r for p in ("default", "paper") for r in pick(rows, dim=dim, preset=p)]
        labels = [f"{r['preset']}, {r['iteration']}" for r in some]
        left = np.zeros(len(some))
        for name in names:
            width = np.array([r["milliseconds"][name] for r in some])
            axes.barh(
                labels, width, left=left, color=style.COMPONENTS[name], label=name,
                height=0.68, edgecolor="white", linewidth=0.5,
            )  # fmt: skip
            left += width
        limit = 1.2 * max(sum(r["milliseconds"].values()) for r in some[:3])
        for y, total in enumerate(left):
            beyond = total > limit
            axes.text(
                limit * 0.985 if beyond else total + 0.015 * limit, y,
                f"{total:.0f} ms" + (" →" if beyond else ""), va="center",
                ha="right" if beyond else "left", fontsize=8, color=INK,
                bbox={"fc": "white", "ec": "none", "pad": 1.5, "alpha": 0.9},
            )  # fmt: skip
        axes.set(title=f"{dim}D", xlim=(0, limit), xlabel="milliseconds per iteration")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=4)
    save(figure, "components")


FIGURES: dict[str, Callable[[], None]] = {
    "theta": theta, "theta-runs": theta_runs, "criterion": criterion, "refit": refit,
    "subsets": subsets, "preservation": preservation, "components": components,
}  # fmt: skip


def main() -> None:
    """Draw what is asked for."""
    drawn = ("map", "hierarchies", "traversal")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", help=f"of {[*FIGURES, *drawn]}")
    parser.add_argument("--items", type=int, help="images of the drawn map (all)")
    parser.add_argument("--keep", type=Path, help="folder to keep the drawn map in")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    style.apply()
    wanted = given.figures or [*FIGURES, *drawn]
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    if set(wanted) & set(drawn):
        y, labels = drawings.real_map(given.items, given.keep)
        for name in sorted(set(wanted) & set(drawn)):
            save(getattr(drawings, f"draw_{name}")(y, labels), name)
    for name in wanted:
        if name in FIGURES:
            try:
                FIGURES[name]()
            except MissingError as missing:
                _log.warning("%s left out: no %s", name, missing)


if __name__ == "__main__":
    main()
