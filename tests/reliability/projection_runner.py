"""Lays a project out and keeps the map every few iterations; tests kill it.

``python projection_runner.py PROJECT NAME MAX_ITER`` prints the iterations that are on
the disk.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from napari_embed.engine import checkpoint, pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.params import ProjectionParams
from napari_embed.project import Project


def run(path: str, name: str, max_iter: int) -> None:
    """Lay out in 2D; go on from what is kept."""
    checkpoint.EVERY_S = 0.02
    write = Project.write_checkpoint

    def told(self: Project, name: str, arrays: Any, **facts: Any) -> None:
        write(self, name, arrays, **facts)
        print("kept", facts["info"]["iteration"], flush=True)

    Project.write_checkpoint = told  # type: ignore[method-assign]
    control = JobControl(
        lambda progress: time.sleep(0.1),  # so few points are done too soon to kill
        on_log=lambda text: print(text, flush=True),
        interval_s=0,
    )
    params = ProjectionParams(n_components=2, max_iter=max_iter, early_stop=False)
    with Project.open(path, mode="a") as project:
        pipeline.run_projection(project, params, control, name=name)
    print("finished", flush=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
