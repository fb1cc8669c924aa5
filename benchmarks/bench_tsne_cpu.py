"""t-SNE on the CPU: ours beside openTSNE's FFT and scikit-learn's Barnes-Hut.

    python benchmarks/bench_tsne_cpu.py 10k --cache FOLDER
    python benchmarks/bench_tsne_cpu.py 70k 20k-3d 300k 1m --cache FOLDER
    python benchmarks/bench_tsne_cpu.py plots

All get the same affinities (perplexity 30), start, exaggeration, momentum, learning
rate and number of iterations; each runs in a process of its own, with all cores
(``_tsne_contender.py``). For each: wall and CPU seconds of the minimisation, peak
memory, and of the finished map the exact KL (all pairs, float64; from 100,000 points
on the Z of a random sample of rows, with its standard error), the neighborhood
preservation for k = 1 to 3 x perplexity, and the agreement of the 10 nearest neighbors
on the label.
At a million points the others are timed only: iterations from the start, and on the
map that ours ends with. So are 300,000, and 20,000 in 3D, before they run to the end,
which takes the others long.

The wheels of openTSNE use NumPy's FFT on one thread. Built from source where FFTW is
installed it uses that, which is faster; ``--fftw FOLDER`` names such a build (``pip
install --no-binary openTSNE --target FOLDER openTSNE``), which then runs as well.

openTSNE's FFT knows 2D alone. In 3D scikit-learn's own kernel is another (Student with
2 degrees of freedom); it runs with that and with ours, and our engine is also compared
with exact gradients on a subset.

Results: ``results/tsne_cpu_CASE.json``, saved after every run; what is there already is
not run again without ``--again``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Idle threads that spin would take time from the program that is measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

import _tsne_data
from _record import RESULTS, moment, record
from _tsne_data import PERPLEXITY, Inputs
from napari_embed.arrays import Affinities
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement, neighborhood_preservation
from napari_embed.tsne.reference import exact_kl, exact_optimize

EXAGGERATION, EARLY, ITERATIONS = 12.0, 250, 750
# Ours does more in some iterations than in others; the others' are all alike.
TIMED, FEWER, FEW = 50, 20, 8
SAMPLED_FROM, SAMPLED_ROWS = 100_000, 10_000
EXACT_ITEMS = 1000
STAGES = ("to the end", "start", "developed")

OURS = {"program": "ours", "preset": "default"}
CONTENDERS: dict[str, dict[str, Any]] = {
    "ours": OURS,
    "ours, preset fast": OURS | {"preset": "fast"},
    "openTSNE": {"program": "opentsne", "fine": False},
    "openTSNE, fine grid": {"program": "opentsne", "fine": True},
    "openTSNE FFTW": {"program": "opentsne", "fine": False, "fftw": True},
    "openTSNE FFTW, fine grid": {"program": "opentsne", "fine": True, "fftw": True},
    "scikit-learn": {"program": "scikit-learn"},
    "scikit-learn, our kernel": {"program": "scikit-learn", "dof": 1},
}


@dataclass(frozen=True)
class Plan:
    """Runs of some contenders."""

    contenders: tuple[str, ...]
    dim: int = 2
    seeds: tuple[int, ...] = (0,)
    stage: str = "to the end"
    iterations: int = ITERATIONS


@dataclass(frozen=True)
class Case:
    """A data set and what runs on it."""

    data: str
    items: int
    plans: tuple[Plan, ...]


# The wheel's FFT runs once, to be seen beside the other; its maps are the same.
FFTW = ("openTSNE FFTW", "openTSNE FFTW, fine grid")
SKLEARN = ("scikit-learn", "scikit-learn, our kernel")
CASES = {
    "10k": Case("fashion", 10_000, (
        Plan(("ours", *FFTW, "openTSNE", "ours, preset fast", "scikit-learn")),
        Plan(("ours",), dim=3),
    )),
    "70k": Case("fashion", 70_000, (
        Plan(("ours", *FFTW), seeds=(0, 1, 2)),
        Plan(("openTSNE", "ours, preset fast")),
        Plan(("ours",), dim=3),
        Plan(("scikit-learn",)),
    )),
    "20k-3d": Case("fashion", 20_000, (
        Plan(("ours",), dim=3, stage="start", iterations=TIMED),
        Plan(SKLEARN, dim=3, stage="start", iterations=FEW),
        Plan(("ours",), dim=3, stage="developed", iterations=TIMED),
        Plan(SKLEARN, dim=3, stage="developed", iterations=FEW),
        Plan(("ours", *SKLEARN), dim=3),
    )),
    "300k": Case("words", 300_000, (
        Plan(("ours",)),
        Plan(("ours",), stage="start", iterations=TIMED),
        Plan(("ours",), stage="developed", iterations=TIMED),
        Plan(FFTW, stage="start", iterations=FEW),
        Plan(FFTW, stage="developed", iterations=FEW),
        Plan(("ours, preset fast", *FFTW)),
        Plan(("ours",), dim=3),
    )),
    "1m": Case("generated", 1_000_000, (
        Plan(("ours",)),
        Plan(("ours",), stage="start", iterations=TIMED),
        Plan(("ours",), stage="developed", iterations=TIMED),
        Plan(FFTW, stage="start", iterations=FEW),
        Plan(FFTW, stage="developed", iterations=FEW),
        Plan(("ours",), dim=3, stage="start", iterations=FEWER),
        Plan(("scikit-learn",), stage="start", iterations=5),
        Plan(("scikit-learn",), stage="developed", iterations=5),
    )),
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the command line says about every case."""

    cache: Path
    fftw: Path | None
    jobs: int
    again: bool
    project: Path | None
    only: tuple[str, ...] | None
    stages: tuple[str, ...]
    dimensions: tuple[int, ...]


def kl_of(p: Affinities, y: NDArray[np.float32]) -> dict[str, float]:
    """Return KL in float64, exact or with the Z of a sample of rows."""
    if p.n < SAMPLED_FROM:
        return {"exact_kl": round(exact_kl(p, y), 5)}
    value, error = sampled_kl(p, y)
    return {"sampled_kl": round(value, 5), "standard_error": round(error, 5)}


def sampled_kl(
    p: Affinities, y: NDArray[np.float32], rows: int = SAMPLED_ROWS
) -> tuple[float, float]:
    """Return KL with Z from the exact sums of ``rows`` random points, and its error."""
    some = np.random.default_rng(0).choice(p.n, min(rows, p.n), replace=False)
    axes = np.ascontiguousarray(y.T, np.float64)
    sums = np.empty(len(some))
    for first in range(0, len(some), 8):
        block = some[first : first + 8]
        squared = np.ones((len(block), p.n))
        for axis in axes:
            away = axis[block, None] - axis[None]
            away *= away
            squared += away
        sums[first : first + 8] = np.reciprocal(squared, out=squared).sum(axis=1) - 1
    z = p.n * sums.mean()
    spread = sums.std(ddof=1) / sums.mean() / np.sqrt(len(some))
    rest = 0.0
    for first in range(0, p.n, 65536):
        ends = p.indptr[first : first + 65537]
        entries = slice(ends[0], ends[-1])
        i = np.repeat(np.arange(first, first + len(ends) - 1), np.diff(ends))
        j, value = p.indices[entries], p.values[entries].astype(np.float64)
        squared = ((axes[:, i] - axes[:, j]) ** 2).sum(axis=0)
        known = value > 0
        rest += float(
            (value * (np.log(value, where=known, out=0 * value) + np.log1p(squared)))
            .sum()
        )  # fmt: skip
    share = np.sqrt(1 - len(some) / p.n)  # a sample without replacement
    return rest + float(np.log(z)), float(spread * share)


def quality(inputs: Inputs, y: NDArray[np.float32]) -> dict[str, Any]:
    """Judge a finished map."""
    precision, recall = neighborhood_preservation(inputs.graph, y, n_sample=10_000)
    found: dict[str, Any] = kl_of(inputs.joint, y)
    found["extent"] = [round(float(size), 1) for size in np.ptp(y, axis=0)]
    if inputs.data.labels is not None:
        agreement = knn_label_agreement(y, inputs.data.labels, k=10)
        found["label_agreement_10"] = round(agreement, 4)
    found["recall_at_90"] = round(float(recall[-1]), 4)
    found["precision"] = [round(float(v), 4) for v in precision]
    return found


def start_file(inputs: Inputs, plan: Plan, seed: int, options: Options) -> Path:
    """Write the start of a run and return where."""
    if plan.stage == "developed":
        return developed_map(inputs, plan.dim, options)
    path = inputs.folder / f"start_{plan.dim}d_{seed}.npy"
    if not path.is_file():
        start = initial_positions(
            inputs.data.vectors, inputs.joint.n, n_components=plan.dim,
            random_state=seed,
        )  # fmt: skip
        np.save(path, start)
    return path


def developed_map(inputs: Inputs, dim: int, options: Options) -> Path:
    """Return a map of 750 iterations by our engine, from ``--project`` if given."""
    path = inputs.folder / f"developed_{dim}d.npy"
    if path.is_file():
        return path
    if options.project is not None:
        from napari_embed import Project

        with Project.open(options.project) as opened:
            np.save(path, opened.read_projection(f"tsne-{dim}d").positions)
        return path
    plan = Plan(("ours",), dim=dim)
    ended = map_file(inputs, "ours", plan, 0)
    if not ended.is_file():
        contend(inputs, "ours", plan, 0, options)
    shutil.copyfile(ended, path)
    return path


def map_file(inputs: Inputs, name: str, plan: Plan, seed: int) -> Path:
    """Return where the positions of a run go."""
    words = f"{name} {plan.dim}d {plan.stage} {seed}"
    return inputs.folder / ("map_" + words.replace(",", "").replace(" ", "_") + ".npy")


def contend(
    inputs: Inputs, name: str, plan: Plan, seed: int, options: Options
) -> dict[str, Any]:
    """Run one contender in a process of its own; return time and memory."""
    job = {
        "fine": False, "dof": plan.dim - 1, "preset": "default", **CONTENDERS[name],
        "folder": str(inputs.folder), "jobs": options.jobs,
        "start": str(start_file(inputs, plan, seed, options)),
        "positions": str(map_file(inputs, name, plan, seed)),
        "measured": str(inputs.folder / "measured.json"),
        "exaggeration": EXAGGERATION, "iterations": plan.iterations,
        "early": {"to the end": EARLY, "start": plan.iterations, "developed": 0}[
            plan.stage
        ],
    }  # fmt: skip
    environment = dict(os.environ)
    if job.get("fftw"):
        paths = [str(options.fftw), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    path = inputs.folder / "job.json"
    path.write_text(json.dumps(job))
    before = moment()
    script = Path(__file__).with_name("_tsne_contender.py")
    subprocess.run([sys.executable, script, path], check=True, env=environment)
    measured: dict[str, Any] = json.loads(Path(job["measured"]).read_text())
    measured["iterations"] = plan.iterations
    return measured | before | {"load_after": moment()["load"]}


def run_case(case_name: str, options: Options) -> None:
    """Run what is not there yet, and save after each run."""
    case = CASES[case_name]
    inputs = _tsne_data.prepare(case.data, case.items, options.cache)
    saved = RESULTS / f"tsne_cpu_{case_name}.json"
    results: dict[str, Any] = {"runs": {}}
    if saved.is_file():
        results = json.loads(saved.read_text())["results"]
    for plan in case.plans:
        if plan.stage not in options.stages or plan.dim not in options.dimensions:
            continue
        for seed in plan.seeds:
            for name in plan.contenders:
                if options.only and name not in options.only:
                    continue
                if "FFTW" in name and options.fftw is None:
                    continue
                key = f"{name} | {plan.dim}D | {plan.stage} | seed {seed}"
                if key in results["runs"] and not options.again:
                    continue
                found = contend(inputs, name, plan, seed, options)
                if plan.stage == "to the end":
                    y = np.load(map_file(inputs, name, plan, seed))
                    found |= quality(inputs, y)
                results["runs"][key] = found
                save(case_name, case, inputs, results, options)
                brief = {k: v for k, v in found.items() if k != "precision"}
                print(key, brief, flush=True)
    if case_name == "10k" and (options.again or "against exact" not in results):
        results["against exact"] = against_exact(inputs)
        save(case_name, case, inputs, results, options)


def save(
    name: str, case: Case, inputs: Inputs, results: dict[str, Any], options: Options
) -> None:
    """Write what has been measured so far."""
    about = {
        "data": inputs.data.about, "items": case.items, "perplexity": PERPLEXITY,
        "neighbors": inputs.graph.k, "recall_of_neighbors": inputs.graph.recall,
        "entries_of_p": int(inputs.joint.values.size), "iterations": ITERATIONS,
        "early_exaggeration": EXAGGERATION, "early_iterations": EARLY,
        "momentum": "0.5, then 0.8", "jobs": options.jobs,
        "learning_rate": "max(200, n / exaggeration)",
    }  # fmt: skip
    record(f"tsne_cpu_{name}", results, settings=about)


def against_exact(inputs: Inputs) -> dict[str, float]:
    """3D on a subset: final KL of ours and of exact gradients, same everything."""
    from napari_embed.tsne.optimizer import optimize

    x = inputs.data.vectors[:EXACT_ITEMS]
    p = affinities(neighbor_graph(x, n_neighbors=90), perplexity=PERPLEXITY)
    start = initial_positions(x, p.n, n_components=3, random_state=0)
    params = ProjectionParams(n_components=3, max_iter=ITERATIONS, early_stop=False)
    return {
        "items": float(p.n),
        "ours_3d_exact_kl": exact_kl(
            p, optimize(p, start, params, device="cpu").positions
        ),
        "exact_gradients_3d_exact_kl": exact_optimize(p, start, params).kl_divergence,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=(*CASES, "plots"))
    parser.add_argument("--cache", type=Path, default=Path("benchmark-data"),
                        help="data, neighbors and maps are kept here")  # fmt: skip
    parser.add_argument("--fftw", type=Path, help="openTSNE built with FFTW")
    parser.add_argument("--project", type=Path,
                        help="of bench_pipeline.py million, 750 iterations in 2D: its "
                        "map is the developed one")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--dimensions", nargs="+", type=int, default=(2, 3))
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    options = Options(
        cache=given.cache.resolve(), fftw=given.fftw, jobs=given.jobs,
        again=given.again, project=given.project,
        only=tuple(given.only) if given.only else None, stages=tuple(given.stages),
        dimensions=tuple(given.dimensions),
    )  # fmt: skip
    for name in given.cases:
        if name == "plots":
            from _tsne_plots import draw

            draw()
        else:
            run_case(name, options)


if __name__ == "__main__":
    main()
