"""The review panel: item after item by keys, with what is decided and what is left."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QShortcut

from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.image import ImagePanel, open_beside
from napari_embed.gui.docks.parts import button, label, set_role
from napari_embed.gui.state import TagView, ViewState
from napari_embed.gui.thumbnails import FullImage

__all__ = ["ReviewPanel", "open_review"]

WIDGET = "Review"
AHEAD, IMAGES_AHEAD = 24, 3
MOST_TAG_LETTERS = 24
EMPTY = (
    "Nothing is under review. Select points and press R on the map, or press Review "
    "below a list in Find."
)
END = "That was the last one. Press Left to go back, Home to begin again, Esc to leave."
NO_TAGS = "Make tags in Curate; the keys 1 to 9 then give them."


def key_words(tags: tuple[TagView, ...]) -> str:
    """Return "1 blurred   2 dark": the number keys that do something."""
    keyed = sorted((t.shortcut, t.name) for t in tags if t.shortcut)
    return "   ".join(f"{key} {_short(name)}" for key, name in keyed)


def _short(name: str) -> str:
    words = " ".join(name[: 4 * MOST_TAG_LETTERS].split())
    cut = len(words) > MOST_TAG_LETTERS
    return words[: MOST_TAG_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}" if cut else words


class ReviewPanel(ImagePanel):
    """Shows the items of the session's review, one at a time.

    Keys while it has the focus: Right or Space go on, Left back, 1 to 9 tag and go on,
    X excludes and goes on, Ctrl+Z takes back, Home begins again, Esc leaves.
    """

    def build(self) -> None:
        """Make the widgets."""
        self.review = self.session.review
        self._images: dict[int, FullImage] = {}
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Reviewed")
        self.decided = label("", "good", wrap=True)
        self.legend = label("", "muted", wrap=True)
        super().build()
        self.empty.setText(EMPTY)
        self.content.insertWidget(0, self.bar)
        self.content.addWidget(self.decided)
        self.content.addWidget(self.legend)
        self._bind()
        me = weakref.ref(self)

        def relay() -> None:
            panel = me()
            if panel is not None:
                panel._follow_review()

        self.review.changed.connect(relay)
        when_gone(self, lambda: self.review.changed.disconnect(relay))

    def _build_controls(self) -> QFrame:
        bar = QFrame()
        set_role(bar, "plain")
        row = QHBoxLayout(bar)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        review = self.review
        self.back = button("\u2039", lambda: self.step(-1), tip="Back (Left)")
        self.skip = button("Skip \u203a", lambda: self.step(1), tip="Right or Space")
        self.exclude = button("Exclude", review.exclude, tip="And go on (X)")
        self.undo = button("Undo", review.undo, tip="The last decision (Ctrl+Z)")
        self.leave = button("Leave", self._leave, tip="The place is kept (Esc)")
        self.place = label("", "muted")
        for made in (self.back, self.skip, self.exclude, self.undo, self.leave):
            set_role(made, "true", name="compact")
            made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            row.addWidget(made, 1)
        return bar

    def _bind(self) -> None:
        review = self.review
        self._key("Right", lambda: self.step(1))
        self._key("Space", lambda: self.step(1))
        self._key("Left", lambda: self.step(-1))
        self._key("Home", review.again)
        self._key("X", review.exclude)
        self._key("Ctrl+Z", review.undo)
        self._key("Esc", self._leave)
        for number in range(1, 10):
            self._key(str(number), lambda number=number: review.tag(number))

    def _key(self, key: str, act: Callable[[], Any]) -> None:
        made = QShortcut(QKeySequence(key), self)
        made.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        made.activated.connect(act)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """Return the preferred size."""
        return QSize(358, 460)

    def step(self, by: int) -> None:
        """Go on or back in the list."""
        self.review.step(by)

    def _leave(self) -> None:
        self.review.leave()
        self.session.viewer.window._qt_window.setFocus()

    # --- what is shown ---------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show which keys do something."""
        if new.decisions is not old.decisions or new.project is not old.project:
            self._show_decided()

    def _relinked(self) -> None:
        self._images.clear()
        self._follow_review()

    def _follow_review(self) -> None:
        item = self.review.item
        if item < 0:
            self._forget()
            self.empty.setText(END if self.review.ended else EMPTY)
        elif item != self.item:
            self.show_item(item)
            link = self.session.map.link
            if link is not None:
                link.show_point(item, centre="if hidden")
                link.pictures.want("review", self.review.ahead(AHEAD))
        self._show_place()
        self._show_decided()

    def _show_place(self) -> None:
        review, count = self.review, len(self.review.ids)
        self.bar.setVisible(count > 0)
        self.bar.setRange(0, max(count, 1))
        self.bar.setValue(review.at)
        self.place.setText("")
        for made, on in (
            (self.back, review.at > 0),
            (self.skip, review.item >= 0),
            (self.exclude, review.item >= 0),
            (self.undo, count > 0),
            (self.leave, count > 0),
        ):
            made.setEnabled(on)

    def _name(self, item: int, source: str) -> str:
        review = self.review
        place = f"{review.at + 1:,} of {len(review.ids):,}, {review.left:,} left"
        link = self.session.map.link
        score = link.score(item) if link is not None else ""
        parts = [place, super()._name(item, source), score]
        return "  \N{MIDDLE DOT}  ".join(part for part in parts if part)

    def _show_decided(self) -> None:
        view, review = self.controller.state.decisions, self.review
        tags = view.tags if view is not None else ()
        parts = [_short(name) for name in review.tags]
        parts += ["excluded"] if review.excluded else []
        self.decided.setText(", ".join(parts))
        self.decided.setVisible(bool(parts))
        keys = key_words(tags) or NO_TAGS
        self.legend.setText(f"{keys}   X exclude   Space skip   Left back   Esc leave")
        self.legend.setVisible(bool(len(review.ids)))

    # --- reading ahead ---------------------------------------------------------------

    def show_item(self, item: int) -> None:
        """Show an item at once where its image was read ahead; read the next ones."""
        known = self._images.get(item)
        super().show_item(item)
        if known is not None:
            self._arrived(known)

    def _arrived(self, full: FullImage) -> None:
        super()._arrived(full)
        if full.item == self.item:
            self._images[full.item] = full
            self._read_ahead()

    def _read_ahead(self) -> None:
        link = self.session.map.link
        full = getattr(link.read_thumbnails, "full", None) if link else None
        soon = [int(i) for i in self.review.ahead(1 + IMAGES_AHEAD)]
        self._images = {i: v for i, v in self._images.items() if i in soon}
        missing = [i for i in soon if i not in self._images]
        if full is None or not missing:
            return
        me = weakref.ref(self)

        def done(images: list[FullImage]) -> None:
            panel = me()
            if panel is not None:
                panel._images.update((image.item, image) for image in images)

        self.controller.read("ahead", lambda _project: [full(i) for i in missing], done)


def open_review(viewer: Any) -> ReviewPanel:
    """Open the review panel beside the others, with the focus on its image."""
    panel = open_beside(viewer, WIDGET)
    panel.view.setFocus()
    return panel
