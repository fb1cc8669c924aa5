"""Exports in the engine process; for a window, which must neither wait nor compute."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions import Decisions
from napari_embed.curation.exchange import export_decisions
from napari_embed.curation.export import export_items, format_of
from napari_embed.curation.export.rows import free_target
from napari_embed.curation.ids import Ids, item_ids
from napari_embed.engine.client import EngineClient, Event, Job
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.errors import InputError
from napari_embed.project import Project
from napari_embed.project.atomic import remove_stale
from napari_embed.project.npz import read_npz, write_npz
from napari_embed.project.reader import ProjectReader

__all__ = ["DECISIONS", "ExportWish", "Exporter", "export_in_engine"]

DECISIONS = "decisions"
"""Format beside those of items: the decisions alone, for another person to merge."""

_BYTES_PER_ID = 16
_BYTES_BESIDE = 1 << 20


@dataclass(frozen=True, eq=False)
class ExportWish:
    """What to export, and where to.

    Attributes
    ----------
    path
        File or folder to write, outside the project.
    format
        Key of one of `napari_embed.curation.export.FORMATS`, or `DECISIONS`, which
        takes no items, map or options.
    ids
        Items in the order to write; None for all.
    projection
        The main map, None for the newest.
    overwrite
        Allow replacing an existing file.
    options
        Plain values: the options of that format.
    """

    path: Path
    format: str
    ids: Ids | None = None
    projection: str | None = None
    overwrite: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def export_in_engine(arguments: dict[str, Any], control: JobControl) -> dict[str, Any]:
    """Write what a request asks for; reads the project only.

    Parameters
    ----------
    arguments
        ``project_path``, ``out``, ``format``, ``ids`` (None, or an npz with "ids"),
        ``projection``, ``overwrite``, ``options``.
    control
        Progress out, cancel in.
    """
    with (
        Project.open(str(arguments["project_path"])) as project,
        Decisions.open(project, mode="r") as decisions,
    ):
        out, overwrite = str(arguments["out"]), bool(arguments.get("overwrite"))
        if arguments["format"] == DECISIONS:
            control.check()
            count = export_decisions(project, decisions, out, overwrite=overwrite)
            return {"n_items": count}
        ids = None
        if arguments.get("ids"):
            most = project.n_items * _BYTES_PER_ID + _BYTES_BESIDE
            ids = read_npz(Path(str(arguments["ids"])), most_bytes=most)["ids"]
        names = project.projection_names()[::-1]
        first = arguments.get("projection")
        if first in names:
            names = [first, *(name for name in names if name != first)]
        count = export_items(
            project, out, format=str(arguments["format"]), ids=ids, projections=names,
            decisions=decisions, overwrite=overwrite,
            progress=control.reporter("export", unit="items"),
            **dict(arguments.get("options") or {}),
        )  # fmt: skip
    return {"n_items": count}


class Exporter:
    """Runs exports in an engine process, one after another.

    Parameters
    ----------
    client
        Starts its process with the first export.
    project
        The open project.
    """

    def __init__(self, client: EngineClient, project: ProjectReader) -> None:
        self._client, self._project = client, project

    def check(self, wish: ExportWish) -> None:
        """Raise what would be wrong with a wish before anything is written.

        Raises
        ------
        InputError
            If no item is meant, or there is no such format or folder.
        StoreError
            If the target exists and may not be replaced, or lies in the project.
        """
        folder = False
        if wish.format != DECISIONS:
            folder = format_of(wish.path, wish.format).is_folder
        if wish.ids is not None and np.size(wish.ids) == 0:
            raise InputError("Nothing is chosen, so there is nothing to export.")
        target = free_target(
            self._project, wish.path, overwrite=wish.overwrite, folder=folder
        )
        if not target.parent.is_dir():
            raise InputError(f"There is no folder {target.parent}. Choose another one.")

    def submit(
        self,
        wish: ExportWish,
        done: Callable[[int], None],
        failed: Callable[[Exception], None],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Job:
        """Start an export; raises what `check` raises.

        Parameters
        ----------
        wish
            What to write.
        done, failed, progress
            Called on the client's reader thread, ``done`` with the number of items; a
            cancelled export fails with `JobCancelled` and leaves nothing.
        """
        self.check(wish)
        folder = tempfile.TemporaryDirectory(prefix="napari-embed-")

        def follow(event: Event) -> None:
            if event.progress is not None and progress is not None:
                progress(event.progress)
            if not event.final:
                return
            folder.cleanup()
            error = event.error
            if error is not None:
                # A process that had to be killed has left its unfinished work.
                remove_stale(wish.path.expanduser().absolute())
                failed(error)
            else:
                done(int(event.data["n_items"]))

        try:
            given = None
            if wish.ids is not None:
                given = Path(folder.name) / "ids.npz"
                ids: NDArray[np.int64] = item_ids(wish.ids, self._project.n_items)
                write_npz(given, {"ids": ids})
            return self._client.submit(
                "export", follow, project_path=str(self._project.path),
                out=str(wish.path), format=wish.format, projection=wish.projection,
                ids=None if given is None else str(given), overwrite=wish.overwrite,
                options=wish.options,
            )  # fmt: skip
        except BaseException:
            folder.cleanup()
            raise
