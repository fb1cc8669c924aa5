"""What the controller asks of a canvas: one short protocol, faked in tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.display import DisplaySettings, PageView, Stand
from napari_embed.gui.history import History

__all__ = ["MapView"]


class MapView(Protocol):
    """Points and the images beside them.

    The view calls ``on_selection(count)`` after the selection changed, whoever
    changed it, ``on_excluded(count)`` likewise, and ``on_ndisplay(d)`` after the user
    turned to 2 or 3 dimensions. It records the first two in ``history``, which is
    empty whenever other items are shown. ``on_removed()`` follows when somebody else
    took the points away, ``on_display(settings)`` when they look different for
    whatever reason.
    """

    on_selection: Callable[[int], None] | None
    on_excluded: Callable[[int], None] | None
    on_removed: Callable[[], None] | None
    on_ndisplay: Callable[[int], None] | None
    on_display: Callable[[DisplaySettings], None] | None
    history: History

    def prepare(self, n: int) -> None:
        """Make, on any thread, what the first ``show`` of n points would wait for."""

    def arrive(
        self,
        positions: NDArray[np.float32],
        *,
        name: str,
        n_components: int,
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Do in several turns what ``show`` would do at once, then call ``then``.

        ``show`` and ``clear`` and another ``arrive`` end it without a word; an error
        ends it and goes to ``failed``.
        """

    def show(
        self, positions: NDArray[np.float32], *, name: str, n_components: int
    ) -> None:
        """Put (n, 2|3) positions on the canvas and look at all of them.

        A map that was seen before and is the same is seen as it was left. Rows that
        are not finite have no place and are never drawn.
        """

    def update_positions(self, positions: NDArray[np.float32]) -> None:
        """Move the points that are shown (same n and dimensions)."""

    def set_ndisplay(self, d: int) -> None:
        """See the map in 2 or 3 dimensions: a 3D map may be seen flat."""

    def clear(self) -> None:
        """Take points and images away."""

    def leave(
        self, then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Do in several turns what ``clear`` would do at once, then call ``then``."""

    def set_thumbnails(
        self,
        read: Callable[[Sequence[int]], NDArray[np.uint8]] | None,
        captions: Callable[[NDArray[np.int64]], Sequence[str]] | None = None,
    ) -> None:
        """Say where the images of selected points and their captions come from."""

    def color_by_categories(
        self,
        codes: NDArray[np.int32],
        palette: NDArray[np.float32],
        *,
        column: str,
        names: Sequence[str],
    ) -> None:
        """Colour by class, -1 is missing; ``names`` of the classes of ``column``."""

    def color_by_values(
        self, values: NDArray[np.float32], colormap: str, limits: tuple[float, float]
    ) -> None:
        """Colour by number."""

    def color_plain(self) -> None:
        """Give all points one colour."""

    def set_visible(self, mask: NDArray[np.bool_]) -> None:
        """Show only these points."""

    def selection(self) -> NDArray[np.bool_]:
        """Return the (n,) mask of selected points."""

    def select(self, what: Any, how: str = "replace") -> None:
        """Change the selection."""

    def invert_selection(self) -> None:
        """Select what is not selected."""

    def clear_selection(self) -> None:
        """Select nothing."""

    def excluded(self) -> NDArray[np.bool_]:
        """Return the (n,) mask of items taken out of the map."""

    def set_excluded(self, mask: NDArray[np.bool_]) -> None:
        """Take exactly these items (n,) out, also of maps that are shown later."""

    def exclude_selected(self) -> None:
        """Take the selected items out of the map; nothing is deleted."""

    def include_all(self) -> None:
        """Take excluded items back in."""

    def set_select_mode(self, how: str) -> None:
        """Choose what a box, lasso or click does: "replace", "add", ..."""

    def set_display(self, settings: DisplaySettings) -> None:
        """Choose how points look; kept for the maps that follow."""

    def set_tool(self, tool: str) -> None:
        """Choose what a drag does: "pan", "box" or "lasso"."""

    def fit_selection(self) -> None:
        """Look at the selected points, or at all."""

    def stand(self) -> Stand | None:
        """Return where the camera stands, None without a map."""

    def look_from(self, stand: Stand) -> None:
        """Put the camera there."""

    def page(self) -> PageView | None:
        """Return which page of the selected images is shown, None without images."""

    def turn_to(self, page: PageView) -> None:
        """Show that page, or the nearest that exists."""

    def close(self) -> None:
        """Let go of timers, threads and layers."""
