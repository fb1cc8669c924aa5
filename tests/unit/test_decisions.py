"""Decisions: tags, labels, exclusion, notes; undone, redone, replayed, kept."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from napari_embed.curation.decisions import Decisions, SavedSelection, Tag
from napari_embed.curation.decisions import log as log_module
from napari_embed.curation.decisions import saved as saved_module
from napari_embed.curation.decisions.idset import checked_ids, pack_ids, unpack_ids
from napari_embed.errors import (
    InputError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreVersionError,
)
from napari_embed.project import Project
from napari_embed.project.rescan import look_again
from napari_embed.sources import SourceSpec

N = 300


@pytest.fixture
def path(tmp_path, rng):
    np.savez(
        tmp_path / "v.npz", vectors=rng.normal(size=(N, 3)), labels=np.arange(N) % 4
    )
    spec = SourceSpec("vectors", str(tmp_path / "v.npz"))
    Project.create(tmp_path / "p.embed", spec, chunk_rows=64).close()
    return tmp_path / "p.embed"


@pytest.fixture
def project(path):
    with Project.open(path) as opened:
        yield opened


@pytest.fixture
def decisions(project):
    with Decisions.open(project, mode="a", who="Ada") as opened:
        yield opened


def facts(d: Decisions) -> dict:
    """Everything that holds, as plain values."""
    codes, names = d.corrected()
    return {
        "tags": d.tags(),
        "tagged": {t.name: np.flatnonzero(d.tagged(t.name)).tolist() for t in d.tags()},
        "labels": [names[c] if c >= 0 else None for c in codes],
        "excluded": np.flatnonzero(d.excluded()).tolist(),
        "notes": d.notes_of(np.arange(N)),
        "selections": {s.name: d.selection(s.name).tolist() for s in d.selections()},
        "views": {v.name: d.view(v.name) for v in d.views()},
        "labels_of_steps": (d.undo_label, d.redo_label),
    }


@pytest.mark.parametrize("size", [0, 1, 7, 300, 2999, 3000])
def test_sets_of_ids_come_back(size, rng):
    ids = np.sort(rng.choice(3000, size, replace=False))
    assert unpack_ids(pack_ids(ids), 3000).tolist() == ids.tolist()
    shuffled = rng.permutation(ids)
    packed = pack_ids(shuffled, ordered=True)
    assert unpack_ids(packed, 3000).tolist() == shuffled.tolist()
    assert checked_ids(np.concatenate([shuffled, shuffled]), 3000).tolist() == (
        ids.tolist()
    )


def test_a_million_ids_take_few_bytes():
    assert len(pack_ids(np.arange(1_000_000))) < 200


def test_damaged_sets_are_refused(rng):
    packed = pack_ids(np.arange(0, 300, 7))
    for cut in range(len(packed)):
        with pytest.raises(StoreError, match="damaged set"):
            unpack_ids(packed[:cut], N)
    with pytest.raises(StoreError, match="an item beyond"):
        unpack_ids(packed, 100)
    with pytest.raises(StoreError, match="impossible"):
        unpack_ids(b"G" + b"\xff" * 20, N)


def test_tags(decisions):
    step = decisions.add_tag("blurred", [3, 1, 3])
    assert (step.label, step.who, step.n_items) == ('Tag 2 items "blurred"', "Ada", 2)
    assert decisions.add_tag("blurred", [1]) is None
    mask = np.zeros(N, bool)
    mask[[1, 2]] = True
    decisions.add_tag("dark", mask)
    assert decisions.tags_of([3, 0, 1]) == [("blurred",), (), ("blurred", "dark")]
    assert decisions.tag_counts() == {"blurred": 2, "dark": 2}
    first, second = decisions.tags()
    assert first.color != second.color
    decisions.define_tag("dark", shortcut=2, color="#ABCDEF")
    assert decisions.tags()[1] == Tag("dark", "#abcdef", 2)
    decisions.change_tag("blurred", new_name="soft", shortcut=2)
    assert decisions.tags() == [Tag("soft", first.color, 2), Tag("dark", "#abcdef")]
    decisions.toggle_tag("soft", [1])
    decisions.toggle_tag("soft", [1, 3])
    assert decisions.tagged("soft")[[1, 3]].all()
    decisions.delete_tag("soft")
    assert [t.name for t in decisions.tags()] == ["dark"]
    decisions.undo()
    assert decisions.tagged("soft").sum() == 2


def test_labels_notes_and_exclusion(decisions):
    decisions.set_label("cat", [1, 2, 3])
    decisions.set_label("bat", [2])
    codes, names = decisions.corrected()
    assert names == ["bat", "cat"]
    assert codes[:5].tolist() == [-1, 1, 0, 1, -1]
    assert decisions.set_label(None, [1, 2, 5]).n_items == 2
    assert decisions.labels_of([3, 2]) == ["cat", None]
    decisions.set_note(" line\n<b>two</b> ", [7])
    assert decisions.notes_of([7, 8]) == ["line\n<b>two</b>", ""]
    decisions.exclude(np.arange(N))
    decisions.restore([5])
    assert decisions.n_excluded == N - 1
    assert decisions.undo().label == "Restore 1 item"
    assert decisions.undo().label == "Exclude 300 items"
    assert decisions.n_excluded == 0


def test_saved_selections_views_and_session(decisions, project):
    decisions.save_selection("odd", [5, 1, 3])
    decisions.save_view("front", {"camera": [1, 2.5], "hidden": [0]})
    decisions.remember({"page": 3})
    assert decisions.selection("odd").tolist() == [5, 1, 3]
    (saved,) = decisions.selections()
    assert isinstance(saved, SavedSelection)
    assert (saved.name, saved.n_items, saved.who) == ("odd", 3, "Ada")
    decisions.save_selection("odd", [9])
    decisions.delete_view("front")
    with pytest.raises(InputError, match='no view "front"'):
        decisions.view("front")
    decisions.undo()
    decisions.undo()
    assert decisions.view("front") == {"camera": [1, 2.5], "hidden": [0]}
    assert decisions.selection("odd").tolist() == [5, 1, 3]
    with Decisions.open(project, mode="r") as reader:
        assert reader.remembered() == {"page": 3}
        assert facts(reader)["selections"] == {"odd": [5, 1, 3]}
        reader.remember({"page": 4})
        assert reader.remembered() == {"page": 3}
    with pytest.raises(InputError, match="plain values"):
        decisions.save_view("bad", {"x": object()})
    with pytest.raises(InputError, match="1 MiB"):
        decisions.save_view("bad", {"x": "a" * (1 << 20)})


def test_a_step_of_several_changes_is_one_and_an_error_takes_it_back(decisions):
    with decisions.step("Clean up"):
        decisions.add_tag("a", [1])
        decisions.exclude([1, 2])
        decisions.set_label("x", [2])
    before = facts(decisions)
    assert decisions.undo_label == "Clean up"
    assert decisions.history()[0][0].n_items == 2

    def break_off():
        with decisions.step("Broken"):
            decisions.set_note("text of its own", [4])
            decisions.delete_tag("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert facts(decisions) == before
    decisions.undo()
    assert decisions.n_excluded == 0
    assert decisions.tags() == []
    done, undone = decisions.history()
    assert (done, [s.label for s in undone]) == ([], ["Clean up"])
    assert decisions.undo() is None
    assert decisions.redo().label == "Clean up"
    assert facts(decisions) == before


def test_a_failed_write_changes_nothing(decisions, monkeypatch):
    decisions.add_tag("a", [1])
    before = facts(decisions)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(decisions._journal, "_mark", full)
    for change in (
        lambda: decisions.set_note("new text", [1]),
        lambda: decisions.add_tag("b", [2]),
        decisions.undo,
    ):
        with pytest.raises(StoreError, match="disk is full"):
            change()
        assert facts(decisions) == before
    monkeypatch.undo()
    decisions.set_note("new text", [1])
    assert decisions.notes_of([1]) == ["new text"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("a\nb", "cannot be shown"),
        ("a\x1b[2Jb", "cannot be shown"),
        ("x" * 101, "101 characters"),
        ("<p>" * 350_000, "1,050,000 characters"),
        ("\ud800", "half a character"),
    ],
)
def test_names_that_cannot_be_used(decisions, name, says):
    for use in (
        lambda: decisions.add_tag(name, [1]),
        lambda: decisions.set_label(name, [1]),
        lambda: decisions.save_selection(name, [1]),
        lambda: decisions.save_view(name, {}),
    ):
        with pytest.raises(InputError, match=says) as told:
            use()
        assert len(str(told.value)) < 300
    assert decisions.history() == ([], [])


def test_html_is_plain_text(decisions):
    decisions.add_tag("<b>bold</b>", [1])
    assert decisions.tags_of([1]) == [("<b>bold</b>",)]
    with pytest.raises(InputError, match="1,000,000 characters"):
        decisions.set_note("n" * 1_000_000, [1])


def test_bad_ids_and_unknown_names(decisions):
    for bad in ([N], [-1], [1.5], np.zeros(N - 1, bool), [[1]]):
        with pytest.raises(InputError):
            decisions.exclude(bad)
    assert decisions.exclude([]) is None
    for call in (decisions.tagged, decisions.delete_tag, decisions.selection):
        with pytest.raises(InputError, match="Known: none yet"):
            call("ghost")
    with pytest.raises(InputError, match="written #rrggbb"):
        decisions.define_tag("a", color="red")
    with pytest.raises(InputError, match="number key"):
        decisions.define_tag("a", shortcut=10)
    decisions.add_tag("b", [1])
    decisions.add_tag("c", [1])
    with pytest.raises(InputError, match='a tag "c" already'):
        decisions.change_tag("b", new_name="c")


def random_step(d: Decisions, rng: np.random.Generator) -> None:
    """Do something; some of it takes back or replaces what was done."""
    ids = rng.choice(N, rng.integers(1, 40), replace=False)
    tag = f"t{rng.integers(6)}"
    kind = rng.integers(12)
    if kind < 3:
        d.add_tag(tag, ids)
    elif kind == 3:
        d.set_label(f"l{rng.integers(5)}" if rng.random() < 0.8 else None, ids)
    elif kind == 4:
        d.exclude(ids) if rng.random() < 0.6 else d.restore(ids)
    elif kind == 5:
        d.set_note(f"n{rng.integers(50)}" if rng.random() < 0.8 else None, ids[:3])
    elif kind == 6:
        d.save_selection(f"s{rng.integers(3)}", ids)
    elif kind == 7:
        d.save_view(f"v{rng.integers(3)}", {"page": int(rng.integers(9))})
    elif kind == 8 and any(t.name == tag for t in d.tags()):
        d.delete_tag(tag) if rng.random() < 0.3 else d.remove_tag(tag, ids)
    elif kind == 9:
        with d.step("Both"):
            d.add_tag(tag, ids)
            d.set_label("both", ids)
    elif kind == 10:
        for _ in range(rng.integers(1, 6)):
            d.undo()
    else:
        for _ in range(rng.integers(1, 4)):
            d.redo()


def run_random_steps(path: str, seed: int, steps: int) -> None:
    """Run in a process of its own, which is killed on the way."""
    rng = np.random.default_rng(seed)
    log_module._SNAPSHOT_STEPS = 40
    with Project.open(path) as project:
        d = Decisions.open(project, mode="a")
        for number in range(steps):
            random_step(d, rng)
            print(number, flush=True)


def test_ten_thousand_random_operations_replay_exactly(project, rng, monkeypatch):
    """With many snapshots at first, then by the log alone."""
    d = Decisions.open(project, mode="a")
    d._journal._db.execute("PRAGMA synchronous = OFF")  # the replay is tested here
    for block, snapshot_steps in enumerate((37, 37, 37, 10_000, 10_000)):
        monkeypatch.setattr(log_module, "_SNAPSHOT_STEPS", snapshot_steps)
        for _ in range(2000):
            random_step(d, rng)
        before = facts(d)
        d.close()
        d = Decisions.open(project, mode="a")
        d._journal._db.execute("PRAGMA synchronous = OFF")
        assert facts(d) == before, f"after {block}"
    while d.redo():  # the last random step may have taken something back
        pass
    before = facts(d)
    seen = [before]
    while d.undo():
        seen.append(facts(d)) if len(seen) < 200 else None
    assert d.n_excluded == 0
    assert d.tags() == d.selections() == d.views() == []
    back = []
    while d.redo():
        back.append(facts(d))
    assert back[-1] == before
    assert back[-len(seen) :][::-1] == seen
    d.close()


def test_saving_the_same_again_is_no_step(decisions, monkeypatch):
    """Also at another time: undo would seem to do nothing."""
    decisions.save_view("v", {"page": 1})
    decisions.save_selection("s", [3, 1])
    steps, moment = decisions.history(), decisions.views()[0].when
    monkeypatch.setattr(saved_module, "now", lambda: "2100-01-01T00:00:00Z")
    decisions.save_view("v", {"page": 1})
    decisions.save_selection("s", [3, 1])
    assert decisions.history() == steps
    decisions.save_view("v", {"page": 2})
    assert decisions.undo_label == 'Save view "v"'
    assert decisions.views()[0].when == "2100-01-01T00:00:00Z" != moment


def test_a_kill_leaves_whole_steps(path, project, seed):
    """The state after a kill is that of the steps that were told, or one more."""
    steps = 400
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_decisions as t;"
        "t.run_random_steps(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"
    )
    folder = __file__.rpartition("/")[0]
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder, str(path), str(seed), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
    )
    last = -1
    for line in child.stdout:
        last = int(line)
        if last == 120:
            child.kill()
    child.wait()
    child.stdout.close()
    assert 120 <= last < steps
    with Decisions.open(project, mode="a") as d:
        found = facts(d)
    twin = path.with_name("twin.embed")
    twin_project = Project.create(twin, project.spec)
    rng = np.random.default_rng(seed)
    with twin_project, Decisions.open(twin_project, mode="a") as d:
        for _ in range(last + 1):
            random_step(d, rng)
        matches = [facts(d) == found]
        done = len(d.history(10_000)[0])
        # A kill within one random step of several undos leaves some of them.
        state = rng.bit_generator.state
        random_step(d, rng)
        matches.append(facts(d) == found)
        after = len(d.history(10_000)[0])
        if after < done - 1 or after > done + 1:
            rng.bit_generator.state = state
            return
    assert any(matches)


def test_one_decides_others_look(path, project, decisions):
    decisions.add_tag("a", [1])
    with pytest.raises(StoreLockedError, match="being made by process"):
        Decisions.open(project, mode="a")
    with Project.open(path) as other, Decisions.open(other) as reader:
        assert not reader.writable
        assert "being made by process" in reader.read_only_reason
        assert reader.tags_of([1]) == [("a",)]
        for call in (lambda: reader.add_tag("a", [1]), reader.undo):
            with pytest.raises(StoreReadOnlyError, match="Nothing was changed"):
                call()
        decisions.exclude([4])
        assert reader.n_excluded == 0
        reader.refresh()
        assert reader.n_excluded == 1


def test_decisions_are_made_while_vectors_are_computed(path, rng):
    with Project.open(path, mode="a") as writer, Decisions.open(writer, mode="a") as d:
        d.add_tag("keep", [1, 2])
        for fingerprint in "ab":  # the second embeds anew
            stage = writer.begin_stage(
                "embeddings/own",
                fingerprint=fingerprint,
                shape_tail=(3,),
                dtype="float32",
            )
            for chunk in stage.pending():
                rows = stage.rows(chunk)
                values = rng.normal(size=(rows.stop - rows.start, 3))
                stage.write(chunk, values.astype(np.float32))
                d.exclude([chunk])
            stage.seal({})
    with Project.open(path) as again, Decisions.open(again) as d:
        assert d.tagged("keep").sum() == 2
        assert d.n_excluded == 5
        assert again.verify() == []


def version_of(path) -> int:
    db = sqlite3.connect(path / "state.sqlite")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return found


def test_an_old_project_is_brought_up_by_its_first_decision(path):
    assert version_of(path) == 1  # as written before there were decisions
    content = (path / "state.sqlite").read_bytes()
    with Project.open(path) as project, Decisions.open(project, mode="r") as d:
        assert facts(d)["tags"] == []
        assert d.history() == ([], [])
        assert d.remembered() == {}
    assert (path / "state.sqlite").read_bytes() == content
    with Project.open(path) as project, Decisions.open(project) as d:
        assert d.undo() is None
        assert version_of(path) == 1
        d.exclude([1])
    assert version_of(path) == 2
    with Project.open(path, mode="a") as project, Decisions.open(project) as d:
        assert d.n_excluded == 1


def test_a_newer_project_is_refused(path):
    db = sqlite3.connect(path / "state.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreVersionError, match="Update napari-embed"):
        Project.open(path)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE decision_changes SET ids = x'4701'",
        "UPDATE decision_changes SET ids = NULL, new = 3.5",
        "UPDATE decision_changes SET key = 'elsewhere'",
        "UPDATE decision_changes SET old = 1, new = 0 WHERE key = 'excluded'",
        "UPDATE decision_marks SET value = 'x'",
        "UPDATE decision_changes SET new = '{\"name\": 1}' WHERE ids IS NULL",
        "INSERT INTO decision_state VALUES ('label:ids', 5)",
    ],
)
def test_damaged_logs_are_told(path, sql):
    with Project.open(path) as project, Decisions.open(project) as d:
        d.exclude([1, 2])
        d.add_tag("a", [1])
    db = sqlite3.connect(path / "state.sqlite")
    with db:
        db.execute(sql)
    db.close()

    def look():
        with Project.open(path) as project, Decisions.open(project, mode="r") as d:
            d.tags()

    with pytest.raises(StoreError, match="log of decisions"):
        look()


def test_a_million_ids_at_once(tmp_path):
    n = 1_000_000
    np.save(tmp_path / "v.npy", np.zeros((n, 1), np.float32))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    with Project.create(tmp_path / "p.embed", spec, chunk_rows=1 << 16) as project:
        before = project.size_on_disk()
        with Decisions.open(project) as d:
            d.add_tag("all", np.ones(n, bool))
            d.exclude(np.arange(0, n, 2))
            d.set_label("x", np.arange(n)[::-1])
            assert d.undo().n_items == n
            assert d.tag_counts() == {"all": n}
            assert d.n_excluded == n // 2
        assert project.size_on_disk() - before < 200_000


def test_decisions_stay_with_their_items_when_more_are_found(tmp_path, rng):
    """Three files are added to a folder of twenty after decisions were made."""
    (tmp_path / "img").mkdir()

    def add(*numbers):
        for i in numbers:
            pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"img/{i:02d}.png")

    add(*range(0, 40, 2))
    spec = SourceSpec("folder", str(tmp_path / "img"))
    with (
        Project.create(tmp_path / "f.embed", spec, thumbnail_size=4) as project,
        Decisions.open(project) as d,
    ):
        d.add_tag("a", np.arange(20))
        d.set_label("x", [19])
        d._journal.keep_snapshot(d._state.to_values(), 2)
        d.exclude([3])
    add(1, 3, 5)
    with Project.open(tmp_path / "f.embed", mode="a") as project:
        look_again(project)
    with Project.open(tmp_path / "f.embed") as project, Decisions.open(project) as d:
        assert project.n_items == 23
        assert np.flatnonzero(d.tagged("a")).tolist() == list(range(20))
        assert d.labels_of([19, 22]) == ["x", None]
        d.add_tag("a", [22])
        for _ in range(4):
            d.undo()
        assert not d.tagged("a").any() if d.tags() else True
