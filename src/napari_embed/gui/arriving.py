"""How a layer of points comes to the canvas: in steps that the window hardly feels.

Adding a layer of a million points at once would hold up the window for half a second:
most of that is napari's, for the layer's visuals, controls and dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.points import EmbeddingPoints
from napari_embed.gui.points.hooks import prepare_visual
from napari_embed.gui.points.ordering import shuffled_order
from napari_embed.gui.turns import Turns

__all__ = ["Arriving"]


class Arriving:
    """Mixin of `NapariMap`: makes the layer and puts it into the viewer."""

    layer: EmbeddingPoints | None
    _viewer: Any
    _excluded: NDArray[np.bool_] | None
    _turning: bool
    _take_away: Callable[[], None]
    _drop_link: Callable[[], None]

    def _set_up_arriving(self) -> None:
        self._turns = Turns()
        self._coming: EmbeddingPoints | None = None
        self._arrived: NDArray[np.float32] | None = None  # where its points are

    def prepare(self, n: int) -> None:
        """Make, on any thread, what the first ``show`` of n points would wait for."""
        shuffled_order(n)

    def arrive(
        self,
        positions: NDArray[np.float32],
        *,
        name: str,
        n_components: int,
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Do in several turns what ``show`` would do at once, then call ``then``."""
        self._stop_arriving()
        if self._fits(positions):
            then()
            return
        steps = [
            lambda: self._make_layer(positions, name),
            self._make_room_for_axes,
            self._prepare_visual,
            self._insert,
            lambda: self._turn_to(n_components),
            then,
        ]
        self._turns.start([*self._steps_away(), *steps], failed)

    def leave(
        self, then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Do in several turns what ``clear`` would do at once, then call ``then``."""
        self._stop_arriving()
        if self.layer is None:
            then()
        else:
            self._turns.start([*self._steps_away(), then], failed)

    def _steps_away(self) -> list[Callable[[], None]]:
        return [] if self.layer is None else [self._drop_link, self._take_away]

    @property
    def arriving(self) -> bool:
        """Whether points are on their way to the canvas."""
        return self._turns.busy

    def _fits(self, positions: NDArray[np.float32]) -> bool:
        return self.layer is not None and self.layer.n_items == len(positions)

    def _stop_arriving(self) -> None:
        self._turns.drop()
        coming, self._coming = self._coming, None
        if coming is None:
            return
        if coming in self._viewer.layers:
            self._viewer.layers.remove(coming)
            return
        # Its visual is in no scene that would close it.
        coming.drop_visual()
        if not self._viewer.layers:
            self._viewer.dims.ndim = 2  # as napari has it without layers

    def _receive(self, positions: NDArray[np.float32], name: str) -> EmbeddingPoints:
        """Return a layer of these positions that is in the viewer."""
        self._turns.drop()
        if self._coming is None or self._arrived is not positions:
            self._stop_arriving()
            self._make_layer(positions, name)
        layer, self._coming, self._arrived = self._coming, None, None
        assert layer is not None
        if layer not in self._viewer.layers:
            self._viewer.add_layer(layer)
        return layer

    def _make_layer(self, positions: NDArray[np.float32], name: str) -> None:
        layer = self._coming = EmbeddingPoints(positions, name=name, tell_missing=False)
        self._arrived = positions
        if self._excluded is not None and len(self._excluded) == len(positions):
            layer.set_excluded(self._excluded)

    def _make_room_for_axes(self) -> None:
        """Have the layer's axes before it comes: their sliders take their time."""
        dims, layer = self._viewer.dims, self._coming
        if self._viewer.layers or layer is None:
            return
        dims.ndim = 3
        low, high = layer.extent.world
        if np.isfinite([low, high]).all():
            dims.range = tuple(zip(low, high, layer.extent.step, strict=True))
            dims.current_step = tuple((steps - 1) // 2 for steps in dims.nsteps)

    def _prepare_visual(self) -> None:
        if self._coming is not None:
            prepare_visual(self._coming, self._viewer)

    def _insert(self) -> None:
        if self._coming is not None:
            self._viewer.add_layer(self._coming)

    def _turn_to(self, n_components: int) -> None:
        """Show 2 or 3 dimensions."""
        self._turning = True
        try:
            self._viewer.dims.ndisplay = n_components
        finally:
            self._turning = False
