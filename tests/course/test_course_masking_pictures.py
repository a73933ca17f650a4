"""Pictures of notebook 05: the numbers that they claim, on masks and scenes whose numbers are known."""

import math

import pytest
import torch

from semmim_mini.config import override
from semmim_mini.course.explorer import Explorer
from semmim_mini.course.masking_pictures import (
    block_steps,
    filled_from_neighbours,
    how_many,
    mask_schedule,
    painted_right,
    phases,
    scores_to_mask,
    strategies,
)
from semmim_mini.course.pictures import png
from semmim_mini.course.relevance_pictures import (
    RELEVANCES,
    STRATEGIES,
    against_untrained,
    masked_scene,
    relevance_maps,
    scores_and_mask,
    word_maps,
)
from semmim_mini.figures.style import WIDTH
from semmim_mini.instruments.mask_numbers import on_named
from semmim_mini.instruments.mask_quality import named_and_objects
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives.masking import hide_highest
from semmim_mini.presets import preset
from semmim_mini.training.schedules import full_plan
from semmim_mini.training.step import SemMIMStep


@pytest.fixture(scope="module")
def step(tiny, tokenizer):
    torch.manual_seed(0)
    config = override(tiny(), ["data.resolution=32", "data.max_length=20", "masking.ratio=0.3"])
    return SemMIMStep(SemMIM(config, len(tokenizer)).eval())


def check(drawn):
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000 and drawn.number


def test_painted_like_the_neighbours(batch):
    objects = named_and_objects(batch, 8)[1]
    mask = hide_highest(torch.rand(8, 16), torch.full((8,), 5))
    mean = torch.nn.functional.avg_pool2d(batch.images[0], 8)
    drawn = filled_from_neighbours(batch.images[0], objects, {"true": mask, "wrong": mask}, {"true": mean, "wrong": mean + 0.5}, row=2)
    check(drawn)
    assert drawn.number["true_all"] == 1.0 and drawn.number["wrong_all"] == 0.0


def test_scores_ranks_and_counts():
    scores = torch.arange(16.0)
    drawn = scores_to_mask(scores, 15 - torch.arange(16), scores > 11)
    check(drawn)
    assert drawn.number == {"n": 16.0, "hidden": 4.0}
    drawn = how_many({"fixed": torch.full((9,), 3), "drawn": torch.tensor([0, 6])})
    check(drawn)
    assert drawn.number == {"fixed": 3.0, "drawn": 3.0}


def test_strategies_beside_chance(batch):
    named, objects = named_and_objects(batch, 8)
    masks = {"named": named, "all": torch.ones_like(named)}
    drawn = strategies(batch, 1, {"named": named.float(), "all": None}, masks, named, objects)
    check(drawn)
    chance = float(named.float().mean())
    assert drawn.number["named_named"] == drawn.number["named_objects"] == 1.0
    assert drawn.number["all_named"] == drawn.number["random_rate_named"] == pytest.approx(chance)
    assert drawn.number["all_objects"] == drawn.number["random_rate_objects"]


def test_blocks_and_patches_are_counted():
    one, two = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    one[0], two[0], two[2, :2] = True, True, True
    drawn = block_steps([one, two])
    check(drawn)
    assert drawn.number == {"blocks": 2.0, "hidden": 6.0}


def test_when_text_begins(tiny):
    config = tiny("losses.mim={weight: 1.0, start: 0.5}", "masking.random_until=0.2")
    assert phases(config) == pytest.approx((0.5, 0.6), abs=0.005)
    assert phases(tiny("losses.mim={weight: 0.0, start: 0.5}")) == (1.0, 1.0)
    drawn = mask_schedule({"mine": config, "base": preset("base")})
    check(drawn)
    assert drawn.number["base"] == pytest.approx(0.03, abs=0.001)


def test_words_and_their_share_on_objects(batch):
    objects = named_and_objects(batch, 8)[1][0]
    drawn = word_maps(batch, 0, ["a"] * 9, objects.float().expand(9, 16))
    check(drawn)
    assert drawn.number == {"attention": 1.0, "objects": pytest.approx(float(objects.float().mean()))}


def test_relevance_maps_have_shares_of_the_whole_batch(batch):
    named = named_and_objects(batch, 8)[0]
    found = {"truth": named.float(), "noise": torch.rand(8, 16)}
    masks = {kind: hide_highest(score, torch.full((8,), 2)) for kind, score in found.items()}
    drawn = relevance_maps(batch, [0, 1], found, masks)
    check(drawn)
    assert drawn.number["truth"] == on_named(masks["truth"], named) and drawn.number["chance"] == pytest.approx(float(named.float().mean()))


def test_the_best_untrained_network_is_told():
    drawn = against_untrained({"caption": 0.5, "itc": 0.2}, {"caption": [0.3, 0.4], "itc": [0.1, 0.25]}, chance=0.2, middle=0.45)
    check(drawn)
    assert drawn.number["chance"] == 0.2 and drawn.number["middle"] == 0.45
    assert drawn.number["caption_untrained"] == 0.4 and drawn.number["itc_untrained"] == 0.25
    assert drawn.figure.texts[0].get_text().startswith("Hidden patches on named objects: 1 of 2 scores")


# a scene to explore ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_hides_the_exact_count(step, batch, strategy):
    for relevance in RELEVANCES if strategy == "text_high" else ("caption",):
        scores, mask = scores_and_mask(step, batch, 0.3, strategy, relevance)
        assert (mask.sum(dim=1) == 4).all() and mask.shape == (8, 16)  # floor(0.3 · 16)
        assert (scores is None) == (strategy == "block")


def test_explored_scores_are_the_maskers(step, batch):
    teaching = step.teach(batch, full_plan(step.config))
    for kind in RELEVANCES:
        torch.testing.assert_close(scores_and_mask(step, batch, 0.3, "text_high", kind)[0], step.masker.relevance(kind, teaching, batch))
    low = scores_and_mask(step, batch, 0.5, "text_low", "query")[1]
    assert torch.equal(low, ~scores_and_mask(step, batch, 0.5, "text_high", "query")[1])
    attention = scores_and_mask(step, batch, 0.3, "attention", "query")[0]
    torch.testing.assert_close(attention, step.model.teacher.image.cls_attention(teaching.trunk))


def test_a_masked_scene_has_its_own_shares(step, tokenizer, scenes):
    choice = {"caption": 1, "strategy": "text_high", "relevance": "caption"}
    drawn = masked_scene(step, tokenizer, scenes, scene=2, ratio=1.0, **choice)
    check(drawn)
    assert drawn.number["named"] == drawn.number["rate_named"] and drawn.number["objects"] == drawn.number["rate_objects"]
    assert masked_scene(step, tokenizer, scenes, scene=2, ratio=0.3, **choice).number["rate_named"] == drawn.number["rate_named"]


def test_widgets_move_the_mask(step, tokenizer, scenes):
    def draw(**choices):
        return masked_scene(step, tokenizer, scenes, **choices)

    controls = {"scene": range(8), "caption": range(5), "ratio": (0.2, 0.5), "strategy": STRATEGIES, "relevance": RELEVANCES}
    explorer = Explorer(draw, "A scene under a mask.", controls)
    seen = {explorer.image.value}
    for name, value in (("ratio", 0.5), ("strategy", "block"), ("scene", 3), ("caption", 4)):
        explorer.controls[name].value = value
        seen.add(explorer.image.value)
    assert len(seen) == 5 and explorer.message.value == ""


def patches(text: str) -> torch.Tensor:
    """A mask (1, n) from a string: x is True."""
    return torch.tensor([[letter == "x" for letter in text]])


def test_painting_by_hand():
    colours = torch.tensor([0.0, 0.0, 1.0, 0.5]).reshape(1, 1, 2, 2)
    painted = torch.tensor([9.0, 0.05, 0.2, 9.0]).reshape(1, 1, 2, 2)
    mask, objects = patches(".xx."), patches("..x.")
    found = painted_right(colours, painted, mask, objects)  # the guesser paints ¼, the mean of what can be seen
    assert found == {"all": 0.5, "background": 1.0, "objects": 0.0, "guess_all": 0.0, "guess_background": 0.0, "guess_objects": 0.0}
    assert painted_right(colours, colours + 0.09, mask, objects)["all"] == 1.0


def test_nothing_hidden_of_a_kind_is_no_share():
    colours = torch.zeros(1, 3, 2, 2)
    assert math.isnan(painted_right(colours, colours, patches("xx.."), patches("xx.."))["background"])
