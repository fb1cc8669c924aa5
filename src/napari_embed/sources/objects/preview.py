"""A few crops of the objects of a source, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from napari_embed.sources.objects.crops import as_rgb
from napari_embed.sources.objects.source import ObjectsSource
from napari_embed.sources.spec import SourceSpec

__all__ = ["Preview", "preview_objects", "scale_bar", "sheet"]

_FIELDS = 4
_NICE = (1, 2, 5)
_LONGEST_SHARE = 0.45


@dataclass(frozen=True)
class Preview:
    """What a source would give.

    Attributes
    ----------
    crops
        (h, w, 3) uint8 each.
    names
        Of the objects, in the same order.
    um_per_px
        Micrometres a pixel of the crops, or None.
    n_fields, n_scanned, n_objects
        Pictures in all, those looked at, and objects found in these.
    n_channels
        Of the first picture.
    spec
        The source with what was decided, such as the size.
    notes
        What is left out, in sentences.
    """

    crops: list[NDArray[np.uint8]]
    names: list[str]
    um_per_px: float | None
    n_fields: int
    n_scanned: int
    n_objects: int
    n_channels: int
    spec: SourceSpec
    notes: list[str]

    def words(self) -> str:
        """Return one line: how many objects, how large the crops are."""
        about = "" if self.n_scanned == self.n_fields else "about "
        total = self.n_objects * self.n_fields / max(1, self.n_scanned)
        pictures = "picture" if self.n_fields == 1 else "pictures"
        size = str(self.spec.options.get("size", "each its own box"))
        size = size.replace("um", " \N{MICRO SIGN}m").replace("px", " px")
        return (
            f"{about}{round(total):,} objects in {self.n_fields:,} {pictures}, "
            f"{self.n_channels} channel{'s' if self.n_channels > 1 else ''}, "
            f"crops of {size}"
        )


def preview_objects(spec: SourceSpec, *, n: int = 10, random_state: int = 0) -> Preview:
    """Cut out ``n`` objects of a few pictures, as the project would have them.

    Raises
    ------
    InputError
        If there are no objects, or an option is wrong.
    """
    source = ObjectsSource(spec)
    names = source.fields.names
    few = np.linspace(0, len(names) - 1, min(len(names), _FIELDS)).astype(int)
    source.fields.names = [names[i] for i in np.unique(few)]
    items = source.list_items()
    rng = np.random.default_rng(random_state)
    rows = np.sort(rng.choice(items.num_rows, min(n, items.num_rows), replace=False))
    chosen = items.take(pa.array(rows))
    decoded = list(source.read(chosen, shrink_to=None))
    shown = [(d.image, i) for i, d in enumerate(decoded) if d.image is not None]
    notes = source.notes + [d.error for d in decoded[:3] if d.error]
    um = source.pixel_um
    return Preview(
        crops=[as_rgb(image) for image, _ in shown],
        names=[f"#{chosen['label_id'][i].as_py()}" for _, i in shown],
        um_per_px=um[1] if um else None,
        n_fields=len(names),
        n_scanned=len(source.fields.names),
        n_objects=items.num_rows,
        n_channels=source.n_channels,
        spec=source.spec,
        notes=notes,
    )


def scale_bar(width_px: float, um_per_px: float | None) -> tuple[float, str]:
    """Return the length of a bar in pixels and its words: 1, 2 or 5 times a power.

    Without a pixel size it is in pixels.
    """
    unit = um_per_px or 1.0
    most = max(width_px * unit * _LONGEST_SHARE, 1e-12)
    power = 10.0 ** np.floor(np.log10(most))
    length = max(n * power for n in (0.5, *_NICE) if n * power <= most)
    words = f"{length:g} \N{MICRO SIGN}m" if um_per_px else f"{length:g} px"
    return length / unit, words


def sheet(
    preview: Preview, *, columns: int = 5, side: int = 144, around: str = "#1e1e22"
) -> NDArray[np.uint8]:
    """Return one picture of all crops, each with a scale bar: (h, w, 3).

    ``around`` is the colour between them.
    """
    rows = -(-len(preview.crops) // columns)
    gap = 6
    page = Image.new(
        "RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), around
    )
    pen = ImageDraw.Draw(page)
    for number, crop in enumerate(preview.crops):
        row, column = divmod(number, columns)
        x, y = gap + column * (side + gap), gap + row * (side + gap)
        zoom = side / max(crop.shape[:2])
        size = tuple(max(1, round(n * zoom)) for n in crop.shape[1::-1])
        small = Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC)
        page.paste(small, (x, y))
        length, words = scale_bar(side / zoom, preview.um_per_px)
        end = x + 8 + length * zoom
        pen.rectangle((x + 6, y + side - 26, end + 2, y + side - 4), fill=(0, 0, 0))
        pen.rectangle((x + 8, y + side - 9, end, y + side - 7), fill=(255, 255, 255))
        # The font that comes with Pillow has no Greek letters.
        words = words.replace("\N{MICRO SIGN}", "u")
        pen.text((x + 8, y + side - 24), words, fill=(255, 255, 255), font_size=12)
    return np.asarray(page)
