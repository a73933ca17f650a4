"""Do masks follow the caption? Known answers: a perfect score, a score that finds objects only, chance, everything hidden."""

import pytest
import torch

from semmim_mini.instruments.mask_quality import mask_quality, named_and_objects


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
