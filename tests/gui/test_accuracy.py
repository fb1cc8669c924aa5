"""10,000 random boxes and lassos against a brute-force answer in float64.

The layer is asked as a mouse drag asks it; the brute force projects every point by the
definition of the matrix and tests it against every edge (even-odd rule).
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from napari_embed.gui.points import EmbeddingPoints

pytestmark = pytest.mark.gui

TRIALS = 10_000
TRIALS_PER_MAP = 100
ON_THE_EDGE = 1e-7  # pixels: nearer than this, rounding decides
MODES = ("replace", "add", "subtract", "intersect")


class Eye:
    """What a visual gives to its layer: the matrix from positions to the canvas."""

    drawn_radius = 2.0

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix

    def matrix(self) -> np.ndarray:
        return self._matrix

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


def random_map(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Points in 2D or 3D: clouds, lattices, one place, NaN, far from the origin."""
    n = int(rng.integers(1, 120))
    d = 2 + kind % 2
    if kind % 5 == 0:
        xyz = rng.integers(-3, 4, (n, d)).astype(float)
    elif kind % 5 == 1:
        xyz = np.repeat(rng.normal(size=(1, d)), n, axis=0)
    else:
        xyz = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-4, 4)
    if kind % 7 == 3:
        xyz += rng.normal(size=d) * 1e5
    if kind % 3 == 0:
        xyz[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    return xyz.astype(np.float32)


def random_camera(rng: np.random.Generator, layer: EmbeddingPoints) -> np.ndarray:
    """Return a 4x4 matrix that brings the map to a canvas of 800 x 600 pixels.

    In 2D a shift and zoom on whole or broken pixels; in 3D any turn, and in half of
    the cases a perspective that has points behind the camera.
    """
    bounds = np.nan_to_num(layer.bounds.astype(float))
    middle = bounds.mean(axis=0)
    # Points in one place far out: a camera nearer than their digits sees only rounding.
    least = 1e-6 * float(np.abs(bounds).max()) + 1e-9
    span = max(float(np.ptp(bounds, axis=0).max()), least)
    turn = np.eye(3)
    if not layer.is_2d:
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    scale = 500 / span * 10 ** rng.uniform(-1.5, 1.5)
    if layer.is_2d and rng.random() < 0.3:
        scale = float(max(1, round(scale)))
        middle = np.round(middle)
    matrix = np.eye(4)
    matrix[:3, :3] = turn * scale
    matrix[:3, 2] *= 1e-3
    if not layer.is_2d and rng.random() < 0.5:
        # Points as far as the eye is have w = 0: those behind it are seen nowhere.
        depth = rng.uniform(0.3, 3.0) / span
        matrix[:3, 3] = turn[:, 2] * depth
    shift = np.eye(4)
    shift[3, :3] = -middle
    view = np.eye(4)
    view[3, :2] = np.round(rng.uniform(200, 600, 2))
    return shift @ matrix @ view


def brute_projection(xyz: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return canvas positions (n, 2) in float64, NaN behind the eye."""
    rows = np.column_stack([xyz.astype(np.float64), np.ones(len(xyz))])
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        out = np.stack([(rows * matrix[:, k]).sum(axis=1) for k in (0, 1, 3)], axis=1)
        out[~(out[:, 2] > 0)] = np.nan
        at = out[:, :2] / out[:, 2:]
    at[~np.isfinite(xyz).all(axis=1)] = np.nan
    return at


def brute_polygon(at: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Even-odd rule, each point against each edge."""
    inside = np.zeros(len(at), bool)
    x, y = at.T
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        with np.errstate(invalid="ignore"):
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside & np.isfinite(at).all(axis=1)


def distance_to_outline(at: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Return the distance of points (m, 2) to the nearest edge, in pixels."""
    p, a, b = at[:, None], outline[None], np.roll(outline, -1, axis=0)[None]
    length = np.maximum(((b - a) ** 2).sum(-1), 1e-300)
    along = np.clip(((p - a) * (b - a)).sum(-1) / length, 0, 1)
    return np.linalg.norm(p - (a + along[..., None] * (b - a)), axis=-1).min(axis=1)


def random_outline(rng: np.random.Generator, at: np.ndarray) -> np.ndarray:
    """Return a polygon: round, self-crossing, degenerate, through points, huge."""
    kind, m = rng.integers(0, 8), int(rng.integers(3, 90))
    seen = at[np.isfinite(at).all(axis=1)]
    if kind == 0:
        angle = np.sort(rng.uniform(0, 2 * np.pi, m))
        radius = rng.uniform(20, 300, m)
        return np.c_[400 + radius * np.cos(angle), 300 + radius * np.sin(angle)]
    if kind == 1:
        return np.cumsum(rng.normal((0, 0), 25, (m, 2)), axis=0) + np.array([400, 300])
    if kind == 2:
        return rng.integers(100, 500, (min(m, 12), 2)).astype(float)
    if kind == 3:  # a star that crosses itself
        turn = np.arange(5) * 4 * np.pi / 5
        return np.c_[400 + 250 * np.cos(turn), 300 + 250 * np.sin(turn)]
    if kind == 4 and len(seen) >= 3:  # vertices on points
        near = seen[np.abs(seen).max(axis=1) < 1e6]
        if len(near) >= 3:
            return near[rng.integers(0, len(near), min(m, 10))]
    if kind == 5:  # a line there and back, a single place, or one repeated vertex
        start, end = rng.uniform(100, 500, (2, 2))
        choice = ([start, end], [start] * 4, [start, end, end, start, start])
        return np.array(choice[rng.integers(0, 3)])
    if kind == 6:
        return rng.normal(size=(m, 2)) * 10 ** rng.uniform(3, 5)
    return rng.uniform(-200, 1000, (m, 2))


def combine(now: np.ndarray, given: np.ndarray, how: str) -> np.ndarray:
    results = {
        "replace": given,
        "add": now | given,
        "subtract": now & ~given,
        "intersect": now & given,
    }
    return results[how]


def random_marks(rng: np.random.Generator, layer: EmbeddingPoints) -> np.ndarray:
    """Hide and exclude at random; return the points that may be picked."""
    n = layer.n_items
    hidden = rng.random(n) < rng.choice([0, 0.3, 1.0], p=[0.4, 0.55, 0.05])
    excluded = rng.random(n) < rng.choice([0, 0.2])
    layer.set_visible(~hidden)
    layer.set_excluded(excluded)
    return ~hidden & ~excluded & np.isfinite(layer._xyz).all(axis=1)


def test_boxes_and_lassos_select_exactly_what_is_inside(rng) -> None:
    start = time.process_time()
    counts = {"trials": 0, "selected": 0, "on an edge": 0, "empty": 0}
    for kind in itertools.count():
        if counts["trials"] >= TRIALS:
            break
        layer = EmbeddingPoints(random_map(rng, kind), tell_missing=False)
        for trial in range(TRIALS_PER_MAP):
            if trial % 20 == 0:
                layer._link = Eye(random_camera(rng, layer))
                allowed = random_marks(rng, layer)
                at = brute_projection(layer._xyz, layer._link.matrix())
            one_selection(rng, layer, at, allowed, counts)
    assert counts["trials"] == TRIALS
    assert counts["selected"] > 3 * TRIALS
    assert counts["on an edge"] < TRIALS
    assert counts["empty"] > 100
    print(counts, f"{time.process_time() - start:.0f} s of CPU")


def one_selection(rng, layer, at, allowed, counts) -> None:
    how = MODES[rng.integers(4)]
    before = layer.mask.copy()
    if rng.random() < 0.4:
        corner, opposite = rng.uniform(-100, 900, (2, 2))
        if rng.random() < 0.2:
            corner, opposite = np.round(corner), np.round(opposite)
        low, high = np.minimum(corner, opposite), np.maximum(corner, opposite)
        with np.errstate(invalid="ignore"):
            inside = ((at >= low) & (at <= high)).all(axis=1)
        outline = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        layer.select_box(tuple(corner), tuple(opposite), how=how)
    else:
        outline = random_outline(rng, at)
        inside = brute_polygon(at, outline)
        layer.select_lasso(outline, how=how)
    expected = combine(before, inside & allowed, how)
    counts["trials"] += 1
    counts["selected"] += int(inside.sum())
    counts["empty"] += not inside.any()
    wrong = np.flatnonzero(layer.mask != expected)
    if len(wrong):
        # Rounding may decide for points on the outline itself, and for no others.
        scale = max(1.0, float(np.abs(at[wrong]).max()))
        off = distance_to_outline(at[wrong], outline)
        assert (off < ON_THE_EDGE * scale).all(), (how, outline, at[wrong])
        counts["on an edge"] += len(wrong)
    assert layer.n_selected == np.count_nonzero(layer.mask)
