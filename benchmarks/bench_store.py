"""How fast the project on disk is: writing, opening, pages of thumbnails, resuming.

Usage::

    python benchmarks/bench_store.py [--items 200000] [--thumbnail 32] [--dim 128]
        [--images FOLDER]

Writes a project of generated vectors and of the bundled sample's pictures, each with
its own brightness, into a temporary folder; opens it anew in a second process, so that
nothing is warm in memory but the system's page cache, and measures reading there. With
``--images`` a folder of image files is also listed and decoded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from _record import record
from napari_embed.arrays import Projection
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, detect_source, open_source
from napari_embed.sources.images import letterbox

PAGES = (1, 12, 32, 100)
REPEATS = 30


class Clock:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, function: Any) -> Any:
        """Call a function and add its seconds under ``name``."""
        started = time.perf_counter()
        result = function()
        took = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        return result


def pictures(size: int) -> np.ndarray:
    """Return the sample's pictures as (m, size, size, 3)."""
    path = resources.files("napari_embed.data") / "fashion_sample.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        grey = data["images"]
    return np.stack([letterbox(np.repeat(g[..., None], 3, -1), size) for g in grey])


def write(folder: Path, n: int, size: int, dim: int) -> dict[str, Any]:
    """Write a project and return the seconds of each part."""
    rng, clock = np.random.default_rng(0), Clock()
    np.save(folder / "vectors.npy", np.zeros((n, 1), np.float32))
    spec = SourceSpec("vectors", str(folder / "vectors.npy"))
    images = pictures(size)
    with clock.time(
        "create", lambda: Project.create(folder / "p.embed", spec, thumbnail_size=size)
    ) as project:
        thumbs = project.begin_stage(
            "thumbnails", fingerprint="t", shape_tail=(size, size, 3), dtype="uint8"
        )
        stage = project.begin_stage(
            "embeddings/own", fingerprint="e", shape_tail=(dim,), dtype="float32"
        )
        for chunk in stage.pending():
            rows = stage.rows(chunk)
            ids = np.arange(rows.start, rows.stop)
            dimmed = images[ids % len(images)] - (ids // len(images) % 199).astype(
                np.uint8
            ).reshape(-1, 1, 1, 1)
            vectors = rng.normal(size=(ids.size, dim)).astype(np.float32)
            clock.time("thumbnails", lambda c=chunk, v=dimmed: thumbs.write(c, v))
            clock.time("embeddings", lambda c=chunk, v=vectors: stage.write(c, v))
        thumbs.seal()
        stage.seal()
        positions = rng.normal(size=(n, 3)).astype(np.float32)
        clock.time(
            "projection",
            lambda: project.write_projection(
                "map", Projection(positions), fingerprint="p"
            ),
        )
        size_mib = project.size_on_disk() / 2**20
    return {
        "create_s": clock.seconds["create"],
        "thumbnails_per_s": n / clock.seconds["thumbnails"],
        "embeddings_per_s": n / clock.seconds["embeddings"],
        "write_projection_s": clock.seconds["projection"],
        "size_mib": size_mib,
    }


def memory_mib() -> float:
    """Return the highest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(path: str, queue: Any) -> None:
    """Measure reading in a fresh process."""
    clock, rng, found = Clock(), np.random.default_rng(1), {}
    project = clock.time("open", lambda: Project.open(path))
    found["open_s"] = clock.seconds["open"]
    clock.time("map", lambda: project.read_projection("map"))
    found["read_projection_s"] = clock.seconds["map"]
    clock.time("labels", lambda: project.categories("label"))
    found["labels_s"] = clock.seconds["labels"]
    project.read_thumbnails([0])
    for page in PAGES:
        times = []
        for _ in range(REPEATS):
            ids = rng.integers(0, project.n_items, page)
            started = time.perf_counter()
            project.read_thumbnails(ids)
            times.append(1000 * (time.perf_counter() - started))
        found[f"page_{page}_random_ms"] = statistics.median(times)
        found[f"page_{page}_random_p90_ms"] = sorted(times)[int(0.9 * REPEATS)]
    found["memory_before_blocks_mib"] = memory_mib()
    vectors = project.embeddings("own")
    rows = clock.time("blocks", lambda: sum(len(b) for _, b in vectors.blocks()))
    found["blocks_rows_per_s"] = rows / clock.seconds["blocks"]
    found["memory_after_blocks_mib"] = memory_mib()
    problems = clock.time("verify", project.verify)
    found["verify_s"], found["problems"] = clock.seconds["verify"], len(problems)
    project.close()
    project = clock.time("writer", lambda: Project.open(path, mode="a"))
    clock.time(
        "resume",
        lambda: project.begin_stage(
            "embeddings/own", fingerprint="e", shape_tail=vectors.shape[1:], dtype="f4"
        ),
    )
    found["open_for_writing_s"] = clock.seconds["writer"]
    found["resume_stage_s"] = clock.seconds["resume"]
    project.close()
    queue.put(found)


def decode(folder: Path, limit: int = 20_000) -> dict[str, Any]:
    """List a folder of images and decode some of them."""
    clock = Clock()
    source = open_source(detect_source(folder))
    items = clock.time("list", source.list_items)
    some = items.slice(0, limit)
    cpu = time.process_time()
    good = clock.time(
        "decode", lambda: sum(d.image is not None for d in source.read(some))
    )
    return {
        "images": items.num_rows,
        "list_s": clock.seconds["list"],
        "decode_per_s": good / clock.seconds["decode"],
        "decode_per_core_s": good / (time.process_time() - cpu),
    }


def main() -> None:
    """Run everything and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--thumbnail", type=int, default=32)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--images", type=Path)
    settings = vars(parser.parse_args())
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["write"] = write(
            folder, settings["items"], settings["thumbnail"], settings["dim"]
        )
        context = multiprocessing.get_context("spawn")
        queue: Any = context.SimpleQueue()
        child = context.Process(target=read, args=(str(folder / "p.embed"), queue))
        child.start()
        results["read"] = queue.get()
        child.join()
    if settings["images"]:
        results["images"] = decode(settings["images"])
        settings["images"] = settings["images"].name
    print(json.dumps(results, indent=2))
    record("store", results, settings=settings)


if __name__ == "__main__":
    main()
