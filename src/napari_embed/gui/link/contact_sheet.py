"""Compose a page of thumbnails into one picture, and find a picture in the page.

Everything is in texels of the page: rows downwards, columns to the right, origin at
the outer corner of the first texel. No Qt and no napari here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SheetGeometry",
    "compose_sheet",
    "fit_thumbnails",
    "fit_values",
    "is_grey",
    "plan_sheet",
]

# Columns of the offered page sizes, so that a page stands upright beside the cloud.
COLUMNS = {12: 3, 32: 4, 100: 7}
SMALLEST_CELL = 6


@dataclass(frozen=True)
class SheetGeometry:
    """Where the cells of a page are.

    Attributes
    ----------
    count
        Pictures on the page.
    columns, rows
        Cells of the grid; the last row may be partly empty.
    cell_height, cell_width
        Texels of one picture.
    frame
        Width of the coloured frame around a picture, in texels.
    gap
        Width of the panel between and around frames, in texels.
    """

    count: int
    columns: int
    rows: int
    cell_height: int
    cell_width: int
    frame: int = 2
    gap: int = 4

    @property
    def pitch(self) -> tuple[int, int]:
        """Rows and columns of texels from one cell to the next."""
        around = 2 * self.frame + self.gap
        return self.cell_height + around, self.cell_width + around

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the page in texels."""
        down, right = self.pitch
        return self.rows * down + self.gap, self.columns * right + self.gap

    def origin(self, index: int) -> tuple[int, int]:
        """Return (row, column) of the first texel of picture ``index``."""
        row, column = divmod(index, self.columns)
        down, right = self.pitch
        edge = self.gap + self.frame
        return row * down + edge, column * right + edge

    def cell_at(self, row: float, column: float) -> int | None:
        """Return the picture whose frame holds this place, or None.

        Gaps between frames belong to no picture.
        """
        if not (np.isfinite(row) and np.isfinite(column)):
            return None
        down, right = self.pitch
        i, in_row = divmod(row - self.gap, down)
        j, in_column = divmod(column - self.gap, right)
        if not (0 <= i < self.rows and 0 <= j < self.columns):
            return None
        if in_row >= down - self.gap or in_column >= right - self.gap:
            return None
        index = int(i) * self.columns + int(j)
        return index if index < self.count else None


def _cell_size(
    columns: int, rows: int, thumbnail: tuple[int, int], box: tuple[float, float],
    around: tuple[int, int], largest: float,
) -> tuple[int, int]:  # fmt: skip
    """Return the largest cell that fits: an integer multiple, or shrunk if it must."""
    height, width = thumbnail
    frame, gap = around
    room_down = (box[0] - gap) / rows - 2 * frame - gap
    room_right = (box[1] - gap) / columns - 2 * frame - gap
    factor = min(room_down / height, room_right / width)
    factor = min(factor, max(1.0, largest / max(height, width)))
    if factor >= 1:
        factor = float(int(factor))
    floor = SMALLEST_CELL / max(height, width)
    factor = max(factor, floor)
    return max(1, int(height * factor)), max(1, int(width * factor))


def plan_sheet(
    count: int,
    *,
    page_size: int,
    thumbnail: tuple[int, int],
    box: tuple[float, float],
    full_page: bool = False,
    frame: int = 2,
    gap: int = 4,
    largest: float = 168,
) -> SheetGeometry:
    """Return the layout of ``count`` pictures in a box.

    Parameters
    ----------
    count
        Pictures on this page, 1 to ``page_size``.
    page_size
        Pictures on a full page.
    thumbnail
        (height, width) of a thumbnail.
    box
        (height, width) of the free place, in texels.
    full_page
        The page belongs to several: keep the cells of a full page, so that paging to a
        short last page moves nothing.
    frame, gap
        Widths in texels.
    largest
        A picture is not magnified beyond this many texels.

    Returns
    -------
    SheetGeometry
        Thumbnails are magnified by a whole number, or shrunk where a page of them
        would not fit.
    """
    if count < 1 or page_size < count:
        raise ValueError(f"{count} pictures do not fit a page of {page_size}")
    planned = page_size if full_page else count
    columns = COLUMNS.get(page_size, max(1, round((page_size * 0.6) ** 0.5)))
    columns = min(columns, planned)
    planned_rows = -(-planned // columns)
    height, width = _cell_size(
        columns, planned_rows, thumbnail, box, (frame, gap), largest
    )
    rows = -(-count // columns)
    return SheetGeometry(count, columns, rows, height, width, frame, gap)


def is_grey(thumbnails: NDArray[np.generic]) -> bool:
    """Return whether no picture has colour; (m, h, w) or (m, h, w, 1 or 3)."""
    if thumbnails.ndim == 3 or thumbnails.shape[-1] == 1:
        return True
    red = thumbnails[..., 0]
    return bool(
        np.array_equal(red, thumbnails[..., 1])
        and np.array_equal(red, thumbnails[..., 2])
    )


def _shrink(image: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.generic]:
    """Return the image averaged down to ``shape``, of the same dtype."""
    from PIL import Image

    planes = image[..., None] if image.ndim == 2 else image
    out = np.empty((*shape, planes.shape[-1]), dtype=image.dtype)
    for k in range(planes.shape[-1]):
        plane = Image.fromarray(np.ascontiguousarray(planes[..., k], dtype=np.float32))
        small = np.asarray(plane.resize(shape[::-1], Image.Resampling.BOX))
        out[..., k] = np.rint(small) if image.dtype.kind in "iu" else small
    return out[..., 0] if image.ndim == 2 else out


def fit_thumbnails(
    thumbnails: NDArray[np.generic], cell: tuple[int, int]
) -> NDArray[np.generic]:
    """Return (m, cell height, cell width[, c]): repeated texels, or averaged down."""
    height, width = thumbnails.shape[1:3]
    if (height, width) == cell:
        return thumbnails
    down, right = cell[0] // height, cell[1] // width
    if (height * down, width * right) == cell and min(down, right) >= 1:
        return thumbnails.repeat(down, axis=1).repeat(right, axis=2)
    return np.stack([_shrink(image, cell) for image in thumbnails])


def fit_values(
    values: NDArray[np.generic], side: int, *, background: float
) -> NDArray[np.generic]:
    """Return pictures (m, h, w) of any number type in squares (m, side, side).

    They keep type and proportions, and are averaged where they shrink; ``background``
    fills the rest.
    """
    count, height, width = values.shape
    if (height, width) == (side, side):
        return values
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    squares = np.full((count, side, side), background, dtype=values.dtype)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    place = np.s_[top : top + size[0], left : left + size[1]]
    for square, picture in zip(squares, values, strict=True):
        if scale < 1:
            square[place] = _shrink(picture, size)
        else:
            rows = np.arange(size[0]) * height // size[0]
            columns = np.arange(size[1]) * width // size[1]
            square[place] = picture[np.ix_(rows, columns)]
    return squares


def compose_sheet(
    thumbnails: NDArray[np.generic], geometry: SheetGeometry
) -> NDArray[np.generic]:
    """Return the page: (height, width) or (height, width, 3), dtype of the thumbnails.

    Parameters
    ----------
    thumbnails
        (count, h, w) or (count, h, w, 3).
    geometry
        Where they go. What is not a picture stays 0.
    """
    if len(thumbnails) != geometry.count:
        raise ValueError(
            f"{len(thumbnails)} thumbnails for a page of {geometry.count} pictures"
        )
    cells = fit_thumbnails(thumbnails, (geometry.cell_height, geometry.cell_width))
    page = np.zeros((*geometry.shape, *thumbnails.shape[3:]), dtype=thumbnails.dtype)
    for index, cell in enumerate(cells):
        row, column = geometry.origin(index)
        page[row : row + cell.shape[0], column : column + cell.shape[1]] = cell
    return page
