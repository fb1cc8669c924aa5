"""Box, lasso and picking against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.gui.points import geometry

IDENTITY = np.eye(4)


def camera(rng: np.random.Generator, *, perspective: bool) -> np.ndarray:
    """A random turn, zoom and shift to a canvas of 800 x 600 pixels."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = turn * rng.uniform(20, 300)
    matrix[:3, 2] = turn[:, 2] * 1e-3
    matrix[3, :2] = rng.uniform(200, 600, 2)
    if perspective:
        matrix[:3, 3] = turn[:, 2] * 0.15
        matrix[3, :2] *= 1.0
    return matrix


def polygon(rng: np.random.Generator) -> np.ndarray:
    """A random outline: star-shaped, wild and self-crossing, or on whole pixels."""
    m = int(rng.integers(3, 120))
    kind = rng.integers(0, 4)
    if kind == 0:
        angle = np.sort(rng.uniform(0, 2 * np.pi, m))
        radius = rng.uniform(20, 250, m)
        return np.c_[400 + radius * np.cos(angle), 300 + radius * np.sin(angle)]
    if kind == 1:
        return np.cumsum(rng.normal(scale=15, size=(m, 2)), axis=0) + np.array(
            [400.0, 300.0]
        )
    if kind == 2:
        return rng.integers(100, 500, size=(min(m, 12), 2)).astype(float)
    x, y = rng.uniform(0, 400, 2)
    w, h = rng.choice([0.0, 0.3, 40.0, 300.0], 2)
    return np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])


def brute_force(xyz: np.ndarray, matrix: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Even-odd rule, every point against every edge, float64."""
    homogeneous = np.c_[xyz.astype(np.float64), np.ones(len(xyz))] @ matrix
    w = homogeneous[:, 3]
    with np.errstate(invalid="ignore"):
        x, y = homogeneous[:, 0] / w, homogeneous[:, 1] / w
    inside = np.zeros(len(xyz), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside & (w > 0)


@pytest.mark.parametrize("perspective", [False, True])
def test_lasso_is_exact(rng, perspective) -> None:
    total = 0
    for _ in range(150):
        xyz = rng.normal(size=(800, 3)).astype(np.float32)
        matrix = camera(rng, perspective=perspective)
        outline = polygon(rng)
        expected = brute_force(xyz, matrix, outline)
        found = geometry.in_polygon(xyz, matrix, outline)
        wrong = np.flatnonzero(found != expected)
        # Rounding may only decide for points on the outline itself.
        assert len(wrong) == 0 or _distance(xyz[wrong], matrix, outline).max() < 1e-9
        total += int(expected.sum())
    assert total > 3_000


def _distance(xyz, matrix, outline) -> np.ndarray:
    x, y, _ = geometry.project(xyz, matrix)
    p = np.c_[x, y][:, None]
    a, b = outline[None], np.roll(outline, -1, 0)[None]
    along = ((p - a) * (b - a)).sum(-1) / np.maximum(((b - a) ** 2).sum(-1), 1e-300)
    nearest = a + np.clip(along, 0, 1)[..., None] * (b - a)
    return np.linalg.norm(p - nearest, axis=-1).min(axis=1)


def test_lasso_in_2d_on_pixel_lattice(rng) -> None:
    """Points and vertices on the same coordinates: the hardest ties."""
    xyz = np.zeros((1500, 3), np.float32)
    xyz[:, :2] = rng.integers(0, 200, size=(1500, 2)) / 2
    for _ in range(100):
        outline = rng.integers(0, 100, size=(int(rng.integers(3, 20)), 2)).astype(float)
        expected = brute_force(xyz, IDENTITY, outline)
        np.testing.assert_array_equal(
            geometry.in_polygon(xyz, IDENTITY, outline), expected
        )


def test_outlines_far_larger_than_a_screen(rng) -> None:
    xyz = (rng.normal(size=(5000, 3)) * 1e6).astype(np.float32)
    for _ in range(5):
        outline = rng.normal(size=(12, 2)) * 1e6
        expected = brute_force(xyz, IDENTITY, outline)
        np.testing.assert_array_equal(
            geometry.in_polygon(xyz, IDENTITY, outline), expected
        )


def test_maps_far_from_the_origin(rng) -> None:
    """A map of a few units at 1e6 loses nothing by projecting in float64."""
    xyz = (rng.normal(size=(5000, 3)) * 3 + 1e6).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3, :3] *= 50
    matrix[3, :2] = 400 - 50e6, 300 - 50e6
    outline = polygon(rng)
    np.testing.assert_array_equal(
        geometry.in_polygon(xyz, matrix, outline), brute_force(xyz, matrix, outline)
    )


@pytest.mark.parametrize("perspective", [False, True])
def test_box_is_exact(rng, perspective) -> None:
    for _ in range(150):
        xyz = rng.normal(size=(800, 3)).astype(np.float32)
        matrix = camera(rng, perspective=perspective)
        a, b = rng.uniform(0, 800, (2, 2))
        homogeneous = np.c_[xyz.astype(np.float64), np.ones(len(xyz))] @ matrix
        at = homogeneous[:, :2] / homogeneous[:, 3:]
        low, high = np.minimum(a, b), np.maximum(a, b)
        expected = ((at >= low) & (at <= high)).all(1) & (homogeneous[:, 3] > 0)
        found = geometry.in_box(xyz, matrix, tuple(a), tuple(b))
        np.testing.assert_array_equal(found, expected)


def test_not_a_number_is_never_inside() -> None:
    xyz = np.array([[1, 1, 0], [np.nan, 1, 0], [1, np.inf, 0]], np.float32)
    square = np.array([(-5, -5), (5, -5), (5, 5), (-5, 5)], float)
    assert geometry.in_polygon(xyz, IDENTITY, square).tolist() == [True, False, False]
    assert geometry.in_box(xyz, IDENTITY, (-9, -9), (9, 9)).tolist() == [
        True,
        False,
        False,
    ]
    assert geometry.nearest(xyz[1:], IDENTITY, (1.0, 1.0)) == -1


@pytest.mark.parametrize("n_vertices", [0, 1, 2])
def test_too_few_vertices_hold_nothing(n_vertices) -> None:
    outline = np.zeros((n_vertices, 2))
    assert not geometry.in_polygon(
        np.zeros((3, 3), np.float32), IDENTITY, outline
    ).any()


def test_empty_map() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert geometry.in_polygon(empty, IDENTITY, [(0, 0), (1, 0), (1, 1)]).shape == (0,)
    assert geometry.nearest(empty, IDENTITY, (0.0, 0.0)) == -1
    assert np.isnan(geometry.row_bounds(empty)).all()


def test_pick_takes_the_front_most_of_those_under_the_cursor(rng) -> None:
    for _ in range(100):
        xyz = rng.uniform(0, 60, size=(400, 3)).astype(np.float32)
        cursor = rng.uniform(0, 60, 2)
        pickable = rng.random(400) < 0.7
        distance = np.hypot(*(xyz[:, :2].astype(float) - cursor).T)
        distance[~pickable] = np.inf
        covering = np.flatnonzero(distance <= 2.0)
        if len(covering):
            expected = covering[np.argmin(xyz[covering, 2])]
        else:
            expected = np.argmin(distance)
            expected = -1 if distance[expected] > 5 else expected
        found = geometry.nearest(
            xyz, IDENTITY, tuple(cursor), pickable=pickable, drawn_radius=2.0
        )
        assert found == expected


def test_bounds_match_numpy(rng) -> None:
    for n in (1, 255, 256, 257, 5000):
        xyz = rng.normal(size=(n, 3)).astype(np.float32)
        expected = np.stack([xyz.min(0), xyz.max(0)])
        np.testing.assert_array_equal(geometry.row_bounds(xyz), expected)
        np.testing.assert_array_equal(
            geometry.row_bounds(xyz[:, ::-1]), expected[:, ::-1]
        )
    xyz[17, 1] = np.nan
    assert np.isnan(geometry.row_bounds(xyz)[:, 1]).all()
