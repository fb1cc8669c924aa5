"""The state of one minimisation on the device, and the steps that change it.

Points are kept in an order of their own (Morton order of a recent map), in which
neighbors in the map are neighbors in memory; ``places`` says which row of the caller
each point is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.kernels import forces
from napari_embed.kernels.layout import CHUNKS, SUMS_SIZE
from napari_embed.kernels.repulsion import Accuracy, Repulsion
from napari_embed.kernels.runtime import Device, ti

__all__ = ["Minimizer", "StepSettings"]


@dataclass(frozen=True)
class StepSettings:
    """One gradient step.

    Attributes
    ----------
    exaggeration
        Factor on P.
    rate
        Learning rate, for the gradient without its factor 4.
    momentum, min_gain
        As in van der Maaten 2008.
    clip
        Longest step in map units.
    """

    exaggeration: float
    rate: float
    momentum: float
    min_gain: float = 0.01
    clip: float = 5.0


class Minimizer:
    """Positions, velocities, gains and P of one map.

    An iteration is :meth:`prepare` and :meth:`step`; both only launch work. Whoever
    reads anything calls :meth:`settle` first, and goes on from ``steps_done`` if it
    says that there was not room for all.

    Parameters
    ----------
    indptr, indices, values
        P by rows (int64, int32, float32); copied, never changed.
    positions
        (n, dim) float32 start; copied.
    device
        What :func:`napari_embed.kernels.runtime.start` returned.
    accuracy
        Of the repulsion.
    places
        (n,) int32: the order to keep points in at first; None keeps the caller's.
    queue_room
        As in :class:`~napari_embed.kernels.repulsion.Repulsion`.

    Raises
    ------
    InputError
        If P has 2^31 entries or more.
    """

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        positions: NDArray[np.float32],
        *,
        device: Device,
        accuracy: Accuracy,
        places: NDArray[np.int32] | None = None,
        queue_room: int | None = None,
    ) -> None:
        if indices.size >= 2**31 - 1:
            raise InputError(
                f"The affinities have {indices.size:,} entries; at most 2,147,483,646 "
                "can be indexed. Use fewer neighbors."
            )
        self.n, self.dim = (int(size) for size in positions.shape)
        self.repulsion = Repulsion(
            self.n, self.dim, device, accuracy, queue_room=queue_room
        )
        motion = np.zeros((self.n, 2 * self.dim), np.float32)
        motion[:, self.dim :] = 1.0
        # Each with a second array, for results that need the whole of the first.
        self.y, self.y_next = _twins(positions.astype(np.float32, copy=False))
        self.motion, self.motion_next = _twins(motion)
        self.places, self.places_next = _twins(np.arange(self.n, dtype=np.int32))
        self.starts, self.starts_next = _twins(indptr.astype(np.int32))
        some = indices.size > 0
        self.columns, self.columns_next = _twins(
            indices if some else np.zeros(1, np.int32)
        )
        self.values, self.values_next = _twins(
            values if some else np.zeros(1, np.float32)
        )
        self._lengths = torch.from_numpy(np.diff(indptr).astype(np.int32)).to(
            self.repulsion.permutation.device
        )
        self._scratch = ti.ndarray(ti.i32, shape=self.n)
        self._sums = ti.ndarray(ti.f64, shape=SUMS_SIZE)
        self.entropy = _entropy(values)
        if places is not None:
            self.repulsion.order.from_numpy(places)
            self._renumber(torch.from_numpy(places.astype(np.int64)))

    @property
    def steps_done(self) -> int:
        """Gradient steps completed, as of the last :meth:`settle`."""
        return self.repulsion.steps_done

    def settle(self) -> bool:
        """Wait; return whether all steps that were launched are done.

        If not, there is room for them now, and all is as before step ``steps_done``.
        """
        return self.repulsion.settle()

    def prepare(
        self,
        *,
        early: bool = False,
        rebuild: bool = False,
        renumber: bool = False,
        choose: bool = False,
    ) -> bool:
        """Evaluate S, R and Z at the present positions, with the upkeep that is due.

        Parameters
        ----------
        early
            Whether this is the early exaggeration, which takes smaller errors.
        rebuild
            Build the embedding hierarchy anew, rather than fit it.
        renumber
            Also bring the points and P into its order in memory.
        choose
            Choose cells or points as targets, by how many cells are marked now. This
            and renumbering wait for what was launched before.

        Returns
        -------
        bool
            False where earlier steps turn out to be missing (see :meth:`settle`);
            nothing was done then.
        """
        if (renumber or choose) and not self.settle():
            return False
        self.repulsion.set_stage(early=early)
        if rebuild or renumber:
            self.repulsion.rebuild(self.y)
        if renumber:
            self._renumber(self.repulsion.permutation)
        chosen = choose and self.repulsion.consider_cells(self.y)
        self.repulsion.launch(self.y, tree_fits=rebuild or renumber, field_fits=chosen)
        return True

    def _renumber(self, permutation: torch.Tensor) -> None:
        """Put all in the order of the hierarchy just built, which must be settled."""
        self._lengths = self._lengths[permutation.to(self._lengths.device)]
        starts = torch.zeros(self.n + 1, dtype=torch.int32, device=self._lengths.device)
        torch.cumsum(self._lengths, 0, out=starts[1:])
        forces.renumber(
            self.dim, self.repulsion.order, self._scratch, self.starts, self.columns,
            self.values, starts, self.starts_next, self.columns_next, self.values_next,
            self.y, self.motion, self.places, self.y_next, self.motion_next,
            self.places_next, self.repulsion.built_from,
        )  # fmt: skip
        self.starts, self.starts_next = self.starts_next, self.starts
        self.columns, self.columns_next = self.columns_next, self.columns
        self.values, self.values_next = self.values_next, self.values
        self.y, self.y_next = self.y_next, self.y
        self.motion, self.motion_next = self.motion_next, self.motion
        self.places, self.places_next = self.places_next, self.places

    def step(self, settings: StepSettings) -> None:
        """Move every point once, with the repulsion that was prepared."""
        forces.step(
            self.dim, self.y, self.y_next, self.motion, self.repulsion.result,
            self.starts, self.columns, self.values, self.repulsion.z,
            settings.exaggeration, settings.rate, settings.momentum,
            settings.min_gain, settings.clip, self.repulsion.status,
        )  # fmt: skip
        self.y, self.y_next = self.y_next, self.y

    def z(self) -> float:
        """Return Z of the repulsion prepared last."""
        return float(self.repulsion.z[CHUNKS])

    def divergence(self) -> float:
        """Return KL(P || Q) at the present positions, with Z from the traversal."""
        forces.divergence(
            self.dim, self.repulsion.levels, self.y, self.starts, self.columns,
            self.values, self._sums,
        )  # fmt: skip
        z = self.z()
        log_z = float(np.log(z)) if z > 0 else float("nan")
        return self.entropy + float(self._sums[CHUNKS]) + log_z

    def positions(self) -> NDArray[np.float32]:
        """Return a copy of the (n, dim) positions in the caller's order."""
        return self._restored(self.y)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what :meth:`restore` needs, rows in the caller's order."""
        return {
            "positions": self._restored(self.y),
            "motion": self._restored(self.motion),
            "built_from": self._restored(self.repulsion.built_from),
            "places": self.places.to_numpy(),
            "cells": np.asarray(self.repulsion.cells_on),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Continue from :meth:`state`; build with its ``places`` first."""
        places = self.places.to_numpy()
        repulsion = self.repulsion
        for array, name in (
            (self.y, "positions"),
            (self.motion, "motion"),
            (repulsion.built_from, "built_from"),
        ):
            array.from_numpy(np.ascontiguousarray(state[name][places]))
        repulsion.rebuild(repulsion.built_from)
        repulsion.cells_on = bool(state["cells"])

    def pin(self, rows: NDArray[np.bool_]) -> None:
        """Hold the given points (caller's order) where they are."""
        motion = self.motion.to_numpy()
        motion[rows[self.places.to_numpy()]] = 0.0
        self.motion.from_numpy(motion)

    def _restored(self, array: object) -> NDArray[np.float32]:
        values = array.to_numpy()
        result = np.empty_like(values)
        result[self.places.to_numpy()] = values
        return result


def _twins(values: NDArray[np.generic]) -> tuple[object, object]:
    """Return an array on the device that holds the values, and another like it."""
    kind = {"f": ti.f32, "i": ti.i32}[values.dtype.kind]
    first, second = (ti.ndarray(kind, shape=values.shape) for _ in range(2))
    first.from_numpy(np.ascontiguousarray(values))
    return first, second


def _entropy(values: NDArray[np.float32]) -> float:
    """Return sum p ln p in float64, in pieces that need little memory."""
    total = 0.0
    for first in range(0, values.size, 1 << 22):
        p = values[first : first + (1 << 22)].astype(np.float64)
        total += float(np.sum(p * np.log(np.where(p > 0, p, 1.0))))
    return total
