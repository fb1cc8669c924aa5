"""Makes the golden project of the present format, once per format version.

    python tests/golden/make.py

Writes ``format-N`` beside this file, with ``expected.json``: what a reader must find in
it. It is committed and never made again, so that every later version is tried on it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.curation.decisions import Decisions
from napari_embed.project import Project
from napari_embed.project.manifest import FORMAT_VERSION
from napari_embed.sources import SourceSpec, detect_source

N, ROWS, DIM, K = 40, 16, 5, 3
HERE = Path(__file__).resolve().parent


def fill(path: Path, images: Path) -> None:
    """Make a project with everything in it that a project can hold."""
    random = np.random.default_rng(0)
    for i in range(N):
        folder = images / ("cat" if i % 3 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    vectors = random.normal(size=(N, DIM)).astype(np.float32)
    vectors[7] = np.nan
    stages = {
        "thumbnails": random.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8),
        "embeddings/own": vectors,
        "measures/content": random.integers(0, 256, (N, 16), dtype=np.uint8),
        "measures/quality": random.normal(size=(N, 9)).astype(np.float32),
    }
    with Project.create(
        path, detect_source(images), name="Golden", thumbnail_size=8, chunk_rows=ROWS
    ) as project:
        for key, values in stages.items():
            stage = project.begin_stage(
                key, fingerprint=f"{key}-1", shape_tail=values.shape[1:],
                dtype=values.dtype, params={"encoder": "own"}, info={"dim": DIM},
            )  # fmt: skip
            for chunk in stage.pending():
                bad = {7: "broken"} if key == "embeddings/own" and chunk == 0 else {}
                stage.write(chunk, values[stage.rows(chunk)], errors=bad)
            stage.seal({"dim": DIM, "metric": "euclidean", "n_failed": 1})
        project.write_encoder_state("own", {"mean": vectors[0]}, fingerprint="s")
        indices = random.integers(0, N, (N, K)).astype(np.int32)
        graph = NeighborGraph(indices, random.random((N, K)).astype(np.float32))
        project.write_neighbors(
            "own", graph, fingerprint="n", upstream="embeddings/own"
        )
        for d in (2, 3):
            positions = random.normal(size=(N, d)).astype(np.float32)
            project.write_projection(
                f"tsne-{d}d", Projection(positions, 1.5, 750), fingerprint=f"p{d}",
                params={"method": "tsne", "n_components": d},
                upstream="neighbors/own", info={"n_components": d},
            )  # fmt: skip
        project.write_checkpoint(
            "later", {"positions": np.ones((N, 2), np.float32)}, fingerprint="c"
        )
        with Decisions.open(project, mode="a", who="Ada") as decisions:
            decisions.add_tag("check", [1, 2, 3])
            decisions.set_label("wolf", [4])
            decisions.set_note("odd", [5])
            decisions.exclude([6, 7])
        project.set_source(SourceSpec("folder", "/data/golden"))


def main() -> None:
    """Make the project and write what is in it."""
    target = HERE / f"format-{FORMAT_VERSION}"
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "golden.embed"
        fill(path, Path(name) / "images")
        for left in ("writer.lock", "curation.lock", "state.sqlite-journal"):
            (path / left).unlink(missing_ok=True)
        shutil.copytree(path, target / "project")
    from facts import facts

    with Project.open(target / "project") as project:
        text = json.dumps(facts(project), indent=1)
    (target / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
