"""The Python interface and the commands over it: choose, decide, undo, export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from napari_embed import open_project
from napari_embed.arrays import Projection
from napari_embed.cli import main
from napari_embed.curation.filters import Filter
from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.errors import InputError, StoreLockedError, StoreReadOnlyError
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N = 60
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/clean_a_collection.py"


@pytest.fixture
def path(tmp_path, rng):
    """Items on a line: item i lies at i."""
    line = np.stack([np.arange(N), np.zeros(N)], axis=1).astype(np.float32)
    np.savez(tmp_path / "v.npz", vectors=line, labels=np.arange(N) // 20)
    spec = SourceSpec("vectors", str(tmp_path / "v.npz"))
    pipeline.run_create(tmp_path / "p.embed", spec, JobControl())
    with Project.open(tmp_path / "p.embed", mode="a") as project:
        project.write_projection("line", Projection(line), fingerprint="f")
    return tmp_path / "p.embed"


def test_choosing_and_deciding_can_be_chained(path, tmp_path):
    with open_project(path, who="Ada") as items:
        assert len(items) == N
        near = items.similar(ids=[30], k=4)
        assert near.ids.tolist() == [29, 31, 28, 32]
        assert near.distances.tolist() == [1, 1, 2, 2]
        part = near.where("x > 30").tag("right").head(1)
        assert part.ids.tolist() == [31]
        assert part.distances.tolist() == [1]
        assert items.where("'right' IN tags").ids.tolist() == [31, 32]
        assert items.find("0-3").filter(Filter("id", "in", (2, 1))).ids.tolist() == (
            [1, 2]
        )
        items.items([5, 6]).relabel("new").annotate("seen").save("two").exclude()
        assert len(items) == N - 2
        assert items.named("two").ids.tolist() == [5, 6]
        # What is out is not found, unless one asks for it.
        assert 5 not in items.similar(ids=[4], k=3).ids
        assert items.find("5").ids.tolist() == []
        assert items.everything().where("excluded").ids.tolist() == [5, 6]
        assert items.undo().label == "Exclude 2 items"
        assert len(items) == N
        items.redo()
        like = items.items([10, 50]).similar(mode="any", k=4)
        assert sorted(like.ids.tolist()) == [9, 11, 49, 51]
        assert items.items([10, 12]).similar(k=1).ids.tolist() == [11]
        ranked = items.items([1, 40, 20]).similar(ids=[21], k=10)
        assert ranked.ids.tolist() == [20, 40, 1]
        down = items.where("id < 4").sorted_by("x", descending=True)
        assert down.ids.tolist() == [3, 2, 1, 0]
        assert list(down.table(["id"])["id"].to_pylist()) == [3, 2, 1, 0]
        down.export(tmp_path / "out.parquet")
        table = pq.read_table(tmp_path / "out.parquet")
        assert table["id"].to_pylist() == [3, 2, 1, 0]
        assert table["x"].to_pylist() == [3, 2, 1, 0]
        nothing = items.where("id < 0").tag("none").exclude()
        assert len(nothing) == 0
        assert "none" not in items.decisions.tag_counts()
        with pytest.raises(InputError, match="Say what to be like"):
            items.similar()
        with pytest.raises(InputError, match="Nothing is selected"):
            nothing.similar()


def test_problems_are_selections(path):
    pipeline_done = [sys.executable, "-m", "napari_embed", "neighbors", str(path)]
    subprocess.run(pipeline_done, check=True, capture_output=True)
    with open_project(path) as items:
        items.items([0]).exclude()
        far = items.problems("outliers", limit=5, n_neighbors=3)
        assert len(far) == 5
        assert far.distances.shape == (5,)
        assert 0 not in far.ids


def test_a_second_one_may_look(path):
    with open_project(path) as first, open_project(path) as second:
        first.items([1]).tag("a")
        assert "being made by process" in second.decisions.read_only_reason
        with pytest.raises(StoreReadOnlyError, match="Nothing was changed"):
            second.items([1]).tag("b")
        with pytest.raises(StoreLockedError):
            open_project(path, mode="a")


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_commands(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOGNAME", "Ada")
    code, out, _ = run(
        capsys, "tag", path, "small", "--where", "id < 3", "--color", "#123456"
    )
    assert (code, out.split(".")[0]) == (0, 'Tag 3 items "small"')
    _, out, _ = run(capsys, "query", path, "--where", "'small' IN tags", "--json")
    facts = json.loads(out)
    assert [r["id"] for r in facts["items"]] == [0, 1, 2]
    _, out, _ = run(capsys, "query", path, "--like", "30", "--count", 2, "--json")
    assert [(r["id"], r["distance"]) for r in json.loads(out)["items"]] == [
        (29, 1.0),
        (31, 1.0),
    ]
    _, out, _ = run(capsys, "query", path, "--ids", "9-7", "--save", "three")
    assert out.startswith("3 items")
    assert 'Saved as the selection "three"' in out
    run(capsys, "exclude", path, "--named", "three")
    run(capsys, "relabel", path, "cat", "--ids", "1,2")
    _, out, _ = run(capsys, "decisions", "list", path, "--json")
    facts = json.loads(out)
    assert (facts["n_excluded"], facts["n_relabelled"]) == (3, 2)
    assert facts["tags"][0]["color"] == "#123456"
    assert facts["steps"][0]["label"] == 'Label 2 items "cat"'
    assert facts["steps"][0]["who"] == "Ada"
    _, out, _ = run(capsys, "decisions", "undo", path)
    assert out.startswith('Undone: Label 2 items "cat" (Ada')
    _, out, _ = run(capsys, "decisions", "redo", path, "--json")
    assert json.loads(out)["step"]["n_items"] == 2
    assert run(capsys, "restore", path, "--all")[1].startswith("Restore 3 items")
    _, out, _ = run(capsys, "decisions", "export", path, tmp_path / "d.csv")
    assert out.startswith("Wrote 5 decisions")
    _, out, _ = run(capsys, "decisions", "merge", path, tmp_path / "d.csv")
    assert out == "Took over 0 of 5 decisions by Ada.\n"
    _, out, _ = run(capsys, "query", path, "--columns")
    assert "corrected_label" in out
    _, out, _ = run(
        capsys, "query", path, "--order-by", "x", "--descending", "--limit", 2, "--json"
    )
    assert [r["id"] for r in json.loads(out)["items"]] == [59, 58]
    _, out, _ = run(capsys, "tag", path, "small", "--ids", "0-2", "--remove", "--json")
    assert json.loads(out)["n_changed"] == 3
    _, out, _ = run(capsys, "tag", path, "small", "--where", "false")
    assert out == "No item matches; nothing was changed.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tag", "P", "x"], "Say which items"),
        (["tag", "P", "x", "--where", "lable = 1"], "Did you mean label"),
        (["tag", "P", "x" * 2000, "--all"], "2,000 characters"),
        (["tag", "P", "ghost", "--ids", "1", "--remove"], 'no tag "ghost"'),
        (["exclude", "P", "--ids", "99"], "no item 99"),
        (["exclude", "P", "--ids", "all"], "Ids are written"),
        (["exclude", "P", "--named", "none"], 'no selection "none"'),
        (["relabel", "P", "--ids", "1"], "Give a label"),
        (["query", "P", "--like", "1", "--like-text", "a"], "Give one of"),
        (["query", "P", "--like-text", "cat"], "came with its items"),
        (["decisions", "merge", "P", "no.csv"], "cannot be read"),
        (["decisions", "list", "nowhere.embed"], "There is no project"),
    ],
)
def test_wrong_use_gets_a_sentence(path, capsys, arguments, says):
    before = (path / "state.sqlite").read_bytes()
    words = [str(path) if a == "P" else a for a in arguments]
    code, _, err = run(capsys, *words)
    assert code == 1
    assert says in err
    assert (path / "state.sqlite").read_bytes() == before


def test_the_example_of_the_docs_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept.parquet").is_file()
    assert done.stdout.splitlines()[-1].endswith("images kept")
