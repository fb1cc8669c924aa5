"""The Export panel on a real project and a real engine process."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from gui_fakes import FakeEngine
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.gui import session as session_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.docks.export import KINDS
from napari_embed.gui.session import close_session
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N, LONG_MS = 30, 120_000


@pytest.fixture
def panels(tmp_path, rng, monkeypatch, make_napari_viewer, qtbot):
    """All panels with a folder of small pictures that has a map."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(session_module, "_start_engine", FakeEngine)
    for i in range(N):
        (tmp_path / f"few/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"few/{'ab'[i % 2]}/{i:02}.png")
    path = tmp_path / "few.embed"
    with Project.create(path, detect_source(str(tmp_path / "few"))) as project:
        positions = rng.standard_normal((N, 2)).astype(np.float32)
        project.write_projection("a-2d", Projection(positions), fingerprint="a")
    viewer = make_napari_viewer()
    panels = AllPanels(viewer)
    viewer.window.add_dock_widget(panels, name="All panels", area="right")
    panels.controller.open_path(path)
    qtbot.waitUntil(
        lambda: panels.controller.state.projection is not None, timeout=30_000
    )
    qtbot.waitUntil(lambda: panels.controller.can_decide, timeout=30_000)
    yield panels
    close_session(viewer)


def choose(panels, key: str) -> None:
    keys = [kind.key for kind in KINDS]
    panels.export.kind.setCurrentIndex(keys.index(key))


def scope(panels, words: str) -> None:
    box = panels.export.scope
    texts = [box.itemText(i) for i in range(box.count())]
    found = [i for i, text in enumerate(texts) if text.startswith(words)]
    assert found, texts
    box.setCurrentIndex(found[0])


def over(panels, qtbot) -> None:
    exports = panels.session.exports
    qtbot.waitUntil(lambda: not exports.busy, timeout=LONG_MS)


def test_what_is_chosen_is_written_and_nothing_else(panels, tmp_path, qtbot) -> None:
    """Everything, selection, shown, tag; excluded ones only when asked for."""
    export, controller = panels.export, panels.controller
    controller.select([1, 2])
    controller.exclude_selected()
    controller.select([4, 5, 6])
    controller.tag_items("good")
    qtbot.waitUntil(
        lambda: (
            bool(controller.state.decisions.tags)
            and controller.state.decisions.tags[0].count == 3
        ),
        timeout=30_000,
    )
    controller.select([7, 9])
    controller.set_hidden_classes([0])
    kept = [i for i in range(N) if i not in (1, 2)]
    codes = controller.coloring.codes
    expected = {
        "Everything": kept,
        "The selection": [7, 9],
        "What the map shows": [i for i in kept if codes[i] != 0],
        "Tag: good": [4, 5, 6],
    }
    for number, (words, ids) in enumerate(expected.items()):
        scope(panels, words)
        export.path.setText(str(tmp_path / f"out{number}.parquet"))
        export.run.click()
        over(panels, qtbot)
        table = pq.read_table(tmp_path / f"out{number}.parquet")
        assert table["id"].to_pylist() == ids, words
        assert export.done.text().startswith(f"{len(ids)} items in out{number}.parquet")
    scope(panels, "Everything")
    export.excluded.setChecked(True)
    export.path.setText(str(tmp_path / "whole.parquet"))
    export.run.click()
    over(panels, qtbot)
    table = pq.read_table(tmp_path / "whole.parquet")
    assert table["excluded"].to_pylist() == [i in (1, 2) for i in range(N)]
    assert table["tags"][4].as_py() == ["good"]


def test_formats_with_their_options(panels, tmp_path, qtbot) -> None:
    export = panels.export
    panels.controller.select([0])
    panels.controller.tag_items("good")
    scope(panels, "Everything")
    for kind in KINDS:
        choose(panels, kind.key)
        assert export.words.text()
        assert export.all_columns.isHidden() == (kind.key != "csv")
        assert export.links.isHidden() == (kind.key != "folder")
        assert export.what_card.isHidden() == (kind.key == "decisions")
    export.links.setChecked(True)
    export.by_label.setChecked(False)
    for key, name in (("coco", "c.json"), ("folder", "f"), ("decisions", "d.csv")):
        choose(panels, key)
        export.path.setText(str(tmp_path / name))
        export.run.click()
        over(panels, qtbot)
        assert panels.session.exports.done is not None, panels.controller.state.message
    # COCO wants sizes, so the images were measured first.
    coco = json.loads((tmp_path / "c.json").read_text())
    assert {(i["width"], i["height"]) for i in coco["images"]} == {(5, 6)}
    assert all(p.is_symlink() for p in (tmp_path / "f").glob("*.png"))
    assert len(list((tmp_path / "f").iterdir())) == N + 1
    assert "1 decisions in d.csv" in export.done.text()


def test_targets_that_cannot_be_written_are_told(panels, tmp_path, qtbot) -> None:
    """A file that exists is replaced only when asked; the rest changes nothing."""
    export, target = panels.export, tmp_path / "there.csv"
    target.write_text("mine")
    choose(panels, "csv")
    export.path.setText(str(target))
    export.run.click()
    over(panels, qtbot)
    assert export.done_card.isHidden()
    message = panels.controller.state.message
    assert "exists already" in message.text
    assert target.read_text() == "mine"
    assert not export.message.button.isHidden()
    export.message.button.click()
    over(panels, qtbot)
    assert target.read_text().startswith('"x","y","image_path","label"')
    assert panels.controller.state.message is None
    (tmp_path / "folder").mkdir()
    inside = panels.controller.state.project.path / "x.parquet"
    for target, words in (
        (tmp_path / "no such/x.parquet", "There is no folder"),
        (tmp_path / "folder", "is a folder"),
        (inside, "inside the project"),
    ):
        export.path.setText(str(target))
        export.run.click()
        over(panels, qtbot)
        assert words in panels.controller.state.message.text
        assert "Nothing was written" in panels.controller.state.message.kept
        assert export.done_card.isHidden()
    assert not inside.exists()
    assert list((tmp_path / "folder").iterdir()) == []
    export.path.setText("")
    assert not export.run.isEnabled()

    choose(panels, "jsonl")
    export.path.setText(str(tmp_path / "never.jsonl"))
    export.run.click()
    assert not export.cancel.isHidden()
    export.cancel.click()  # before anything was handed over
    over(panels, qtbot)
    export.run.click()
    qtbot.waitUntil(lambda: panels.session.exports._job is not None, timeout=30_000)
    export.cancel.click()
    over(panels, qtbot)
    # It may have been faster than the wish; then it is whole.
    left = [p.name for p in tmp_path.iterdir() if "never" in p.name]
    done = panels.session.exports.done
    assert left == ([] if done is None else ["never.jsonl"])
    assert export.cancel.isHidden()


def test_names_keep_their_place_and_tabs_fit(panels, tmp_path) -> None:
    export = panels.export
    assert export.path.text().endswith("few.parquet")
    choose(panels, "csv")
    assert export.path.text().endswith("few.csv")
    export.path.setText(str(tmp_path / "mine.v2.csv"))
    choose(panels, "h5ad")
    assert export.path.text() == str(tmp_path / "mine.v2.h5ad")
    choose(panels, "folder")
    assert export.path.text() == str(tmp_path / "mine.v2")

    panels.resize(panels.minimumSizeHint().expandedTo(panels.minimumSize()))
    bar = panels.tabs.tabBar()
    last = bar.tabRect(bar.count() - 1)
    assert last.right() <= panels.minimumWidth()
    for i in range(bar.count()):
        text = bar.fontMetrics().horizontalAdvance(bar.tabText(i))
        assert bar.tabRect(i).width() >= text
