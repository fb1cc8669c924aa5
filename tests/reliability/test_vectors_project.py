"""Vectors that break other programs, through a whole project: import, search, map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl
from napari_embed.errors import EmbedError, InputError
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams
from napari_embed.project import Project
from napari_embed.sources import SourceSpec

N, DIM, K = 200, 6, 5
Vectors = NDArray[np.float32]


def rows(values: Vectors, chosen: object, value: float) -> Vectors:
    """Return a copy in which some rows hold one value."""
    copy = values.copy()
    copy[chosen] = value  # type: ignore[call-overload]
    return copy


SPOILED: dict[str, Callable[[Vectors], Vectors]] = {
    "one NaN": lambda v: rows(v, (3, 2), np.nan),
    "Inf rows": lambda v: rows(v, slice(0, 50), -np.inf),
    "huge row": lambda v: rows(v, 3, 1e20),
    "all huge": lambda v: v * np.float32(1e18),
    "denormal": lambda v: v * np.float32(1e-40),
    "all equal": lambda v: rows(v, slice(None), 2.5),
    "half equal": lambda v: rows(v, slice(0, N // 2), 1.0),
    "zeros": lambda v: rows(v, slice(None), 0.0),
    "outlier": lambda v: rows(v, 7, 1e6),
    "five": lambda v: v[:5],
}
REFUSED: dict[str, Callable[[Vectors], Vectors]] = {
    "all NaN": lambda v: rows(v, slice(None), np.nan),
    "one": lambda v: v[:1],
    "none": lambda v: v[:0],
}


def run(tmp_path: Path, vectors: Vectors) -> tuple[Project, Vectors]:
    """Make a project of vectors with neighbors and a map; return both."""
    np.save(tmp_path / "v.npy", vectors)
    spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
    pipeline.run_create(tmp_path / "p.embed", spec, JobControl())
    project = Project.open(tmp_path / "p.embed", mode="a")
    try:
        pipeline.run_embed(project, EmbedParams(), JobControl())
        pipeline.run_neighbors(project, NeighborParams(n_neighbors=K), JobControl())
        pipeline.run_projection(
            project, ProjectionParams(method="pca", n_components=2), JobControl()
        )
    except BaseException:
        project.close()
        raise
    return project, np.asarray(project.embeddings("vectors")[:])


@pytest.mark.parametrize("kind", SPOILED)
def test_bad_rows_are_errors_and_the_rest_has_its_place(
    tmp_path: Path, kind: str, rng: np.random.Generator
) -> None:
    vectors = SPOILED[kind](rng.normal(size=(N, DIM)).astype(np.float32))
    project, stored = run(tmp_path, vectors)
    with project:
        errors = project.errors()["id"].to_numpy()
        graph = project.read_neighbors("vectors")
        positions = project.read_projection("pca-2d").positions
        problems = project.verify()
    good = np.isfinite(stored).all(axis=1)
    print(json.dumps({"kind": kind, "rows": len(vectors), "errors": len(errors)}))
    assert problems == []
    assert np.isfinite(vectors).all(axis=1).sum() == good.sum()
    np.testing.assert_array_equal(np.flatnonzero(~good), errors)
    assert np.isfinite(positions[good]).all()
    assert np.isnan(positions[~good]).all()
    ids = graph.indices[good]
    assert ((ids >= 0) & (ids < len(vectors))).all()
    assert good[ids].all()
    assert (ids != np.flatnonzero(good)[:, None]).all()
    assert (graph.indices[~good] == -1).all()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_gives_no_map_is_refused_with_a_sentence(
    tmp_path: Path, kind: str, rng: np.random.Generator
) -> None:
    vectors = REFUSED[kind](rng.normal(size=(N, DIM)).astype(np.float32))
    with pytest.raises(EmbedError) as caught:
        run(tmp_path, vectors)
    assert isinstance(caught.value, InputError)
    assert len(str(caught.value)) > 20
