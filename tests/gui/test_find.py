"""The Find panel: words, likeness and problems become a selection in their order."""

from __future__ import annotations

import numpy as np
import pytest
from gui_fakes import FakeEngine
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_embed.arrays import Projection
from napari_embed.engine.pipeline import run_neighbors
from napari_embed.engine.progress import JobControl
from napari_embed.gui import session as session_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.searches import PROBLEMS
from napari_embed.gui.session import close_session
from napari_embed.params import NeighborParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N = 60
LONG_MS = 60_000


@pytest.fixture
def panels(tmp_path, rng, monkeypatch, make_napari_viewer, qtbot):
    """Panels on a project with a map, vectors, and a copy of item 5 as item 59."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(session_module, "_start_engine", FakeEngine)
    images = rng.integers(0, 255, (N, 8, 8), dtype=np.uint8)
    images[59] = images[5]
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(N) % 3)
    path = tmp_path / "few.embed"
    with Project.create(path, detect_source(str(tmp_path / "few.npz"))) as project:
        stage = project.begin_stage(
            "embeddings/made", fingerprint="a", shape_tail=(8,), dtype="float32"
        )
        vectors = rng.standard_normal((N, 8)).astype(np.float32)
        vectors[59] = vectors[5]
        for chunk in stage.pending():
            stage.write(chunk, vectors[stage.rows(chunk)])
        stage.seal({"metric": "euclidean", "dim": 8})
        run_neighbors(project, NeighborParams(), JobControl(), at_least=20)
        positions = rng.standard_normal((N, 2)).astype(np.float32)
        project.write_projection("a-2d", Projection(positions), fingerprint="a")
    viewer = make_napari_viewer()
    made = AllPanels(viewer)
    viewer.window.add_dock_widget(made, name="All panels", area="right")
    made.controller.open_path(path)
    qtbot.waitUntil(
        lambda: made.controller.state.projection is not None, timeout=LONG_MS
    )
    yield made
    close_session(viewer)


def wait(qtbot, panels, before=None):
    """Wait for the answer; return what was found."""
    searches = panels.session.searches
    qtbot.waitUntil(
        lambda: not searches.busy and searches.found is not before, timeout=LONG_MS
    )
    QApplication.processEvents()
    return searches.found


def selected(panels):
    return np.flatnonzero(panels.controller.selection()).tolist()


def test_words_and_expressions_select(panels, qtbot) -> None:
    find = panels.find
    find.text.setText("7, 3-4")
    qtbot.keyClick(find.text, Qt.Key.Key_Return)
    found = wait(qtbot, panels)
    assert found.ids.tolist() == [7, 3, 4]
    assert selected(panels) == [3, 4, 7]
    assert panels.session.map.link.ids.tolist() == [7, 3, 4]
    assert find.found_card.state.text() == "3"
    find.sql.setText("label = '1' AND id < 10")
    qtbot.keyClick(find.sql, Qt.Key.Key_Return)
    found = wait(qtbot, panels, found)
    assert selected(panels) == [1, 4, 7]
    find.sql.setText("label ==== 1")
    qtbot.keyClick(find.sql, Qt.Key.Key_Return)
    qtbot.waitUntil(
        lambda: panels.controller.state.message is not None, timeout=LONG_MS
    )
    assert panels.controller.state.message.level == "error"
    assert selected(panels) == [1, 4, 7]
    assert not panels.session.searches.busy
    find.text.setText("no such thing")
    qtbot.keyClick(find.text, Qt.Key.Key_Return)
    found = wait(qtbot, panels, found)
    assert found.ids.size == 0
    assert find.title.text().startswith("Nothing was found")


def test_likeness_and_copies_by_a_real_engine(panels, qtbot) -> None:
    controller, find = panels.controller, panels.find
    assert not find.like_mean.isEnabled()
    controller.select([5])
    find.like_mean.click()
    found = wait(qtbot, panels)
    assert found.ids[0] == 59
    assert panels.session.map.link.ids[0] == 59
    find.problem.setCurrentIndex([p.kind for p in PROBLEMS].index("near-duplicates"))
    find.run.click()
    found = wait(qtbot, panels, found)
    assert {5, 59} <= set(found.ids.tolist())
    assert 59 in found.extra
    extra = len(found.extra)
    find.exclude.click()
    qtbot.waitUntil(lambda: controller.state.n_excluded == extra, timeout=LONG_MS)
    find.run.click()
    found = wait(qtbot, panels, found)
    assert 59 not in found.ids


def test_images_are_read_first_where_needed(panels, qtbot) -> None:
    find = panels.find
    find.problem.setCurrentIndex([p.kind for p in PROBLEMS].index("duplicates"))
    find.run.click()
    found = wait(qtbot, panels)
    assert sorted(found.ids.tolist()) == [5, 59]


def test_suggested_labels_are_taken_in_one_step(panels, qtbot) -> None:
    from napari_embed.gui.searches import Found

    searches, controller = panels.session.searches, panels.controller
    searches._show(
        Found(np.array([4, 9]), "Likely wrong labels", suggestions=(
            ("cat", np.array([4])), ("dog", np.array([9])),
        ))
    )  # fmt: skip
    panels.find.take.click()
    qtbot.waitUntil(lambda: len(controller.state.decisions.done) == 1, timeout=LONG_MS)
    assert controller.decisions.labels_of([4, 9]) == ["cat", "dog"]
    assert panels.find.take.isHidden()


def test_a_search_can_be_cancelled_and_ends_with_the_project(
    panels, qtbot, monkeypatch
) -> None:
    engine = FakeEngine()
    searches = panels.session.searches
    monkeypatch.setattr(searches, "_make_client", lambda: engine)
    panels.controller.select([1])
    panels.find.like_any.click()
    assert searches.busy
    assert not panels.find.cancel.isHidden()
    panels.find.cancel.click()
    assert engine.jobs[0].wishes == ["cancel"]
    assert not searches.busy
    panels.session.close()
    assert engine.closed


def test_nothing_selected_is_told(panels) -> None:
    panels.controller.alike_wanted.emit()
    assert "Select what" in panels.controller.state.message.text


def test_a_second_search_sees_what_was_decided_since(panels, qtbot) -> None:
    searches = panels.session.searches
    searches.where("'odd' IN tags")
    first = wait(qtbot, panels)
    assert len(first.ids) == 0
    asked = searches._asked
    panels.controller.decide(lambda decisions: decisions.add_tag("odd", [8, 2]))
    qtbot.waitUntil(
        lambda: panels.controller.decisions.tag_counts().get("odd") == 2,
        timeout=LONG_MS,
    )
    searches.where("'odd' IN tags")
    second = wait(qtbot, panels, before=first)
    assert second.ids.tolist() == [2, 8]
    assert searches._asked is asked  # nothing is read again
