"""A report in one HTML file, with pictures, that opens anywhere and loads nothing."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_embed.curation.export.rows import Rows
from napari_embed.curation.problems.findings import Finding
from napari_embed.errors import InputError
from napari_embed.project.atomic import atomic_file

__all__ = ["write_report"]

MOST_PICTURES = 500
_MOST_LABELS = 30
_MAP_PX = 640
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto;
       padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p.sub { margin: .2rem 0 0; opacity: .7; }
section.top { display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 2rem; }
section.top img { width: 100%; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td { padding: .15rem .5rem .15rem 0; border-bottom: 1px solid var(--soft);
     overflow-wrap: anywhere; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { width: 40%; } td.bar i { display: block; height: .7rem; background: #4c78a8; }
div.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(116px, 1fr));
           gap: .8rem; }
figure { margin: 0; padding: .4rem; border: 1px solid var(--line); border-radius: 6px; }
figure.keep { border: 2px solid #2a9d5c; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain;
             image-rendering: pixelated; background: #0003; }
figcaption { font-size: .75rem; line-height: 1.35; overflow-wrap: anywhere; }
figcaption b { display: block; } figcaption span { opacity: .7; display: block; }
"""


def write_report(
    rows: Rows,
    target: Path,
    *,
    overwrite: bool = False,
    title: str | None = None,
    finding: Finding | None = None,
    most_pictures: int = MOST_PICTURES,
) -> int:
    """Write a report: where the items lie, their labels, and their pictures.

    Text from the data is plain text in it, and the file may load nothing.

    Parameters
    ----------
    rows
        Items to report on.
    target
        File to write.
    overwrite
        Allow replacing an existing file.
    title
        By default the finding's or the project's.
    finding
        Scores, groups and what was suggested, shown beside the pictures.
    most_pictures
        Pictures shown; the first ones.

    Returns
    -------
    Number of items reported on.
    """
    if most_pictures < 0:
        raise InputError(f"most_pictures must be 0 or more, got {most_pictures}.")
    project = rows.project
    head = title or (finding.title if finding else f"{project.name}: items")
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    sub = f"{rows.ids.size:,} of {project.n_items:,} items of {project.name}, {made}"
    with atomic_file(target, overwrite=overwrite) as file:

        def put(text: str) -> None:
            file.write(text.encode("utf-8", "replace"))

        put(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src '
            "'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            f"<title>{_text(head)}</title><style>{_STYLE}</style></head><body>\n"
            f'<h1>{_text(head)}</h1><p class="sub">{_text(sub)}</p>\n'
        )
        if finding is not None and finding.note:
            put(f"<p>{_text(finding.note)}</p>\n")
        put('<section class="top"><div><h2>Labels</h2>')
        put(_label_table(rows))
        put(f"</div><div><h2>On the map</h2>{_map(rows)}</div></section>\n")
        shown = rows.ids[:most_pictures]
        more = f", the first {shown.size:,}" if shown.size < rows.ids.size else ""
        put(f'<h2>Items{more}</h2>\n<div class="grid">\n')
        for figure in _figures(rows, shown, finding):
            put(figure)
        put("</div>\n</body></html>\n")
    return int(rows.ids.size)


def _text(value: Any) -> str:
    """Return text that HTML does not obey."""
    plain = "".join(c if c.isprintable() else " " for c in str(value))
    return html.escape(plain, quote=True)


def _label_table(rows: Rows) -> str:
    """Return the commonest labels with their counts."""
    counts: dict[str | None, int] = {}
    for table in rows.blocks():
        for entry in table["label"].value_counts().to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    highest = most[0][1]
    lines = [
        f"<tr><td>{_text(name if name is not None else 'no label')}</td>"
        f'<td class="n">{count:,}</td><td class="bar">'
        f'<i style="width:{100 * count / highest:.1f}%"></i></td></tr>'
        for name, count in most[:_MOST_LABELS]
    ]
    if len(most) > _MOST_LABELS:
        lines.append(f"<tr><td>and {len(most) - _MOST_LABELS:,} more</td></tr>")
    return f"<table>{''.join(lines)}</table>"


def _map(rows: Rows) -> str:
    """Return a picture of the first map: all items grey, the reported ones red."""
    if not rows.maps:
        return "<p>This project has no map.</p>"
    name, positions = next(iter(rows.maps.items()))
    flat = positions[:, :2]
    known = np.asarray(np.isfinite(flat).all(axis=1))
    if not known.any():
        return "<p>No item has a place on the map.</p>"
    low, high = flat[known].min(axis=0), flat[known].max(axis=0)
    scale = (_MAP_PX - 17) / max(float((high - low).max()), 1e-12)
    image = np.full((_MAP_PX, _MAP_PX, 3), 250, np.uint8)
    middle = (low + high) / 2

    def pixels(ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        at = (flat[ids] - middle) * scale + _MAP_PX / 2
        return (_MAP_PX - 1 - at[:, 1]).astype(int), at[:, 0].astype(int)

    image[pixels(np.flatnonzero(known))] = 190
    mine = rows.ids[known[rows.ids]]
    row, column = pixels(mine)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            image[row + down, column + right] = (214, 72, 40)
    words = f"Map {name}; the reported items are red"
    picture = f'<img alt="{_text(words)}" src="{_data(image)}">'
    return f'{picture}<p class="sub">{_text(words)}.</p>'


def _data(image: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG", optimize=image.size < 1 << 16)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _figures(
    rows: Rows, ids: NDArray[np.int64], finding: Finding | None
) -> Iterator[str]:
    """Yield one figure per item."""
    told = _told(finding)
    step = 256
    for start in range(0, ids.size, step):
        part = ids[start : start + step]
        pictures = rows.project.read_thumbnails(part)
        there = rows.project.thumbnail_available(part)
        table = rows.table(part).select(["id", "image_path", "label"]).to_pylist()
        for row, picture, made in zip(table, pictures, there, strict=True):
            lines, keep = told.get(row["id"], ([], False))
            image = f'<img alt="" src="{_data(picture)}">' if made else ""
            label = row["label"] if row["label"] is not None else "no label"
            spans = "".join(
                f"<span>{_text(x)}</span>" for x in [*lines, row["image_path"]]
            )
            mark = ' class="keep"' if keep else ""
            yield (
                f"<figure{mark}>{image}<figcaption><b>{_text(label)}</b>{spans}"
                f"<span>item {row['id']}</span></figcaption></figure>\n"
            )


def _told(finding: Finding | None) -> dict[int, tuple[list[str], bool]]:
    """Return what a finding says about each item, and whether to keep it."""
    if finding is None:
        return {}
    result = {}
    for i, number in enumerate(finding.ids.tolist()):
        group, detail = int(finding.groups[i]), int(finding.details[i])
        lines = []
        if group >= 0 and finding.group_names[group] != "":
            lines.append(finding.group_names[group])
        elif group >= 0:
            lines.append(f"group {group + 1}")
        if detail >= 0 and finding.detail_names[detail] not in lines:
            lines.append(f"perhaps {finding.detail_names[detail]}")
        lines.append(f"{float(finding.scores[i]):.3g}")
        result[number] = (lines, bool(finding.keep[i]))
    return result
