"""JSON that other tools for image data sets read: COCO and FiftyOne."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from napari_embed.curation.export.rows import Rows
from napari_embed.curation.problems.quality import is_inspected
from napari_embed.errors import IncompleteStageError, InputError
from napari_embed.project.atomic import atomic_file

__all__ = ["write_coco", "write_fiftyone"]

_DECISIONS = ("tags", "excluded", "note")


def write_coco(rows: Rows, target: Path, *, overwrite: bool = False) -> int:
    """Write a COCO file: images, and one box around the whole picture per label.

    ``file_name`` is the image path; images also carry ``tags`` and ``excluded`` where
    decisions are exported. Return the number of images.

    Raises
    ------
    IncompleteStageError
        If the images were not measured: COCO wants their height and width.
    """
    _require_images(rows)
    if not is_inspected(rows.project):
        raise IncompleteStageError(
            "COCO wants the height and width of every image, which are not measured "
            f"yet. Measure them first: napari-embed quality {rows.project.path}"
        )
    categories: dict[str, int] = {}
    total = 2 * rows.ids.size
    with atomic_file(target, overwrite=overwrite) as file:
        info = {"description": rows.project.name, "version": "1.0"}
        file.write(b'{"info": ' + _json(info) + b',\n"licenses": [],\n"images": [')
        _list(file, (_coco_image(*r) for r in _sized(rows, 0, total)))
        file.write(b'],\n"annotations": [')
        _list(file, _coco_boxes(rows, categories, total))
        named = [{"id": number, "name": name} for name, number in categories.items()]
        file.write(b'],\n"categories": ' + _json(named) + b"}\n")
    return int(rows.ids.size)


def write_fiftyone(rows: Rows, target: Path, *, overwrite: bool = False) -> int:
    """Write the ``labels.json`` of FiftyOne's FiftyOneImageClassificationDataset.

    Its keys are absolute paths, so no picture is copied; an item without a label has
    null. Return the number of images.

    Raises
    ------
    InputError
        If the items are no image files.
    """
    _require_images(rows)
    if rows.project.spec.kind not in ("folder", "table"):
        raise InputError(
            "FiftyOne reads image files, and these items are rows of an array. Export "
            "a folder of copies, a FiftyOne ImageClassificationDirectoryTree."
        )
    rows = replace(rows, absolute_paths=True)
    classes: dict[str | None, int] = {}
    with atomic_file(target, overwrite=overwrite) as file:
        file.write(b'{"labels": {')
        first = True
        for table in rows.blocks():
            paths, labels = table["image_path"].to_pylist(), table["label"].to_pylist()
            lines = []
            for path, label in zip(paths, labels, strict=True):
                number = (
                    None if label is None else classes.setdefault(label, len(classes))
                )
                lines.append(_json(path) + b": " + _json(number))
            file.write(b"\n" if first else b",\n")
            file.write(b",\n".join(lines))
            first = False
        file.write(b'},\n"classes": ' + _json(list(classes)) + b"}\n")
    return int(rows.ids.size)


def _require_images(rows: Rows) -> None:
    if not rows.project.has_images:
        raise InputError(
            "These items have no images, so there is nothing for a data set of images. "
            "Export a table instead."
        )


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def _list(file: Any, entries: Iterator[dict[str, Any]]) -> None:
    """Write entries with commas between them, a block at a time."""
    waiting: list[bytes] = []
    first = True
    for entry in entries:
        waiting.append(_json(entry))
        if len(waiting) == 4096:
            file.write((b"\n" if first else b",\n") + b",\n".join(waiting))
            waiting, first = [], False
    if waiting:
        file.write((b"\n" if first else b",\n") + b",\n".join(waiting))


def _sized(
    rows: Rows, done: int, total: int
) -> Iterator[tuple[dict[str, Any], float, float]]:
    """Yield each row with its height and width, 0 where it cannot be read."""
    quality = rows.project.measures("quality")
    for table in rows.blocks(done, total):
        names = {name: name for name in ("id", "image_path", "label")}
        if rows.decisions is not None:
            names |= {rows.decided(name): name for name in _DECISIONS}
        ids = np.asarray(table["id"]).astype(np.int64)
        sizes = np.nan_to_num(quality[ids][:, :2])
        plain: pa.Table = table.select(list(names)).rename_columns(list(names.values()))
        for row, (height, width) in zip(plain.to_pylist(), sizes, strict=True):
            yield row, float(height), float(width)


def _coco_image(row: dict[str, Any], height: float, width: float) -> dict[str, Any]:
    image = {
        "id": row["id"], "file_name": row["image_path"],
        "height": int(height), "width": int(width),
    }  # fmt: skip
    more = {name: row[name] for name in _DECISIONS if row.get(name)}
    return image | more


def _coco_boxes(
    rows: Rows, categories: dict[str, int], total: int
) -> Iterator[dict[str, Any]]:
    number = 0
    for row, height, width in _sized(rows, rows.ids.size, total):
        label = row["label"]
        if label is None:
            continue
        number += 1
        yield {
            "id": number,
            "image_id": row["id"],
            "category_id": categories.setdefault(label, len(categories) + 1),
            "bbox": [0, 0, width, height],
            "area": height * width,
            "iscrowd": 0,
        }
