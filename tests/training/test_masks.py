"""Masks of a batch: each strategy hides what it says, and random numbers do not depend on who draws them."""

from dataclasses import replace

import pytest
import torch

from semmim_mini.errors import UserError
from semmim_mini.objectives.masking import cross_relevance
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


@pytest.mark.parametrize("relevance", ["caption", "cross", "query", "itc"])
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


# Relevance: which network answers --------------------------------------------------------------------------------------


@pytest.fixture
def asked(make_model, make_batch):
    """`asked("caption", …)`: (step, batch, teaching, relevance), with captions of different lengths."""

    def ask(kind: str, *settings: str):
        step = SemMIMStep(make_model(f"masking.relevance={kind}", *settings))
        batch = make_batch(step.config)
        teaching = step.teach(batch, plan_at(step.config, 0))
        return step, batch, teaching, step.masker.relevance(kind, teaching, batch)

    return ask


def test_caption_relevance_is_the_decoders_attention_to_the_teachers_patches(asked):
    step, batch, teaching, relevance = asked("caption")
    weights = step.model.decoder.attention_to_patches(batch.input_ids, batch.attention_mask, teaching.clean)
    torch.testing.assert_close(relevance, cross_relevance(weights, content_tokens(batch.attention_mask)))
    # Written out for the first sample: the mean over layers, heads and the words between [CLS] and [SEP].
    length = int(batch.attention_mask[0].sum())
    torch.testing.assert_close(relevance[0], weights[:, 0, :, 1 : length - 1].mean(dim=(0, 1, 2)))


def test_caption_relevance_asks_no_one_else(asked):
    step, batch, teaching, before = asked("caption")
    for module in (step.model.fusion, step.model.student, step.model.teacher):
        for parameter in module.parameters():
            parameter.data.mul_(3.0)
    assert torch.equal(step.masker.relevance("caption", teaching, batch), before)
    for parameter in step.model.decoder.parameters():
        parameter.data.normal_()
    assert not torch.allclose(step.masker.relevance("caption", teaching, batch), before)


@pytest.mark.parametrize("kind", ["caption", "cross"])
def test_relevance_is_the_same_twice_under_dropout_and_leaves_training_on(asked, kind):
    step, batch, teaching, before = asked(kind, "text.dropout=0.5")
    assert step.model.training
    assert torch.equal(step.masker.relevance(kind, teaching, batch), before)
    assert all(module.training for part in (step.model.fusion, step.model.decoder) for module in part.modules())


def test_relevance_has_no_gradient(asked):
    assert not asked("caption")[3].requires_grad


def test_caption_relevance_without_a_decoder_is_refused(tiny):
    with pytest.raises(UserError, match=r"masking\.relevance='caption' is impossible.*losses\.caption"):
        tiny("masking.relevance=caption", "losses.caption.weight=0")
    assert tiny("masking.relevance=cross", "losses.caption.weight=0").losses.caption.weight == 0
