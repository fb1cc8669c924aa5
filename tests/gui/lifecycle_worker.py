"""An engine that starts in an instant and moves points until it is stopped.

Run as a script in place of ``python -m napari_embed.engine.worker``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from napari_embed.engine.positions import PositionsBuffer
from napari_embed.engine.progress import JobControl
from napari_embed.engine.worker import Emit, serve


def project(
    arguments: dict[str, Any], control: JobControl, emit: Emit
) -> dict[str, Any]:
    """Publish random positions for a minute, or until told to stop."""
    rng = np.random.default_rng(0)
    with PositionsBuffer.attach(arguments["positions"]) as buffer:
        for i in range(6000):
            control.progress("projection", i, 6000)
            if control.stop_requested:
                break
            positions = rng.normal(size=buffer.shape).astype(np.float32)
            emit("positions", sequence=buffer.write(positions), iteration=i)
            time.sleep(0.01)
    return {}


if __name__ == "__main__":
    serve({"project": project})
