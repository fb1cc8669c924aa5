"""An unfinished t-SNE is kept in the project, and the next run goes on from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_embed.engine import checkpoint, pipeline
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.errors import CorruptChunkError, InputError, JobCancelled, StoreError
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

N = 240
NAME = "tsne-2d"
KEY = f"checkpoints/{NAME}"
PARAMS = ProjectionParams(
    n_components=2, perplexity=8, max_iter=160, early_exaggeration_iter=60,
    device="cpu", early_stop=False,
)  # fmt: skip


class At(JobControl):
    """Does something when t-SNE has done so many iterations; keeps what is said."""

    def __init__(self, iteration: int = 10**9, do: Callable[[], Any] | None = None):
        self.said: list[str] = []
        self.seen: list[Progress] = []
        super().__init__(self._look, on_log=self.said.append, interval_s=0)
        self._iteration = iteration
        self._do = do or self.cancel

    def _look(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.stage == "t-SNE" and progress.done >= self._iteration:
            self._iteration = 10**9
            self._do()


@pytest.fixture
def project(tmp_path: Path, rng: np.random.Generator) -> Iterator[Project]:
    """A project of vectors in four groups; some rows are no vectors."""
    centres = 6 * rng.standard_normal((4, 10))
    vectors = centres[np.arange(N) % 4] + rng.standard_normal((N, 10))
    vectors[::20] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    path = tmp_path / "a.embed"
    pipeline.run_create(path, detect_source(tmp_path / "v.npy"), JobControl())
    with Project.open(path, mode="a") as opened:
        pipeline.run_embed(opened, EmbedParams(), JobControl())
        yield opened


def run(project: Project, control: JobControl | None = None, **options: Any) -> Any:
    return pipeline.run_projection(
        project, options.pop("params", PARAMS), control or JobControl(), **options
    )


def whole(project: Project) -> np.ndarray:
    """Return the map of a run that nothing interrupts."""
    run(project, name="whole")
    return project.read_projection("whole").positions


def cancel_at(project: Project, iteration: int) -> At:
    control = At(iteration)
    with pytest.raises(JobCancelled):
        run(project, control)
    return control


def files(project: Project) -> list[str]:
    return sorted(p.name for p in (project.path / "checkpoints").glob("*"))


def test_a_cancelled_map_goes_on_and_ends_in_the_same_bits(project: Project) -> None:
    expected = whole(project)
    kept = []
    for iteration in (30, 90):  # in early exaggeration, and after it
        control = cancel_at(project, iteration)
        if kept:
            assert f"Going on from iteration {kept[-1]} of 160." in control.said
        stage = project.stage_info(KEY)
        kept.append(stage.info["iteration"])
        assert iteration <= kept[-1] < iteration + 11
        assert (stage.state, stage.info["max_iter"]) == ("partial", 160)
        assert len(files(project)) == 1
        assert project.verify() == []
    control = At()
    result = run(project, control)
    assert control.said == [f"Going on from iteration {kept[-1]} of 160."]
    messages = [p.message for p in control.seen if p.message]
    assert messages == control.said
    assert min(p.done for p in control.seen if p.stage == "t-SNE") >= kept[-1]
    np.testing.assert_array_equal(project.read_projection(NAME).positions, expected)
    assert result.info["n_iter"] == 160
    assert project.stage_info(KEY).state == "missing"
    assert not (project.path / "checkpoints").exists()


def test_a_map_ended_by_hand_goes_on(project: Project) -> None:
    expected = whole(project)
    control = At(50)
    control._do = control.stop
    assert run(project, control).info["ended"] == "callback"
    kept = project.stage_info(KEY).info["iteration"]
    control = At()
    run(project, control)
    assert control.said == [f"Going on from iteration {kept} of 160."]
    np.testing.assert_array_equal(project.read_projection(NAME).positions, expected)
    assert project.stage_info(KEY).state == "missing"


def test_before_a_pause_the_map_is_kept(project: Project) -> None:
    control = At(40)

    def pause() -> None:
        control.pause()

        def look() -> None:
            end = time.monotonic() + 60
            while not kept() and time.monotonic() < end:
                time.sleep(0.01)
            found.append(kept())
            control.resume()

        threading.Thread(target=look).start()

    def kept() -> list[str]:
        return [name for name in files(project) if not name.endswith(".partial")]

    found: list[list[str]] = []
    control._do = pause
    run(project, control)
    assert len(found) == 1
    assert len(found[0]) == 1
    assert project.stage_info(KEY).state == "missing"


def test_now_and_then_the_map_is_kept_while_it_forms(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(project)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "_MOST_SHARE", 1e9)
    written: list[tuple[int, str]] = []
    write = Project.write_checkpoint

    def watched(self: Project, name: str, arrays: Any, **facts: Any) -> None:
        write(self, name, arrays, **facts)
        written.append((facts["info"]["iteration"], threading.current_thread().name))

    def wait(progress: Progress) -> None:
        """Let the writer keep up with these few points."""
        for thread in threading.enumerate():
            if thread.name == "napari-embed-checkpoint":
                thread.join()

    monkeypatch.setattr(Project, "write_checkpoint", watched)
    run(project, JobControl(wait, interval_s=0))
    assert len(written) >= 10
    assert {thread for _, thread in written} == {"napari-embed-checkpoint"}
    assert written == sorted(written)
    np.testing.assert_array_equal(project.read_projection(NAME).positions, expected)
    assert project.stage_info(KEY).state == "missing"
    alive = [t.name for t in threading.enumerate()]
    assert "napari-embed-checkpoint" not in alive


@pytest.mark.parametrize(
    "changed",
    [
        {"random_state": 1}, {"perplexity": 9.0}, {"max_iter": 200}, {"theta": 0.5},
        {"init": "random"},
    ],
)  # fmt: skip
def test_with_other_settings_it_starts_anew(
    project: Project, changed: dict[str, Any]
) -> None:
    cancel_at(project, 40)
    params = ProjectionParams(**{**PARAMS.to_dict(), **changed})
    control = At()
    run(project, control, params=params)
    assert any("It starts anew." in text for text in control.said)
    assert not any("Going on" in text for text in control.said)
    assert files(project) == []
    run(project, params=params, name="whole")
    np.testing.assert_array_equal(
        project.read_projection(NAME).positions,
        project.read_projection("whole").positions,
    )


def test_with_other_neighbors_it_starts_anew(project: Project) -> None:
    cancel_at(project, 40)
    assert project.stage_info(KEY).state == "partial"
    other = NeighborParams(metric="cosine", n_neighbors=40)
    pipeline.run_neighbors(project, other, JobControl())
    assert project.stage_info(KEY).state == "stale"
    control = At()
    run(project, control)
    assert any("other settings, neighbors" in text for text in control.said)
    assert project.stage_info(KEY).state == "missing"


def test_the_device_is_no_other_setting(project: Project) -> None:
    cancel_at(project, 40)
    control = At()
    auto = ProjectionParams(**{**PARAMS.to_dict(), "device": "auto"})
    run(project, control, params=auto)
    assert any("Going on" in text for text in control.said)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty", "a folder"])
def test_a_damaged_one_is_named_and_left_out(
    project: Project, damage: str, rng: np.random.Generator
) -> None:
    cancel_at(project, 40)
    path = project.path / "checkpoints" / files(project)[0]
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        kept = {"cut": content[:-9], "flipped": content, "empty": b""}[damage]
        path.write_bytes(kept)
    problems = project.verify()
    assert [(p.stage, p.path) for p in problems] == [(KEY, f"checkpoints/{path.name}")]
    with pytest.raises(CorruptChunkError):
        project.read_checkpoint(NAME)
    control = At()
    run(project, control)
    assert any("damaged" in text and "anew" in text for text in control.said)
    assert project.stage_info(f"projections/{NAME}").state == "sealed"
    assert project.verify() == []


def test_repair_removes_a_damaged_one(project: Project) -> None:
    cancel_at(project, 40)
    (project.path / "checkpoints" / files(project)[0]).write_bytes(b"")
    project.invalidate_chunks(project.verify()[0].stage)
    assert project.verify() == []
    assert project.stage_info(KEY).state == "missing"
    assert files(project) == []


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "fewer": lambda a: {**a, "positions": a["positions"][:-1]},
    "3D": lambda a: {**a, "positions": np.ones((len(a["positions"]), 3), "f4")},
    "NaN": lambda a: {**a, "motion": np.full_like(a["motion"], np.nan)},
    "motion": lambda a: {**a, "motion": a["motion"][:, :1]},
    "order": lambda a: {**a, "places": np.zeros_like(a["places"])},
    "beyond": lambda a: {**a, "places": a["places"] + 1000},
    "text": lambda a: {**a, "motion": np.full(a["motion"].shape, "x")},
    "late": lambda a: {**a, "iteration": np.asarray(10**6)},
    "lacking": lambda a: {k: v for k, v in a.items() if k != "places"},
    "nothing": lambda a: {},
    "trace": lambda a: {**a, "kl_trace": np.ones(3)},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_foreign_state_is_left_out(project: Project, how: str) -> None:
    cancel_at(project, 40)
    stage = project.stage_info(KEY)
    arrays = project.read_checkpoint(NAME)
    assert arrays is not None
    project.write_checkpoint(
        NAME, HOSTILE[how](arrays), fingerprint=stage.fingerprint, info=stage.info
    )
    control = At()
    run(project, control)
    assert any("cannot be used" in text and "anew" in text for text in control.said)
    assert np.isfinite(project.read_projection(NAME).positions[1]).all()


def test_a_full_disk_costs_the_checkpoint_not_the_map(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(project)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "_MOST_SHARE", 1e9)

    def full(*_: Any, **__: Any) -> None:
        raise StoreError("No space left on device.")

    monkeypatch.setattr(Project, "write_checkpoint", full)
    control = At()
    run(project, control)
    assert len(control.said) == 1
    assert "cannot be saved" in control.said[0]
    np.testing.assert_array_equal(project.read_projection(NAME).positions, expected)


def test_an_interrupted_write_leaves_the_one_before(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(value: int) -> None:
        arrays = {"x": np.full(7, value)}
        project.write_checkpoint("m", arrays, fingerprint="f", info={"of": value})

    write(1)
    ledger = project._ledger
    with monkeypatch.context() as patch:

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(ledger, "put_file", killed)
        with pytest.raises(KeyboardInterrupt):
            write(2)
    assert len(files(project)) == 2  # the new file is there, and nobody names it
    found = project.read_checkpoint("m")
    assert found is not None
    assert (found["x"][0], project.stage_info("checkpoints/m").info["of"]) == (1, 1)
    for value in (3, 4, 5):
        write(value)
        found = project.read_checkpoint("m")
        assert found is not None
        assert found["x"][0] == value
        assert len(files(project)) == 1
    project.remove_checkpoint("m")
    project.remove_checkpoint("m")
    assert project.read_checkpoint("m") is None
    assert files(project) == []


def test_what_cannot_be_kept_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match="objects"):
        project.write_checkpoint("m", {"x": np.array([{}])}, fingerprint="f")
    with pytest.raises(InputError, match="not a valid key"):
        project.write_checkpoint("../m", {}, fingerprint="f")
    bomb = {"x": np.zeros(project.n_items * 512 + (1 << 20) + 1, np.uint8)}
    project.write_checkpoint("m", bomb, fingerprint="f")
    with pytest.raises(CorruptChunkError, match="more than"):
        project.read_checkpoint("m")
    path = project.path
    with Project.open(path) as reader, pytest.raises(StoreError, match="reading only"):
        reader.write_checkpoint("m", {}, fingerprint="f")
