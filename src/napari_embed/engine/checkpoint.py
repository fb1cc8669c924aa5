"""Keeps an unfinished t-SNE in the project, so that the next run goes on from it.

Every half minute a copy of the optimizer's state is handed to a thread, which writes
it; the iterations wait only for the copy. Before a pause, and when the job is cancelled
or ended by hand, the state is written at once.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from napari_embed.engine.progress import JobControl
from napari_embed.errors import EmbedError, InputError, StoreError
from napari_embed.params import ProjectionParams, fingerprint
from napari_embed.project.manifest import package_version

if TYPE_CHECKING:
    from napari_embed.project import Project
    from napari_embed.tsne.optimizer import IterationReport, OptimizerState

__all__ = ["Checkpoint"]

_log = logging.getLogger(__name__)

EVERY_S = 30.0
"""Seconds of work that a kill may cost."""
# A slow disk must not take more than this share of the time.
_MOST_SHARE = 0.05
# A change of what the state holds or of what goes before it raises its number.
_VERSION = 1


class Checkpoint:
    """How far one map is, in the project.

    Parameters
    ----------
    project
        Open for writing. While the map is made, nothing else writes to it.
    name
        Of the map.
    made_of
        Fingerprint of the map: its settings and what it is computed from.
    params, upstream
        The settings, and the key of the stage it is computed from.
    control
        For what the user is told.
    """

    def __init__(
        self,
        project: Project,
        name: str,
        *,
        made_of: str,
        params: ProjectionParams,
        upstream: str,
        control: JobControl,
    ) -> None:
        self._project, self._name, self._control = project, name, control
        self._params, self._upstream = params, upstream
        # A graph that was computed again may differ where neighbors are equally far.
        revision = project.stage_info(upstream).revision
        self._fingerprint = fingerprint(
            "checkpoint", _VERSION, made_of, revision, package_version()
        )
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._cost_s = 0.0
        self._kept = -1
        self._failed = False

    def load(self) -> OptimizerState | None:
        """Return the state to go on from; one that does not fit is removed."""
        from napari_embed.tsne.optimizer import OptimizerState

        stored = self._project.stage_info(f"checkpoints/{self._name}")
        if stored.state == "missing":
            return None
        if stored.fingerprint != self._fingerprint:
            self.refuse("belongs to other settings, neighbors or another version")
            return None
        try:
            arrays = self._project.read_checkpoint(self._name)
            state = OptimizerState.from_arrays(arrays or {})
            _check(state, self._params)
        except (StoreError, ValueError, TypeError) as error:
            self.refuse(f"cannot be used: {error}")
            return None
        self._kept = state.iteration
        return state

    def refuse(self, reason: str) -> None:
        """Remove what is kept and say why the map starts anew."""
        _log.warning("What was kept of the map %s %s", self._name, reason)
        self._control.log(
            f"What was kept of the unfinished map {self._name} {reason.rstrip('.')}. "
            "It starts anew."
        )
        self.discard()

    def follow(self, report: IterationReport) -> None:
        """Write the state aside if it is time; called during the callback."""
        if self._thread is not None and not self._thread.is_alive():
            self._join()
        now = time.monotonic()
        if self._since is None:  # building the kernels is not work to be kept
            self._since = now
        wait_s = max(EVERY_S, self._cost_s / _MOST_SHARE)
        if self._thread is None and now - self._since >= wait_s:
            self._start(report)

    def save(self, report: IterationReport) -> None:
        """Write the state and wait until it is on the disk."""
        self._join()
        if report.iteration > self._kept:
            self._start(report)
            self._join()

    def discard(self) -> None:
        """Remove what is kept: the map is complete, or it is of no use."""
        self._join()
        self._kept = -1
        self._project.remove_checkpoint(self._name)

    def close(self) -> None:
        """Wait for what is being written."""
        self._join()

    def _start(self, report: IterationReport) -> None:
        began = time.monotonic()
        state, most = report.snapshot(), report.max_iter
        self._thread = threading.Thread(
            target=self._write,
            args=(state, most, began),
            name="napari-embed-checkpoint",
        )
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._since = time.monotonic()

    def _write(self, state: OptimizerState, max_iter: int, began: float) -> None:
        try:
            self._project.write_checkpoint(
                self._name,
                state.to_arrays(),
                fingerprint=self._fingerprint,
                params=self._params.to_dict(),
                upstream=self._upstream,
                info={"iteration": state.iteration, "max_iter": max_iter},
            )
        except (EmbedError, OSError, MemoryError) as error:
            # The map is worth more than the way back to it.
            _log.warning("The map %s cannot be kept: %s", self._name, error)
            if not self._failed:
                self._control.log(
                    "How far the map is cannot be saved, so a stop would cost what is "
                    f"done: {error}"
                )
            self._failed = True
        else:
            self._kept, self._failed = state.iteration, False
        self._cost_s = time.monotonic() - began


def _check(state: OptimizerState, params: ProjectionParams) -> None:
    """Refuse what no run leaves behind.

    Raises
    ------
    InputError
        If a number is not finite or iterations do not fit.
    """
    if not 0 < state.iteration <= params.max_iter:
        raise InputError(f"it is of iteration {state.iteration} of {params.max_iter}")
    for name, values in {**state.arrays, "kl_trace": state.kl_trace}.items():
        if values.dtype.kind not in "biuf":
            raise InputError(f"{name} holds {values.dtype}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"{name} holds NaN or infinite numbers")
