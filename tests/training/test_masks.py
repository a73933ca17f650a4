"""Masks of a batch: each strategy hides what it says, and random numbers do not depend on who draws them."""

from dataclasses import replace

import pytest
import torch

from semmim_mini.training.masks import content_tokens
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep


def test_content_is_between_cls_and_sep():
    words = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    assert content_tokens(words).int().tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


@pytest.fixture
def draw_mask(make_model, make_batch):
    """`draw_mask("masking.strategy=…", random=False)`: (mask, scores the strategy hides the highest of)."""

    def draw(*settings: str, random: bool = False, seed: int = 3):
        step = SemMIMStep(make_model("masking.ratio=0.5", *settings))
        batch = make_batch(step.config)
        plan = replace(plan_at(step.config, 0), random_mask=random)
        teaching = step.teach(batch, plan)
        strategy = step.config.masking.strategy
        scores = step.masker.scores(strategy, teaching, batch) if strategy not in ("random", "block") else None
        return step.masker(teaching, batch, plan, torch.Generator().manual_seed(seed)), scores

    return draw


@pytest.mark.parametrize("strategy", ["text_high", "text_low", "attention", "random", "block"])
def test_every_strategy_hides_the_exact_count(draw_mask, strategy):
    mask, scores = draw_mask(f"masking.strategy={strategy}")
    assert mask.shape == (4, 4) and (mask.sum(dim=1) == 2).all()
    if scores is not None:
        assert torch.equal(mask, torch.zeros(4, 4, dtype=torch.bool).scatter(1, scores.topk(2, dim=1).indices, True))


@pytest.mark.parametrize("relevance", ["cross", "query", "itc"])
def test_high_and_low_hide_opposite_ends(draw_mask, relevance):
    high, _ = draw_mask("masking.strategy=text_high", f"masking.relevance={relevance}")
    low, _ = draw_mask("masking.strategy=text_low", f"masking.relevance={relevance}")
    assert torch.equal(high, ~low)  # half of the patches each


def test_random_while_scores_mean_nothing(draw_mask):
    early, _ = draw_mask("masking.strategy=text_high", random=True)
    plain, _ = draw_mask("masking.strategy=random")
    assert torch.equal(early, plain)
    assert not torch.equal(early, draw_mask("masking.strategy=random", seed=4)[0])


def test_unmasked_samples_stay_whole(draw_mask):
    mask, _ = draw_mask("masking.masked_share=0.5", "masking.strategy=random", "data.batch_size=8", seed=3)
    masked = torch.rand(8, 2, generator=torch.Generator().manual_seed(3))[:, 0] < 0.5
    assert 0 < masked.sum() < 8 and torch.equal(mask.sum(dim=1), 2 * masked)
