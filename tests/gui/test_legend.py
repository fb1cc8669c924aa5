"""The legend widget: click, double-click, keys, search, colours."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QColor, QFocusEvent
from qtpy.QtWidgets import QApplication, QColorDialog

from napari_embed.gui.legend import (
    CategoryLegend,
    LegendModel,
    NumberLegend,
    category_palette,
)
from napari_embed.gui.legend.model import OTHER, TOP
from napari_embed.gui.legend.palettes import _linear, oklab

pytestmark = pytest.mark.gui
# On linear sRGB: Machado, Oliveira and Fernandes, "A physiologically-based model for
# simulation of color vision deficiency" (2009), severity 1.
COLOR_BLIND = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
               (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
               (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
               (0.004733, 0.691367, 0.303900)),
}  # fmt: skip
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


def _gamma(linear):
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )


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
    others = [legend.model.color(code) for code in legend.model.other_codes[:4]]
    assert list(legend.table.lines[row].parts) == others
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
    assert [row.name for row in model.rows()] == ["(no label)", "cat"]


def test_only_items_on_the_map_are_counted():
    counted = np.array([True, False, False, True, True])
    model = LegendModel([0, 0, 0, 1, -1], ["cat", "dog"], counted=counted)
    assert [(r.name, r.count) for r in model.rows()] == [
        ("cat", 1), ("dog", 1), ("(no label)", 1),
    ]  # fmt: skip
    model.set_counted(np.array([False, False, True, True, False]))
    assert [(r.name, r.count) for r in model.rows()] == [("cat", 1), ("dog", 1)]
    model.set_counted(None)
    assert [r.count for r in model.rows()] == [3, 1, 1]


def test_what_was_found_can_be_shown_alone(make_legend, qtbot):
    legend, heard = make_legend(1000, n=20_000)
    qtbot.keyClicks(legend.search, "class 99")
    found = set(legend.model.found("class 99"))
    assert found == {i for i in range(1000) if "99" in str(i)}
    assert legend.hint.text() == "19 found. Enter: only these."
    qtbot.keyClick(legend.search, Qt.Key.Key_Return)
    assert heard[-1] == set(legend.model.all_codes) - found
    qtbot.keyClick(legend.search, Qt.Key.Key_Return)
    assert heard[-1] == frozenset()


def test_all_of_the_legend_by_key(make_legend, qtbot, monkeypatch):
    legend, heard = make_legend(8)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *a, **k: QColor(0, 0, 255))
    changed = []
    legend.color_changed.connect(lambda code, rgba: changed.append((code, rgba)))
    QApplication.sendEvent(legend.view, QFocusEvent(QEvent.Type.FocusIn))
    assert legend.view.currentIndex().row() == 0
    qtbot.keyClick(legend.view, Qt.Key.Key_Down)
    qtbot.keyClick(legend.view, Qt.Key.Key_C)
    assert changed == [(_code(legend, 1), (0.0, 0.0, 1.0, 1.0))]
    assert heard == []
    qtbot.keyClick(legend.view, Qt.Key.Key_Space)
    assert heard == [{_code(legend, 1)}]


def test_default_colours_can_be_told_apart_by_the_colour_blind():
    palette = category_palette(8)[:, :3].astype(float)
    for matrix in COLOR_BLIND.values():
        linear = np.clip(_linear(palette) @ np.array(matrix).T, 0, 1)
        seen = oklab(_gamma(linear))
        away = np.linalg.norm(seen[:, None] - seen[None], axis=2)
        assert away[np.triu_indices(8, 1)].min() > 0.05


@pytest.fixture
def number_legend(qtbot):
    made = NumberLegend()
    qtbot.addWidget(made)
    made.heard = []
    made.limits_changed.connect(made.heard.append)
    made.show_numbers(
        np.arange(64), (-2.0, 8.0), (0.5, 7.123456789), "viridis", n_missing=1234
    )
    made.show()
    qtbot.waitExposed(made)
    return made


def _write(qtbot, field, text):
    field.selectAll()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def test_limits_of_numbers_are_edited(number_legend, qtbot):
    legend = number_legend
    assert (legend.low.text(), legend.high.text()) == ("0.5", "7.12346")
    assert legend.hint.text() == "Numbers from -2 to 8"
    _write(qtbot, legend.low, "-1,5")  # a comma is a point to many
    assert legend.heard == [(-1.5, 7.123456789)]  # the other one in full
    for wrong in ("9", "abc", "nan", ""):
        _write(qtbot, legend.low, wrong)
        assert legend.low.text() == "0.5"
        assert legend.hint.text().startswith("Give two numbers")
    assert len(legend.heard) == 1
    legend.full.click()
    legend.auto.click()
    assert legend.heard[1:] == [(-2.0, 8.0), None]


def test_missing_numbers_are_counted_and_hidden(number_legend):
    shown = []
    number_legend.missing_shown.connect(shown.append)
    assert number_legend.missing.text() == "Show 1,234 without a number, in grey"
    number_legend.missing.click()
    number_legend.missing.click()
    assert shown == [False, True]
    bars = number_legend.bars
    colors = [bars.color_at(v).getRgb()[:3] for v in (-2.0, 0.5, 7.2, 8.0)]
    assert colors == [(68, 1, 84)] * 2 + [(253, 231, 37)] * 2
