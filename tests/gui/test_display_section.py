"""The Display section in the Explore panel, its commands, and what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QSlider

from napari_embed.gui import commands
from napari_embed.gui.canvas import NapariMap
from napari_embed.gui.display import DisplaySettings
from napari_embed.gui.docks.display import ALL_POINTS, DisplaySection
from napari_embed.gui.session import close_session, session_for

pytestmark = pytest.mark.gui


@pytest.fixture
def session(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_viewer.canvas.native.setFixedSize(300, 240)
    made = session_for(viewer)
    yield made
    close_session(viewer)


@pytest.fixture
def section(session, qtbot, rng):
    made = DisplaySection(session.controller, session.map)
    qtbot.addWidget(made)
    session.controller.state_changed.connect(
        lambda new, old: made.show_settings(new.display)
    )
    session.map.show(rng.normal(size=(300, 3)), name="m", n_components=3)
    made.show_settings(session.controller.state.display)
    return made


def choose(combo: QComboBox, data: object) -> None:
    """Choose an entry as a click does."""
    index = combo.findData(data)
    assert index >= 0
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def test_the_panels_tell_what_the_graphics_card_could_not_do(session, rng) -> None:
    session.map.show(rng.normal(size=(50, 3)), name="m", n_components=3)
    session.map.layer.signals.drawn_changed.emit(50)  # is no failure
    assert session.controller.state.message is None
    session.map.layer.signals.drawing_failed.emit("No points could be drawn.")
    message = session.controller.state.message
    assert (message.text, message.level) == ("No points could be drawn.", "warning")


def test_every_control_changes_the_points(section, session) -> None:
    layer = session.map.layer
    section.size.slider.setValue(160)
    section.opacity.slider.setValue(40)
    choose(section.density, "heat")
    choose(section.frame, 100_000)
    section.shapes.click()
    section.front.click()
    wanted = DisplaySettings(8.0, 0.4, "heat", True, 100_000, True)
    assert layer.display == wanted == session.controller.state.display
    assert not section.size.auto.isChecked()
    section.size.auto.click()
    section.opacity.auto.click()
    choose(section.density, "off")
    choose(section.frame, None)
    section.shapes.click()
    section.front.click()
    assert layer.display == DisplaySettings()
    section.size.auto.click()  # takes over the size that was automatic
    assert layer.display.size == pytest.approx(layer.point_size)
    choose(section.frame, ALL_POINTS)
    assert layer.frame_points == ALL_POINTS


def test_changes_from_elsewhere_are_shown(section, session) -> None:
    layer = session.map.layer
    layer.current_size = 12.0  # napari's own slider
    assert section.size.slider.value() == 240
    assert not section.size.auto.isChecked()
    layer.density = "colors"
    assert section.density.currentData() == "colors"
    layer.frame_points = 777
    assert section.frame.currentText() == "up to 777"
    assert session.controller.state.display == layer.display


def test_settings_outlive_the_map(section, session, rng) -> None:
    session.controller.set_display(shapes=True, opacity=0.5)
    session.map.clear()
    session.map.show(rng.normal(size=(50, 2)), name="n", n_components=2)
    assert session.map.layer.display == DisplaySettings(opacity=0.5, shapes=True)
    session.controller._release_project()
    assert session.controller.state.display == DisplaySettings(opacity=0.5, shapes=True)


def test_keys_reach_every_control(section) -> None:
    section.toggle.setChecked(True)
    section.show()
    controls = section.findChildren((QSlider, QCheckBox, QComboBox))
    assert len(controls) == 8
    for control in controls:
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control
        assert control.toolTip(), control
        assert control.accessibleName() or control.text()


def test_the_section_says_what_a_frame_leaves_out(section, session, qtbot) -> None:
    layer = session.map.layer
    layer.set_drawn(300)
    assert section.drawn.text() == ""
    session.viewer.layers.selection.active = layer
    layer.set_drawn(120)
    assert section.drawn.text() == "showing 120 of 300"
    assert "showing 120 of 300" in str(session.viewer.status)
    layer.set_drawn(300)
    assert section.drawn.text() == ""


def test_commands_switch(session) -> None:
    controller = session.controller
    seen = []
    for _ in range(3):
        commands.density()
        seen.append(controller.state.display.density)
    assert seen == ["colors", "heat", "off"]
    for command, name in (
        (commands.marker_per_class, "shapes"),
        (commands.front_only, "front_only"),
    ):
        for wanted in (True, False):
            command()
            assert getattr(controller.state.display, name) is wanted


def test_settings_from_a_file_are_checked() -> None:
    wanted = DisplaySettings(3.0, 0.2, "heat", True, 10, True)
    found = DisplaySettings.from_dict({**vars(wanted), "unknown": np.zeros(3)})
    assert found == wanted
    assert DisplaySettings.from_dict({}) == DisplaySettings()
    for bad in ({"size": "big"}, {"opacity": 3}, {"density": ["heat"]}):
        with pytest.raises((ValueError, TypeError)):
            DisplaySettings.from_dict(bad)


def test_the_map_keeps_settings_before_there_are_points(make_napari_viewer) -> None:
    viewer = make_napari_viewer(show=False)
    made = NapariMap(viewer)
    made.set_display(DisplaySettings(density="heat"))
    made.show(np.zeros((3, 2), np.float32), name="m", n_components=2)
    assert made.layer.density == "heat"
    made.close()
