"""The window that makes items of labelled objects: layers, crops, notes, the copy."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_embed.arrays import Projection
from napari_embed.gui.docks.new_objects import FILES, NewObjects
from napari_embed.gui.docks.objects import ObjectsPanel
from napari_embed.gui.objects.layers import (
    is_own_copy,
    linked_layer,
    pair_problem,
    save_layers,
    take_over_labels,
)
from napari_embed.gui.session import close_session, session_for
from napari_embed.project import Project
from napari_embed.sources import open_source

pytestmark = pytest.mark.gui
pytest.importorskip("ome_zarr_models")
WAIT_MS = 30_000


def squares(side=96, cell=16):
    labels = np.zeros((side, side), np.int32)
    n = side // cell
    for number in range(n * n):
        y, x = divmod(number, n)
        labels[y * cell + 3 : y * cell + 12, x * cell + 3 : x * cell + 12] = number + 1
    return labels


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_EMBED_DATA", str(tmp_path / "data"))


@pytest.fixture
def viewer(make_napari_viewer, rng):
    made = make_napari_viewer()
    for name in ("DNA", "actin"):
        made.add_image(
            rng.integers(0, 4000, (96, 96), np.uint16), name=name,
            contrast_limits=(100, 3000), scale=(0.5, 0.5),
            units=("micrometer", "micrometer"),
        )  # fmt: skip
    made.add_labels(
        squares(), name="my nuclei", scale=(0.5, 0.5),
        units=("micrometer", "micrometer"),
    )  # fmt: skip
    yield made
    close_session(made)


@pytest.fixture
def window(viewer, qtbot):
    made = NewObjects(session_for(viewer))
    qtbot.waitUntil(lambda: made.spec is not None, timeout=WAIT_MS)
    yield made
    made.reject()


def copies(tmp_path):
    folder = tmp_path / "data" / "layers"
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_crops_are_shown_before_anything_is_computed(window, tmp_path):
    assert window.go.isEnabled()
    assert not window.crops.pixmap().isNull()
    assert "36 objects" in window.words.text()
    assert "\N{MICRO SIGN}m" in window.words.text()
    assert window.images.count() == 2
    assert window.spec.options["limits"] == "100-3000,100-3000"
    assert copies(tmp_path) == ["my nuclei.ome.zarr"]
    window.reject()
    assert copies(tmp_path) == []


def test_wrong_words_are_told_and_rules_counted(window, qtbot):
    window.size.setText("many")
    qtbot.waitUntil(lambda: "length such as" in window.words.text(), timeout=WAIT_MS)
    assert not window.go.isEnabled()
    window.size.setText("6um")
    window.least.setText("1000um2")
    qtbot.waitUntil(lambda: "too small" in window.words.text(), timeout=WAIT_MS)
    window.least.setText("")
    qtbot.waitUntil(lambda: window.spec is not None, timeout=WAIT_MS)
    assert "crops of 6 \N{MICRO SIGN}m" in window.words.text()
    for row in range(2):
        window.images.item(row).setCheckState(Qt.CheckState.Unchecked)
    qtbot.waitUntil(
        lambda: "Choose the image layers" in window.words.text(), timeout=WAIT_MS
    )


def test_labels_edited_meanwhile_are_looked_at_again(window, viewer, qtbot, tmp_path):
    layer = viewer.layers["my nuclei"]
    layer.selected_label = 1
    layer.fill((24, 24), 1)
    qtbot.waitUntil(lambda: "35 objects" in window.words.text(), timeout=WAIT_MS)
    assert copies(tmp_path) == ["my nuclei.ome.zarr"] or len(copies(tmp_path)) == 1


def test_the_project_is_made_of_what_was_shown(window, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(
        window.session.controller.compute, "create",
        lambda source, target, *, spec: made.append((source, target, spec)),
    )  # fmt: skip
    spec = window.spec
    window._accept()
    [(source, target, given)] = made
    assert given == spec
    assert target.name == "my nuclei.embed"
    assert source.is_dir()
    assert is_own_copy(given)
    assert copies(tmp_path) == ["my nuclei.ome.zarr"]


def test_files_are_taken_too(window, qtbot, tmp_path):
    copied = window.spec.path
    window.place.setCurrentText(FILES)
    window._turn()
    qtbot.waitUntil(lambda: "Choose an OME-Zarr" in window.words.text(),
                    timeout=WAIT_MS)  # fmt: skip
    window.path.setText(str(tmp_path / "nowhere"))
    qtbot.waitUntil(lambda: "nothing at" in window.words.text(), timeout=WAIT_MS)
    window.path.setText(copied)
    qtbot.waitUntil(lambda: window.spec is not None, timeout=WAIT_MS)
    assert "36 objects" in window.words.text()


def test_without_a_pixel_size_this_is_said(viewer, qtbot):
    for layer in viewer.layers:
        layer.units = ("pixel", "pixel")
    made = NewObjects(session_for(viewer))
    assert made.pixel.text() == "0.5"
    made.pixel.setText("")
    qtbot.waitUntil(lambda: made.spec is not None, timeout=WAIT_MS)
    assert "how large a pixel is" in made.notes.text()
    made.reject()


def test_layers_that_do_not_fit(viewer):
    image, labels = viewer.layers["DNA"], viewer.layers["my nuclei"]
    assert "no labels layer" in pair_problem([image], None)
    assert "Choose the image" in pair_problem([], labels)
    small = viewer.add_image(np.zeros((10, 10)), name="small")
    assert "same shape" in pair_problem([image, small], labels)
    color = viewer.add_image(np.zeros((96, 96, 3), np.uint8), name="photo", rgb=True)
    assert "alone" in pair_problem([image, color], labels)
    assert pair_problem([color], labels) == ""
    assert pair_problem([image], labels) == ""
    labels.translate = (30, 0)
    assert "shifted" in pair_problem([image], labels)
    labels.translate = (0, 0)
    spec = save_layers([small], labels)
    with pytest.raises(Exception, match="by their metadata"):
        open_source(spec).list_items()


def test_edits_are_written_into_the_copy_only(viewer):
    image, labels = viewer.layers["DNA"], viewer.layers["my nuclei"]
    spec = save_layers([image], labels)
    assert open_source(spec).list_items().num_rows == 36
    assert linked_layer(viewer, open_source(spec), "") is labels
    labels.name = "other"
    assert linked_layer(viewer, open_source(spec), "") is None
    labels.data[labels.data == 5] = 6
    take_over_labels(spec, labels)
    assert open_source(spec).list_items().num_rows == 35
    labels.data = labels.data[:50]
    with pytest.raises(Exception, match="has the shape"):
        take_over_labels(spec, labels)
    assert open_source(spec).list_items().num_rows == 35


def test_the_layer_gets_its_features_and_gives_its_edits(
    viewer, qtbot, rng, tmp_path, monkeypatch
):
    labels = viewer.layers["my nuclei"]
    spec = save_layers([viewer.layers["DNA"]], labels)
    with Project.create(tmp_path / "a.embed", spec) as made:
        places = rng.normal(size=(made.n_items, 2)).astype(np.float32)
        made.write_projection("given-2d", Projection(places), fingerprint="f")
    session = session_for(viewer)
    panel = ObjectsPanel(viewer)
    session.controller.open_project(tmp_path / "a.embed")
    qtbot.waitUntil(lambda: "map_x" in labels.features, timeout=WAIT_MS)
    assert sorted(labels.features["index"]) == list(range(1, 37))
    row = labels.features.set_index("label").loc[8]
    assert row["area_um2"] == 81 * 0.25
    item = panel.index.item_at("", 0, 8)
    np.testing.assert_allclose(row[["map_x", "map_y"]].astype(float), places[item])
    qtbot.waitUntil(lambda: session.controller.can_decide, timeout=WAIT_MS)
    session.controller.tag_items("odd", [item])
    qtbot.waitUntil(
        lambda: list(labels.features.query("tags == 'odd'")["label"]) == [8],
        timeout=WAIT_MS,
    )
    jobs = []
    monkeypatch.setattr(session.controller.compute.queue, "start", jobs.extend)
    labels.fill((24, 24), 9)  # objects 8 and 9 are merged
    assert not panel.linked.button.isHidden()
    panel.linked.take_over()
    qtbot.waitUntil(lambda: len(jobs) == 1, timeout=WAIT_MS)
    assert open_source(spec).list_items().num_rows == 35
    viewer.layers.remove(labels)
    assert panel.linked.button.isHidden()
    close_session(viewer)
    panel.release()
    panel.deleteLater()
