"""A project in the words of the window: what is in it, how far each stage is."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_embed.gui.coloring import column_info
from napari_embed.gui.jobs import Run
from napari_embed.gui.state import (
    STAGES,
    ColumnInfo,
    ComputeSettings,
    ItemError,
    Message,
    ProjectInfo,
    ProjectionInfo,
    Stage,
    StageView,
)

__all__ = [
    "OWN_VECTORS",
    "Snapshot",
    "changes_told",
    "embeddings_name",
    "estimate_told",
    "format_bytes",
    "format_duration",
    "read_snapshot",
    "stage_views",
]

ERRORS_SHOWN = 200
STOPPED = "-stopped"
"""End of the fingerprint of a map whose layout was ended by hand."""
OWN_VECTORS = "vectors"
"""Encoder and embeddings of vectors that came with the items."""

_NOT_FOR_COLOR = {"id", "source"}
_STATUS = {"sealed": "done", "partial": "partial", "stale": "stale"}


@dataclass(frozen=True)
class Snapshot:
    """What was read of a project in one go.

    Attributes
    ----------
    info
        What the window shows of it.
    stages
        The ledger's entry of each stage by key ("embeddings/descriptor").
    own_vectors
        Whether the project brings its vectors, so that no encoder is needed.
    is_folder
        Whether a folder is to be chosen where the source has moved.
    """

    info: ProjectInfo
    stages: Mapping[str, Any]
    own_vectors: bool = False
    is_folder: bool = False


def embeddings_name(encoder: str, *, own_vectors: bool = False) -> str:
    """Return the name under which an encoder's vectors are stored."""
    if own_vectors:
        return OWN_VECTORS
    return encoder.replace("/", "-").replace(":", "-")


def format_bytes(n: float) -> str:
    """Return a size for people: "3.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 100 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def format_duration(seconds: float) -> str:
    """Return a time for people: "45 s", "3 min", "2 h 10 min"."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _columns(project: Any) -> tuple[ColumnInfo, ...]:
    schema = project.items(rows=slice(0, 0)).schema
    found = []
    for name in project.columns():
        if name in _NOT_FOR_COLOR or name not in schema.names:
            continue
        info = column_info(name, str(schema.field(name).type))
        if info is not None:
            found.append(info)
    # The label first: it is what people colour by.
    return tuple(sorted(found, key=lambda c: c.name != "label"))


def _projections(project: Any) -> tuple[ProjectionInfo, ...]:
    found = []
    for name in project.projection_names():
        d = int(project.stage_info(f"projections/{name}").info.get("n_components", 0))
        if d not in (2, 3):
            d = project.read_projection(name).n_components
        found.append(ProjectionInfo(name, d, name))
    return tuple(sorted(found, key=lambda p: (-p.n_components, p.name)))


def _errors(project: Any) -> tuple[int, tuple[ItemError, ...]]:
    # An image that is broken is so for every encoder; it is told once.
    table = project.errors()
    _, first = np.unique(table["id"].to_numpy(), return_index=True)
    rows = table.take(first[:ERRORS_SHOWN]).to_pylist()
    return len(first), tuple(
        ItemError(str(row["source"]), str(row["reason"])) for row in rows
    )


def _source_text(project: Any) -> str:
    spec = project.spec
    if spec.kind == "sample":
        return "Bundled sample of Fashion-MNIST"
    kinds = {
        "folder": "Folder", "table": "Table", "images": "Images", "vectors": "Vectors",
    }  # fmt: skip
    return f"{kinds.get(spec.kind, spec.kind)}: {spec.path}"


def _source_is_there(spec: Any) -> bool:
    """Return whether the source, and the folder of a table's images, are there."""
    if spec.kind == "sample":
        return True
    root = spec.options.get("root")
    return os.path.exists(spec.path) and (not root or os.path.isdir(str(root)))


def read_snapshot(project: Any) -> Snapshot:
    """Read what the window shows of an open project; may take a second."""
    n_errors, errors = _errors(project)
    stages = {s.key: s for s in project.stages()}
    encoders = tuple(
        key.split("/", 1)[1] for key in stages if key.startswith("embeddings/")
    )
    info = ProjectInfo(
        path=Path(project.path),
        name=project.name,
        n_items=project.n_items,
        source=_source_text(project),
        has_images=bool(project.has_images),
        encoders=encoders,
        projections=_projections(project),
        columns=_columns(project),
        n_errors=n_errors,
        errors=errors,
        size_bytes=int(project.size_on_disk()),
        has_files=project.has_images
        and project.spec.kind in ("folder", "table", "objects"),
        source_is_there=_source_is_there(project.spec),
    )
    spec = project.spec
    folder = spec.kind in ("folder", "ome-zarr") or spec.path.endswith(".zarr")
    if spec.kind == "table":  # where the table is, its images are not
        folder = os.path.exists(spec.path)
    return Snapshot(info, stages, own_vectors=not project.has_images, is_folder=folder)


def changes_told(found: Mapping[str, Any]) -> Message:
    """Return what a look at the source has found, or that it was followed."""
    if "found" in found:
        return Message("The source was found; nothing has to be computed again.")
    kinds = ("added", "changed", "missing", "returned")
    words = [f"{int(found[kind]):,} {kind}" for kind in kinds if found.get(kind)]
    if not words:
        return Message("Nothing came, changed or went.")
    text = f"{', '.join(words)}."
    if found.get("chunks"):
        text += " Press Run all in Compute: only what these touch is embedded."
    return Message(text)


def mended_told(found: Mapping[str, Any], done: Mapping[str, Any]) -> Message:
    """Return which objects were edited, and that only these were embedded again."""
    parts = (("changed", "changed"), ("added", "new"), ("returned", "back again"),
             ("missing", "gone"))  # fmt: skip
    words = [f"{int(found[kind]):,} {word}" for kind, word in parts if found.get(kind)]
    if not words:
        return Message("No object was edited.")
    again = int(done.get("n_done_now") or 0)
    return Message(
        f"Objects: {', '.join(words)}. Embedded again: {again:,}. The map is as it "
        "was; run Neighbours and Map in Compute to place them anew."
    )


def notes_told(result: Mapping[str, Any]) -> Message | None:
    """Return what a source left out when a project was made, if anything."""
    notes = (result.get("info") or {}).get("notes") or ()
    return Message(" ".join(map(str, notes)), level="warning") if notes else None


def estimate_told(found: Mapping[str, Any]) -> Message:
    """Return what embedding will take, in a sentence."""
    n = int(found["n_images"])
    if not n:
        return Message("Every image has its vector; there is nothing to do.")
    parts = [
        f"about {format_duration(found['seconds'])}",
        f"{format_bytes(found['disk_bytes'])} of disk",
    ]
    if found.get("memory_bytes"):
        parts.append(f"{format_bytes(found['memory_bytes'])} of memory")
    slowest = {"decode": "reading images", "model": "the encoder"}
    return Message(
        f"{n:,} images: {', '.join(parts)}.",
        kept=f"Slowest: {slowest.get(str(found['bottleneck']), '')}. "
        f"Tried on {int(found['trial_images']):,} images.",
    )


def _keys(snapshot: Snapshot, settings: ComputeSettings) -> dict[Stage, str]:
    name = embeddings_name(settings.embed.encoder, own_vectors=snapshot.own_vectors)
    return {
        "embed": f"embeddings/{name}",
        "neighbors": f"neighbors/{name}",
        "projection": f"projections/{projection_name(snapshot, settings)}",
    }


def projection_name(snapshot: Snapshot, settings: ComputeSettings) -> str:
    """Return the name of the map that the settings describe."""
    from napari_embed.project.stages import map_name

    params = settings.projection
    name = embeddings_name(settings.embed.encoder, own_vectors=snapshot.own_vectors)
    plain = f"{params.method}-{params.n_components}d"
    return map_name(snapshot.stages, name, plain)


_WITHOUT_EFFECT = {"batch_size", "device"}


def _differs(stored: Mapping[str, Any], wished: Mapping[str, Any]) -> bool:
    return any(
        key in wished and wished[key] != value
        for key, value in stored.items()
        if key not in _WITHOUT_EFFECT
    )


def _summary(stage: Stage, entry: Any, snapshot: Snapshot) -> str:
    info, params = dict(entry.info or {}), dict(entry.params or {})
    n = snapshot.info.n_items
    if entry.state == "partial":
        if not entry.chunks_done:
            kept = snapshot.stages.get(f"pieces/{entry.key.partition('/')[2]}")
            if stage == "embed" and kept is not None:
                rows = int(kept.info.get("rows") or 0)
                return f"{rows:,} of {n:,} items done; Start goes on from there"
            return "stopped early; Start begins anew"
        share = entry.chunks_done / max(entry.chunks_total, 1)
        return f"{share:.0%} done; Start goes on from there"
    if stage == "embed":
        failed = (
            f", {snapshot.info.n_errors:,} failed" if snapshot.info.n_errors else ""
        )
        dim = info.get("dim")
        width = f", {dim} numbers each" if dim else ""
        return f"{n:,} items{width}{failed}"
    if stage == "neighbors":
        k = info.get("k", params.get("n_neighbors"))
        recall = info.get("recall")
        text = f"{k} nearest of each, {info.get('metric', params.get('metric'))}"
        if isinstance(recall, float) and math.isfinite(recall) and recall < 1:
            text += f", {recall:.1%} found"
        return text
    kl = info.get("kl_divergence")
    text = entry.key.split("/", 1)[1]
    if isinstance(kl, int | float) and math.isfinite(kl):
        text += f": KL {kl:.2f} after {info.get('n_iter', '?')} iterations"
    return text


def _kept_map(snapshot: Snapshot, key: str, wished: Mapping[str, Any]) -> str | None:
    """Return how far a map with these settings is, if that was kept."""
    name = key.removeprefix("projections/")
    kept = snapshot.stages.get(f"checkpoints/{name}")
    if kept is None or kept.state != "partial" or _differs(kept.params, wished):
        return None
    info = dict(kept.info or {})
    return (
        f"stopped at iteration {info.get('iteration', '?')} of "
        f"{info.get('max_iter', '?')}; Start goes on from there"
    )


def stage_views(
    snapshot: Snapshot | None, runs: Mapping[str, Run], settings: ComputeSettings
) -> tuple[StageView, ...]:
    """Return the three cards from the ledger, the running jobs and the settings."""
    keys = _keys(snapshot, settings) if snapshot else {}
    wishes = {
        "embed": settings.embed.to_dict()
        | ({"encoder": OWN_VECTORS} if snapshot and snapshot.own_vectors else {}),
        "neighbors": settings.neighbors.to_dict(),
        "projection": settings.projection.to_dict(),
    }
    views = []
    upstream_done = True
    for stage in STAGES:
        entry = snapshot.stages.get(keys[stage]) if snapshot else None
        status: Any = "missing"
        summary = ""
        if entry is not None and snapshot is not None:
            status = _STATUS.get(entry.state, "missing")
            if status != "missing":
                summary = _summary(stage, entry, snapshot)
            if stage == "projection" and str(entry.fingerprint).endswith(STOPPED):
                status, summary = "partial", f"{summary}, ended by hand"
            changed = _differs(entry.params or {}, wishes[stage])
            if status == "done" and (changed or not upstream_done):
                status = "stale"
        if stage == "projection" and snapshot and upstream_done and status != "done":
            words = _kept_map(snapshot, keys[stage], wishes[stage])
            if words:
                by_hand = summary if status == "partial" else ""
                status, summary = "partial", f"{by_hand}; {words}".lstrip("; ")
        upstream_done = upstream_done and status == "done"
        run = runs.get(stage)
        if run is not None and run.status != "error":
            status = run.status
        progress, message = (run.progress, run.message) if run else (None, None)
        failed = snapshot.info.n_errors if snapshot and stage == "embed" else 0
        views.append(StageView(stage, status, summary, progress, message, failed))
    return tuple(views)
