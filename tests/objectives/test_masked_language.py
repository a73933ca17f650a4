"""Masked words and captions: by hand, and which tokens must not count."""

import math

import pytest
import torch

from semmim_mini.objectives.masked_language import caption_loss, mlm_loss, unigram_entropy


def test_mlm_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert mlm_loss(logits, torch.tensor([0, 1])).item() == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2)


def test_no_masked_word_costs_nothing_and_keeps_the_gradient():
    loss = mlm_loss(torch.randn(0, 9, requires_grad=True), torch.zeros(0).long())
    assert loss.item() == 0 and loss.requires_grad


def test_each_position_predicts_the_next_word():
    # Position 0 is sure of word 1, position 1 of word 2: right. What the last position says does not count.
    sure = 50 * torch.eye(4)
    logits = torch.stack([sure[1], sure[2], sure[0]])[None]
    ids, words = torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool)
    assert caption_loss(logits, ids, words).item() == pytest.approx(0.0, abs=1e-6)
    # A model that repeats its input instead is wrong everywhere.
    assert caption_loss(sure[ids], ids, words) > 10


def test_padding_is_not_predicted():
    # Two captions of 3 and 2 words: three predictions, each blind, whatever the padding says.
    logits = torch.zeros(2, 3, 5)
    logits[1, 1] = torch.tensor([0, 0, 0, 0, 99.0])
    words = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    assert caption_loss(logits, torch.tensor([[0, 1, 2], [0, 1, 0]]), words).item() == pytest.approx(math.log(5))


def test_unigram_entropy_by_hand():
    # Shares 1/2, 1/4, 1/4 → 1.5 ln 2; id 3 never occurs.
    assert unigram_entropy(torch.tensor([0, 0, 1, 2])) == pytest.approx(1.5 * math.log(2))
    assert unigram_entropy(torch.tensor([4, 4, 4])) == pytest.approx(0.0)
