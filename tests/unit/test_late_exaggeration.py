"""Late exaggeration: when it acts, what it does, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError
from napari_embed.params import ProjectionParams
from napari_embed.tsne import TSNE, affinities, initial_positions, neighbor_graph
from napari_embed.tsne.optimizer import IterationReport, optimize
from napari_embed.tsne.reference import exact_kl, exact_optimize
from napari_embed.tsne.schedule import Schedule

LATE = {"late_exaggeration": 4.0, "late_exaggeration_iter": 80}


def params(**settings) -> ProjectionParams:
    both = {"n_components": 2, "max_iter": 260, "early_exaggeration_iter": 100}
    return ProjectionParams(**(both | settings))


def problem(rng, n: int = 400):
    labels = rng.integers(0, 6, n)
    x = 5 * rng.standard_normal((6, 10))[labels] + rng.standard_normal((n, 10))
    p = affinities(neighbor_graph(x, n_neighbors=45), perplexity=15)
    return x, p, initial_positions(x, n, n_components=2), labels


def spread_within(y: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance that lies inside the groups."""
    inside = sum(
        ((y[labels == c] - np.median(y[labels == c], axis=0)) ** 2).sum()
        for c in np.unique(labels)
    )
    return float(inside / ((y - y.mean(axis=0)) ** 2).sum())


def test_schedule() -> None:
    schedule = Schedule.of(params(**LATE), 12_000)
    factors = [schedule.exaggeration_at(i) for i in range(260)]
    assert factors == [12.0] * 100 + [1.0] * 80 + [4.0] * 80
    assert schedule.rate_at(0) == 1000
    assert schedule.rate_at(150) == 12_000
    assert schedule.rate_at(259) == 3000
    assert schedule.momentum_at(259) == 0.8
    assert not schedule.exaggerates_at(259)
    assert not schedule.stalled([(200, 1.0), (250, 1.5)])
    # Off by default, and by a length of 0; the early one goes first where both meet.
    for off in ({}, {"late_exaggeration_iter": 0, "late_exaggeration": 4.0}):
        schedule = Schedule.of(params(**off), 12_000)
        assert schedule.exaggeration_at(259) == 1.0
        assert schedule.stalled([(200, 1.0), (250, 1.5)])
    schedule = Schedule.of(
        params(late_exaggeration=4.0, late_exaggeration_iter=1000), 12_000
    )
    assert schedule.exaggeration_at(99) == 12.0
    assert schedule.exaggeration_at(100) == 4.0


def test_groups_draw_together_and_kl_stays_that_of_p(rng) -> None:
    x, p, start, labels = problem(rng)
    before = p.values.tobytes(), p.indices.tobytes(), p.indptr.tobytes()
    seen: list[float] = []

    def follow(report: IterationReport) -> None:
        seen.append(report.exaggeration)

    plain = optimize(p, start, params(early_stop=False), device="cpu")
    late = optimize(
        p, start, params(**LATE), device="cpu", callback=follow, callback_every=10
    )
    assert (p.values.tobytes(), p.indices.tobytes(), p.indptr.tobytes()) == before
    assert set(seen) == {12.0, 1.0, 4.0}
    assert late.n_iter == 260
    # The same until it sets in, then KL of the true P rises while groups tighten.
    traces = [dict(map(tuple, r.info["kl_trace"])) for r in (plain, late)]
    assert traces[0][150] == traces[1][150]
    exact = exact_kl(p, late.positions)
    print(f"KL {late.kl_divergence:.4f}, exact {exact:.4f}, plain {traces[0][260]:.4f}")
    assert late.kl_divergence == pytest.approx(exact, abs=0.02)
    assert late.kl_divergence > plain.kl_divergence
    assert spread_within(late.positions, labels) < spread_within(
        plain.positions, labels
    )
    model = TSNE(
        perplexity=15, max_iter=260, early_exaggeration_iter=100, init=start,
        device="cpu", random_state=0, **LATE,
    ).fit(x)  # fmt: skip
    assert model.kl_divergence_ == pytest.approx(
        exact_kl(p, model.embedding_), abs=0.02
    )
    assert model.kl_divergence_ == pytest.approx(late.kl_divergence, rel=0.05)


def test_against_exact_gradients(rng) -> None:
    _, p, start, _ = problem(rng, 250)
    settings = params(**LATE)
    ours = optimize(p, start, settings, device="cpu")
    exact = exact_optimize(p, start, settings)
    ours_kl = exact_kl(p, ours.positions)
    print(f"KL {ours_kl:.4f}, exact optimiser {exact.kl_divergence:.4f}")
    assert ours_kl == pytest.approx(exact.kl_divergence, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"late_exaggeration": 0.5},
        {"late_exaggeration": float("nan")},
        {"late_exaggeration": float("inf")},
        {"late_exaggeration_iter": -1},
    ],
)
def test_wrong_settings(rng, wrong) -> None:
    with pytest.raises(InputError, match="late_exaggeration"):
        TSNE(**wrong).fit(rng.standard_normal((20, 3)))
