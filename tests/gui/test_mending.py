"""Edited objects: found and embedded with one click, and told; without an engine."""

from __future__ import annotations

import pytest
from gui_fakes import Desk, projection, stage_entry

from napari_embed.errors import InputError
from napari_embed.gui.summary import notes_told


def opened(tmp_path, *stages):
    maps = {"tsne-2d": projection(60, 2, 1)}
    desk = Desk(tmp_path, projections=maps, stages=list(stages))
    desk.controller.open_path(desk.path)
    return desk


@pytest.fixture
def desk(tmp_path):
    return opened(tmp_path, stage_entry("embeddings/descriptor"))


def names(desk):
    return [job.name for job in desk.engine.jobs if job.name != "info"]


def test_edits_are_written_found_and_embedded(desk):
    written = []
    desk.controller.compute.mend_objects(lambda: written.append(names(desk)))
    assert written == [[]]  # before anything is looked at
    assert names(desk) == ["rescan"]
    desk.engine.send("done", added=1, changed=2, missing=1, returned=0, chunks=1)
    assert names(desk) == ["rescan", "embed"]
    assert desk.state.busy
    desk.engine.send("done", n_done_now=3)
    assert not desk.state.busy
    assert desk.state.project is not None
    text = desk.state.message.text
    assert "2 changed, 1 new, 1 gone" in text
    assert "Embedded again: 3" in text


def test_without_vectors_edits_are_only_found(tmp_path):
    desk = opened(tmp_path)
    desk.controller.compute.mend_objects(lambda: None)
    desk.engine.send("done", added=0, changed=2, missing=0, returned=0, chunks=1)
    assert names(desk) == ["rescan"]
    assert "2 changed" in desk.state.message.text


def test_a_cancelled_embedding_leaves_the_edits_known(desk):
    desk.controller.compute.mend_objects(lambda: None)
    desk.engine.send("done", added=1, changed=0, missing=0, returned=0, chunks=1)
    desk.engine.send("cancelled")
    assert not desk.state.busy
    assert "1 added" in desk.state.message.text
    assert desk.state.project is not None


def test_labels_that_cannot_be_written_start_nothing(desk):
    def fail():
        raise InputError("The layer has another shape.")

    desk.controller.compute.mend_objects(fail)
    assert names(desk) == []
    assert "another shape" in desk.state.message.text
    assert "Nothing was changed" in desk.state.message.kept
    assert not desk.state.busy


def test_notes_of_a_source_are_told():
    assert notes_told({"info": {"notes": []}}) is None
    told = notes_told({"info": {"notes": ["3 wells are missing.", "No scale."]}})
    assert told.text == "3 wells are missing. No scale."
    assert told.level == "warning"
