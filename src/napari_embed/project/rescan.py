"""Looking at a source again: what was added, changed or lost, and where it is now.

Ids stay. New items get the next ones; a changed file makes its chunk pending; a file
that is gone is marked and keeps its vector and thumbnail.
"""

from __future__ import annotations

import calendar
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.project.growing import (
    FILES_NAME,
    read_file_states,
    write_file_states,
)
from napari_embed.sources import SourceSpec, open_source
from napari_embed.sources.changes import (
    MISSING,
    UNKNOWN,
    file_root,
    file_states,
    match_items,
    object_identity,
    object_states,
)
from napari_embed.sources.spec import OptionValue

if TYPE_CHECKING:
    from napari_embed.project.project import Project

__all__ = ["Changes", "look_again", "move_source"]

Progress = Callable[[int, int], None]

_SAMPLE = 200
_LEAST_FOUND = 0.5
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Changes:
    """What a look at the source has found.

    Attributes
    ----------
    added, changed, missing, returned
        Number of items: new ones, known ones whose file has changed, known ones whose
        file is not there any more, and missing ones that are there again.
    missing_in_all
        Items whose file is not there.
    chunks
        Chunks that have to be computed, of all.
    n_items, n_chunks
        Items and chunks now.
    """

    added: int
    changed: int
    missing: int
    returned: int
    missing_in_all: int
    chunks: int
    n_items: int
    n_chunks: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def look_again(project: Project, *, progress: Progress | None = None) -> Changes:
    """List the source of a project anew and take over what has changed.

    Parameters
    ----------
    project
        Open for writing; it shows the new state afterwards.
    progress
        Called with (items looked at, 0); may raise to stop, nothing is changed then.

    Raises
    ------
    InputError
        If its items are no files or objects, or the source is not where it was.
    """
    source = project.source()
    root, objects = file_root(source), project.spec.kind == "objects"
    if root is None and not objects:
        raise InputError(
            f"{project.spec.path} is no folder and no table of image files, so there "
            "is nothing to look for changes in. Make a new project of it."
        )
    known = project.items()
    listed = source.list_items(progress=progress)
    before, after = (t["source"].to_pylist() for t in (known, listed))
    name = object_identity if objects else str
    place = match_items([name(key) for key in before], [name(key) for key in after])
    new = np.setdiff1d(np.arange(listed.num_rows), place[place >= 0])
    items = _merged(known.drop_columns("id"), listed, place, new)
    n = known.num_rows
    then = read_file_states(project.path / FILES_NAME, n)
    if root is None:
        now = object_states(items["source"].to_pylist())
    else:
        now = file_states(root, items["source"].to_pylist(), progress=progress)
    now[:n][place < 0] = (MISSING, 0)
    if then is None and root is None:
        then = object_states(before)
    elif then is None:
        then = _assumed(now[:n], project.manifest.created)
    there, was_there = now[:n, 0] >= 0, then[:, 0] != MISSING
    changed = there & (then[:, 0] >= 0) & (now[:n] != then).any(axis=1)
    # A file that was gone may be another one now.
    lost, returned = ~there & was_there, there & ~was_there
    touched = np.flatnonzero(changed | returned)
    found = Changes(
        added=len(new), changed=int(changed.sum()), missing=int(lost.sum()),
        returned=int(returned.sum()), missing_in_all=int((~there).sum()),
        chunks=_pending(project, touched, len(new)),
        n_items=items.num_rows, n_chunks=-(-items.num_rows // project.chunk_rows),
    )  # fmt: skip
    anything = found.added or found.changed or found.missing or found.returned
    same = items.equals(known.drop_columns("id"))
    if anything or not same:
        vectors = ["embeddings/vectors"] if source.vectors() is not None else []
        project.update_items(
            items, now, touched=touched.tolist(), retake=vectors, single=objects
        )
    return found


def _assumed(now: NDArray[np.int64], created: str) -> NDArray[np.int64]:
    """Return states where none were kept: files older than the project are as then."""
    then = now.copy()
    then[now[:, 0] == MISSING] = (UNKNOWN, 0)
    try:
        made = calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return then
    then[(now[:, 0] >= 0) & (now[:, 1] >= (made + 1) * 10**9), 1] = 0
    return then


def _pending(project: Project, touched: NDArray[np.int64], added: int) -> int:
    """Return how many chunks have to be computed."""
    rows = np.concatenate([touched, project.n_items + np.arange(added)])
    return int(np.unique(rows // project.chunk_rows).size)


def _merged(
    known: pa.Table, listed: pa.Table, place: NDArray[np.int64], new: NDArray[np.int64]
) -> pa.Table:
    """Return known items, with the values they have now, and then the new ones."""
    there, gone = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
    parts = [
        _plain(listed).take(pa.array(place[there])),
        _plain(known).take(pa.array(gone)),
        _plain(listed).take(pa.array(new)),
    ]
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            f"The columns do not fit those of the project: {error!s:.300}. Keep their "
            "types, or make a new project."
        ) from error
    order = np.argsort(np.concatenate([there, gone]), kind="stable")
    rest = np.arange(len(new)) + order.size
    table = table.take(pa.array(np.concatenate([order, rest])))
    names = [x for x in known.column_names if x in table.column_names]
    names += [x for x in table.column_names if x not in names]
    table = table.select(names)
    for index, name in enumerate(names):
        source = known if name in known.column_names else listed
        if pa.types.is_dictionary(source.schema.field(name).type):
            coded = table[name].dictionary_encode().unify_dictionaries()
            table = table.set_column(index, name, coded)
    return table


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, which Arrow does not join."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table[field.name].cast(field.type.value_type)
            table = table.set_column(index, field.name, values)
    return table


def move_source(
    project: Project, place: str | Path, *, progress: Progress | None = None
) -> int:
    """Tell a project where its images are now; return how many of a sample were found.

    Parameters
    ----------
    project
        Open for writing.
    place
        The new folder of images; for a project of a table the new table, or the
        folder its images lie in. For arrays the new file.
    progress
        Called with (files looked at, 0).

    Raises
    ------
    InputError
        If there is nothing of the kind there, or fewer than half of 200 images.
    """
    spec = _moved(project.spec, Path(place).expanduser().absolute())
    source = open_source(spec)
    root = file_root(source)
    n = project.n_items
    if root is None:
        count = source.list_items().num_rows
        if count != n:
            raise InputError(
                f"{spec.path} has {count:,} items, the project {n:,}. Nothing was "
                "changed."
            )
        project.set_source(source.spec)
        return n
    then = read_file_states(project.path / FILES_NAME, n)
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64))
    if then is not None and (then[:, 0] >= 0).any():
        rows = rows[then[rows, 0] >= 0] if (then[rows, 0] >= 0).any() else rows
    names = project.items(["source"], rows)["source"].to_pylist()
    states = file_states(root, names)
    fits = states[:, 0] >= 0
    if then is not None:
        fits &= (states[:, 0] == then[rows, 0]) | (then[rows, 0] < 0)
    if fits.mean() < _LEAST_FOUND:
        lost = [name for name, ok in zip(names, fits, strict=True) if not ok]
        raise InputError(
            f"{root} is not where the images of {project.path.name} are: of "
            f"{len(names)} of them {int(fits.sum())} are there with the size they had, "
            f"not for example {', '.join(lost[:_NAMES_SHOWN])!s:.300}. Nothing was "
            "changed."
        )
    if then is not None:
        # Copying gives files another time; of the same size they count as the same.
        everything = project.items(["source"])["source"].to_pylist()
        now = file_states(root, everything, progress=progress)
        same = now[:, 0] == then[:, 0]
        then[same] = now[same]
        write_file_states(project.path / FILES_NAME, then)
    project.set_source(source.spec)
    return int(fits.sum())


def _moved(spec: SourceSpec, place: Path) -> SourceSpec:
    """Return a source's description with another place."""
    if not place.exists():
        raise InputError(f"There is nothing at {place}. Check the path.")
    if spec.kind == "sample":
        raise InputError("The bundled sample does not move.")
    options: dict[str, OptionValue] = dict(spec.options)
    if spec.kind == "table" and place.is_dir():
        return SourceSpec(spec.kind, spec.path, options | {"root": str(place)})
    return SourceSpec(spec.kind, str(place), options)
