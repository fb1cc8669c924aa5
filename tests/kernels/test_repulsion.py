"""The traversal against the exact sum over all pairs in float64."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from napari_embed.kernels import runtime
from napari_embed.kernels.layout import CHUNKS, HALT, NODES, QUEUE


@pytest.fixture(scope="module")
def device() -> Any:
    return runtime.start("cpu")


def exact(y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S (self included) and R of some rows, float64."""
    y = y.astype(np.float64)
    s, r = np.empty(len(rows)), np.empty((len(rows), y.shape[1]))
    for first in range(0, len(rows), 128):
        part = slice(first, first + 128)
        away = y[rows[part], None] - y[None]
        w = 1 / (1 + (away**2).sum(-1))
        s[part], r[part] = w.sum(1), (away * (w**2)[..., None]).sum(1)
    return s, r


def on_device(y: np.ndarray) -> Any:
    array = runtime.ti.ndarray(runtime.ti.f32, shape=y.shape)
    array.from_numpy(np.ascontiguousarray(y, np.float32))
    return array


def evaluated(
    y: np.ndarray, device: Any, queue_room: int | None = None, **kw: Any
) -> Any:
    from napari_embed.kernels.repulsion import Accuracy, Repulsion

    repulsion = Repulsion(
        len(y), y.shape[1], device, Accuracy(**kw), queue_room=queue_room
    )
    positions = on_device(y)
    repulsion.rebuild(positions)
    repulsion.evaluate(positions)
    return repulsion


def errors(
    repulsion: Any, y: np.ndarray, rows: np.ndarray
) -> tuple[float, float, float]:
    """Relative rms and 99th percentile of R's error, relative error of the sum of S."""
    s, r = exact(y, rows)
    result = repulsion.result.to_numpy()[rows].astype(np.float64)
    off = np.linalg.norm(result[:, 1:] - r, axis=1)
    force = np.linalg.norm(r, axis=1)
    rms = np.sqrt((off**2).sum() / max((force**2).sum(), 1e-300))
    p99 = np.quantile(off / np.maximum(force, 0.1 * np.sqrt((force**2).mean())), 0.99)
    return float(rms), float(p99), float(abs(result[:, 0].sum() / s.sum() - 1))


def scene(name: str, dim: int, n: int, rng: np.random.Generator) -> np.ndarray:
    if name == "uniform":
        y = rng.uniform(-30, 30, (n, dim))
    elif name == "clustered":
        y = rng.normal(size=(20, dim))[rng.integers(0, 20, n)] * 40
        y += rng.normal(size=(n, dim)) * rng.uniform(0.01, 5, (n, 1))
    elif name == "tiny":
        y = rng.normal(size=(n, dim)) * 1e-4
    elif name == "coincident":
        y = np.repeat(rng.normal(size=(n // 50 + 1, dim)) * 10, 50, axis=0)[:n]
    else:
        y = rng.normal(size=(n, dim)) * 10
        y[n // 2] = float(name)
    return y.astype(np.float32)


SCENES = ("uniform", "clustered", "tiny", "coincident", "1e4", "1e30")


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", SCENES)
def test_theta_zero_is_the_exact_sum(
    name: str, dim: int, rng: np.random.Generator, device: Any
) -> None:
    y = scene(name, dim, 3000, rng)
    rms, _, s_error = errors(evaluated(y, device, theta=0.0), y, np.arange(len(y)))
    print(f"{name} {dim}D: force error {rms:.1e}, S error {s_error:.1e}")
    assert rms <= 1e-5
    assert s_error <= 1e-6


@pytest.mark.parametrize("target", ["points", "cells"])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_close_at_theta_one_half(
    name: str, dim: int, target: str, rng: np.random.Generator, device: Any
) -> None:
    y = scene(name, dim, 3000, rng)
    repulsion = evaluated(y, device, theta=0.5, cell_size=0.4, target=target)
    rms, p99, s_error = errors(repulsion, y, np.arange(len(y)))
    print(f"{name} {dim}D {target}: rms {rms:.4f}, p99 {p99:.3f}, S {s_error:.1e}")
    # Sixty heaps of fifty points have no errors that average out. Cells read a heap's
    # own field apart, so they are the more exact ones here.
    heaps = {"points": 0.05, "cells": 0.025}[target]
    assert rms < (heaps if name == "coincident" else 0.025)
    assert s_error < (0.01 if name == "coincident" else 0.005)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize(("points", "spread"), [(50, 0.0), (500, 0.0), (50, 0.02)])
def test_cells_read_heaps_of_points_without_a_force_of_their_own(
    points: int, spread: float, dim: int, rng: np.random.Generator, device: Any
) -> None:
    """Blending the corners' share of the heap itself would be off by up to a half."""
    n = 3000
    y = np.repeat(rng.normal(size=(n // points, dim)) * 10, points, axis=0)
    y = (y + rng.normal(size=y.shape) * spread).astype(np.float32)
    repulsion = evaluated(y, device, theta=0.5, cell_size=0.4, target="cells")
    rms, p99, s_error = errors(repulsion, y, np.arange(n))
    print(
        f"{dim}D, {points} at {spread}: rms {rms:.4f}, p99 {p99:.3f}, S {s_error:.1e}"
    )
    assert rms < 0.025
    assert s_error < 2e-3


@pytest.mark.parametrize("dim", [2, 3])
def test_error_falls_with_theta_at_second_order(
    dim: int, rng: np.random.Generator, device: Any
) -> None:
    y = scene("clustered", dim, 8000, rng)
    rows = rng.choice(len(y), 1500, replace=False)
    thetas = np.array([0.2, 0.3, 0.45, 0.65])
    found = [
        errors(evaluated(y, device, theta=t, target="points"), y, rows)[0]
        for t in thetas
    ]
    slope = np.polyfit(np.log(thetas), np.log(found), 1)[0]
    print(f"{dim}D: errors {np.round(found, 5)}, slope {slope:.2f}")
    assert slope >= 1.7


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("target", ["points", "cells"])
def test_a_queue_of_one_percent_grows_and_changes_nothing(
    target: str, dim: int, rng: np.random.Generator, device: Any
) -> None:
    y = scene("clustered", dim, 6000, rng)
    whole = evaluated(y, device, target=target)
    asked = int(whole.status[QUEUE])
    small = evaluated(y, device, queue_room=max(16, asked // 100), target=target)
    print(f"{dim}D {target}: asked for {asked} entries, grown {small.regrown} times")
    assert small.regrown >= 1
    assert int(small.status[HALT]) == 0
    assert np.array_equal(small.result.to_numpy(), whole.result.to_numpy())


def test_too_few_nodes_grow_and_change_nothing(
    rng: np.random.Generator, device: Any
) -> None:
    y = scene("clustered", 3, 4000, rng)
    whole = evaluated(y, device)
    from napari_embed.kernels.repulsion import Accuracy, Repulsion

    for levels in (0, 3):
        small = Repulsion(len(y), 3, device, Accuracy(), levels=levels)
        small.tree.reserve_nodes(8)
        positions = on_device(y)
        small.rebuild(positions)
        small.evaluate(positions)
        assert small.regrown >= 1
        assert int(small.tree.meta[NODES]) == int(whole.tree.meta[NODES])
        found, wanted = small.result.to_numpy(), whole.result.to_numpy()
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error == 0 if levels == 0 else error < 1e-6


def test_refit_keeps_the_accuracy_of_a_rebuild(
    rng: np.random.Generator, device: Any
) -> None:
    y = scene("clustered", 2, 6000, rng)
    rows = np.arange(0, len(y), 5)
    moved = (y + rng.normal(size=y.shape) * 0.3).astype(np.float32)
    fresh = evaluated(moved, device, theta=0.5)
    refitted = evaluated(y, device, theta=0.5)
    refitted.evaluate(on_device(moved))
    a, b = errors(fresh, moved, rows), errors(refitted, moved, rows)
    print(f"rebuilt: rms {a[0]:.4f}; refitted: rms {b[0]:.4f}")
    assert b[0] < 0.02
    assert b[2] < 0.005


@pytest.mark.parametrize("target", ["points", "cells"])
@pytest.mark.parametrize("dim", [2, 3])
def test_both_ways_of_going_parallel_agree(
    dim: int, target: str, rng: np.random.Generator, device: Any
) -> None:
    """A GPU works by levels and targets, a CPU by subtrees and buckets."""
    from napari_embed.kernels.repulsion import Accuracy, Repulsion

    y = scene("coincident", dim, 4000, rng) + rng.normal(size=(4000, dim)).astype("f4")
    as_cpu = evaluated(y, device, target=target)
    # With one level most of the work is left to the subtrees below them.
    for levels in (1, 3):
        as_gpu = Repulsion(len(y), dim, device, Accuracy(target=target), levels=levels)
        positions = on_device(y)
        as_gpu.rebuild(positions)
        as_gpu.evaluate(positions)
        one, other = as_cpu.result.to_numpy(), as_gpu.result.to_numpy()
        error = np.linalg.norm(one - other) / np.linalg.norm(one)
        print(f"{dim}D {target}: {as_gpu.interactions()}, difference {error:.1e}")
        assert as_cpu.interactions() == as_gpu.interactions()
        assert error < 1e-6
        assert float(as_gpu.z[CHUNKS]) == pytest.approx(
            float(as_cpu.z[CHUNKS]), rel=1e-6
        )


def test_cells_win_where_they_are_few_and_points_where_they_are_many(
    rng: np.random.Generator, device: Any
) -> None:
    from napari_embed.kernels.repulsion import Accuracy, Repulsion

    repulsion = Repulsion(20_000, 2, device, Accuracy())
    chosen = []
    for width in (1.0, 200.0, 5e4, 1.0):
        positions = on_device(rng.uniform(-width, width, (20_000, 2)))
        repulsion.rebuild(positions)
        repulsion.consider_cells(positions)
        chosen.append(repulsion.cells_on)
    assert chosen == [True, False, False, True]


def test_a_field_that_outgrows_its_arrays_grows(
    rng: np.random.Generator, device: Any
) -> None:
    y = scene("uniform", 3, 3000, rng)
    repulsion = evaluated(y, device, target="cells", cell_size=0.3)
    rms, _, _ = errors(repulsion, y, np.arange(0, len(y), 3))
    print(f"rms {rms:.4f}, grown {repulsion.regrown} times")
    assert repulsion.cells_on
    assert repulsion.regrown >= 1
    assert rms < 0.025


CHECKED_RUN = """
import itertools
import numpy as np
from napari_embed.kernels import runtime
device = runtime.start("cpu", threads=2, debug=True)
from napari_embed.kernels.repulsion import Accuracy, Repulsion
from napari_embed.kernels.minimizer import Minimizer, StepSettings
from napari_embed.kernels import layout
rng = np.random.default_rng({seed})
# With 3 levels, the form of the kernels for a GPU, on the CPU.
for levels, dim, target in itertools.product((0, 3), (2, 3), ("points", "cells")):
        layout.parallel_levels = lambda *_: levels
        y = np.concatenate([rng.normal(size=(600, dim)) * 5, np.full((1, dim), 1e4),
                            np.zeros((100, dim))]).astype(np.float32)
        if target == "cells":
            y = np.clip(y, -20, 20)
        n = len(y)
        columns = rng.integers(0, n, (n, 5)).astype(np.int32)
        m = Minimizer(np.arange(0, 5 * n + 1, 5, dtype=np.int64), columns.ravel(),
                      np.full(5 * n, 1 / (5 * n), np.float32), y, device=device,
                      accuracy=Accuracy(target=target))
        for i in range(4):
            assert m.prepare(rebuild=True, renumber=i % 2 == 0, choose=i % 2 == 0)
            m.step(StepSettings(exaggeration=1.0, rate=200.0, momentum=0.5))
        assert m.settle() and m.steps_done == 4
        assert m.repulsion.cells_on == (target == "cells")
        assert np.isfinite(m.positions()).all() and np.isfinite(m.divergence())
print("within bounds")
"""


def test_kernels_stay_within_their_arrays(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECKED_RUN.format(seed=seed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "within bounds" in done.stdout, f"seed {seed}\n{done.stdout}\n{done.stderr}"


def test_another_taichi_program_is_left_alone() -> None:
    code = (
        "import taichi as ti\n"
        "ti.init(ti.cpu)\n"
        "field = ti.field(ti.f32, 3); field.fill(7)\n"
        "from napari_embed.kernels import runtime\n"
        "from napari_embed.errors import ComputeError\n"
        "try:\n    runtime.start('cpu')\n"
        "except ComputeError as error:\n    print('refused:', error)\n"
        "print('still', field[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "refused: Another Taichi program is live" in done.stdout, done.stderr
    assert "still 7.0" in done.stdout


def test_starting_writes_nothing_to_stdout() -> None:
    code = "from napari_embed.kernels import runtime; runtime.start('cpu')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
