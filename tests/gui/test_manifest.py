"""napari finds the plugin: panels, commands, reader and samples of the manifest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_project_folder
from npe2 import PluginManager, PluginManifest
from npe2.manifest.utils import import_python_name
from qtpy.QtWidgets import QApplication, QWidget

import napari_embed
from napari_embed.gui import sample

REPOSITORY = Path(__file__).resolve().parents[2]
IN_PACKAGE = Path(napari_embed.__file__).with_name("napari.yaml")
AT_ROOT = REPOSITORY / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(IN_PACKAGE)


def test_the_root_copy_is_identical() -> None:
    assert AT_ROOT.read_bytes() == IN_PACKAGE.read_bytes()


def test_npe2_finds_no_fault() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "napari-embed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "valid" in answer.stdout


def test_every_command_exists(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    ids = [c.id for c in manifest.contributions.commands]
    assert len(set(ids)) == len(ids)
    for command in manifest.contributions.commands:
        assert command.python_name, command.id


def test_the_panels_are_widgets(manifest: PluginManifest) -> None:
    widgets = {w.display_name: w for w in manifest.contributions.widgets}
    assert list(widgets) == [
        "All panels",
        "Project",
        "Compute",
        "Explore",
        "Find",
        "Curate",
        "Export",
        "Gallery",
        "Image",
        "Review",
        "Objects",
    ]
    for widget in widgets.values():
        command = next(
            c for c in manifest.contributions.commands if c.id == widget.command
        )
        assert issubclass(import_python_name(command.python_name), QWidget)


def test_menus_name_commands_that_exist(manifest: PluginManifest) -> None:
    known = {c.id for c in manifest.contributions.commands}
    for items in manifest.contributions.menus.values():
        assert {item.command for item in items} <= known


def test_the_reader_takes_projects_only(tmp_path: Path) -> None:
    project = make_project_folder(tmp_path / "photos.embed")
    assert sample.get_reader(str(project)) is not None
    assert sample.get_reader([str(project)]) is not None
    (tmp_path / "empty.embed").mkdir()
    assert sample.get_reader(str(tmp_path / "empty.embed")) is None
    assert sample.get_reader(str(tmp_path / "a.png")) is None
    assert sample.get_reader([str(project), str(project)]) is None


def test_the_stack_sample_is_real_images() -> None:
    [(images, meta, kind)] = sample.sample_stack()
    assert kind == "image"
    assert images.shape == (4000, 28, 28)
    assert images.dtype == np.uint8
    labels = meta["metadata"]["labels"]
    assert len(set(labels)) == 10


@pytest.fixture
def plugin_viewer(make_napari_viewer, tmp_path, monkeypatch):
    from napari_embed.gui.session import close_session

    monkeypatch.setenv("NAPARI_EMBED_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("NAPARI_EMBED_DATA", str(tmp_path / "data"))
    manager = PluginManager.instance()
    if "napari-embed" not in manager:
        manager.register(PluginManifest.from_distribution("napari-embed"))
    viewer = make_napari_viewer()
    yield viewer
    close_session(viewer)


@pytest.mark.gui
def test_panels_open_from_the_plugin_menu(plugin_viewer) -> None:
    for name in ("Project", "Compute", "Explore", "Find", "Curate", "All panels"):
        _, widget = plugin_viewer.window.add_plugin_dock_widget("napari-embed", name)
        assert isinstance(widget, QWidget)
    QApplication.processEvents()
    assert len(plugin_viewer.window.dock_widgets) == 6


@pytest.mark.gui
def test_commands_act_on_the_current_viewer(plugin_viewer, monkeypatch) -> None:
    from napari_embed.gui import commands, session

    monkeypatch.setattr("napari.current_viewer", lambda: plugin_viewer)
    commands.open_all()
    commands.open_all()
    assert list(plugin_viewer.window.dock_widgets) == ["All panels (napari-embed)"]
    controller = session.session_for(plugin_viewer).controller
    for tool in ("lasso", "box", "pan"):
        getattr(commands, f"tool_{tool}")()
        assert controller.state.tool == tool
    # Without a map they do nothing and raise nothing.
    for name in (
        "clear_selection", "compute_cancel", "compute_pause", "compute_run_all",
        "density", "front_only", "marker_per_class",
        "exclude_selected", "fit_selection", "hide_selected", "include_all",
        "invert_selection", "isolate_selected", "next_page", "previous_page", "redo",
        "redo_decision", "show_all", "undo", "undo_decision",
    ):  # fmt: skip
        getattr(commands, name)()
    assert controller.state.message is None
    commands.find_alike()
    assert "Select what" in controller.state.message.text
    commands.tag_again()
    assert "no tag" in controller.state.message.text


@pytest.mark.gui
def test_every_command_is_in_the_palette(plugin_viewer, manifest) -> None:
    from napari._app_model import get_app_model

    known = {key for key, _ in get_app_model().commands}
    reader_and_samples = {
        "napari-embed.get_reader", "napari-embed.sample_project",
        "napari-embed.sample_stack",
    }  # fmt: skip
    wanted = {c.id for c in manifest.contributions.commands} - reader_and_samples
    # napari before 0.7 registers panels under their names in the menu.
    known |= {
        w.command
        for w in manifest.contributions.widgets
        if f"napari-embed:{w.display_name}" in known
    }
    assert wanted <= known
    samples = ("fashion_project", "fashion_images")  # old napari puts a colon before
    assert all(
        f"napari-embed.{name}" in known or f"napari-embed:{name}" in known
        for name in samples
    )


@pytest.mark.gui
def test_file_open_opens_a_project_in_the_panels(
    plugin_viewer, qtbot, tmp_path, monkeypatch
) -> None:
    from gui_fakes import FakeProject, projection

    from napari_embed.gui import session

    path = make_project_folder(tmp_path / "photos.embed")
    project = FakeProject(path, projections={"tsne-3d": projection(60, 3)})
    monkeypatch.setattr(session, "_open_for_reading", lambda _path: project)
    monkeypatch.setattr("napari.current_viewer", lambda: plugin_viewer)
    added = plugin_viewer.open(str(path), plugin="napari-embed")
    assert added == []
    controller = session.session_for(plugin_viewer).controller
    qtbot.waitUntil(lambda: controller.state.projection is not None, timeout=10_000)


@pytest.mark.gui
def test_the_sample_opens_as_a_project(plugin_viewer, qtbot, monkeypatch) -> None:
    from gui_fakes import FakeEngine

    from napari_embed.gui import session

    engine = FakeEngine()
    monkeypatch.setattr(session, "_start_engine", lambda: engine)
    monkeypatch.setattr("napari.current_viewer", lambda: plugin_viewer)
    plugin_viewer.open_sample("napari-embed", "fashion_project")
    assert engine.jobs[0].name == "create"
    assert engine.arguments[0]["source"] == "sample"
    qtbot.waitUntil(lambda: len(plugin_viewer.layers) == 0, timeout=5_000)
