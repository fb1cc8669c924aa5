"""The t-SNE of a process that cannot run it: ``python -m napari_embed.tsne.child``.

The folder named on the command line holds ``job.json`` and ``arrays.npz``. Messages
are JSON lines on what was stdout; after each report one word comes back on stdin: go,
stop or snapshot. When stdin ends, the parent is gone and so is the work.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Affinities
from napari_embed.errors import EmbedError, JobCancelled
from napari_embed.params import ProjectionParams

__all__ = ["main"]

_STATE = "state_"


def main(folder: Path) -> None:
    """Run the job in ``folder`` and leave its result there."""
    # Libraries write to stdout; messages get a pipe of their own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    params = ProjectionParams.from_dict(job["params"])
    work = {"optimize": _optimize, "place": _place}[job["job"]]
    try:
        done = work(folder, job, arrays, params, out)
    except EmbedError as error:
        _tell(out, event="error", kind=type(error).__name__, message=str(error))
    else:
        _tell(out, event="done", **done)


def _optimize(
    folder: Path,
    job: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    params: ProjectionParams,
    out: TextIO,
) -> dict[str, Any]:
    from napari_embed.tsne.optimizer import IterationReport, OptimizerState, optimize

    def ask(report: IterationReport) -> bool:
        if report.positions is not None and job["follow"]:
            np.save(folder / "live.npy", report.positions)
        sent = {
            f.name: getattr(report, f.name)
            for f in dataclasses.fields(report)
            if f.name not in ("positions", "snapshot")
        }
        live = report.positions is not None
        _tell(out, event="report", live=live, **sent)
        for line in sys.stdin:
            word = line.strip()
            if word != "snapshot":
                return word == "stop"
            np.savez(folder / "state.npz", **_plain(report.snapshot().to_arrays()))
            _tell(out, event="snapshot")
        raise JobCancelled

    state = {
        name.removeprefix(_STATE): values
        for name, values in arrays.items()
        if name.startswith(_STATE)
    }
    result = optimize(
        Affinities(arrays["indptr"], arrays["indices"], arrays["values"]),
        arrays["init"], params, device=params.device, callback=ask,
        checkpoint=OptimizerState.from_arrays(state) if state else None,
        pinned=arrays.get("pinned"),
    )  # fmt: skip
    np.save(folder / "positions.npy", result.positions)
    return {
        "kl_divergence": result.kl_divergence,
        "n_iter": result.n_iter,
        "info": result.info,
    }


def _place(
    folder: Path,
    job: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    params: ProjectionParams,
    out: TextIO,
) -> dict[str, Any]:
    from napari_embed.tsne.placement import place

    found = place(
        arrays["positions"], arrays["anchors"], arrays["weights"], arrays["start"],
        params,
    )  # fmt: skip
    np.save(folder / "positions.npy", found)
    return {}


def _plain(arrays: dict[str, NDArray[np.generic]]) -> dict[str, Any]:
    return {name: np.asarray(values) for name, values in arrays.items()}


def _tell(out: TextIO, **message: Any) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
