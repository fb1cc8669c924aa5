"""Decisions as files: what another person gets is what was decided, or nothing."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from napari_embed.curation.decisions import Decisions
from napari_embed.curation.decisions import log as log_module
from napari_embed.curation.exchange import (
    COLUMNS,
    decisions_table,
    export_decisions,
    merge_decisions,
)
from napari_embed.errors import InputError, StoreError
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N = 40


@pytest.fixture
def path(tmp_path, rng):
    np.save(tmp_path / "v.npy", rng.normal(size=(N, 3)))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    Project.create(tmp_path / "p.embed", spec).close()
    shutil.copytree(tmp_path / "p.embed", tmp_path / "copy.embed")
    return tmp_path / "p.embed"


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""
    moment = [0]
    monkeypatch.setattr(log_module, "now", lambda: f"2026-01-01T00:00:{moment[0]:02d}Z")
    return moment


@pytest.fixture
def project(path):
    with Project.open(path) as opened:
        yield opened


@pytest.fixture
def decisions(project, clock):
    with Decisions.open(project, mode="a", who="Ada") as d:
        d.add_tag("=SUM(A1)", [1, 2])
        clock[0] = 1
        d.add_tag("=SUM(A1)", [2, 3])
        d.add_tag("'quoted', é", [3])
        d.set_label("cat", [5, 6])
        d.set_label("dog", [6])
        d.exclude([7])
        d.exclude([8])
        d.restore([8])
        d.set_note('two\nlines, "and" more', [9])
        yield d


@pytest.fixture
def other(path, tmp_path, clock):
    """Another person's copy of the project."""
    with (
        Project.open(tmp_path / "copy.embed") as copy,
        Decisions.open(copy, mode="a", who="Bob") as d,
    ):
        yield copy, d


def rows(table):
    return {
        (r["id"], r["tag"], r["label"], r["excluded"], r["note"], r["who"], r["when"])
        for r in table.to_pylist()
    }


EXPECTED = {
    (1, "=SUM(A1)", None, None, None, "Ada", "2026-01-01T00:00:00Z"),
    (2, "=SUM(A1)", None, None, None, "Ada", "2026-01-01T00:00:00Z"),
    (3, "=SUM(A1)", None, None, None, "Ada", "2026-01-01T00:00:01Z"),
    (3, "'quoted', é", None, None, None, "Ada", "2026-01-01T00:00:01Z"),
    (5, None, "cat", None, None, "Ada", "2026-01-01T00:00:01Z"),
    (6, None, "dog", None, None, "Ada", "2026-01-01T00:00:01Z"),
    (7, None, None, "true", None, "Ada", "2026-01-01T00:00:01Z"),
    (9, None, None, None, 'two\nlines, "and" more', "Ada", "2026-01-01T00:00:01Z"),
}


def test_table_has_what_holds_with_who_and_when(project, decisions):
    table = decisions_table(project, decisions)
    assert tuple(table.column_names) == COLUMNS
    assert rows(table) == EXPECTED
    assert table["source"].to_pylist() == [str(i) for i in table["id"].to_pylist()]
    decisions.undo()
    assert rows(decisions_table(project, decisions)) == {
        r for r in EXPECTED if r[0] != 9
    }


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_copy_takes_everything_over(project, decisions, other, tmp_path, ending):
    file = tmp_path / f"decisions{ending}"
    assert export_decisions(project, decisions, file) == len(EXPECTED)
    copy, bob = other
    before = rows(decisions_table(copy, bob))
    report = merge_decisions(copy, bob, file)
    assert (report.n_rows, report.n_changed) == (len(EXPECTED), len(EXPECTED))
    assert (report.n_conflicts, report.people) == (0, ("Ada",))
    assert rows(decisions_table(copy, bob)) == EXPECTED
    again = merge_decisions(copy, bob, file)
    assert again.n_changed == 0
    assert bob.undo().label == "Merge 7 items"
    assert rows(decisions_table(copy, bob)) == before
    with pytest.raises(StoreError, match="exists already"):
        export_decisions(project, decisions, file)
    assert export_decisions(project, decisions, file, overwrite=True) == len(EXPECTED)


def test_formulas_are_harmless_in_csv(project, decisions, tmp_path):
    export_decisions(project, decisions, tmp_path / "d.csv")
    with open(tmp_path / "d.csv", encoding="utf-8", newline="") as file:
        tags = {r["tag"] for r in csv.DictReader(file)}
    assert tags == {"'=SUM(A1)", "''quoted', é", ""}


def test_of_two_labels_the_newer_holds(project, decisions, other, tmp_path, clock):
    export_decisions(project, decisions, tmp_path / "d.csv")
    copy, bob = other
    clock[0] = 0
    bob.set_label("older", [5])
    clock[0] = 5
    bob.set_label("newer", [6])
    report = merge_decisions(copy, bob, tmp_path / "d.csv")
    assert report.n_conflicts == 2
    assert bob.labels_of([5, 6]) == ["cat", "newer"]


def changed_file(path, change):
    table = pq.read_table(path).to_pylist()
    change(table)
    with open(path.with_suffix(".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys() if table else COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    return path.with_suffix(".csv")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t[0].update(project="x:y"), "another project"),
        (lambda t: t[0].update(id=N), "does not have"),
        (lambda t: t[0].update(id=""), "does not have"),
        (lambda t: t[0].update(id="one"), "cannot be read"),
        (lambda t: t[0].update(source="elsewhere"), "about other items"),
        (lambda t: t[0].update(label="both"), "exactly one"),
        (lambda t: t[0].update(tag="x" * 1_000_000), "1,000,000 characters"),
        (lambda t: t[0].update(tag="a\x1bb"), "cannot be shown"),
        (lambda t: t[0].update(when="yesterday"), "a time such as"),
        (lambda t: t[0].update(who=""), "empty"),
        (lambda t: t[-2].update(excluded="maybe"), "true or empty"),
        (lambda t: [r.pop("who") for r in t], "no column who"),
    ],
)
def test_bad_files_change_nothing(project, decisions, other, tmp_path, change, says):
    export_decisions(project, decisions, tmp_path / "d.parquet")
    file = changed_file(tmp_path / "d.parquet", change)
    copy, bob = other
    before = rows(decisions_table(copy, bob))
    with pytest.raises(InputError, match=says) as told:
        merge_decisions(copy, bob, file)
    assert len(str(told.value)) < 1000
    assert rows(decisions_table(copy, bob)) == before


def test_files_that_are_no_tables(project, decisions, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    for name in ("a.csv", "a.parquet", "none.csv", "a.txt"):
        with pytest.raises(InputError):
            merge_decisions(project, decisions, tmp_path / name)
    with pytest.raises(StoreError, match="inside the project"):
        export_decisions(project, decisions, project.path / "d.csv")
