"""Consensus: by hand, against lightly's DINO loss, and what must not count."""

import math

import pytest
import torch

from semmim_mini.objectives.agreement import consensus_loss, cross_entropy_with
from semmim_mini.objectives.targets import centred_targets


def test_a_cross_entropy_by_hand():
    # Student logits (ln 3, 0) at τ = 1 are (3/4, 1/4); the target is (1/2, 1/2).
    value = cross_entropy_with(torch.tensor([[0.5, 0.5]]), torch.tensor([[math.log(3.0), 0.0]]), 1.0)
    assert value.item() == pytest.approx(-0.5 * math.log(3 / 4) - 0.5 * math.log(1 / 4))


def test_two_views_by_hand():
    # Targets: view 0 says code 0, view 1 says code 1. Student: view 0 gives (3/4, 1/4), view 1 gives (1/2, 1/2).
    # Pairs (target of 0, student of 1): ln 2. (target of 1, student of 0): −ln 1/4.
    target = torch.eye(2).reshape(2, 1, 2)
    student = torch.tensor([[[math.log(3.0), 0.0]], [[0.0, 0.0]]])
    loss = consensus_loss(student, target, student_temperature=1.0)
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_temperature_sharpens_the_student():
    # At τ = 0.1, logits (0.1 · ln 3, 0) are (3/4, 1/4).
    student = torch.tensor([0.1 * math.log(3.0), 0.0]).expand(2, 1, 2)
    target = torch.tensor([1.0, 0.0]).expand(2, 1, 2)
    assert consensus_loss(student, target, 0.1).item() == pytest.approx(-math.log(3 / 4), rel=1e-5)


def test_a_blind_student_pays_ln_k():
    target = torch.randn(2, 5, 64).softmax(dim=-1)
    assert consensus_loss(torch.zeros(2, 5, 64), target).item() == pytest.approx(math.log(64), rel=1e-5)


def test_a_perfect_student_pays_the_teachers_entropy():
    logits = torch.randn(1, 7, 16).expand(2, 7, 16)
    target = logits.softmax(dim=-1)
    entropy = torch.distributions.Categorical(logits=logits[0]).entropy().mean()
    torch.testing.assert_close(consensus_loss(logits, target, 1.0), entropy)


def test_a_view_is_never_compared_with_itself():
    own_code = torch.eye(2).reshape(2, 1, 2)
    assert consensus_loss(50 * own_code, own_code, 1.0) > 10


@pytest.mark.parametrize("views", [2, 3])
def test_equals_lightlys_dino_loss(views):
    loss = pytest.importorskip("lightly.loss").DINOLoss(output_dim=16, student_temp=0.1)
    teacher, student, center = torch.randn(views, 5, 16), torch.randn(views, 5, 16), torch.randn(16)
    loss.center.copy_(center.reshape(1, 1, -1))
    theirs = loss(list(teacher), list(student), teacher_temp=0.07)
    ours = consensus_loss(student, centred_targets(teacher, center, 0.07), 0.1)
    torch.testing.assert_close(ours, theirs)


def test_gradient_reaches_the_student_only():
    student, target = torch.randn(2, 3, 8, requires_grad=True), torch.full((2, 3, 8), 1 / 8, requires_grad=True)
    consensus_loss(student, target).backward()
    assert student.grad.abs().sum() > 0 and target.grad is None


def test_half_precision_logits_are_scored_in_fp32():
    loss = consensus_loss(torch.randn(2, 3, 8).bfloat16(), torch.full((2, 3, 8), 1 / 8))
    assert loss.dtype == torch.float32


def test_one_view_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"at least 2 views, got 1.*two augmented views"):
        consensus_loss(torch.zeros(1, 3, 8), torch.zeros(1, 3, 8))


def test_shapes_are_checked_while_tests_run():
    # If this fails, the import hook in conftest.py does nothing and no shape annotation is tested at all.
    with pytest.raises(Exception, match=r"(?i)type-check|shape|violates"):
        consensus_loss(torch.zeros(2, 3, 8), torch.zeros(2, 4, 8))
