"""Points that no other hides, against a loop over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.gui.points import EmbeddingPoints, geometry
from napari_embed.gui.points.front import front_ids, front_mask

pytestmark = pytest.mark.gui


def brute_force(xyz, matrix, cell, pickable) -> list[int]:
    """Return the nearest point of each cell, one point after the other."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for item, row in enumerate(xyz.astype(np.float64)):
        if not pickable[item]:
            continue
        x, y, depth = (v[0] for v in geometry.project(row[None], matrix))
        if not np.isfinite([x, y, depth]).all():
            continue
        key = (int(np.floor(x / cell)), int(np.floor(y / cell)))
        best[key] = min(best.get(key, (np.inf, -1)), (depth, item))
    return sorted(item for _, item in best.values())


def view(rng, *, perspective: bool) -> np.ndarray:
    """Return a matrix that turns, scales to about 100 pixels and moves."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = turn * [40, 40, 0.1]
    matrix[3] = [60, 50, 0, 1]
    if perspective:
        matrix[:3, 3] = rng.normal(size=3) * 0.08
    return matrix


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("cell", [1.0, 2.7, 8.0])
def test_only_the_nearest_of_a_cell_counts(rng, perspective, cell) -> None:
    for _ in range(5):
        xyz = rng.normal(size=(1500, 3)).astype(np.float32)
        xyz[rng.integers(0, 1500, 20)] = np.nan
        xyz[rng.integers(0, 1500, 3), 0] = np.inf
        pickable = rng.random(1500) < 0.8
        matrix = view(rng, perspective=perspective)
        expected = brute_force(xyz, matrix, cell, pickable)
        found = front_ids(xyz, matrix, cell=cell, pickable=pickable)
        assert found.tolist() == expected
        assert 0 < len(expected) < pickable.sum()


def test_points_outside_the_outline_hide_those_inside(rng) -> None:
    xyz = rng.normal(size=(4000, 3)).astype(np.float32)
    matrix = view(rng, perspective=False)
    inside = rng.random(4000) < 0.3
    everyone = np.ones(4000, bool)
    expected = [i for i in brute_force(xyz, matrix, 4.0, everyone) if inside[i]]
    mask = front_mask(xyz, matrix, cell=4.0, inside=inside)
    assert np.flatnonzero(mask).tolist() == expected
    assert 0 < len(expected) < inside.sum()


def test_of_equally_near_points_the_first_counts() -> None:
    xyz = np.zeros((5, 3), np.float32)
    xyz[0] = (0, 0, 1)
    found = front_ids(xyz, np.eye(4), cell=2.0)
    assert found.tolist() == [1]


def test_points_in_the_way_of_nobody_are_all_kept(rng) -> None:
    x, y = np.meshgrid(np.arange(30), np.arange(20))
    xyz = np.stack([x.ravel(), y.ravel(), rng.normal(size=600)], 1).astype(np.float32)
    matrix = np.diag([4.0, 4.0, 1.0, 1.0])
    assert front_ids(xyz, matrix, cell=4.0).tolist() == list(range(600))


def test_nothing_asked_for_and_far_away(rng) -> None:
    xyz = rng.normal(size=(50, 3)).astype(np.float32)
    nobody = np.zeros(50, bool)
    assert front_ids(xyz, np.eye(4), inside=nobody).size == 0
    assert front_ids(xyz, np.eye(4), pickable=nobody).size == 0
    assert front_ids(np.zeros((0, 3), np.float32), np.eye(4)).size == 0
    assert front_ids(np.full((3, 3), np.nan, np.float32), np.eye(4)).size == 0
    matrix = np.diag([1e6, 1e6, 1.0, 1.0])  # a map thousands of screens wide
    expected = brute_force(xyz, matrix, 2.0, np.ones(50, bool))
    assert front_ids(xyz, matrix, cell=2.0).tolist() == expected
    asked = rng.random(50) < 0.5
    expected = [item for item in expected if asked[item]]
    assert front_ids(xyz, matrix, cell=2.0, inside=asked).tolist() == expected


@pytest.mark.parametrize("how", ["box", "lasso"])
def test_box_and_lasso_take_only_what_is_seen(rng, how) -> None:
    xyz = rng.normal(size=(3000, 3)).astype(np.float32)
    layer = EmbeddingPoints(xyz)
    shown = rng.random(3000) < 0.9
    layer.set_visible(shown)
    matrix = view(rng, perspective=False)
    corner, opposite = (30.0, 20.0), (90.0, 80.0)

    def select() -> np.ndarray:
        if how == "box":
            layer.select_box(corner, opposite, matrix=matrix)
        else:
            outline = [corner, (90.0, 20.0), opposite, (30.0, 80.0)]
            layer.select_lasso(outline, matrix=matrix)
        return layer.mask.copy()

    through = select()
    layer.front_only = True
    seen = select()
    front = brute_force(xyz, matrix, layer.front_cell, shown)
    np.testing.assert_array_equal(
        np.flatnonzero(seen), [item for item in front if through[item]]
    )
    assert 0 < seen.sum() < through.sum()
