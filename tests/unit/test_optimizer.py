from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from napari_embed.arrays import Affinities
from napari_embed.errors import InputError, JobCancelled, NumericalError
from napari_embed.params import ProjectionParams
from napari_embed.tsne import affinities, initial_positions, neighbor_graph
from napari_embed.tsne.metrics import knn_label_agreement
from napari_embed.tsne.optimizer import IterationReport, OptimizerState, optimize
from napari_embed.tsne.reference import exact_kl, exact_optimize
from napari_embed.tsne.schedule import Schedule


def problem(
    rng: np.random.Generator, n: int, dim: int
) -> tuple[Affinities, np.ndarray, np.ndarray]:
    centres = rng.normal(size=(8, 20)) * 8
    labels = rng.integers(0, 8, n)
    vectors = (centres[labels] + rng.normal(size=(n, 20))).astype(np.float32)
    joint = affinities(neighbor_graph(vectors, n_neighbors=60), perplexity=20.0)
    return joint, initial_positions(vectors, n, n_components=dim), labels


def ring(n: int, reach: int = 3) -> Affinities:
    """Points on a circle, each tied to its ``reach`` neighbors on both sides."""
    rows = [
        sorted({(i + s) % n for s in range(-reach, reach + 1)} - {i}) for i in range(n)
    ]
    columns = np.array([j for row in rows for j in row], np.int32)
    return Affinities(
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        columns,
        np.full(columns.size, 1 / max(1, columns.size), np.float32),
    )


def run(joint: Affinities, start: np.ndarray, **kw: Any) -> Any:
    extra = {
        name: kw.pop(name)
        for name in ("callback", "callback_every", "checkpoint", "pinned")
        if name in kw
    }
    params = ProjectionParams(n_components=start.shape[1], **kw)
    return optimize(joint, start, params, device="cpu", **extra)


@pytest.mark.parametrize("dim", [2, 3])
def test_clusters_come_apart_and_kl_falls(rng: np.random.Generator, dim: int) -> None:
    joint, start, labels = problem(rng, 1500, dim)
    result = run(joint, start, max_iter=500, early_stop=False)
    trace = [kl for iteration, kl in result.info["kl_trace"] if iteration > 300]
    agreement = knn_label_agreement(result.positions, labels)
    true_kl = exact_kl(joint, result.positions)
    print(f"{dim}D: KL {trace}, exact {true_kl:.4f}, agreement {agreement:.3f}")
    assert trace == sorted(trace, reverse=True)
    assert agreement > 0.95
    assert result.kl_divergence == pytest.approx(true_kl, abs=0.005)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_map_is_as_good_as_the_exact_optimisers(
    rng: np.random.Generator, dim: int
) -> None:
    joint, start, _ = problem(rng, 600, dim)
    params = ProjectionParams(n_components=dim, max_iter=400, early_stop=False)
    ours = exact_kl(joint, optimize(joint, start, params, device="cpu").positions)
    exact = exact_optimize(joint, start, params)
    theirs = exact_kl(joint, exact.positions)
    print(f"{dim}D: KL {ours:.4f}, exact optimiser {theirs:.4f}")
    assert ours < theirs * 1.02


def test_same_input_gives_the_same_bits(rng: np.random.Generator) -> None:
    joint, start, _ = problem(rng, 1200, 3)
    first = run(joint, start, max_iter=120)
    second = run(joint, start, max_iter=120)
    assert np.array_equal(first.positions, second.positions)


@pytest.mark.parametrize(("at", "dim"), [(50, 2), (87, 2), (87, 3)])
def test_resuming_gives_the_bits_of_an_unbroken_run(
    rng: np.random.Generator, at: int, dim: int
) -> None:
    joint, start, _ = problem(rng, 1200, dim)
    saved = io.BytesIO()

    def stop(report: IterationReport) -> bool:
        if report.iteration == at and not saved.getbuffer().nbytes:
            np.savez(saved, **report.snapshot().to_arrays())
        return report.iteration >= at

    whole = run(joint, start, max_iter=170, early_exaggeration_iter=70)
    broken = run(
        joint, start, max_iter=170, early_exaggeration_iter=70, callback=stop,
        callback_every=1,
    )  # fmt: skip
    assert broken.n_iter == at
    saved.seek(0)
    with np.load(saved, allow_pickle=False) as arrays:
        state = OptimizerState.from_arrays(dict(arrays))
    resumed = run(
        joint, start, max_iter=170, early_exaggeration_iter=70, checkpoint=state
    )
    assert resumed.n_iter == whole.n_iter == 170
    assert np.array_equal(resumed.positions, whole.positions)
    assert resumed.info["kl_trace"] == whole.info["kl_trace"]


@pytest.mark.parametrize("at", [1, 30])
def test_a_callback_may_end_the_run(at: int, rng: np.random.Generator) -> None:
    joint, start, _ = problem(rng, 300, 2)
    result = run(joint, start, callback=lambda r: r.iteration >= at, callback_every=1)
    assert result.n_iter == at
    assert result.info["ended"] == "callback"
    assert np.isfinite(result.kl_divergence)


def test_a_callback_may_raise_and_inputs_stay_as_they_were(
    rng: np.random.Generator,
) -> None:
    joint, start, _ = problem(rng, 500, 2)
    arrays = (joint.indptr, joint.indices, joint.values, start)
    before = [array.copy() for array in arrays]

    def cancel(report: IterationReport) -> None:
        if report.iteration >= 60:
            raise JobCancelled("enough")

    with pytest.raises(JobCancelled, match="enough"):
        run(joint, start, max_iter=200, callback=cancel)
    for array, copy in zip(arrays, before, strict=True):
        assert np.array_equal(array, copy)


def test_reports_come_in_the_callers_order(rng: np.random.Generator) -> None:
    joint, start, labels = problem(rng, 900, 2)
    seen: list[IterationReport] = []
    result = run(joint, start, max_iter=130, callback=lambda r: seen.append(r))
    assert [r.iteration for r in seen] == sorted(r.iteration for r in seen)
    assert {50, 100, 130} <= {r.iteration for r in seen}
    assert all(
        np.isfinite(r.kl_divergence) for r in seen if r.iteration in (50, 100, 130)
    )
    last = seen[-1].positions
    assert last is not None
    assert np.array_equal(last, result.positions)
    assert knn_label_agreement(last, labels) > 0.8
    assert seen[0].exaggeration == 12.0


def test_pinned_points_stay(rng: np.random.Generator) -> None:
    joint, start, _ = problem(rng, 400, 3)
    start = (start * 1e4).astype(np.float32)
    pinned = rng.random(400) < 0.1
    result = run(joint, start, max_iter=80, pinned=pinned)
    assert np.array_equal(result.positions[pinned], start[pinned])
    assert not np.allclose(result.positions[~pinned], start[~pinned])


def test_a_stalled_kl_ends_the_run(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint, start, _ = problem(rng, 300, 2)
    # At the real bar of 1e-4 this takes some thousand iterations.
    monkeypatch.setattr("napari_embed.tsne.schedule._STOP_GAIN", 0.01)
    result = run(joint, start, max_iter=3000, early_exaggeration_iter=100)
    print(f"ended after {result.n_iter} iterations: {result.info['ended']}")
    assert result.n_iter < 3000
    assert "no longer improves" in result.info["ended"]
    longer = Schedule(300, 3000, 12.0, 100, None, early_stop=False)
    assert not longer.stalled([(400, 1.0), (450, 1.0)])


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_very_few_points(n: int, dim: int, rng: np.random.Generator) -> None:
    start = (rng.normal(size=(n, dim)) * 1e-4).astype(np.float32)
    result = run(ring(n), start, max_iter=60, early_exaggeration_iter=20)
    assert result.positions.shape == (n, dim)
    assert np.isfinite(result.positions).all()


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scene", ["identical", "half", "1e4", "1e30"])
def test_nasty_starts(scene: str, dim: int, rng: np.random.Generator) -> None:
    n = 800
    start = rng.normal(size=(n, dim))
    if scene == "identical":
        start[:] = 3.0
    elif scene == "half":
        start[: n // 2] = 0.0
    else:
        start[17] = float(scene)
    result = run(
        ring(n, 8),
        start.astype(np.float32),
        max_iter=150,
        early_exaggeration_iter=50,
    )
    assert np.isfinite(result.positions).all()
    assert np.isfinite(result.kl_divergence)
    spread = np.ptp(np.delete(result.positions, 17, axis=0), axis=0)
    assert (spread > 5).all()


def test_bad_input_is_named(rng: np.random.Generator) -> None:
    joint = ring(50)
    start = rng.normal(size=(50, 2)).astype(np.float32)
    with pytest.raises(InputError, match=r"\(50, 3\).*got shape \(50, 2\)"):
        optimize(joint, start, ProjectionParams(n_components=3))
    start[7, 1] = np.nan
    with pytest.raises(InputError, match="rows 7"):
        run(joint, start)
    start[7, 1] = 0.0
    joint.values[3] = -1.0
    with pytest.raises(InputError, match=r"negative \(rows 0\)"):
        run(joint, start)
    joint.values[3] = joint.values[4]
    joint.indices[0] = 50
    with pytest.raises(InputError, match="only items 0 to 49"):
        run(joint, start)


def test_points_beyond_all_forces_are_an_error(rng: np.random.Generator) -> None:
    start = (rng.normal(size=(500, 3)) * 1e9).astype(np.float32)
    with pytest.raises(NumericalError, match="so far apart"):
        run(ring(500), start, max_iter=60)


def test_a_state_of_another_run_is_refused(rng: np.random.Generator) -> None:
    states: list[OptimizerState] = []
    start = rng.normal(size=(60, 2)).astype(np.float32)
    run(
        ring(60), start, max_iter=20,
        callback=lambda r: states.append(r.snapshot()),
    )  # fmt: skip
    with pytest.raises(InputError, match="of 60 items, this run has 50"):
        run(ring(50), start[:50], max_iter=20, checkpoint=states[-1])
    arrays = states[-1].to_arrays()
    del arrays["motion"]
    with pytest.raises(InputError, match="motion missing"):
        OptimizerState.from_arrays(arrays)
