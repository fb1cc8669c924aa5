"""Stacks: arrays with one image, or one vector, per row; and the bundled sample."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from napari_embed.errors import ImageDecodeError, InputError
from napari_embed.sources.containers import label_column, open_arrays, pick_array
from napari_embed.sources.images import percentile_limits, to_uint8
from napari_embed.sources.spec import (
    DEFAULT_SHRINK_TO_PX,
    DecodedItem,
    ProgressCallback,
    SourceSpec,
    ValueRange,
)

__all__ = ["ImagesSource", "RowView", "VectorsSource", "sample_path"]

_IMAGE_NAMES = ("images", "image", "data", "X", "arr_0")
_VECTOR_NAMES = ("vectors", "embeddings", "embedding", "features", "X", "arr_0")
_BLOCK_BYTES = 64 << 20
_LIMIT_SAMPLE = 64
_CHANNELS = (1, 2, 3, 4)
# Numbers of images larger than this are not read page by page.
_MOST_VALUE_BYTES = 1 << 20
_MOST_NPZ_BYTES = 1 << 29
_SAMPLE_NAME = re.compile(r"[a-z0-9]{1,40}")


def sample_path(name: str) -> Path:
    """Return the file of a bundled data set.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    folder = importlib.resources.files("napari_embed") / "data"
    file = folder / f"{name}_sample.npz"
    path = Path(str(file))
    if not _SAMPLE_NAME.fullmatch(name) or not path.is_file():
        raise InputError(f"There is no bundled sample {name!r}. Known: fashion.")
    return path


def _option(spec: SourceSpec, name: str) -> str | None:
    value = spec.options.get(name)
    return None if value is None else str(value)


def _items(n: int, labels: list[str | None] | None) -> pa.Table:
    numbers = pa.array(np.arange(n)).cast(pa.string())
    label = pa.array(labels or [None] * n, pa.string()).dictionary_encode()
    return pa.table({"source": numbers, "label": label})


class ImagesSource:
    """Images as an array: (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 to 4.

    uint8 is taken as it is. Everything else is scaled by **one** rule for the whole
    array, so that brightness stays comparable between images: bool to 0 and 255;
    floats that all lie in 0..1 (on an even sample of 64 images) times 255; the rest
    linearly between the 0.1 and 99.9 percentiles of that sample. Two channels become
    green and magenta, a fourth channel is dropped.

    Options: ``array`` and ``label`` name arrays in npz files and Zarr groups,
    ``layout`` is "NHW", "NHWC" or "NCHW" where the shape is ambiguous.

    Raises
    ------
    InputError
        If there is no such array.
    """

    has_images = True

    def __init__(self, spec: SourceSpec, path: Path) -> None:
        where = spec.path if spec.kind == "sample" else str(path)
        self.spec = SourceSpec(spec.kind, where, spec.options)
        self._path = path
        self._arrays = open_arrays(path)
        _, self._array = pick_array(
            path,
            self._arrays,
            option=_option(spec, "array"),
            names=_IMAGE_NAMES,
            fits=lambda a: a.ndim in (3, 4) and a.dtype.kind in "biuf",
            expected="images as (N, H, W), (N, H, W, C) or (N, C, H, W) numbers",
        )
        self._layout = _layout(path, self._array.shape, _option(spec, "layout"))
        self._limits: tuple[float, float] | None = None
        self._extremes = (0.0, 1.0)

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return ``source`` (the row number) and ``label``."""
        n = int(self._array.shape[0])
        labels = label_column(self._path, self._arrays, n, _option(self.spec, "label"))
        if progress:
            progress(n, n)
        return _items(n, labels)

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield one image per row, in order; a bad one never raises."""
        rows = np.array([int(x) for x in items["source"].to_pylist()], np.int64)
        row_bytes = max(
            1, int(np.prod(self._array.shape[1:])) * self._array.dtype.itemsize
        )
        block = max(1, _BLOCK_BYTES // row_bytes)
        for start in range(0, rows.size, block):
            yield from self._block(rows[start : start + block], shrink_to)

    def _block(
        self, rows: NDArray[np.int64], shrink_to: int | None
    ) -> Iterator[DecodedItem]:
        try:
            images = _take(self._array, rows)
        except Exception as error:  # noqa: BLE001  codecs of foreign chunks raise anything
            if rows.size > 1:  # one damaged chunk must not cost its neighbours
                for at in range(rows.size):
                    yield from self._block(rows[at : at + 1], shrink_to)
                return
            yield DecodedItem(None, f"row {rows[0]} cannot be read: {str(error)[:200]}")
            return
        for values in images:
            yield self._convert(values, shrink_to)

    def _convert(self, values: NDArray[Any], shrink_to: int | None) -> DecodedItem:
        try:
            if values.dtype.kind == "f" and not np.isfinite(values).any():
                raise ImageDecodeError("no pixel has a finite value")
            image = _as_rgb(to_uint8(values, self._scaling()), self._layout)
        except ImageDecodeError as error:
            return DecodedItem(None, str(error))
        factor = 1 if shrink_to is None else min(image.shape[:2]) // shrink_to
        if factor > 1:
            image = np.array(Image.fromarray(image).reduce(factor))
        return DecodedItem(image, None)

    def _scaling(self) -> tuple[float, float] | None:
        """Return the limits of the array's rule, found once on a sample."""
        if self._array.dtype == np.uint8 or self._array.dtype == bool:
            return None
        if self._limits is None:
            n = int(self._array.shape[0])
            rows = np.unique(np.linspace(0, n - 1, min(n, _LIMIT_SAMPLE)).astype(int))
            sample = _take(self._array, rows)
            self._limits = _limits(sample)
            finite = sample[np.isfinite(sample)]
            self._extremes = float(finite.min()), float(finite.max())
        return self._limits

    def value_range(self) -> ValueRange | None:
        """Return the range of the numbers where `values` gives them, else None.

        That is for images of one channel that 8 bits cannot hold, of at most 1 MiB
        each; npz files of more than 512 MiB are left out, as they are read as a whole.
        """
        array = self._array
        axis = self._axis()
        one = axis is None or array.shape[axis] == 1
        each = int(np.prod(array.shape[1:])) * array.dtype.itemsize
        whole = each * int(array.shape[0]) if self._path.suffix == ".npz" else 0
        if not one or each > _MOST_VALUE_BYTES or whole > _MOST_NPZ_BYTES:
            return None
        limits = self._scaling()
        if limits is None:
            return None
        low, high = limits if limits[0] < limits[1] else (limits[0], limits[0] + 1.0)
        first, last = self._extremes
        return ValueRange((low, high), (min(first, low), max(last, high)))

    def values(self, items: pa.Table) -> NDArray[Any]:
        """Return the numbers of some items, (m, h, w), as they are in the array.

        16-bit integers stay; all else becomes float32.
        """
        rows = np.array([int(x) for x in items["source"].to_pylist()], np.int64)
        values = _take(self._array, rows)
        shape = [side for axis, side in enumerate(values.shape) if axis != self._axis()]
        values = values.reshape(shape)
        kept = values.dtype in (np.uint16, np.int16)
        return values if kept else values.astype(np.float32)

    def _axis(self) -> int | None:
        """Return the axis of the channels, or None."""
        return {"NHW": None, "NHWC": 3, "NCHW": 1}[self._layout]

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Return one image, given its ``source`` value, unreduced."""
        [decoded] = self._block(np.array([int(item)]), None)
        if decoded.image is None:
            raise ImageDecodeError(decoded.error or "cannot be read")
        return decoded.image

    def vectors(self) -> None:
        """Return None: these are images."""

    def positions(self) -> None:
        """Return None: an array has no positions."""


def _limits(sample: NDArray[Any]) -> tuple[float, float]:
    if sample.dtype.kind == "f":
        finite = sample[np.isfinite(sample)]
        if finite.size and finite.min() >= 0 and finite.max() <= 1:
            return (0.0, 1.0)
    return percentile_limits(sample)


def _layout(path: Path, shape: tuple[int, ...], option: str | None) -> str:
    """Return "NHW", "NHWC" or "NCHW"."""
    if option is not None:
        axis = {"NHW": None, "NHWC": 3, "NCHW": 1}.get(option, "unknown")
        good = axis is None if len(shape) == 3 else axis in (1, 3)
        if not good or (isinstance(axis, int) and shape[axis] not in _CHANNELS):
            raise InputError(f"{path} has shape {shape}, which is not {option}.")
        return option
    if len(shape) == 3:
        if shape[2] in (3, 4):
            raise InputError(
                f"{path} has shape {shape}, which looks like one colour image. "
                "Expected many images; if these are really narrow grey images, set "
                "layout=NHW."
            )
        return "NHW"
    if shape[3] in _CHANNELS:
        return "NHWC"
    if shape[1] in _CHANNELS:
        return "NCHW"
    raise InputError(
        f"{path} has shape {shape}: 1 to 4 channels are expected, last or second. "
        "Save the channels to look at as (N, H, W, 3)."
    )


def _as_rgb(image: NDArray[np.uint8], layout: str) -> NDArray[np.uint8]:
    """Return (h, w, 3) of one image in its layout."""
    if layout == "NHW":
        image = image[..., None]
    elif layout == "NCHW":
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    elif image.shape[-1] == 2:
        # Green and magenta: told apart by colour-blind people, white where both are.
        image = image[..., [1, 0, 1]]
    return np.ascontiguousarray(image[..., :3])


def _take(array: Any, rows: NDArray[Any]) -> NDArray[Any]:
    """Return some rows of a NumPy or Zarr array."""
    if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
        return np.asarray(array[int(rows[0]) : int(rows[-1]) + 1])
    if hasattr(array, "oindex"):
        return np.asarray(array.oindex[rows])
    return np.asarray(array[rows])


class RowView:
    """An (n, d) array read by rows and given as float32."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = np.dtype(np.float32)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            values = np.asarray(self._array[rows])
        else:
            values = _take(self._array, np.asarray(rows))
        with np.errstate(over="ignore"):  # too large a double becomes Inf: reported
            return values.astype(np.float32, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class VectorsSource:
    """Own vectors as an (n, d) array, with optional labels; no images.

    Options: ``array`` and ``label`` name arrays in npz files and Zarr groups. With two
    or three columns the vectors are also taken as positions.

    Raises
    ------
    InputError
        If there is no two-dimensional array of numbers.
    """

    has_images = False

    def __init__(self, spec: SourceSpec) -> None:
        self._path = spec.location
        self.spec = SourceSpec(spec.kind, str(self._path), spec.options)
        self._arrays = open_arrays(self._path)
        _, self._array = pick_array(
            self._path,
            self._arrays,
            option=_option(spec, "array"),
            names=_VECTOR_NAMES,
            fits=lambda a: a.ndim == 2 and a.dtype.kind in "iuf" and a.shape[1] >= 1,
            expected="vectors as an (n, d) array of numbers",
        )

    def list_items(self, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return ``source`` (the row number) and ``label``."""
        n = int(self._array.shape[0])
        labels = label_column(self._path, self._arrays, n, _option(self.spec, "label"))
        if progress:
            progress(n, n)
        return _items(n, labels)

    def read(
        self, items: pa.Table, *, shrink_to: int | None = DEFAULT_SHRINK_TO_PX
    ) -> Iterator[DecodedItem]:
        """Yield "has no image" for every row."""
        for _ in range(items.num_rows):
            yield DecodedItem(None, "This source has vectors, not images.")

    def full_resolution(self, item: str) -> NDArray[np.uint8]:
        """Raise: there are no images."""
        raise InputError("This source has vectors, not images.")

    def vectors(self) -> RowView:
        """Return the (n, d) vectors, float32, read by slices."""
        return RowView(self._array)

    def positions(self) -> NDArray[np.float32] | None:
        """Return the vectors themselves when they have 2 or 3 columns."""
        return self.vectors()[:] if self._array.shape[1] in (2, 3) else None
