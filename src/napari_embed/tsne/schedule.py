"""What each iteration does: exaggeration, learning rate, momentum, upkeep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_embed.params import ProjectionParams

__all__ = ["CHECK_EVERY", "Schedule"]

# Iterations between KL evaluations, finiteness checks and renumberings.
CHECK_EVERY = 50
_REBUILD_EVERY = 5
_CHOOSE_EVERY = 25
_STOP_GAIN = 1e-4
# What the authors' program does (its files params.hpp, constants.hpp): a learning rate
# of 200 for the gradient with its factor 4, exaggeration that falls linearly, steps of
# any length, no refitting before the exaggeration has ended.
_PAPER: dict[str, Any] = {
    "decay_iter": 150, "min_gain": 0.1, "clip": 1e15, "rebuild_until": 400,
}  # fmt: skip
_PAPER_RATE = 800.0


@dataclass(frozen=True)
class Schedule:
    """The course of one minimisation.

    Attributes
    ----------
    n
        Points.
    max_iter
        Iterations in all.
    exaggeration, exaggeration_iter
        Factor on P, and for how many iterations.
    late_exaggeration, late_iter
        Factor on P in the last iterations, and in how many.
    learning_rate
        None for max(200, n / exaggeration), which changes with the exaggeration
        (Belkina et al. 2019; openTSNE does the same).
    early_stop
        Whether a stalled KL ends the run; never with a late exaggeration, which would
        be cut off, and during which KL rises by design.
    decay_iter
        Iterations in which the exaggeration then falls to 1, linearly.
    min_gain, clip
        Least gain, longest step.
    rebuild_until
        Iterations in which the hierarchy is never refitted.
    """

    n: int
    max_iter: int
    exaggeration: float
    exaggeration_iter: int
    learning_rate: float | None
    early_stop: bool
    late_exaggeration: float = 1.0
    late_iter: int = 0
    decay_iter: int = 0
    min_gain: float = 0.01
    clip: float = 5.0
    rebuild_until: int = 0

    @classmethod
    def of(cls, params: ProjectionParams, n: int) -> Schedule:
        """Return the schedule that the settings ask for."""
        paper = params.preset == "paper"
        rate = params.learning_rate
        late = params.late_exaggeration > 1 and params.late_exaggeration_iter > 0
        if paper and isinstance(rate, str):
            rate = _PAPER_RATE
        return cls(
            n=n,
            max_iter=params.max_iter,
            exaggeration=params.early_exaggeration,
            exaggeration_iter=min(params.early_exaggeration_iter, params.max_iter),
            learning_rate=None if isinstance(rate, str) else float(rate),
            early_stop=params.early_stop and not late,
            late_exaggeration=params.late_exaggeration,
            late_iter=params.late_exaggeration_iter if late else 0,
            **(_PAPER if paper else {}),
        )

    def exaggerates_at(self, iteration: int) -> bool:
        """Return whether this is the early exaggeration, in full."""
        return iteration < self.exaggeration_iter

    def exaggeration_at(self, iteration: int) -> float:
        """Return the factor on P."""
        if self.exaggerates_at(iteration):
            return self.exaggeration
        if iteration >= self.max_iter - self.late_iter:
            return self.late_exaggeration
        left = self.exaggeration_iter + self.decay_iter - iteration
        if left <= 0:
            return 1.0
        return 1.0 + (self.exaggeration - 1.0) * left / self.decay_iter

    def rate_at(self, iteration: int) -> float:
        """Return the learning rate, for the gradient without its factor 4."""
        if self.learning_rate is not None:
            return self.learning_rate
        return max(200.0, self.n / self.exaggeration_at(iteration))

    def momentum_at(self, iteration: int) -> float:
        """Return 0.5 in the early exaggeration, then 0.8."""
        return 0.5 if self.exaggerates_at(iteration) else 0.8

    def rebuilds_at(self, iteration: int) -> bool:
        """Return whether the hierarchy is built anew rather than refitted."""
        return iteration < self.rebuild_until or iteration % _REBUILD_EVERY == 0

    def chooses_target_at(self, iteration: int) -> bool:
        """Return whether cells and points are weighed against each other."""
        return iteration % _CHOOSE_EVERY == 0

    def renumbers_at(self, iteration: int) -> bool:
        """Return whether points and rows of P are put in the map's order."""
        return iteration % CHECK_EVERY == 0

    def checks_at(self, iteration: int) -> bool:
        """Return whether KL and finiteness are looked at."""
        return iteration > 0 and iteration % CHECK_EVERY == 0

    def stalled(self, trace: list[tuple[int, float]]) -> bool:
        """Return whether the last KL gain no longer pays for the iterations.

        Parameters
        ----------
        trace
            (iteration, KL) pairs, oldest first.
        """
        settled = self.exaggeration_iter + self.decay_iter + 2 * CHECK_EVERY
        if not self.early_stop or len(trace) < 2 or trace[-1][0] < settled:
            return False
        before, now = trace[-2][1], trace[-1][1]
        return before - now < _STOP_GAIN * abs(now)
