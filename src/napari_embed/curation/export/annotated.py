"""AnnData (.h5ad or Zarr), which scanpy, cellxgene and SpatialData read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from napari_embed.curation.export.rows import Rows, whole_folder
from napari_embed.errors import MissingDependencyError, StoreError
from napari_embed.project.atomic import (
    beside,
    store_errors,
    sync_file,
    sync_folder,
)

__all__ = ["write_h5ad", "write_zarr"]

_BLOCK_VALUES = 1 << 22


def write_h5ad(
    rows: Rows,
    target: Path,
    *,
    overwrite: bool = False,
    embeddings: str | None = None,
) -> int:
    """Write an AnnData file; return the number of items.

    ``obs`` has the columns of a table, with the item's id as index; ``X`` the vectors
    of one encoder, written block by block, and ``obsm`` the same vectors as
    "X_ENCODER" (the same bytes, not a copy) and each map as "X_MAP".

    Parameters
    ----------
    rows
        Items and maps.
    target
        File to write.
    overwrite
        Allow replacing an existing file.
    embeddings
        Whose vectors; by default the newest finished ones, none if there are none.

    Raises
    ------
    MissingDependencyError
        If anndata is not installed.
    """
    ad = _anndata()
    import h5py

    with store_errors("write", target):
        temporary = beside(target)
        try:
            with h5py.File(temporary, "x") as file:
                name = _write_into(ad, file, rows, embeddings)
                if name is not None:
                    file[f"obsm/{_key(name)}"] = file["X"]
            _take_over(temporary, target, overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    return int(rows.ids.size)


def _take_over(temporary: Path, target: Path, overwrite: bool) -> None:
    """Move a complete file into place."""
    if not overwrite and target.exists():
        raise StoreError(f"{target} has appeared meanwhile; it is left as it is.")
    sync_file(temporary)
    os.replace(temporary, target)
    sync_folder(target.parent)


def write_zarr(rows: Rows, target: Path, *, embeddings: str | None = None) -> int:
    """Write an AnnData Zarr folder; see `write_h5ad`.

    Zarr has no links, so the vectors are in ``X`` only.
    """
    ad = _anndata()
    import zarr

    with whole_folder(target) as folder:
        group = zarr.open_group(folder, mode="w", zarr_format=2)
        _write_into(ad, group, rows, embeddings)
        zarr.consolidate_metadata(group.store)
    return int(rows.ids.size)


def _anndata() -> Any:
    try:
        import anndata
    except ImportError as error:
        raise MissingDependencyError(
            "AnnData files are written by the package anndata, which is not "
            'installed: pip install "napari-embed[anndata]"'
        ) from error
    return anndata


def _write_into(ad: Any, group: Any, rows: Rows, embeddings: str | None) -> str | None:
    """Write all parts; return the name of the embeddings in ``X``."""
    import pandas as pd

    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    name = _embeddings(rows, embeddings)
    dim = 0 if name is None else int(rows.project.embeddings(name).shape[1])
    write = ad.io.write_elem
    write(group, "obs", _obs(rows))
    index = [f"{name}_{i}" for i in range(dim)] if name else []
    write(group, "var", pd.DataFrame(index=pd.Index(index, dtype=object)))
    for part in ("obsm", "varm", "obsp", "varp", "layers"):
        write(group, part, {})
    for map_name, positions in rows.maps.items():
        write(group, f"obsm/{_key(map_name)}", positions[rows.ids])
    facts = {"project": rows.project.name, "source": rows.project.spec.path}
    write(group, "uns", {"napari_embed": facts | {"embeddings": name or ""}})
    if name is not None:
        _write_vectors(group, rows, name, dim)
    return name


def _embeddings(rows: Rows, name: str | None) -> str | None:
    done = {
        s.key.removeprefix("embeddings/"): s.updated
        for s in rows.project.stages()
        if s.key.startswith("embeddings/") and s.state == "sealed"
    }
    if name is not None:
        rows.project.embeddings(name)  # a clear sentence if there is none
        return name
    return max(done, key=lambda key: done[key]) if done else None


def _key(name: str) -> str:
    return "X_" + re.sub(r"[^A-Za-z0-9_]+", "_", name)


def _obs(rows: Rows) -> Any:
    """Return the table of items with the ids as index."""
    tables = []
    for table in rows.blocks():
        places = [n for n in table.column_names if n.split(".")[-1] in tuple("xyz")]
        mine = {*("xyz"), *(f"{m}.{a}" for m in rows.maps for a in "xyz")}
        tables.append(
            table.drop_columns([n for n in places if n in mine and rows.maps])
        )
    table = pa.concat_tables(tables, promote_options="default")
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name]
        if name in ("id", "_index"):
            continue
        if pa.types.is_nested(column.type):
            texts = [
                None if v is None else "; ".join(map(str, v))
                for v in column.to_pylist()
            ]
            column = pa.chunked_array([pa.array(texts, pa.string())])
        # A slash would be a folder inside the file.
        columns[name.replace("/", "_")] = column
    frame = pa.table(columns).to_pandas()
    for name in frame.columns:
        if frame[name].dtype == object or str(frame[name].dtype) == "string":
            values = frame[name].astype("string")
            few = values.nunique() <= max(50, len(values) // 10)
            frame[name] = values.astype("category") if few else values.fillna("")
            if not few:
                frame[name] = frame[name].astype(object)
    frame.index = [str(i) for i in rows.ids.tolist()]
    return frame


def _write_vectors(group: Any, rows: Rows, name: str, dim: int) -> None:
    """Write ``X`` block by block."""
    n = rows.ids.size
    step = max(1, _BLOCK_VALUES // dim)
    chunks = (min(step, n), dim)
    create = getattr(group, "create_array", None) or group.create_dataset
    array = create("X", shape=(n, dim), dtype="f4", chunks=chunks)
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    stored = rows.project.embeddings(name)
    for start in range(0, n, step):
        ids = rows.ids[start : start + step]
        order = np.argsort(ids, kind="stable")
        block = np.empty((ids.size, dim), np.float32)
        block[order] = stored[ids[order]]
        array[start : start + ids.size] = block
        if rows.progress:
            rows.progress(min(start + step, n), n)
