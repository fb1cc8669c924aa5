"""`verify --repair`: exactly what is damaged is made again, to the same bytes."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_embed.engine import pipeline
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.progress import JobControl
from napari_embed.engine.repair import run_repair
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.project.store import DiskArray
from napari_embed.sources import detect_source

N, ROWS = 150, 16
UNTOUCHED = ("state.sqlite", "state.sqlite-journal", "writer.lock")


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of every file that holds results."""
    files = [p for p in path.rglob("*") if p.is_file() and p.name not in UNTOUCHED]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``images``, two of them unreadable, and ``p.embed`` made of them."""
    folder = tmp_path_factory.mktemp("repair")
    pixels = np.random.default_rng(0).integers(0, 256, (N, 9, 9, 3), dtype=np.uint8)
    (folder / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"images/{i:03}.png", compress_level=1)
    for bad in (3, 77):
        (folder / f"images/{bad:03}.png").write_bytes(b"no image")
    control = JobControl()
    spec = detect_source(folder / "images")
    with Project.create(folder / "p.embed", spec, chunk_rows=ROWS) as project:
        pipeline.run_embed(project, EmbedParams(), control)
        run_inspect(project, control)
        pipeline.run_neighbors(project, NeighborParams(n_neighbors=9), control)
        pipeline.run_projection(project, ProjectionParams(method="pca"), control)
        assert project.verify() == []
    return folder


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of the project, its images where they were."""
    return shutil.copytree(made / "p.embed", tmp_path / "p.embed")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Array and number of every chunk that is written from now on."""
    names: list[tuple[str, int]] = []
    real = DiskArray.write_chunk

    def note(self: DiskArray, chunk: int, values: np.ndarray):
        names.append((self.name, chunk))
        return real(self, chunk, values)

    monkeypatch.setattr(DiskArray, "write_chunk", note)
    return names


def test_exactly_the_damaged_chunks_are_made_again(
    path: Path, written: list[tuple[str, int]], chance: random.Random
) -> None:
    pristine = contents(path)
    kinds = ("embeddings/descriptor", "thumbnails", "measures/quality")
    expected = set()
    for kind in kinds:
        files = sorted((path / kind).glob("c.*"))
        first, second, third, swapped, other = chance.sample(files, 5)
        flipped = bytearray(first.read_bytes())
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        first.write_bytes(bytes(flipped))
        second.unlink()
        third.write_bytes(third.read_bytes()[:-7])
        one, two = swapped.read_bytes(), other.read_bytes()
        swapped.write_bytes(two)
        other.write_bytes(one)
        damaged = {first, second, third} | ({swapped, other} if one != two else set())
        expected |= {(kind, int(p.name.split(".")[1])) for p in damaged}
    with Project.open(path, mode="a") as project:
        errors = project.errors()
        result = run_repair(project, JobControl())
        assert project.errors().equals(errors)
        assert {s.state for s in project.stages()} == {"sealed"}
    mended = result.to_dict()["n_mended"]
    print(json.dumps({"damaged": len(expected), "mended": mended}))
    assert result.left == []
    assert len(result.found) == len(expected)
    assert sorted(written) == sorted(expected)
    assert contents(path) == pristine


@pytest.mark.parametrize(
    "names",
    [
        ["neighbors/descriptor/indices/c.0.0"],
        ["projections/pca-3d/c.0.0"],
        ["projections/pca-3d/zarr.json", "neighbors/descriptor/distances/zarr.json"],
        ["encoders/descriptor.npz"],
        ["encoders/descriptor.npz", "embeddings/descriptor/c.2.0"],
        ["embeddings/descriptor/zarr.json", "thumbnails/zarr.json"],
        ["measures/content/c.1.0"],
    ],
    ids=lambda names: names[0].replace("/", "-"),
)
def test_results_states_and_metadata_are_made_again(
    path: Path, names: list[str], written: list[tuple[str, int]]
) -> None:
    pristine = contents(path)
    for name in names:
        (path / name).write_bytes(b"damaged")
    with Project.open(path, mode="a") as project:
        result = run_repair(project, JobControl())
        assert result.left == []
        assert len(result.found) == len(names)
    assert contents(path) == pristine
    touched = {name.rpartition("/")[0] for name in names}
    results = ("neighbors/descriptor", "projections/pca-3d")
    # Results are made again as a whole, all other arrays chunk by chunk.
    assert {w for w in written if not w[0].startswith(results)} == {
        (name.rpartition("/")[0], int(name.split(".")[1]))
        for name in names
        if "/c." in name and not name.startswith(results)
    }
    assert all(w[0].startswith(tuple(touched) + results) for w in written)


def test_a_whole_project_is_left_alone(path: Path, written: list) -> None:
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.suffix != ".lock"}
    with Project.open(path, mode="a") as project:
        assert run_repair(project, JobControl()).found == []
    assert written == []
    arrays = [p for p in before if p.is_file() and "state.sqlite" not in p.name]
    assert {p: p.stat().st_mtime_ns for p in arrays} == {p: before[p] for p in arrays}


def test_what_cannot_be_made_again_stays_and_is_named(
    path: Path, made: Path, tmp_path: Path
) -> None:
    """Without the images the other rows of the vectors must stay usable."""
    with Project.open(path, mode="a") as project:
        project.set_source(detect_source(made / "images"))
    manifest = json.loads((path / "project.json").read_text())
    manifest["source"]["path"] = str(tmp_path / "gone")
    (path / "project.json").write_text(json.dumps(manifest))
    (path / "embeddings/descriptor/c.1.0").write_bytes(b"x")
    (path / "projections/pca-3d/c.0.0").write_bytes(b"x")
    with Project.open(path, mode="a") as project:
        result = run_repair(project, JobControl())
        left = dict(result.left)
        assert "gone" in left["embeddings/descriptor/c.1.0"]
        assert project.stage_info("embeddings/descriptor").state == "sealed"
        rows = project.embeddings("descriptor")
        assert np.isfinite(rows[2 * ROWS : 4 * ROWS]).all()
        assert {p.path for p in project.verify()} == {"embeddings/descriptor/c.1.0"}
    assert set(left) >= {"embeddings/descriptor/c.1.0"}


def test_changed_images_do_not_teach_the_encoder_something_else(
    path: Path, made: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made / "images", tmp_path / "images"))
    (folder / "001.png").write_bytes((folder / "002.png").read_bytes())
    state = path / "encoders/descriptor.npz"
    state.write_bytes(b"damaged")
    with Project.open(path, mode="a") as project:
        project.set_source(detect_source(folder))
        result = run_repair(project, JobControl())
    assert [(p, "have changed" in why) for p, why in result.left] == [
        ("encoders/descriptor.npz", True)
    ]
    assert state.read_bytes() == b"damaged"


def test_an_unfinished_step_makes_its_chunk_again_when_it_goes_on(path: Path) -> None:
    chunk = path / "embeddings/descriptor/c.1.0"
    pristine = contents(path)
    chunk.write_bytes(chunk.read_bytes()[::-1])
    with Project.open(path, mode="a") as project:
        project.invalidate_chunks("embeddings/descriptor", [5, 6])
        [(name, why)] = run_repair(project, JobControl()).left
        assert name == "embeddings/descriptor/c.1.0"
        assert "goes on" in why
        info = project.stage_info("embeddings/descriptor")
        assert info.chunks_done == info.chunks_total - 3
        pipeline.run_embed(project, EmbedParams(), JobControl())
        assert project.verify() == []
    assert contents(path) == pristine
