"""Take a project's items elsewhere: one function, many formats.

Exports are streamed, appear only when they are complete, and can be stopped. Images are
never changed or deleted.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_embed.curation.decisions import Decisions
from napari_embed.curation.export.annotated import write_h5ad, write_zarr
from napari_embed.curation.export.datasets import write_coco, write_fiftyone
from napari_embed.curation.export.folder import write_folder
from napari_embed.curation.export.report import write_report
from napari_embed.curation.export.rows import Progress, Rows, free_target
from napari_embed.curation.export.tables import (
    write_csv,
    write_jsonl,
    write_parquet,
    write_paths,
)
from napari_embed.curation.ids import Ids
from napari_embed.errors import InputError, StoreError
from napari_embed.project.atomic import free_bytes
from napari_embed.project.reader import ProjectReader

__all__ = ["FORMATS", "Format", "export_items", "format_of"]


@dataclass(frozen=True)
class Format:
    """One way to export.

    Attributes
    ----------
    key
        What `export_items` calls it.
    title
        What people call it.
    suffix
        Ending of the file; "" for a folder without one.
    is_folder
        Whether it makes a folder.
    write
        Writes it: ``write(rows, target, **options)``.
    """

    key: str
    title: str
    suffix: str
    is_folder: bool
    write: Callable[..., int]


FORMATS: tuple[Format, ...] = (
    Format("parquet", "Parquet table", ".parquet", False, write_parquet),
    Format("csv", "CSV table", ".csv", False, write_csv),
    Format("jsonl", "JSON Lines", ".jsonl", False, write_jsonl),
    Format("paths", "List of image paths", ".txt", False, write_paths),
    Format("coco", "COCO data set", ".json", False, write_coco),
    Format("fiftyone", "FiftyOne labels", ".json", False, write_fiftyone),
    Format("folder", "Folder of pictures", "", True, write_folder),
    Format("h5ad", "AnnData file", ".h5ad", False, write_h5ad),
    Format("zarr", "AnnData Zarr folder", ".zarr", True, write_zarr),
    Format("report", "HTML report with pictures", ".html", False, write_report),
)


def format_of(path: str | Path, key: str | None = None) -> Format:
    """Return the format called ``key``, or the one that a path's ending says.

    Raises
    ------
    InputError
        If there is none, or the ending has several.
    """
    known = ", ".join(f.key for f in FORMATS)
    if key is not None:
        for found in FORMATS:
            if found.key == key:
                return found
        raise InputError(f"There is no format {key!r}. Formats: {known}.")
    ending = Path(path).suffix.lower()
    fitting = [f for f in FORMATS if f.suffix == ending and ending]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{Path(path).name} could be {' or '.join(f.key for f in fitting)}: name "
            "the format."
        )
    endings = ", ".join(dict.fromkeys(f.suffix for f in FORMATS if f.suffix))
    raise InputError(
        f"The ending of {Path(path).name} says no format. Name one ({known}), or use "
        f"an ending of {endings}."
    )


def export_items(
    project: ProjectReader,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002  the word that everyone uses
    ids: Ids | None = None,
    projections: Sequence[str] | None = None,
    decisions: Decisions | None = None,
    overwrite: bool = False,
    absolute_paths: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> int:
    """Write items of a project to a file or folder.

    Parameters
    ----------
    project
        The project.
    path
        What to write; outside the project.
    format
        Key of one of `FORMATS`; by default what the ending says.
    ids
        Items to write, in this order, or a mask of n_items; all when None.
    projections
        Names of the maps, the main one first; by default all, the newest first.
    decisions
        Tags, corrected labels, exclusion and notes go with the items; ``label`` is then
        the corrected one and ``original_label`` the other.
    overwrite
        Allow replacing an existing file. A folder is never replaced.
    absolute_paths
        Write where each image is as seen from anywhere, not from the source's folder.
    progress
        Called with (rows done, rows in all); may raise to stop, then nothing is left.
    options
        Of that format's function, such as ``how="link"`` for a folder.

    Returns
    -------
    Number of items written.

    Raises
    ------
    InputError
        If an id, a format or an option does not exist.
    StoreError
        If the target exists already or cannot be written, or there is no such map.
    """
    chosen = format_of(path, format)
    names = inspect.signature(chosen.write).parameters
    unknown = sorted(set(options) - set(names))
    if unknown:
        known = [n for n in names if n not in ("rows", "target", "overwrite")]
        raise InputError(
            f"The format {chosen.key} has no option {', '.join(unknown)}. It has: "
            f"{', '.join(known) or 'none'}."
        )
    target = free_target(project, path, overwrite=overwrite, folder=chosen.is_folder)
    if projections is None:
        projections = project.projection_names()[::-1]
    rows = Rows.of(
        project, ids, projections=projections, decisions=decisions,
        absolute_paths=absolute_paths, progress=progress,
    )  # fmt: skip
    if not chosen.is_folder:
        options["overwrite"] = overwrite
    try:
        return chosen.write(rows, target, **options)
    except (StoreError, OSError, RuntimeError) as error:
        if not _is_full(error):
            raise
        raise StoreError(
            f"The disk is full ({free_bytes(target) / 2**20:.1f} MiB are free), so "
            f"{target.name} was not written and nothing is left of it. Free some "
            "space, or choose a folder on another disk."
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Return whether a full disk is behind an error; HDF5 tells it in words only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__
    return False
