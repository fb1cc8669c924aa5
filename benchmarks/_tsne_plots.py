"""Draw what ``bench_tsne_cpu.py`` measured: docs/images/tsne-cpu-*.png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _record import RESULTS

IMAGES = RESULTS.parents[1] / "docs/images"
# Told apart by hue and by lightness; the paper below them is white on dark pages too.
COLORS = {
    "ours": "#0b62a4", "ours, preset fast": "#6db3e2", "openTSNE FFTW": "#c44e00",
    "openTSNE FFTW, fine grid": "#7a3000", "openTSNE": "#f0a15a",
    "openTSNE, fine grid": "#b98a5e", "scikit-learn": "#3f7f3f",
    "scikit-learn, our kernel": "#86bd7c",
}  # fmt: skip
TITLES = {
    "10k": "10,000 images", "70k": "70,000 images", "300k": "300,000 words",
    "20k-3d": "20,000 images, 3D", "1m": "1,000,000 vectors",
}  # fmt: skip
STAGES = {
    "to the end": "750 iterations", "start": "from the start",
    "developed": "on a developed map",
}  # fmt: skip


def runs(case: str) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    """Return the runs of a case by contender, dimension and stage; a list of seeds."""
    path = RESULTS / f"tsne_cpu_{case}.json"
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    if path.is_file():
        for key, run in json.loads(path.read_text())["results"]["runs"].items():
            name, dim, stage, _ = key.split(" | ")
            found.setdefault((name, int(dim[0]), stage), []).append(run)
    return found


def _figure(width: int, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
            "axes.edgecolor": "#555", "axes.labelcolor": "#222", "axes.titlesize": 11,
            "xtick.color": "#444", "ytick.color": "#222", "figure.facecolor": "white",
        }
    )  # fmt: skip
    return plt.subplots(1, width, figsize=(9.5, height), squeeze=False)


def _finish(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"drew {path}")


def times() -> None:
    """CPU seconds per iteration in 2D, one panel per number of points and stage.

    Where others have not run to the end, parts of a run are shown in place of it.
    """
    panels: list[tuple[str, dict[str, float]]] = []
    for case in ("10k", "70k", "300k", "1m"):
        by: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
        for (name, dim, stage), seeds in runs(case).items():
            if dim == 2:
                by[stage][name] = min(r["cpu_s"] / r["iterations"] for r in seeds)
        whole = len(by["to the end"].keys() - {"ours", "ours, preset fast"}) > 0
        shown = list(STAGES)[:1] if whole else list(STAGES)[1:]
        panels += [(f"{TITLES[case]}\n{STAGES[stage]}", by[stage]) for stage in shown]
    panels = [(title, found) for title, found in panels if len(found) > 1]
    if not panels:
        return
    figure, axes = _figure(len(panels), 3.4)
    names = [n for n in COLORS if any(n in found for _, found in panels)]
    for index, (axis, (title, found)) in enumerate(zip(axes[0], panels, strict=True)):
        heights = [found.get(name, 0.0) for name in names]
        places = range(len(names))
        axis.barh(places, heights, color=[COLORS[n] for n in names])
        for place, (name, value) in enumerate(zip(names, heights, strict=True)):
            if name in found:
                axis.text(value, place, f" {value:.2g}", va="center", fontsize=8)
        axis.set_yticks(places, names if index == 0 else [""] * len(names))
        axis.invert_yaxis()
        axis.set_xlim(0, 1.25 * max(heights))
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("CPU s / iteration", fontsize=8)
        axis.tick_params(labelsize=8)
    _finish(figure, IMAGES / "tsne-cpu-time.png")


def preservation() -> None:
    """Precision over k, and its difference to openTSNE's."""
    shown = [
        case
        for case in ("10k", "70k", "300k")
        if ("openTSNE FFTW", 2, "to the end") in runs(case)
    ]
    if not shown:
        return
    figure, axes = _figure(len(shown), 3.6)
    for axis, case in zip(axes[0], shown, strict=True):
        for (name, dim, stage), seeds in runs(case).items():
            if stage != "to the end" or name == "openTSNE, fine grid":
                continue
            curve = seeds[0]["precision"]
            axis.plot(
                range(1, len(curve) + 1), curve, color=COLORS[name],
                linestyle="-" if dim == 2 else "--", linewidth=1.6,
                label=f"{name}, {dim}D",
            )  # fmt: skip
        axis.set_title(TITLES[case])
        axis.set_xlabel("k, nearest points of the map")
        axis.set_xlim(1, 90)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("share that are true neighbors")
    axes[0][-1].legend(fontsize=7, frameon=False)
    _finish(figure, IMAGES / "tsne-cpu-preservation.png")


def draw() -> None:
    """Draw everything that has been measured."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    times()
    preservation()
