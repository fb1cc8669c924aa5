"""The picture at the cursor: there when it rests on a point, gone when it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication
from test_docks import window  # noqa: F401  (a fixture)

pytestmark = pytest.mark.gui


@pytest.fixture
def hover(window, monkeypatch):  # noqa: F811
    window.project.read_thumbnails = lambda ids: np.full(
        (len(ids), 8, 8, 3), 90, np.uint8
    )
    window.open()
    made = window.panels.session._hover
    # Where the real cursor happens to be is no news.
    monkeypatch.setattr(
        window.panels.session.map.layer, "_report_hovered", lambda _item: None
    )
    middle = made._window.centralWidget()
    made._window.resize(900, 700)
    made._window.show()
    window.qtbot.waitExposed(made._window)
    place = middle.mapToGlobal(QPoint(middle.width() // 2, middle.height() // 2))
    monkeypatch.setattr(QCursor, "pos", staticmethod(lambda: place))
    over = middle.childAt(middle.width() // 2, middle.height() // 2) or middle
    monkeypatch.setattr(QApplication, "widgetAt", staticmethod(lambda _at: over))
    # Simulated clicks of other tests may have left a button down.
    none = Qt.MouseButton.NoButton
    monkeypatch.setattr(QApplication, "mouseButtons", staticmethod(lambda: none))
    made.over = over
    return made


def _on(hover, window, item):  # noqa: F811
    window.panels.session.map.layer.set_hovered(item)


def test_picture_class_and_file_appear_and_go(hover, window):  # noqa: F811
    focus = QApplication.focusWidget()
    _on(hover, window, 7)
    assert hover.card.isHidden()  # the cursor may only pass
    window.settle(lambda: not hover.card.isHidden())
    assert hover.card.name.text() == "dog"
    assert hover.card.file.text() == "7.png"
    pixmap = hover.card.picture.pixmap()
    assert (pixmap.width(), pixmap.height()) == (128, 128)
    assert pixmap.toImage().pixelColor(5, 5).red() == 90
    assert QApplication.focusWidget() is focus
    assert hover.card.testAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    room = hover._window.centralWidget().geometry()
    assert room.contains(hover.card.geometry())
    _on(hover, window, -1)
    assert hover.card.isHidden()


@pytest.mark.parametrize("kind", [QEvent.Type.Leave, QEvent.Type.Wheel])
def test_it_goes_when_the_cursor_leaves_or_acts(hover, window, kind):  # noqa: F811
    _on(hover, window, 7)
    window.settle(lambda: not hover.card.isHidden())
    hover.eventFilter(hover.over, QEvent(kind))
    assert hover.card.isHidden()
    assert hover.item == -1


def test_the_newest_point_wins_over_a_slow_read(hover, window):  # noqa: F811
    _on(hover, window, 3)
    _on(hover, window, 4)
    window.settle(lambda: not hover.card.isHidden())
    assert hover.card.file.text() == "4.png"
    # A picture that arrives for a point the cursor has left is not shown.
    _on(hover, window, -1)
    hover._arrived(np.array([4]))
    assert hover.card.isHidden()


def test_it_can_be_switched_off_and_on(hover, window):  # noqa: F811
    box = window.panels.explore.pager.hover_box
    assert box.isChecked()
    box.click()
    assert not hover.enabled
    _on(hover, window, 7)
    window.qtbot.wait(150)
    assert hover.card.isHidden()
    window.panels.session.show_hover(True)  # the command
    assert box.isChecked()
    _on(hover, window, 8)
    window.settle(lambda: not hover.card.isHidden())


def test_it_stays_away_while_a_button_is_down(
    hover, window, monkeypatch  # noqa: F811
):  # fmt: skip
    left = Qt.MouseButton.LeftButton
    monkeypatch.setattr(QApplication, "mouseButtons", staticmethod(lambda: left))
    _on(hover, window, 7)
    window.qtbot.wait(150)
    assert hover.card.isHidden()


def test_it_stays_away_when_the_cursor_is_elsewhere(
    hover, window, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(
        QApplication, "widgetAt", staticmethod(lambda _at: window.panels)
    )
    _on(hover, window, 7)
    window.qtbot.wait(150)
    assert hover.card.isHidden()


def test_it_follows_the_map_and_leaves_nothing(hover, window):  # noqa: F811
    map_view = window.panels.session.map
    layer, link = map_view.layer, map_view.link
    heard = len(layer.signals.hovered), len(link.pictures_arrived)
    window.panels.session.close()
    assert heard > (len(layer.signals.hovered), len(link.pictures_arrived))
    assert hover._layer is None
    assert hover._followed is None
    layer.set_hovered(3)
    assert not hover._timer.isActive()
