"""Exports are read back with the libraries they are made for."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.curation import problems
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.export import FORMATS, export_items, folder, rows
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.progress import JobControl
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
    JobCancelled,
    StoreError,
)
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N, D = 20, 6
LABELS = ["cat", "../../evil", "<script>alert(1)</script>", "a/b", "CON", None]
NOTE = '=1+1 "quoted" & <b>bold</b>'


@pytest.fixture
def project(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ROWS", 7)
    (tmp_path / "img").mkdir()
    for i in range(N):
        pixels = rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"img/{i}.png")
    (tmp_path / "img/3.png").write_bytes(b"broken")
    (tmp_path / "img/4.png").unlink()
    (tmp_path / "img/4.png").symlink_to("/etc/hostname")
    table = pa.table(
        {
            "path": [f"img/{i}.png" for i in range(N)],
            "label": [LABELS[i % len(LABELS)] for i in range(N)],
            "score": [float(i) if i != 2 else float("nan") for i in range(N)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    spec = SourceSpec("table", str(tmp_path / "t.parquet"))
    with Project.create(tmp_path / "p.embed", spec, chunk_rows=8) as made:
        stage = made.begin_stage(
            "embeddings/v", fingerprint="v", shape_tail=(D,), dtype=np.float32
        )
        for chunk in stage.pending():
            block = stage.rows(chunk)
            stage.write(
                chunk, rng.normal(size=(block.stop - block.start, D)).astype("f4")
            )
        stage.seal({})
        positions = rng.normal(size=(N, 2)).astype(np.float32)
        positions[5] = np.nan
        made.write_projection("tsne-2d", Projection(positions), fingerprint="p")
        yield made


@pytest.fixture
def decisions(project):
    with Decisions.open(project, who="me") as opened:
        opened.add_tag("blurred", [0, 3])
        opened.add_tag("<i>x</i>", [3])
        opened.set_label("dog", [0, 1])
        opened.exclude([7])
        opened.set_note(NOTE, [2])
        yield opened


def test_decisions_go_with_every_table(project, decisions, tmp_path):
    export_items(project, tmp_path / "a.parquet", decisions=decisions)
    table = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert table["label"][:3].tolist() == ["dog", "dog", LABELS[2]]
    assert table["original_label"][1] == "../../evil"
    assert table["tags"][3].tolist() == ["blurred", "<i>x</i>"]
    assert table["tags"][5].tolist() == []
    assert np.flatnonzero(table["excluded"]).tolist() == [7]
    assert table["note"][2] == NOTE
    assert table["note"].isna().sum() == N - 1
    export_items(project, tmp_path / "a.csv", decisions=decisions, all_columns=True)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert cells[3]["tags"] == "blurred; <i>x</i>"
    assert cells[2]["note"] == f"'{NOTE}"


def test_json_lines_and_paths(project, decisions, tmp_path):
    ids = [9, 2, 5]
    path = tmp_path / "a.jsonl"
    assert export_items(project, path, ids=ids, decisions=decisions) == 3
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    assert lines[1]["score"] is None
    assert lines[2]["x"] is None
    assert lines[1]["note"] == NOTE
    import pandas as pd

    assert pd.read_json(path, lines=True)["id"].tolist() == ids
    export_items(project, tmp_path / "a.txt", ids=ids)
    found = (tmp_path / "a.txt").read_text().splitlines()
    assert found == [f"{tmp_path}/img/{i}.png" for i in ids]
    assert Path(found[0]).is_file()


def test_a_path_with_a_line_break_is_no_line(tmp_path):
    (tmp_path / "img").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "img/a\nb.png")
    spec = SourceSpec("folder", str(tmp_path / "img"))
    with (
        Project.create(tmp_path / "p.embed", spec) as project,
        pytest.raises(InputError, match="line break"),
    ):
        export_items(project, tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


def test_coco(project, decisions, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "a.json"
    with pytest.raises(IncompleteStageError, match="height and width"):
        export_items(project, path, format="coco")
    run_inspect(project, JobControl())
    with pytest.raises(InputError, match="name the format"):
        export_items(project, path)
    assert export_items(project, path, format="coco", decisions=decisions) == N
    data = coco.COCO(str(path))
    assert sorted(data.getImgIds()) == list(range(N))
    image = data.loadImgs([0])[0]
    assert (image["height"], image["width"]) == (6, 9)
    assert image["tags"] == ["blurred"]
    names = {c["id"]: c["name"] for c in data.loadCats(data.getCatIds())}
    boxes = {a["image_id"]: a for a in data.loadAnns(data.getAnnIds())}
    assert len(boxes) == sum(LABELS[i % 6] is not None for i in range(N))
    assert names[boxes[1]["category_id"]] == "dog"
    assert boxes[2]["bbox"] == [0, 0, 9, 6]
    assert boxes[2]["area"] == 54


def test_fiftyone(project, tmp_path):
    """The documented labels.json of FiftyOneImageClassificationDataset."""
    path = tmp_path / "labels.json"
    assert export_items(project, path, format="fiftyone", absolute_paths=False) == N
    data = json.loads(path.read_text())
    assert set(data) == {"classes", "labels"}
    assert all(os.path.isabs(name) for name in data["labels"])
    for i in range(N):
        target = data["labels"][f"{tmp_path}/img/{i}.png"]
        expected = LABELS[i % 6]
        assert (None if target is None else data["classes"][target]) == expected


@pytest.mark.parametrize("how", ["copy", "link"])
def test_folder_of_pictures(project, tmp_path, how):
    out = tmp_path / "out"
    # The link to a foreign file is refused; a broken picture is a file like any other.
    assert export_items(project, out, format="folder", how=how) == N - 1
    with open(out / "items.csv", newline="", encoding="utf-8") as file:
        index = {int(row["id"]): row for row in csv.DictReader(file)}
    assert len(index) == N
    assert index[4]["file"] == ""
    assert "not a regular file inside" in index[4]["error"]
    folders = {p.name for p in out.iterdir() if p.is_dir()}
    assert folders == {"cat", "evil", "script_alert_1_script", "a_b", "label_CON",
                       "no_label"}  # fmt: skip
    for number, row in index.items():
        if row["file"]:
            place = out / row["file"]
            assert place.resolve().is_relative_to(tmp_path)
            assert place.is_symlink() == (how == "link")
            source = tmp_path / f"img/{number}.png"
            assert place.read_bytes() == source.read_bytes()
    with pytest.raises(StoreError, match="never overwritten"):
        export_items(project, out, format="folder", overwrite=True)
    flat = tmp_path / "flat"
    export_items(project, flat, format="folder", ids=[1, 0], how=how, by_label=False)
    assert sorted(p.name for p in flat.iterdir()) == [
        "00000000.png", "00000001.png", "items.csv",
    ]  # fmt: skip


def test_labels_that_look_alike_get_folders_of_their_own():
    names = folder._FolderNames()
    given = ["a/b", "a_b", "A_B", "", None, "..", "items.csv", "x" * 300, "日本"]
    found = [names.of(label) for label in given]
    assert len({name.lower() for name in found}) == len(given)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,70}", name) for name in found)
    assert names.of("a/b") == found[0]


def test_rows_of_an_array_become_files(tmp_path, rng):
    np.save(tmp_path / "v.npy", rng.integers(0, 255, (5, 8, 8), dtype=np.uint8))
    spec = SourceSpec("images", str(tmp_path / "v.npy"))
    with Project.create(tmp_path / "p.embed", spec) as project:
        with pytest.raises(InputError, match="no files to link"):
            export_items(project, tmp_path / "o", format="folder", how="link")
        assert export_items(project, tmp_path / "o", format="folder", ids=[3, 1]) == 2
        with pytest.raises(InputError, match="rows of an array"):
            export_items(project, tmp_path / "f.json", format="fiftyone")
    picture = np.asarray(Image.open(tmp_path / "o/no_label/00000003.png"))
    np.testing.assert_array_equal(picture[..., 0], np.load(tmp_path / "v.npy")[3])


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_anndata(project, decisions, tmp_path, ending):
    ad = pytest.importorskip("anndata")
    path = tmp_path / f"a.{ending}"
    ids = np.array([4, 19, 0, 5])
    assert export_items(project, path, ids=ids, decisions=decisions) == 4
    data = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
    assert data.obs_names.tolist() == ["4", "19", "0", "5"]
    vectors = project.embeddings("v")[:]
    np.testing.assert_array_equal(data.X, vectors[ids])
    if ending == "h5ad":
        np.testing.assert_array_equal(data.obsm["X_v"], vectors[ids])
    positions = project.read_projection("tsne-2d").positions
    np.testing.assert_array_equal(data.obsm["X_tsne_2d"], positions[ids])
    assert data.obs["label"].astype(object).iloc[2] == "dog"
    assert data.obs["tags"].astype(object).iloc[2] == "blurred"
    assert data.obs["score"].tolist() == [4, 19, 0, 5]
    assert "x" not in data.obs
    assert data.uns["napari_embed"]["embeddings"] == "v"


def test_anndata_for_spatialdata(project, tmp_path):
    ad = pytest.importorskip("anndata")
    models = pytest.importorskip("spatialdata.models")
    export_items(project, tmp_path / "a.h5ad")
    models.TableModel().validate(
        models.TableModel.parse(ad.read_h5ad(tmp_path / "a.h5ad"))
    )


def test_report(project, decisions, tmp_path):
    found = problems.balanced_sample(project, 12)
    path = tmp_path / "a.html"
    words = "Look <here>"
    written = export_items(
        project, path, ids=found.ids, decisions=decisions, finding=found, title=words,
        most_pictures=5,
    )  # fmt: skip
    assert written == len(found)
    page = path.read_text()
    assert "<script" not in page
    assert "<title>Look &lt;here&gt;</title>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<figure") == 5
    assert "default-src 'none'" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(s.startswith("data:image/png;base64,") for s in sources)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.key)
def test_nothing_is_left_of_what_fails(project, tmp_path, monkeypatch, form):
    run_inspect(project, JobControl())
    target = tmp_path / f"out{form.suffix}"
    before = sorted(p.name for p in tmp_path.iterdir())

    def stop(done: int, total: int) -> None:
        raise JobCancelled("stop")

    with pytest.raises(JobCancelled):
        export_items(project, target, format=form.key, progress=stop)
    for ids in ([N], [], np.ones(3, bool)):
        with pytest.raises(InputError):
            export_items(project, target, format=form.key, ids=ids)
    with pytest.raises(StoreError, match="Could not"):
        export_items(project, tmp_path / "no/such/place", format=form.key)
    with pytest.raises(InputError, match="has no option colour"):
        export_items(project, target, format=form.key, colour="red")
    with pytest.raises(StoreError, match="inside the project"):
        export_items(project, project.path / "x", format=form.key)

    def full(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="disk is full"):
        export_items(project, target, format=form.key, progress=full)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert export_items(project, target, format=form.key) >= N - 1
    with pytest.raises(StoreError, match="exists already"):
        export_items(project, target, format=form.key)
    if not form.is_folder:
        mine = target.read_bytes()
        with pytest.raises(JobCancelled):
            export_items(
                project, target, format=form.key, overwrite=True, progress=stop
            )
        assert target.read_bytes() == mine
        export_items(project, target, format=form.key, overwrite=True)


def test_a_folder_that_may_not_be_written(project, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Check the permissions"):
        export_items(project, closed / "a.parquet")
