"""Run the compute engine in a child process where it cannot run in this one.

Taichi keeps one program per process, and starting ours would destroy another library's.
Arrays travel as files in a temporary folder, never pickled.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed import errors
from napari_embed.arrays import Affinities, Projection
from napari_embed.errors import DeviceLostError, EmbedError
from napari_embed.params import ProjectionParams
from napari_embed.tsne.optimizer import IterationReport, OptimizerState

__all__ = ["needed", "optimize_apart", "place_apart"]

_log = logging.getLogger(__name__)

_LAST_WORDS = 2000


def needed() -> bool:
    """Return whether another library's Taichi program is live in this process."""
    if not any(name.split(".")[0] == "taichi" for name in tuple(sys.modules)):
        return False
    from napari_embed.kernels import runtime

    return bool(runtime.occupied())


def optimize_apart(
    affinities: Affinities,
    init: NDArray[np.float32],
    params: ProjectionParams,
    *,
    callback: Callable[[IterationReport], bool | None] | None = None,
    checkpoint: OptimizerState | None = None,
    pinned: NDArray[np.bool_] | None = None,
) -> Projection:
    """Do what :func:`~napari_embed.tsne.optimizer.optimize` does, in a child process.

    Parameters
    ----------
    affinities, init, params, callback, checkpoint, pinned
        As there. The callback runs here; the child waits for its answer.

    Raises
    ------
    DeviceLostError
        If the child dies.
    EmbedError
        Whatever the child raises.
    """
    arrays: dict[str, Any] = {
        "indptr": affinities.indptr,
        "indices": affinities.indices,
        "values": affinities.values,
        "init": init,
    }
    if pinned is not None:
        arrays["pinned"] = pinned
    if checkpoint is not None:
        state = checkpoint.to_arrays()
        arrays |= {f"state_{name}": values for name, values in state.items()}
    follow = callback is not None
    with _child("optimize", arrays, params, follow=follow) as child:
        message = child.listen()
        while message["event"] == "report":
            stop = callback is not None and callback(child.report(message))
            child.say("stop" if stop else "go")
            message = child.listen()
        return Projection(
            child.array("positions.npy"),
            kl_divergence=float(message["kl_divergence"]),
            n_iter=int(message["n_iter"]),
            info=message["info"],
        )


def place_apart(
    positions: NDArray[np.float32],
    anchors: NDArray[np.float32],
    weights: NDArray[np.float32],
    start: NDArray[np.float32],
    params: ProjectionParams,
) -> NDArray[np.float32]:
    """Do what :func:`~napari_embed.tsne.placement.place` does, in a child process.

    Parameters
    ----------
    positions, anchors, weights, start, params
        As there.

    Raises
    ------
    DeviceLostError
        If the child dies.
    EmbedError
        Whatever the child raises.
    """
    arrays = {
        "positions": positions,
        "anchors": anchors,
        "weights": weights,
        "start": start,
    }
    with _child("place", arrays, params, follow=False) as child:
        child.listen()
        return child.array("positions.npy")


class _Child:
    """The process, its folder, and what is said."""

    def __init__(self, popen: subprocess.Popen[str], folder: Path) -> None:
        self.popen = popen
        self.folder = folder

    def listen(self) -> dict[str, Any]:
        """Return the next message; raise what the child raised."""
        line = "" if self.popen.stdout is None else self.popen.stdout.readline()
        if not line:
            code = self.popen.wait()
            words = (self.folder / "log").read_text("utf-8", "replace").strip()
            raise DeviceLostError(
                f"The process that computes the map ended with code {code}. Its last "
                f"words: {words[-_LAST_WORDS:] or 'none'}"
            )
        message: dict[str, Any] = json.loads(line)
        if message["event"] == "error":
            kind = getattr(errors, str(message["kind"]), EmbedError)
            raise kind(message["message"])
        return message

    def say(self, word: str) -> None:
        """Send one word; a child that is gone is noticed by `listen`."""
        if self.popen.stdin is not None:
            try:
                self.popen.stdin.write(word + "\n")
                self.popen.stdin.flush()
            except OSError:
                _log.debug("The child is gone.")

    def array(self, name: str) -> NDArray[np.float32]:
        """Return an array that the child left."""
        found: NDArray[np.float32] = np.load(self.folder / name, allow_pickle=False)
        return found

    def report(self, message: dict[str, Any]) -> IterationReport:
        """Return what the child's callback got."""
        live = message.pop("live")
        message.pop("event")
        return IterationReport(
            **message,
            positions=self.array("live.npy") if live else None,
            snapshot=self._snapshot,
        )

    def _snapshot(self) -> OptimizerState:
        self.say("snapshot")
        self.listen()
        with np.load(self.folder / "state.npz", allow_pickle=False) as stored:
            return OptimizerState.from_arrays(dict(stored))


@contextmanager
def _child(
    job: str, arrays: dict[str, Any], params: ProjectionParams, *, follow: bool
) -> Iterator[_Child]:
    """Start a child on a job; it is gone and its folder too when the block ends."""
    _log.warning(
        "Another Taichi program is live in this process; the map is computed in a "
        "process of its own."
    )
    with tempfile.TemporaryDirectory(prefix="napari-embed-tsne-") as name:
        folder = Path(name)
        text = json.dumps({"job": job, "params": params.to_dict(), "follow": follow})
        (folder / "job.json").write_text(text, encoding="utf-8")
        np.savez(folder / "arrays.npz", **arrays)
        with (folder / "log").open("wb") as log:
            popen = subprocess.Popen(
                # -P: a file in the current folder must not pose as a library.
                [sys.executable, "-P", "-m", "napari_embed.tsne.child", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, encoding="utf-8", env=_environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        with popen:
            try:
                yield _Child(popen, folder)
            finally:
                popen.kill()
                if popen.stdin is not None:
                    # A word the child never read must not hide why it died.
                    with suppress(OSError):
                        popen.stdin.close()


def _environment() -> dict[str, str]:
    """Let the child import this very package, wherever it was imported from."""
    home = str(Path(errors.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    path = home if not known else os.pathsep.join((home, known))
    return os.environ | {"PYTHONPATH": path}
