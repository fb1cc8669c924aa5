"""Planted duplicates and wrong labels: how many are found, and how many are right.

    python benchmarks/bench_problems.py [--data FOLDER] [--encoders descriptor lite0]
        [--record NAME]

Fashion-MNIST's 10,000 test images and 10,000 test images of CIFAR-10, each with 5 % of
the labels exchanged for another one, 2 % exact copies added, and 2 % near copies (moved
by one pixel, brighter, with noise). ``FOLDER`` holds ``fashion10k_test.npz`` and
``cifar10_jpeg.tar.xz``. Writes ``results/NAME.json`` (problems).
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from _record import moment, record
from napari_embed.curation.problems.duplicates import duplicate_pairs, exact_duplicates
from napari_embed.curation.problems.mislabels import mislabels
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.pipeline import run_embed, run_neighbors
from napari_embed.engine.progress import JobControl
from napari_embed.params import EmbedParams, NeighborParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

FLIPPED, COPIES = 0.05, 0.02
SHARED = Path(__file__).resolve().parents[2] / "shared/data"


def fashion(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (10000, 28, 28) images and labels."""
    with np.load(data / "fashion10k_test.npz", allow_pickle=False) as file:
        return file["images"], file["labels"].astype(np.int64)


def cifar(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the (10000, 32, 32, 3) test images and labels."""
    images, names = [], []
    with tarfile.open(data / "cifar10_jpeg.tar.xz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.isfile() and "test" in parts:
                content = tar.extractfile(member)
                assert content is not None
                with Image.open(io.BytesIO(content.read())) as picture:
                    images.append(np.asarray(picture.convert("RGB")))
                names.append(parts[-2])
    _, labels = np.unique(names, return_inverse=True)
    return np.stack(images), labels


def near_copy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images moved by a pixel, a little brighter, with noise."""
    moved = np.roll(images.astype(np.float32), 1, axis=2) * 1.08
    noise = rng.normal(0, 4, images.shape)
    return np.clip(moved + noise, 0, 255).astype(np.uint8)


def plant(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return images and labels with faults, and where the faults are."""
    n = len(images)
    n_copies = int(COPIES * n)
    chosen = rng.permutation(n)[: 2 * n_copies]
    exact, near = chosen[:n_copies], chosen[n_copies:]
    all_images = np.concatenate([images, images[exact], near_copy(images[near], rng)])
    all_labels = np.concatenate([labels, labels[chosen]])
    flipped = rng.permutation(n)[: int(FLIPPED * n)]
    count = int(labels.max()) + 1
    all_labels[flipped] = (
        labels[flipped] + rng.integers(1, count, len(flipped))
    ) % count
    copies = np.arange(n, len(all_images))
    return all_images, all_labels, {
        "flipped": flipped,
        "exact": np.stack([exact, copies[:n_copies]], axis=1),
        "near": np.stack([near, copies[n_copies:]], axis=1),
    }  # fmt: skip


def rates(found: np.ndarray, planted: np.ndarray) -> dict[str, float]:
    """Return precision and recall of ids."""
    hits = len(np.intersect1d(found, planted))
    return {
        "found": len(found),
        "planted": len(planted),
        "precision": round(hits / max(len(found), 1), 4),
        "recall": round(hits / len(planted), 4),
    }


def together(finding: Any, pairs: np.ndarray, n: int) -> float:
    """Return the share of pairs that are in one group."""
    group = finding.codes(n)[pairs]
    return round(float(((group[:, 0] == group[:, 1]) & (group[:, 0] >= 0)).mean()), 4)


def measure(
    project: Project, faults: dict[str, np.ndarray], encoder: str
) -> dict[str, Any]:
    """Return what the searches find of the faults."""
    n = project.n_items
    started = time.perf_counter()
    suspects = mislabels(project)
    found: dict[str, Any] = {"mislabels": rates(suspects.ids, faults["flipped"])}
    found["mislabels"]["seconds"] = round(time.perf_counter() - started, 3)
    first = suspects.head(len(faults["flipped"])).ids
    found["mislabels, as many as planted"] = rates(first, faults["flipped"])
    started = time.perf_counter()
    pairs = duplicate_pairs(project)
    found["near-duplicates, seconds"] = round(time.perf_counter() - started, 3)
    by_vectors = duplicate_pairs(project, pictures=False)
    copies = np.concatenate([faults["exact"], faults["near"]])
    for name, those, threshold in (
        ("suggested difference", pairs, pairs.suggested),
        ("twice as much", pairs, 2 * pairs.suggested),
        ("vectors alone", by_vectors, by_vectors.suggested),
    ):
        groups = those.groups(threshold)
        found[f"near-duplicates, {name}"] = {
            "distance": round(float(threshold), 5),
            "items": len(groups.ids),
            # Copies among the originals are unknown, so this is a lower bound.
            **{k: v for k, v in rates(groups.ids, copies.ravel()).items()
               if k == "precision"},
            "exact pairs together": together(groups, faults["exact"], n),
            "near pairs together": together(groups, faults["near"], n),
        }  # fmt: skip
    known = project.read_neighbors(encoder, most=16)
    there = (np.array(known.indices)[faults["near"][:, 0]]
             == faults["near"][:, 1:]).any(axis=1)  # fmt: skip
    found["near copies among the 16 nearest"] = round(float(there.mean()), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--encoders", nargs="*", default=["descriptor", "lite0"])
    parser.add_argument("--record", default="problems", help="name of the result")
    wish = parser.parse_args()
    before, results, control = moment(), {}, JobControl()
    for title, read in (("Fashion-MNIST", fashion), ("CIFAR-10", cifar)):
        rng = np.random.default_rng(0)
        images, labels, faults = plant(*read(wish.data), rng)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "planted.npz"
            np.savez(source, images=images, labels=labels)
            path = Path(folder) / "planted.embed"
            with Project.create(path, detect_source(str(source))) as project:
                run_inspect(project, control)
                same = exact_duplicates(project)
                results[title] = {
                    "exact duplicates": {
                        "items": len(same.ids),
                        "pairs together": together(
                            same, faults["exact"], project.n_items
                        ),
                    }
                }
                for encoder in wish.encoders:
                    run_embed(project, EmbedParams(encoder=encoder), control)
                    run_neighbors(
                        project, NeighborParams(), control, embeddings=encoder,
                        at_least=90,
                    )  # fmt: skip
                    results[title][encoder] = measure(project, faults, encoder)
                    print(title, encoder, results[title][encoder], flush=True)
    record(
        wish.record,
        results,
        settings={
            "flipped": FLIPPED,
            "copies of each kind": COPIES,
            "items": 10_000,
            "began": before,
        },
    )


if __name__ == "__main__":
    main()
