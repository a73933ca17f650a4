"""Pictures of notebook 12: the numbers that they claim, worked out by hand; and the live toy's cells."""

import json

import pytest
import torch

from semmim_mini.ablation.rows import ROWS
from semmim_mini.config import override
from semmim_mini.course import toy_ablation
from semmim_mini.course.ablations_pictures import costs, intervals, ladder, luck, parts_of, power_curves
from semmim_mini.course.comparison import Interval, power_of
from semmim_mini.course.pictures import png
from semmim_mini.course.toy_ablation import cell_file, toy_base, toy_cell
from semmim_mini.figures.style import WIDTH
from semmim_mini.presets import preset


def assert_drawn(drawn) -> None:
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def texts(drawn) -> str:
    """All words of a figure."""
    found = [*drawn.figure.texts, *(text for axes in drawn.figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in found)


@pytest.mark.parametrize(
    ("row", "has"),
    [
        ("A0", {}),
        ("A1", {"MIM on": "pixels"}),
        ("A2", {"MIM on": "codes"}),
        ("A3", {"MIM on": "codes", "consensus": "yes"}),
        ("A4", {"MIM on": "codes", "consensus": "yes", "one space": "yes"}),
        ("A7", {"MIM on": "codes", "consensus": "yes", "one space": "yes", "text: targets": "yes"}),
    ],
)
def test_parts_of_a_row(row, has):
    parts = parts_of(ROWS[row].config(preset("tiny")))
    assert {name: word for name, word in parts.items() if word} == has


def test_the_ladder_counts_parts():
    drawn = ladder([ROWS["A0"], ROWS["A8"]], preset("tiny"))
    assert drawn.number == {"A0": 0.0, "A8": 6.0} and "SemMIM" in texts(drawn)
    assert_drawn(drawn)


def test_luck_tells_means():
    drawn = luck({"one seed": torch.tensor([0.0, 3.0]), "three seeds": torch.tensor([1.0, 1.0])})
    assert drawn.number == {"one seed": 1.5, "three seeds": 1.0} and "one seed: 1.5 spreads" in texts(drawn)
    assert_drawn(drawn)


def test_intervals_count_those_without_0():
    drawn = intervals({"A": Interval(1, -1, 3), "B": Interval(2, 1, 3)}, {"A": [0.0, 2.0], "B": []}, "Two differences")
    assert drawn.number == {"excludes_0": 1.0, "intervals": 2.0} and "Two differences" in texts(drawn)
    assert_drawn(drawn)


def test_curves_cross_the_line_where_power_says():
    drawn = power_curves((3, 10))
    for seeds, effect in drawn.number.items():
        assert power_of(effect, int(seeds)) >= 0.8 > power_of(effect - 0.06, int(seeds))
    assert_drawn(drawn)


def test_costs_are_told_against_the_first_row():
    drawn = costs({"A0": ([1.0, 1.0], [3.0, 4.0]), "A8": ([2.0, 4.0], [3.0, 5.0])}, ("cost", "figure"))
    assert drawn.number == {"A0": 1.0, "A8": 3.0} and "A8 costs 3.00 times" in texts(drawn)
    assert_drawn(drawn)


def test_a_toy_cell_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_ablation, "IMAGES", 8)
    base = override(toy_base(steps=2), ["data.train_size=32", "data.batch_size=8"])
    first = toy_cell(tmp_path, ROWS["A0"], 1, base)
    assert 0 < first["loss"] < 2 * first["chance"] and json.loads(cell_file(tmp_path, ROWS["A0"], 1).read_text(encoding="utf-8")) == first
    monkeypatch.setattr(toy_ablation, "Training", lambda *given: pytest.fail("a finished cell ran again"))
    assert toy_cell(tmp_path, ROWS["A0"], 1, base) == first
