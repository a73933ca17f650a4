"""The sheet: words that fit, outlines that enclose, files that are whole."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from semmim_mini.figures import style
from semmim_mini.figures.style import Drawn, Sheet, as_picture, hidden, outline, percent, save, styled, text_width, wrap, wrap_runs

words = st.lists(st.text("abcdefgh ij", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join)


@settings(max_examples=15)
@given(words, st.floats(0.5, 4))
def test_wrapped_lines_fit_and_lose_no_word(text, width):
    lines = wrap(text, width)
    assert " ".join(lines).split() == text.split()
    assert all(text_width(line) <= width or " " not in line for line in lines)


def test_shares_and_arrows_are_not_torn_apart():
    lines = wrap(f"masks hide {percent(0.24)} of it", text_width("masks hide 24"))
    assert any("24\u00a0%" in line for line in lines)


@settings(max_examples=15)
@given(words, words, st.floats(0.5, 4))
def test_coloured_words_keep_their_order_and_colour(plain, red, width):
    lines = wrap_runs([(plain, None), (red, "red")], width)
    found = [run for line in lines for run in line]
    assert [w for w, _ in found] == plain.split() + red.split()
    assert [c for _, c in found] == [None] * len(plain.split()) + ["red"] * len(red.split())


def test_bold_is_wider():
    assert text_width("wide", bold=True) > text_width("wide") > text_width("wid") > 0


def test_boxes_are_placed_in_inches_from_the_top_left():
    sheet = Sheet("A title", height=2.0, note="A note")
    axes = sheet.axes(1.0, 0.5, 3.0, 1.0)
    box = axes.get_window_extent()
    assert (box.x0, box.width, box.height) == pytest.approx((100, 300, 100))
    assert box.y1 == pytest.approx(100 * (sheet.height - sheet.top - 0.5))


def test_style_leaves_the_callers_settings_alone():
    before = dict(matplotlib.rcParams)
    inside = styled(lambda: matplotlib.rcParams["axes.spines.top"])()
    assert inside is False and dict(matplotlib.rcParams) == before


def test_pictures_are_mapped_from_minus_one_and_one():
    image = torch.tensor([-1.0, 0.0, 3.0]).view(3, 1, 1)
    np.testing.assert_allclose(as_picture(image), [[[0, 0.5, 1]]])


def test_hidden_patches_are_greyed_and_the_others_untouched():
    shown = hidden(np.ones((4, 4, 3)), np.array([[True, False], [False, False]]), patch=2)
    np.testing.assert_allclose(shown[:2, :2], 0.6)  # 0.2 · 1 + 0.8 · 0.5
    assert (shown[2:] == 1).all() and (shown[:, 2:] == 1).all()


def test_the_outline_of_one_patch_is_its_four_sides():
    axes = Sheet("t", 1.0).axes(0, 0, 1, 1)
    inside = np.zeros((3, 3))
    inside[1, 2] = 1  # row 1, column 2
    outline(axes, inside, 8, style.BLUE)
    rim, line = axes.collections
    assert to_rgb(style.BLUE) == tuple(line.get_color()[0][:3]) and rim.get_linewidth()[0] > line.get_linewidth()[0]
    sides = {frozenset(map(tuple, segment)) for segment in line.get_segments()}
    corners = [(16, 8), (24, 8), (24, 16), (16, 16)]
    assert sides == {frozenset((corners[i], corners[(i + 1) % 4])) for i in range(4)}


def test_neighbours_have_no_line_between_them():
    axes = Sheet("t", 1.0).axes(0, 0, 1, 1)
    outline(axes, np.ones((2, 2)), 1, style.BLUE)
    assert len(axes.collections[0].get_segments()) == 8


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    class Broken:
        def savefig(self, file, **how):
            file.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError):
        save(Broken(), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_saved_figures_are_png(tmp_path):
    drawn = Drawn(Sheet("t", 1.0).figure, {"x": 1.0})
    assert save(drawn.figure, tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
