"""The points layer: one point per item, millions of them, never editable.

A subclass of napari's points layer, so that layer list, controls, features, saving
and duplicating stay napari's own. Selection, colours, visibility, picking and drawing
are ours and cost the same for one point as for a million.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers.base import ActionType
from napari.utils.notifications import show_info
from psygnal import Signal, SignalGroup

from napari_embed.errors import InputError

from . import geometry, tools
from .features import Features
from .hooks import HookedPoints, register_visual
from .interaction import Interaction
from .marking import Marking
from .ordering import shuffled_order
from .relay import Relay

__all__ = ["EmbeddingPoints", "PointsSignals", "living_layer"]

BoolMask = npt.NDArray[np.bool_]
# Set when the points are there, in this order: the colormap before the colours.
_AFTERWARDS = (
    "face_color_cycle",
    "face_colormap",
    "face_contrast_limits",
    "face_color",
    "size",
    "symbol",
    "shown",
)
_living: WeakSet[EmbeddingPoints] = WeakSet()


class PointsSignals(SignalGroup):
    """What the points layer announces; all are emitted on the main thread."""

    selection_changed = Signal()
    visibility_changed = Signal()
    colors_changed = Signal()
    positions_changed = Signal()
    clicked = Signal(int)
    hovered = Signal(int)
    excluded_changed = Signal()
    tool_changed = Signal(str)
    drawn_changed = Signal(int)
    display_changed = Signal()
    drawing_failed = Signal(str)


class EmbeddingPoints(Features, Marking, Interaction, HookedPoints):
    """A map of items as points.

    Parameters
    ----------
    positions : array-like, shape (n, 2) or (n, 3)
        Coordinates x, y(, z) of each item. Rows that are not finite are never drawn
        or picked. ``data`` is always (n, 3) float32 in napari's order z, y, x; a 2D
        map has z = 0.
    name : str
        Name in the layer list.
    features : table, optional
        One row per item; shown in the status bar and in napari's features table.
    tell_missing : bool
        Notify the user of rows that are not finite.
    **kwargs
        Further arguments of :class:`napari.layers.Points`: of the layer as a whole
        (``opacity``, ``blending``, ``scale``, ``metadata`` ...), and ``face_color``,
        ``size``, ``symbol``, ``shown``.

    Attributes
    ----------
    signals : PointsSignals
        See there.
    """

    def __init__(
        self,
        positions: npt.ArrayLike,
        *,
        name: str = "Embedding",
        features: Any = None,
        tell_missing: bool = True,
        **kwargs: Any,
    ) -> None:
        xyz = _checked(positions)
        self.signals = PointsSignals(self)
        self._link: Any = None
        self._set_up(len(xyz))
        kwargs.setdefault("canvas_size_limits", (1.0, 64.0))
        # napari would want one value for each of no points.
        later = {name: kwargs.pop(name) for name in _AFTERWARDS if name in kwargs}
        super().__init__(np.empty((0, 3), np.float32), ndim=3, name=name, **kwargs)
        register_visual(EmbeddingPoints)
        self._store(xyz)
        self.color_uniform((0.75, 0.75, 0.78, 1.0))
        self._start_tools()
        self._ready = True
        self.features = {} if features is None else features
        for name, value in later.items():
            setattr(self, name, value)
        _living.add(self)
        if tell_missing and self.n_missing:
            self._tell_missing()
        self.refresh()

    def _set_up(self, n: int) -> None:
        """Make what napari's constructor may already ask for."""
        self._n = n
        self._ready = False
        self._xyz = np.zeros((n, 3), np.float32)
        self._bounds = np.full((2, 3), np.nan, np.float32)
        self._finite: BoolMask | None = None
        self._is_2d = True
        self._tool = "pan"
        self._select_mode: tools.How = "replace"
        self._last_select_tool = "lasso"
        self._dragging = False
        self._drawn = n
        self._hovered = -1
        self._matrix: npt.NDArray[np.float64] | None = None
        self._order = shuffled_order(n)
        self._relay = Relay()
        self._reported = -1
        self._set_up_marking(n)
        self._set_up_appearance(n)
        self._set_up_features()

    # -- positions

    @property
    def n_items(self) -> int:
        """Number of points, hidden ones included."""
        return self._n

    @property
    def positions(self) -> npt.NDArray[np.float32]:
        """Read-only (n, 2) or (n, 3) positions x, y(, z)."""
        view = self._xyz[:, : 2 if self._is_2d else 3]
        view.flags.writeable = False
        return view

    @property
    def is_2d(self) -> bool:
        """Whether the map was given with two coordinates."""
        return self._is_2d

    @property
    def bounds(self) -> npt.NDArray[np.float32]:
        """Smallest and largest x, y, z of the finite points, (2, 3); NaN if none."""
        return self._bounds

    @property
    def n_missing(self) -> int:
        """Points without a finite position; they are drawn nowhere."""
        if self._finite is None:
            return 0
        return self._n - int(np.count_nonzero(self._finite))

    def _tell_missing(self) -> None:
        show_info(
            f"{self.name}: {self.n_missing:,} of {self._n:,} points have no finite "
            "position (NaN or infinite) and are left out; the others are shown."
        )

    def set_positions(self, positions: npt.ArrayLike) -> None:
        """Move all points, fast enough for a map that is being computed.

        Parameters
        ----------
        positions : array-like, shape (n, 2) or (n, 3)
            New x, y(, z) for the same n items in the same order.

        Raises
        ------
        InputError
            If the number of rows differs.
        """
        xyz = _checked(positions)
        if len(xyz) != self._n:
            raise InputError(
                f"Found {len(xyz)} positions, expected {self._n}: each point of "
                f"{self.name!r} stands for one item. Make a new layer instead."
            )
        self._store(xyz)
        if self._link is not None:
            self._link.positions_changed()
        self.refresh(
            thumbnail=False,
            data_displayed=self._link is None,
            highlight=False,
            extent=True,
        )
        self.signals.positions_changed.emit()

    def _store(self, xyz: npt.NDArray[np.float32]) -> None:
        columns = xyz.shape[1]
        self._is_2d = columns == 2
        np.copyto(self._xyz[:, :columns], xyz)
        if self._is_2d:
            self._xyz[:, 2] = 0
        self._data = self._xyz[:, ::-1]
        bounds = geometry.row_bounds(self._xyz)
        had_missing = self._finite is not None
        self._finite = None
        if self._n and not np.isfinite(bounds).all():
            self._finite = np.isfinite(self._xyz).all(axis=1)
            bounds = _finite_bounds(self._xyz[self._finite])
        self._bounds = bounds
        self._occupied = None
        if had_missing or self._finite is not None:
            self._pickable = None
            self._state_changed()

    @property
    def data(self) -> npt.NDArray[np.float32]:
        """(n, 3) positions z, y, x."""
        return self._data

    @data.setter
    def data(self, data: npt.ArrayLike) -> None:
        values = np.asarray(data)
        if values.ndim == 2 and values.shape[1] in (2, 3):
            values = values[:, ::-1]
        if self._is_2d and values.shape[-1] == 3:
            values = values[:, :2]
        self.set_positions(values)
        self.refresh(extent=False)
        # Without the million ids that napari would list.
        self.events.data(
            value=self.data,
            action=ActionType.CHANGED,
            data_indices=(),
            vertex_indices=((),),
        )

    def set_drawing_order(self, order: npt.NDArray[np.intp]) -> None:
        """Draw the points in another order, a permutation of all ids."""
        self._order = order
        if self._link is not None:
            self._link.order_changed()

    # -- link to the visual

    def _state_changed(self) -> None:
        if self._link is not None:
            self._link.state_changed()
        elif self._ready:
            self.refresh(extent=False, thumbnail=False)

    def draw_thumbnail(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Return a small picture of the map, RGBA (height, width, 4)."""
        picture = np.zeros((height, width, 4), np.float32)
        picture[..., 3] = 1
        span = float(np.max(self._bounds[1] - self._bounds[0], initial=0.0))
        if not self._ready or not self._n or not np.isfinite(span):
            return picture
        sample = self._order[:2048]
        if self.pickable is not None:
            sample = sample[self.pickable[sample]]
        middle = self._bounds.mean(axis=0)
        scale = (min(height, width) - 1) / max(span, 1e-30)
        offset = (self._xyz[sample, :2] - middle[:2]) * scale
        at = np.round(offset + np.array([width, height]) / 2).astype(int)
        at = np.clip(at, 0, [width - 1, height - 1])
        picture[at[:, 1], at[:, 0]] = self.coloring.table[self.coloring.index[sample]]
        return picture


def living_layer(data: Any) -> EmbeddingPoints | None:
    """Return the layer whose ``data`` this very array is, or None."""
    return next((layer for layer in list(_living) if layer.data is data), None)


def _checked(positions: npt.ArrayLike) -> npt.NDArray[np.float32]:
    xyz = np.asarray(positions)
    if xyz.ndim != 2 or xyz.shape[1] not in (2, 3):
        raise InputError(
            f"Positions have shape {xyz.shape}, expected (n, 2) or (n, 3)."
        )
    with np.errstate(over="ignore"):
        return xyz.astype(np.float32, copy=False)


def _finite_bounds(xyz: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not len(xyz):
        return np.full((2, 3), np.nan, np.float32)
    return geometry.row_bounds(np.ascontiguousarray(xyz))


tools.bind_keys(EmbeddingPoints)
