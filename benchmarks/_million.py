"""A project of a million items with pictures, vectors, columns, neighbors and maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench_store import pictures
from napari_embed.arrays import Projection
from napari_embed.engine.pipeline import run_neighbors
from napari_embed.engine.progress import JobControl
from napari_embed.params import NeighborParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

DIM, GROUPS, THUMBNAIL = 64, 200, 28
COPIES, FLIPPED, STRANGE = 0.01, 0.02, 0.001


def make_project(folder: Path, n: int) -> Path:
    """Make ``folder/million.embed`` of n rows, unless it is there, and return its path.

    The vectors lie in 200 groups, which are the labels. 1 % of the items are near
    copies of the item before them, 2 % have another group's label, 0.1 % lie far from
    all others. The pictures are those of the bundled sample, each in its own
    brightness; the 2D map shows the groups side by side, the 3D map likewise.
    """
    path = folder / "million.embed"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    group = rng.integers(0, GROUPS, n)
    _write_table(folder, group, rng)
    spec = SourceSpec("table", str(folder / "items.parquet"))
    images = pictures(THUMBNAIL)
    centres = rng.normal(size=(GROUPS, DIM)).astype(np.float32)
    with Project.create(path, spec, thumbnail_size=THUMBNAIL, chunk_rows=4096) as made:
        thumbs = made.begin_stage(
            "thumbnails", fingerprint="t", dtype="uint8",
            shape_tail=(THUMBNAIL, THUMBNAIL, 3),
        )  # fmt: skip
        stage = made.begin_stage(
            "embeddings/made", fingerprint="e", shape_tail=(DIM,), dtype="float32"
        )
        for chunk in stage.pending():
            rows = stage.rows(chunk)
            ids = np.arange(rows.start, rows.stop)
            paler = (ids // len(images) % 199).astype(np.uint8)
            thumbs.write(chunk, images[ids % len(images)] - paler.reshape(-1, 1, 1, 1))
            stage.write(chunk, _vectors(centres[group[rows]], rng))
        thumbs.seal()
        stage.seal({"metric": "euclidean", "dim": DIM})
        for dims in (3, 2):
            places = rng.uniform(-60, 60, (GROUPS, dims))
            points = places[group] + rng.normal(size=(n, dims)) * 2
            made.write_projection(
                f"groups-{dims}d", Projection(points.astype(np.float32)),
                fingerprint=f"p{dims}",
            )  # fmt: skip
        run_neighbors(made, NeighborParams(), JobControl(), at_least=30)
    return path


def _write_table(folder: Path, group: np.ndarray, rng: np.random.Generator) -> None:
    n = group.size
    wrong = rng.random(n) < FLIPPED
    label = np.where(wrong, rng.integers(0, GROUPS, n), group)
    columns = {
        "label": pa.array([f"class {i:03d}" for i in range(GROUPS)]).take(
            pa.array(label)
        ),
        "image_path": pa.array([f"folder {i % 97}/{i:08d}.jpg" for i in range(n)]),
        "width": rng.integers(10, 4000, n),
        "sharpness": rng.random(n),
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    for i in range(97):
        (folder / f"folder {i}").mkdir(exist_ok=True)
    (folder / "folder 0/00000000.jpg").touch()


def _vectors(middle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    vectors = middle + rng.standard_normal(middle.shape, np.float32)
    copies = np.flatnonzero(rng.random(len(vectors)) < COPIES)
    copies = copies[copies > 0]
    noise = rng.standard_normal((copies.size, DIM), np.float32)
    vectors[copies] = vectors[copies - 1] + np.float32(0.05) * noise
    far = rng.random(len(vectors)) < STRANGE
    vectors[far] += 6 * rng.standard_normal((int(far.sum()), DIM), np.float32)
    return vectors
