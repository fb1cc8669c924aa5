"""What is in a project, as plain values to compare."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from napari_embed.curation.decisions import Decisions
from napari_embed.project import Project


def digest(values: Any) -> list[Any]:
    """Return type, shape and the start of the SHA-256 of an array."""
    array = np.ascontiguousarray(values)
    sha = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    return [str(array.dtype), list(array.shape), sha]


def facts(project: Project) -> dict[str, Any]:
    """Return everything a reader can find in a project."""
    graph = project.read_neighbors("own")
    found: dict[str, Any] = {
        "name": project.name,
        "n_items": project.n_items,
        "source": project.spec.to_dict(),
        "columns": project.items().column_names,
        "items": project.items(["source", "label"]).to_pydict(),
        "errors": project.errors().to_pylist(),
        "stages": {
            s.key: [s.state, s.fingerprint, s.chunks_done, dict(s.params), s.upstream]
            for s in project.stages()
        },
        "thumbnails": digest(project.read_thumbnails(np.arange(project.n_items))),
        "embeddings": digest(project.embeddings("own")[:]),
        "content": digest(project.measures("content", dtype="uint8")[:]),
        "quality": digest(project.measures("quality")[:]),
        "encoder": digest((project.read_encoder_state("own") or {})["mean"]),
        "neighbors": [digest(graph.indices), digest(graph.distances), graph.metric],
        "checkpoint": digest(
            (project.read_checkpoint("later", most_bytes=1 << 20) or {})["positions"]
        ),
    }
    for name in project.projection_names():
        got = project.read_projection(name)
        found[name] = [digest(got.positions), got.kl_divergence, got.n_iter]
    with Decisions.open(project, mode="r") as decisions:
        codes, labels = decisions.corrected()
        notes, texts = decisions.notes()
        found["decisions"] = {
            "tags": [tag.name for tag in decisions.tags()],
            "tagged": np.flatnonzero(decisions.tagged("check")).tolist(),
            "labels": {int(i): labels[codes[i]] for i in np.flatnonzero(codes >= 0)},
            "notes": {int(i): texts[notes[i]] for i in np.flatnonzero(notes >= 0)},
            "excluded": np.flatnonzero(decisions.excluded()).tolist(),
        }
    return found
