"""What an iteration asks of the host: few calls, no reads, and room made in time.

A GPU runs what it is given while Python goes on. Reading anything back waits for it,
so that is seen here by wrapping all ways to read an array, on the CPU: in the form of
the kernels for a CPU and in the one for a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_embed.arrays import Affinities
from napari_embed.kernels import layout, runtime
from napari_embed.params import ProjectionParams
from napari_embed.tsne.optimizer import optimize

MOST_CALLS = 6
CASES = [(dim, target) for dim in (2, 3) for target in ("points", "cells")]
FORMS = pytest.mark.parametrize("levels", [0, 3], ids=["cpu form", "gpu form"])


@pytest.fixture(autouse=True)
def device() -> Any:
    return runtime.start("cpu")


@pytest.fixture
def form(levels: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Take the form of the kernels for a CPU (0 levels) or for a GPU."""
    monkeypatch.setattr(layout, "parallel_levels", lambda *_: levels)
    return levels


def problem(
    rng: np.random.Generator, n: int, dim: int
) -> tuple[Affinities, np.ndarray]:
    """A ring of points in which every one is tied to some others nearby."""
    reach = np.arange(1, 13)
    near = (np.arange(n)[:, None] + np.concatenate([-reach, reach])) % n
    joint = Affinities(
        np.arange(0, 24 * n + 1, 24, dtype=np.int64),
        np.sort(near, axis=1).ravel().astype(np.int32),
        np.full(24 * n, 1 / (24 * n), np.float32),
    )
    return joint, (rng.normal(size=(n, dim)) * 1e-4).astype(np.float32)


class _Reads(TorchDispatchMode):
    """Notes torch operations; those that copy a value to the host as reads."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        read = func is torch.ops.aten._local_scalar_dense.default or (
            kwargs.get("device") == torch.device("cpu")
        )
        self.names.append(f"{'read' if read else 'torch'} {func}")
        return func(*args, **kwargs)


@contextlib.contextmanager
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect calls of kernels, torch operations, reads and new arrays, in order."""

    def watch(owner: Any, name: str, what: str = "read") -> None:
        plain = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            names.append(f"{what} {owner.__name__}.{name}")
            return plain(*args, **kwargs)

        patch.setattr(owner, name, watched)

    ndarray = runtime.ti.lang._ndarray.ScalarNdarray
    with (
        monkeypatch.context() as patch,
        runtime.called_kernels() as names,
        _Reads(names),
    ):
        for name in ("to_numpy", "__getitem__"):
            watch(ndarray, name)
        for name in ("numpy", "tolist", "cpu", "__array__"):
            watch(torch.Tensor, name)
        watch(runtime.ti, "sync")
        watch(runtime.ti, "ndarray", "made")
        yield names


def iterations(names: list[str]) -> list[list[str]]:
    """Cut what was noted at each gradient step."""
    found: list[list[str]] = [[]]
    for name in names:
        found[-1].append(name)
        if name == "step":
            found.append([])
    return found[:-1]


@FORMS
@pytest.mark.parametrize(("dim", "target"), CASES)
def test_an_iteration_makes_few_calls_and_reads_nothing(
    dim: int,
    target: str,
    form: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joint, start = problem(rng, 1500, dim)
    params = ProjectionParams(n_components=dim, target=target, early_stop=False)
    with noted(monkeypatch) as names:
        result = optimize(joint, start, replaced(params, max_iter=100), device="cpu")
    assert result.info["target"] == target
    steps = iterations(names)
    assert len(steps) == 100
    calls = [
        [c for c in s if not c.startswith(("torch", "read", "made"))] for s in steps
    ]
    made = [i for i, s in enumerate(steps) if any(c.startswith("made") for c in s)]
    torches = [[c for c in s if c.startswith("torch")] for s in steps]
    reads = [[c for c in s if c.startswith("read")] for s in steps]
    plain = [i for i in range(1, 100) if i % 5]
    rebuilt = [i for i in range(1, 100) if i % 5 == 0 and i % 25]
    chosen = [i for i in range(1, 100) if i % 25 == 0]
    for kind, which in (("plain", plain), ("rebuilt", rebuilt), ("chosen", chosen)):
        print(
            f"{dim}D {target} {kind}: {max(len(calls[i]) for i in which)} calls, "
            f"{max(len(torches[i]) for i in which)} torch operations, "
            f"{max(len(reads[i]) for i in which)} reads"
        )
    print(calls[plain[0]], calls[rebuilt[0]], torches[rebuilt[0]])
    for i in plain + rebuilt:
        assert len(calls[i]) <= MOST_CALLS, calls[i]
    for i in plain:
        assert not torches[i]
        assert not reads[i]
    for i in rebuilt:
        if form:
            assert [name.split(".")[1] for name in torches[i]] == ["sort"]
            assert not reads[i]
        else:  # NumPy sorts where the keys are in host memory anyway.
            assert set(reads[i]) <= {"read Tensor.numpy", "read Tensor.__array__"}
    # Memory is sized before the first step; only the cells' may grow, where the host
    # looks at them.
    print(f"{dim}D {target}: new arrays before steps {made}")
    assert made[0] == 0
    assert set(made[1:]) <= (set(chosen) if target == "cells" else set())
    # Where host and device do meet, it is seen: the test would notice it elsewhere.
    assert all(reads[i] for i in chosen if target == "cells" or i % 50 == 0)


def replaced(params: ProjectionParams, **changes: Any) -> ProjectionParams:
    from dataclasses import replace

    return replace(params, **changes)


@pytest.mark.parametrize(
    "read",
    [
        lambda m: float(m.repulsion.z[0]),
        lambda m: m.positions(),
        lambda m: m.repulsion.status.to_numpy(),
        lambda m: m.repulsion.permutation.cpu(),
        lambda m: int(m.repulsion.permutation[3]),
        lambda m: bool((m.repulsion.permutation > 3).any()),
        lambda m: m.repulsion.permutation.tolist(),
        lambda m: np.asarray(m.repulsion.permutation),
    ],
)
def test_a_read_is_noticed(
    read: Callable[[Any], Any],
    device: Any,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minimizer = minimizer_of(*problem(rng, 300, 2), device)
    with noted(monkeypatch) as names:
        read(minimizer)
    assert any(name.startswith("read") for name in names), names


def minimizer_of(joint: Affinities, start: np.ndarray, device: Any, **kw: Any) -> Any:
    from napari_embed.kernels.minimizer import Minimizer
    from napari_embed.kernels.repulsion import Accuracy

    return Minimizer(
        joint.indptr, joint.indices, joint.values, start, device=device,
        accuracy=Accuracy(target="points"), **kw,
    )  # fmt: skip


@FORMS
def test_nothing_moves_once_room_ran_out(
    form: int, device: Any, rng: np.random.Generator
) -> None:
    from napari_embed.kernels.minimizer import StepSettings

    joint, start = problem(rng, 3000, 2)
    start = (start * 1e5).astype(np.float32)
    minimizer = minimizer_of(joint, start, device, queue_room=16)
    settings = StepSettings(exaggeration=1.0, rate=200.0, momentum=0.5)
    for i in range(7):
        minimizer.prepare(rebuild=i % 3 == 0)
        minimizer.step(settings)
    assert np.array_equal(minimizer.positions(), start)
    state = minimizer.state()
    assert not minimizer.settle()
    assert minimizer.steps_done == 0
    assert np.array_equal(state["built_from"], start)
    assert not state["motion"][:, :2].any()
    while not minimizer.settle() or minimizer.steps_done < 3:
        minimizer.prepare()
        minimizer.step(settings)
    assert minimizer.steps_done == 3
    assert not np.array_equal(minimizer.positions(), start)


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make every array that can grow far too small; collect the owners."""
    from napari_embed.kernels import minimizer, repulsion

    made: list[Any] = []

    class Cramped(repulsion.Repulsion):
        def __init__(self, n: int, *args: Any, **kwargs: Any) -> None:
            # About 2 entries per point are asked for in 2D, 6 in 3D.
            kwargs["queue_room"] = n // 50
            super().__init__(n, *args, **kwargs)
            self.tree.reserve_nodes(8)
            made.append(self)

    class CrampedField(repulsion._Field):
        def __init__(self, dim: int, room: int) -> None:
            super().__init__(dim, 64)
            self.tree.reserve_nodes(8)

    monkeypatch.setattr(minimizer, "Repulsion", Cramped)
    monkeypatch.setattr(repulsion, "_Field", CrampedField)
    return made


RUNS = [(dim, {"target": target}) for dim in (2, 3) for target in ("auto", "cells")] + [
    (2, {"preset": "paper"})
]


@FORMS
@pytest.mark.parametrize(("dim", "settings"), RUNS)
def test_too_little_room_changes_no_bit(
    dim: int,
    settings: dict[str, str],
    form: int,
    rng: np.random.Generator,
    request: pytest.FixtureRequest,
) -> None:
    """Wherever it runs out, and however long the host takes to look."""
    joint, start = problem(rng, 1000, dim)
    params = ProjectionParams(
        n_components=dim, max_iter=90, early_exaggeration_iter=30, early_stop=False,
        **settings,
    )  # fmt: skip
    whole = optimize(joint, start, params, device="cpu")
    made = request.getfixturevalue("cramped")
    seen: list[int] = []
    for every in (None, 1, 7):
        callback = None if every is None else lambda r: seen.append(r.iteration)
        tight = optimize(
            joint, start, params, device="cpu", callback=callback,
            callback_every=every or 1,
        )  # fmt: skip
        print(f"{dim}D {settings}, looked at every {every}: {made[-1].regrown} times")
        assert made[-1].regrown >= 1
        assert np.array_equal(tight.positions, whole.positions)
        assert tight.info["kl_trace"] == whole.info["kl_trace"]
        assert tight.n_iter == 90
    # No iteration is reported twice in a run.
    first = seen[: seen.index(90) + 1]
    assert first == sorted(set(first))


@pytest.mark.parametrize(("dim", "target"), CASES)
def test_both_forms_lead_to_maps_as_good(
    dim: int, target: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint, start = problem(rng, 1500, dim)
    params = ProjectionParams(
        n_components=dim, target=target, max_iter=300, early_stop=False
    )
    found = []
    for levels in (0, 3):
        monkeypatch.setattr(layout, "parallel_levels", lambda *_, k=levels: k)
        found.append(optimize(joint, start, params, device="cpu").kl_divergence)
    print(f"{dim}D {target}: KL {found}")
    assert found[1] == pytest.approx(found[0], rel=0.02)
