"""Masked image modelling: three losses by hand, patches in the encoder's order, and masks without patches."""

import math

import pytest
import torch

from semmim_mini.objectives.masked_image import (
    code_loss,
    nearest_token,
    patch_pixels,
    pixel_loss,
    plain_mean,
    token_loss,
)
from semmim_mini.objectives.targets import centred_targets


def test_code_loss_by_hand():
    # Students (3/4, 1/4) and (1/2, 1/2) at τ = 1; teachers sure of code 0 and of code 1.
    student = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert code_loss(student, torch.eye(2), 1.0).item() == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2)


def test_a_blind_student_pays_ln_k():
    target = torch.randn(9, 32).softmax(dim=1)
    assert code_loss(torch.zeros(9, 32), target).item() == pytest.approx(math.log(32), rel=1e-5)


def test_code_loss_teaches_the_student_only():
    student, target = torch.randn(3, 8, requires_grad=True), torch.full((3, 8), 1 / 8, requires_grad=True)
    code_loss(student, target).backward()
    assert student.grad.abs().sum() > 0 and target.grad is None


def test_equals_lightlys_ibot_loss():
    # lightly weighs every image alike, this kit every patch; with two hidden patches in each image that is the same.
    lightly = pytest.importorskip("lightly.loss")
    loss = lightly.IBOTPatchLoss(output_dim=16, student_temp=0.1)
    teacher, student, center = torch.randn(6, 16), torch.randn(6, 16), torch.randn(16)
    loss.center.center.copy_(center.reshape(loss.center.center.shape))
    mask = torch.tensor([[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 1], [1, 0]]]).bool()
    theirs = loss(teacher, student, mask, teacher_temp=0.05)
    torch.testing.assert_close(code_loss(student, centred_targets(teacher, center, 0.05), 0.1), theirs)


def test_pixel_loss_by_hand():
    # The patch (0, 2) normalised is (−1, 1); the guess (0, 1) errs by 1 in the first place only.
    loss = pixel_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
    assert loss.item() == pytest.approx(0.5, abs=1e-5)


def test_predicting_nothing_costs_one_whatever_the_brightness():
    patches = 30 + 7 * torch.randn(5, 48)
    assert pixel_loss(torch.zeros(5, 48), patches).item() == pytest.approx(1.0, abs=1e-3)


def test_a_patch_of_one_colour_gives_no_nan():
    assert pixel_loss(torch.zeros(2, 12), torch.ones(2, 12)).item() == pytest.approx(0.0)


def test_token_loss_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert token_loss(logits, torch.tensor([1, 0])).item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_without_masked_patches_the_loss_is_zero_and_still_has_a_gradient():
    student = torch.randn(0, 8, requires_grad=True)
    nothing = torch.zeros(0, 8)
    for loss in (code_loss(student, nothing), pixel_loss(student, nothing), token_loss(student, torch.zeros(0).long())):
        assert loss.item() == 0 and loss.requires_grad
    assert plain_mean(torch.zeros(0)) == 0


def test_the_mean_can_be_taken_over_more_processes_than_one():
    halved = code_loss(torch.zeros(4, 8), torch.full((4, 8), 1 / 8), mean=lambda values: values.sum() / 8)
    assert halved.item() == pytest.approx(math.log(8) / 2)


def test_patches_stand_in_reading_order():
    # One channel-constant picture of 4 × 6 px whose value is its patch number, patch 2.
    numbers = torch.arange(6.0).reshape(2, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    patches = patch_pixels(numbers.expand(1, 3, 4, 6), patch=2)
    assert patches.shape == (1, 6, 12)
    assert (patches[0] == torch.arange(6.0)[:, None]).all()


def test_patches_match_the_encoders_convolution():
    # A convolution with patch-sized stride, written as a product of patch pixels and weights.
    image, conv = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 5, 4, 4)
    weight = conv.weight.permute(0, 2, 3, 1).reshape(5, -1)
    ours = patch_pixels(image, 4) @ weight.T + conv.bias
    torch.testing.assert_close(ours, conv(image).flatten(2).transpose(1, 2))


def test_the_tokenizer_names_the_closest_entry():
    codebook = torch.randn(7, 12)
    patches = codebook[[3, 0, 6]] + 1e-3 * torch.randn(3, 12)
    assert nearest_token(patches, codebook).tolist() == [3, 0, 6]
    far = torch.randn(2, 5, 12)
    torch.testing.assert_close(nearest_token(far, codebook), torch.cdist(far, codebook.expand(2, 7, 12)).argmin(dim=-1))
