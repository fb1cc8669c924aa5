"""Similar items: against brute force, in this process and through the engine's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_embed.curation.filters import Result
from napari_embed.engine import pipeline, query_vector, similarity
from napari_embed.engine.client import EngineClient
from napari_embed.engine.embedding import EMBED_VERSION
from napari_embed.engine.likeness import Likeness, result_from_answer
from napari_embed.engine.progress import JobControl
from napari_embed.engine.similarity import MOST_ANY, SimilarityEngine
from napari_embed.engine.similarity_client import SimilaritySearch
from napari_embed.errors import (
    IncompleteStageError,
    InputError,
    JobCancelled,
    ModelError,
    StoreError,
)
from napari_embed.params import EmbedParams, fingerprint
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N, D = 400, 12


def make(tmp_path, vectors, metric):
    np.save(tmp_path / "v.npy", np.zeros((len(vectors), 2), np.float32))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    project = Project.create(tmp_path / f"{metric}.embed", spec, chunk_rows=64)
    stage = project.begin_stage(
        "embeddings/own",
        fingerprint="f",
        shape_tail=(vectors.shape[1],),
        dtype="float32",
    )
    for chunk in stage.pending():
        stage.write(chunk, vectors[stage.rows(chunk)])
    stage.seal({"metric": metric})
    return project


@pytest.fixture
def vectors(rng):
    values = rng.normal(size=(N, D)).astype(np.float32) + 0.3
    values[7] = np.nan
    values[8] = values[9]
    return values


@pytest.fixture(params=["euclidean", "cosine"])
def project(request, tmp_path, vectors):
    with make(tmp_path, vectors, request.param) as made:
        made.metric = request.param
        yield made


def distances_to(project, vectors, targets):
    v = vectors.astype(float)
    if project.metric == "cosine":
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        t = targets / np.linalg.norm(targets, axis=1, keepdims=True)
        return (1 - v @ t.T).min(axis=1)
    return np.sqrt(((v[:, None] - targets[None]) ** 2).sum(axis=2)).min(axis=1)


def search(project, likeness, engine=None) -> Result:
    """Run a search here, with everything going through its messages' form."""
    request = likeness.to_request(project.n_items)
    again = Likeness.from_request(request, project.n_items)
    answer = (engine or SimilarityEngine()).search(project, again, JobControl())
    return result_from_answer(answer, likeness.title())


@pytest.mark.parametrize("megabytes", ["", "0"])
def test_brute_force_agrees(project, vectors, monkeypatch, rng, megabytes):
    """In memory, and read from disk in many blocks."""
    monkeypatch.setenv("NAPARI_EMBED_SEARCH_MB", megabytes)
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", 64 * 4 * D * 2)
    engine = SimilarityEngine()
    metric = project.metric
    some = rng.choice(np.setdiff1d(np.arange(N), [7]), 5, replace=False)
    unit = vectors.astype(float)
    if metric == "cosine":
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    mean = unit[some].mean(axis=0)[None]
    for likeness, targets, without in [
        (Likeness(ids=[9], k=20), vectors[[9]].astype(float), [9]),
        (Likeness(ids=some, k=30), mean, some),
        (Likeness(ids=some, k=30, mode="any"), vectors[some].astype(float), some),
        (Likeness(ids=[9], k=20, keep_query=True), vectors[[9]].astype(float), []),
    ]:
        expected = distances_to(project, vectors, targets)
        expected[7] = np.inf
        expected[without] = np.inf
        order = np.argsort(expected, kind="stable")[: likeness.k]
        found = search(project, likeness, engine)
        np.testing.assert_allclose(found.distances, expected[order], atol=2e-6)
        np.testing.assert_allclose(expected[found.ids], expected[order], atol=2e-6)
        assert len(set(found.ids.tolist())) == likeness.k
    nearest = search(project, Likeness(ids=[9], k=1), engine)
    assert nearest.ids.tolist() == [8]
    assert nearest.distances[0] < 1e-12
    assert nearest.title == "like item 9"


def test_half_precision_finds_the_same(project, vectors, monkeypatch):
    exact = search(project, Likeness(ids=[3], k=40))
    monkeypatch.setattr(similarity, "cache_bytes", lambda: 4 * N * D - 1)
    engine = SimilarityEngine()
    found = search(project, Likeness(ids=[3], k=40), engine)
    assert engine._vectors.kept.dtype == np.float16
    assert found.ids.tolist() == exact.ids.tolist()
    np.testing.assert_allclose(found.distances, exact.distances, atol=1e-6)


def test_within_and_more_than_there_are(project):
    mask = np.zeros(N, bool)
    mask[[3, 5, 7, 11]] = True
    found = search(project, Likeness(ids=[3], within=mask, k=1000))
    assert sorted(found.ids.tolist()) == [5, 11]
    nothing = search(project, Likeness(ids=[3], within=[3, 7]))
    assert len(nothing) == 0


def test_many_stand_for_all_and_the_lost_are_told(project):
    found = search(project, Likeness(ids=np.arange(100), mode="any", k=5))
    assert f"{MOST_ANY} of 99 selected items stand for all" in found.note
    assert "1 selected items have no vector" in found.note
    assert (found.ids >= 100).all()
    with pytest.raises(InputError, match="has no vectors"):
        search(project, Likeness(ids=[7]))


def test_vectors_stay_until_they_change(project, vectors):
    engine = SimilarityEngine()
    search(project, Likeness(ids=[3]), engine)
    first = engine._vectors
    search(project, Likeness(ids=[4]), engine)
    assert engine._vectors is first
    project.invalidate_chunks("embeddings/own", [0])
    with pytest.raises(IncompleteStageError, match="no finished embeddings"):
        search(project, Likeness(ids=[3]), engine)
    stage = project.begin_stage(
        "embeddings/own", fingerprint="f", shape_tail=(D,), dtype="float32"
    )
    stage.write(0, np.ones((64, D), np.float32))
    stage.seal({"metric": project.metric})
    found = search(project, Likeness(ids=[3], k=3), engine)
    assert (found.distances < 1e-12).all()


@pytest.mark.parametrize(
    ("likeness", "says"),
    [
        (Likeness(), "one of"),
        (Likeness(ids=[1], text="a"), "one of"),
        (Likeness(ids=[]), "Nothing is selected"),
        (Likeness(ids=[N]), "Ids must lie"),
        (Likeness(ids=[1], k=0), "k must be"),
        (Likeness(ids=[1], mode="all"), "mode must be"),
        (Likeness(text=" "), "1 to 1,000 characters"),
        (Likeness(text="a" * 1001), "got 1,001"),
    ],
)
def test_bad_wishes(likeness, says):
    with pytest.raises(InputError, match=says):
        likeness.to_request(N)


def test_own_vectors_have_no_encoder(tmp_path, rng):
    np.save(tmp_path / "v.npy", rng.normal(size=(20, 3)))
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    pipeline.run_create(tmp_path / "p.embed", spec, JobControl())
    with (
        Project.open(tmp_path / "p.embed") as project,
        pytest.raises(InputError, match="came with its items"),
    ):
        search(project, Likeness(text="cat"))


@pytest.fixture
def pictures(tmp_path, rng):
    """A project of 60 pictures in three colours, embedded by the default encoder."""
    folder = tmp_path / "img"
    folder.mkdir()
    for i in range(60):
        pixels = rng.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        pixels[..., i % 3] += 180
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    spec = SourceSpec("folder", str(folder))
    path = tmp_path / "p.embed"
    pipeline.run_create(path, spec, JobControl())
    with Project.open(path, mode="a") as project:
        pipeline.run_embed(project, EmbedParams(), JobControl())
    return path


def test_an_image_file_through_the_engine_process(pictures, tmp_path):
    """While another process writes, and with sentences for what cannot be used."""
    (tmp_path / "not.png").write_text("no image")
    green = np.full((30, 50, 3), 30, np.uint8)
    green[..., 1] = 220
    Image.fromarray(green).save(tmp_path / "green.png")
    with EngineClient() as client, Project.open(pictures, mode="a"):
        similar = SimilaritySearch(client, pictures)
        similar.warm().wait(120)
        found = similar.run(Likeness(image=tmp_path / "green.png", k=10))
        assert (found.ids % 3 == 1).all()
        assert (np.diff(found.distances) >= 0).all()
        assert found.title == "like green.png"
        itself = similar.run(Likeness(image=tmp_path / "img/05.png", k=1))
        assert itself.ids.tolist() == [5]
        assert itself.distances[0] < 1e-5
        for wish, says in (
            (Likeness(image=tmp_path / "not.png"), "not.png cannot be used"),
            (Likeness(image=tmp_path / "none.png"), "none.png cannot be"),
            (Likeness(text="green"), "knows no words"),
            (Likeness(ids=[1], embeddings="ghost"), "ghost"),
        ):
            with pytest.raises((InputError, StoreError), match=says):
                similar.run(wish)
        told = []
        job = similar.submit(Likeness(ids=[4], k=3), told.append, told.append)
        job.wait(60)
        assert isinstance(told[0], Result)
        assert len(told[0]) == 3
        assert client.running


def test_a_search_can_be_cancelled(project):
    control = JobControl()
    control.cancel()
    with pytest.raises(JobCancelled):
        SimilarityEngine().search(project, Likeness(ids=[1]), control)


class Words:
    """An encoder of vectors (red, green, blue) that knows three words."""

    name, dim, metric, needs_fit, fingerprint = "words", 3, "cosine", False, "w"

    def embed_texts(self, texts):
        return np.stack([np.eye(3)[["red", "green", "blue"].index(t)] for t in texts])


def test_words_where_the_encoder_has_a_text_side(tmp_path, rng, monkeypatch):
    colors = np.abs(rng.normal(size=(30, 3))).astype(np.float32)
    colors[np.arange(30), np.arange(30) % 3] += 9
    np.save(tmp_path / "v.npy", colors)
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    monkeypatch.setattr(query_vector, "load", lambda *_, **__: Words())
    with Project.create(tmp_path / "p.embed", spec, chunk_rows=64) as project:
        made = fingerprint("embeddings", EMBED_VERSION, project.manifest.root, "w")
        for name, print_ in (("words", made), ("other", "of another version")):
            stage = project.begin_stage(
                f"embeddings/{name}",
                fingerprint=print_,
                shape_tail=(3,),
                dtype="float32",
                params={"encoder": "words"},
            )
            stage.write(0, colors)
            stage.seal({"metric": "cosine"})
        found = search(project, Likeness(text=" green ", k=10, embeddings="words"))
        assert sorted(found.ids.tolist()) == list(range(1, 30, 3))
        assert found.title == 'like "green"'
        with pytest.raises(ModelError, match="another version of words"):
            search(project, Likeness(text="green", embeddings="other"))
