"""Accuracy of the repulsion: force error and interactions by theta, preset and stage.

    python benchmarks/bench_tsne_accuracy.py                # all 70,000 images
    python benchmarks/bench_tsne_accuracy.py --items 10000

A t-SNE of Fashion-MNIST runs to 750 iterations in 2D and in 3D. At iterations 50, 250
and 750 the repulsive force of every point is computed with each setting and compared
with the exact sum over all pairs. Errors are shares of the rms force (rms, and 99th
percentile over points) and of Z; "interactions" are evaluations of the kernel; seconds
are CPU seconds of one evaluation on refitted hierarchies. Writes
``results/tsne_accuracy*.json``.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from _record import record
from _tsne_data import fashion_mnist
from napari_embed.kernels import runtime
from napari_embed.kernels.layout import CHUNKS, COUNT
from napari_embed.params import PRESETS, ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.optimizer import IterationReport, optimize

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy

STAGES = (50, 250, 750)
THETAS = (0.2, 0.3, 0.45, 0.6, 0.75, 0.9)
PERPLEXITY = 30.0


def maps(vectors: NDArray[np.float32], dim: int) -> dict[int, NDArray[np.float32]]:
    """Return the positions at each stage of one run."""
    joint = affinities(neighbor_graph(vectors, n_neighbors=90), perplexity=PERPLEXITY)
    start = initial_positions(vectors, len(vectors), n_components=dim)
    found: dict[int, NDArray[np.float32]] = {}

    def keep(report: IterationReport) -> None:
        if report.iteration in STAGES:
            found[report.iteration] = report.snapshot().arrays["positions"]

    params = ProjectionParams(n_components=dim, max_iter=STAGES[-1], early_stop=False)
    optimize(joint, start, params, device="cpu", callback=keep, callback_every=50)
    return found


def evaluate(
    y: NDArray[np.float32], params: ProjectionParams | Accuracy, *, early: bool
) -> tuple[NDArray[np.float64], float, dict[str, Any]]:
    """Return force and Z, and what they cost."""
    from napari_embed.kernels.repulsion import Repulsion
    from napari_embed.tsne.presets import accuracy_of

    device = runtime.start("cpu")
    positions = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    positions.from_numpy(y)
    if isinstance(params, ProjectionParams):
        params = accuracy_of(params)
    repulsion = Repulsion(len(y), y.shape[1], device, params)
    repulsion.set_stage(early=early)
    repulsion.rebuild(positions)
    repulsion.consider_cells(positions)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        repulsion.evaluate(positions)
        seconds.append(time.process_time() - began)
    z = float(repulsion.z[CHUNKS])
    cost = {
        "theta": repulsion.theta,
        "target": "cells" if repulsion.cells_on else "points",
        "targets": int(repulsion.meta[COUNT]),
        "interactions": repulsion.interactions(),
        "cpu_seconds": min(seconds),
    }
    return repulsion.result.to_numpy()[:, 1:].astype(np.float64) / z, z, cost


def compare(y: NDArray[np.float32], *, early: bool) -> list[dict[str, Any]]:
    """Return one row per setting."""
    dim = y.shape[1]
    exact = ProjectionParams(n_components=dim, theta=0.0)
    force, z, cost = evaluate(y, exact, early=early)
    rows = [{"setting": "exact", **cost}]
    scale = np.sqrt((force**2).sum(1).mean())
    settings: list[tuple[str, ProjectionParams]] = [
        (preset, ProjectionParams(n_components=dim, preset=preset))
        for preset in PRESETS
    ]
    settings += [
        (f"{target} {theta}", ProjectionParams(
            n_components=dim, theta=theta, target=target))
        for target in ("points", "cells")
        for theta in THETAS
    ]  # fmt: skip
    for name, params in settings:
        # The sweep compares theta itself, so only presets lower it early.
        found, found_z, cost = evaluate(y, params, early=early and name in PRESETS)
        off = np.linalg.norm(found - force, axis=1)
        rows.append(
            {
                "setting": name,
                "rms_error": float(np.sqrt((off**2).mean()) / scale),
                "p99_error": float(np.quantile(off, 0.99) / scale),
                "z_error": found_z / z - 1,
                **cost,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    parser.add_argument("--name", default="tsne_accuracy")
    given = parser.parse_args()
    from sklearn.decomposition import PCA

    pixels, _ = fashion_mnist(given.items)
    vectors = PCA(50, random_state=0).fit_transform(pixels.astype(np.float32) / 255)
    results = []
    for dim in (2, 3):
        for iteration, y in maps(vectors.astype(np.float32), dim).items():
            for row in compare(y, early=iteration <= 250):
                line = {"dim": dim, "iteration": iteration, **row}
                results.append(line)
                print(
                    f"{dim}D it {iteration:3d} {row['setting']:12s} {row['target']:6s} "
                    f"rms {row.get('rms_error', 0):.4f} p99 "
                    f"{row.get('p99_error', 0):.4f} Z {row.get('z_error', 0):+.1e} "
                    f"{row['interactions']} {row['cpu_seconds']:.4f} s",
                    flush=True,
                )
    settings = {"items": len(vectors), "data": "Fashion-MNIST, PCA to 50",
                "perplexity": PERPLEXITY, "neighbors": 90}  # fmt: skip
    print(record(given.name, results, settings=settings))


if __name__ == "__main__":
    main()
