"""Objects to rows of the items table: order, place, size in pixels and micrometres."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_embed.errors import InputError
from napari_embed.sources.objects.crops import TILE_PX
from napari_embed.sources.objects.fields import Field, Fields
from napari_embed.sources.objects.options import CropOptions, Length
from napari_embed.sources.objects.volume import Geometry
from napari_embed.sources.spec import MAX_ITEMS

__all__ = ["Listing"]

_SIZE_PERCENTILE = 95.0


@dataclass
class Listing:
    """Rows of objects while they are found.

    Parameters
    ----------
    fields
        The pictures.
    options
        Which objects to leave out.
    """

    fields: Fields
    options: CropOptions
    left_out: dict[str, int] = field(default_factory=dict)
    _used: list[Field] = field(default_factory=list)
    _keys: list[pa.Array] = field(default_factory=list)
    _objects: list[NDArray[np.void]] = field(default_factory=list)
    _um: list[tuple[float, float, float]] = field(default_factory=list)
    _factor: list[tuple[float, float, float]] = field(default_factory=list)
    _deep: bool = False
    _n: int = 0

    def add(self, place: Field, objects: NDArray[np.void], geometry: Geometry) -> None:
        """Take over the objects of one picture, without those left out by rule."""
        geometry = geometry.with_pixel(self.options.pixel_size)
        objects = self._kept(objects, geometry)
        if not objects.size:
            return
        self._n += objects.size
        if self._n > MAX_ITEMS:
            raise InputError(f"There are more than {MAX_ITEMS:,} objects.")
        tile = [
            (objects[f"{a}0"] + objects[f"{a}1"]) // (2 * TILE_PX) for a in ("y", "x")
        ]
        order = np.lexsort(
            (objects["label"], objects["plane"], tile[1], tile[0], objects["t"])
        )
        objects = objects[order]
        self._used.append(place)
        self._keys.append(pa.array(_keys(place.key, objects), pa.string()))
        self._objects.append(objects)
        self._um.append(geometry.pixel_um or (np.nan,) * 3)
        self._factor.append(geometry.factor)
        self._deep |= geometry.planes > 1

    def __len__(self) -> int:
        return self._n

    def _kept(self, objects: NDArray[np.void], geometry: Geometry) -> NDArray[np.void]:
        options, (_, fy, fx) = self.options, geometry.factor
        um = geometry.pixel_um
        area_um = um[1] * um[2] if um else None
        keep = np.ones(objects.size, bool)

        def drop(why: str, wrong: NDArray[np.bool_]) -> None:
            count = int((keep & wrong).sum())
            if count:
                self.left_out[why] = self.left_out.get(why, 0) + count
            keep[wrong] = False

        area = objects["area"] * (fy * fx)
        if not options.keep_edge:
            drop("objects at the border", objects["edge"])
        if options.min_area:
            drop("too small", area < options.min_area.px(area_um, "min_area"))
        if options.max_area:
            drop("too large", area > options.max_area.px(area_um, "max_area"))
        return objects[keep]

    def size(self) -> Length:
        """Return a side that nearly all objects fit into, with the margin."""
        sides = []
        for objects, um, (_, fy, fx) in zip(
            self._objects, self._um, self._factor, strict=True
        ):
            px = np.maximum(
                (objects["y1"] - objects["y0"]) * fy,
                (objects["x1"] - objects["x0"]) * fx,
            )
            sides.append(px * (um[1] if np.isfinite(um[1]) else 1.0))
        in_um = bool(np.isfinite([um[1] for um in self._um]).all())
        side = float(np.percentile(np.concatenate(sides), _SIZE_PERCENTILE))
        first = self._um[0][1] if in_um else None
        margin = self.options.margin
        if in_um and not margin.in_um:
            margin = Length(margin.value * (first or 1.0), in_um=True)
        side += 2 * margin.px(first if margin.in_um and not in_um else 1.0, "margin")
        return (
            Length(side, in_um) if in_um else Length(float(max(4, round(side))), in_um)
        )

    def table(self, root: Path) -> pa.Table:
        """Return the items."""
        counts = [objects.size for objects in self._objects]
        code = np.repeat(np.arange(len(counts)), counts)
        objects = np.concatenate(self._objects)
        columns: dict[str, Any] = {"source": pa.chunked_array(self._keys)}
        columns |= self._named(code, root)
        scale = np.asarray(self._factor)[code]
        um = np.asarray(self._um)[code]
        columns["label_id"] = pa.array(objects["label"])
        if np.ptp(objects["t"]) > 0:
            columns["t"] = pa.array(objects["t"])
        if self._deep:
            columns["plane"] = pa.array(objects["plane"])
        columns |= self._measures(objects, scale, um)
        return pa.table(columns)

    def _named(self, code: NDArray[np.int64], root: Path) -> dict[str, Any]:
        """Return label, plate, well, field and the columns of a table."""

        def each(values: list[Any], kind: pa.DataType | None = None) -> Any:
            taken = pa.array(values, kind).take(pa.array(code))
            return (
                taken.dictionary_encode() if pa.types.is_string(taken.type) else taken
            )

        named: dict[str, Any] = {}
        wells = [place.well for place in self._used]
        chosen = self.fields.label_column
        label = [
            str(place.row[chosen]) if chosen and place.row.get(chosen) is not None
            else place.well or None
            for place in self._used
        ]  # fmt: skip
        named["label"] = each(label, pa.string())
        if any(wells):
            named["plate"] = each([root.name.split(".")[0]] * len(wells), pa.string())
            named["well"] = each(wells, pa.string())
        if len(self._used) > 1:
            named["field"] = each([place.key for place in self._used], pa.string())
        taken = {*named, "source", "id", *_MEASURES}
        for name in self._used[0].row:
            if name != chosen and name not in taken:
                named[name] = each([place.row.get(name) for place in self._used])
        return named

    def _measures(
        self, objects: NDArray[np.void], factor: NDArray[Any], um: NDArray[Any]
    ) -> dict[str, Any]:
        measures: dict[str, NDArray[Any]] = {}
        axes = "zyx" if self._deep else "yx"
        centre = {}
        for axis in axes:
            by = factor[:, "zyx".index(axis)]
            centre[axis] = (objects[axis] + 0.5) * by - 0.5
            measures[f"centroid_{axis}"] = centre[axis].astype(np.float32)
        area = objects["area"] * factor[:, 1] * factor[:, 2]
        measures["area_px"] = np.round(area).astype(np.int64)
        known = np.isfinite(um[:, 1])
        if known.any():
            for axis in axes:
                values = (centre[axis] * um[:, "zyx".index(axis)]).astype(np.float32)
                measures[f"centroid_{axis}_um"] = values
            size = area * um[:, 1] * um[:, 2] * (um[:, 0] if self._deep else 1)
            name = "volume_um3" if self._deep else "area_um2"
            measures[name] = size.astype(np.float32)
        for axis in axes:
            by = factor[:, "zyx".index(axis)]
            low, high = np.floor(objects[f"{axis}0"] * by), objects[f"{axis}1"] * by
            measures[f"min_{axis}"] = low.astype(np.int32)
            measures[f"max_{axis}"] = np.ceil(high).astype(np.int32)
        columns = {name: pa.array(v, from_pandas=True) for name, v in measures.items()}
        columns["touches_edge"] = pa.array(objects["edge"])
        return columns


_MEASURES = frozenset(
    ["label_id", "t", "plane", "area_px", "area_um2", "volume_um3", "touches_edge"]
    + [f"centroid_{a}{u}" for a in "zyx" for u in ("", "_um")]
    + [f"{end}_{a}" for a in "zyx" for end in ("min", "max")]
)


def _keys(field: str, objects: NDArray[np.void]) -> list[str]:
    names = ("t", "label", "z0", "z1", "y0", "y1", "x0", "x1", "plane", "check")
    return [
        f"{field}:t{t}:{label}@z{z0}-{z1},y{y0}-{y1},x{x0}-{x1},p{plane}#{check:08x}"
        for t, label, z0, z1, y0, y1, x0, x1, plane, check in zip(
            *(objects[name].tolist() for name in names), strict=True
        )
    ]
