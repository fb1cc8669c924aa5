"""The legend widget: click, double-click, keys, search, colours."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

from napari_embed.gui.legend import CategoryLegend, LegendModel
from napari_embed.gui.legend.model import OTHER, TOP

pytestmark = pytest.mark.gui
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def make_legend(qtbot):
    def make(m, n=3000, seed=0):
        legend = CategoryLegend()
        qtbot.addWidget(legend)
        rng = np.random.default_rng(seed)
        if m:
            codes = np.append(rng.integers(-1, m, n), np.arange(m))
            legend.set_model(LegendModel(codes, [f"class {i}" for i in range(m)]))
        legend.resize(320, 700)
        legend.show()
        qtbot.waitExposed(legend)
        heard = []
        legend.visibility_changed.connect(heard.append)
        return legend, heard

    return make


def _place(legend, row, *, swatch=False):
    rect = legend.view.visualRect(legend.table.index(row, 0))
    return QPoint(rect.left() + 8 if swatch else rect.left() + 60, rect.center().y())


def _click(qtbot, legend, row):
    qtbot.mouseClick(legend.view.viewport(), LEFT, pos=_place(legend, row))
    # Two clicks are two clicks only after the time of a double-click.
    legend._before_click = None


def _double_click(qtbot, legend, row, **kwargs):
    """As a hand does it: press, release, double-click, release."""
    place = _place(legend, row, **kwargs)
    port = legend.view.viewport()
    qtbot.mouseClick(port, LEFT, pos=place)
    qtbot.mouseDClick(port, LEFT, pos=place)
    qtbot.mouseRelease(port, LEFT, pos=place)


def _code(legend, row):
    return legend.table.lines[row].code


def test_empty_legend_says_what_to_do(make_legend):
    legend, _ = make_legend(0)
    assert legend.hint.text() == "Choose a column of classes to colour by"
    assert not legend.show_all_button.isEnabled()


def test_a_click_hides_and_shows(make_legend, qtbot):
    legend, heard = make_legend(8)
    code = _code(legend, 2)
    _click(qtbot, legend, 2)
    assert heard == [{code}]
    assert legend.table.lines[2].shown is False
    assert legend.hint.text() == "1 of 9 classes hidden"
    _click(qtbot, legend, 2)
    assert heard[-1] == frozenset()


def test_a_double_click_isolates_and_another_restores(make_legend, qtbot):
    legend, heard = make_legend(8)
    hidden = _code(legend, 5)
    _click(qtbot, legend, 5)
    code = _code(legend, 1)
    _double_click(qtbot, legend, 1)
    assert heard[-1] == set(legend.model.all_codes) - {code}
    _double_click(qtbot, legend, 1)
    assert heard[-1] == {hidden}
    qtbot.mouseClick(legend.show_all_button, LEFT)
    assert heard[-1] == frozenset()


def test_space_and_enter_do_the_same(make_legend, qtbot):
    legend, heard = make_legend(8)
    legend.view.setCurrentIndex(legend.table.index(3, 0))
    qtbot.keyClick(legend.view, Qt.Key.Key_Space)
    assert heard[-1] == {_code(legend, 3)}
    qtbot.keyClick(legend.view, Qt.Key.Key_Return)
    assert heard[-1] == set(legend.model.all_codes) - {_code(legend, 3)}
    qtbot.keyClick(legend.view, Qt.Key.Key_Return)
    assert heard[-1] == {_code(legend, 3)}


def test_colours_are_picked_on_the_square(make_legend, qtbot, monkeypatch):
    legend, heard = make_legend(8)
    red = QColor(255, 0, 0)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *a, **k: red)
    changed = []
    legend.color_changed.connect(lambda code, rgba: changed.append((code, rgba)))
    code = _code(legend, 2)
    _double_click(qtbot, legend, 2, swatch=True)
    assert changed == [(code, (1.0, 0.0, 0.0, 1.0))]
    assert heard[-1] == frozenset()
    icon = legend.table.data(legend.table.index(2, 0), Qt.ItemDataRole.DecorationRole)
    assert icon.pixmap(14, 14).toImage().pixelColor(7, 7) == red


def test_a_thousand_classes_fold_and_can_be_searched(make_legend, qtbot):
    legend, heard = make_legend(1000, n=20_000)
    assert legend.table.rowCount() == TOP + 2
    assert legend.search.isVisible()
    row = TOP
    assert _code(legend, row) == OTHER
    _click(qtbot, legend, row)
    assert heard[-1] == set(legend.model.other_codes)
    target = legend.model.other_codes[-1]
    qtbot.keyClicks(legend.search, f"class {target}")
    codes = [line.code for line in legend.table.lines]
    assert target in codes
    legend.search.clear()
    qtbot.mouseClick(legend.fold_button, LEFT)
    assert legend.table.rowCount() == 1001
    legend.search.setText("nothing like it")
    assert legend.hint.text().startswith("No class has this name")


def test_selected_counts_follow(make_legend):
    legend, _ = make_legend(8)
    mask = legend.model.codes == _code(legend, 0)
    legend.set_selection(mask)
    shown = legend.table.data(legend.table.index(0, 1), Qt.ItemDataRole.DisplayRole)
    assert shown == f"{mask.sum():,}"
    assert legend.table.lines[1].selected == 0


def test_names_from_data_are_plain_text(make_legend):
    legend, _ = make_legend(0)
    legend.set_model(LegendModel([0], ["<b>bold</b>" + "x" * 900]))
    index = legend.table.index(0, 0)
    text = legend.table.data(index, Qt.ItemDataRole.DisplayRole)
    assert text.startswith("<b>bold</b>")
    assert len(text) == 200
    # Qt takes tool tips for HTML; there is none.
    assert legend.table.data(index, Qt.ItemDataRole.ToolTipRole) is None
    assert legend.hint.textFormat() == Qt.TextFormat.PlainText


def test_a_class_without_a_name_has_words():
    model = LegendModel(np.array([0, 1, 0]), ["", "cat"])
    assert [row.name for row in model.rows()] == ["(empty)", "cat"]
