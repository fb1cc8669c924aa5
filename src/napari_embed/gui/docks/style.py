"""Colours and spacing of the panels, taken from napari's theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GAP_PX", "MARGIN_PX", "Colors", "style_sheet", "theme_colors"]

MARGIN_PX = 8
GAP_PX = 6


@dataclass(frozen=True)
class Colors:
    """The colours a panel uses, as "#rrggbb"."""

    background: str
    card: str
    control: str
    hover: str
    text: str
    muted: str
    accent: str
    on_accent: str
    good: str
    warn: str
    bad: str
    dark: bool


def _rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


def _mix(a: str, b: str, share: float) -> str:
    """Return ``a`` with ``share`` of ``b``."""
    mixed = (
        round(x * (1 - share) + y * share)
        for x, y in zip(_rgb(a), _rgb(b), strict=True)
    )
    return "#" + "".join(f"{c:02x}" for c in mixed)


def theme_colors(theme: Any) -> Colors:
    """Return the panel colours of a napari theme."""

    def value(name: str) -> str:
        # The colour's class differs between versions of napari, this method does not.
        rgb = getattr(theme, name).as_rgb_tuple(alpha=False)
        return "#" + "".join(f"{channel:02x}" for channel in rgb)

    background, text = value("background"), value("text")
    dark = sum(_rgb(background)) < 3 * 128
    return Colors(
        background=background,
        card=value("foreground"),
        control=value("primary"),
        hover=value("highlight"),
        text=text,
        muted=_mix(text, background, 0.32 if dark else 0.28),
        accent="#5a78e0" if dark else "#3157c8",
        on_accent="#ffffff",
        good="#59c27d" if dark else "#1b7a3d",
        warn="#e8b83a" if dark else "#8a5c00",
        bad="#ff7d7d" if dark else "#b3121f",
        dark=dark,
    )


def style_sheet(c: Colors) -> str:
    """Return the style sheet of a panel; roles are dynamic properties."""
    return f"""
QFrame[role="card"] {{ background: {c.card}; border-radius: 6px; }}
QFrame[role="card"] QLabel, QFrame[role="card"] QWidget[role="plain"],
QFrame[role="card"] QRadioButton, QFrame[role="card"] QCheckBox {{
    background: transparent; }}
QFrame[role="card"] QPushButton, QFrame[role="card"] QToolButton,
QFrame[role="card"] QComboBox, QFrame[role="card"] QAbstractSpinBox {{
    background: {c.control}; }}
QFrame[role="drop"] {{ border: 1px dashed {c.hover}; border-radius: 6px;
    background: transparent; }}
QFrame[role="quiet drop"] {{ border: 2px solid transparent; border-radius: 6px; }}
QFrame[role="drop"][over="true"], QFrame[role="quiet drop"][over="true"] {{
    border: 2px solid {c.accent}; }}
QLabel[role="heading"] {{ font-weight: 600; }}
QLabel[role="muted"] {{ color: {c.muted}; }}
QLabel[role="good"] {{ color: {c.good}; }}
QLabel[role="warn"] {{ color: {c.warn}; }}
QLabel[role="bad"] {{ color: {c.bad}; }}
QFrame[role="message"] {{ background: {c.card}; border-radius: 0px;
    border-left: 3px solid {c.accent}; }}
QFrame[role="message"][level="warning"] {{ border-left-color: {c.warn}; }}
QFrame[role="message"][level="error"] {{ border-left-color: {c.bad}; }}
QFrame[role="message"] QLabel {{ background: transparent; }}
QFrame[role="message"] QPushButton, QFrame[role="message"] QToolButton {{
    background: {c.control}; }}
QPushButton {{ padding: 4px 10px; min-height: 18px; border-radius: 4px; }}
QPushButton:focus, QToolButton:focus {{ border: 1px solid {c.accent}; }}
QPushButton[role="primary"] {{ background: {c.accent}; color: {c.on_accent};
    font-weight: 600; padding: 6px 12px; }}
QFrame[role="card"] QPushButton[role="primary"] {{ background: {c.accent}; }}
QPushButton[role="primary"]:hover {{ background: {_mix(c.accent, c.text, 0.15)}; }}
QPushButton[role="primary"]:disabled {{ background: {c.control}; color: {c.muted};
    border: none; }}
QPushButton[role="link"] {{ background: transparent; color: {c.text};
    text-align: left; padding: 3px 4px; }}
QPushButton[role="link"]:hover {{ background: {c.control}; }}
QToolButton {{ background: {c.control}; border-radius: 4px; padding: 3px 6px;
    border: 1px solid transparent; }}
QToolButton:hover {{ background: {c.hover}; }}
QToolButton:checked, QFrame[role="card"] QToolButton:checked {{
    background: {c.accent}; color: {c.on_accent}; }}
QPushButton[compact="true"] {{ padding: 4px 2px; }}
QSpinBox {{ min-width: 36px; padding: 1px 6px; }}
QToolButton[role="fold"], QToolButton[role="close"] {{ background: transparent;
    padding: 2px; }}
QFrame[role="card"] QToolButton[role="fold"],
QFrame[role="card"] QToolButton[role="fold"]:checked, QToolButton[role="fold"]:checked,
QFrame[role="message"] QToolButton[role="close"] {{ background: transparent;
    color: {c.text}; }}
QToolButton[role="chip"] {{ border-radius: 9px; padding: 2px 8px;
    border: 1px solid {c.accent}; }}
QProgressBar {{ background: {c.control}; border: none; border-radius: 3px;
    min-height: 6px; max-height: 6px; text-align: center; }}
QProgressBar::chunk {{ background: {c.accent}; border-radius: 3px; }}
QTableView::item:focus {{ border: 1px solid {c.accent}; background: transparent;
    color: {c.text}; }}
QScrollArea {{ border: none; background: transparent; }}
QTabWidget::pane {{ border: none; }}
QTabBar, QTabWidget {{ background: {c.background}; }}
QTabBar::tab {{ background: {c.card}; color: {c.muted}; padding: 6px 6px;
    border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {c.text}; border-bottom: 2px solid {c.accent};
    background: {c.background}; }}
QTabBar::tab:hover {{ color: {c.text}; }}
"""
