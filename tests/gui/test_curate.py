"""The Curate panel on a real project: what is decided lasts and can be undone."""

from __future__ import annotations

import numpy as np
import pytest
from gui_fakes import FakeEngine
from qtpy.QtCore import Qt

from napari_embed.arrays import Projection
from napari_embed.curation.decisions import Decisions
from napari_embed.gui import session as session_module
from napari_embed.gui.docks.all_panels import AllPanels
from napari_embed.gui.docks.gallery import GalleryPanel
from napari_embed.gui.session import close_session
from napari_embed.project import Project
from napari_embed.sources import detect_source

pytestmark = pytest.mark.gui
N = 40


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A project of small images with a map."""
    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(session_module, "_start_engine", FakeEngine)
    images = rng.integers(0, 255, (N, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(N) % 2)
    path = tmp_path / "few.embed"
    with Project.create(path, detect_source(str(tmp_path / "few.npz"))) as project:
        positions = rng.standard_normal((N, 2)).astype(np.float32)
        project.write_projection("a-2d", Projection(positions), fingerprint="a")
    return path


@pytest.fixture
def opened(folder, make_napari_viewer, qtbot):
    """Return a function that opens the project in a new viewer."""
    viewers = []

    def open_it() -> AllPanels:
        viewer = make_napari_viewer()
        viewers.append(viewer)
        panels = AllPanels(viewer)
        viewer.window.add_dock_widget(panels, name="All panels", area="right")
        panels.controller.open_path(folder)
        qtbot.waitUntil(
            lambda: panels.controller.state.projection is not None, timeout=30_000
        )
        return panels

    yield open_it
    for viewer in viewers:
        close_session(viewer)


def settled(qtbot, panels, condition) -> None:
    qtbot.waitUntil(
        lambda: condition(panels.controller.state.decisions), timeout=30_000
    )


def test_exclusion_lasts_and_is_undone_later(opened, folder, qtbot) -> None:
    panels = opened()
    controller = panels.controller
    controller.select([3, 5, 8])
    controller.exclude_selected()
    settled(qtbot, panels, lambda d: len(d.done) == 1)
    assert "until" not in controller.state.message.text
    close_session(panels.session.viewer)

    again = opened()
    layer = again.session.map.layer
    assert np.flatnonzero(layer.excluded_mask).tolist() == [3, 5, 8]
    assert again.controller.state.n_excluded == 3
    assert again.controller.state.n_drawn == N - 3
    again.curate.undo.click()
    settled(qtbot, again, lambda d: not d.done and len(d.undone) == 1)
    qtbot.waitUntil(lambda: layer.n_excluded == 0, timeout=30_000)
    again.curate.redo.click()
    qtbot.waitUntil(lambda: layer.n_excluded == 3, timeout=30_000)
    # The window's undo takes the same step back; nothing is decided anew.
    again.controller.undo()
    settled(qtbot, again, lambda d: not d.done and len(d.undone) == 1)
    qtbot.waitUntil(lambda: layer.n_excluded == 0, timeout=30_000)
    with (
        Project.open(folder, mode="r") as project,
        Decisions.open(project, mode="r") as decisions,
    ):
        assert not decisions.excluded().any()


def test_one_undo_takes_back_selections_and_decisions_in_their_order(
    opened, folder, qtbot
) -> None:
    panels = opened()
    controller, layer = panels.controller, panels.session.map.layer

    def now() -> tuple:
        with (
            Project.open(folder, mode="r") as project,
            Decisions.open(project, mode="r") as decisions,
        ):
            tags = [t.name for t in decisions.tags()]
            return (
                np.flatnonzero(controller.selection()).tolist(),
                layer.n_visible,
                np.flatnonzero(layer.excluded_mask).tolist(),
                np.flatnonzero(decisions.excluded()).tolist(),
                np.flatnonzero(decisions.tagged("a")).tolist() if "a" in tags else None,
                decisions.labels_of([5]),
            )

    def quiet() -> None:
        qtbot.waitUntil(lambda: controller._awaited == 0, timeout=30_000)

    steps = (
        lambda: controller.select([1, 2, 3]),
        lambda: controller.tag_items("a"),
        lambda: controller.exclude_selected(),
        lambda: controller.select([5, 6]),
        lambda: controller.set_label("other"),
        lambda: controller.hide_selected(),
        lambda: controller.select([8]),
        lambda: controller.include_all(),
        lambda: controller.tag_items("a"),
    )
    seen = [now()]
    for step in steps:
        step()
        quiet()
        seen.append(now())
    assert len({str(state) for state in seen}) == len(seen)
    # Tagging what is tagged already is no step.
    controller.tag_items("a")
    quiet()
    assert controller.state.undo_label == 'Tag 1 item "a"'
    for state in reversed(seen[:-1]):
        controller.undo()
        quiet()
        assert now() == state
    assert controller.state.undo_label == ""
    for state in seen[1:]:
        controller.redo()
        quiet()
        assert now() == state
    # All at once, without waiting for the disk in between.
    for _ in steps:
        controller.undo()
    quiet()
    qtbot.waitUntil(lambda: now() == seen[0], timeout=30_000)
    for _ in steps:
        controller.redo()
    quiet()
    qtbot.waitUntil(lambda: now() == seen[-1], timeout=30_000)
    # Undo in Curate passes by what was selected since.
    controller.select([20])
    panels.curate.undo.click()
    quiet()
    assert now()[4] == [1, 2, 3]
    assert now()[0] == [20]
    controller.undo()
    assert np.flatnonzero(controller.selection()).tolist() == [8]
    controller.undo()  # the next decision: including all again
    quiet()
    assert now()[3] == [1, 2, 3]
    close_session(panels.session.viewer)

    # The log goes on where the window's history ends.
    again = opened()
    for _ in range(3):
        again.controller.undo()
    settled(qtbot, again, lambda d: not d.done and len(d.undone) == 5)
    assert again.controller.state.undo_label == ""
    assert again.controller.state.redo_label == 'Tag 3 items "a"'


def test_quick_decisions_one_after_the_other_agree(opened, qtbot) -> None:
    """No answer to an earlier decision takes a later exclusion back."""
    panels = opened()
    controller = panels.controller
    for i in range(12):
        controller.select([i])
        controller.tag_items(f"tag {i % 3}")
        controller.exclude_selected()
    settled(qtbot, panels, lambda d: len(d.done) >= 24)
    qtbot.waitUntil(lambda: controller._awaited == 0, timeout=30_000)
    labels = [step.label for step in controller.state.decisions.done]
    assert len(labels) == 24
    assert not [text for text in labels if text.startswith("Restore")]
    assert panels.session.map.layer.n_excluded == 12


def test_what_was_decided_just_before_the_end_is_kept(opened, folder) -> None:
    panels = opened()
    panels.controller.select([1])
    panels.controller.exclude_selected()
    panels.controller.select([2])
    panels.controller.tag_items("late")
    close_session(panels.session.viewer)
    with (
        Project.open(folder, mode="r") as project,
        Decisions.open(project, mode="a") as decisions,
    ):
        assert np.flatnonzero(decisions.excluded()).tolist() == [1]
        assert np.flatnonzero(decisions.tagged("late")).tolist() == [2]


def test_tags_by_panel_and_by_key(opened, qtbot) -> None:
    panels = opened()
    curate, controller = panels.curate, panels.controller
    assert not curate.no_tags.isHidden()
    for name in ("<b>blurred</b>", "good"):
        curate.new_tag.setText(name)
        qtbot.keyClick(curate.new_tag, Qt.Key.Key_Return)
    settled(qtbot, panels, lambda d: len(d.tags) == 2)
    assert [t.shortcut for t in controller.state.decisions.tags] == [1, 2]
    assert not curate.tag_selected.isEnabled()
    controller.select([0, 1, 2])
    curate.tags.setCurrentItem(curate.tags.topLevelItem(0))
    curate.tag_selected.click()
    settled(qtbot, panels, lambda d: d.tags[0].count == 3)
    assert curate.tags.topLevelItem(0).text(0) == "<b>blurred</b>"
    assert curate.tags.topLevelItem(0).text(2) == "3"
    controller.select([0])
    curate.untag_selected.click()
    settled(qtbot, panels, lambda d: d.tags[0].count == 2)
    curate.select_tagged.click()
    qtbot.waitUntil(lambda: controller.state.n_selected == 2, timeout=30_000)
    assert np.flatnonzero(controller.selection()).tolist() == [1, 2]
    controller.tag_by_key(2, [7, 9])
    settled(qtbot, panels, lambda d: d.tags[1].count == 2)
    controller.tag_by_key(2, [7])
    settled(qtbot, panels, lambda d: d.tags[1].count == 1)
    controller.tag_again()
    settled(qtbot, panels, lambda d: d.tags[1].count == 3)
    curate.menu_for("good").actions()[-1].trigger()
    settled(qtbot, panels, lambda d: len(d.tags) == 1)


def test_number_keys_tag_the_pictures_of_the_gallery(opened, qtbot) -> None:
    panels = opened()
    gallery = GalleryPanel(panels.session.viewer)
    panels.session.viewer.window.add_dock_widget(gallery, name="Gallery")
    panels.controller.new_tag("good")
    settled(qtbot, panels, lambda d: len(d.tags) == 1)
    gallery.model.show(gallery.model.link, np.arange(N)[::-1])
    gallery.view.select_rows(4)
    gallery._tag_by_key(1)
    settled(qtbot, panels, lambda d: d.tags[0].count == 1)
    panels.controller.select_tagged("good")
    qtbot.waitUntil(lambda: panels.controller.state.n_selected == 1, timeout=30_000)
    assert np.flatnonzero(panels.controller.selection()).tolist() == [N - 5]


def test_labels_and_notes_of_the_selected(opened, folder, qtbot) -> None:
    panels = opened()
    curate = panels.curate
    panels.controller.select([4, 6])
    curate.label.setEditText("c")
    curate.set_label.click()
    curate.note.setText("looked at twice")
    qtbot.keyClick(curate.note, Qt.Key.Key_Return)
    settled(qtbot, panels, lambda d: len(d.done) == 2 and d.labels == ("c",))
    panels.controller.select([6])
    curate.reset_label.click()
    settled(qtbot, panels, lambda d: len(d.done) == 3)
    with (
        Project.open(folder, mode="r") as project,
        Decisions.open(project, mode="r") as decisions,
    ):
        assert decisions.labels_of([4, 6]) == ["c", None]
        assert decisions.notes_of([4, 6]) == ["looked at twice"] * 2


def test_a_second_window_only_looks_and_says_why(opened, qtbot) -> None:
    first = opened()
    first.controller.new_tag("mine")
    settled(qtbot, first, lambda d: len(d.tags) == 1)
    second = opened()
    assert not second.controller.can_decide
    assert not second.curate.read_only.isHidden()
    assert second.controller.state.decisions.tags[0].name == "mine"
    second.controller.select([2])
    assert not second.curate.tag_selected.isEnabled()
    second.controller.exclude_selected()
    message = second.controller.state.message
    assert "until the project is closed" in message.text
    assert second.controller.state.decisions.read_only in message.kept
    assert second.session.map.layer.n_excluded == 1


def test_the_same_project_opened_again_can_still_be_decided_on(
    opened, folder, qtbot
) -> None:
    panels = opened()
    controller = panels.controller
    before = controller.decisions
    controller.open_path(folder)
    qtbot.waitUntil(
        lambda: controller.decisions is not None and controller.decisions is not before,
        timeout=30_000,
    )
    assert controller.can_decide


def test_nothing_selected_is_told(opened) -> None:
    panels = opened()
    panels.controller.tag_again()
    assert "no tag" in panels.controller.state.message.text
    panels.controller.set_label("a")
    assert "Select the items" in panels.controller.state.message.text


def test_without_a_project_it_says_what_to_do(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer()
    panels = AllPanels(viewer)
    qtbot.addWidget(panels)
    assert not panels.curate.empty.isHidden()
    assert panels.curate.body.isHidden()
    close_session(viewer)


def test_tags_and_corrected_labels_colour_the_points(opened, qtbot) -> None:
    """They are offered once there are any, and follow every decision and undo."""
    panels = opened()
    controller = panels.controller

    def offered() -> list:
        return [c.name for c in controller.state.columns]

    def quiet() -> None:
        qtbot.waitUntil(
            lambda: controller._awaited == 0 and controller.colors_settled,
            timeout=30_000,
        )

    assert offered() == ["label"]
    controller.select([0, 1, 2])
    controller.tag_items("a")
    controller.select([2, 3])
    controller.tag_items("b")
    quiet()
    assert offered() == ["label", "tags"]
    assert panels.explore.color.findData("tags") > 0
    controller.color_by("tags")
    quiet()
    coloring = controller.coloring
    assert coloring.names == ("a", "b", "several tags")
    assert coloring.codes[:5].tolist() == [0, 0, 2, 1, -1]
    tag = controller.state.decisions.tags[0]
    rgb = [round(255 * float(v)) for v in coloring.palette[0][:3]]
    assert "#" + "".join(f"{v:02x}" for v in rgb) == tag.color

    controller.set_hidden_classes([1])
    controller.select([9])
    controller.tag_items("a")
    qtbot.waitUntil(lambda: controller.coloring.codes[9] == 0, timeout=30_000)
    assert controller.state.hidden_classes == {1}
    controller.change_tag("a", new_name="c", color="#ff0000")
    qtbot.waitUntil(lambda: controller.coloring.names[0] == "c", timeout=30_000)
    assert controller.coloring.palette[0].tolist() == [1, 0, 0, 1]
    controller.undo()
    controller.undo()
    qtbot.waitUntil(lambda: controller.coloring.codes[9] == -1, timeout=30_000)

    controller.set_label("new")
    quiet()
    assert "final_label" in offered()
    controller.color_by("final_label")
    quiet()
    assert controller.coloring.names[controller.coloring.codes[9]] == "new"
    controller.undo()  # the correction: nothing is left to colour by
    qtbot.waitUntil(
        lambda: controller.state.color_column == "label" and "final_label"
        not in offered(), timeout=30_000,
    )  # fmt: skip
