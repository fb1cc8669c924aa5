"""Exporting maps and items: exact, complete or not at all."""

from __future__ import annotations

import csv
import errno
import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.curation.export import export_items, rows, tables
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
    JobCancelled,
    StoreError,
)
from napari_embed.project import Project, atomic
from napari_embed.sources import SourceSpec, detect_source, open_source

LABELS = [
    '=HYPERLINK("x")',
    "+1",
    "-1",
    "@a",
    "\tb",
    "plain",
    'quo"te',
    "com,ma",
    "é\n\U0001f600",
    "",
]


@pytest.fixture
def project(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ROWS", 7)
    n = 20
    (tmp_path / "img").mkdir()
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(
            tmp_path / f"img/{i}.png"
        )
    table = pa.table(
        {
            "path": [f"img/{i}.png" for i in range(n)],
            "label": [LABELS[i % len(LABELS)] if i != 11 else None for i in range(n)],
            "score": rng.random(n),
            "x": np.arange(n),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    spec = SourceSpec("table", str(tmp_path / "t.parquet"))
    with Project.create(tmp_path / "p.embed", spec, thumbnail_size=4) as made:
        for columns in (2, 3):
            positions = rng.normal(size=(n, columns)).astype(np.float32)
            positions[5] = np.nan
            made.write_projection(
                f"map-{columns}d", Projection(positions), fingerprint="p"
            )
        yield made


def rows_of(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or []), rows


@pytest.mark.parametrize("columns", [2, 3])
def test_csv(project, tmp_path, columns):
    target = tmp_path / "out.csv"
    name = f"map-{columns}d"
    assert export_items(project, target, projections=[name]) == 20
    names, rows = rows_of(target)
    assert names == [*"xyz"[:columns], "image_path", "label"]
    positions = project.read_projection(name).positions
    for i, row in enumerate(rows):
        for axis, value in zip("xyz", positions[i], strict=False):
            assert row[axis] == "" if i == 5 else np.float32(row[axis]) == value
        assert row["image_path"] == f"{tmp_path}/img/{i}.png"
        label = project.column_values("label")[i] or ""
        risky = label[:1] in tuple("=+-@\t") and label not in ("+1", "-1")
        assert row["label"] == ("'" + label if risky else label)


def test_csv_can_be_read_back_as_a_source(project, tmp_path):
    target = tmp_path / "out.csv"
    export_items(project, target, projections=["map-3d"], absolute_paths=False)
    source = open_source(detect_source(target))
    items = source.list_items()
    assert items["source"].to_pylist() == project.items()["source"].to_pylist()
    np.testing.assert_array_equal(
        source.positions(), project.read_projection("map-3d").positions
    )
    assert all(item.error is None for item in source.read(items))


def test_selection_in_its_own_order(project, tmp_path, rng):
    ids = rng.permutation(20)[:9]
    export_items(project, tmp_path / "a.csv", projections=["map-2d"], ids=ids)
    _, rows = rows_of(tmp_path / "a.csv")
    assert [row["image_path"] for row in rows] == [
        f"{tmp_path}/img/{i}.png" for i in ids
    ]
    mask = np.zeros(20, bool)
    mask[ids] = True
    assert export_items(project, tmp_path / "a.parquet", ids=mask) == 9
    assert pq.read_table(tmp_path / "a.parquet")["id"].to_pylist() == sorted(ids)


def test_parquet_has_everything(project, tmp_path):
    maps = ["map-2d", "map-3d"]
    export_items(project, tmp_path / "a.parquet", projections=maps)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == [
        "id", "x", "y", "map-3d.x", "map-3d.y", "map-3d.z", "image_path", "label",
        "score", "source.x",
    ]  # fmt: skip
    assert table["label"].to_pylist() == project.column_values("label").tolist()
    assert table["source.x"].to_pylist() == list(range(20))
    assert table["x"][5].as_py() is None
    positions = project.read_projection("map-3d").positions
    got = np.stack([table[f"map-3d.{a}"].to_numpy() for a in "xyz"], axis=1)
    np.testing.assert_array_equal(got, positions)
    export_items(project, tmp_path / "b.parquet", projections=[], absolute_paths=False)
    table = pq.read_table(tmp_path / "b.parquet")
    assert table.column_names == ["id", "image_path", "label", "score", "x"]
    assert table["image_path"][3].as_py() == "img/3.png"


def test_nothing_is_overwritten_or_left_half(project, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("mine")
    before = sorted(p.name for p in tmp_path.iterdir())
    for form in ("csv", "parquet", "jsonl", "paths", "fiftyone", "h5ad", "report"):
        write = partial(export_items, project, format=form)
        with pytest.raises(StoreError, match="exists already"):
            write(target)
        with pytest.raises(StoreError, match="inside the project"):
            write(project.path / "x.csv")
        with pytest.raises(StoreError, match="Could not"):
            write(tmp_path / "no/such/folder.csv")
        for ids in ([20], [-1], [], np.ones(3, bool)):
            with pytest.raises(InputError):
                write(tmp_path / "new.csv", ids=ids)

        def stop(done: int, total: int) -> None:
            raise JobCancelled("stop")

        with pytest.raises(JobCancelled):
            write(tmp_path / "new.csv", progress=stop)
        with pytest.raises(JobCancelled):
            write(target, overwrite=True, progress=stop)
    assert target.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    export_items(project, target, projections=["map-2d"], overwrite=True)
    assert target.read_text() != "mine"
    with pytest.raises(IncompleteStageError):
        export_items(project, tmp_path / "x.csv", projections=["nope"])


def test_all_columns_and_raw_text(project, tmp_path):
    export_items(project, tmp_path / "a.csv", projections=["map-2d"], all_columns=True)
    names, rows = rows_of(tmp_path / "a.csv")
    assert names == ["id", "x", "y", "image_path", "label", "score", "source.x"]
    assert [int(row["id"]) for row in rows] == list(range(20))
    export_items(project, tmp_path / "b.csv", projections=["map-2d"], guard_text=False)
    assert rows_of(tmp_path / "b.csv")[1][0]["label"] == LABELS[0]
    export_items(project, tmp_path / "a.parquet", projections=["map-3d"], ids=[3])
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 1
    with pytest.raises(InputError, match="says no format"):
        export_items(project, tmp_path / "a.xyz", projections=["map-2d"])


def test_rows_of_an_array_name_the_array(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4, 5, dtype=np.float32))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    with Project.create(tmp_path / "v.embed", spec) as project:
        positions = np.zeros((4, 2), np.float32)
        project.write_projection("map", Projection(positions), fingerprint="p")
        export_items(project, tmp_path / "out.csv", projections=["map"])
    _, rows = rows_of(tmp_path / "out.csv")
    assert [r["image_path"] for r in rows] == [
        f"{tmp_path}/v.npy[{i}]" for i in range(4)
    ]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't decrement id ref count (No space left on device)"),
    ],
)
def test_a_full_disk_is_told_in_words_that_fit(project, tmp_path, monkeypatch, error):
    """No promise that an export goes on where it stopped; nothing is left."""

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(tables.pq, "ParquetWriter", Full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match="disk is full") as told:
        export_items(project, tmp_path / "out.parquet")
    assert "out.parquet was not written" in str(told.value)
    assert "continues" not in str(told.value)
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_export_left_is_removed(tmp_path):
    """Only files named for this target, by processes that are gone."""
    target = tmp_path / "out.h5ad"
    mine = atomic.beside(target)
    nobody = 2**31 - 2  # more than a system hands out
    gone = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{nobody}-"))
    other = gone.with_name(gone.name.replace("out", "other"))
    for path in (mine, gone, other):
        path.write_bytes(b"half")
    atomic.remove_stale(target)
    assert (mine.exists(), gone.exists(), other.exists()) == (True, False, True)
