"""The published method (preset "paper"): its parts, and beside the default."""

# Taichi reads annotations as objects, so they stay unquoted here.

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_repulsion import exact, on_device, scene

from napari_embed.arrays import Affinities
from napari_embed.errors import InputError
from napari_embed.kernels import runtime
from napari_embed.kernels.layout import CHUNKS, COUNT
from napari_embed.params import ProjectionParams
from napari_embed.tsne import TSNE, affinities, initial_positions, neighbor_graph
from napari_embed.tsne.optimizer import optimize
from napari_embed.tsne.presets import start_of
from napari_embed.tsne.reference import exact_kl
from napari_embed.tsne.schedule import Schedule


@pytest.fixture(scope="module")
def device() -> Any:
    return runtime.start("cpu")


def paper(dim: int, **kw: Any) -> Any:
    from napari_embed.tsne.presets import accuracy_of

    return accuracy_of(ProjectionParams(n_components=dim, preset="paper", **kw))


def evaluated(
    y: np.ndarray, device: Any, accuracy: Any, *, early: bool = False, levels: int = 0
) -> Any:
    from napari_embed.kernels.repulsion import Repulsion

    repulsion = Repulsion(len(y), y.shape[1], device, accuracy, levels=levels)
    repulsion.set_stage(early=early)
    positions = on_device(y)
    repulsion.rebuild(positions)
    repulsion.consider_cells(positions)
    repulsion.evaluate(positions)
    return repulsion


def cells(repulsion: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the cells, and S and R there."""
    count, dim = int(repulsion.meta[COUNT]), repulsion.dim
    where = repulsion.field.tree.points.to_numpy()[:, :count].T
    return where, repulsion.field.values.to_numpy()[:count, : 1 + dim]


@pytest.mark.parametrize("early", [False, True], ids=["dual", "single"])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", ["clustered", "coincident"])
def test_the_field_is_exact_as_theta_goes_to_zero(
    name: str, dim: int, early: bool, rng: np.random.Generator, device: Any
) -> None:
    """Whatever way a pair goes down both hierarchies, it is counted once."""
    # Half as wide: a grid over the whole scene in 3D may be refused.
    y = scene(name, dim, 1500, rng) / 2
    repulsion = evaluated(y, device, paper(dim, theta=1e-4), early=early)
    assert repulsion.cells_on
    where, found = cells(repulsion)
    some = rng.choice(len(where), min(len(where), 400), replace=False)
    s, r = exact(np.concatenate([where[some], y]), np.arange(len(some)))
    # The cells themselves are no sources.
    s_cells, r_cells = exact(where[some], np.arange(len(some)))
    s, r = s - s_cells, r - r_cells
    s_error = np.abs(found[some, 0] / s - 1).max()
    r_error = np.linalg.norm(found[some, 1:] - r) / np.linalg.norm(r)
    print(f"{name} {dim}D: S {s_error:.1e}, R {r_error:.1e}")
    assert s_error < 1e-5
    assert r_error < 1e-5


@pytest.mark.parametrize("dim", [2, 3])
def test_a_diagonal_is_projected_across_the_line_of_sight(
    dim: int, rng: np.random.Generator, device: Any
) -> None:
    from napari_embed.kernels.layout import columns
    from napari_embed.kernels.published import _projected2

    ti, column, count = runtime.ti, columns(dim), 500
    sides = rng.uniform(0, 3, (count, dim))
    offsets = rng.normal(size=(count, dim)) * rng.uniform(0.1, 10, (count, 1))
    boxes = np.zeros((count, column.width), np.float32)
    boxes[:, column.low : column.low + dim] = rng.normal(size=(count, dim))
    boxes[:, column.high : column.high + dim] = (
        boxes[:, column.low : column.low + dim] + sides
    )
    boxes_on, offsets_on = on_device(boxes), on_device(offsets)
    result = ti.ndarray(ti.f32, shape=count)

    @ti.kernel
    def project(
        boxes_in: ti.types.ndarray(dtype=ti.f32, ndim=2),
        offsets_in: ti.types.ndarray(dtype=ti.f32, ndim=2),
        found: ti.types.ndarray(dtype=ti.f32, ndim=1),
    ):
        for i in range(found.shape[0]):
            offset = ti.Vector.zero(ti.f32, dim)
            distance2 = 0.0
            for k in ti.static(range(dim)):
                offset[k] = offsets_in[i, k]
                distance2 += offset[k] * offset[k]
            found[i] = _projected2(offset, distance2, i, boxes_in, dim)

    project(boxes_on, offsets_on, result)
    sight = np.abs(offsets) / np.linalg.norm(offsets, axis=1, keepdims=True)
    lengths = []
    for axis in range(dim):
        mirrored = sight * np.where(np.arange(dim) == axis, 1, -1)
        along = (sides * mirrored).sum(1, keepdims=True)
        lengths.append(np.linalg.norm(sides - along * mirrored, axis=1))
    assert np.sqrt(np.maximum(result.to_numpy(), 0)) == pytest.approx(
        np.max(lengths, axis=0), abs=3e-3
    )


@pytest.mark.parametrize(("dim", "early"), [(2, False), (3, False), (2, True)])
def test_both_ways_of_going_parallel_agree_as_published(
    dim: int, early: bool, rng: np.random.Generator, device: Any
) -> None:
    y = scene("clustered", dim, 2000, rng)
    one, other = (
        evaluated(y, device, paper(dim), early=early, levels=levels)
        for levels in (0, 3)
    )
    a, b = one.result.to_numpy(), other.result.to_numpy()
    assert one.interactions() == other.interactions()
    assert np.linalg.norm(a - b) / np.linalg.norm(a) < 1e-6
    assert float(one.z[CHUNKS]) == pytest.approx(float(other.z[CHUNKS]), rel=1e-6)


@pytest.mark.parametrize(("dim", "width"), [(2, 70.0), (2, 0.8), (3, 40.0)])
def test_the_grid_is_the_authors(
    dim: int, width: float, rng: np.random.Generator, device: Any
) -> None:
    y = rng.uniform(0, width, (2000, dim)).astype(np.float32)
    repulsion = evaluated(y, device, paper(dim))
    extent = float(np.ptp(y[:, 0]))
    wanted = max(5, int(extent * (2.0 if dim == 2 else 1.2)))
    side = 2 ** int(np.ceil(np.log2(wanted)))
    assert repulsion.cells_on
    assert float(repulsion.field.grid[3]) == pytest.approx(extent / side, rel=1e-4)


def test_a_map_too_wide_for_a_grid_takes_points(
    rng: np.random.Generator, device: Any
) -> None:
    y = scene("1e4", 2, 2000, rng)
    repulsion = evaluated(y, device, paper(2))
    assert not repulsion.cells_on
    _, r = exact(y, np.arange(len(y)))
    found = repulsion.result.to_numpy()
    assert np.linalg.norm(found[:, 1:] - r) / np.linalg.norm(r) < 0.02


def test_the_authors_optimizer() -> None:
    schedule = Schedule.of(ProjectionParams(preset="paper", max_iter=1000), 100_000)
    assert schedule.rate_at(0) == schedule.rate_at(999) == 800
    assert schedule.min_gain == 0.1
    assert schedule.clip > 1e9
    factors = [schedule.exaggeration_at(i) for i in (0, 249, 250, 325, 400, 999)]
    assert factors == [12, 12, 12, 6.5, 1, 1]
    assert [schedule.momentum_at(i) for i in (249, 250)] == [0.5, 0.8]
    assert all(schedule.rebuilds_at(i) for i in range(400))
    assert [i for i in range(400, 411) if schedule.rebuilds_at(i)] == [400, 405, 410]
    given = ProjectionParams(preset="paper", learning_rate=50.0)
    assert Schedule.of(given, 1000).rate_at(0) == 50
    default = Schedule.of(ProjectionParams(), 100_000)
    assert [default.exaggeration_at(i) for i in (249, 250)] == [12, 1]
    assert (default.min_gain, default.clip) == (0.01, 5.0)


def test_the_authors_start() -> None:
    params = ProjectionParams(n_components=2, preset="paper")
    start = initial_positions(None, 5000, n_components=2, **start_of(params))
    assert start.std() == pytest.approx(0.1, rel=0.05)
    assert start_of(replace(params, init="pca"))["init"] == "pca"
    assert start_of(ProjectionParams())["init"] == "pca"


def test_points_as_targets_are_refused() -> None:
    with pytest.raises(InputError, match=r"target .*'paper'.*'points'"):
        ProjectionParams(preset="paper", target="points")


def problem(rng: np.random.Generator, n: int) -> tuple[Affinities, np.ndarray]:
    centres = rng.normal(size=(8, 20)) * 8
    vectors = centres[rng.integers(0, 8, n)] + rng.normal(size=(n, 20))
    vectors = vectors.astype(np.float32)
    graph = neighbor_graph(vectors, n_neighbors=60)
    return affinities(graph, perplexity=20.0), vectors


@pytest.mark.parametrize("dim", [2, 3])
def test_the_published_method_converges(dim: int, rng: np.random.Generator) -> None:
    n = 1000
    joint, vectors = problem(rng, n)
    kl, traces = {}, {}
    for preset in ("default", "paper"):
        params = ProjectionParams(
            n_components=dim, preset=preset, max_iter=650, early_stop=False
        )
        how = start_of(params)
        start = initial_positions(vectors, n, n_components=dim, **how)
        result = optimize(joint, start, params, device="cpu")
        kl[preset] = exact_kl(joint, result.positions)
        traces[preset] = [value for it, value in result.info["kl_trace"] if it >= 400]
    print(f"{dim}D: exact KL {kl}, reported as published {traces['paper']}")
    assert traces["paper"][-1] < traces["paper"][0]
    # Its forces are off by 5 % in 2D and 12 % in 3D, and so is where they lead.
    assert kl["paper"] < 1.2 * kl["default"]


def test_the_estimator_takes_the_preset(rng: np.random.Generator) -> None:
    _, vectors = problem(rng, 300)
    model = TSNE(perplexity=20, preset="paper", max_iter=30, random_state=0)
    assert model.fit_transform(vectors).shape == (300, 2)
    # Thirty iterations from a spread of 0.1; the default starts a thousand times finer.
    assert model.embedding_.std() > 0.01
