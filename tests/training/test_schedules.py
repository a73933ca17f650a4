"""Plans: what is on at which step, by hand at the ends and corners."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.training.schedules import first_step, full_plan, plan_at, ramp, space_start, warmup_cosine


@pytest.mark.parametrize(
    ("t", "begin", "end", "value"),
    [
        (0, 0, 0, 1),
        (0.5, 0, 0, 1),
        (0.1, 0.2, 0.6, 0),
        (0.2, 0.2, 0.6, 0),
        (0.4, 0.2, 0.6, 0.5),
        (0.6, 0.2, 0.6, 1),
        (0.9, 0.2, 0.6, 1),
    ],
)
def test_ramp_by_hand(t, begin, end, value):
    assert ramp(t, begin, end) == pytest.approx(value)


def test_a_ramp_without_length_is_a_switch():
    assert [ramp(t, 0.5, 0.5) for t in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]


def test_the_rate_warms_up_and_falls_as_a_cosine():
    assert 0 < warmup_cosine(0, 0.1, 0.01) < 0.02  # near zero, and never zero: the first step must count
    assert warmup_cosine(0.1, 0.1, 0.01) == pytest.approx(1)
    assert warmup_cosine(0.55, 0.1, 0.01) == pytest.approx(0.01 + 0.99 / 2)
    assert warmup_cosine(1.0, 0.1, 0.01) == pytest.approx(0.01)
    assert warmup_cosine(0, 0, 0.01) == 1


def test_the_rate_ends_at_its_end(tiny):
    config = tiny("run.steps=1000", "optim.lr=0.001", "optim.lr_end=0.0001")
    rates = [config.optim.lr * plan_at(config, step).lr_factor for step in range(1000)]
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3) and max(rates) == pytest.approx(1e-3)


def test_terms_join_at_their_start_and_weight_zero_never(tiny):
    config = tiny(
        "run.steps=10",
        "losses.itm.start=0.5",
        "losses.mlm.weight=0",
        "losses.mim.weight=0.25",
        "losses.caption.weight=0",
    )
    assert set(plan_at(config, 4).weights) == {"itc", "consensus", "mim"}
    assert set(plan_at(config, 5).weights) == {"itc", "itm", "consensus", "mim"}
    assert plan_at(config, 5).weights["mim"] == 0.25
    assert plan_at(config, 5).has("mlm", "itm") and not plan_at(config, 4).has("mlm", "itm")


def test_masks_are_random_for_a_share_of_the_mim_steps(tiny):
    # MIM joins at 0.5; a fifth of what is left is random: until 0.6.
    config = tiny("run.steps=100", "losses.mim.start=0.5", "masking.random_until=0.2")
    assert [plan_at(config, step).random_mask for step in (0, 50, 59, 60, 99)] == [True, True, True, False, False]


def test_prototypes_are_frozen_where_the_space_begins(tiny):
    config = tiny("run.steps=100", "losses.mim.start=0.5", "losses.consensus.start=0.4", "space.freeze_share=0.1")
    assert [plan_at(config, step).prototypes_frozen for step in (40, 45, 46, 99)] == [True, True, False, False]


def test_alpha_hardness_and_temperature_ramp(tiny):
    settings = ["run.steps=100", "losses.alpha=0.4", "losses.alpha_ramp=[0.0, 0.2]", "losses.hard_negatives=[0.5, 1.0]"]
    settings += ["teacher.temperature_start=0.04", "teacher.temperature=0.07", "teacher.temperature_warmup=0.1"]
    config = tiny(*settings)
    assert [plan_at(config, step).alpha for step in (0, 10, 20, 99)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert [plan_at(config, step).hardness for step in (0, 50, 75)] == pytest.approx([0, 0, 0.5])
    assert [plan_at(config, step).teacher_temperature for step in (0, 5, 10, 99)] == pytest.approx([0.04, 0.055, 0.07, 0.07])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.99, 0.99, 0.99]),
        ("warmup", [0.1, 11 / 20, 0.99]),
        ("cosine", [0.99, 0.99 + 0.005 * (1 - math.cos(math.pi * 0.01)), 1.0]),
    ],
)
def test_momentum_schedules(tiny, schedule, expected):
    config = tiny("run.steps=1000", "teacher.momentum=0.99", f"teacher.momentum_schedule={schedule}")
    assert [plan_at(config, step).momentum for step in (0, 10, 999)] == pytest.approx(expected, abs=1e-6)


def test_the_space_starts_with_its_first_user(tiny):
    def start(*settings):
        return space_start(tiny("losses.consensus.start=0.3", "losses.mim.start=0.2", *settings))

    assert start() == 0.2
    assert start("losses.mim_target=pixels") == 0.3  # pixels do not touch the encoding space
    assert start("losses.mim.weight=0") == 0.3
    assert start("losses.mim.weight=0", "losses.consensus.weight=0") == 1.0


@given(st.integers(1, 3000), st.integers(0, 99))
def test_the_first_step_is_the_first_at_which_a_term_is_on(tiny, steps, percent):
    # Rounding must not part them: prototypes are placed at `first_step`, read from the first step of the term on.
    config = tiny(f"run.steps={steps}", f"losses.mim.start={percent / 100}")
    on = first_step(config, percent / 100)
    assert plan_at(config, on).has("mim")
    assert on == 0 or not plan_at(config, on - 1).has("mim")


def test_instruments_see_the_end_of_the_run(tiny):
    config = tiny("losses.mim.weight=0", "losses.consensus.weight=0", "masking.random_until=1.0")
    plan = full_plan(config)
    assert plan.weights["mim"] == plan.weights["consensus"] == 1 and not plan.random_mask
