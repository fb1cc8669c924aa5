"""The rows that exports write: which items, which columns, where to."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from napari_embed.curation.columns import tag_lists
from napari_embed.curation.decisions import Decisions
from napari_embed.curation.ids import Ids, item_ids
from napari_embed.errors import InputError, StoreError
from napari_embed.project.atomic import beside, store_errors
from napari_embed.project.reader import ProjectReader

__all__ = ["BLOCK_ROWS", "Progress", "Rows", "free_target", "whole_folder"]

BLOCK_ROWS = 65_536
_WHOLE_PATH = r"^(/|[A-Za-z]:|\\|$)"
_AXES = "xyz"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some items of a project with everything that is exported of them.

    Attributes
    ----------
    project
        Where they come from.
    ids
        (m,) int64, in the order to write.
    maps
        Positions (n, 2 or 3) by the name of the map.
    decisions
        Tags, corrected labels, exclusion and notes; None leaves them out.
    absolute_paths
        Whole image paths; else as the source lists them.
    progress
        Called with (rows done, rows in all); may raise to stop.
    """

    project: ProjectReader
    ids: NDArray[np.int64]
    maps: dict[str, NDArray[np.float32]]
    decisions: Decisions | None = None
    absolute_paths: bool = True
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        project: ProjectReader,
        ids: Ids | None,
        *,
        projections: Sequence[str] | None = (),
        decisions: Decisions | None = None,
        absolute_paths: bool = True,
        progress: Progress | None = None,
    ) -> Rows:
        """Look items and maps up; all finished maps when ``projections`` is None.

        Raises
        ------
        InputError
            If an id does not exist, or none is given.
        IncompleteStageError
            If there is no such map.
        """
        wanted = item_ids(ids, project.n_items)
        if wanted.size == 0:
            raise InputError("Nothing is selected, so there is nothing to export.")
        names = project.projection_names() if projections is None else projections
        maps = {name: project.read_projection(name).positions for name in names}
        return cls(project, wanted, maps, decisions, absolute_paths, progress)

    def blocks(
        self, done: int = 0, total: int = 0, *, paths_only: bool = False
    ) -> Iterator[pa.Table]:
        """Yield all columns, or image_path, block by block, and report after each.

        ``done`` and ``total`` place the rows among other steps.
        """
        total = total or self.ids.size
        for start in range(0, self.ids.size, BLOCK_ROWS):
            rows = self.ids[start : start + BLOCK_ROWS]
            yield self.paths(rows) if paths_only else self.table(rows)
            if self.progress:
                self.progress(done + start + rows.size, total)

    def table(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return id, positions, image_path, label, decisions, then all others.

        A column of the items whose name is taken becomes ``source.NAME``, except that
        a decision's column gives way and becomes ``decided.NAME``.
        """
        items = self.project.items(rows=rows)
        columns: dict[str, Any] = {"id": items["id"]}
        for number, (name, positions) in enumerate(self.maps.items()):
            for axis, values in zip(_AXES, positions[rows].T, strict=False):
                column = pa.array(np.ascontiguousarray(values), from_pandas=True)
                columns[axis if number == 0 else f"{name}.{axis}"] = column
        columns["image_path"] = self._paths(items["source"])
        columns["label"] = _plain(items["label"])
        if self.decisions is not None:
            self._decide(columns, self.decisions, rows)
        for name in items.column_names:
            if name not in ("id", "source", "label"):
                free = f"source.{name}" if name in columns else name
                columns[free] = _plain(items[name])
        return pa.table(columns)

    def paths(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return the column image_path alone."""
        source = self.project.items(["source"], rows)["source"]
        return pa.table({"image_path": self._paths(source)})

    def _paths(self, source: pa.ChunkedArray) -> Any:
        return image_paths(self.project, source) if self.absolute_paths else source

    def decided(self, name: str) -> str:
        """Return the column of a decision; the items' own ones keep their names."""
        return f"decided.{name}" if name in self.project.columns() else name

    def _decide(
        self, columns: dict[str, Any], decisions: Decisions, rows: NDArray[np.int64]
    ) -> None:
        """Put corrected labels in place, and add the other decisions."""
        corrected = _words(*decisions.corrected(), rows)
        columns[self.decided("original_label")] = columns["label"]
        columns["label"] = pc.coalesce(corrected, columns["label"])
        tags = tag_lists(decisions.tag_members(rows), rows.size)
        columns[self.decided("tags")] = tags
        columns[self.decided("excluded")] = pa.array(decisions.excluded()[rows])
        columns[self.decided("note")] = _words(*decisions.notes(), rows)


def _words(
    codes: NDArray[np.int32], names: list[str], rows: NDArray[np.int64]
) -> pa.Array:
    """Return some rows of a column of codes as text, missing where -1."""
    if not names:
        return pa.nulls(rows.size, pa.string())
    mine = codes[rows]
    return pa.array(names, pa.string()).take(pa.array(mine, mask=mine < 0))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a dictionary column as its values: dictionaries differ between blocks."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def image_paths(project: ProjectReader, source: pa.ChunkedArray) -> Any:
    """Return where each image is: a whole path, or an array and the row in it."""
    spec = project.spec
    plain = source.cast(pa.string())
    if spec.kind not in ("folder", "table"):
        return pc.binary_join_element_wise(spec.path, "[", plain, "]", "")
    if not project.has_images:
        return plain
    prefix = image_root(project).as_posix()
    whole = pc.match_substring_regex(plain, _WHOLE_PATH)
    return pc.if_else(
        whole, plain, pc.binary_join_element_wise(prefix.rstrip("/"), plain, "/")
    )


def image_root(project: ProjectReader) -> Path:
    """Return the folder that image files lie in."""
    spec = project.spec
    if spec.kind == "folder":
        return Path(spec.path)
    return Path(str(spec.options.get("root") or Path(spec.path).parent))


def free_target(
    project: ProjectReader, path: str | Path, *, overwrite: bool, folder: bool = False
) -> Path:
    """Return where to write: nowhere inside a project, on nothing unasked.

    Raises
    ------
    StoreError
        With the reason and what to do.
    """
    target = Path(path).expanduser().absolute()
    if target.is_dir() and not folder:
        raise StoreError(f"{target} is a folder. Give the name of a file.")
    if target.resolve().is_relative_to(project.path.resolve()):
        raise StoreError(f"{target} lies inside the project. Choose another folder.")
    if folder and (target.exists() or target.is_symlink()):
        raise StoreError(
            f"{target} exists already. Choose another name, or delete it first; a "
            "folder is never overwritten."
        )
    if target.exists() and not overwrite:
        raise StoreError(
            f"{target} exists already. Choose another name, or allow overwriting."
        )
    return target


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill; it appears as ``target``, whole, only on success.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    temporary = beside(target)
    with store_errors("write", target):
        try:
            temporary.mkdir()
            yield temporary
            if target.exists():
                raise StoreError(f"{target} has appeared meanwhile; nothing is lost.")
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
