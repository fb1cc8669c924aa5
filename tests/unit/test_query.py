"""Queries: filters and expressions against plain Python, and what they must refuse."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.filters import Filter, Query
from napari_embed.curation.query import QueryEngine
from napari_embed.errors import InputError, JobCancelled
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N = 500


@pytest.fixture
def table(rng):
    labels = [None if i % 7 == 0 else f"c{i % 5}" for i in range(N)]
    width = rng.integers(10, 1000, N).astype(float)
    width[::11] = np.nan
    return pa.table(
        {
            "image_path": [f"dir{i % 3}/Bild {i:03d}.png" for i in range(N)],
            "label": labels,
            "width": width,
            "sharp": (np.arange(N) % 2).astype(bool),
            "odd name": np.arange(N) * 2,
            "Width": np.arange(N) + 1,
            "tags": [f"own{i % 2}" for i in range(N)],
            'quo"te': ["q"] * N,
        }
    )


@pytest.fixture
def project(tmp_path, table, rng):
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "dir0").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "dir0/Bild 000.png")
    spec = SourceSpec("table", str(tmp_path / "t.parquet"))
    with Project.create(tmp_path / "p.embed", spec, thumbnail_size=4) as made:
        positions = rng.normal(size=(N, 2)).astype(np.float32)
        positions[3] = np.nan
        made.write_projection("m", Projection(positions), fingerprint="f")
        yield made


@pytest.fixture
def decisions(project):
    with Decisions.open(project) as opened:
        yield opened


@pytest.fixture
def engine(project, decisions):
    with QueryEngine(project, decisions, projection="m") as opened:
        yield opened


def ids_where(condition) -> list[int]:
    return [i for i in range(N) if condition(i)]


def test_columns_are_named_once(engine):
    found = {c.name: c.kind for c in engine.columns()}
    assert list(found)[:3] == ["id", "source", "label"]
    assert found["width"] == "number"
    assert found["sharp"] == "bool"
    assert found["tags"] == "list"
    assert found["source.tags"] == "text"
    assert found["source.Width"] == "number"
    assert found["x"] == "number"
    assert "z" not in found


def test_filters_agree_with_plain_python(engine, table, decisions):
    decisions.add_tag("a", [1, 2])
    decisions.add_tag("b", [2, 3])
    decisions.exclude([4, 5])
    decisions.set_label("c9", [0, 1])
    decisions.set_note("look", [7])
    label, width = table["label"].to_pylist(), table["width"].to_pylist()
    path = table["image_path"].to_pylist()
    cases = [
        (Filter("label", "in", ("c1", "c3")), lambda i: label[i] in ("c1", "c3")),
        (Filter("label", "in", ("c1", None)), lambda i: label[i] in ("c1", None)),
        (Filter("label", "not in", ("c1",)), lambda i: label[i] != "c1"),
        (Filter("label", "missing"), lambda i: label[i] is None),
        (Filter("label", "present"), lambda i: label[i] is not None),
        (Filter("width", "between", (100, 300.5)), lambda i: 100 <= width[i] <= 300.5),
        (Filter("width", "between", (None, 300)), lambda i: width[i] <= 300),
        (Filter("width", "missing"), lambda i: width[i] != width[i]),
        (Filter("sharp", "in", (True,)), lambda i: i % 2 == 1),
        (Filter("source", "contains", ("bild 01",)), lambda i: "Bild 01" in path[i]),
        (Filter("odd name", "in", (4, 6.0)), lambda i: i in (2, 3)),
        (Filter("source.Width", "between", (5, 6)), lambda i: i in (4, 5)),
        (Filter('quo"te', "in", ("q",)), lambda i: True),
        (Filter("tags", "in", ("a",)), lambda i: i in (1, 2)),
        (Filter("tags", "in", ("a", "b")), lambda i: i in (1, 2, 3)),
        (Filter("tags", "not in", ("a",)), lambda i: i not in (1, 2)),
        (Filter("tags", "missing"), lambda i: i not in (1, 2, 3)),
        (Filter("tags", "in", ("a", None)), lambda i: i != 3),
        (Filter("excluded", "in", (False,)), lambda i: i not in (4, 5)),
        (Filter("corrected_label", "present"), lambda i: i in (0, 1)),
        (Filter("final_label", "in", ("c9",)), lambda i: i in (0, 1)),
        (Filter("note", "contains", ("OO",)), lambda i: i == 7),
        (Filter("x", "missing"), lambda i: i == 3),
    ]
    for chip, condition in cases:
        result = engine.run(Query((chip,)))
        assert result.ids.tolist() == ids_where(condition), chip
        assert result.title == chip.describe()
        assert Filter.from_dict(chip.to_dict()) == chip
    both = Query((cases[0][0], cases[5][0]), sql="sharp")
    expected = ids_where(lambda i: i % 2 and cases[0][1](i) and cases[5][1](i))
    assert engine.run(both).ids.tolist() == expected
    assert Query.from_dict(both.to_dict()) == both


def test_columns_follow_decisions(engine, decisions):
    query = Query((Filter("tags", "in", ("new",)),))
    assert len(engine.run(query)) == 0
    decisions.add_tag("new", [9, 8])
    assert engine.run(query).ids.tolist() == [8, 9]
    decisions.undo()
    assert len(engine.run(query)) == 0


def test_expressions(engine, decisions, table):
    decisions.add_tag("blurred", [10, 20])
    width = table["width"].to_pylist()
    for sql, condition in [
        (
            "label = 'c1' OR id < 3",
            lambda i: table["label"][i].as_py() == "c1" or i < 3,
        ),
        ("'blurred' IN tags", lambda i: i in (10, 20)),
        ("list_contains(tags, 'blurred') AND NOT excluded", lambda i: i in (10, 20)),
        ('"odd name" BETWEEN 4 AND 8', lambda i: 4 <= 2 * i <= 8),
        ("WIDTH > 500 -- wide", lambda i: width[i] > 500 or width[i] != width[i]),
        ("rows.id % 100 = 0", lambda i: i % 100 == 0),
        ("regexp_matches(source, '^dir1/')", lambda i: i % 3 == 1),
        ("CASE WHEN sharp THEN id ELSE 0 END > 490", lambda i: i % 2 and i > 490),
    ]:
        engine.check(sql)
        assert engine.run(Query(sql=sql)).ids.tolist() == ids_where(condition), sql
    top = engine.run(Query(order_by="width", descending=True, limit=3))
    assert len(top) == 3
    assert engine.run(Query(sql="id < 4", descending=True)).ids.tolist() == [3, 2, 1, 0]
    down = engine.run(Query(sql="id < 4", order_by='-"odd name"')).ids.tolist()
    assert down == [3, 2, 1, 0]


def test_numbers_sort_with_equal_and_missing_ones_in_place(engine, table):
    width, odd = (table[name].to_pylist() for name in ("width", "odd name"))
    given = ids_where(lambda i: width[i] == width[i])
    missing = ids_where(lambda i: width[i] != width[i])
    for down in (False, True):
        sign = -1 if down else 1
        found = engine.run(Query(order_by="width", descending=down)).ids.tolist()
        assert found == [*sorted(given, key=lambda i: (sign * width[i], i)), *missing]
        shares = Query(
            sql="id % 3 < 2", order_by='"odd name"', descending=down, limit=9
        )
        some = ids_where(lambda i: i % 3 < 2)
        wanted = sorted(some, key=lambda i: sign * odd[i])[:9]
        assert engine.run(shares).ids.tolist() == wanted
    assert engine.run(Query(sql="id < 0", order_by="width")).ids.size == 0


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("label = ", "ends too early"),
        ("label == = 'x'", r"does not parse.*character 10"),
        ("lable = 'x'", "Did you mean label"),
        ("nothing.like.it = 1", 'no column "it"'),
        ("width = 'abc'", "Could not convert string 'abc'"),
        ("count(*) > 1", "aggregate"),
        ("nosuch(id)", "nosuch"),
        ("true); DROP TABLE rows; SELECT (true", "one condition"),
        ("true) ORDER BY (id", "one condition"),
        ("true) LIMIT (1", "one condition"),
        ("true) UNION SELECT id FROM rows WHERE (true", "one condition"),
        ("true) GROUP BY (id", "one condition"),
        ("id IN (SELECT 1)", "another SELECT"),
        ("EXISTS (FROM glob('/etc/*'))", "another SELECT"),
        ("(SELECT content FROM read_text('/etc/passwd')) != ''", "another SELECT"),
        ("read_text('/etc/passwd') != ''", "table function"),
        ("getenv('HOME') != ''", "getenv"),
        ("current_setting('threads') != ''", "not possible"),
        ("write_log('x') IS NULL", "not possible"),
        ("sleep_ms(100000) IS NULL", "not possible"),
        ("id = ?", "a parameter"),
        ("row_number() OVER () = 1", "window"),
        ("repeat(source, 1000000000) = ''", "cannot be used"),
        ("(" * 3000, "more than 50 brackets"),
        ("a" * 4_001, "at most 4,000"),
        ("\ud800", "half a character"),
        ("\0", "empty"),
        ("error('boo')", "not possible"),
    ],
)
def test_bad_expressions_get_a_sentence(engine, sql, says):
    with pytest.raises(InputError, match=says) as told:
        engine.run(Query(sql=sql))
    assert len(str(told.value)) < 800
    assert engine.run(Query(sql="id = 1")).ids.tolist() == [1]  # and goes on


def test_nothing_outside_is_reached(engine, tmp_path, monkeypatch):
    import duckdb

    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    leaked = pa.table({"a": [1]})  # a local name must not be a table
    statements = (
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 100",
        "SELECT * FROM leaked",
    )
    for statement in statements:
        with pytest.raises(duckdb.Error):
            engine._db.execute(statement).fetchall()
    assert leaked.num_rows == 1
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Filter("a", "like", ("x",)), "can be in"),
        (lambda: Filter("a", "between", (1,)), "takes 2 values"),
        (lambda: Filter("a", "between", (None, None)), "one or two numbers"),
        (lambda: Filter("a", "between", ("1", 2)), "one or two numbers"),
        (lambda: Filter("a", "contains", (1,)), "takes a text"),
        (lambda: Filter("a", "in", ()), "1 to 10,000"),
        (lambda: Filter("a", "in", (float("nan"),)), "use missing"),
        (lambda: Filter("a", "in", ([],)), "cannot look for"),
        (lambda: Filter.from_dict({"column": "a", "op": "in"}), "list of values"),
        (lambda: Query.from_dict({"filters": [1]}), "list of filters"),
        (lambda: Query(limit=0), "1 or more"),
    ],
)
def test_bad_filters(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_filters_that_do_not_fit_their_column(engine):
    for chip in (
        Filter("label", "in", (1,)),
        Filter("width", "in", ("x",)),
        Filter("width", "in", (True,)),
        Filter("width", "contains", ("x",)),
        Filter("label", "between", (1, 2)),
        Filter("sharp", "in", ("yes",)),
    ):
        with pytest.raises(InputError, match="so no item"):
            engine.run(Query((chip,)))
    with pytest.raises(InputError, match="no column"):
        engine.run(Query((Filter("ghost", "missing"),)))


def test_find(engine, decisions):
    decisions.add_tag("C1", [499])
    decisions.set_label("Fox", [0])
    assert engine.find("17").ids.tolist() == [17]
    assert engine.find(" 9-7, 3 ;12, 8").ids.tolist() == [9, 8, 7, 3, 12]
    assert engine.find("bild 123").ids.tolist() == [123]
    c1 = ids_where(lambda i: i % 5 == 1 and i % 7 != 0)
    assert engine.find("c1").ids.tolist() == c1
    assert engine.find("C1").ids.tolist() == sorted([*c1, 499])
    assert engine.find("fox").ids.tolist() == [0]
    assert engine.find("C3").ids[:1].tolist() == [3]
    assert engine.find("BILD 00").ids.tolist() == list(range(10))
    assert len(engine.find("straße")) == 0
    assert len(engine.find("100% nothing_like that'")) == 0
    some = engine.find("dir0", limit=5)
    assert len(some) == 5
    assert some.note == "5 of 167 are shown."
    for text, says in (
        ("500", "no item 500"),
        ("  ", "Write an id"),
        ("a" * 5000, "5,000"),
    ):
        with pytest.raises(InputError, match=says):
            engine.find(text)


def test_histogram_and_counts(engine, table, decisions):
    width = np.asarray(table["width"])
    finite = width[np.isfinite(width)]
    counts, edges = engine.histogram("width", bins=7)
    assert counts.tolist() == np.histogram(finite, 7)[0].tolist()
    few, same = engine.histogram("width", bins=7, query=Query(sql="id < 100"))
    assert same.tolist() == edges.tolist()
    assert few.sum() == np.isfinite(width[:100]).sum()
    with pytest.raises(InputError, match="holds no numbers"):
        engine.histogram("label")
    decisions.add_tag("a", np.arange(10))
    decisions.add_tag("b", np.arange(5))
    assert engine.counts("tags") == [("a", 10), ("b", 5)]
    found = dict(engine.counts("label"))
    assert found[""] == len(ids_where(lambda i: i % 7 == 0))
    assert sum(found.values()) == N
    assert engine.counts("label", query=Query(sql="id IN (1, 6, 2)")) == [
        ("c1", 2),
        ("c2", 1),
    ]


def test_a_long_query_can_be_stopped(engine):
    """The interrupt is sent again and again: it may come before the query begins."""
    over = threading.Event()

    def stop():
        while not over.wait(0.05):
            engine.interrupt()

    slow = "len(list_filter(range(id * 0 + 20000000), lambda x: x % 7 = 3)) = -1"
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(JobCancelled, match="stopped"):
            engine.run(Query(sql=slow))
    finally:
        over.set()
        thread.join()
    assert engine.run(Query(sql="id = 1")).ids.tolist() == [1]
