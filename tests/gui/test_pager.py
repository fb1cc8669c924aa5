"""The pager: buttons at the ends, page field, sizes, order, words."""

from __future__ import annotations

import numpy as np
import pytest
from psygnal import Signal
from qtpy.QtCore import Qt

from napari_embed.gui.link import Pager
from napari_embed.gui.link.paging import Paging

pytestmark = pytest.mark.gui


class FakeLink:
    """The part of an image link that a pager uses."""

    changed = Signal()

    def __init__(self, n=0):
        self.paging = Paging()
        self.paging.set_ids(np.arange(n))
        self.message = ""
        self.fitted = 0
        self._say()

    def _say(self):
        self.message = self.paging.text()
        self.changed.emit()

    def jump(self, page):
        self.paging.jump(page)
        self._say()

    def first(self):
        self.jump(0)

    def prev(self):
        self.jump(self.paging.page - 1)

    def next(self):
        self.jump(self.paging.page + 1)

    def last(self):
        self.jump(self.paging.n_pages - 1)

    def fit_view(self):
        self.fitted += 1

    @property
    def page_size(self):
        return self.paging.page_size

    @page_size.setter
    def page_size(self, size):
        self.paging.set_page_size(size)
        self._say()

    @property
    def order(self):
        return self.paging.order

    @order.setter
    def order(self, order):
        self.paging.set_order(order)
        self._say()


@pytest.fixture
def make_pager(qtbot):
    def make(n):
        link = FakeLink(n) if n is not None else None
        pager = Pager(link)
        qtbot.addWidget(pager)
        return pager, link

    return make


def _enabled(pager):
    return [button.isEnabled() for button in pager.buttons.values()]


def test_empty_selection_says_what_to_do(make_pager):
    pager, _ = make_pager(0)
    assert pager.label.text() == "Select points to see their images"
    assert _enabled(pager) == [False] * 4
    assert not pager.page_field.isEnabled()


def test_no_link_says_what_to_do(make_pager, qtbot):
    pager, _ = make_pager(None)
    assert pager.label.text() == "Open a map to see its images"
    qtbot.mouseClick(pager.buttons["next"], Qt.MouseButton.LeftButton)
    assert not pager.size_box.isEnabled()


def test_buttons_are_disabled_where_they_lead_nowhere(make_pager, qtbot):
    pager, link = make_pager(3441)
    assert pager.label.text() == "1-12 of 3,441 selected"
    assert _enabled(pager) == [False, False, True, True]
    qtbot.mouseClick(pager.buttons["next"], Qt.MouseButton.LeftButton)
    assert pager.label.text() == "13-24 of 3,441 selected"
    assert _enabled(pager) == [True] * 4
    qtbot.mouseClick(pager.buttons["last"], Qt.MouseButton.LeftButton)
    assert _enabled(pager) == [True, True, False, False]
    assert pager.page_field.value() == link.paging.n_pages == 287
    assert pager.pages.text() == "of 287"
    qtbot.mouseClick(pager.buttons["prev"], Qt.MouseButton.LeftButton)
    qtbot.mouseClick(pager.buttons["first"], Qt.MouseButton.LeftButton)
    assert link.paging.page == 0


def test_a_page_can_be_typed_among_fifty_thousand(make_pager, qtbot):
    pager, link = make_pager(600_000)
    field = pager.page_field
    field.selectAll()
    qtbot.keyClicks(field, "49999")
    assert link.paging.page == 0
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert link.paging.page == 49_998
    assert pager.label.text() == "599,977-599,988 of 600,000 selected"


def test_size_and_order(make_pager):
    pager, link = make_pager(500)
    assert [pager.size_box.itemData(i) for i in range(3)] == [12, 32, 100]
    pager.size_box.setCurrentIndex(2)
    assert link.page_size == 100
    assert pager.label.text() == "1-100 of 500 selected"
    pager.order_box.setCurrentIndex(1)
    assert link.order == "random"
    link.page_size = 20
    assert pager.size_box.currentData() == 20
    link.order = "item"
    assert pager.order_box.currentData() == "item"


def test_keys_and_fit(make_pager, qtbot):
    pager, link = make_pager(500)
    pager.show()
    qtbot.waitExposed(pager)
    pager.activateWindow()
    pager.size_box.setFocus()
    qtbot.waitUntil(pager.size_box.hasFocus)
    qtbot.keyClick(pager.size_box, Qt.Key.Key_N)
    assert link.paging.page == 1
    qtbot.keyClick(pager.size_box, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert link.paging.page == 0
    qtbot.mouseClick(pager.fit_button, Qt.MouseButton.LeftButton)
    assert link.fitted == 1


def test_messages_are_plain_text(make_pager):
    pager, link = make_pager(5)
    link.message = "<img src=x> failed"
    link.changed.emit()
    assert pager.label.textFormat() == Qt.TextFormat.PlainText
    assert pager.label.text() == "<img src=x> failed"


def test_another_link_lets_the_first_go(make_pager):
    pager, first = make_pager(500)
    second = FakeLink(100)
    pager.set_link(second)
    assert pager.label.text() == "1-12 of 100 selected"
    first.next()
    assert pager.label.text() == "1-12 of 100 selected"
    assert len(first.changed) == 0
    pager.set_link(None)
    assert len(second.changed) == 0


def test_the_gallery_can_be_asked_for(make_pager, qtbot):
    pager, _ = make_pager(0)
    with qtbot.waitSignal(pager.gallery_wanted):
        qtbot.mouseClick(pager.gallery_button, Qt.MouseButton.LeftButton)


def test_an_order_from_elsewhere_is_named(make_pager):
    pager, link = make_pager(50)
    for title in ("By size, ascending", "By age, descending"):
        link.paging.set_sequence(np.arange(50)[::-1], title)
        link._say()
        assert pager.order_box.currentText() == title
    assert pager.order_box.count() == 4
    link.order = "item"
    assert pager.order_box.currentData() == "item"
