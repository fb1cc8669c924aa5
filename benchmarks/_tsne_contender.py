"""One minimisation in a process of its own: ours, openTSNE's or scikit-learn's.

``bench_tsne_cpu.py`` starts it with a file that says what to run. Every program gets
the same affinities, start, exaggeration, momentum, learning rate and number of
iterations. The clock runs during the minimisation alone: set-up of the program's own
state included, reading the affinities and compiling kernels not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Idle threads that spin would be counted as work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from _tsne_data import read_affinities
from napari_embed.arrays import Affinities
from napari_embed.params import ProjectionParams

Run = Callable[[], NDArray[np.floating]]
MOMENTUM_EARLY, MOMENTUM = 0.5, 0.8


def phases(job: dict[str, Any], n: int) -> list[tuple[int, float, float, float]]:
    """Return iterations, exaggeration, momentum and learning rate of each phase."""
    early, late = job["early"], job["iterations"] - job["early"]
    plan = [(early, job["exaggeration"], MOMENTUM_EARLY), (late, 1.0, MOMENTUM)]
    return [(count, e, m, max(200.0, n / e)) for count, e, m in plan if count > 0]


def ours(p: Affinities, start: NDArray[np.float32], job: dict[str, Any]) -> Run:
    """Prepare our engine; its kernels are compiled here, both kinds of targets."""
    from napari_embed.tsne.optimizer import optimize

    def settings(iterations: int, **more: Any) -> ProjectionParams:
        return ProjectionParams(
            n_components=start.shape[1], preset=job["preset"], max_iter=iterations,
            early_exaggeration=job["exaggeration"],
            early_exaggeration_iter=job["early"], early_stop=False, device="cpu",
            **more,
        )  # fmt: skip

    few, small = _ring(600), np.random.default_rng(0).normal(size=(600, start.shape[1]))
    for target in ("cells", "points"):
        optimize(few, small.astype(np.float32), settings(12, target=target),
                 device="cpu", threads=job["jobs"])  # fmt: skip
    params = settings(job["iterations"])
    return lambda: (
        optimize(p, start, params, device="cpu", threads=job["jobs"]).positions
    )


def _ring(n: int) -> Affinities:
    """Affinities of a few points, to compile with."""
    ahead = np.arange(n)
    indices = np.stack([(ahead - 1) % n, (ahead + 1) % n], axis=1).astype(np.int32)
    values = np.full(2 * n, 0.5 / n, np.float32)
    return Affinities(2 * np.arange(n + 1, dtype=np.int64), indices.ravel(), values)


def opentsne(p: Affinities, start: NDArray[np.float32], job: dict[str, Any]) -> Run:
    """Prepare openTSNE's FFT; ``fine`` halves its grid spacing."""
    import openTSNE
    from openTSNE.affinity import PrecomputedAffinities
    from scipy import sparse

    matrix = sparse.csr_matrix(
        (p.values.astype(np.float64), p.indices, p.indptr), shape=(p.n, p.n)
    )
    known = PrecomputedAffinities(matrix, normalize=False)
    begin = start.astype(np.float64)

    def run() -> NDArray[np.floating]:
        embedding = openTSNE.TSNEEmbedding(
            begin,
            known,
            negative_gradient_method="fft",
            ints_in_interval=0.5 if job["fine"] else 1,
            n_jobs=job["jobs"],
        )
        for count, exaggeration, momentum, rate in phases(job, p.n):
            embedding = embedding.optimize(
                count, exaggeration=exaggeration, momentum=momentum,
                learning_rate=rate, max_step_norm=5,
            )  # fmt: skip
        return np.asarray(embedding)

    return run


def scikit_learn(p: Affinities, start: NDArray[np.float32], job: dict[str, Any]) -> Run:
    """Prepare scikit-learn's Barnes-Hut with its own angle (0.5).

    ``TSNE`` cannot be given P, so its inner functions are called the way it does. Its
    gradient keeps the factor 4, so the rate is a quarter. In 3D it takes the Student
    distribution with 2 degrees of freedom; ``dof`` of 1 gives it the kernel of 2D.
    """
    from scipy import sparse
    from sklearn.manifold import _t_sne

    matrix = sparse.csr_matrix((p.values, p.indices, p.indptr), shape=(p.n, p.n))
    begin = start.astype(np.float32)

    def run() -> NDArray[np.floating]:
        flat, done = begin.ravel(), 0
        for count, exaggeration, momentum, rate in phases(job, p.n):
            flat, _, _ = _t_sne._gradient_descent(
                _t_sne._kl_divergence_bh, flat, done, done + count, n_iter_check=50,
                n_iter_without_progress=10_000, momentum=momentum,
                learning_rate=rate / 4, min_grad_norm=0.0,
                args=[matrix * exaggeration, job["dof"], p.n, start.shape[1]],
                kwargs={"angle": 0.5, "num_threads": job["jobs"]},
            )  # fmt: skip
            done += count
        return flat.reshape(start.shape)

    return run


PROGRAMS = {"ours": ours, "opentsne": opentsne, "scikit-learn": scikit_learn}


def memory_mib(key: str) -> float:
    """Return a value of /proc/self/status, 0 where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) / 1024 for s in lines if s.startswith(key))
    except (OSError, StopIteration):
        return 0.0


def forget_peak() -> None:
    """Let the peak memory count from here on (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    p = read_affinities(Path(job["folder"]))
    start = np.load(job["start"])
    began = time.perf_counter()
    run = PROGRAMS[job["program"]](p, start, job)
    prepared = time.perf_counter() - began
    forget_peak()
    before = memory_mib("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    positions = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = memory_mib("VmHWM")
    np.save(job["positions"], np.asarray(positions, np.float32))
    measured = {
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "prepared_s": round(prepared, 2),
        "peak_mib": round(peak),
        "added_mib": round(peak - before),
    }
    Path(job["measured"]).write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
