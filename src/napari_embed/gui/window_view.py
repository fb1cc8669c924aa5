"""What a window looks like as plain values: kept in the project, applied again.

What is read back may come from another program or an older project: a part that does
not fit is left out, the rest holds.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.decisions.idset import pack_ids, unpack_ids
from napari_embed.errors import EmbedError
from napari_embed.gui.display import DisplaySettings, PageView, Stand

__all__ = ["WindowView"]

ORDERS = ("item", "random", "label")
MOST_NAMES = 100_000
RGBA = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class WindowView:
    """How a project is looked at.

    Attributes
    ----------
    projection, ndisplay
        The map, and its dimensions on the screen.
    camera
        None looks at all of it.
    column, colormap, limits
        What colours the points; the limits of numbers, None for those of the column.
    class_colors
        What the user has chosen, by class.
    hidden
        Names of hidden classes; None is what has no class.
    hidden_points
        (m,) ids.
    selection
        (m,) ids, None leaves it as it is.
    page
        Of the selected images, None leaves it as it is.
    display
        How points look.
    """

    projection: str | None = None
    ndisplay: int = 2
    camera: Stand | None = None
    column: str | None = None
    colormap: str = "viridis"
    limits: tuple[float, float] | None = None
    class_colors: Mapping[str, RGBA] = field(default_factory=dict)
    hidden: frozenset[str | None] = frozenset()
    hidden_points: NDArray[np.int64] = field(default_factory=lambda: _none())
    selection: NDArray[np.int64] | None = None
    page: PageView | None = None
    display: DisplaySettings = field(default_factory=DisplaySettings)

    def without_selection(self) -> WindowView:
        """Return the view alone, for a name of its own."""
        return replace(self, selection=None, page=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ids are packed."""
        values: dict[str, Any] = {
            "projection": self.projection,
            "ndisplay": self.ndisplay,
            "camera": None if self.camera is None else vars(self.camera),
            "column": self.column,
            "colormap": self.colormap,
            "limits": self.limits,
            "class_colors": {k: list(v) for k, v in self.class_colors.items()},
            "hidden": sorted(self.hidden, key=str),
            "hidden_points": _packed(self.hidden_points),
            "display": vars(self.display),
        }
        if self.selection is not None:
            values["selection"] = _packed(self.selection)
        if self.page is not None:
            values["page"] = vars(self.page)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], n_items: int) -> WindowView | None:
        """Return the view that fits a project of ``n_items``, None if there is none."""
        if "projection" not in values:
            return None
        view = cls()
        readers: dict[str, Callable[[Any], Any]] = {
            "projection": _text,
            "ndisplay": lambda d: d if d in (2, 3) else 2,
            "camera": _stand,
            "column": _text,
            "colormap": str,
            "limits": _limits,
            "class_colors": _colors,
            "hidden": _names,
            "hidden_points": lambda text: _unpacked(text, n_items),
            "selection": lambda text: _unpacked(text, n_items),
            "page": _page,
            "display": DisplaySettings.from_dict,
        }
        for name, read in readers.items():
            with contextlib.suppress(
                TypeError, ValueError, KeyError, AttributeError, EmbedError
            ):
                if values.get(name) is not None:
                    view = replace(view, **{name: read(values[name])})
        return view


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _packed(ids: NDArray[np.int64]) -> str:
    return base64.b64encode(pack_ids(ids)).decode("ascii")


def _unpacked(text: Any, n_items: int) -> NDArray[np.int64]:
    return unpack_ids(base64.b64decode(str(text), validate=True), n_items)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _finite(values: Iterable[Any], count: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{count} finite numbers were expected")
    return numbers


def _stand(values: Mapping[str, Any]) -> Stand:
    zoom = _finite([values["zoom"]], 1)[0]
    if zoom <= 0:
        raise ValueError("a zoom is more than 0")
    return Stand(
        _finite(values["center"], 3), zoom, _finite(values["angles"], 3),
        bool(values["fitted"]),
    )  # fmt: skip


def _limits(values: Any) -> tuple[float, float]:
    low, high = _finite(values, 2)
    if not low < high:
        raise ValueError("the smaller limit comes first")
    return low, high


def _colors(values: Mapping[str, Any]) -> dict[str, RGBA]:
    pairs = list(values.items())[:MOST_NAMES]
    return {str(name): _finite(np.clip(rgba, 0, 1), 4) for name, rgba in pairs}


def _names(values: Any) -> frozenset[str | None]:
    return frozenset(v for v in values[:MOST_NAMES] if v is None or isinstance(v, str))


def _page(values: Mapping[str, Any]) -> PageView:
    order = values["order"] if values["order"] in ORDERS else "item"
    page, size = int(values["page"]), int(values["size"])
    if page < 0 or not 1 <= size <= 1000:
        raise ValueError("no such page")
    return PageView(page, size, order)
