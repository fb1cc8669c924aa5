"""Review: a list is gone through by keys, and the place in it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from gui_fakes import FakeEngine
from qtpy.QtCore import Qt

from napari_embed.arrays import Projection
from napari_embed.gui import session as session_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.docks.review import open_review
from napari_embed.gui.review import Review
from napari_embed.gui.session import close_session
from napari_embed.gui.settings import read_settings
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N, LONG_MS = 20, 60_000
KEYS = Qt.Key


@pytest.fixture
def panels(tmp_path, rng, monkeypatch, make_napari_viewer, qtbot):
    """Panels on a project of images with a map and the tags dark (1) and odd (2)."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(session_module, "_start_engine", FakeEngine)
    images = rng.integers(0, 255, (N, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images)
    path = tmp_path / "few.embed"
    with Project.create(path, detect_source(str(tmp_path / "few.npz"))) as project:
        positions = rng.standard_normal((N, 2)).astype(np.float32)
        project.write_projection("a-2d", Projection(positions), fingerprint="a")
    viewer = make_napari_viewer()
    made = AllPanels(viewer)
    viewer.window.add_dock_widget(made, name="All panels", area="right")
    made.controller.open_path(path)
    qtbot.waitUntil(
        lambda: (
            made.controller.state.projection is not None and made.controller.can_decide
        ),
        timeout=LONG_MS,
    )
    for name in ("dark", "odd"):
        made.controller.new_tag(name)
    qtbot.waitUntil(
        lambda: len(made.controller.state.decisions.tags) == 2, timeout=LONG_MS
    )
    yield made
    close_session(viewer)


def begin(panels, ids, qtbot):
    """Start a review; return its panel."""
    panels.session.review_items(np.array(ids))
    panel = open_review(panels.session.viewer)
    qtbot.waitUntil(lambda: panel.item == ids[0], timeout=LONG_MS)
    return panel


def press(qtbot, panel, key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    """Do what a key does: offscreen, shortcuts need an active window."""
    from qtpy.QtGui import QKeySequence
    from qtpy.QtWidgets import QShortcut

    wanted = QKeySequence(int(key) | int(modifier.value))
    (found,) = [s for s in panel.findChildren(QShortcut) if s.key() == wanted]
    found.activated.emit()


def test_keys_tag_exclude_skip_and_go_back(panels, qtbot) -> None:
    controller, review = panels.controller, panels.session.review
    panel = begin(panels, [7, 3, 11, 5], qtbot)
    assert panel.title.text().startswith("1 of 4, 3 left")
    press(qtbot, panel, KEYS.Key_1)
    assert review.item == 3
    press(qtbot, panel, KEYS.Key_Space)
    press(qtbot, panel, KEYS.Key_X)
    assert review.item == 5
    qtbot.waitUntil(lambda: controller.state.n_excluded == 1, timeout=LONG_MS)
    decisions = controller.decisions
    assert np.flatnonzero(decisions.excluded()).tolist() == [11]
    assert np.flatnonzero(decisions.tagged("dark")).tolist() == [7]
    press(qtbot, panel, KEYS.Key_Left)
    qtbot.waitUntil(lambda: panel.decided.text() == "excluded", timeout=LONG_MS)
    press(qtbot, panel, KEYS.Key_X)
    qtbot.waitUntil(lambda: not decisions.excluded().any(), timeout=LONG_MS)
    assert review.item == 11
    press(qtbot, panel, KEYS.Key_Home)
    qtbot.waitUntil(lambda: panel.decided.text() == "dark", timeout=LONG_MS)
    press(qtbot, panel, KEYS.Key_1)
    qtbot.waitUntil(lambda: not decisions.tagged("dark").any(), timeout=LONG_MS)
    assert review.item == 7


def test_undo_shows_the_item_again(panels, qtbot) -> None:
    panel = begin(panels, [4, 9], qtbot)
    press(qtbot, panel, KEYS.Key_2)
    decisions = panels.controller.decisions
    qtbot.waitUntil(lambda: bool(decisions.tagged("odd").any()), timeout=LONG_MS)
    press(qtbot, panel, KEYS.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not decisions.tagged("odd").any(), timeout=LONG_MS)
    assert panels.session.review.item == 4


def test_the_place_is_kept_and_the_end_begins_anew(panels, qtbot) -> None:
    review = panels.session.review
    panel = begin(panels, [4, 9, 2], qtbot)
    press(qtbot, panel, KEYS.Key_Right)
    press(qtbot, panel, KEYS.Key_Escape)
    assert review.item == -1
    assert "Nothing is under review" in panel.empty.text()
    other = Review(panels.controller)
    assert other.start(np.array([4, 9, 2]))
    assert (other.item, other.left) == (9, 1)
    other.step(1)
    other.step(1)
    assert other.ended
    other.leave()
    assert read_settings(other._file) == {}
    assert other.start(np.array([4, 9, 2]))
    assert other.item == 4


def test_after_the_last_one_it_says_so(panels, qtbot) -> None:
    panel = begin(panels, [4], qtbot)
    press(qtbot, panel, KEYS.Key_Space)
    assert "the last one" in panel.empty.text()
    press(qtbot, panel, KEYS.Key_Left)
    assert panel.item == 4


def test_images_are_read_ahead(panels, qtbot) -> None:
    panel = begin(panels, [4, 9, 2, 1, 0, 3], qtbot)
    qtbot.waitUntil(lambda: {9, 2, 1} <= set(panel._images), timeout=LONG_MS)
    press(qtbot, panel, KEYS.Key_Right)
    assert panel._full is not None
    assert panel._full.item == 9


def test_a_key_without_a_tag_and_an_empty_list_are_told(panels, qtbot) -> None:
    panels.controller.review_wanted.emit()
    assert "Select the items" in panels.controller.state.message.text
    begin(panels, [4, 9], qtbot)
    panels.session.review.tag(7)
    assert "No tag has the key 7" in panels.controller.state.message.text
    assert panels.session.review.item == 4


def test_a_selection_is_reviewed_in_the_order_shown(panels, qtbot) -> None:
    panels.controller.select([3, 8, 1])
    link = panels.session.map.link
    link.set_sequence(np.arange(N)[::-1].astype(np.int32), "Turned round")
    panels.controller.review_wanted.emit()
    assert panels.session.review.ids.tolist() == [8, 3, 1]


def test_a_damaged_file_of_places_does_no_harm(panels) -> None:
    review = panels.session.review
    review._file.parent.mkdir(parents=True, exist_ok=True)
    review._file.write_text("[1, 2", encoding="utf-8")
    assert review.start(np.array([4, 9]))
    assert review.item == 4
