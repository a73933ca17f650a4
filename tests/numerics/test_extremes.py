"""Losses, targets and relevance where numbers are huge, equal, zero or missing: finite, and what can be derived by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from semmim_mini.config import SpaceConfig
from semmim_mini.model.encoding_space import PrototypeHead
from semmim_mini.model.layers import attention_weights
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.contrastive import itc_loss, similarities
from semmim_mini.objectives.masked_image import code_loss, nearest_token, pixel_loss, token_loss
from semmim_mini.objectives.masked_language import caption_loss, mlm_loss
from semmim_mini.objectives.masking import cross_relevance, hide_highest, itc_relevance, query_relevance
from semmim_mini.objectives.matching import itm_loss, sample_negatives
from semmim_mini.objectives.targets import centred_targets, sinkhorn_targets
from semmim_mini.training.masks import content_tokens

TEMPERATURES = (0.001, 0.5)  # the ends of ITC's range
LOW = [torch.bfloat16, torch.float16]


def finite_gradient(loss: torch.Tensor, *trained: torch.Tensor) -> bool:
    loss.backward()
    return all(bool(torch.isfinite(x.grad).all()) for x in trained)


# Huge -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [mlm_loss, token_loss, itm_loss])
@pytest.mark.parametrize(("height", "dtype"), [(1e4, torch.float32), (6e4, torch.float16), (1e30, torch.bfloat16)])
def test_a_sure_answer_costs_nothing_or_the_whole_distance(loss, height, dtype):
    logits = torch.tensor([[height, -height]], dtype=dtype, requires_grad=True)
    right, wrong = loss(logits, torch.tensor([0])), loss(logits, torch.tensor([1]))
    assert right.item() == 0 and wrong.item() == pytest.approx(2 * logits[0, 0].item())
    assert finite_gradient(right + wrong, logits) and logits.grad[0].tolist() == [1, -1]


def test_codes_of_huge_logits():
    # At τ = 0.1 the student's logits are ±1e5: right costs 0, wrong 2e5.
    student, sure = torch.tensor([[1e4, -1e4]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    assert code_loss(student, sure).item() == 0 and code_loss(student, 1 - sure).item() == pytest.approx(2e5)
    assert consensus_loss(student.expand(2, 1, 2), sure.expand(2, 1, 2)).item() == 0
    assert finite_gradient(code_loss(student, 1 - sure), student)


@pytest.mark.parametrize("height", [1e4, -1e4])
def test_targets_of_huge_logits_are_distributions(height):
    logits = height * torch.eye(4)
    for target in (centred_targets(logits, torch.zeros(4), 0.04), sinkhorn_targets(logits, 0.04)):
        assert torch.isfinite(target).all()
        torch.testing.assert_close(target.sum(dim=1), torch.ones(4))
    if height > 0:
        assert torch.equal(sinkhorn_targets(logits, 0.04), torch.eye(4))


@pytest.mark.parametrize("tau", TEMPERATURES)
def test_itc_at_the_ends_of_its_temperature(tau):
    # Own keys point the other way and those of the others along: logits −1/τ and 1/τ, which costs 2/τ and ln(1 + e^(−2/τ)).
    temperature, keys = torch.tensor(tau, requires_grad=True), torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    query = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = itc_loss(query, query, keys, keys, torch.arange(2), torch.arange(2), temperature)
    assert loss.item() == pytest.approx(2 / tau + math.log1p(math.exp(-2 / tau)))
    assert finite_gradient(loss, query, temperature)
    assert temperature.grad.item() == pytest.approx(-2 / tau**2 / (1 + math.exp(-2 / tau)))


# Equal ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("tau", TEMPERATURES)
def test_one_feature_for_everything_costs_ln_keys(tau, alpha):
    batch, keys = F.normalize(torch.ones(3, 8), dim=-1).requires_grad_(), F.normalize(torch.ones(7, 8), dim=-1)
    loss = itc_loss(batch, batch, keys, keys, torch.arange(3), torch.arange(7), tau, alpha, batch, batch, keys, keys)
    assert loss.item() == pytest.approx(math.log(7)) and finite_gradient(loss, batch)


@pytest.mark.parametrize("level", [0.0, 1000.0])
def test_equal_similarities_leave_the_draw_to_the_random_numbers(level):
    # Whoever has the largest random number of all keys of other images is drawn; 1000 is cosine 1 at τ = 0.001.
    uniform, ids = torch.rand(6, 6), torch.tensor([0, 0, 1, 2, 3, 4])
    wanted = uniform.masked_fill(ids[:, None] == ids[None, :], -1).argmax(dim=1)
    for hardness in (0.0, 1.0):
        assert torch.equal(sample_negatives(torch.full((6, 6), level), ids, ids, uniform, hardness), wanted)


def test_a_constant_relevance_hides_the_first_patches():
    words = content_tokens(torch.tensor([[True, True, False]]))  # [CLS] [SEP] and padding: no word is left
    relevance = cross_relevance(torch.rand(2, 1, 2, 3, 5), words)
    assert not words.any() and (relevance == 0).all()
    for scores in (relevance, -relevance, relevance + 0.2):
        assert hide_highest(scores, torch.tensor([2]))[0].tolist() == [True, True, False, False, False]


def test_equal_prototypes_say_nothing():
    head = PrototypeHead(16, SpaceConfig(prototypes=6, hidden=16, bottleneck=8))
    with torch.no_grad():
        head.prototypes.copy_(head.prototypes[:1].expand(6, 8))
    logits = head(torch.randn(5, 16))
    for target in (sinkhorn_targets(logits, 0.04), centred_targets(logits, torch.zeros(6), 0.04)):
        torch.testing.assert_close(target, torch.full((5, 6), 1 / 6), atol=1e-5, rtol=0)
        loss = code_loss(logits, target)
        assert loss.item() == pytest.approx(math.log(6), rel=1e-5)
    assert finite_gradient(loss, head.prototypes)


def test_a_vocabulary_of_one_word_costs_nothing():
    logits = torch.randn(5, 1, requires_grad=True)
    for target in (sinkhorn_targets(logits, 0.04), centred_targets(logits, torch.zeros(1), 0.04)):
        assert torch.equal(target, torch.ones(5, 1)) and code_loss(logits, target).item() == 0


@pytest.mark.parametrize("colour", [0.1, -2.1179, 2.64, 0.0])
def test_a_patch_of_one_colour_has_the_target_zero(colour):
    # So that a guess g costs g², and not g² plus what rounding leaves of the colour, divided by a deviation of nearly nothing.
    guess = torch.full((2, 768), 0.5, requires_grad=True)
    loss = pixel_loss(guess, torch.full((2, 768), colour))
    assert loss.item() == pytest.approx(0.25, abs=1e-3) and finite_gradient(loss, guess)


# Nothing --------------------------------------------------------------------------------------------------------------


def test_one_pair_alone_has_nothing_to_contrast():
    one = F.normalize(torch.randn(1, 8), dim=-1).requires_grad_()
    for alpha in (0.0, 0.4):
        loss = itc_loss(one, one, one, one, torch.tensor([3]), torch.tensor([3]), 0.07, alpha, *[one.detach()] * 4)
        loss.backward()
        assert loss.item() == 0 and (one.grad == 0).all()


def test_a_queue_of_the_batchs_own_images_holds_positives_only():
    # Query e1; keys e1, e2, e3, all of the same image: the truth is a third each, and there is no negative.
    query, keys, same = torch.eye(3)[:1], torch.eye(3), torch.full((3,), 5)
    loss = itc_loss(query, query, keys, keys, same[:1], same, 1.0)
    assert loss.item() == pytest.approx(math.log(math.e + 2) - 1 / 3)
    assert sample_negatives(torch.ones(3, 3), same, same, torch.rand(3, 3)).tolist() == [-1, -1, -1]


def test_a_query_without_any_positive_is_no_number():
    # Stated in the docstring: the training loop stops at it by name, rather than learn from it.
    assert itc_loss(*[torch.eye(2)] * 4, torch.tensor([0, 9]), torch.tensor([0, 1]), 1.0).isnan()


def test_true_pairs_alone_can_be_learned_without_looking():
    assert itm_loss(torch.tensor([[-50.0, 50.0]] * 3), torch.ones(3, dtype=torch.long)).item() == 0


def test_a_caption_without_words_predicts_its_end():
    logits = torch.zeros(2, 4, 9, requires_grad=True)
    ids, words = torch.tensor([[2, 3, 0, 0]] * 2), torch.tensor([[True, True, False, False]] * 2)
    assert caption_loss(logits, ids, words).item() == pytest.approx(math.log(9))
    nothing = caption_loss(logits, ids, words & (torch.arange(4) < 1))  # not even an end
    assert nothing.item() == 0 and finite_gradient(nothing, logits)


def test_a_zero_vector_is_at_right_angles_to_everything():
    head = PrototypeHead(16, SpaceConfig(prototypes=6, hidden=16, bottleneck=8))
    with torch.no_grad():
        head.mlp[4].weight.zero_()
    tokens = torch.randn(3, 16, requires_grad=True)
    logits = head(tokens)
    assert (logits == 0).all()
    loss = code_loss(logits, torch.eye(6)[:3])
    assert loss.item() == pytest.approx(math.log(6)) and finite_gradient(loss, tokens, *head.parameters())
    assert (itc_relevance(torch.zeros(1, 4, 8), torch.randn(1, 8)) == 0).all()


# 16 bits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", LOW)
def test_scores_that_choose_are_not_rounded_by_autocast(dtype):
    # What is compared must not be rounded: 196 patches of nearly equal relevance have 8 different values in bf16.
    weights, content = torch.randn(2, 3, 4, 6, 196).mul(0.1).softmax(-1), torch.rand(3, 6) < 0.7
    query, keys = torch.randn(3, 4, 1, 8), torch.randn(3, 4, 196, 8)
    features, patches = F.normalize(torch.randn(3, 32), dim=-1), torch.randn(3, 196, 32)
    calls = {
        "cross": lambda: cross_relevance(weights, content),
        "query": lambda: query_relevance(query, keys),
        "itc": lambda: itc_relevance(patches, features),
        "attention": lambda: attention_weights(query, keys),
        "similarity": lambda: similarities(features, features, 0.07),
        "token": lambda: nearest_token(patches, patches[0, :50] + 0.1 * patches[1, :50]),
    }
    for name, call in calls.items():
        exact = call()
        with torch.autocast("cpu", dtype):
            assert torch.equal(call(), exact), name
