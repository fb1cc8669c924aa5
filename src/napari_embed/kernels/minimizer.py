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
from napari_embed.kernels.layout import CHUNKS
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
    ) -> None:
        if indices.size >= 2**31 - 1:
            raise InputError(
                f"The affinities have {indices.size:,} entries; at most 2,147,483,646 "
                "can be indexed. Use fewer neighbors."
            )
        self.n, self.dim = (int(size) for size in positions.shape)
        self.device = device
        self._where = "cuda" if device.kind == "cuda" else "cpu"
        self.repulsion = Repulsion(self.n, self.dim, device, accuracy)
        self.y = self._array(positions)
        self.y_next = ti.ndarray(ti.f32, shape=(self.n, self.dim))
        motion = np.zeros((self.n, 2 * self.dim), np.float32)
        motion[:, self.dim :] = 1.0
        self.motion = self._array(motion)
        self.motion_next = ti.ndarray(ti.f32, shape=motion.shape)
        self.built_from = ti.ndarray(ti.f32, shape=(self.n, self.dim))
        edges = max(1, indices.size)
        self.starts = torch.from_numpy(indptr.astype(np.int32)).to(self._where)
        self.columns = ti.ndarray(ti.i32, shape=edges)
        self.values = ti.ndarray(ti.f32, shape=edges)
        self.columns_next = ti.ndarray(ti.i32, shape=edges)
        self.values_next = ti.ndarray(ti.f32, shape=edges)
        if indices.size:
            self.columns.from_numpy(np.ascontiguousarray(indices))
            self.values.from_numpy(np.ascontiguousarray(values))
        self.entropy = _entropy(values)
        self.places = torch.arange(self.n, dtype=torch.int32, device=self._where)
        if places is not None:
            self._renumber(torch.from_numpy(places.copy()).to(self._where))

    def _array(self, values: NDArray[np.float32]) -> object:
        array = ti.ndarray(ti.f32, shape=values.shape)
        array.from_numpy(np.ascontiguousarray(values))
        return array

    def rebuild(self, *, renumber: bool = False) -> None:
        """Build the embedding hierarchy anew; ``renumber`` also reorders memory."""
        self.repulsion.rebuild(self.y)
        if renumber:
            self._renumber(self.repulsion.order)
            self.repulsion.order = torch.arange(
                self.n, dtype=torch.int32, device=self._where
            )
        self.built_from.copy_from(self.y)

    def _renumber(self, order: torch.Tensor) -> None:
        place = torch.empty_like(order)
        place[order.long()] = torch.arange(
            self.n, dtype=torch.int32, device=self._where
        )
        lengths = self.starts.diff()[order.long()]
        starts = torch.zeros_like(self.starts)
        torch.cumsum(lengths, 0, out=starts[1:])
        forces.move_rows(
            order, place, self.starts, self.columns, self.values, starts,
            self.columns_next, self.values_next,
        )  # fmt: skip
        self.starts = starts
        self.columns, self.columns_next = self.columns_next, self.columns
        self.values, self.values_next = self.values_next, self.values
        forces.move_state(
            self.dim, order, self.y, self.motion, self.y_next, self.motion_next
        )
        self.y, self.y_next = self.y_next, self.y
        self.motion, self.motion_next = self.motion_next, self.motion
        self.places = self.places[order.long()]

    def choose_target(self) -> None:
        """Choose cells or points as targets, by how many cells are marked now."""
        self.repulsion.consider_cells(self.y)

    def repel(self, *, early: bool = False) -> None:
        """Evaluate S, R and Z at the present positions."""
        self.repulsion.set_stage(early=early)
        self.repulsion.evaluate(self.y)

    def step(self, settings: StepSettings) -> None:
        """Move every point once, with the repulsion evaluated last."""
        forces.step(
            self.dim, self.y, self.y_next, self.motion, self.repulsion.result,
            self.starts, self.columns, self.values, self.repulsion.z,
            settings.exaggeration, settings.rate, settings.momentum,
            settings.min_gain, settings.clip, self.repulsion.meta,
        )  # fmt: skip
        self.y, self.y_next = self.y_next, self.y

    def z(self) -> float:
        """Return Z of the repulsion evaluated last."""
        return float(self.repulsion.z[CHUNKS])

    def divergence(self) -> float:
        """Return KL(P || Q) at the present positions, with Z from the traversal."""
        forces.divergence(
            self.dim, self.y, self.starts, self.columns, self.values,
            self.repulsion.sums,
        )  # fmt: skip
        z = self.z()
        log_z = float(np.log(z)) if z > 0 else float("nan")
        return self.entropy + float(self.repulsion.sums[CHUNKS]) + log_z

    def positions(self) -> NDArray[np.float32]:
        """Return a copy of the (n, dim) positions in the caller's order."""
        return self._restored(self.y)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what :meth:`restore` needs, rows in the caller's order."""
        return {
            "positions": self._restored(self.y),
            "motion": self._restored(self.motion),
            "built_from": self._restored(self.built_from),
            "places": self.places.cpu().numpy().copy(),
            "cells": np.asarray(self.repulsion.cells_on),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Continue from :meth:`state`; build with its ``places`` first."""
        places = self.places.cpu().numpy()
        self.y.from_numpy(np.ascontiguousarray(state["positions"][places]))
        self.motion.from_numpy(np.ascontiguousarray(state["motion"][places]))
        self.built_from.from_numpy(np.ascontiguousarray(state["built_from"][places]))
        self.repulsion.rebuild(self.built_from)
        self.repulsion.cells_on = bool(state["cells"])

    def pin(self, rows: NDArray[np.bool_]) -> None:
        """Hold the given points (caller's order) where they are."""
        motion = self.motion.to_numpy()
        motion[rows[self.places.cpu().numpy()]] = 0.0
        self.motion.from_numpy(motion)

    def _restored(self, array: object) -> NDArray[np.float32]:
        values = array.to_numpy()
        result = np.empty_like(values)
        result[self.places.cpu().numpy()] = values
        return result


def _entropy(values: NDArray[np.float32]) -> float:
    """Return sum p ln p in float64, in pieces that need little memory."""
    total = 0.0
    for first in range(0, values.size, 1 << 22):
        p = values[first : first + (1 << 22)].astype(np.float64)
        total += float(np.sum(p * np.log(np.where(p > 0, p, 1.0))))
    return total
