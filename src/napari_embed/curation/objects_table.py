"""Measures and maps of objects where other tools look: OME-Zarr tables, AnnData.

Tables are added beside the labels; images and labels are never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_embed.errors import InputError, MissingDependencyError, StoreError
from napari_embed.project import Project
from napari_embed.project.reader import ProjectReader

__all__ = ["DEFAULT_TABLE", "export_anndata", "object_frame", "write_ome_tables"]

DEFAULT_TABLE = "napari_embed"
_AXES = "xyz"
Progress = Callable[[int, int], None]


def object_frame(project: ProjectReader, projection: str | None) -> Any:
    """Return a data frame: all columns of the items and the places of a map.

    Raises
    ------
    InputError
        If the items are no objects.
    """
    if project.spec.kind != "objects":
        raise InputError(
            f"The items of {project.path} are no objects of a labels image. Export "
            "them as CSV or Parquet: napari-embed export"
        )
    frame = project.items().drop_columns(["id", "source"]).to_pandas()
    if projection is not None:
        positions = project.read_projection(projection).positions
        for axis, values in zip(_AXES, positions.T, strict=False):
            frame[f"map_{axis}"] = values
    return frame


def _labels_name(project: Project) -> str:
    return str(getattr(project.source(), "fields").labels)  # noqa: B009  of objects only


def write_ome_tables(
    project: Project,
    *,
    name: str = DEFAULT_TABLE,
    projection: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Add a feature table to every picture of the OME-Zarr; return their number.

    The tables follow the convention of ngio and Fractal: ``tables/NAME`` in the
    picture's group, type ``feature_table``, AnnData, one row per label.

    Parameters
    ----------
    project
        Of objects of an OME-Zarr.
    name
        Of the table.
    projection
        Map whose places become ``map_x``, ``map_y`` (and ``map_z``).
    overwrite
        Allow replacing a table of that name.
    progress
        Called with pictures done and in all.

    Raises
    ------
    InputError
        If the items are no objects of an OME-Zarr, or of several time points.
    StoreError
        If a table of that name is there, or the OME-Zarr cannot be written. Nothing
        is written if one picture has such a table.
    """
    root = project.spec.location
    frame = object_frame(project, projection)
    if not any((root / name).is_file() for name in ("zarr.json", ".zgroup")):
        raise InputError(
            f"{root} is no OME-Zarr, so no table can lie in it. Export CSV, Parquet "
            "or AnnData instead."
        )
    if "t" in frame:
        raise InputError(
            "These objects have several time points, and a table has one row per "
            "label. Export CSV, Parquet or AnnData instead."
        )
    ngio = _ngio()
    if "field" not in frame:
        frame["field"] = project.items(columns=["source"], rows=slice(0, 1))[
            "source"
        ][0].as_py().split(":t", 1)[0]  # fmt: skip
    groups = list(frame.groupby("field", observed=True, sort=False))
    pictures = [(root / str(field), rows) for field, rows in groups]
    taken = [p for p, _ in pictures if (p / "tables" / name).exists()]
    if taken and not overwrite:
        raise StoreError(
            f"{taken[0]} has a table {name!r} already. Choose another name, or allow "
            "overwriting; nothing was written."
        )
    labels = _labels_name(project)
    for done, (picture, rows) in enumerate(pictures, 1):
        table = rows.drop(columns=["field"]).set_index("label_id")
        table.index.name = "label"
        table = table.rename(columns={"label": "class"})
        for column in table.select_dtypes("category"):
            table[column] = (
                table[column].astype(object).where(table[column].notna(), "")
            )
        made = ngio.tables.FeatureTable(table, reference_label=labels)
        try:
            container = ngio.open_ome_zarr_container(str(picture))
            container.add_table(name, made, backend="anndata", overwrite=overwrite)
        except OSError as error:
            raise StoreError(
                f"No table can be written to {picture}: {error}"
            ) from error
        if progress:
            progress(done, len(pictures))
    return len(pictures)


def _ngio() -> Any:
    try:
        import ngio
        import ngio.tables
    except ImportError as error:
        raise MissingDependencyError(
            "Tables in an OME-Zarr need ngio. Install it with: "
            'pip install "napari-embed[tables]"'
        ) from error
    return ngio


def export_anndata(
    project: Project,
    path: str | Path,
    *,
    projection: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write all objects as one AnnData file (``.h5ad``); return their number.

    ``X`` are the newest embeddings, ``obsm["X_map"]`` a map, ``obsm["spatial"]`` the
    centroids (micrometres where they are known), ``obs`` all other columns.
    ``uns["spatialdata_attrs"]`` says which labels each row belongs to, so that
    SpatialData takes it as a table.

    Raises
    ------
    InputError
        If the items are no objects, or the ending is another.
    StoreError
        If the file exists already.
    MissingDependencyError
        If anndata is not installed.
    """
    target = Path(path).expanduser().absolute()
    frame = object_frame(project, None)
    if target.suffix != ".h5ad":
        raise InputError(f"AnnData files end in .h5ad; {target.name} does not.")
    if target.exists() and not overwrite:
        raise StoreError(f"{target} exists already. Choose another name.")
    try:
        import anndata
    except ImportError as error:
        raise MissingDependencyError(
            'AnnData needs anndata. Install it with: pip install "napari-embed[tables]"'
        ) from error
    labels = f"labels/{_labels_name(project)}"
    field = frame["field"].astype(str) if "field" in frame else None
    regions = labels if field is None else field + "/" + labels
    frame["region"] = regions
    frame["region"] = frame["region"].astype("category")
    unit = "_um" if "centroid_x_um" in frame else ""
    spatial = frame[[f"centroid_{a}{unit}" for a in "xy"]].to_numpy()
    frame.index = frame.index.astype(str)
    done = [
        s for s in project.stages()
        if s.key.startswith("embeddings/") and s.state == "sealed"
    ]  # fmt: skip
    values = None
    if done:
        newest = max(done, key=lambda s: s.updated).key.split("/", 1)[1]
        values = np.asarray(project.embeddings(newest)[:])
    table = anndata.AnnData(values, obs=frame, obsm={"spatial": spatial})
    if projection is not None:
        table.obsm["X_map"] = project.read_projection(projection).positions
    table.uns["spatialdata_attrs"] = {
        "region": sorted(frame["region"].cat.categories),
        "region_key": "region",
        "instance_key": "label_id",
    }
    part = target.with_name(target.name + ".part")
    table.write_h5ad(part)
    part.replace(target)
    return len(frame)
