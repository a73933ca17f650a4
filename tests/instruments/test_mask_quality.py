"""Do masks follow the caption? Known answers: a perfect score, a score that finds objects only, chance, everything hidden."""

from dataclasses import replace

import pytest
import torch

from semmim_mini.instruments.mask_quality import mask_quality, middle_first, named_and_objects, reading, untrained_masks


@pytest.fixture
def judge(make_step, look, monkeypatch):
    """`judge(score, "masking.ratio=0.25", size=200)`: the figures where `score(named, anything)` is the relevance."""

    def run(score, *settings: str, size: int = 200, seed: int = 0):
        step = make_step(*settings)
        monkeypatch.setattr(step.masker, "relevance", lambda kind, teaching, batch: score(*named_and_objects(batch, 8)).float())
        return mask_quality(step, look(size), seed)

    return run


def test_named_and_any_object_by_hand(look):
    (batch,) = look(2)  # scene 0 is read with its first caption, scene 1 with its second
    named, anything = named_and_objects(batch, 8)
    assert named.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert anything.int().tolist() == 2 * [[1, 1, 0, 0]]


def test_a_score_that_reads_finds_what_is_named(judge):
    found = judge(lambda named, anything: named, "masking.ratio=0.25")  # one patch of four
    assert found["named_text"] == found["object_text"] == found["selectivity_text"] == 1
    assert found["selectivity_scene"] == 0.5


def test_a_mask_larger_than_what_is_named_is_charged_for_the_rest(judge):
    found = judge(lambda named, anything: named + 0.5 * anything, "masking.ratio=0.75")  # both objects and one patch of grass
    assert found["named_text"] == pytest.approx(1 / 3) and found["object_text"] == pytest.approx(2 / 3)
    assert found["selectivity_text"] == 0.5


def test_a_score_that_finds_objects_without_reading_is_no_more_selective_than_the_scene(judge):
    found = judge(lambda named, anything: anything, "masking.ratio=0.25")  # of two objects always the left one
    assert found["object_text"] == 1
    assert found["named_text"] == found["selectivity_text"] == found["selectivity_scene"] == 0.5


def test_random_masks_have_the_base_rates(judge):
    found = judge(lambda named, anything: named, "masking.ratio=0.25", size=400)
    assert found["named_random"] == pytest.approx(1 / 4, abs=0.07)  # three deviations of a share of 400
    assert found["object_random"] == pytest.approx(1 / 2, abs=0.08)


def test_a_score_without_order_is_chance(judge):
    noise = torch.Generator().manual_seed(5)
    found = judge(lambda named, anything: torch.rand(named.shape, generator=noise), "masking.ratio=0.25", size=400)
    assert found["named_text"] == pytest.approx(1 / 4, abs=0.07)


def test_hiding_everything_finds_exactly_the_share_there_is(judge):
    found = judge(lambda named, anything: ~named, "masking.ratio=1.0", size=6)
    assert found["named_text"] == found["named_random"] == 0.25
    assert found["object_text"] == found["object_random"] == 0.5


@pytest.mark.parametrize("relevance", ["caption", "cross", "query", "itc"])
def test_every_relevance_can_be_judged_and_judged_again(make_step, look, relevance):
    step, batches = make_step(f"masking.relevance={relevance}"), look(8)
    assert mask_quality(step, batches) == mask_quality(step, batches)


def test_the_middle_of_the_ratios_is_measured_on_all_samples(judge):
    # r from 0.2 to 0.8 and half of the samples unmasked in training: here r = 0.5 on all, that is both objects.
    found = judge(lambda named, anything: anything, "masking.ratio=[0.2, 0.8]", "masking.masked_share=0.5", size=6)
    assert found["named_text"] == 0.5 and found["object_text"] == 1


# What needs no words --------------------------------------------------------------------------------------------------


def test_the_middle_by_hand():
    assert middle_first(3).tolist() == [-2, -1, -2, -1, 0, -1, -2, -1, -2]
    assert middle_first(2).tolist() == [-0.5] * 4


def test_the_middle_is_measured_beside(judge):
    found = judge(lambda named, anything: named, "masking.ratio=0.5", size=6)  # four equal corners: the first two, both objects
    assert found["named_middle"] == 0.5 and found["object_middle"] == 1


def test_a_blind_choice_hides_the_scenes_own_share_where_scenes_are_alike(judge):
    found = judge(lambda named, anything: named, "masking.ratio=0.25", size=6)
    assert found["selectivity_blind"] == found["selectivity_scene"] == 0.5


def reader(scores):
    """A relevance of the painted scenes: `scores(named)` of the caption that is really read."""
    return lambda kind, teaching, batch: scores(named_and_objects(batch, 8)[0]).float()


@pytest.mark.parametrize(
    ("scores", "difference"),
    [(lambda named: named, 1.0), (lambda named: ~named, -1.0), (lambda named: torch.ones_like(named), 0.0)],
)
def test_own_minus_other_by_hand(make_step, look, words, monkeypatch, scores, difference):
    step = make_step("masking.ratio=0.25")  # one patch of four; each caption names one
    monkeypatch.setattr(step.masker, "relevance", reader(scores))
    found = reading(step, words, look(6, batch=4))
    assert found["follows"] == difference and found["follows_ceiling"] == 1 and found["follows_scenes"] == 6


def test_without_captions_that_differ_there_is_nothing_to_say(make_step, look, words):
    (batch,) = look(4)
    batch.pairs = [replace(pair, truth=replace(pair.truth, mentions=pair.truth.mentions[:1])) for pair in batch.pairs]
    assert reading(make_step("masking.ratio=0.25"), words, [batch]) == {}


def test_untrained_networks_are_the_same_ones_every_time_and_not_this_one(make_step, look):
    step, batches = make_step("masking.ratio=0.25"), look(8)
    state = torch.random.get_rng_state()
    found = untrained_masks(step, batches)
    assert found == untrained_masks(step, batches) and 0 <= found["named_untrained"] <= 1
    assert torch.equal(state, torch.random.get_rng_state())
