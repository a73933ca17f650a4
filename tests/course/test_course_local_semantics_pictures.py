"""Pictures of notebook 04: the numbers that they claim, worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semmim_mini.course.encoding_space_pictures import balancing, on_the_circle, same_answer, three_questions
from semmim_mini.course.local_semantics_pictures import (
    answers,
    codes,
    memory_of_a_teacher,
    pairs_of_views,
    runs_side_by_side,
    temperatures,
)
from semmim_mini.course.pictures import png
from semmim_mini.figures.style import WIDTH


def test_the_diagonal_is_no_pair_of_views():
    loss = torch.tensor([[1.0, 4.0, 5.0], [6.0, 2.0, 7.0], [8.0, 9.0, 3.0]])
    drawn = pairs_of_views(torch.zeros(3, 3, 16, 16), loss, other=10.0, blind=math.log(64))
    assert drawn.number == pytest.approx({"pairs": 6.5, "itself": 2.0, "other": 10.0, "blind": math.log(64)})
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def test_equal_cosines_are_shared_by_all_prototypes_at_any_temperature():
    number = temperatures(torch.full((8,), 0.3), (1, 0.01)).number
    assert number == pytest.approx({"at_1": 8.0, "at_0.01": 8.0})


def test_a_low_temperature_leaves_one_prototype():
    number = temperatures(torch.tensor([0.5, 0.5, -0.5]), (1000, 0.01)).number
    assert number == pytest.approx({"at_1000": 3.0, "at_0.01": 2.0}, abs=1e-3)  # a tie of two stays one


def test_half_of_a_teacher_is_left_after_its_half_life():
    number = memory_of_a_teacher((0.5, 0.99)).number
    assert number["half_life_0.5"] == pytest.approx(1.0)
    assert 0.99 ** number["half_life_0.99"] == pytest.approx(0.5)


def records(loss: list[float]) -> list[dict]:
    return [{"loss": x, "cls_entropy": 1.0, "cls_kl_to_uniform": 2.0, "cls_prototypes_used": 3.0} for x in loss]


def test_runs_are_told_by_their_last_tenth():
    drawn = runs_side_by_side({"one": records([9.0] * 18 + [1.0, 2.0]), "two": records([5.0] * 20)}, k=4)
    assert (drawn.number["one loss"], drawn.number["two loss"]) == (1.5, 5.0)
    assert (drawn.number["one entropy"], drawn.number["one distance"], drawn.number["one used"]) == (1.0, 2.0, 3.0)
    title = drawn.figure.texts[0].get_text()
    assert "lowest loss, 1.50" in title and "“one”" in title and "3 of 4" in title


def test_codes_of_things_are_counted():
    tables = {"one": torch.eye(4)[[2, 2, 2]], "two": torch.eye(4)[[0, 3, 3]]}
    drawn = answers(tables, {"one": 0.0, "two": 0.5})
    assert drawn.number == {"one": 1.0, "two": 2.0} and (codes(1.0), codes(2.0)) == ("1 code", "2 codes")
    assert {"1 code", "2 codes"} <= {text.get_text() for text in drawn.figure.texts}


def test_balancing_compares_the_first_stage_with_the_last():
    first, last = torch.tensor([[1.0, 0.0], [0.75, 0.25]]), torch.full((2, 2), 0.5)
    number = balancing({"softmax": first, "rows": last}).number
    assert number == {"first_most": 1.75, "first_least": 0.25, "last_most": 1.0, "last_least": 1.0}


def test_prototypes_in_use_on_the_circle():
    rays = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    spread, together = F.normalize(torch.tensor([[1.0, 0.1], [0.1, 1.0]]), dim=-1), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert on_the_circle({"spread": (spread, rays), "one": (together, rays)}, torch.tensor([0, 1])).number == {"spread": 2.0, "one": 1.0}


def test_patches_with_the_same_answer_come_from_other_images_one_each():
    answer, image = torch.tensor([7, 7, 7, 1, 7, 7, 2, 7]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert same_answer(answer, image, patch=0).tolist() == [2, 4, 7]  # not 1, of the same image; not 5, a second one of image 2
    assert same_answer(answer, image, patch=0, most=2).tolist() == [2, 4]
    assert same_answer(answer, image, patch=3).tolist() == []


def test_three_questions_shows_all_patches_it_is_given():
    shown = {"pixels": ("a", np.zeros((4, 4, 3)), torch.tensor([5, 9])), "codes": ("b", torch.rand(16).softmax(dim=0), torch.tensor([7]))}
    drawn = three_questions(torch.zeros(3, 3, 8, 8), (0, 3), 4, shown)
    assert drawn.number == {"pixels": 2.0, "codes": 1.0} and len(png(drawn.figure)) > 1000
