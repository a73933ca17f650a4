"""Rows and sweeps: what differs from the full method, and what is refused."""

import re
from pathlib import Path

import pytest

from semmim_mini.ablation.rows import ROWS, chosen, equal_time, first_phase, second_phase, sweeps
from semmim_mini.config import Config, differences, override
from semmim_mini.errors import UserError
from semmim_mini.training.schedules import PRETRAINING_TERMS, plan_at

FIDELITY = Path(__file__).resolve().parents[2] / "docs" / "fidelity.md"


def test_the_page_lists_the_rows_with_these_settings():
    listed = re.findall(r"^\| (A\d\w?) \| [^|]* \| (.*) \|$", FIDELITY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name: set(re.findall(r"`([^`]+)`", settings)) for name, settings in listed} == {
        name: set(row.settings) for name, row in ROWS.items()
    }


@pytest.mark.parametrize(
    ("one", "other", "setting"),
    [
        ("A3", "A4", "space.shared: False → True"),
        ("A4", "A5", "masking.strategy: 'random' → 'text_high'"),
        ("A4", "A6", "losses.mim_student_text: False → True"),
        ("A4", "A7", "losses.mim_target_text: False → True"),
        ("A1", "A1t", "losses.mim_target: 'pixels' → 'tokens'"),
    ],
)
def test_neighbours_differ_in_one_setting(one, other, setting):
    assert differences(ROWS[one].config(Config()), ROWS[other].config(Config())) == [setting]


def test_the_last_row_is_the_method_itself():
    assert ROWS["A8"].config(Config()) == Config()


def test_sweeps_change_one_setting_and_leave_out_what_the_base_has():
    base = Config()
    for name, rows in sweeps(base).items():
        assert rows and all(len(differences(base, row.config(base))) == 1 for row in rows), name
    assert [row.name for row in sweeps(base)["m"]] == ["A8 m=0", "A8 m=1", "A8 m=3"]  # 2 is tiny's own


def test_a_base_without_captioning_is_not_asked_for_its_decoder():
    base = override(Config(), ["masking.relevance=cross", "losses.caption.weight=0"])
    assert "A8 relevance=caption" not in [row.name for row in sweeps(base)["relevance"]]


def test_equal_time_by_hand():
    # A8 took 30 s on average, A0 20 s: half as many steps again fit in.
    row = equal_time({"A0": [18.0, 22.0], "A8": [29.0, 31.0]}, steps=100)
    config = row.config(Config())
    assert config.run.steps == 150 and config.losses.mim.weight == 0 and config.losses.consensus.weight == 0


def test_the_first_phase_is_a0_on_the_bases_own_schedule():
    base = override(Config(), ["losses.itm.start=0.5"])
    assert differences(ROWS["A0"].config(base), first_phase(base, 90)) == [
        f"run.steps: {base.run.steps} → 90",
        f"run.eval_every: {base.run.eval_every} → 90",
    ]


def test_the_second_phase_has_every_term_of_its_row_from_the_first_step():
    for name in ("A0", "A1", "A8"):
        row = ROWS[name].config(Config())
        config = second_phase(row, Path("start"))
        wanted = {term for term in PRETRAINING_TERMS if getattr(row.losses, term).weight > 0}
        plan = plan_at(config, 0)
        assert set(plan.weights) == wanted and plan.hardness == 0 and plan.alpha == config.losses.alpha  # negatives: as the base has them
        assert config.task.checkpoint == "start" and config.optim == row.optim
        assert {plan_at(config, step).momentum for step in (0, 1, 100)} == {row.teacher.momentum}


def test_a_teacher_whose_momentum_has_another_course_keeps_it():
    row = ROWS["A8"].config(override(Config(), ["teacher.momentum_schedule=cosine"]))
    assert second_phase(row, Path("start")).teacher == row.teacher


@pytest.mark.parametrize(
    ("rows", "sweep", "message"),
    [(["A9"], [], "--rows: 'A9' is none"), ([], ["z"], "--sweeps: 'z' is none"), (["A0x", "A0"], [], "A0x needs the times of A0 and A8")],
)
def test_unknown_names_are_refused(rows, sweep, message):
    with pytest.raises(UserError, match=message):
        chosen(rows, sweep, Config())


def test_rows_come_in_the_order_of_the_table():
    assert [row.name for row in chosen(["A8", "A0"], ["isolation"], Config())] == ["A0", "A8", "A8 isolation=mask", "A8 isolation=none"]
