r"""Correctness and speed of the layout engine on a machine with an NVIDIA GPU.

    python benchmarks/bench_tsne_gpu.py

It needs Python 3.11-3.13 with numpy and a CUDA build of torch, the sources of this
repository, and Taichi. Where nothing can be downloaded, carry wheels: with

    pip download --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_27_x86_64 -d .whl \
        taichi==1.7.4 colorama dill rich markdown-it-py mdurl pygments

(58 MB; the Python of the machine decides the version) the one command there is

    python3 -m pip install -q --no-index --no-deps --target /tmp/site .whl/*.whl &&
    PYTHONPATH=/tmp/site:src python3 -u benchmarks/bench_tsne_gpu.py --budget 540

Parts, in this order: ``correctness`` (forces against all pairs in float64, the map
against the CPU's, one seed twice), ``fashion`` if ``FASHION_NPZ`` names a file with
``images``, then ``speed`` at 60,000, 1,280,000 and 3,000,000 points in 2D and 3D on
clustered data, and ``profile`` (time of every loop of every kernel, at 60,000 points).
Each is saved as soon as it is done, into ``results/tsne_gpu.json`` and, when set, the
folder ``$OUT``. What no longer fits the budget is cut short or left out, and the file
says so. Times are of the minimisation alone, compiled beforehand.

``--device cpu --smoke`` runs all of it with tiny sizes anywhere, as a test does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import _record
from _device_graph import (
    clustered,
    exact_force,
    exact_kl,
    nearest,
    pca_start,
    to_p,
)
from napari_embed.arrays import Affinities
from napari_embed.kernels import runtime
from napari_embed.params import ProjectionParams
from napari_embed.tsne.optimizer import optimize
from napari_embed.tsne.presets import accuracy_of
from napari_embed.tsne.schedule import Schedule

PERPLEXITY, NEIGHBORS = 30.0, 90
PARTS = ("correctness", "fashion", "speed", "profile")


@dataclass(frozen=True)
class Case:
    """One timed run: points, dimensions, iterations, and the bar in seconds, if any."""

    n: int
    dim: int
    iterations: int
    bar: float | None = None


CASES = (
    Case(60_000, 2, 1000, 0.6),
    Case(60_000, 3, 1000),
    Case(1_280_000, 2, 750, 1.0),
    Case(1_280_000, 2, 4000, 5.0),
    Case(1_280_000, 3, 750),
    Case(3_000_000, 2, 4000, 10.0),
    Case(3_000_000, 3, 4000, 28.0),
)
SMOKE = (Case(3000, 2, 60), Case(3000, 3, 60))


class Session:
    """What all parts share: the device, the clock, and the file that grows."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.began = time.perf_counter()
        self.kind: str = given.device
        self.smoke: bool = given.smoke
        self.budget: float = given.budget
        self.name = "tsne_gpu_smoke" if given.smoke else "tsne_gpu"
        self.results: dict[str, Any] = {}
        self.device = runtime.start(given.device)

    def left(self) -> float:
        """Return the seconds left."""
        return self.budget - (time.perf_counter() - self.began)

    def save(self, part: str, found: Any) -> None:
        """Note what a part found, and write everything so far."""
        self.results[part] = found
        print(part, found, flush=True)
        path = _record.record(
            self.name,
            self.results,
            settings={
                "device": self.kind, "perplexity": PERPLEXITY, "neighbors": NEIGHBORS,
                "budget_s": self.budget, "used_s": round(self.budget - self.left(), 1),
                "data": "clustered, 16 dimensions, neighbors approximate",
                "preset": "default",
            },
        )  # fmt: skip
        if os.environ.get("OUT"):
            shutil.copy(path, os.environ["OUT"])


def wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()


def problem(
    n: int, *, seed: int, device: str
) -> tuple[Affinities, dict[int, NDArray[np.float32]]]:
    """Return P over clustered data in random order, and starts in 2D and 3D."""
    x = clustered(n, seed=seed, device=device)
    ids, squared = nearest(x, min(NEIGHBORS, n - 1))
    random = torch.Generator(device).manual_seed(seed)
    order = torch.randperm(n, generator=random, device=device)
    place = torch.empty_like(order)
    place[order] = torch.arange(n, device=device)
    p = to_p(place[ids[order]], squared[order], PERPLEXITY)
    starts = {dim: pca_start(x[order], dim, seed=seed) for dim in (2, 3)}
    del x, ids, squared
    if device == "cuda":
        torch.cuda.empty_cache()
    return p, starts


# --- correctness


def force_errors(session: Session) -> dict[str, Any]:
    """Errors of R / Z and Z, exactly at theta 0 and with the defaults."""
    from napari_embed.kernels.repulsion import Accuracy

    random = np.random.default_rng(1)
    n = 2000 if session.smoke else 20_000
    found = {}
    for dim in (2, 3):
        centres = random.normal(size=(30, dim)) * 25
        y = centres[random.integers(0, 30, n)] + random.normal(size=(n, dim)) * 3
        y = y.astype(np.float32)
        true, z = exact_force(y, device=session.kind)
        plain = accuracy_of(ProjectionParams(n_components=dim))
        for name, accuracy in {
            "theta 0": Accuracy(theta=0.0),
            "default, points": replace(plain, target="points"),
            "default, cells": replace(plain, target="cells"),
        }.items():
            repulsion = evaluated(y, accuracy, session)
            force = repulsion.result.to_numpy()[:, 1:] / value_of_z(repulsion)
            off = torch.from_numpy(force.astype(np.float64)).to(true.device) - true
            found[f"{dim}D {name}"] = {
                "force_error": float(off.norm() / true.norm()),
                "z_error": abs(value_of_z(repulsion) / z - 1),
                "points": n,
            }
    return found


def evaluated(y: NDArray[np.float32], accuracy: Any, session: Session) -> Any:
    from napari_embed.kernels.repulsion import Repulsion

    positions = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    positions.from_numpy(y)
    repulsion = Repulsion(len(y), y.shape[1], session.device, accuracy)
    repulsion.rebuild(positions)
    repulsion.evaluate(positions)
    return repulsion


def value_of_z(repulsion: Any) -> float:
    from napari_embed.kernels.layout import CHUNKS

    return float(repulsion.z[CHUNKS])


def compare_maps(session: Session) -> dict[str, Any]:
    """Exact KL of two runs with one seed here, and of the same run on the CPU."""
    n, iterations = (1500, 100) if session.smoke else (10_000, 750)
    p, starts = problem(n, seed=2, device=session.kind)
    found = {}
    for dim in (2, 3):
        params = ProjectionParams(
            n_components=dim, max_iter=iterations, early_stop=False
        )
        maps = [
            optimize(p, starts[dim], params, device=session.kind).positions
            for _ in range(2)
        ]
        on_cpu = map_of_child(p, starts[dim], iterations)
        kl = [exact_kl(p, y, device=session.kind) for y in (*maps, on_cpu)]
        found[f"{dim}D"] = {
            "points": n, "iterations": iterations, "kl": kl[0], "kl_again": kl[1],
            "kl_on_cpu": kl[2], "same_bits_again": bool((maps[0] == maps[1]).all()),
            "repeats_within": abs(kl[1] / kl[0] - 1),
            "from_cpu": kl[0] / kl[2] - 1,
        }  # fmt: skip
    return found


def map_of_child(
    p: Affinities, start: NDArray[np.float32], iterations: int
) -> NDArray[np.float32]:
    """Compute the same map on the CPU, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "map.npy"
        np.savez(
            given, indptr=p.indptr, indices=p.indices, values=p.values, start=start,
            iterations=iterations,
        )  # fmt: skip
        subprocess.run(
            [sys.executable, __file__, "--child", str(given), str(result)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return np.load(result, allow_pickle=False)


def run_child(given: str, result: str) -> None:
    with np.load(given, allow_pickle=False) as arrays:
        p = Affinities(arrays["indptr"], arrays["indices"], arrays["values"])
        start, iterations = arrays["start"], int(arrays["iterations"])
    params = ProjectionParams(
        n_components=start.shape[1], max_iter=iterations, early_stop=False
    )
    np.save(result, optimize(p, start, params, device="cpu").positions)


# --- speed


class Run:
    """One minimisation, driven as the optimizer does, without a callback."""

    def __init__(
        self,
        session: Session,
        p: Affinities,
        start: NDArray[np.float32],
        iterations: int,
        **settings: Any,
    ) -> None:
        from napari_embed.kernels.minimizer import Minimizer

        dim = start.shape[1]
        params = ProjectionParams(n_components=dim, max_iter=iterations, **settings)
        self.kind = session.kind
        self.schedule = Schedule.of(params, p.n)
        self.minimizer = Minimizer(
            p.indptr, p.indices, p.values, start, device=session.device,
            accuracy=accuracy_of(params),
        )  # fmt: skip
        self.iteration = 0

    def go(self, until: int, *, deadline: float = float("inf")) -> float:
        """Iterate, at most to a time of ``perf_counter``; return seconds."""
        wait(self.kind)
        began = time.perf_counter()
        while self.iteration < until:
            if self.iteration % 50 == 0 and time.perf_counter() > deadline:
                break
            self._one()
            if self.iteration == until and not self.minimizer.settle():
                self.iteration = self.minimizer.steps_done
        self.minimizer.settle()
        wait(self.kind)
        return time.perf_counter() - began

    def _one(self) -> None:
        from napari_embed.kernels.minimizer import StepSettings

        it, schedule, minimizer = self.iteration, self.schedule, self.minimizer
        done = minimizer.prepare(
            early=schedule.exaggerates_at(it),
            rebuild=schedule.rebuilds_at(it),
            renumber=schedule.renumbers_at(it),
            choose=schedule.chooses_target_at(it),
        )
        if not done:
            self.iteration = minimizer.steps_done
            return
        minimizer.step(
            StepSettings(
                exaggeration=schedule.exaggeration_at(it),
                rate=schedule.rate_at(it),
                momentum=schedule.momentum_at(it),
                min_gain=schedule.min_gain,
                clip=schedule.clip,
            )
        )
        self.iteration += 1

    def kl(self) -> float:
        """Return KL with the Z of the traversal, at the present positions."""
        early = self.schedule.exaggerates_at(self.iteration)
        self.minimizer.prepare(early=early)
        while not self.minimizer.settle():
            self.minimizer.prepare(early=early)
        return self.minimizer.divergence()


def warm_up(session: Session, p: Affinities, start: NDArray[np.float32]) -> float:
    """Compile all that a run of this size may need; return the seconds it took."""
    began = time.perf_counter()
    for target in ("points", "cells"):
        run = Run(session, p, start, 6, target=target)
        run.go(6)
        run.kl()
    return time.perf_counter() - began


def time_case(
    session: Session, case: Case, p: Affinities, start: NDArray[np.float32]
) -> dict[str, Any]:
    """Run a case as far as the budget lets it; time, KL, memory, calls, stages."""
    compiled = warm_up(session, p, start)
    run = Run(session, p, start, case.iterations)
    # An eighth of the time is kept for what comes after.
    deadline = time.perf_counter() + 0.875 * session.left()
    seconds = run.go(case.iterations, deadline=deadline)
    done = run.iteration
    found: dict[str, Any] = {
        "points": case.n, "dim": case.dim, "edges": int(p.indices.size),
        "iterations": done, "seconds": seconds, "compile_s": compiled,
        "ms_per_iteration": 1e3 * seconds / max(1, done),
        "kl": run.kl(),
        "extent": float(np.ptp(run.minimizer.positions(), axis=0).max()),
        "target": "cells" if run.minimizer.repulsion.cells_on else "points",
        "made_room": run.minimizer.repulsion.regrown,
        "levels": run.minimizer.repulsion.levels,
        "memory_in_use_gib": memory_in_use(session.kind) / 2**30,
    }  # fmt: skip
    if done < case.iterations:
        found["cut_short"] = f"{case.iterations} iterations did not fit the budget"
    elif case.bar is not None:
        found |= {"bar_s": case.bar, "holds": seconds <= case.bar}
    found["stages"] = stages(session, run)
    return found


def memory_in_use(kind: str) -> int:
    """Return bytes in use on the device, by all; 0 where there is none to look at."""
    if kind != "cuda":
        return 0
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return total - free


def stages(session: Session, run: Run) -> dict[str, Any]:
    """Time each kernel by events on the device, over iterations after the run.

    Medians over plain iterations (neither rebuild nor choice of the target).
    """
    schedule = replace(run.schedule, max_iter=run.schedule.max_iter + 100)
    run.schedule = schedule
    plain: list[dict[str, float]] = []
    calls: list[int] = []
    first = run.iteration
    while run.iteration < first + 50:
        upkeep = schedule.rebuilds_at(run.iteration)
        at = run.iteration
        with timed_calls(session.kind) as spent:
            run._one()
        if run.iteration != at + 1:
            break
        if not upkeep:
            wait(session.kind)
            plain.append(spent())
            calls.append(len(spent()))
    if not plain:
        return {}
    names = plain[0].keys()
    medians = {k: statistics.median(one.get(k, 0.0) for one in plain) for k in names}
    return {"calls_in_a_plain_iteration": max(calls), "ms": medians}


@contextlib.contextmanager
def timed_calls(kind: str) -> Iterator[Any]:
    """Give a function that returns milliseconds by kernel, once all is done."""
    marks: list[tuple[str, Any, Any]] = []
    kernel = runtime.ti.lang.kernel_impl.Kernel
    plain = kernel.__call__

    def now() -> Any:
        if kind != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def marked(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = now()
        result = plain(self, *args, **kwargs)
        marks.append((self.func.__name__, before, now()))
        return result

    def spent() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, before, after in marks:
            cuda = kind == "cuda"
            ms = before.elapsed_time(after) if cuda else 1e3 * (after - before)
            found[name] = found.get(name, 0.0) + ms
        return found

    kernel.__call__ = marked
    try:
        yield spent
    finally:
        kernel.__call__ = plain


def speed(session: Session) -> None:
    """Time all cases, those of one size on one P; save after each."""
    found: dict[str, Any] = {}
    p, starts, have = None, {}, 0
    for case in SMOKE if session.smoke else CASES:
        name = f"{case.n} {case.dim}D {case.iterations}"
        # Making P of three million points takes most of a minute.
        if session.left() < (5 if session.smoke else 20 + case.n / 60_000):
            found[name] = {"left_out": f"{session.left():.0f} s were left"}
        else:
            if case.n != have:
                began = time.perf_counter()
                p = None
                p, starts = problem(case.n, seed=3, device=session.kind)
                have = case.n
                found[f"P of {have}"] = {"seconds": time.perf_counter() - began}
            found[name] = time_case(session, case, p, starts[case.dim])
        session.save("speed", found)


# --- the other parts


def correctness(session: Session) -> None:
    found = {"forces": force_errors(session)}
    session.save("correctness", found)
    session.save("correctness", found | {"maps": compare_maps(session)})


def fashion(session: Session) -> None:
    """Time the pictures of ``FASHION_NPZ``, with exact neighbors."""
    path = os.environ.get("FASHION_NPZ", "")
    if not path or not Path(path).is_file():
        session.save("fashion", {"left_out": "FASHION_NPZ names no file"})
        return
    with np.load(path, allow_pickle=False) as data:
        images = data["images"][: 1000 if session.smoke else None]
    x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255)
    x = x.to(session.kind)
    ids, squared = [], []
    for first in range(0, len(x), 2048):
        away = torch.cdist(x[first : first + 2048], x)
        own = torch.arange(len(away), device=x.device)
        away[own, own + first] = torch.inf
        near = away.topk(NEIGHBORS, largest=False)
        ids.append(near.indices)
        squared.append(near.values.square())
    p = to_p(torch.cat(ids), torch.cat(squared), PERPLEXITY)
    found = {}
    for dim in (2, 3):
        case = Case(len(x), dim, 60 if session.smoke else 1000)
        found[f"{dim}D"] = time_case(session, case, p, pca_start(x, dim, seed=0))
    session.save("fashion", found)


def profile(session: Session) -> None:
    """Time every loop of every kernel, in a process of its own."""
    if session.left() < (5 if session.smoke else 60):
        session.save("profile", {"left_out": f"{session.left():.0f} s were left"})
        return
    command = [sys.executable, __file__, "--device", session.kind, "--profile"]
    done = subprocess.run(
        command + (["--smoke"] if session.smoke else []),
        capture_output=True,
        text=True,
        timeout=max(5.0, session.left()),
        check=False,
    )
    session.save("profile", {"ok": done.returncode == 0, "table": done.stdout[-20000:]})


def run_profile(given: argparse.Namespace) -> None:
    runtime.start(given.device, profile=True)
    session = Session(given)
    n = 3000 if given.smoke else 60_000
    p, starts = problem(n, seed=3, device=given.device)
    for dim in (2, 3):
        for target in ("points", "cells"):
            run = Run(session, p, starts[dim], 300, target=target)
            run.go(5)
            runtime.ti.profiler.clear_kernel_profiler_info()
            run.go(25)
            print(f"{dim}D, {target}, iterations 5 to 25")
            runtime.ti.profiler.print_kernel_profiler_info("count")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--results", type=Path, help="folder for the JSON file")
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_child(*given.child)
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "PyTorch sees no usable NVIDIA GPU here, so there is nothing to measure. "
            "Run this on a machine with one, or try '--device cpu --smoke'."
        )
    if given.results:
        _record.RESULTS = given.results
    if given.profile:
        run_profile(given)
        return
    session = Session(given)
    parts = {
        "correctness": correctness, "fashion": fashion, "speed": speed,
        "profile": profile,
    }  # fmt: skip
    for name in given.parts:
        parts[name](session)


if __name__ == "__main__":
    main()
