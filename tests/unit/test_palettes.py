"""Colours of classes, and what a legend knows."""

from __future__ import annotations

import numpy as np
import pytest

from napari_embed.errors import InputError
from napari_embed.gui.legend.model import LONGEST_NAME, MISSING, OTHER, TOP, LegendModel
from napari_embed.gui.legend.palettes import (
    MISSING_COLOR,
    category_palette,
    oklab,
    relative_luminance,
)

# Machado, Oliveira and Fernandes (2009), severity 1, on linear light.
COLOR_BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def _distances(rgb):
    lab = oklab(rgb)
    away = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    away[np.diag_indices(len(lab))] = np.inf
    return away


def _seen_by(rgb, kind):
    rgb = np.asarray(rgb, dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOR_BLIND[kind]).T, 0, 1)
    return np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("m", [0, 1, 8, 9, 20, 21, 64, 65, 1000])
def test_palettes_have_a_colour_per_class_and_are_the_same_every_time(m):
    palette = category_palette(m)
    assert palette.shape == (m, 4)
    assert palette.dtype == np.float32
    assert np.all((palette >= 0) & (palette <= 1))
    assert len(np.unique(palette, axis=0)) == m
    np.testing.assert_array_equal(palette, category_palette(m))


def test_a_class_keeps_its_colour_when_classes_are_added():
    np.testing.assert_array_equal(category_palette(5), category_palette(200)[:5])
    np.testing.assert_array_equal(category_palette(20), category_palette(64)[:20])


def test_colours_read_on_black_and_on_white():
    luminance = relative_luminance(category_palette(100)[:, :3])
    assert ((luminance + 0.05) / 0.05).min() > 3.0
    assert (1.05 / (luminance + 0.05)).min() > 1.5


def test_colours_are_apart_from_each_other_and_from_missing():
    for m, least in ((8, 0.09), (20, 0.09), (64, 0.06)):
        rgb = np.vstack([category_palette(m)[:, :3], [MISSING_COLOR[:3]]])
        assert _distances(rgb).min() > least


@pytest.mark.parametrize("kind", sorted(COLOR_BLIND))
def test_the_first_eight_stay_apart_for_the_colour_blind(kind):
    assert _distances(_seen_by(category_palette(8)[:, :3], kind)).min() > 0.05


def test_oklab_of_known_colours():
    np.testing.assert_allclose(oklab([[1, 1, 1]]), [[1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(
        oklab([[1, 0, 0]]), [[0.627955, 0.224863, 0.125846]], atol=1e-5
    )


# The model


def _model(rng, m=30, n=5000):
    codes = rng.integers(-1, m, n)
    return LegendModel(codes, [f"class {i}" for i in range(m)]), codes


def test_lines_are_sorted_by_count_and_count_right(rng):
    model, codes = _model(rng)
    mask = rng.random(len(codes)) < 0.3
    model.set_selection(mask)
    rows = model.rows(unfolded=True)
    assert rows[-1].code == MISSING
    assert rows[-1].name == "(no label)"
    assert rows[-1].color == MISSING_COLOR
    counts = [row.count for row in rows[:-1]]
    assert counts == sorted(counts, reverse=True)
    for row in rows:
        assert row.count == (codes == row.code).sum()
        assert row.selected == (mask & (codes == row.code)).sum()


def test_beyond_twenty_classes_are_folded_into_other(rng):
    model, codes = _model(rng, m=50)
    rows = model.rows()
    assert len(rows) == TOP + 2
    other = rows[TOP]
    assert other.code == OTHER
    assert other.name == "30 other classes"
    assert sum(row.count for row in rows) == len(codes)
    assert len(LegendModel([0], [str(i) for i in range(21)]).rows()) == 21


def test_a_search_finds_what_is_folded(rng):
    model, _ = _model(rng, m=50)
    folded = model.other_codes[-1]
    found = [row.code for row in model.rows(search=f"CLASS {folded}")]
    assert folded in found
    assert model.rows(search="no such class") == []


def test_click_hides_and_shows(rng):
    model, codes = _model(rng)
    model.toggle(3)
    np.testing.assert_array_equal(model.visible_mask(), codes != 3)
    model.toggle(MISSING)
    np.testing.assert_array_equal(model.visible_mask(), (codes != 3) & (codes >= 0))
    model.toggle(3)
    np.testing.assert_array_equal(model.visible_mask(), codes >= 0)


def test_isolate_and_again_restores(rng):
    model, codes = _model(rng)
    model.toggle(5)
    model.isolate(2)
    np.testing.assert_array_equal(model.visible_mask(), codes == 2)
    model.isolate(7)
    np.testing.assert_array_equal(model.visible_mask(), codes == 7)
    model.isolate(7)
    assert model.hidden == {5}
    model.show_all()
    assert model.visible_mask().all()


def test_other_stands_for_its_classes(rng):
    model, codes = _model(rng, m=50)
    model.toggle(model.other_codes[0])
    assert model.rows()[TOP].shown is None
    model.toggle(OTHER)
    assert model.rows()[TOP].shown is False
    hidden = np.isin(codes, model.other_codes)
    np.testing.assert_array_equal(model.visible_mask(), ~hidden)
    model.isolate(OTHER)
    np.testing.assert_array_equal(model.visible_mask(), hidden)


def test_colours_can_be_changed(rng):
    model, _ = _model(rng)
    model.set_color(4, (2.0, 0.25, -1.0, 1.0))
    assert model.color(4) == (1.0, 0.25, 0.0, 1.0)


def test_long_names_are_cut():
    model = LegendModel([0], ["x" * 5000])
    assert len(model.name(0)) == LONGEST_NAME
    assert LegendModel([0], ["a\nb\tc"]).name(0) == "a b c"


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="has no name"):
        LegendModel([0, 5], ["a", "b"])
    with pytest.raises(InputError, match="palette"):
        LegendModel([0], ["a"], np.zeros((2, 4)))


def test_no_items_no_classes():
    model = LegendModel(np.zeros(0, int), [])
    assert model.rows() == []
    assert model.visible_mask().shape == (0,)
