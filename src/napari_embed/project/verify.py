"""Find what is damaged: every file against the size and hash the ledger has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_embed.project.items import ITEMS_NAME
from napari_embed.project.ledger import Ledger
from napari_embed.project.manifest import Manifest
from napari_embed.project.store import chunk_file, file_damage

__all__ = ["Problem", "verify"]


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file.

    Attributes
    ----------
    stage
        Stage it belongs to, such as "embeddings/descriptor", or "" for the project.
    array
        Array inside the project, or "" for a single file.
    chunk
        Chunk number, or None for metadata and single files.
    path
        The file, relative to the project.
    reason
        "missing", "empty", "size differs", "content differs", "not a regular file"
        or what the system said.
    """

    stage: str
    array: str
    chunk: int | None
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def verify(
    root: Path,
    manifest: Manifest,
    ledger: Ledger,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Read every recorded byte of a project and return what does not fit.

    Parameters
    ----------
    root, manifest, ledger
        The project.
    progress
        Called with (files done, files in all).
    """
    problems = [
        Problem("", "", None, ledger.path.name, text) for text in ledger.check()
    ]
    problems += _items(root, manifest)
    files = ledger.files()
    arrays = [(s, a, ledger.chunks(a)) for s, a in ledger.arrays()]
    total, done = len(files) + sum(len(chunks) for _, _, chunks in arrays), 0
    for file in files:
        reason = file_damage(root / file.path, file.size, file.checksum)
        if reason:
            array = file.path.removesuffix("/zarr.json")
            array = array if array != file.path else ""
            problems.append(Problem(file.stage, array, None, file.path, reason))
        done += 1
        if progress:
            progress(done, total)
    for stage, array, chunks in arrays:
        for chunk, record in sorted(chunks.items()):
            path = chunk_file(root / array, chunk, 4 if stage == "thumbnails" else 2)
            reason = file_damage(path, record.size, record.checksum)
            if reason:
                name = path.relative_to(root).as_posix()
                problems.append(Problem(stage, array, chunk, name, reason))
            done += 1
            if progress:
                progress(done, total)
    problems += _lost_stages(ledger)
    return problems


def _items(root: Path, manifest: Manifest) -> list[Problem]:
    path = root / ITEMS_NAME
    try:
        size = path.lstat().st_size
    except OSError:
        return [Problem("", "", None, ITEMS_NAME, "missing")]
    reason = file_damage(path, size, manifest.items_checksum)
    return [Problem("", "", None, ITEMS_NAME, reason)] if reason else []


def _lost_stages(ledger: Ledger) -> list[Problem]:
    """Find sealed stages that lack chunks in the ledger."""
    problems = []
    for stage in ledger.stages():
        found = ledger.chunk_count(stage.key)
        if stage.sealed and found != stage.chunks_total:
            reason = f"the ledger has {found} of {stage.chunks_total} chunks"
            problems.append(Problem(stage.key, "", None, ledger.path.name, reason))
    return problems
