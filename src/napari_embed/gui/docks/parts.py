"""Small pieces the panels share: labels, cards, messages, progress, a line plot."""

from __future__ import annotations

import html
from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_embed.gui.docks.style import GAP_PX
from napari_embed.gui.state import Message, ProgressView
from napari_embed.gui.summary import format_duration

__all__ = [
    "Card",
    "Fold",
    "MessageBar",
    "ProgressLine",
    "button",
    "elided",
    "label",
    "plain_tip",
    "progress_words",
    "set_role",
]


def set_role(widget: QWidget, role: str, *, name: str = "role") -> None:
    """Set a dynamic property and let the style sheet see it."""
    if widget.property(name) == role:
        return
    widget.setProperty(name, role)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def label(text: str = "", role: str = "", *, wrap: bool = False) -> QLabel:
    """Return a label of plain text (data may hold what looks like HTML)."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(wrap)
    if role:
        set_role(made, role)
    if wrap:
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        made.setSizePolicy(policy)
    return made


def plain_tip(text: str) -> str:
    """Return a tool tip that shows text as it is (data may hold what looks like HTML).

    Qt takes what looks like HTML for it, where it is not told.
    """
    return f"<qt>{html.escape(text).replace(chr(10), '<br>')}</qt>"


def elided(
    role: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight
) -> QElidingLabel:
    """Return a one-line label that shortens its text and shows it all as a tip."""
    made = QElidingLabel()
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setElideMode(mode)
    made.setMinimumWidth(20)
    if role:
        set_role(made, role)
    return made


def button(
    text: str, clicked: Callable[[], None], *, role: str = "", tip: str = ""
) -> QPushButton:
    """Return a push button."""
    made = QPushButton(text)
    made.setAutoDefault(False)
    made.clicked.connect(lambda _checked=False: clicked())
    if role:
        set_role(made, role)
    if tip:
        made.setToolTip(tip)
    return made


class Card(QFrame):
    """A framed group with a heading and, on the right, a state in a word."""

    def __init__(self, title: str) -> None:
        super().__init__()
        set_role(self, "card")
        self.title = label(title, "heading")
        self.state = label("", "muted")
        self.header = QHBoxLayout()
        self.header.setSpacing(GAP_PX)
        self.header.addWidget(self.title)
        self.header.addStretch(1)
        self.header.addWidget(self.state)
        # With or without a button the headings of all cards are equally high.
        self.header.addStrut(26)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(10, 8, 10, 8)
        self.body.setSpacing(GAP_PX)
        self.body.addLayout(self.header)

    def set_state(self, text: str, role: str) -> None:
        """Show the state word in the colour of ``role``."""
        self.state.setText(text)
        set_role(self.state, role)


class MessageBar(QFrame):
    """A message in place: cause, what was kept, one action, a cross to close it."""

    def __init__(
        self, act: Callable[[str], None], dismissed: Callable[[], None]
    ) -> None:
        super().__init__()
        set_role(self, "message")
        self._act = act
        self._action = ""
        self.text = label(wrap=True)
        self.kept = label("", "muted", wrap=True)
        self.button = button("", self._pressed)
        close = QToolButton()
        close.setText("\N{MULTIPLICATION SIGN}")
        close.setToolTip("Close this message")
        set_role(close, "close")
        close.clicked.connect(lambda _checked=False: dismissed())
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addWidget(self.text, 1)
        top.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        low = QHBoxLayout()
        low.addWidget(self.button)
        low.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 4, 6)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(self.kept)
        layout.addLayout(low)
        self.setVisible(False)

    def _pressed(self) -> None:
        self._act(self._action)

    def show_message(self, message: Message | None) -> None:
        """Show ``message``, or nothing."""
        self.setVisible(message is not None)
        if message is None:
            return
        set_role(self, message.level, name="level")
        self.text.setText(message.text)
        self.text.setToolTip("")
        self.kept.setText(message.kept)
        self.kept.setVisible(bool(message.kept))
        self._action = message.action
        self.button.setText(message.action_label)
        self.button.setVisible(bool(message.action))


class ProgressLine(QWidget):
    """A bar and, below it, count, rate and time left in words."""

    def __init__(self) -> None:
        super().__init__()
        set_role(self, "plain")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.words = elided("muted")
        self.slowest = elided("muted")  # a line of its own: both would not fit
        self.slowest.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.bar)
        layout.addWidget(self.words)
        layout.addWidget(self.slowest)

    def show_progress(self, progress: ProgressView, *, paused: bool = False) -> None:
        """Show how far it is."""
        if progress.total > 0:
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * min(1.0, progress.done / progress.total)))
        else:
            self.bar.setRange(0, 0)
        self.words.setText(progress_words(progress, paused=paused))
        slowest = "" if paused else _BOTTLENECKS.get(progress.bottleneck, "")
        self.slowest.setText(f"Slowest: {slowest}")
        self.slowest.setVisible(bool(slowest))


# What to say of a phase that is not the stage's own work.
_PHASES = {
    "sample": "reading a sample",
    "learning": "learning from a sample",
    "affinities": "affinities",
    "reading": "reading vectors",
}


_BOTTLENECKS = {"decode": "reading images", "model": "the encoder", "disk": "the disk"}


def progress_words(progress: ProgressView, *, paused: bool = False) -> str:
    """Return "1,234 of 4,000 images, 900/s, 3 s left"."""
    if not progress.done and not progress.total:
        return progress.message or "Starting"
    if progress.phase == "encoder":
        return f"Loading the encoder {progress.message}".rstrip()
    if progress.unit == "iterations" and not progress.done:
        return "Preparing; the first time this takes longer"
    unit = f" {progress.unit}" if progress.unit else ""
    count = f"{progress.done:,}"
    if progress.total:
        count += f" of {progress.total:,}"
    parts = [count + unit]
    if progress.phase in _PHASES:
        parts.insert(0, _PHASES[progress.phase].capitalize())
    if paused:
        parts.append("paused")
    else:
        if progress.rate:
            digits = 0 if progress.rate >= 10 else 1
            parts.append(f"{progress.rate:,.{digits}f}/s")
        if progress.eta_s is not None and progress.done < progress.total:
            parts.append(f"{format_duration(progress.eta_s)} left")
    if progress.message:
        parts.append(progress.message)
    return ", ".join(parts)


class Fold(QWidget):
    """A heading that shows and hides what is below it."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        set_role(self, "plain")
        self.toggle = QToolButton()
        self.toggle.setCheckable(True)
        self.toggle.setText(title)
        self.toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggle.setArrowType(Qt.ArrowType.RightArrow)
        set_role(self.toggle, "fold")
        self.content = content
        content.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.toggle)
        layout.addWidget(content)
        self.toggle.toggled.connect(self._toggled)

    def _toggled(self, is_open: bool) -> None:
        self.content.setVisible(is_open)
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.toggle.setArrowType(arrow)
