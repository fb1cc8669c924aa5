"""Tables of objects, read back by the libraries they are written for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from test_objects import add_labels, blobs, make_plate, set_scale, spec_of
from test_ome_zarr import write_image

from napari_embed.arrays import Projection
from napari_embed.curation.objects_table import export_anndata, write_ome_tables
from napari_embed.errors import InputError, StoreError
from napari_embed.project import Project

pytest.importorskip("ome_zarr_models")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))


def with_map(folder: Path, source: Path, rng) -> Project:
    project = Project.create(folder, spec_of(source))
    places = rng.normal(size=(project.n_items, 3)).astype(np.float32)
    project.write_projection("given-3d", Projection(places), fingerprint="f")
    return project


def contents(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*") if p.is_file() and "tables" not in p.parts
    }  # fmt: skip


@pytest.mark.parametrize("plate", [False, True])
def test_ngio_reads_the_tables_and_nothing_else_changes(tmp_path, rng, plate):
    ngio = pytest.importorskip("ngio")
    source = tmp_path / "a.zarr"
    if plate:
        make_plate(source, rng)
    else:
        write_image(source, rng.integers(0, 255, (1, 50, 50), np.uint8), "cyx")
        add_labels(source, blobs(rng, (50, 50)))
        set_scale(source, 0.5)
    before = contents(source)
    with with_map(tmp_path / "a.embed", source, rng) as project:
        assert write_ome_tables(project, projection="given-3d") == (4 if plate else 1)
        with pytest.raises(StoreError, match="already"):
            write_ome_tables(project)
        items = project.items().to_pandas()
        places = project.read_projection("given-3d").positions
    assert contents(source) == before
    picture = "B/3/1" if plate else ""
    container = ngio.open_ome_zarr_container(str(source / picture))
    table = container.get_table("napari_embed")
    assert table.reference_label == "nuclei"
    rows = items[items["field"] == picture] if plate else items
    frame = table.dataframe
    assert frame.index.tolist() == rows["label_id"].tolist()
    np.testing.assert_allclose(frame["area_px"], rows["area_px"])
    np.testing.assert_allclose(frame["map_z"], places[rows["id"], 2])


def test_spatialdata_takes_the_anndata_file(tmp_path, rng):
    anndata = pytest.importorskip("anndata")
    models = pytest.importorskip("spatialdata.models")
    make_plate(tmp_path / "a.zarr", rng)
    with with_map(tmp_path / "a.embed", tmp_path / "a.zarr", rng) as project:
        n = export_anndata(project, tmp_path / "a.h5ad", projection="given-3d")
        assert n == project.n_items
        with pytest.raises(StoreError):
            export_anndata(project, tmp_path / "a.h5ad")
        with pytest.raises(InputError):
            export_anndata(project, tmp_path / "a.txt")
    table = anndata.read_h5ad(tmp_path / "a.h5ad")
    # A list comes back from HDF5 as an array; SpatialData's reader turns it back.
    attributes = table.uns["spatialdata_attrs"]
    attributes["region"] = list(attributes["region"])
    models.TableModel().validate(table)
    assert table.obsm["X_map"].shape == (n, 3)
    assert set(table.obs["region"]) == {
        f"{well}/{field}/labels/nuclei" for well in ("B/3", "C/4") for field in (0, 1)
    }


def test_other_items_have_no_such_table(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(5, dtype=np.float32))
    from napari_embed.sources import detect_source

    with (
        Project.create(tmp_path / "v.embed", detect_source(tmp_path / "v.npy")) as made,
        pytest.raises(InputError, match="no objects"),
    ):
        write_ome_tables(made)
