"""Filters, decisions and similarity at a million items: seconds for each.

    python benchmarks/bench_query.py [--items 1000000] [--dims 128 768]

Writes ``results/query.json``. Each figure is the median of several runs after a first
one, which is given too: it reads the columns or the vectors. CPU seconds are those of
this process and of the engine process.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _record import moment, record
from _timing import timed
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.filters import Filter, Query
from napari_embed.curation.query import QueryEngine
from napari_embed.engine.client import EngineClient
from napari_embed.engine.likeness import Likeness
from napari_embed.engine.similarity_client import SimilaritySearch
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

RUNS = 5


def make(folder: Path, n: int, dims: list[int]) -> Path:
    """Make a project of n rows with columns, and random vectors of each length."""
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=n).astype(np.float32),
        "y": rng.normal(size=n).astype(np.float32),
        "label": pa.array([f"class {i}" for i in rng.integers(0, 100, n)]),
        "image_path": pa.array([f"folder {i % 97}/{i:08d}.jpg" for i in range(n)]),
        "width": rng.integers(10, 4000, n),
        "sharpness": rng.random(n),
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    for i in range(97):
        (folder / f"folder {i}").mkdir()
    (folder / "folder 0/00000000.jpg").touch()
    spec = SourceSpec("table", str(folder / "items.parquet"))
    path = folder / "million.embed"
    with Project.create(path, spec, thumbnail_size=32, chunk_rows=4096) as project:
        for dim in dims:
            stage = project.begin_stage(
                f"embeddings/random-{dim}",
                fingerprint=str(dim),
                shape_tail=(dim,),
                dtype="float32",
            )
            for chunk in stage.pending():
                rows = stage.rows(chunk)
                block = rng.standard_normal((rows.stop - rows.start, dim), np.float32)
                stage.write(chunk, block)
            stage.seal({"metric": "cosine", "dim": dim})
    return path


def bench_filters(engine: QueryEngine) -> dict[str, Any]:
    """Time what the window asks for."""
    queries = {
        "one class": Query((Filter("label", "in", ("class 7",)),)),
        "range": Query((Filter("width", "between", (100, 500)),)),
        "class, range and not excluded": Query(
            (
                Filter("label", "in", ("class 7", "class 8")),
                Filter("width", "between", (100, 500)),
                Filter("excluded", "in", (False,)),
            )
        ),
        "tag": Query((Filter("tags", "in", ("half",)),)),
        "expression": Query(sql="width > 200 AND sharpness < 0.2 AND 'half' IN tags"),
        "path contains": Query((Filter("source", "contains", ("0999",)),)),
        "sorted by a number": Query(order_by="sharpness"),
    }
    results = {}
    for name, query in queries.items():
        print(f"  {name}")
        results[name] = timed(lambda query=query: engine.run(query), runs=RUNS)
    for name, work in {
        "find a path": lambda: engine.find("0999.jpg"),
        "histogram of a filter": lambda: engine.histogram(
            "sharpness", query=queries["range"]
        ),
        "counts of a column": lambda: engine.counts("label", query=queries["range"]),
    }.items():
        print(f"  {name}")
        results[name] = timed(work, runs=RUNS)
    return results


def bench_decisions(decisions: Decisions, n: int) -> dict[str, Any]:
    """Time bulk decisions, and one item by a key."""
    half = np.random.default_rng(1).permutation(n)[: n // 2]
    one = iter(range(n))
    found = {}
    for name, work in {
        "tag half, at random": lambda: decisions.toggle_tag("half", half),
        "tag one item": lambda: decisions.add_tag("one", [next(one)]),
        "exclude all, then undo": lambda: (
            decisions.exclude(np.arange(n)),
            decisions.undo(),
        ),
        "label half, then undo": lambda: (
            decisions.set_label("class 3", half),
            decisions.undo(),
        ),
    }.items():
        print(f"  {name}")
        found[name] = timed(work, runs=RUNS)
    decisions.add_tag("half", half)
    return found


def bench_similarity(path: Path, dims: list[int], n: int) -> dict[str, Any]:
    """Time searches in the engine process, the pipe to it included."""
    rng = np.random.default_rng(2)
    found: dict[str, Any] = {}
    for dim in dims:
        with EngineClient() as client:
            client.submit("info").wait()
            search = SimilaritySearch(client, path)
            name = f"random-{dim}"
            found[f"{dim}-d, vectors read"] = timed(
                lambda s=search, n=name: s.warm(n).wait(), runs=0
            )
            some = rng.integers(0, n, 32)
            for what, likeness in {
                "like one item": Likeness(ids=[5], embeddings=name),
                "like the mean of 32": Likeness(ids=some, embeddings=name),
                "like any of 32": Likeness(ids=some, mode="any", embeddings=name),
                "like one, within half": Likeness(
                    ids=[5], within=np.arange(0, n, 2), embeddings=name
                ),
            }.items():
                print(f"  {dim}-d {what}")
                found[f"{dim}-d, {what}"] = timed(
                    lambda run=search.run, wish=likeness: run(wish), runs=RUNS
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, nargs="*", default=[128, 768])
    parser.add_argument("--folder", type=Path, help="for temporary data")
    wish = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-query-", dir=wish.folder))
    try:
        path = make(folder, wish.items, wish.dims)
        before = moment()
        with Project.open(path) as project:
            started = time.perf_counter()
            with Decisions.open(project) as decisions:
                opened = time.perf_counter() - started
                results: dict[str, Any] = {
                    "decisions": bench_decisions(decisions, wish.items)
                }
                with QueryEngine(project, decisions) as engine:
                    results["filters"] = bench_filters(engine)
            started = time.perf_counter()
            with Decisions.open(project):
                again = time.perf_counter() - started
        results["opening_decisions_s"] = {
            "none yet": round(opened, 4),
            "after the steps above": round(again, 4),
        }
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        results["peak_gib_without_engine"] = round(peak, 2)
        results["similarity"] = bench_similarity(path, wish.dims, wish.items)
        record(
            "query",
            results,
            settings={"items": wish.items, "dims": wish.dims, "runs": RUNS}
            | {"before": before, "after": moment()},
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
