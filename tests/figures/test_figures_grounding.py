"""Words and regions: what is drawn is what is measured, for every kind of map, and nothing overlaps."""

import numpy as np
import pytest
import torch

from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.errors import UserError
from semmim_mini.figures import grounding
from semmim_mini.figures.grounding import chosen_maps, shorten, words_and_regions
from semmim_mini.figures.style import OBJECT_COLOURS
from semmim_mini.tasks.grounding import score, score_batch

FIRST = {"map": "fusion", "layer": 1, "head": 1}


@pytest.mark.parametrize(
    "choice",
    [FIRST, {"map": "gradcam", "layer": 1, "head": "mean"}, {"map": "decoder_writes", "layer": 1, "head": 2}]
    + [{"map": "decoder_reads", "layer": 1, "head": "mean"}]
    + [{"map": name, "layer": 1, "head": "mean"} for name in ("phrase", "words")],
)
def test_every_kind_of_map_can_be_drawn(model, tokenizer, batches, scenes, check, choice):
    drawn = words_and_regions(model, tokenizer, batches(scenes)[1], choice)
    check(drawn)
    for kind in ("", "chance_", "centre_", "any_object_"):
        assert 0 <= drawn.number[f"{kind}pointing"] <= 1 and 0 <= drawn.number[f"{kind}iou"] <= 1
    assert grounding.EXPLAINED[choice["map"]][:20] in " ".join(text.get_text() for text in drawn.figure.texts)


def test_numbers_are_the_task_s(model, tokenizer, batches, scenes):
    batch = batches(scenes)[0]
    drawn, scores = words_and_regions(model, tokenizer, batch, FIRST | {"head": 2}), score_batch(model, tokenizer, batch, 0)
    assert drawn.number["pointing"] == pytest.approx(scores.pointing["fusion"][0, 1].mean().item())
    assert drawn.number["iou"] == pytest.approx(scores.iou["fusion"][0, 1].mean().item())
    assert drawn.number["n"] == len(scores.target)


def test_the_choice_is_the_layer_and_head_it_says(model, tokenizer, batches, scenes):
    batch = batches(scenes)[0]
    words, one = chosen_maps(model, tokenizer, batch, FIRST)
    _, two = chosen_maps(model, tokenizer, batch, FIRST | {"head": 2})
    _, mean = chosen_maps(model, tokenizer, batch, FIRST | {"head": "mean"})
    assert one.shape == words.target.shape and not torch.equal(one, two)
    torch.testing.assert_close((one + two) / 2, mean)


def test_each_map_shows_its_heat_its_object_and_its_highest_patch(model, tokenizer, batches, scenes):
    batch = batches(scenes)[1]
    words, maps = chosen_maps(model, tokenizer, batch, FIRST)
    drawn = words_and_regions(model, tokenizer, batch, FIRST)
    crossed = [axes for axes in drawn.figure.axes if axes.lines]
    assert len(crossed) == len(words)
    for axes, values, target in zip(crossed, maps, words.target, strict=True):
        at = int(values.argmax())
        (x,), (y,) = axes.lines[0].get_data()
        assert (x, y) == ((at % 4 + 0.5) * 8, (at // 4 + 0.5) * 8)
        inside = target[at].item()  # the cross lies inside the outline exactly where the game is won
        assert inside == bool(score(values[None], target[None])[0])
        segments = [tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()]
        assert len(segments) == len(set(segments)) and len(segments) >= 4


def test_words_have_the_colour_of_their_outline_and_of_the_caption(model, tokenizer, batches, scenes):
    batch = batches(scenes)[1]
    words, _ = chosen_maps(model, tokenizer, batch, FIRST)
    drawn = words_and_regions(model, tokenizer, batch, FIRST, rows=1)
    mine = [i for i, row in enumerate(words.rows.tolist()) if row == 0]
    outlined = [axes.collections[1].get_color()[0] for axes in drawn.figure.axes if axes.lines]
    for i, colour in zip(mine, outlined, strict=True):
        expected = OBJECT_COLOURS[words.places[i]]
        assert np.allclose(colour[:3], [int(expected[j : j + 2], 16) / 255 for j in (1, 3, 5)])
        noun = words.phrases[i].split(" ")[-1]
        assert {text.get_color() for text in drawn.figure.texts if text.get_text().endswith(noun)} >= {expected}


def test_a_mention_that_was_left_out_gives_its_colour_to_no_other(model, tokenizer, batches, scenes):
    batch = batches(scenes)[1]
    row = next(row for row, pair in enumerate(batch.pairs) if len(pair.truth.mentions[batch.chosen[row]]) > 1)
    first, second, *_ = batch.pairs[row].truth.mentions[batch.chosen[row]]
    hidden = batch.object_maps[row].clone()
    hidden[torch.isin(hidden, torch.tensor([1 + i for i in first.objects], dtype=hidden.dtype))] = 0
    assert torch.isin(patch_objects(hidden, 8), torch.tensor([1 + i for i in second.objects])).any()
    before, _ = chosen_maps(model, tokenizer, batch, FIRST)
    batch.object_maps[row] = hidden
    words, _ = chosen_maps(model, tokenizer, batch, FIRST)
    places = [place for place, r in zip(words.places, words.rows.tolist(), strict=True) if r == row]
    assert places[0] == 1 and words.left_out == before.left_out + 1


def test_long_phrases_keep_their_noun():
    assert shorten("a dog", 5.0) == "a dog"
    assert shorten("the three black and white helicopters", 1.5) == "white helicopters"
    assert shorten("black and dog", 0.6) == "dog"
    assert shorten("supercalifragilistic", 0.1) == "supercalifragilistic"


def test_photos_have_no_regions(model, tokenizer, batches, photos):
    with pytest.raises(UserError, match="no object map"):
        words_and_regions(model, tokenizer, batches(photos)[0], FIRST)


def test_captions_that_name_nothing_visible_have_no_regions(model, tokenizer, batches, scenes):
    batch = batches(scenes)[0]
    batch.object_maps = [torch.zeros_like(shown) for shown in batch.object_maps]
    with pytest.raises(UserError, match="name nothing that can be seen"):
        words_and_regions(model, tokenizer, batch, FIRST)
