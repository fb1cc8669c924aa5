"""The commands that find problems, and what export chooses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.arrays import NeighborGraph, Projection
from napari_embed.cli import main
from napari_embed.curation.decisions import Decisions
from napari_embed.project import Project
from napari_embed.sources import detect_source

N = 60


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of pictures, one copy, one wrong label, one dark picture."""
    rng = np.random.default_rng(2)
    for name in ("red", "blue"):
        (tmp_path / "img" / name).mkdir(parents=True)
    vectors = np.empty((N, 4), np.float32)
    for i in range(N):
        name = "blue" if i < N // 2 else "red"
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        if i == 5:
            pixels //= 20
        Image.fromarray(pixels).save(tmp_path / f"img/{name}/{i:02d}.png")
        # By path: blue/00 to blue/29, then red; 7 looks red.
        vectors[i] = rng.normal(size=4) + (20 if name == "red" or i == 7 else 0)
    copy = tmp_path / "img/red/40.png"
    copy.write_bytes((tmp_path / "img/red/35.png").read_bytes())
    vectors[40] = vectors[35]
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    near = np.argsort(squared, axis=1)[:, :10].astype(np.int32)
    path = tmp_path / "p.embed"
    spec = detect_source(tmp_path / "img")
    with Project.create(path, spec) as project:
        stage = project.begin_stage(
            "embeddings/v", fingerprint="v", shape_tail=(4,), dtype=np.float32
        )
        stage.write(0, vectors)
        stage.seal({})
        graph = NeighborGraph(near, np.take_along_axis(squared, near, axis=1))
        project.write_neighbors("v", graph, fingerprint="n")
        positions = Projection(np.ascontiguousarray(vectors[:, :2]))
        project.write_projection("map", positions, fingerprint="p")
    return path


def listed(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def ids(facts: dict) -> list[int]:
    return [item["id"] for item in facts["items"]]


def test_searches_as_json(photos, capsys):
    found = listed(capsys, "duplicates", photos, "--json")
    assert ids(found) == [35, 40]
    assert [item["keep"] for item in found["items"]] == [True, False]
    assert ids(listed(capsys, "duplicates", photos, "--near", "--json"))[:2] == [35, 40]
    wrong = listed(capsys, "mislabels", photos, "--json", "--neighbors", 8)
    assert ids(wrong) == [7]
    assert wrong["items"][0]["label"] == "blue"
    assert wrong["items"][0]["detail"] == "red"
    assert ids(listed(capsys, "quality", photos, "--issue", "dark", "--json")) == [5]
    far = listed(capsys, "outliers", photos, "--limit", 4, "--json")
    assert far["n_items"] == 4
    groups = listed(capsys, "clusters", photos, "--json")
    assert {i["group_name"] for i in groups["items"]} == {"blue", "red"}
    for how in ("typical", "spread", "balanced"):
        found = listed(capsys, "sample", photos, 6, "--how", how, "--json")
        assert {i["label"] for i in found["items"]} == {"blue", "red"}
        assert found["n_items"] == 6


def test_tag_report_and_export(photos, tmp_path, capsys):
    page = tmp_path / "copies.html"
    words = ["duplicates", photos, "--tag", "copy", "--report", page]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert "red/35.png" in said
    assert "(keep)" in said
    assert "Tagged 1 items 'copy'" in said
    assert "red/40.png" in page.read_text()
    with Project.open(photos) as project, Decisions.open(project, mode="a") as decided:
        assert np.flatnonzero(decided.tagged("copy")).tolist() == [40]
        decided.exclude([40])
        decided.set_label("red", [7])
        decided.save_selection("mine", [9, 40, 3])
    assert ids(listed(capsys, "duplicates", photos, "--json")) == []
    assert ids(listed(capsys, "duplicates", photos, "--with-excluded", "--json"))
    out = tmp_path / "a.parquet"
    assert main(["export", str(photos), str(out)]) == 0
    table = pq.read_table(out)
    assert table.num_rows == N - 1
    assert table["label"].to_pylist()[7] == "red"
    for only, expected in (
        (["--tag", "copy", "--with-excluded"], [40]),
        (["--selection", "mine"], [9, 3]),
    ):
        assert main(["export", str(photos), str(out), "--force", *only]) == 0
        assert pq.read_table(out)["id"].to_pylist() == expected
    chosen = tmp_path / "ids.txt"
    chosen.write_text("12\n4\n")
    assert main(["export", str(photos), str(out), "--force", "--ids", str(chosen)]) == 0
    assert pq.read_table(out)["id"].to_pylist() == [12, 4]
    folder = tmp_path / "clean"
    words = ["export", str(photos), str(folder), "--format", "folder", "--links"]
    assert main(words) == 0
    assert (folder / "red/00000007.png").is_symlink()


@pytest.mark.parametrize(
    ("text", "sentence"), [("1 two", "one whole number a line"), ("99", "Ids must lie")]
)
def test_ids_that_are_none(photos, tmp_path, capsys, text, sentence):
    (tmp_path / "ids.txt").write_text(text)
    out = str(tmp_path / "a.csv")
    words = ["export", str(photos), out, "--ids", str(tmp_path / "ids.txt")]
    assert main(words) == 1
    assert sentence in capsys.readouterr().err
    assert main(["export", str(photos), str(tmp_path / "a.txt"), "--all-columns"]) == 1
    assert "has no option all_columns" in capsys.readouterr().err
