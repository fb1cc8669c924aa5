"""Edited labels: only what was edited is computed again, everything else stays."""

from __future__ import annotations

import numpy as np
import pytest
from test_object_copies import squares

from napari_embed.curation.decisions import Decisions
from napari_embed.encoders import load_encoder
from napari_embed.engine.pipeline import run_create, run_embed
from napari_embed.engine.progress import JobControl
from napari_embed.engine.rescan import run_rescan
from napari_embed.errors import JobCancelled
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec
from napari_embed.sources.objects import ObjectsSource
from napari_embed.sources.objects.copying import Pixels, replace_labels, write_pair

pytest.importorskip("ome_zarr_models")
SCALE = (1.0, 1.0)


@pytest.fixture
def place(tmp_path, rng, monkeypatch):
    """An image with 49 squares, and a project of them with vectors."""
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))
    image = rng.integers(0, 4000, (118, 118), np.uint16)
    path = tmp_path / "a.ome.zarr"
    labels = squares((118, 118))
    write_pair(path, [Pixels(image, "yx", SCALE)], Pixels(labels, "yx", SCALE),
               name="n", windows=[(0, 4000)], names=["DNA"])  # fmt: skip
    spec = SourceSpec("objects", str(path), {"labels": "n", "size": "12px"})
    run_create(tmp_path / "a.embed", spec, JobControl())
    embed(tmp_path / "a.embed")
    return tmp_path, labels


def embed(path, control=None):
    with Project.open(path, mode="a") as project:
        return run_embed(project, EmbedParams(), control or JobControl())


def rescan(path):
    with Project.open(path, mode="a") as project:
        return run_rescan(project, JobControl())


def vectors(path):
    with Project.open(path) as project:
        return np.asarray(project.embeddings("descriptor", partial=True)[:])


def edit(place, change):
    folder, labels = place
    edited = labels.copy()
    change(edited)
    replace_labels(folder / "a.ome.zarr", Pixels(edited, "yx", SCALE), name="n")


def counted(monkeypatch):
    """Return a list that gets the number of objects of every read."""
    seen = []
    real = ObjectsSource.read

    def read(self, items, **options):
        seen.append(items.num_rows)
        return real(self, items, **options)

    monkeypatch.setattr(ObjectsSource, "read", read)
    return seen


def test_a_merge_a_split_and_a_stroke(place, monkeypatch):
    path = place[0] / "a.embed"
    before = vectors(path)
    with Project.open(path) as project, Decisions.open(project) as decisions:
        decisions.add_tag("mitotic", [0, 5, 7])

    def change(labels):
        labels[labels == 6] = 5  # merged: 5 is larger, 6 is gone
        labels[8:12, 4:12] = np.where(
            labels[8:12, 4:12] == 1, 50, 0
        )  # split: 50 is new
        labels[104:111, 104:111] = 49  # a stroke

    edit(place, change)
    found = rescan(path)
    counts = {n: found[n] for n in ("added", "changed", "missing")}
    assert counts == {"added": 1, "changed": 3, "missing": 1}
    with Project.open(path) as project:
        key = "embeddings/descriptor"
        assert project.stale_items(key).tolist() == [0, 4, 48, 49]
        assert project.stage_info(key).state == "partial"
        assert not project.thumbnail_available([0, 1, 49]).tolist()[0]
        assert project.thumbnail_available([1]).all()
        assert project.errors()["id"].to_pylist() == [5]  # the one that is gone
    reads = counted(monkeypatch)
    result = embed(path)
    assert result.n_done_now == 4
    assert reads == [4]  # nothing else was even read
    after = vectors(path)
    assert after.shape == (50, before.shape[1])
    changed = ~np.isclose(after[:49], before, atol=1e-6).all(axis=1)
    assert np.flatnonzero(changed).tolist() == [0, 4, 48]
    assert np.isfinite(after[49]).all()
    with Project.open(path) as project, Decisions.open(project) as decisions:
        assert project.stale_items(key).size == 0
        assert project.stage_info(key).state == "sealed"
        assert project.stage_info("thumbnails").state == "sealed"
        assert np.flatnonzero(decisions.tagged("mitotic")).tolist() == [0, 5, 7]
    assert not rescan(path)["changed"]
    assert not embed(path).computed


def test_the_rows_are_those_of_a_new_project(place):
    path = place[0] / "a.embed"
    edit(place, lambda labels: labels.__setitem__(labels == 6, 5))
    rescan(path)
    embed(path)
    with Project.open(path) as project:
        encoder = load_encoder("descriptor")
        encoder.load_state(project.read_encoder_state("descriptor"))
        source = project.source()
    items = source.list_items()
    rows = np.asarray(items["label_id"]) - 1
    expected = encoder.encode([found.image for found in source.read(items)])
    np.testing.assert_allclose(vectors(path)[rows], expected, atol=1e-5)


def test_a_cancelled_repair_goes_on(place, monkeypatch):
    path = place[0] / "a.embed"
    before = vectors(path)
    edit(place, lambda labels: labels.__setitem__(labels == 6, 5))
    rescan(path)
    control = JobControl()
    control.cancel()
    with pytest.raises(JobCancelled):
        embed(path, control)
    np.testing.assert_array_equal(vectors(path), before)
    assert embed(path).n_done_now == 1


def test_an_object_that_comes_back_is_done_again(place):
    path = place[0] / "a.embed"
    edit(place, lambda labels: labels.__setitem__(labels == 6, 0))
    assert rescan(path)["missing"] == 1
    embed(path)
    edit(place, lambda labels: None)
    assert rescan(path)["returned"] == 1
    assert embed(path).n_done_now == 1
    with Project.open(path) as project:
        assert project.errors().num_rows == 0
