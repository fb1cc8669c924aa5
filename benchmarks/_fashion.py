"""Fashion-MNIST as the benchmarks of the paper's evaluation use it, and whole runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from _tsne_data import fashion_mnist
from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.kernels import runtime
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.optimizer import IterationReport, optimize
from napari_embed.tsne.reference import exact_kl

if TYPE_CHECKING:
    from napari_embed.kernels.repulsion import Accuracy

PERPLEXITY = 30.0
NEIGHBORS = 90
STAGES = (50, 250, 750)
# As in the paper for sets of this size, and as shipped.
ITERATIONS = {"paper": 1000}
SHIPPED_ITERATIONS = 750


@dataclass(frozen=True)
class Problem:
    """Images as vectors, their true neighbors, and P."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.uint8]
    graph: NeighborGraph
    joint: Affinities

    @property
    def n(self) -> int:
        return len(self.vectors)


def problem(
    items: int | None, *, perplexity: float = PERPLEXITY, neighbors: int = NEIGHBORS
) -> Problem:
    """Return ``items`` images (all by default), PCA to 50, exact neighbors."""
    from sklearn.decomposition import PCA

    pixels, labels = fashion_mnist(items)
    vectors = PCA(50, random_state=0).fit_transform(pixels.astype(np.float32) / 255)
    vectors = vectors.astype(np.float32)
    graph = neighbor_graph(vectors, n_neighbors=neighbors, method="exact")
    return Problem(vectors, labels, graph, affinities(graph, perplexity=perplexity))


def about(given: Problem, **more: Any) -> dict[str, Any]:
    """Return the settings to save with a result."""
    return {
        "items": given.n, "data": "Fashion-MNIST, PCA to 50",
        "perplexity": PERPLEXITY, "neighbors": NEIGHBORS,
    } | more  # fmt: skip


def settings(dim: int, preset: str = "default", **more: Any) -> ProjectionParams:
    """Return a preset's settings with its usual number of iterations."""
    more.setdefault("max_iter", ITERATIONS.get(preset, SHIPPED_ITERATIONS))
    return ProjectionParams(
        n_components=dim, preset=preset, early_stop=False, device="cpu", **more
    )


def start(given: Problem, params: ProjectionParams) -> NDArray[np.float32]:
    """Return the preset's start."""
    from napari_embed.tsne.presets import start_of

    return initial_positions(
        given.vectors,
        given.n,
        n_components=params.n_components,
        random_state=params.random_state,
        **start_of(params),
    )


def compiled(given: Problem, params: ProjectionParams) -> None:
    """Run a few iterations, so that all kernels are compiled before a clock runs."""
    y = start(given, params)
    for target in ("cells",) if params.preset == "paper" else ("cells", "points"):
        brief = replace(params, max_iter=3, target=target)
        optimize(given.joint, y, brief, device="cpu")


def whole_run(
    given: Problem, params: ProjectionParams
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return what a run cost and led to, and its map. Seconds are CPU seconds."""
    compiled(given, params)
    y = start(given, params)
    began = time.process_time()
    result = optimize(given.joint, y, params, device="cpu")
    seconds = time.process_time() - began
    row = {
        "items": given.n,
        "dim": params.n_components,
        "preset": params.preset,
        "iterations": result.n_iter,
        "cpu_seconds": seconds,
        "exact_kl": exact_kl(given.joint, result.positions),
        "reported_kl": result.kl_divergence,
        "extent": np.ptp(result.positions, axis=0).tolist(),
        "kl_trace": result.info["kl_trace"],
    }
    return row, result.positions


def maps(given: Problem, dim: int) -> dict[int, NDArray[np.float32]]:
    """Return the positions at each stage of one run of "default"."""
    found: dict[int, NDArray[np.float32]] = {}

    def keep(report: IterationReport) -> None:
        if report.iteration in STAGES:
            found[report.iteration] = report.snapshot().arrays["positions"]

    params = settings(dim, max_iter=STAGES[-1])
    optimize(
        given.joint, start(given, params), params, device="cpu", callback=keep,
        callback_every=50,
    )  # fmt: skip
    return found


def evaluate(
    y: NDArray[np.float32], params: ProjectionParams | Accuracy, *, early: bool
) -> tuple[NDArray[np.float64], float, dict[str, Any]]:
    """Return force and Z at ``y``, and what they cost."""
    device = runtime.start("cpu")
    from _interactions import by_kind
    from napari_embed.kernels.layout import CHUNKS, COUNT
    from napari_embed.kernels.repulsion import Repulsion
    from napari_embed.tsne.presets import accuracy_of

    positions = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    positions.from_numpy(np.ascontiguousarray(y))
    if isinstance(params, ProjectionParams):
        params = accuracy_of(params)
    repulsion = Repulsion(len(y), y.shape[1], device, params)
    repulsion.set_stage(early=early)
    repulsion.rebuild(positions)
    repulsion.consider_cells(positions)
    seconds = []
    for _ in range(1 if params.theta == 0 else 5):
        began = time.process_time()
        repulsion.evaluate(positions)
        seconds.append(time.process_time() - began)
    z = float(repulsion.z[CHUNKS])
    cost = {
        "theta": repulsion.theta,
        "target": "cells" if repulsion.cells_on else "points",
        "targets": int(repulsion.meta[COUNT]),
        "interactions": by_kind(repulsion),
        "cpu_seconds": min(seconds),
    }
    return repulsion.result.to_numpy()[:, 1:].astype(np.float64) / z, z, cost


class Yardstick:
    """The exact sum over all pairs at one map, to measure others against."""

    def __init__(self, y: NDArray[np.float32]) -> None:
        self.y = y
        exact = ProjectionParams(n_components=y.shape[1], theta=0.0)
        self.force, self.z, _ = evaluate(y, exact, early=False)
        self.scale = np.sqrt((self.force**2).sum(1).mean())

    def measure(
        self, params: ProjectionParams | Accuracy, *, early: bool
    ) -> dict[str, Any]:
        """Return the errors of one setting and what it cost.

        Errors are shares of the rms force: rms, and 99th percentile over points.
        """
        found, found_z, cost = evaluate(self.y, params, early=early)
        off = np.linalg.norm(found - self.force, axis=1)
        return {
            "rms_error": float(np.sqrt((off**2).mean()) / self.scale),
            "p99_error": float(np.quantile(off, 0.99) / self.scale),
            "z_error": found_z / self.z - 1,
            **cost,
        }
