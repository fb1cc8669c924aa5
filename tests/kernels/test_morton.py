"""Keys along the space-filling curve against plain integers."""

from typing import Any

import numpy as np
import pytest

from napari_embed.kernels import runtime
from napari_embed.kernels.morton import bits_per_axis


@pytest.fixture(scope="module")
def device() -> Any:
    return runtime.start("cpu")


def built(y: np.ndarray, device: Any) -> Any:
    from napari_embed.kernels.repulsion import Accuracy, Repulsion

    positions = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    positions.from_numpy(y)
    repulsion = Repulsion(len(y), y.shape[1], device, Accuracy(target="points"))
    repulsion.rebuild(positions)
    repulsion.evaluate(positions)
    return repulsion


def keys_of(y: np.ndarray, device: Any) -> np.ndarray:
    """The key of each point."""
    repulsion = built(y, device)
    keys = np.empty(len(y), np.int64)
    keys[repulsion.order.to_numpy()] = np.asarray(repulsion.keys)
    return keys


@pytest.mark.parametrize("dim", [2, 3])
def test_every_bit_of_a_key_is_of_its_own_axis(
    dim: int, rng: np.random.Generator, device: Any
) -> None:
    """The points farthest out on each axis too: they have the largest coordinates."""
    y = rng.uniform(-40, 40, (500, dim)).astype(np.float32)
    bits = bits_per_axis(dim)
    keys = keys_of(y, device)
    print(f"{dim}D: keys {keys.min()} to {keys.max()}")
    assert keys.min() >= 0
    assert int(keys.max()) < 1 << (dim * bits)
    found = np.zeros((500, dim), np.int64)
    for bit in range(bits):
        for axis in range(dim):
            found[:, axis] |= ((keys >> (bit * dim + axis)) & 1) << bit
    flat = y / (1 + np.abs(y) / np.float32(4096))
    low, high = flat.min(0), flat.max(0)
    wanted = (flat - low).astype(np.float64) / float((high - low).max())
    assert found / (2.0**bits - 1) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
def test_boxes_of_one_level_do_not_overlap(
    dim: int, rng: np.random.Generator, device: Any
) -> None:
    """Nodes of a level are points of different cells of a grid."""
    from napari_embed.kernels.layout import LEVEL0, columns

    repulsion = built(rng.normal(size=(3000, dim)).astype(np.float32) * 20, device)
    first, last = (int(repulsion.tree.meta[LEVEL0 + level]) for level in (3, 4))
    c = columns(dim)
    floats = repulsion.tree.floats.to_numpy()[first:last]
    low = floats[:, c.low : c.low + dim]
    high = floats[:, c.high : c.high + dim]
    apart = (low[:, None] > high[None]) | (high[:, None] < low[None])
    np.fill_diagonal(apart[:, :, 0], True)
    print(f"{dim}D: {last - first} boxes, {int((~apart.any(2)).sum()) // 2} overlap")
    assert apart.any(2).all()
