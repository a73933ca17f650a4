"""Can masked modelling be solved without looking? Cases in which the answer is known without training anything."""

import math

import pytest
import torch

from semmim_mini.instruments.shortcut import shortcut

LOSSES = ("loss_masked", "loss_shuffled_caption", "loss_all_masked", "loss_all_masked_shuffled_caption")


def test_a_blind_student_pays_ln_k_whatever_it_is_shown(make_step, look):
    step = make_step()
    head = step.model.student.space.patch
    head.prototypes.data[:] = head.prototypes[0].clone()
    found = shortcut(step, look(6))
    for name in LOSSES:
        assert found[name] == pytest.approx(math.log(6), abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "entropy"),
    [
        ([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]], math.log(2)),  # two codes, equally common, each certain
        ([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], 0.0),
        ([[0.5, 0.5, 0, 0, 0, 0], [0.5, 0, 0.5, 0, 0, 0]], 1.5 * math.log(2)),  # on average (1/2, 1/4, 1/4)
    ],
)
def test_what_a_guesser_pays_by_hand(make_step, look, monkeypatch, rows, entropy):
    step = make_step("masking.ratio=0.5")  # two hidden patches in each image
    target = torch.tensor(rows, dtype=torch.float)
    monkeypatch.setattr(step, "patch_targets", lambda tokens, mask, plan, out: target.repeat(int(mask.sum()) // 2, 1))
    assert shortcut(step, look(6, batch=3))["loss_marginal"] == pytest.approx(entropy, abs=1e-5)


def test_a_student_that_reads_nothing_cannot_be_misled(make_step, look):
    found = shortcut(make_step("losses.mim_student_text=false"), look(6))
    assert found["loss_shuffled_caption"] == found["loss_masked"]
    assert found["loss_all_masked_shuffled_caption"] == found["loss_all_masked"]


def test_a_student_that_reads_is_misled(make_step, look):
    found = shortcut(make_step(), look(6))
    assert found["loss_shuffled_caption"] != found["loss_masked"]
    assert found["loss_all_masked_shuffled_caption"] != found["loss_all_masked"]


def test_targets_without_text_survive_every_caption(make_step, look):
    assert shortcut(make_step("losses.mim_target_text=false"), look(6))["code_survives_caption_swap"] == 1


def test_targets_that_read_do_not_survive_untouched(make_step, look):
    assert shortcut(make_step(), look(10))["code_survives_caption_swap"] < 1


def test_where_all_is_hidden_anyway_text_alone_is_the_task(make_step, look):
    found = shortcut(make_step("masking.ratio=1.0"), look(6))
    assert found["loss_all_masked"] == pytest.approx(found["loss_masked"], abs=1e-6)
    assert found["loss_all_masked_shuffled_caption"] == pytest.approx(found["loss_shuffled_caption"], abs=1e-6)


def test_hiding_the_surroundings_changes_the_loss(make_step, look):
    found = shortcut(make_step("masking.ratio=0.25"), look(6))
    assert abs(found["loss_all_masked"] - found["loss_masked"]) > 1e-4


def test_measured_again_it_is_the_same(make_step, look):
    step = make_step("masking.strategy=random")
    assert shortcut(step, look(6)) == shortcut(step, look(6))
    assert shortcut(step, look(6), seed=100) != shortcut(step, look(6))
