"""From affinities to a map: the minimisation (paper section 4, with its schedule)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_embed.arrays import Affinities, Projection
from napari_embed.errors import InputError, NumericalError
from napari_embed.params import ProjectionParams
from napari_embed.tsne.schedule import Schedule

if TYPE_CHECKING:
    from napari_embed.kernels.minimizer import Minimizer

__all__ = ["IterationReport", "OptimizerState", "optimize"]

_log = logging.getLogger(__name__)

# Seconds between two copies of the positions for a live view.
_PUBLISH_EVERY = 0.2


@dataclass(frozen=True)
class OptimizerState:
    """Everything a stopped run needs to go on exactly as if it had not stopped.

    Attributes
    ----------
    iteration
        Iterations done.
    arrays
        Positions, velocities, gains and orders; plain arrays, fit for ``np.savez``.
    kl_trace
        (m, 2) float64: iteration and KL of each check so far.
    """

    iteration: int
    arrays: dict[str, NDArray[np.generic]]
    kl_trace: NDArray[np.float64]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return plain arrays to save."""
        return {
            **self.arrays,
            "iteration": np.asarray(self.iteration),
            "kl_trace": self.kl_trace,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> OptimizerState:
        """Build from :meth:`to_arrays`.

        Raises
        ------
        InputError
            If an array is missing.
        """
        names = ("positions", "motion", "built_from", "places", "cells")
        missing = [
            name for name in (*names, "iteration", "kl_trace") if name not in arrays
        ]
        if missing:
            raise InputError(
                f"This is no saved optimizer state: {', '.join(missing)} missing. "
                "Start the projection anew."
            )
        return cls(
            iteration=int(arrays["iteration"]),
            arrays={name: arrays[name] for name in names},
            kl_trace=np.asarray(arrays["kl_trace"], np.float64).reshape(-1, 2),
        )


@dataclass(frozen=True)
class IterationReport:
    """What a callback gets.

    Attributes
    ----------
    iteration, max_iter
        Iterations done, and planned.
    kl_divergence
        KL(P || Q) at the present positions; NaN where it was not computed (it is,
        every 50 iterations and at the end).
    exaggeration
        Factor on P in the last iteration.
    seconds_per_iteration
        Mean over the last second or so.
    positions
        (n, d) float32 copy in the caller's order, or None when none is due.
    snapshot
        Call it, during the callback only, for a state to resume from.
    """

    iteration: int
    max_iter: int
    kl_divergence: float
    exaggeration: float
    seconds_per_iteration: float
    positions: NDArray[np.float32] | None
    snapshot: Callable[[], OptimizerState]


def optimize(
    affinities: Affinities,
    init: NDArray[np.float32],
    params: ProjectionParams,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    callback: Callable[[IterationReport], bool | None] | None = None,
    callback_every: int = 10,
    checkpoint: OptimizerState | None = None,
    pinned: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> Projection:
    """Lay out n items by t-SNE.

    Parameters
    ----------
    affinities
        Symmetric P.
    init
        (n, 2) or (n, 3) float32 start; std 1e-4 suits early exaggeration.
    params
        Iterations, exaggeration, accuracy preset and so on.
    device
        "auto" takes CUDA when there is one.
    callback
        Called every ``callback_every`` iterations or 0.2 seconds, whichever is first,
        and at the end. Returning True ends the run and keeps the map; an exception
        (:class:`~napari_embed.errors.JobCancelled`, say) passes through.
    callback_every
        Iterations.
    checkpoint
        A state to go on from, made with the same affinities and settings.
    pinned
        (n,) bool: points that stay where ``init`` puts them.
    threads
        CPU threads; None takes all.

    Returns
    -------
    Projection
        ``info`` holds the KL trace, the device, seconds, and why the run ended.

    Raises
    ------
    InputError
        If shapes do not fit, or a value is NaN or infinite.
    NumericalError
        If the map is no longer finite.
    ComputeError
        If the device cannot be used.
    """
    start = _checked_start(affinities, init, params, pinned)
    if affinities.n < 2:
        return Projection(start, n_iter=0, info={"ended": "nothing to lay out"})
    run = _Run(
        affinities, start, params, Schedule.of(params, affinities.n), device=device,
        checkpoint=checkpoint, pinned=pinned, threads=threads,
    )  # fmt: skip
    run.report = _Reporter(run, callback, callback_every)
    return run.to_the_end()


class _Run:
    """One minimisation from start to end."""

    report: _Reporter

    def __init__(
        self,
        affinities: Affinities,
        start: NDArray[np.float32],
        params: ProjectionParams,
        schedule: Schedule,
        *,
        device: Literal["auto", "cpu", "cuda"],
        checkpoint: OptimizerState | None,
        pinned: NDArray[np.bool_] | None,
        threads: int | None,
    ) -> None:
        from napari_embed.kernels import runtime

        # Taichi must run before the modules of kernels make their first array.
        self.device = runtime.start(device, threads=threads)
        from napari_embed.kernels.minimizer import Minimizer
        from napari_embed.tsne.presets import accuracy_of

        self.schedule = schedule
        self.iteration = 0
        self.trace: list[tuple[int, float]] = []
        self.minimizer: Minimizer = Minimizer(
            affinities.indptr, affinities.indices, affinities.values, start,
            device=self.device, accuracy=accuracy_of(params),
            places=None if checkpoint is None else _places(checkpoint, len(start)),
        )  # fmt: skip
        if checkpoint is not None:
            self.minimizer.restore(checkpoint.arrays)
            self.iteration = checkpoint.iteration
            self.trace = [(int(i), float(kl)) for i, kl in checkpoint.kl_trace]
        self._first = self.iteration
        if pinned is not None and pinned.any():
            self.minimizer.pin(pinned)

    def to_the_end(self) -> Projection:
        """Iterate until the schedule, the KL or the callback says stop."""
        began = time.perf_counter()
        first = self.iteration
        ended = ""
        while not ended:
            if not self._prepare():
                continue
            checked = self.schedule.checks_at(self.iteration)
            last = self.iteration == self.schedule.max_iter
            due = self.report.due(checked)
            if last or checked or due:
                # The only wait for the device between two checks of the target.
                if not self._settled():
                    continue
                ended = self._look(checked, due, last)
            if not ended:
                self.minimizer.step(self._settings())
                self.iteration += 1
        self._measure()
        self.report.send(True, last=True)
        seconds = time.perf_counter() - began
        return Projection(
            self._finite_positions(),
            kl_divergence=self.trace[-1][1],
            n_iter=self.iteration,
            info={
                "ended": ended,
                "kl_trace": [list(pair) for pair in self.trace],
                "device": self.device.name,
                "target": "cells" if self.minimizer.repulsion.cells_on else "points",
                "seconds": seconds,
                "seconds_per_iteration": seconds / max(1, self.iteration - first),
            },
        )

    def _prepare(self) -> bool:
        """Launch the evaluation of the repulsion here, with the upkeep that is due.

        Returns False where the run has to go on from an earlier iteration.
        """
        it, schedule = self.iteration, self.schedule
        done: bool = self.minimizer.prepare(
            early=schedule.exaggerates_at(it),
            rebuild=schedule.rebuilds_at(it),
            renumber=schedule.renumbers_at(it),
            choose=schedule.chooses_target_at(it),
        )
        if not done:
            self.iteration = self._first + self.minimizer.steps_done
        return done

    def _settled(self) -> bool:
        """Wait for the device; return whether it has done all that was launched.

        If not, the run has to go on from an earlier iteration.
        """
        done: bool = self.minimizer.settle()
        self.iteration = self._first + self.minimizer.steps_done
        return done

    def _look(self, checked: bool, due: bool, last: bool) -> str:
        """Measure and report what is due; return why the run ends, if it does."""
        if checked:
            self._measure()
        if last:
            return "max_iter"
        if checked and self.schedule.stalled(self.trace):
            return "the KL divergence no longer improves"
        return "callback" if due and self.report.send(checked) else ""

    def _measure(self) -> None:
        """Check that all is finite and note the KL divergence."""
        self._check_finite()
        if not self.trace or self.trace[-1][0] != self.iteration:
            self.trace.append((self.iteration, self.minimizer.divergence()))

    def _settings(self) -> Any:
        from napari_embed.kernels.minimizer import StepSettings

        it, schedule = self.iteration, self.schedule
        return StepSettings(
            exaggeration=schedule.exaggeration_at(it),
            rate=schedule.rate_at(it),
            momentum=schedule.momentum_at(it),
            min_gain=schedule.min_gain,
            clip=schedule.clip,
        )

    def _check_finite(self) -> None:
        z = self.minimizer.z()
        if z <= 0:
            raise NumericalError(
                f"All points are so far apart after {self.iteration} iterations that "
                "they no longer feel each other. Start with a standard deviation near "
                "1e-4."
            )
        if not math.isfinite(z):
            raise NumericalError(
                f"The map is no longer finite after {self.iteration} iterations "
                f"(Z = {z}). Lower the learning rate."
            )
        self._finite_positions()

    def _finite_positions(self) -> NDArray[np.float32]:
        positions: NDArray[np.float32] = self.minimizer.positions()
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        if bad.size:
            raise NumericalError(
                f"{bad.size} of {len(positions)} positions are no longer finite after "
                f"{self.iteration} iterations (rows {_some(bad)}). Lower the learning "
                "rate."
            )
        return positions

    def snapshot(self) -> OptimizerState:
        """Return the state to resume from."""
        return OptimizerState(
            iteration=self.iteration,
            arrays=self.minimizer.state(),
            kl_trace=np.asarray(self.trace, np.float64).reshape(-1, 2),
        )


@dataclass
class _Reporter:
    """Decides when the callback runs and what it gets."""

    run: _Run
    callback: Callable[[IterationReport], bool | None] | None
    every: int
    _called: float = field(default_factory=time.perf_counter)
    _called_at: int = -1
    _published: float = 0.0
    _pace: float = float("nan")

    def due(self, checked: bool) -> bool:
        if self.callback is None or self.run.iteration == 0:
            return False
        return (
            checked
            or self.run.iteration % max(1, self.every) == 0
            or time.perf_counter() - self._called >= _PUBLISH_EVERY
        )

    def send(self, checked: bool, *, last: bool = False) -> bool:
        """Call back; return whether the answer is to stop."""
        if self.callback is None:
            return False
        run, now = self.run, time.perf_counter()
        done = run.iteration - max(self._called_at, 0)
        if done > 0:
            self._pace = (now - self._called) / done
        self._called, self._called_at = now, run.iteration
        publish = last or now - self._published >= _PUBLISH_EVERY
        report = IterationReport(
            iteration=run.iteration,
            max_iter=run.schedule.max_iter,
            kl_divergence=run.trace[-1][1] if checked else float("nan"),
            exaggeration=run.schedule.exaggeration_at(max(0, run.iteration - 1)),
            seconds_per_iteration=self._pace,
            positions=run.minimizer.positions() if publish else None,
            snapshot=run.snapshot,
        )
        if publish:
            self._published = now
        return bool(self.callback(report))


def _checked_start(
    affinities: Affinities,
    init: NDArray[np.float32],
    params: ProjectionParams,
    pinned: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    """Return a private float32 copy of a valid start."""
    n, dim = affinities.n, params.n_components
    start = np.array(init, dtype=np.float32, order="C")
    if start.shape != (n, dim):
        raise InputError(
            f"The start must be ({n}, {dim}) for {n} items in {dim}D, got shape "
            f"{start.shape}."
        )
    if pinned is not None and pinned.shape != (n,):
        raise InputError(f"pinned must have shape ({n},), got {pinned.shape}.")
    bad = np.flatnonzero(~np.isfinite(start).all(axis=1))
    if bad.size:
        raise InputError(
            f"{bad.size} of {n} starting positions are NaN or infinite (rows "
            f"{_some(bad)}). Replace them, or leave those items out."
        )
    bad = np.flatnonzero(~np.isfinite(affinities.values) | (affinities.values < 0))
    if bad.size:
        rows = np.searchsorted(affinities.indptr, bad, side="right") - 1
        raise InputError(
            f"{bad.size} affinities are NaN, infinite or negative (rows "
            f"{_some(np.unique(rows))}). They must be 0 or more."
        )
    indices = affinities.indices
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= n):
        raise InputError(
            f"Affinities name items {indices.min()} to {indices.max()}, but there are "
            f"only items 0 to {n - 1}."
        )
    if n > 1 and not np.ptp(start, axis=0).any():
        # Points in one place feel no force; nothing would ever happen.
        jitter = np.random.default_rng(params.random_state).normal(size=start.shape)
        start += (1e-4 * jitter).astype(np.float32)
    return start


def _places(checkpoint: OptimizerState, n: int) -> NDArray[np.int32]:
    """Return the checkpoint's order of points, if it fits n items."""
    places = np.asarray(checkpoint.arrays["places"], np.int32)
    if places.shape != (n,) or not np.array_equal(np.sort(places), np.arange(n)):
        raise InputError(
            f"The saved state is of {places.size} items, this run has {n}. Start the "
            "projection anew."
        )
    return places


def _some(rows: NDArray[np.generic]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return shown + (", ..." if rows.size > 5 else "")
