"""Looking at a source again: ids stay, only what was touched is computed again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_embed.engine import decoding, pipeline
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.progress import JobControl
from napari_embed.engine.rescan import run_reroot, run_rescan
from napari_embed.errors import InputError, JobCancelled, StoreError
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project, growing
from napari_embed.project import project as project_module
from napari_embed.sources import detect_source

N, CHUNK = 50, 16


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(N):
        picture(tmp_path / "photos" / "ab"[i % 2] / f"{i:03}.png", i)
    return tmp_path / "photos"


def make(folder: Path, path: Path) -> Project:
    return Project.create(path, detect_source(folder), chunk_rows=CHUNK)


def embed(project: Project) -> Any:
    return pipeline.run_embed(project, EmbedParams(), JobControl())


def vectors(project: Project) -> np.ndarray:
    return np.asarray(project.embeddings("descriptor"))


def all_stages(project: Project) -> None:
    embed(project)
    run_inspect(project, JobControl())
    pipeline.run_neighbors(project, NeighborParams(n_neighbors=5), JobControl())
    params = ProjectionParams(method="pca", n_components=2)
    pipeline.run_projection(project, params, JobControl())


def test_only_what_was_touched_is_computed_again(folder: Path, tmp_path: Path) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        all_stages(project)
        before, known = vectors(project), project.items()["source"].to_pylist()
        map_before = project.read_projection("pca-2d").positions
        picture(folder / "a" / "000.png", 900)  # item 0: the first chunk
        lost = known.index("b/001.png")
        (folder / "b" / "001.png").unlink()
        for i in range(3):
            picture(folder / "A new" / f"{i}.png", 1000 + i)

        found = run_rescan(project, JobControl())
        counts = (found["added"], found["changed"], found["missing"])
        assert counts == (3, 1, 1)
        assert project.n_items == N + 3
        items = project.items()
        assert items["source"].to_pylist()[:N] == known  # ids are stable
        assert items["source"].to_pylist()[N:] == [f"A new/{i}.png" for i in range(3)]
        assert items["label"].to_pylist()[N:] == ["A new"] * 3
        assert items["id"].to_pylist() == list(range(N + 3))
        assert project.stage_info("embeddings/descriptor").chunks_done == 2
        assert found["chunks"] == 2  # the first and the one that grew
        assert project.stage_info("measures/quality").chunks_done == 2
        errors = project.errors().to_pylist()
        assert [(e["id"], e["stage"]) for e in errors] == [(lost, "source")]

        # The map is still there to be seen, without a place for what is new.
        shown = project.read_projection("pca-2d").positions
        np.testing.assert_array_equal(shown[:N], map_before)
        assert np.isnan(shown[N:]).all()
        assert project.stage_info("projections/pca-2d").state == "stale"

        result = embed(project)
        assert result.n_done_now == CHUNK + (N + 3) % CHUNK
        after = vectors(project)
        np.testing.assert_array_equal(after[CHUNK:N], before[CHUNK:N])
        assert not np.array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[lost], before[lost])  # in no touched chunk
        assert np.isfinite(after).all()
        assert project.verify() == []
        all_stages(project)
        assert np.isfinite(project.read_projection("pca-2d").positions).all()
        assert project.read_neighbors("descriptor").n == N + 3
        assert project.stage_info("projections/pca-2d").state == "sealed"
    # Bytes are those of a project that never knew another list of items.
    with Project.open(tmp_path / "p.embed") as again:
        np.testing.assert_array_equal(vectors(again), after)
        assert again.thumbnail_available(np.arange(N + 3)).all()


def test_nothing_changed_changes_nothing(folder: Path, tmp_path: Path) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        all_stages(project)
        before = {p: p.read_bytes() for p in project.path.rglob("*") if p.is_file()}
        found = run_rescan(project, JobControl())
        assert not any(found[k] for k in ("added", "changed", "missing", "chunks"))
        for path, content in before.items():
            assert path.read_bytes() == content, path
        assert not embed(project).computed


def test_a_file_that_returns_is_no_longer_marked(folder: Path, tmp_path: Path) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        embed(project)
        shutil.move(folder / "a" / "000.png", tmp_path / "aside.png")
        assert run_rescan(project, JobControl())["missing"] == 1
        assert not embed(project).computed  # nothing to do for what is gone
        assert run_rescan(project, JobControl())["missing"] == 0  # told once
        assert project.errors().num_rows == 1
        shutil.move(tmp_path / "aside.png", folder / "a" / "000.png")
        assert run_rescan(project, JobControl())["returned"] == 1
        assert project.errors().num_rows == 0
        embed(project)


def test_a_kill_at_any_step_leaves_one_state_or_the_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        all_stages(project)
    picture(folder / "a" / "000.png", 900)
    picture(folder / "z" / "new.png", 901)
    steps = ("remove_checkpoint", "_move_array", "write_atomic", "remove_tree")

    class Killed(BaseException):
        pass

    for number, step in enumerate(steps):
        copy = tmp_path / f"copy{number}.embed"
        shutil.copytree(tmp_path / "p.embed", copy)
        project = Project.open(copy, mode="a")
        with monkeypatch.context() as patch:

            def stage_then_die(*args: Any, step: str = step, **kw: Any) -> None:
                def die(*_: Any, **__: Any) -> None:
                    raise Killed

                growing.stage_update(*args, **kw)
                patch.setattr(growing, step, die)

            patch.setattr(project_module, "stage_update", stage_then_die)
            try:
                run_rescan(project, JobControl())
            except Killed:
                pass
            finally:
                project.close()
        if growing.is_unfinished(copy):
            with pytest.raises(StoreError, match="not finished"):
                Project.open(copy)
        with Project.open(copy, mode="a") as project:
            assert project.n_items == N + 1
            all_stages(project)
            assert project.verify() == []
            assert np.isfinite(vectors(project)).all()


def test_cancelling_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        picture(folder / "z.png", 7)
        control = JobControl()
        control.cancel()
        with pytest.raises(JobCancelled):
            run_rescan(project, control)
        assert project.n_items == N


def test_new_rows_of_a_table(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    names = sorted(str(p.relative_to(tmp_path)) for p in folder.rglob("*.png"))
    rows = [f"{name},{i % 3},{i},{2 * i}" for i, name in enumerate(names)]
    table.write_text("image_path,label,x,y\n" + "\n".join(rows[:40]) + "\n")
    with make(table, tmp_path / "t.embed") as project:
        pipeline.import_positions(project)
        embed(project)
        rows[3] = rows[3].replace(",0,3,", ",other,30,")
        table.write_text("image_path,label,x,y\n" + "\n".join(rows) + "\n")
        found = run_rescan(project, JobControl())
        assert (found["added"], found["changed"]) == (N - 40, 0)
        assert project.items()["label"].to_pylist()[3] == "other"
        positions = project.read_projection("given-2d").positions
        assert positions.shape == (N, 2)
        assert positions[3, 0] == 30
        embed(project)
        assert np.isfinite(vectors(project)).all()


def test_arrays_cannot_be_looked_at_again(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((9, 8, 8), np.uint8))
    with (
        make(tmp_path / "images.npy", tmp_path / "p.embed") as project,
        pytest.raises(InputError, match="no folder"),
    ):
        run_rescan(project, JobControl())


def test_a_moved_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        all_stages(project)
        copied = tmp_path / "elsewhere"
        shutil.copytree(folder, copied, copy_function=shutil.copyfile)  # other times
        shutil.rmtree(folder)
        with pytest.raises(InputError, match="There is no folder"):
            run_rescan(project, JobControl())
        (tmp_path / "wrong").mkdir()
        with pytest.raises(InputError, match="Nothing was changed"):
            run_reroot(project, tmp_path / "wrong", JobControl())
        assert run_reroot(project, copied, JobControl())["found"] == N
        assert not embed(project).computed
        found = run_rescan(project, JobControl())
        assert not any(found[k] for k in ("added", "changed", "missing"))
        (item,) = project.items(rows=[0])["source"].to_pylist()
        assert project.source().full_resolution(item).shape == (12, 14, 3)
        assert project.stage_info("projections/pca-2d").state == "sealed"


def test_a_project_without_kept_states_asks_the_times(
    folder: Path, tmp_path: Path
) -> None:
    with make(folder, tmp_path / "p.embed") as project:
        embed(project)
        (project.path / growing.FILES_NAME).unlink()
        later = 4_000_000_000
        os.utime(folder / "a" / "000.png", (later, later))
        assert run_rescan(project, JobControl())["changed"] == 1


def test_unfinished_work_of_another_list_is_dropped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PIECE_IMAGES", 4)
    with make(folder, tmp_path / "p.embed") as project:
        control = JobControl(
            lambda p: control.cancel() if p.stage == "images" and p.done >= 8 else None,
            interval_s=0.0,
        )
        with pytest.raises(JobCancelled):
            pipeline.run_embed(project, EmbedParams(), control)
        picture(folder / "a" / "000.png", 900)
        picture(folder / "z.png", 5)
        run_rescan(project, JobControl())
        assert not [s for s in project.stages() if s.key.startswith("pieces/")]
        embed(project)
        assert np.isfinite(vectors(project)).all()
