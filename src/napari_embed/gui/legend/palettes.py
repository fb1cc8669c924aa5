"""Colours for classes that can be told apart on a dark and on a light canvas.

Up to 8 classes get the colours of Okabe and Ito ("Color Universal Design", 2008), made
for the colour-blind; black, which a dark canvas swallows, is replaced by a brown, and
the yellow, which a white canvas swallows, is a shade darker. More classes continue
that list: each further colour is the one farthest from all before, in Ottosson's OKLab
("A perceptual color space for image processing", 2020). A class keeps its colour when
classes are added.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MISSING_COLOR",
    "OKABE_ITO",
    "category_palette",
    "oklab",
    "relative_luminance",
]

OKABE_ITO = (
    "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#DCC71E",
    "#8F5B45",
)  # fmt: skip
MISSING_COLOR = (0.5, 0.5, 0.5, 1.0)
# Lightness (OKLab) that reads on black and on white; chroma neither grey nor glaring.
LIGHTNESS = (0.50, 0.84)
CHROMA = (0.06, 0.21)
# Distance along lightness counts less than along hue, for the eye compares hues.
LIGHTNESS_WEIGHT = 0.7


def _linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linear light of sRGB in 0..1 (IEC 61966-2-1)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: ArrayLike) -> NDArray[np.float64]:
    """Return (m, 3) OKLab lightness, a, b of (m, 3) sRGB in 0..1 (Ottosson 2020)."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lms = _linear(np.asarray(rgb, dtype=np.float64)) @ to_lms.T
    return np.cbrt(lms) @ to_lab.T


def relative_luminance(rgb: ArrayLike) -> NDArray[np.float64]:
    """Return (m,) luminance in 0..1 of (m, 3) sRGB, as in WCAG 2."""
    return _linear(np.asarray(rgb, dtype=np.float64)) @ np.array(
        [0.2126, 0.7152, 0.0722]
    )


def _from_hex(colors: tuple[str, ...]) -> NDArray[np.float64]:
    parts = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors]
    return np.array(parts, dtype=np.float64) / 255


@lru_cache(maxsize=1)
def _candidates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return readable, coloured sRGB (k, 3) and their weighted OKLab."""
    steps = np.linspace(0, 1, 29)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    low, high = LIGHTNESS
    good = (lab[:, 0] >= low) & (lab[:, 0] <= high)
    good &= (chroma >= CHROMA[0]) & (chroma <= CHROMA[1])
    return rgb[good], lab[good] * (LIGHTNESS_WEIGHT, 1.0, 1.0)


@lru_cache(maxsize=4)
def _generated(m: int) -> NDArray[np.float64]:
    """Return m colours: the fixed ones, then always the farthest from all before."""
    fixed = _from_hex(OKABE_ITO)
    colors = list(fixed)
    rgb, lab = _candidates()
    taken = oklab(np.vstack([fixed, [MISSING_COLOR[:3]]]))
    taken *= (LIGHTNESS_WEIGHT, 1.0, 1.0)
    squares = (lab**2).sum(axis=1)
    nearest = np.full(len(lab), np.inf)

    def take(color: NDArray[np.float64]) -> None:
        away = squares - 2 * (lab @ color) + color @ color
        np.minimum(nearest, away, out=nearest)

    for color in taken:
        take(color)
    while len(colors) < m:
        best = int(np.argmax(nearest))
        colors.append(rgb[best])
        take(lab[best])
    return np.asarray(colors)


def category_palette(m: int) -> NDArray[np.float32]:
    """Return (m, 4) float32 RGBA in 0..1, the same on every call."""
    size = max(8, -(-m // 64) * 64) if m > 20 else 20
    palette = np.ones((m, 4), dtype=np.float32)
    palette[:, :3] = _generated(size)[:m]
    return palette
