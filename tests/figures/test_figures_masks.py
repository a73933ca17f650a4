"""Masks: what is drawn is what is measured, and colours follow the caption."""

import numpy as np
import pytest
import torch

from semmim_mini.data.pairs import Mention
from semmim_mini.data.scene_truth import named_patches
from semmim_mini.figures.masks import (
    Masks,
    caption_runs,
    follow,
    masks_for_two_captions,
    masks_of,
    named_objects,
    text_guided_masks,
)
from semmim_mini.instruments.held_out import caption_twins
from semmim_mini.instruments.mask_quality import mask_quality, named_and_objects
from semmim_mini.training.step import SemMIMStep

PATCH = 8


@pytest.fixture(scope="module")
def step(model):
    return SemMIMStep(model)


def test_numbers_are_the_instruments(step, batches, scenes, check):
    batch = batches(scenes)[0]
    drawn = text_guided_masks(step, batch)
    check(drawn)
    assert drawn.number == mask_quality(step, [batch])


def test_the_masks_drawn_are_the_masks_measured(step, batches, scenes):
    batch = batches(scenes)[0]
    masks, named = masks_of(step, batch), named_and_objects(batch, PATCH)[0].numpy()
    measured = mask_quality(step, [batch])
    assert named[masks.text].mean() == pytest.approx(measured["named_text"])
    assert named[masks.random].mean() == pytest.approx(measured["named_random"])
    assert (masks.text.sum(axis=1) == 4).all()  # floor(0.3 · 16)


def test_photos_have_masks_without_truth(step, batches, photos, check):
    drawn = text_guided_masks(step, batches(photos)[0])
    check(drawn)
    assert drawn.number == {"masked_share": 4 / 16}


def test_two_captions_of_scenes_and_photos(step, tokenizer, batches, scenes, photos, check):
    drawn = masks_for_two_captions(step, tokenizer, batches(scenes)[1])
    check(drawn)
    assert set(drawn.number) == {"own", "other", "overlap", "overlap_random"}
    drawn = masks_for_two_captions(step, tokenizer, batches(photos)[0])
    check(drawn)
    assert set(drawn.number) == {"overlap", "overlap_random"}


def test_photos_with_one_caption_borrow_the_neighbours(step, tokenizer, batches, photos, check):
    from copy import copy

    single = copy(photos)
    single._captions = ("a man and his dog",)
    check(masks_for_two_captions(step, tokenizer, batches(single)[0]))


def test_twins_name_different_things(tokenizer, batches, scenes):
    one, two = caption_twins(batches(scenes)[1], tokenizer, 20)
    assert len(one.pairs) == len(two.pairs) == 3  # of four; of the first batch, none
    for pair, a, b in zip(one.pairs, one.chosen, two.chosen, strict=True):
        named = [{i for m in pair.truth.mentions[c] for i in m.objects} for c in (a, b)]
        assert named[0] and named[1] and not named[0] & named[1]
    assert not torch.equal(one.input_ids, two.input_ids) if one.input_ids.shape == two.input_ids.shape else True


def test_a_mask_that_follows_the_words_by_hand(tokenizer, batches, scenes):
    one, two = caption_twins(batches(scenes)[1], tokenizer, 20)
    named = [named_and_objects(twin, PATCH)[0].numpy() for twin in (one, two)]
    only = [named[0] & ~named[1], named[1] & ~named[0]]
    right = follow(one, two, [Masks(None, mask, None) for mask in only], PATCH)
    assert (right["own"], right["other"], right["overlap"]) == (1, 0, 0)
    wrong = follow(one, two, [Masks(None, mask, None) for mask in reversed(only)], PATCH)
    assert (wrong["own"], wrong["other"]) == (0, 1)
    blind = follow(one, two, [Masks(None, only[0] | only[1], None)] * 2, PATCH)
    assert blind["own"] == pytest.approx(blind["other"]) and blind["overlap"] == 1


def test_random_overlap_by_hand(tokenizer, batches, scenes):
    one, two = caption_twins(batches(scenes)[0], tokenizer, 20)
    half = np.zeros((len(one.pairs), 16), dtype=bool)
    half[:, :8] = True
    # Two random halves share a quarter of all patches, of the three quarters that either hides.
    assert follow(one, two, [Masks(None, half, None)] * 2, PATCH)["overlap_random"] == pytest.approx(1 / 3)


def test_words_and_outlines_share_their_colour(batches, scenes):
    for batch in batches(scenes):
        for row, (pair, chosen) in enumerate(zip(batch.pairs, batch.chosen, strict=True)):
            runs, caption = caption_runs(batch, row), pair.captions[chosen]
            mentions: tuple[Mention, ...] = pair.truth.mentions[chosen]
            assert "".join(text for text, _ in runs) == caption
            coloured = [(text, colour) for text, colour in runs if colour is not None]
            outlined = named_objects(batch, row, PATCH)
            assert [text for text, _ in coloured] == [caption[m.start : m.end] for m in mentions]
            assert [colour for _, colour in coloured] == [colour for _, colour in outlined]
            union = np.any([inside for inside, _ in outlined], axis=0).flatten()
            np.testing.assert_array_equal(union, named_patches(pair.truth, chosen, PATCH, batch.object_maps[row]).numpy())
