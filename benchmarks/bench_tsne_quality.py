"""Quality and CPU time of the maps: ours against openTSNE on the same P.

    python benchmarks/bench_tsne_quality.py    # all 70,000 images
    python benchmarks/bench_tsne_quality.py --items 10000

Both programs get the same affinities, start, exaggeration, momentum, learning rate and
number of iterations. For each map: exact KL (all pairs, float64), neighborhood
preservation, agreement of the 10 nearest neighbors on the label, CPU and wall seconds
of the minimisation alone. A 3D map is compared with exact gradients on a subset, as
openTSNE has no fast 3D. Images: Fashion-MNIST from Debian's dataset-fashion-mnist, or
an .npz file with ``images`` and ``labels``. Results: ``results/tsne_quality*.json``.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Idle threads that spin would be counted as work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from _record import record
from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement, neighborhood_preservation
from napari_embed.tsne.reference import exact_kl, exact_optimize

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHARED = Path(__file__).resolve().parents[2] / "shared/data/fashion10k_test.npz"
PERPLEXITY = 30
EXAGGERATION, EARLY, ITERATIONS = 12.0, 250, 750
PRESERVED = (1, 10, 30, 90)
EXACT_ITEMS = 1000


def fashion_mnist(items: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (n, 784) pixels and labels: all 70,000, or what there is."""
    if DEBIAN.is_dir():
        images = np.concatenate(
            [_idx(f"{s}-images-idx3", 16) for s in ("train", "t10k")]
        )
        labels = np.concatenate(
            [_idx(f"{s}-labels-idx1", 8) for s in ("train", "t10k")]
        )
    else:
        path = Path(os.environ.get("FASHION_NPZ", SHARED))
        with np.load(path, allow_pickle=False) as data:
            images, labels = data["images"], data["labels"]
    images = images.reshape(len(labels), -1)
    if items is not None and items < len(labels):
        some = np.sort(np.random.default_rng(0).permutation(len(labels))[:items])
        images, labels = images[some], labels[some]
    return images, labels


def _idx(name: str, offset: int) -> NDArray[np.uint8]:
    with gzip.open(DEBIAN / f"{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "cpu_s": round(time.process_time() - cpu, 2),
        "wall_s": round(time.perf_counter() - wall, 2),
    }


def settings(n_components: int, preset: str, **more: Any) -> ProjectionParams:
    return ProjectionParams(
        n_components=n_components,
        preset=preset,
        max_iter=ITERATIONS,
        early_exaggeration=EXAGGERATION,
        early_exaggeration_iter=EARLY,
        early_stop=False,
        device="cpu",
        **more,
    )


def ours(p: Affinities, start: NDArray[np.float32], preset: str) -> NDArray[np.float32]:
    from napari_embed.tsne.optimizer import optimize

    params = settings(start.shape[1], preset)
    return optimize(p, start, params, device="cpu").positions


def opentsne(
    p: Affinities, start: NDArray[np.float32], *, fine: bool, jobs: int
) -> NDArray[np.float32]:
    """Run openTSNE's FFT with our schedule; ``fine`` halves its grid spacing."""
    import openTSNE
    from openTSNE.affinity import PrecomputedAffinities
    from scipy import sparse

    matrix = sparse.csr_matrix(
        (p.values.astype(np.float64), p.indices, p.indptr), shape=(p.n, p.n)
    )
    embedding = openTSNE.TSNEEmbedding(
        start.astype(np.float64),
        PrecomputedAffinities(matrix, normalize=False),
        negative_gradient_method="fft",
        ints_in_interval=0.5 if fine else 1,
        n_jobs=jobs,
    )
    for iterations, factor, momentum in (
        (EARLY, EXAGGERATION, 0.5),
        (ITERATIONS - EARLY, 1.0, 0.8),
    ):
        embedding = embedding.optimize(
            iterations,
            exaggeration=factor,
            momentum=momentum,
            learning_rate=max(200.0, p.n / factor),
            max_step_norm=5,
        )
    return np.asarray(embedding, np.float32)


def quality(
    p: Affinities,
    graph: NeighborGraph,
    labels: NDArray[np.uint8],
    positions: NDArray[np.float32],
) -> dict[str, float]:
    precision, recall = neighborhood_preservation(graph, positions, n_sample=10_000)
    found = {
        "exact_kl": round(exact_kl(p, positions), 5),
        "label_agreement_10": round(knn_label_agreement(positions, labels, k=10), 4),
        "recall_at_90": round(float(recall[-1]), 4),
    }
    for k in PRESERVED:
        found[f"precision_at_{k}"] = round(float(precision[k - 1]), 4)
    return found


def compare(
    graph: NeighborGraph,
    labels: NDArray[np.uint8],
    vectors: NDArray[np.uint8],
    *,
    presets: list[str],
    dimensions: list[int],
    jobs: int,
    seed: int,
) -> dict[str, Any]:
    p, spent = timed(lambda: affinities(graph, perplexity=PERPLEXITY))
    results: dict[str, Any] = {"affinities": spent}
    for d in dimensions:
        start = initial_positions(vectors, p.n, n_components=d, random_state=seed)
        runs = {f"ours {preset}": _ours_run(p, start, preset) for preset in presets}
        if d == 2:
            for fine in (True, False):
                name = f"openTSNE {'fine' if fine else 'default'} grid"
                runs[name] = lambda s=start, f=fine: opentsne(p, s, fine=f, jobs=jobs)
        for name, run in runs.items():
            positions, spent = timed(run)
            key = f"{name} {d}D"
            results[key] = spent | quality(p, graph, labels, positions)
            print(key, results[key], flush=True)
    return results


def _ours_run(
    p: Affinities, start: NDArray[np.float32], preset: str
) -> Callable[[], NDArray[np.float32]]:
    # Compiles the kernels, which is no part of the time of a minimisation.
    from napari_embed.tsne.optimizer import optimize

    brief = ProjectionParams(
        n_components=start.shape[1], preset=preset, max_iter=2, device="cpu"
    )
    optimize(p, start, brief, device="cpu")
    return lambda: ours(p, start, preset)


def against_exact(vectors: NDArray[np.uint8], seed: int) -> dict[str, float]:
    """3D on a subset: final KL of ours and of exact gradients, same everything."""
    from napari_embed.tsne.optimizer import optimize

    x = vectors[:EXACT_ITEMS]
    p = affinities(neighbor_graph(x, n_neighbors=90), perplexity=PERPLEXITY)
    start = initial_positions(x, p.n, n_components=3, random_state=seed)
    params = settings(3, "default")
    found = {
        "items": float(p.n),
        "ours_3d_exact_kl": exact_kl(
            p, optimize(p, start, params, device="cpu").positions
        ),
        "exact_gradients_3d_exact_kl": exact_optimize(p, start, params).kl_divergence,
    }
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, help="how many images (all)")
    parser.add_argument("--presets", nargs="+", default=["default"])
    parser.add_argument("--dimensions", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--exact", action="store_true", help="3D against exact too")
    parser.add_argument("--name", default="tsne_quality", help="of the JSON file")
    given = parser.parse_args()
    vectors, labels = fashion_mnist(given.items)
    graph, spent = timed(lambda: neighbor_graph(vectors, method="exact"))
    results: dict[str, Any] = {"exact neighbors": spent}
    print(results, flush=True)
    results |= compare(
        graph,
        labels,
        vectors,
        presets=given.presets,
        dimensions=given.dimensions,
        jobs=given.jobs,
        seed=given.seed,
    )
    if given.exact:
        results["3D against exact gradients"] = against_exact(vectors, given.seed)
    record(
        given.name,
        results,
        settings={
            "data": "Fashion-MNIST, raw pixels", "items": len(labels),
            "perplexity": PERPLEXITY, "iterations": ITERATIONS,
            "early_exaggeration": EXAGGERATION, "early_iterations": EARLY,
            "learning_rate": "max(200, n / exaggeration)", "seed": given.seed,
            "jobs": given.jobs,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
