"""Writes a small project chunk by chunk; started by tests that kill it.

``python store_writer.py PROJECT`` resumes until everything is sealed. The content
depends on the item ids alone, so every run must end in the same bytes.
"""

from __future__ import annotations

import sys

import numpy as np

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.project import Project

DIM = 24


def thumbnails_of(ids: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return deterministic images that compress a little."""
    size = int(np.prod(shape))
    values = (ids[:, None] * 7 + np.arange(size) // 5) % 251
    return values.astype(np.uint8).reshape(-1, *shape)


def vectors_of(ids: np.ndarray) -> np.ndarray:
    """Return deterministic vectors."""
    values = np.sin(ids[:, None] * 1.37 + np.arange(DIM)).astype(np.float32)
    values[ids % 50 == 3] = np.nan
    return values


def run(path: str) -> int:
    """Write what is pending; return how many chunks were written."""
    written = 0
    with Project.open(path, mode="a") as project:
        shape = project.thumbnail_shape
        thumbs = project.begin_stage(
            "thumbnails", fingerprint="t1", shape_tail=shape, dtype="uint8"
        )
        stage = project.begin_stage(
            "embeddings/own", fingerprint="e1", shape_tail=(DIM,), dtype="float32"
        )
        for chunk in sorted({*thumbs.pending(), *stage.pending()}):
            rows = stage.rows(chunk)
            ids = np.arange(rows.start, rows.stop)
            bad = {int(i): "broken" for i in ids[ids % 50 == 3]}
            if chunk in thumbs.pending():
                thumbs.write(chunk, thumbnails_of(ids, shape), errors={})
            if chunk in stage.pending():
                stage.write(chunk, vectors_of(ids), errors=bad)
            written += 1
            print(chunk, flush=True)
        for unfinished in (thumbs, stage):
            if not unfinished.sealed:
                unfinished.seal()
        n = project.n_items
        indices = (np.arange(n)[:, None] + np.arange(1, 6)) % n
        graph = NeighborGraph(
            indices.astype(np.int32), np.ones((n, 5), np.float32), "cosine", 1.0
        )
        positions = vectors_of(np.arange(n))[:, :3].copy()
        print("sealed", flush=True)
        for _ in range(20):  # replaced again and again, to be killed in the swap
            project.write_neighbors(
                "own", graph, fingerprint="n1", upstream="embeddings/own"
            )
            project.write_projection(
                "map", Projection(positions), fingerprint="p1", upstream="neighbors/own"
            )
    return written


if __name__ == "__main__":
    run(sys.argv[1])
