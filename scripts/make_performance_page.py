"""Write docs/performance.md and the tables of README.md and docs/engine.md.

They come from benchmarks/results: what the documentation quotes was saved, never
typed in::

    python scripts/make_performance_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks/results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

INTRODUCTION = (
    "# Performance\n\n"
    "Every figure on this page is from a file in `benchmarks/results/`, written by the "
    "script named with it; this page is made by `scripts/make_performance_page.py`. No "
    "GPU was available: everything here ran on the CPU. The machine was shared, so CPU "
    "seconds say more than seconds, and ratios within one table more than absolute "
    "values."
)


def load(name: str) -> dict[str, Any] | None:
    """Return a saved result, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(result: dict[str, Any], script: str) -> str:
    """Return the line that says where, when and how something was measured."""
    machine = result["machine"]
    versions = result["versions"]
    named = ", ".join(
        f"{k} {versions[k]}" for k in ("taichi", "torch", "napari") if k in versions
    )
    return (
        f"*`{script}`, {result['date'][:10]}; {machine['cores']} cores "
        f"{machine['cpu']}, {machine.get('memory_gib', '?')} GiB, "
        f"Python {machine['python']}, {named}.*"
    )


def seconds(value: float) -> str:
    """Return a time that people read easily."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def step_rows(result: dict[str, Any]) -> list[list[str]]:
    """Return one row per command of a pipeline benchmark."""
    return [
        [
            f"`{step['command']}`" + (" (killed)" if step["killed"] else ""),
            seconds(step["seconds"]),
            seconds(step["cpu_seconds"]),
            f"{step['peak_memory_mib']:,} MiB",
        ]
        for step in result["results"]["steps"]
    ]


STEP_HEAD = ["command", "time", "CPU time", "peak memory, all processes"]


def pipelines() -> str:
    """Return the section on whole runs."""
    parts = ["## Whole runs, through the command line"]
    cifar = load("pipeline_cifar10")
    if cifar:
        agree = cifar["results"]["label_agreement_10nn"]
        done = cifar["results"]["status_after_kill"]["stages"][0]
        maps = ", ".join(f"{k} {v:.3f}" for k, v in agree.items())
        parts += [
            "### CIFAR-10, a folder of 60,000 JPEG files, default encoder",
            table(STEP_HEAD, step_rows(cifar)),
            f"Embedding was killed with `kill -9` when {done['chunks_done']} of "
            f"{done['chunks_total']} chunks were done, and went on from there. Share "
            "of points whose 10 nearest neighbors on the map elect their label: "
            f"{maps}.",
            source(cifar, "bench_pipeline.py cifar10"),
        ]
    for path in sorted(RESULTS.glob("pipeline_vectors_*.json")):
        result = load(path.stem)
        assert result is not None
        settings = result["settings"]
        parts += [
            f"### {settings['n']:,} vectors of {settings['dimensions']} dimensions",
            table(STEP_HEAD, step_rows(result)),
            per_iteration(result),
            source(result, "bench_pipeline.py million"),
        ]
    return "\n\n".join(parts)


def per_iteration(result: dict[str, Any]) -> str:
    """Return what the maps of a run took per iteration."""
    said = []
    for stage in result["results"]["status_at_end"]["stages"]:
        details = stage["info"].get("details") or {}
        if "seconds_per_iteration" in details:
            said.append(
                f"{stage['key'].removeprefix('projections/')}: "
                f"{details['seconds_per_iteration']:.2f} s per iteration over "
                f"{stage['info']['n_iter']} iterations, KL "
                f"{stage['info']['kl_divergence']:.2f}"
            )
    return "t-SNE " + "; ".join(said) + "."


def quality() -> str:
    """Return the section on t-SNE against openTSNE and scikit-learn."""
    parts = [
        "## t-SNE against openTSNE and scikit-learn",
        "The same affinities (perplexity 30), start, learning rate, momentum, "
        "exaggeration and number of iterations for all; every run in a process of its "
        "own with all cores, timed without neighbors, affinities and compilation. "
        "openTSNE FFTW is openTSNE built from source with the FFTW library, which is "
        "faster than its wheel. KL is in float64; times and KL of several seeds are "
        "means. Memory is the peak beyond what the process held before: P and the "
        "libraries.",
        "![CPU seconds per iteration](images/tsne-cpu-time.png)",
        *(_whole_maps(name) for name in ("10k", "70k", "300k", "20k-3d")),
        *(_by_iteration(name) for name in ("20k-3d", "300k", "1m")),
    ]
    return "\n\n".join(part for part in parts if part)


Runs = dict[tuple[str, int, str], list[dict[str, Any]]]


def _runs(result: dict[str, Any]) -> Runs:
    """Return the seeds of each contender, dimension and stage."""
    found: Runs = {}
    for key, run in result["results"]["runs"].items():
        name, dim, stage, _ = key.split(" | ")
        found.setdefault((name, int(dim[0]), stage), []).append(run)
    return found


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)


def _kl(runs: list[dict[str, Any]]) -> float:
    return _mean(runs, "exact_kl" if "exact_kl" in runs[0] else "sampled_kl")


def _whole_maps(case: str) -> str:
    result = load(f"tsne_cpu_{case}")
    if result is None:
        return ""
    found = _runs(result)
    rows = []
    for (name, dim, stage), seeds in found.items():
        if stage != "to the end":
            continue
        kl = f"{_kl(seeds):.4f}"
        if "standard_error" in seeds[0]:
            kl += f" ± {_mean(seeds, 'standard_error'):.4f}"
        labels = "label_agreement_10" in seeds[0]
        rows.append(
            [
                f"{name}, {dim}D" + (f", {len(seeds)} seeds" if seeds[1:] else ""),
                kl,
                *[f"{sum(r['precision'][k - 1] for r in seeds) / len(seeds):.3f}"
                  for k in (10, 90)],
                f"{_mean(seeds, 'label_agreement_10'):.3f}" if labels else "-",
                seconds(_mean(seeds, "cpu_s")),
                seconds(_mean(seeds, "wall_s")),
                f"{_mean(seeds, 'added_mib'):,.0f} MiB",
            ]
        )  # fmt: skip
    settings = result["settings"]
    about = f"### {settings['items']:,} points, {settings['iterations']} iterations"
    return "\n\n".join(
        [
            about + (", 3D" if case.endswith("3d") else ""),
            " ".join([f"Data: {settings['data']}.", settings.get("note", "")]).strip(),
            table(
                ["run", "KL", "precision at 10", "precision at 90",
                 "10-NN label agreement", "CPU time", "time", "memory"],
                rows,
            ),
            *_verdicts(found),
            *_exactly(result),
            source(result, f"bench_tsne_cpu.py {case}"),
        ]
    )  # fmt: skip


def _verdicts(found: Runs) -> list[str]:
    """Return what ours is beside the others, in words."""
    said = []
    for dim, others in (
        (2, ("openTSNE FFTW", "openTSNE", "scikit-learn")),
        (3, ("scikit-learn", "scikit-learn, our kernel")),
    ):
        ours = found.get(("ours", dim, "to the end"))
        for name in others:
            other = found.get((name, dim, "to the end"))
            if ours and other:
                share = _mean(ours, "cpu_s") / _mean(other, "cpu_s")
                said.append(f"{share:.2f} of the CPU time of {name} in {dim}D")
        fine = found.get(("openTSNE FFTW, fine grid", dim, "to the end"))
        if ours and fine:
            pairs = list(zip(ours, fine, strict=False))
            off = [100 * (_kl([a]) / _kl([b]) - 1) for a, b in pairs]
            said.append(
                f"KL {min(off):+.2f} to {max(off):+.2f} % from openTSNE's fine grid"
                if len(off) > 1
                else f"KL {off[0]:+.2f} % from openTSNE's fine grid"
            )
            lost = max(_lost(a, b) for a, b in pairs)
            said.append(
                f"precision at most {max(lost, 0):.3f} below it at any k from 1 to 90"
            )
    return ["Ours: " + "; ".join(said) + "."] if said else []


def _lost(ours: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest loss of precision on the curve."""
    pairs = zip(other["precision"], ours["precision"], strict=True)
    return float(max(b - a for b, a in pairs))


def _exactly(result: dict[str, Any]) -> list[str]:
    exact = result["results"].get("against exact")
    if exact is None:
        return []
    return [
        f"{exact['items']:,.0f} of these points in 3D: KL "
        f"{exact['ours_3d_exact_kl']:.4f} by our engine, "
        f"{exact['exact_gradients_3d_exact_kl']:.4f} by exact gradients."
    ]


def _by_iteration(case: str) -> str:
    result = load(f"tsne_cpu_{case}")
    if result is None:
        return ""
    rows = [
        [
            f"{name}, {dim}D",
            "from the start" if stage == "start" else "on a developed map",
            str(seeds[0]["iterations"]),
            f"{_mean(seeds, 'cpu_s') / seeds[0]['iterations']:.3f} s",
            f"{_mean(seeds, 'wall_s') / seeds[0]['iterations']:.3f} s",
            f"{_mean(seeds, 'added_mib'):,.0f} MiB",
        ]
        for (name, dim, stage), seeds in _runs(result).items()
        if stage != "to the end"
    ]
    return "\n\n".join(
        [
            f"### {result['settings']['items']:,} points, time per iteration",
            f"Data: {result['settings']['data']}. Time includes each program's "
            "set-up, and KL at the end.",
            table(
                ["run", "iterations", "how many", "CPU time of one", "time of one",
                 "memory"],
                rows,
            ),
            source(result, f"bench_tsne_cpu.py {case}"),
        ]
    )  # fmt: skip


def _evaluations(counts: dict[str, int]) -> int:
    """Return all of them; results from before kinds were told apart hold no total."""
    return counts.get("total", sum(counts.values()))


def accuracy() -> str:
    """Return the section on force errors."""
    result = load("tsne_accuracy")
    if result is None:
        return ""
    rows = [
        [
            f"{r['dim']}D",
            str(r["iteration"]),
            f"`{r['setting']}`",
            r["target"],
            f"{100 * r['rms_error']:.2f} %",
            f"{100 * r['p99_error']:.2f} %",
            f"{100 * abs(r['z_error']):.3f} %",
            f"{_evaluations(r['interactions']) / 1e6:.1f} M",
        ]
        for r in result["results"]
        if r["setting"] in ("fast", "default", "accurate")
    ]
    return "\n\n".join(
        [
            "## Error of the repulsive force",
            f"Against the exact sum, {result['settings']['items']:,} points of "
            "Fashion-MNIST, on maps of iterations 50, 250 and 750.",
            table(
                ["map", "iteration", "preset", "targets", "rms", "99th percentile",
                 "error of Z", "interactions"],
                rows,
            ),
            source(result, "bench_tsne_accuracy.py"),
        ]
    )  # fmt: skip


def live() -> str:
    """Return the section on positions that change while t-SNE runs."""
    result = load("live")
    if result is None:
        return ""
    rows = []
    for name, found in result["results"].items():
        cost = found["GUI thread CPU ms per update"]
        rows.append(
            [
                name,
                f"{cost['median']:.0f} ms",
                f"{cost['p95']:.0f} ms",
                f"{found['updates per second on a free core']:.1f}",
                f"{found['updates per second']:.1f}",
            ]
        )
    load_average = result["machine"]["load_average"][0]
    return "\n\n".join(
        [
            "### A map that forms",
            "The window takes positions that another process writes. CPU time of the "
            "window's thread for each map it takes, 95th percentile of it, maps a "
            "second that this allows on a free core, and those taken beside what else "
            f"ran (load {load_average:.0f} on {result['machine']['cores']} cores).",
            table(["map", "CPU", "95 %", "maps/s, free core", "maps/s, here"], rows),
            source(result, "bench_live.py"),
        ]
    )


def window() -> str:
    """Return the section on how long the event loop is kept."""
    result = load("window")
    if result is None:
        return ""
    rows = [
        [
            name,
            _ms(found["longest CPU ms without events"]),
            _ms(found["CPU ms to prepare the frame"]),
        ]
        for name, found in result["results"].items()
    ]
    points = result["settings"]["points"]
    return "\n\n".join(
        [
            "### The event loop",
            f"A project of {points:,} items in the window with all panels. Longest CPU "
            "time in which no other event was handled, and what preparing the next "
            "frame takes.",
            table(["action", "longest span", "next frame"], rows),
            source(result, "bench_window.py"),
        ]
    )


def timing_rows(found: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return rows of what, seconds, CPU seconds, first time."""
    return [
        [
            name,
            _s(times.get("median_s")),
            _s(times.get("cpu_s")),
            _s(times["first_s"]),
        ]
        for name, times in found.items()
        if isinstance(times, dict) and "first_s" in times
    ]


def _s(value: float | None) -> str:
    """Return seconds with two digits that matter."""
    if value is None:
        return "-"
    return f"{value:.0f} s" if value >= 10 else f"{float(f'{value:.2g}'):g} s"


def million() -> str:
    """Return the section on finding, deciding and leaving at a million items."""
    parts = ["## Finding, deciding, leaving: a million items"]
    head = ["what", "time", "CPU time", "first time"]
    result = load("million")
    if result is not None:
        measured, settings = result["results"], result["settings"]
        items = f"{settings['items']:,}"
        rows = timing_rows(measured["reopen after decisions"])
        rows = [[f"reopen: {row[0]}", *row[1:]] for row in rows]
        for key in ("problems", "decisions", "exports"):
            rows += timing_rows(measured[key])
        parts += [
            f"{items} items with pictures, vectors, neighbors, two maps, decisions "
            "about half of them. CPU time of all threads; the load of the machine was "
            f"{settings['before']['load']} to {settings['after']['load']} on its "
            f"{result['machine']['cores']} cores, so the clock says more about the "
            "others.",
            table(head, rows),
            f"Peak memory {measured['peak_gib']:.1f} GiB.",
            source(result, "bench_million.py"),
        ]
    result = load("query")
    if result is not None and "cpu_s" in result["results"]["filters"]["range"]:
        measured, settings = result["results"], result["settings"]
        rows = timing_rows(measured["filters"]) + timing_rows(measured["similarity"])
        parts += [
            "Filters and likeness, with random vectors; the first time reads the "
            "columns. Likeness is computed in the engine process, whose CPU time "
            f"counts, too. Load {settings['before']['load']} to "
            f"{settings['after']['load']}.",
            table(head, rows),
            source(result, "bench_query.py"),
        ]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def viewer() -> str:
    """Return the section on the points layer."""
    result = load("viewer")
    if result is None:
        return ""
    times = result["results"]["cpu_ms"]
    columns = [
        ("ours 1,000,000", "ours, 1M"),
        ("stock 1,000,000", "napari's points, 1M"),
        ("ours 5,000,000", "ours, 5M"),
        ("stock 5,000,000", "napari's points, 5M"),
    ]
    columns = [c for c in columns if c[0] in times]
    names = [
        n
        for n in times[columns[0][0]]
        if not n.startswith(("selected", "peak", "construct", "show"))
    ]
    rows = [
        [name, *(_ms(times[key].get(name)) for key, _ in columns)] for name in names
    ]
    rows.append(
        [
            "peak memory",
            *(_mib(times[key].get("peak memory, MiB")) for key, _ in columns),
        ]
    )
    over = result["results"]["over_budget"]
    remark = (
        "All within our budgets." if not over else f"Over budget: {'; '.join(over)}."
    )
    return "\n\n".join(
        [
            "## The points layer",
            "CPU time of the window's thread per operation, without drawing. A dash: "
            "not offered by napari, or not finished within the time limit of the run.",
            table(["operation", *(title for _, title in columns)], rows),
            remark,
            source(result, "bench_viewer.py"),
        ]
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} MiB"


def frames() -> str:
    """Return the section on frames per second, if a graphics card was there."""
    result = load("viewer_frames")
    if result is None:
        return (
            "## Frames per second\n\nNot measured yet: that needs a graphics card. "
            "`python benchmarks/bench_viewer.py --frames` measures 1, 5 and 10 million "
            "points in 3D on a machine that has one."
        )
    found = result["results"]["frames_per_second"]
    modes = list(next(iter(found.values())))
    rows = [[n, *(f"{values[m]:,.0f}" for m in modes)] for n, values in found.items()]
    return "\n\n".join(
        [
            "## Frames per second",
            f"3D, {' x '.join(str(v) for v in result['settings']['canvas'])} pixels, "
            f"{result['results']['renderer']}.",
            table(["points", *modes], rows),
            source(result, "bench_viewer.py --frames"),
        ]
    )


def survey() -> str:
    """Return the section on the sizes that the survey of other tools asked for."""
    result, others = load("survey"), load("survey_others")
    if result is None or others is None:
        return ""
    times, ratios = result["results"]["cpu_ms"], result["results"]["ratio_600k_to_60k"]
    names = list(next(iter(times.values())))
    parts = [
        "## At the survey's sizes",
        "CPU time of the window's thread; a frame: of all threads, drawn by the CPU in "
        "place of a graphics card at 800 x 600 pixels. While turning, a part of the "
        "points is drawn, and the status line says so.",
    ]
    for dims in ("2D", "3D"):
        columns = [key for key in times if key.startswith(dims)]
        rows = [
            [
                name,
                *(_ms(times[key].get(name)) for key in columns),
                f"{ratios[dims][name]:.1f}",
            ]
            for name in names
        ]
        parts.append(table([dims, *(c[3:] for c in columns), "600K / 60K"], rows))
    over = result["results"]["above_12"]
    parts += [
        "Ten times as many points take at most 12 times as long, in every line."
        if not over
        else f"More than 12 times as long for ten times as many: {'; '.join(over)}.",
        source(result, "bench_survey.py"),
        "What the survey found of other tools, by hand and on other hardware; nothing "
        "of this table was measured here:",
        table(
            ["tool", "2D", "3D", "response"],
            [[r["tool"], r["2D"], r["3D"], r["response"]] for r in others["results"]],
        ),
    ]
    return "\n\n".join(parts)


def encoders() -> str:
    """Return the section on encoders."""
    result = load("encoders")
    if result is None:
        return ""
    rows = [
        [
            r["data"].split(" (")[0],
            r["encoder"],
            f"{r['images_per_core_second']:,.0f}",
            f"{r['knn_accuracy']:.3f}",
        ]
        for r in result["results"]
    ]
    return "\n\n".join(
        [
            "## Encoders",
            "Accuracy of a 10-nearest-neighbor classifier on the vectors (cosine, "
            "5,000 reference and 1,000 query images). The descriptor's form was chosen "
            "on these two sets, so expect a little less elsewhere.",
            table(
                ["images", "encoder", "images per core and second", "accuracy"], rows
            ),
            source(result, "bench_encoders.py"),
        ]
    )


def embedding() -> str:
    """Return the section on embedding by stage, and on the estimate before it."""
    result = load("embed")
    if result is None:
        return ""
    cases = result["results"]["cases"]
    stages = [
        [
            f"{c['case']} ({c['images']:,})",
            *(_ms(1000 * c[k]) for k in ("decode_s", "model_s", "end_to_end_s")),
            f"{c['share_of_the_slower']:.2f}",
        ]
        for c in cases
    ]
    guesses = [
        [
            c["case"],
            f"{seconds(c['estimated_s'])} / {seconds(c['job_s'])}",
            f"{c['estimated_disk_mib']:.1f} / {c['disk_mib']:.1f} MiB",
            f"{c['estimated_peak_mib']:.0f} / {c['peak_mib']:.0f} MiB",
            f"{c['estimated_peak_mib'] / c['peak_mib'] - 1:+.0%}",
        ]
        for c in cases
    ]
    vit = result["results"]["vit_b_16"]
    return "\n\n".join(
        [
            "## Embedding, stage by stage",
            "Per image. The last column is the slower stage alone against the whole: 1 "
            "means that the slower one is never hungry. On a CPU both share the cores, "
            "and on a machine with other work the columns were measured minutes apart: "
            "values far from 1 show that work, not the program.",
            table(["images", "decode", "model", "end to end", "share"], stages),
            f"ViT-B/16 with random weights on this {vit['device'].upper()}: "
            f"{vit['s_per_image']:.3f} s per image end to end; the survey's code took "
            f"{vit['survey_cpu_s']} s on its CPU and {vit['survey_gpu_s']} s on its "
            "GPU. Not measured on a GPU here.",
            "### The estimate before a run, beside what the run took",
            table(["images", "time", "disk", "peak memory", "memory off by"], guesses),
            "Estimated / measured, each in an engine process of its own, beside other "
            "work on the machine, which the times show. Since these figures 64 MiB "
            "are added to the memory for writing chunks, which a trial does not do.",
            source(result, "bench_embed.py"),
        ]
    )


def readme_table() -> str:
    """Return the few figures that the README shows."""
    rows: list[list[str]] = []

    def add(what: str, steps: list[dict[str, Any]]) -> None:
        wall = sum(step["seconds"] for step in steps)
        cpu = sum(step["cpu_seconds"] for step in steps)
        rows.append([what, seconds(wall), seconds(cpu)])

    cifar, million = load("pipeline_cifar10"), load("pipeline_vectors_1000000")
    if cifar:
        steps = cifar["results"]["steps"]
        add("60,000 JPEG files to vectors, killed once", _named(steps, "embed"))
        add("... neighbors", _named(steps, "neighbors"))
        add("... t-SNE in 2D, 750 iterations", _named(steps, "project --dims 2"))
        add("... t-SNE in 3D, 750 iterations", _named(steps, "project --dims 3"))
    if million:
        steps = million["results"]["steps"]
        add("1,000,000 vectors of 50 dimensions: neighbors", _named(steps, "neighbors"))
        iterations = million["settings"]["iterations_2d"]
        flat = _named(steps, "project --dims 2")
        add(f"... t-SNE in 2D, {iterations} iterations", flat)
    return table(["what", "time", "CPU time"], rows) + "\n\n" + _beside_others()


def _named(steps: list[dict[str, Any]], start: str) -> list[dict[str, Any]]:
    return [step for step in steps if step["command"].startswith(start)]


def _beside_others() -> str:
    """Return the README's comparison with programs measured in the same run."""
    rows = []
    for name in ("tsne_cpu_70k", "tsne_cpu_10k"):
        result = load(name)
        if result is None:
            continue
        found = _runs(result)
        ours = found["ours", 2, "to the end"]
        other = found["openTSNE FFTW", 2, "to the end"]
        rows.append(
            [
                f"t-SNE of {result['settings']['items']:,} images in 2D, CPU time "
                "(exact KL)",
                f"{seconds(_mean(ours, 'cpu_s'))} ({_kl(ours):.3f})",
                f"openTSNE with FFTW: {seconds(_mean(other, 'cpu_s'))} "
                f"({_kl(other):.3f})",
            ]
        )
    result = load("viewer")
    if result:
        times = result["results"]["cpu_ms"]
        ours, stock = times["ours 1,000,000"], times["stock 1,000,000"]
        rows += [
            [
                f"{what}, 1,000,000 points",
                f"{ours[what]:,.0f} ms",
                f"napari's points layer: {stock[what]:,.0f} ms",
            ]
            for what in ("box", "recolour by category", "hover")
        ]
    return table(["in one run", "napari-embed", "beside it"], rows)


def engine_table() -> str:
    """Return the table of docs/engine.md: CPU seconds per iteration, side by side."""
    rows = []
    for case, dim, stage in (
        ("10k", 2, "to the end"), ("70k", 2, "to the end"), ("300k", 2, "to the end"),
        ("300k", 2, "start"), ("300k", 2, "developed"), ("1m", 2, "to the end"),
        ("1m", 2, "start"), ("1m", 2, "developed"), ("20k-3d", 3, "to the end"),
        ("20k-3d", 3, "start"), ("20k-3d", 3, "developed"),
    ):  # fmt: skip
        result = load(f"tsne_cpu_{case}")
        found = {} if result is None else _runs(result)
        ours = found.get(("ours", dim, stage))
        if result is None or ours is None:
            continue
        cells = [f"{result['settings']['items']:,} in {dim}D, {stage}"]
        cells.append(_per_iteration(ours))
        for name in ("openTSNE FFTW", "scikit-learn"):
            other = found.get((name, dim, stage))
            if other is None:
                cells.append("-")
                continue
            ratio = _cpu(other) / _cpu(ours)
            cells.append(f"{_per_iteration(other)} ({ratio:.1f} x)")
        whole = stage == "to the end"  # only finished maps have a KL
        fine = whole and found.get(("openTSNE FFTW, fine grid", dim, stage))
        cells.append(f"{100 * (_kl(ours) / _kl(fine) - 1):+.2f} %" if fine else "-")
        rows.append(cells)
    return table(
        ["points", "ours", "openTSNE with FFTW", "scikit-learn",
         "KL against openTSNE's fine grid"],
        rows,
    )  # fmt: skip


def _cpu(runs: list[dict[str, Any]]) -> float:
    return _mean(runs, "cpu_s") / float(runs[0]["iterations"])


def _per_iteration(runs: list[dict[str, Any]]) -> str:
    value = _cpu(runs)
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def write_between_marks(path: Path, content: str) -> None:
    """Replace what stands between the marks of a page."""
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}")


def main() -> None:
    """Write the page, and the tables of two others."""
    viewing = (viewer(), survey(), frames(), live(), window())
    sections = [pipelines(), quality(), accuracy(), *viewing, million()]
    sections += [encoders(), embedding()]
    page = "\n\n".join([INTRODUCTION.strip(), *(s for s in sections if s)])
    (REPOSITORY / "docs/performance.md").write_text(page + "\n")
    write_between_marks(REPOSITORY / "README.md", readme_table())
    write_between_marks(REPOSITORY / "docs/engine.md", engine_table())


if __name__ == "__main__":
    main()
