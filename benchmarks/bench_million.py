"""A project of a million items: reopening, searches for problems, decisions, exports.

    python benchmarks/bench_million.py [--items 1000000] [--folder FOLDER]

Writes ``results/million.json``. The project (`_million.make_project`) has pictures,
vectors, columns, neighbors and two maps; where FOLDER holds it already, that is used,
and FOLDER is kept. Seconds on the clock and CPU seconds of all threads.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from _million import COPIES, FLIPPED, STRANGE, make_project
from _record import moment, record
from _timing import timed
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.exchange import export_decisions
from napari_embed.curation.export import export_items
from napari_embed.curation.problems import (
    balanced_sample,
    duplicate_pairs,
    mislabels,
    outliers,
)
from napari_embed.project import Project

RUNS = 1


def reopen(path: Path) -> dict[str, Any]:
    """Time what the first sight of a project needs: positions, classes, decisions."""

    def look() -> None:
        with Project.open(path) as project, Decisions.open(project) as decisions:
            project.read_projection(project.projection_names()[-1])
            project.categories("label")
            decisions.excluded()

    print("  reopen")
    return {"positions, classes and decisions": timed(look, runs=RUNS)}


def problems(project: Any) -> dict[str, Any]:
    """Time the searches on the stored neighbors."""
    last: dict[str, Any] = {}

    def keep(name: str, search: Callable[[], Any]) -> Callable[[], None]:
        return lambda: last.update({name: search()})

    found: dict[str, Any] = {}
    for name, search in {
        "near-duplicates: pairs": lambda: duplicate_pairs(project),
        "near-duplicates: groups at a distance": lambda: last[
            "near-duplicates: pairs"
        ].groups(last["near-duplicates: pairs"].suggested),
        "outliers": lambda: outliers(project),
        "likely wrong labels": lambda: mislabels(project),
        "balanced sample of 10,000": lambda: balanced_sample(project, count=10_000),
    }.items():
        print(f"  {name}")
        found[name] = timed(keep(name, search), runs=RUNS)
    found["found"] = {
        "groups of near-duplicates": last[
            "near-duplicates: groups at a distance"
        ].n_groups,
        "outliers": len(last["outliers"]),
        "wrong labels": len(last["likely wrong labels"]),
    }
    return found


def decide(decisions: Decisions, n: int) -> dict[str, Any]:
    """Time decisions about half of the items, chosen at random."""
    half = np.random.default_rng(1).permutation(n)[: n // 2]
    found = {}
    for name, work in {
        "tag half": lambda: decisions.toggle_tag("half", half),
        "exclude half, then undo": lambda: (decisions.exclude(half), decisions.undo()),
        "label half, then undo": lambda: (
            decisions.set_label("class 003", half),
            decisions.undo(),
        ),
    }.items():
        print(f"  {name}")
        found[name] = timed(work, runs=RUNS)
    decisions.add_tag("half", half)
    decisions.exclude(half[: n // 10])
    return found


def exports(project: Any, decisions: Decisions, folder: Path, n: int) -> dict[str, Any]:
    """Time exports of all items, and of half of them in random order."""
    half = np.random.default_rng(2).permutation(n)[: n // 2]
    found: dict[str, Any] = {}
    for name, file, ids in (
        ("Parquet, all columns and maps", "all.parquet", None),
        ("Parquet, half in random order", "half.parquet", half),
        ("CSV: x, y, z, image_path, label", "all.csv", None),
        ("paths", "all.txt", None),
    ):
        print(f"  {name}")
        target = folder / file
        found[name] = timed(
            lambda target=target, ids=ids: export_items(
                project, target, ids=ids, decisions=decisions, overwrite=True
            ),
            runs=RUNS,
        )
        found[name]["mib"] = round(target.stat().st_size / 2**20)
        target.unlink()
    print("  decisions alone")
    found["decisions alone, CSV"] = timed(
        lambda: export_decisions(
            project, decisions, folder / "decisions.csv", overwrite=True
        ),
        runs=RUNS,
    )
    (folder / "decisions.csv").unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="for the data, kept")
    wish = parser.parse_args()
    folder = wish.folder or Path(tempfile.mkdtemp(prefix="bench-million-"))
    try:
        path = make_project(folder, wish.items)
        before = moment()
        results: dict[str, Any] = {"reopen": reopen(path)}
        with Project.open(path) as project, Decisions.open(project) as decisions:
            results["problems"] = problems(project)
            results["decisions"] = decide(decisions, wish.items)
            results["exports"] = exports(project, decisions, folder, wish.items)
        results["reopen after decisions"] = reopen(path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        results["peak_gib"] = round(peak, 2)
        record(
            "million",
            results,
            settings={
                "items": wish.items, "runs": RUNS, "near copies": COPIES,
                "wrong labels": FLIPPED, "outliers": STRANGE,
                "before": before, "after": moment(),
            },
        )  # fmt: skip
    finally:
        if wish.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
