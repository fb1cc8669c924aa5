"""napari's writer and reader of points layers: Parquet, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from napari.layers import Points
from napari.utils.notifications import show_warning

from napari_embed.errors import InputError
from napari_embed.project.atomic import atomic_file

from .layer import EmbeddingPoints, living_layer
from .table import from_table, to_table

__all__ = ["SUFFIX", "get_reader", "read_points", "save_points", "write_points"]

SUFFIX = ".parquet"
_ROWS_PER_GROUP = 2**20

logger = logging.getLogger(__name__)


def write_points(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a points layer as Parquet: napari's writer for one points layer.

    Parameters
    ----------
    path : str
        Ends in ``.parquet``; appended if it does not.
    data : ndarray, shape (n, 2) or (n, 3)
        Of an `EmbeddingPoints` layer, or of napari's own points layer.
    attributes : dict
        The layer's state as napari gives it.

    Returns
    -------
    list of str
        The file.
    """
    layer = living_layer(data)
    if layer is None:
        layer = _of_napari(data, attributes)
    return [str(save_points(path, layer))]


def save_points(path: str | Path, layer: EmbeddingPoints) -> Path:
    """Write positions, features, colours, marks and appearance of a layer.

    Raises
    ------
    StoreError
        If the file cannot be written; what was there before stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    table = to_table(layer)
    text = [
        field.name
        for field in table.schema
        if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type)
        or pa.types.is_large_string(field.type) or pa.types.is_boolean(field.type)
    ]  # fmt: skip
    with atomic_file(path) as file:
        pq.write_table(
            table,
            file,
            row_group_size=_ROWS_PER_GROUP,
            compression="zstd",
            compression_level=1,
            use_dictionary=text,
            column_encoding={"id": "DELTA_BINARY_PACKED"},
            write_statistics=False,
        )
    return path


def _of_napari(data: Any, attributes: dict[str, Any]) -> EmbeddingPoints:
    """Return napari's own points as a layer of ours."""
    points = np.asarray(data)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise InputError(
            f"Points with {points.shape[-1]} coordinates cannot be saved as "
            f"{SUFFIX}, only 2 or 3. Save them as .csv."
        )
    known = ("name", "opacity", "blending", "visible", "scale", "translate")
    layer = EmbeddingPoints(
        points[:, ::-1],
        features=attributes.get("features"),
        **{key: attributes[key] for key in known if key in attributes},
    )
    if len(points):
        layer.face_color = np.asarray(attributes.get("face_color", "white"))
        layer.shown = attributes.get("shown", True)
    return layer


def get_reader(path: str | list[str]) -> Callable[[Any], list[Points]] | None:
    """Return napari's reader for ``.parquet``, None for anything else."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or any(Path(p).suffix.lower() != SUFFIX for p in paths):
        return None
    return _read


def _read(path: str | Sequence[str]) -> list[Points]:
    paths = [path] if isinstance(path, str) else path
    return [read_points(p) for p in paths]


def read_points(path: str | Path) -> EmbeddingPoints:
    """Open a file of points as a layer; what is damaged in it is left out, and told.

    Parameters
    ----------
    path : str or Path
        Written by `write_points`, or any Parquet table with columns x, y and perhaps
        z.

    Raises
    ------
    InputError
        If it is no Parquet file, or has no positions.
    """
    path = Path(path)
    try:
        table = pq.ParquetFile(path).read()
        # A damaged code of a category would otherwise be met somewhere later.
        table.validate(full=True)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as Parquet: it is damaged, incomplete or "
            f"of another kind ({str(error)[:200]})."
        ) from error
    try:
        layer, problems = from_table(table, name=path.stem)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    if problems:
        show_warning(f"{path.name}: left out {', '.join(problems)}; they are damaged.")
    return layer
