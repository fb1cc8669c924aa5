"""The Find panel: words, likeness and problems become a selection in their order."""

from __future__ import annotations

import numpy as np
import pytest
from gui_fakes import FakeEngine
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_embed.arrays import Projection
from napari_embed.engine.finding_client import Finder
from napari_embed.engine.pipeline import run_neighbors
from napari_embed.engine.progress import JobControl
from napari_embed.errors import JobCancelled
from napari_embed.gui import session as session_module
from napari_embed.gui.docks import find as find_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.found import PROBLEMS, Found
from napari_embed.gui.gallery.model import GalleryModel
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
    find.filters.sql.setText("label = '1' AND id < 10")
    qtbot.keyClick(find.filters.sql, Qt.Key.Key_Return)
    found = wait(qtbot, panels, found)
    assert selected(panels) == [1, 4, 7]
    find.filters.sql.setText("label ==== 1")
    qtbot.keyClick(find.filters.sql, Qt.Key.Key_Return)
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


def add_filter(qtbot, panels, column, way, text=""):
    """Add a condition through the form; return what was found."""
    card, before = panels.find.filters, panels.session.searches.found
    qtbot.waitUntil(lambda: card.column.findText(column) >= 0, timeout=LONG_MS)
    card.column.setCurrentText(column)
    card.way.setCurrentText(way)
    card.value.setEditText(text)
    card.add.click()
    return wait(qtbot, panels, before)


def chips(panels):
    flow = panels.find.filters.flow
    return [flow.itemAt(i).widget() for i in range(flow.count())]


def test_conditions_add_up_as_chips_and_are_taken_away(panels, qtbot) -> None:
    add_filter(qtbot, panels, "label", "is", "1")
    assert selected(panels) == list(range(1, N, 3))
    add_filter(qtbot, panels, "id", "to", "10")
    assert selected(panels) == [1, 4, 7, 10]
    found = add_filter(qtbot, panels, "label", "is", "2")
    assert selected(panels) == [1, 2, 4, 5, 7, 8, 10]
    assert [chip.accessibleName() for chip in chips(panels)] == [
        "Remove: label is 1, 2",
        "Remove: id \N{LESS-THAN OR EQUAL TO} 10",
    ]
    chips(panels)[0].click()
    found = wait(qtbot, panels, found)
    assert selected(panels) == list(range(11))
    chips(panels)[0].click()
    qtbot.waitUntil(lambda: not selected(panels), timeout=LONG_MS)
    assert panels.session.searches.found is None
    assert panels.find.filters.chips.isHidden()


def test_a_range_is_brushed_on_the_histogram(panels, qtbot) -> None:
    card = panels.find.filters
    qtbot.waitUntil(lambda: card.column.findText("id") >= 0, timeout=LONG_MS)
    panels.tabs.setCurrentWidget(panels.find)
    card.column.setCurrentText("id")
    shown = card.histogram
    qtbot.waitUntil(lambda: shown._bars is not None, timeout=LONG_MS)
    assert int(shown._bars.counts.sum()) == N
    qtbot.waitUntil(lambda: shown.width() >= 96, timeout=LONG_MS)
    left, right = QPoint(1, 10), QPoint(shown.width() // 2 - 1, 10)
    qtbot.mousePress(shown, Qt.MouseButton.LeftButton, pos=left)
    qtbot.mouseMove(shown, right)
    shown.mouseMoveEvent(moved(right))
    qtbot.mouseRelease(shown, Qt.MouseButton.LeftButton, pos=right)
    wait(qtbot, panels)
    low, high = panels.session.searches.query.filters[0].values
    assert (low, high) == (0.0, 29.5)
    assert selected(panels) == list(range(30))


def moved(place):
    return QMouseEvent(
        QEvent.Type.MouseMove, QPointF(place), QPointF(place),
        Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("column", "text", "says"),
    [
        ("id", "twelve", "holds numbers"),
        ("label", "   ", "Write what"),
        ("label", "x" * 1_000_000, "at most 1,000 characters"),
    ],
)
def test_a_condition_that_makes_no_sense_changes_nothing(
    panels, qtbot, column, text, says
) -> None:
    found = add_filter(qtbot, panels, "label", "is", "1")
    card = panels.find.filters
    card.column.setCurrentText(column)
    card.value.setEditText(text)
    card.add.click()
    assert says in panels.controller.state.message.text
    assert len(panels.controller.state.message.text) < 200
    assert panels.session.searches.found is found
    assert len(chips(panels)) == 1


def test_an_expression_that_does_not_parse_leaves_the_chips(panels, qtbot) -> None:
    found = add_filter(qtbot, panels, "label", "is", "1")
    sql = panels.find.filters.sql
    sql.setText("label ==== 1")
    qtbot.keyClick(sql, Qt.Key.Key_Return)
    qtbot.waitUntil(
        lambda: panels.controller.state.message is not None, timeout=LONG_MS
    )
    assert "cannot be used" in panels.controller.state.message.text
    assert panels.session.searches.found is found
    assert panels.session.searches.query.sql == ""
    sql.setText("id > 50")
    qtbot.keyClick(sql, Qt.Key.Key_Return)
    wait(qtbot, panels, found)
    assert selected(panels) == [52, 55, 58]
    sql.clear()
    qtbot.waitUntil(lambda: len(selected(panels)) == N // 3, timeout=LONG_MS)


def test_texts_of_data_are_shown_as_they_are(panels, qtbot) -> None:
    add_filter(qtbot, panels, "label", "is not", "<b>a & b</b>")
    (chip,) = chips(panels)
    assert "<b>a && b</b>" in chip.text()
    assert "&lt;b&gt;" in chip.toolTip()


def test_an_image_dropped_on_the_panel_is_looked_for(panels, qtbot, tmp_path) -> None:
    asked = []
    panels.session.searches.like_image = asked.append
    panels.find.body.dropped.emit(str(tmp_path / "new.png"))
    assert asked == [tmp_path / "new.png"]


def test_words_need_an_encoder_that_knows_some(panels, qtbot, monkeypatch) -> None:
    find = panels.find
    assert find.words.isHidden()
    assert "CLIP" in find.wordless.text()
    assert not find.wordless.isHidden()
    monkeypatch.setattr(find_module, "_with_words", lambda: frozenset(["made"]))
    find._enable()
    assert find.words.isEnabled()
    assert not find.words.isHidden()
    engine = FakeEngine()
    monkeypatch.setattr(panels.session.searches, "_make_client", lambda: engine)
    find.words.setText("a red bus")
    qtbot.keyClick(find.words, Qt.Key.Key_Return)
    assert engine.arguments[0]["text"] == "a red bus"


def test_corrected_labels_count_when_wrong_ones_are_looked_for(
    panels, qtbot, monkeypatch
) -> None:
    controller, given = panels.controller, []
    qtbot.waitUntil(lambda: controller.can_decide, timeout=LONG_MS)
    controller.select([7])
    controller.set_label("cat")
    qtbot.waitUntil(lambda: len(controller.state.decisions.done) == 1, timeout=LONG_MS)

    def submit(self, kind, done, failed, **options):
        given.append(options["labels"])
        failed(JobCancelled("enough"))

    monkeypatch.setattr(Finder, "submit", submit)
    kinds = [p.kind for p in PROBLEMS]
    panels.find.problem.setCurrentIndex(kinds.index("mislabels"))
    panels.find.run.click()
    qtbot.waitUntil(lambda: bool(given), timeout=LONG_MS)
    codes, names = given[0]
    assert names[codes[7]] == "cat"
    assert names[codes[8]] == "2"


def test_the_slider_cuts_groups_and_pictures_show_their_distance(panels, qtbot) -> None:
    find, searches = panels.find, panels.session.searches
    find.problem.setCurrentIndex([p.kind for p in PROBLEMS].index("near-duplicates"))
    find.run.click()
    few = wait(qtbot, panels)
    assert not find.distance.isHidden()
    assert panels.session.map.link.score(59) == "0"
    slider = find.distance.slider
    slider.setSliderDown(True)
    slider.setValue(slider.maximum())
    qtbot.waitUntil(lambda: bool(searches.preview), timeout=LONG_MS)
    assert searches.found is few
    slider.setSliderDown(False)
    many = wait(qtbot, panels, few)
    assert len(many.ids) > len(few.ids)
    assert many.distance == pytest.approx(many.pairs.largest)
    model = GalleryModel()
    model.show(panels.session.map.link, many.ids)
    assert model.captions(1)[0] == f"{many.scores[1]:.3g}"
