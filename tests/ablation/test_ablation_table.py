"""The table by hand: two rows, two seeds, one figure that a row does not have."""

import csv
import io

import pytest

from semmim_mini.ablation.rows import ROWS
from semmim_mini.ablation.table import METRICS, as_csv, as_markdown, points_of, write
from semmim_mini.figures.ablation import ablation_figure

ROW_LIST = [ROWS["A0"], ROWS["A8"]]
FOUND = {
    ("A0", 0): {"r1_image_to_text": 0.03, "vqa_accuracy": 0.5, "vqa_blind": 0.4},
    ("A0", 1): {"r1_image_to_text": 0.05, "vqa_accuracy": 0.5, "vqa_blind": 0.4},
    ("A8", 0): {"r1_image_to_text": 0.06, "vqa_accuracy": 0.6, "vqa_blind": 0.4, "ami": 0.21, "ami_picture_number": 0.16},
    ("A8", 1): {"r1_image_to_text": 0.06, "vqa_accuracy": 0.8, "vqa_blind": 0.4, "ami": 0.25, "ami_picture_number": 0.16},
}


def test_mean_and_deviation_by_hand():
    lines = as_markdown(ROW_LIST, FOUND).splitlines()
    assert lines[0] == "| figure | A0 | A8 |" and lines[2] == "| seeds | 2 | 2 |"
    assert "| R@1 image→text | 4.0 ± 1.4 % | 6.0 ± 0.0 % |" in lines  # √(1² + 1²) = 1.4
    assert "| VQA accuracy (40.0 %) | 50.0 ± 0.0 % | 70.0 ± 14.1 % |" in lines
    assert "| codes against objects, AMI (0.16) | – | 0.23 ± 0.03 |" in lines
    assert not any(line.startswith("| CIDEr") for line in lines)  # nobody has it


def test_one_seed_has_no_deviation():
    one = {key: value for key, value in FOUND.items() if key[1] == 0}
    assert "| R@1 image→text | 3.0 % | 6.0 % |" in as_markdown(ROW_LIST, one).splitlines()


def test_every_figure_is_a_line_of_the_csv():
    rows = list(csv.DictReader(io.StringIO(as_csv(ROW_LIST, FOUND))))
    assert len(rows) == sum(map(len, FOUND.values()))
    settings = "losses.consensus.weight=0 losses.mim.weight=0"
    assert rows[0] == {"row": "A0", "seed": "0", "metric": "r1_image_to_text", "value": "0.03", "settings": settings}


def test_a_row_without_cells_is_left_out_of_the_table(tmp_path):
    write(tmp_path, [ROWS["A0"], ROWS["A4"], ROWS["A8"]], FOUND)
    assert "A4" not in (tmp_path / "ablation.md").read_text(encoding="utf-8").splitlines()[0]
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"ablation.csv", "ablation.md", "ablation.png"}


def test_the_figure_shows_every_seed_and_the_first_row_as_a_line():
    points = {METRICS[0].title: points_of(METRICS[0], ROW_LIST, FOUND)}
    drawn = ablation_figure([(row.name, row.title) for row in ROW_LIST], points)
    assert drawn.number == {"R@1 image→text A0": pytest.approx(4.0), "R@1 image→text A8": pytest.approx(6.0)}
    (axes,) = drawn.figure.axes
    shown = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert shown == [pytest.approx([3.0, 5.0]), pytest.approx([6.0, 6.0])]
    assert any(line.get_linestyle() == "--" and line.get_xdata()[0] == pytest.approx(4.0) for line in axes.lines)
