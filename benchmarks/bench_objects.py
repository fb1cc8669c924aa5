"""Objects as items: how fast they are found and cut, how soon a click is answered.

On the nuclei of the Data Science Bowl (306 pictures, 9,830 nuclei) where they are at
hand, and on a generated plate of 96 wells. The plate's labels are discs on a grid; its
fields are copies of few different ones, made as hard links, so that 2 million objects
take little disk and little time to make. It is deleted at the end.

    python benchmarks/bench_objects.py --nuclei FOLDER --objects 2000000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from _record import record
from napari_embed.encoders import load_encoder
from napari_embed.gui.objects.colors import object_colors
from napari_embed.gui.objects.index import read_index
from napari_embed.gui.objects.lookup import lookup_colormap
from napari_embed.project import Project
from napari_embed.sources import SourceSpec, open_source

FIELD_PX, CELL_PX = 2048, 20
NEIGHBORS = 10
CROPS = 4000


def peak_mib() -> float:
    """Most memory this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def disc_field(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a 16-bit picture and labels: discs on a grid, about 10,000."""
    n = FIELD_PX // CELL_PX
    y, x = np.mgrid[:CELL_PX, :CELL_PX] - CELL_PX / 2 + 0.5
    labels = np.zeros((FIELD_PX, FIELD_PX), np.uint32)
    image = rng.integers(80, 160, (2, FIELD_PX, FIELD_PX), np.uint16)
    for number in range(n * n):
        row, column = divmod(number, n)
        disc = y**2 + x**2 < rng.uniform(5, 9.5) ** 2
        box = np.s_[
            row * CELL_PX : (row + 1) * CELL_PX,
            column * CELL_PX : (column + 1) * CELL_PX,
        ]
        labels[box][disc] = number + 1
        image[0][box][disc] += np.uint16(rng.integers(200, 4000))
        image[1][box][disc] += np.uint16(rng.integers(100, 2000))
    return image, labels


def ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as version 0.5 keeps them."""
    return {"ome": {"version": "0.5", **attributes}}


def multiscale(axes: str) -> dict[str, Any]:
    """Return the metadata of one level of 0.65 micrometres a pixel."""
    return {
        "axes": [
            {"name": a, "type": "channel"} if a == "c"
            else {"name": a, "type": "space", "unit": "micrometer"}
            for a in axes
        ],
        "datasets": [{
            "path": "0",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0 if a == "c" else 0.65 for a in axes]}
            ],
        }],
    }  # fmt: skip


def write_field(where: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """Write one field with its labels."""
    group = zarr.open_group(
        str(where), mode="w", attributes=ome({"multiscales": [multiscale("cyx")]})
    )
    group.create_array("0", data=image, chunks=(1, 1024, 1024))
    zarr.open_group(
        str(where / "labels"), mode="w", attributes=ome({"labels": ["nuclei"]})
    )
    marks = zarr.open_group(
        str(where / "labels" / "nuclei"), mode="w",
        attributes=ome({"multiscales": [multiscale("yx")]}),
    )  # fmt: skip
    marks.create_array("0", data=labels, chunks=(1024, 1024))


def write_plate(root: Path, n_objects: int, rng: np.random.Generator) -> int:
    """Write a plate of 96 wells; return its number of objects."""
    each = (FIELD_PX // CELL_PX) ** 2
    fields = max(1, round(n_objects / 96 / each))
    wells = [f"{row}/{column}" for row in "ABCDEFGH" for column in range(1, 13)]
    plate = {
        "rows": [{"name": r} for r in "ABCDEFGH"],
        "columns": [{"name": str(c)} for c in range(1, 13)],
        "wells": [
            {"path": w, "rowIndex": i // 12, "columnIndex": i % 12}
            for i, w in enumerate(wells)
        ],
    }
    zarr.open_group(str(root), mode="w", attributes=ome({"plate": plate}))
    patterns = []
    for number in range(4):
        pattern = root.parent / f"pattern{number}"
        write_field(pattern, *disc_field(rng))
        patterns.append(pattern)
    for number, well in enumerate(wells):
        content = {"well": {"images": [{"path": str(f)} for f in range(fields)]}}
        zarr.open_group(str(root / well), mode="w", attributes=ome(content))
        for field in range(fields):
            copied = patterns[(number + field) % len(patterns)]
            shutil.copytree(copied, root / well / str(field), copy_function=os.link)
    return 96 * fields * each


def crop_rate(source: Any, items: pa.Table, n: int) -> float:
    """Return crops a second over consecutive items."""
    some = items.slice(0, min(n, items.num_rows))
    started = time.perf_counter()
    failed = sum(image is None for image, _ in source.read(some))
    assert failed == 0
    return some.num_rows / (time.perf_counter() - started)


def measure(spec: SourceSpec, folder: Path) -> dict[str, Any]:
    """Scan, scan again, cut, and answer clicks and lassos."""
    source = open_source(spec)
    started, cpu = time.perf_counter(), time.process_time()
    items = source.list_items()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    found: dict[str, Any] = {
        "objects": items.num_rows,
        "pictures": len(source.fields.names),
        "scan_s": seconds,
        "scan_cpu_s": cpu,
        "objects_per_s": items.num_rows / seconds,
        "scan_peak_mib": peak_mib(),
    }
    started = time.perf_counter()
    open_source(spec).list_items()
    found["scan_again_s"] = time.perf_counter() - started
    found["crops_per_s"] = crop_rate(source, items, CROPS)
    masked = open_source(source.spec.with_options(mask="on"))
    found["masked_crops_per_s"] = crop_rate(masked, items, CROPS)
    del items
    started = time.perf_counter()
    with Project.create(folder / "bench.embed", source.spec) as project:
        found["create_s"] = time.perf_counter() - started
        found["items_parquet_mib"] = (
            project.path / "items.parquet"
        ).stat().st_size / 2**20
        found |= link_latency(project)
    found["peak_mib"] = peak_mib()
    return found


def link_latency(project: Project) -> dict[str, float]:
    """Return how long it takes to find an item and to colour a picture, in ms."""
    started = time.perf_counter()
    index = read_index(project)
    assert index is not None
    times: dict[str, list[float]] = {"click_ms": [], "recolor_ms": []}
    rng = np.random.default_rng(0)
    for item in rng.choice(project.n_items, 20):
        spot = index.spot(int(item))
        begun = time.perf_counter()
        assert index.item_at(spot.field, spot.t, spot.label) == item
        times["click_ms"].append(1e3 * (time.perf_counter() - begun))
        selected = np.zeros(project.n_items, bool)
        selected[rng.choice(project.n_items, project.n_items // 10)] = True
        begun = time.perf_counter()
        rows = index.rows(spot.field, spot.t)
        codes, palette = object_colors(
            rows, None, selected, None, colormap="viridis", limits=(0, 1)
        )
        made = lookup_colormap(index.label[rows], codes, palette)
        made._data_to_texture(np.zeros((FIELD_PX, FIELD_PX), np.uint32))
        times["recolor_ms"].append(1e3 * (time.perf_counter() - begun))
    return {
        "read_index_s": time.perf_counter() - started,
        **{name: float(np.median(values)) for name, values in times.items()},
        "objects_in_picture": int(index.rows(index.fields[0]).size),
    }


def agreement(vectors: np.ndarray, classes: np.ndarray) -> float:
    """Return the share of each item's 10 nearest that have its class."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(vectors)
    near = search.kneighbors(vectors, return_distance=False)[:, 1:]
    return float((classes[near] == classes[:, None]).mean())


def plain_features(items: pa.Table, crops: list[np.ndarray]) -> np.ndarray:
    """Return intensity and shape of each object, each column with unit variance."""

    def column(name: str) -> np.ndarray:
        return np.asarray(items[name].to_numpy(), np.float64)

    high, wide = (column(f"max_{a}") - column(f"min_{a}") for a in "yx")
    area = column("area_px")
    light = np.array([
        [*crop.reshape(-1, 3).mean(0), *crop.reshape(-1, 3).std(0),
         *np.percentile(crop, (5, 50, 95))]
        for crop in crops
    ])  # fmt: skip
    shape = np.stack([area, high, wide, high / wide, area / (high * wide)], axis=1)
    plain = np.concatenate([shape, light], axis=1)
    return (plain - plain.mean(0)) / np.maximum(plain.std(0), 1e-9)


def worth(source: Any, encoders: list[str]) -> dict[str, Any]:
    """Return how often an object's nearest come from its modality and its picture."""
    items = source.list_items()
    crops = [image for image, _ in source.read(items)]
    modality = np.asarray(items["label"].combine_chunks().indices)
    picture = np.asarray(items["field"].combine_chunks().indices)
    vectors = {"intensity and shape": plain_features(items, crops)}
    for name in encoders:
        encoder = load_encoder(name, device="cpu")
        if encoder.needs_fit:
            encoder.fit(crops)
        vectors[name] = encoder.encode(crops)
    chance = {
        "modality": float(np.square(np.bincount(modality) / modality.size).sum()),
        "picture": float(np.square(np.bincount(picture) / picture.size).sum()),
    }
    return {"chance": chance} | {
        name: {
            "modality": agreement(values, modality),
            "picture": agreement(values, picture),
        }
        for name, values in vectors.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nuclei", type=Path, help="folder with index.csv")
    parser.add_argument("--objects", type=int, default=2_000_000)
    parser.add_argument("--encoders", default="descriptor")
    parser.add_argument("--out", default="objects")
    wish = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench_objects_") as folder:
        place = Path(folder)
        os.environ["NAPARI_EMBED_CACHE"] = str(place / "cache")
        if wish.objects:
            started = time.perf_counter()
            n = write_plate(place / "plate.zarr", wish.objects,
                            np.random.default_rng(0))  # fmt: skip
            print(f"made {n:,} objects in {time.perf_counter() - started:.0f} s")
            spec = SourceSpec("objects", str(place / "plate.zarr"))
            results["plate"] = measure(spec, place)
            print(json.dumps(results["plate"], indent=1))
        if wish.nuclei:
            spec = SourceSpec("objects", str(wish.nuclei / "index.csv"), {
                "image": "images/{image_id}.png", "labels": "labels/{image_id}.png",
                "label": "modality_derived",
            })  # fmt: skip
            (place / "nuclei").mkdir()
            results["nuclei"] = measure(spec, place / "nuclei")
            crops = open_source(spec.with_options(size="fit", margin="4px"))
            names = [e for e in wish.encoders.split(",") if e]
            results["nuclei"]["worth"] = worth(crops, names)
            print(json.dumps(results["nuclei"], indent=1))
    settings = {"objects": wish.objects, "field_px": FIELD_PX, "crops": CROPS}
    record(wish.out, results, settings=settings)


if __name__ == "__main__":
    main()
