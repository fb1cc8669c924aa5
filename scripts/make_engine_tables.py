"""Fill the tables of docs/engine.md from benchmarks/results.

    python scripts/make_engine_tables.py

A table stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``; what lies
there is replaced. Tables whose results are missing stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

from make_performance_page import table

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks/results"
PAGE = REPOSITORY / "docs/engine.md"
DIMENSIONS = (2, 3)

Rows = list[dict[str, Any]]


def newest(pattern: str) -> tuple[Rows, str]:
    """Return the rows of the result with most items, and its file name.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted(RESULTS.glob(pattern), key=lambda p: int("0" + _digits(p.stem)))
    if not found:
        raise FileNotFoundError(pattern)
    rows: Rows = json.loads(found[-1].read_text())["results"]
    return rows, found[-1].name


def _digits(stem: str) -> str:
    tail = stem.rsplit("_", 1)[1]
    return tail if tail.isdigit() else ""


def pick(rows: Rows, **wanted: Any) -> Rows:
    """Return the rows with these values."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def count(value: float) -> str:
    """Return 7.0 k, 2.55 M, 20.8 M."""
    if value < 1e5:
        return f"{value / 1e3:.1f} k"
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.1f} M"


def percent(value: float, digits: int = 1) -> str:
    """Return a share as text."""
    return f"{100 * value:.{digits}f} %"


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds with two or three digits."""
    return f"{1000 * value:.3g} ms" if value < 1 else f"{1000 * value:,.0f} ms"


def stages() -> str:
    """Return errors and interactions of default and paper at three stages."""
    rows, name = newest("paper_stages_*.json")
    names = list(dict.fromkeys(row["setting"] for row in rows))
    order = [names[-1], *names[:-1]]
    lines = []
    for dim in DIMENSIONS:
        for iteration in (50, 250, 750):
            cells = []
            for setting in order:
                row = pick(rows, dim=dim, iteration=iteration, setting=setting)[0]
                total = count(row["interactions"]["total"])
                cells.append(f"{percent(row['rms_error'])}, {total}")
            lines.append([f"{dim}D", str(iteration), *cells])
    head = ["map", "iteration", *(f"`{n.split(',')[0]}`{n[len(n.split(',')[0]):]}"
                                  for n in order)]  # fmt: skip
    return table(head, lines) + _from(name)


def leaves() -> str:
    """Return what interactions consist of, by leaf and list size."""
    rows, name = newest("paper_leaves_forces_*.json")
    shown = {2: ((0.6, 16, 64), (0.6, 4, 4), (0.64, 4, 24)),
             3: ((0.7, 16, 64), (0.7, 4, 4), (0.8, 4, 24))}  # fmt: skip
    lines = []
    for dim in DIMENSIONS:
        some = pick(rows, dim=dim)
        chosen = [some[0]] + [
            r
            for asked in shown[dim]
            for r in some[1:]
            if (round(r["theta"], 3), r["leaf_size"], r["bucket"]) == asked
        ]
        published = chosen[0]["interactions"]["total"]
        for row in chosen:
            kinds = row["interactions"]
            # As published, the field hierarchy ends at single cells.
            paper = row["preset"] == "paper"
            lists = 1 if paper else row["bucket"]
            lines.append([
                f"{dim}D", f"`{row['preset']}`", f"{row['theta']:g}",
                f"{row['leaf_size']} / {lists}", count(kinds["node_node"]),
                count(kinds["node_point"]), count(kinds["point_point"]),
                f"{published / kinds['total']:.1f}", percent(row["rms_error"]),
                milliseconds(row["cpu_seconds"]),
            ])  # fmt: skip
    head = ["map", "preset", "theta", "leaf / list", "node-node", "node-target",
            "point-target", "times fewer than `paper`", "error",
            "CPU time"]  # fmt: skip
    return table(head, lines) + _from(name)


def leaves_runs() -> str:
    """Return what small leaves do to whole runs."""
    rows, name = newest("paper_leaves_runs_*.json")
    lines = []
    for dim in DIMENSIONS:
        keys = list(dict.fromkeys(
            (r["theta"], r["leaf_size"], r["bucket"]) for r in pick(rows, dim=dim)
        ))  # fmt: skip
        base = mean(r["exact_kl"] for r in _sized(rows, dim, keys[0]))
        for key in keys:
            some = _sized(rows, dim, key)
            kl = mean(r["exact_kl"] for r in some)
            lines.append([
                f"{dim}D", f"{key[0]:g}", f"{key[1]} / {key[2]}", f"{kl:.4f}",
                f"{100 * (kl / base - 1):+.2f} %" if key != keys[0] else "",
                f"{mean(r['cpu_seconds'] for r in some):.1f} s",
            ])  # fmt: skip
    head = ["map", "theta", "leaf / list", "final KL, mean of three starts", "",
            "CPU time"]  # fmt: skip
    return table(head, lines) + _from(name)


def _sized(rows: Rows, dim: int, key: tuple[float, int, int]) -> Rows:
    theta, leaf, bucket = key
    return pick(rows, dim=dim, theta=theta, leaf_size=leaf, bucket=bucket)


def refit() -> str:
    """Return rebuild against refit."""
    lines, names = [], []
    for preset in ("default", "paper"):
        try:
            rows, name = newest(f"paper_refit_{preset}_*.json")
        except FileNotFoundError:
            continue
        names.append(name)
        for dim in DIMENSIONS:
            some = pick(rows, dim=dim)
            first = some[0]
            for row in some:
                after = _steady(row)
                worst = max(row["force_error_before_rebuild"].values())
                more = (
                    row["interactions_after_exaggeration"]
                    / first["interactions_after_exaggeration"]
                )
                lines.append([
                    f"`{preset}`", f"{dim}D", str(row["refits"]), f"{after:.1f} s",
                    percent(more - 1), percent(worst, 2), f"{row['exact_kl']:.4f}",
                ])  # fmt: skip
    if not lines:
        raise FileNotFoundError("paper_refit")
    head = ["preset", "map", "refits after a rebuild", "CPU time after exaggeration",
            "more interactions", "worst force error before a rebuild",
            "final KL"]  # fmt: skip
    return table(head, lines) + _from(*names)


def _steady(row: dict[str, Any]) -> float:
    """Return CPU seconds after the exaggeration, single stalls left out.

    An iteration that took over five times the median (a kernel was compiled) counts as
    the median.
    """
    seconds = row["seconds_by_iteration"][250 if row["preset"] == "default" else 400 :]
    usual = median(seconds)
    return sum(s if s < 5 * usual else usual for s in seconds)


def subsets() -> str:
    """Return time, KL and preservation over growing subsets."""
    by = {
        p: newest(f"paper_subsets_{p}.json")
        for p in ("default", "paper")
        if (RESULTS / f"paper_subsets_{p}.json").is_file()
    }
    if not by:
        raise FileNotFoundError("paper_subsets")
    sizes = sorted({r["items"] for rows, _ in by.values() for r in rows})
    lines = []
    for size in sizes:
        cells = [f"{size:,}"]
        for dim in DIMENSIONS:
            for rows, _ in by.values():
                found = pick(rows, dim=dim, items=size)
                cells.append(
                    f"{found[0]['cpu_seconds']:.1f} s, {found[0]['exact_kl']:.3f}, "
                    f"{found[0]['precision'][29]:.3f}"
                    if found
                    else ""
                )
        lines.append(cells)
    head = ["images", *(f"{d}D, `{p}`" for d in DIMENSIONS for p in by)]
    return table(head, lines) + _from(*(name for _, name in by.values()))


def settings() -> str:
    """Return presets and perplexities side by side."""
    rows, name = newest("tsne_settings*.json")
    rows = sorted(rows, key=lambda r: (r["dim"], r["perplexity"], -_theta(r)))
    lines = [
        [
            f"{row['dim']}D", str(row["perplexity"]), f"`{row['preset']}`",
            percent(row["label_agreement_10"]),
            *(percent(row[f"kept_{k}"]) for k in (10, 30, 90)),
            f"{row['distances_spearman']:.2f}", f"{row['exact_kl']:.3f}",
            f"{row['affinity_cpu_seconds']:.1f} + {row['cpu_seconds']:.1f} s",
        ]
        for row in rows
    ]  # fmt: skip
    head = ["map", "perplexity", "preset", "label agreement", "of 10 kept", "of 30",
            "of 90", "far distances", "KL", "CPU time"]  # fmt: skip
    return table(head, lines) + _from(name)


def _theta(row: dict[str, Any]) -> float:
    return {"fast": 3, "default": 2, "accurate": 1}.get(row["preset"], 0)


def _from(*names: str) -> str:
    return "\n\n*" + ", ".join(f"`results/{name}`" for name in names) + "*"


TABLES: dict[str, Callable[[], str]] = {
    "stages": stages, "leaves": leaves, "leaves-runs": leaves_runs, "refit": refit,
    "subsets": subsets, "settings": settings,
}  # fmt: skip


def main() -> None:
    """Write the page anew."""
    page = PAGE.read_text()
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in page:
            continue
        try:
            text = make()
        except FileNotFoundError:
            continue
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
