"""Where the camera stood on each map, in 2D and in 3D."""

from __future__ import annotations

from typing import Any

from napari_embed.gui.display import Stand
from napari_embed.gui.points.hooks import scene_camera

__all__ = ["Cameras"]


class Cameras:
    """Remembers the camera for each map and number of dimensions on the screen.

    It is noted whenever it moves, for napari moves it itself before anybody hears that
    the dimensions changed. What it does then, in old versions already with the new
    dimensions, is no stand to come back to.

    Parameters
    ----------
    viewer
        A napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._stands: dict[tuple[str, int], Stand] = {}
        self._map = ""
        self._ndisplay = 0
        self._ours: tuple[float, ...] = ()
        self._events = [
            getattr(self.camera.events, name) for name in ("center", "zoom", "angles")
        ]
        for event in self._events:
            event.connect(self._note)

    @property
    def map(self) -> str:
        """Which map is on the canvas, "" for none."""
        return self._map

    def follow(self, name: str) -> None:
        """Note from now on where the camera stands on this map, as it is displayed."""
        self._map, self._ndisplay = name, int(self._viewer.dims.ndisplay)

    @property
    def camera(self) -> Any:
        """The viewer's camera."""
        return scene_camera(self._viewer)

    def look(self) -> tuple[float, ...]:
        """Return where the camera looks and how near; turning it is not counted."""
        camera = self.camera
        return (*(float(c) for c in camera.center), float(camera.zoom))

    @property
    def untouched(self) -> bool:
        """Whether the camera is where `fitted` found it, turning apart."""
        return self.look() == self._ours

    def fitted(self) -> None:
        """Take note that the camera has just been fitted to all points."""
        self._ours = self.look()
        self._note()

    def _note(self, event: Any = None) -> None:
        if self.map and self._ndisplay == self._viewer.dims.ndisplay:
            camera = self.camera
            self._stands[self.map, self._ndisplay] = Stand(
                tuple(float(c) for c in camera.center),
                float(camera.zoom),
                tuple(float(a) for a in camera.angles),
                self.untouched,
            )

    def before(self, name: str, ndisplay: int) -> Stand | None:
        """Return where the camera stood on a map, or None."""
        return self._stands.get((name, ndisplay))

    def restore(self, stand: Stand) -> None:
        """Put the camera there; one that was fitted is to be fitted again after."""
        camera = self.camera
        if self._viewer.dims.ndisplay == 3:
            camera.angles = stand.angles
        if not stand.fitted:
            camera.center, camera.zoom = stand.center, stand.zoom

    def forget(self, name: str | None = None) -> None:
        """Forget one map, or all."""
        for key in [k for k in self._stands if name is None or k[0] == name]:
            del self._stands[key]

    def close(self) -> None:
        """Let go of the viewer."""
        for event in self._events:
            event.disconnect(self._note)
        self._events.clear()
