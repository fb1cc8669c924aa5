"""How fast the encoders are and how good their neighbors.

Usage::

    python benchmarks/bench_encoders.py [--data FOLDER] [--encoder NAME ...]

Images per second on one core, from pictures in memory, by CPU time (so that other
programs on the machine matter little), and the share of right majority votes of the
10 nearest neighbors by cosine: 5,000 reference pictures, 1,000 queries, drawn with
seed 0. Fashion-MNIST and CIFAR-10 are read from the folder of real data sets where it
is present; without it the bundled sample (4,000 pictures of Fashion-MNIST) is used.
"""

from __future__ import annotations

import argparse
import os
import tarfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from _record import record
from napari_embed.encoders import load_encoder
from napari_embed.encoders.devices import cpu_has_bfloat16

QUERIES = 1000
NEIGHBORS = 10
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared/data"


def fashion(folder: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Fashion-MNIST: 10,000 pictures, or the 4,000 of the bundled sample."""
    path: Any = folder / "fashion10k_test.npz"
    if not path.is_file():
        path = resources.files("napari_embed.data") / "fashion_sample.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        return f"Fashion-MNIST ({path.name})", data["images"], data["labels"]


def cifar(folder: Path) -> tuple[str, np.ndarray, np.ndarray] | None:
    """CIFAR-10's 50,000 training pictures, decoded from JPEG."""
    path = folder / "cifar10_jpeg.tar.xz"
    if not path.is_file():
        return None
    images, names = [], []
    with tarfile.open(path, "r|xz") as stream:
        for member in stream:
            parts = member.name.split("/")
            if member.isfile() and parts[1] == "train":
                picture = Image.open(stream.extractfile(member)).convert("RGB")
                images.append(np.asarray(picture))
                names.append(parts[2])
    labels = np.unique(names, return_inverse=True)[1]
    return "CIFAR-10 (training set, JPEG)", np.stack(images), labels


def accuracy(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Share of queries whose nearest references vote for the right label."""
    reference, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    nearest = np.argpartition(-(queries @ reference.T), NEIGHBORS, axis=1)
    votes = labels[:-QUERIES][nearest[:, :NEIGHBORS]]
    winners = np.array([np.bincount(row).argmax() for row in votes])
    return float((winners == labels[-QUERIES:]).mean())


def measure(name: str, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Fit, encode and compare."""
    encoder = load_encoder(name, device="cpu")
    started = time.process_time()
    encoder.fit(images[:-QUERIES])
    fit_s = time.process_time() - started
    encoder.encode(images[:64])
    started = time.process_time()
    vectors = encoder.encode(images)
    encode_s = time.process_time() - started
    return {
        "images_per_core_second": round(len(images) / encode_s, 1),
        "fit_core_seconds": round(fit_s, 2),
        "fit_images": len(images) - QUERIES,
        "knn_accuracy": round(accuracy(vectors, labels), 4),
        "dim": encoder.dim,
    }


def runs(
    names: list[str], sets: list[tuple[str, np.ndarray, np.ndarray]]
) -> Iterator[dict[str, Any]]:
    """Measure every encoder on every set."""
    for title, images, labels in sets:
        rows = np.random.default_rng(0).permutation(len(images))[: 5000 + QUERIES]
        for name in names:
            result = {"data": title, "pictures": len(rows), "encoder": name}
            result |= measure(name, images[rows], labels[rows].astype(np.int64))
            print(result, flush=True)
            yield result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("NAPARI_EMBED_SHARED_DATA", DEFAULT_DATA))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--encoder", nargs="+", default=["descriptor", "lite0"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = [s for s in (fashion(options.data), cifar(options.data)) if s is not None]
    record(
        "encoders",
        list(runs(options.encoder, sets)),
        settings={
            "threads": 1,
            "bfloat16": cpu_has_bfloat16(),
            "neighbors": NEIGHBORS,
            "queries": QUERIES,
            "split_seed": 0,
        },
    )


if __name__ == "__main__":
    main()
