"""How points, camera and images are displayed, as frozen values (no Qt, no napari)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from napari_embed.errors import InputError

__all__ = ["DENSITY_MODES", "Density", "DisplaySettings", "PageView", "Stand"]

Density = Literal["off", "colors", "heat"]
DENSITY_MODES: tuple[Density, ...] = ("off", "colors", "heat")


@dataclass(frozen=True)
class DisplaySettings:
    """How points look; None stands for a value that follows from the map.

    Attributes
    ----------
    size
        Diameter in pixels when the map is 600 pixels across; None: from the number
        and density of the points.
    opacity
        Of each point, between 0 and 1; None: from the density on the canvas, opaque
        in 3D.
    density
        "off" draws points; "colors" adds them up to a picture of the density in the
        mean colour; "heat" shows the density alone.
    shapes
        Give each class a marker of its own.
    frame_points
        Most points drawn while the camera moves; None: what the graphics card takes.
    front_only
        Box and lasso leave out points that others hide.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    size: float | None = None
    opacity: float | None = None
    density: Density = "off"
    shapes: bool = False
    frame_points: int | None = None
    front_only: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not (math.isfinite(self.size) and self.size > 0):
            raise InputError(f"The point size is {self.size}, expected more than 0.")
        if self.opacity is not None and not 0 <= self.opacity <= 1:
            raise InputError(f"The opacity is {self.opacity}, expected 0 to 1.")
        if self.density not in DENSITY_MODES:
            raise InputError(
                f"The density mode is {self.density!r}, expected one of "
                f"{', '.join(DENSITY_MODES)}."
            )
        if self.frame_points is not None and self.frame_points < 1:
            raise InputError(
                f"The points drawn while moving are {self.frame_points}, expected 1 "
                "or more."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DisplaySettings:
        """Return settings from a dictionary that may be of another program.

        Names that are not known are left out.

        Raises
        ------
        InputError, TypeError, ValueError
            If a value is of another type or out of range.
        """

        def number(name: str) -> float | None:
            value = values.get(name)
            return None if value is None else float(value)

        frame_points = values.get("frame_points")
        return cls(
            size=number("size"),
            opacity=number("opacity"),
            density=values.get("density", "off"),
            shapes=bool(values.get("shapes", False)),
            frame_points=None if frame_points is None else int(frame_points),
            front_only=bool(values.get("front_only", False)),
        )


@dataclass(frozen=True)
class Stand:
    """Centre, zoom and angles of a camera; whether it was fitted to all points."""

    center: tuple[float, ...]
    zoom: float
    angles: tuple[float, ...]
    fitted: bool


@dataclass(frozen=True)
class PageView:
    """Which page of the images is shown, how many are on it, and their order."""

    page: int = 0
    size: int = 12
    order: str = "item"
