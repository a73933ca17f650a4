"""Pictures of notebook 07: the numbers that they claim, worked out by hand."""

import math

import pytest
import torch

from semmim_mini.config import override
from semmim_mini.course.pictures import png
from semmim_mini.course.precision_pictures import (
    gradient_magnitudes,
    number_formats,
    scale_course,
    smallest,
    softmax_error,
    softmax_errors,
)
from semmim_mini.course.pretraining_pictures import first_losses, gradient_matrix, resumed_runs, schedules, step_in_pictures
from semmim_mini.data.loader import Batch
from semmim_mini.figures.style import WIDTH
from semmim_mini.presets import preset
from semmim_mini.training.schedules import PRETRAINING_TERMS


def assert_drawn(drawn) -> None:
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def texts(drawn) -> str:
    """All words of a figure."""
    found = [*drawn.figure.texts, *(text for axes in drawn.figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in found)


def test_a_step_shows_losses_beside_chance():
    ids = torch.zeros(1, 4, dtype=torch.long)
    batch = Batch(torch.zeros(2, 1, 3, 16, 16), ids, ids > -1, ids, ids, torch.tensor([0]), ["a red bus"])
    losses, chance = dict.fromkeys(PRETRAINING_TERMS, 2.0), dict.fromkeys(PRETRAINING_TERMS, 3.0) | {"mim": 1.0}
    drawn = step_in_pictures(batch, torch.tensor([[True, False, False, False]]), losses, chance)
    assert drawn.number == {"above": 1.0, "hidden": 0.25}
    assert "a red bus" in texts(drawn) and "2.00 (1.00)" in texts(drawn)
    assert_drawn(drawn)


def test_the_matrix_counts_what_is_reached():
    parts = {"image encoder": 2.0, "text encoder": 0.0, "teacher": 0.0}
    drawn = gradient_matrix({"itc": parts, "mim": parts | {"text encoder": 0.012}})
    assert drawn.number == {"reached": 3.0, "teacher": 0.0}
    assert "3 of 6 cells" in texts(drawn) and "0.012" in texts(drawn) and "2.0" in texts(drawn)
    assert_drawn(drawn)


def test_schedules_say_when_all_terms_are_on():
    late = override(preset("tiny"), ["losses.mim.start=0.9", "losses.consensus.start=0.8"])
    drawn = schedules({"late": late, "base": preset("base")})
    assert drawn.number == {"all_on_late": 0.9, "all_on_base": 0.0}
    assert_drawn(drawn)


def test_formats_by_hand():
    number = number_formats().number
    assert number["fp16_largest"] == 65504 and number["fp16_step"] == 2**-10 and number["fp16_smallest"] == 2**-24
    assert number["bf16_step"] == 2**-7 and number["fp32_step"] == 2**-23 and number["bf16_smallest"] == pytest.approx(2**-133)
    assert number["bf16_largest"] == pytest.approx(number["fp32_largest"], rel=0.01)
    assert_drawn(number_formats())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nothing_but_zero_lies_below_the_smallest_number(dtype):
    found = torch.tensor(smallest(dtype), dtype=torch.float64)
    assert found.to(dtype) > 0 and (0.49 * found).to(dtype) == 0


def test_the_error_of_a_softmax_by_hand():
    cosines = torch.tensor([[1.0, 0.9985]])  # bf16 has 1 and 0.996, and nothing between
    exact = 1 / (1 + math.exp(-0.0015 / 0.04))
    assert softmax_error(cosines, 0.04, torch.bfloat16) == pytest.approx(exact - 0.5, abs=1e-6)
    assert softmax_error(cosines, 0.04, torch.float32) < 1e-6
    assert softmax_error(torch.zeros(1, 4), 0.04, torch.bfloat16) == 0


def test_errors_grow_as_the_temperature_falls():
    drawn = softmax_errors(torch.tensor([[1.0, 0.9985]]))
    assert drawn.number["growth"] == pytest.approx(25, rel=0.01)  # 1 / 0.04
    assert drawn.number["fp32"] < drawn.number["fp16"] < drawn.number["bf16"]
    assert_drawn(drawn)


def test_gradients_outside_of_fp16_are_counted():
    drawn = gradient_magnitudes(torch.tensor([0.0, 1e-9, -1e-3, 10.0, 20.0]))
    expected = {"lost_plain": 0.25, "infinite_plain": 0.0, "lost_scaled": 0.0, "infinite_scaled": 0.5}
    assert drawn.number == expected  # 10 · 65,536 is infinite, 1e-9 · 65,536 is not zero
    assert_drawn(drawn)


def test_what_fp16_makes_of_a_gradient_is_what_the_picture_counts():
    gradients = torch.logspace(-12, 6, 500)
    number = gradient_magnitudes(gradients, scale=1.0).number
    half = gradients.half()
    assert number["lost_plain"] == float((half == 0).double().mean())
    assert number["infinite_plain"] == pytest.approx(float(half.isinf().double().mean()), abs=2 / 500)  # 65,504 to 65,520 round down


def test_the_scale_counts_its_skipped_steps():
    drawn = scale_course([4.0, 8.0, 4.0], [False, True, False])
    assert drawn.number == {"skipped": 1.0, "first": 4.0, "last": 4.0}
    assert "1 of 3 steps" in texts(drawn)
    assert_drawn(drawn)


def test_resumed_runs_are_compared_with_the_undisturbed_one():
    whole, other = ([{"loss": {"itc": value, "mlm": 1.0}} for value in values] for values in ((3.0, 2.0, 1.0), (3.0, 2.5, 0.25)))
    drawn = resumed_runs(whole, whole, other, stopped=1)
    assert drawn.number == {"resumed": 0.0, "forgetful": 0.75}
    assert "differ by 0;" in texts(drawn) and "0.75" in texts(drawn)
    assert_drawn(drawn)


def test_codes_do_not_count_in_the_comparison_of_first_losses():
    chance = {"itc": 2.0, "mlm": 4.0, "mim": 1.0}
    drawn = first_losses({"itc": 2.0, "mlm": 8.0, "mim": 0.5}, {"itc": 1.0, "mlm": 1.0, "mim": 0.9}, chance)
    assert drawn.number == {"fresh": 1.5, "going_on": 0.375}
    assert_drawn(drawn)
