"""Held-out batches: the first pairs in order, one caption each by turns, and neighbours' captions that are really others'."""

import pytest
import torch

from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.instruments.held_out import held_out_batches


def test_captions_are_read_by_turns(look, painted, words):
    (batch,) = look(4)
    assert batch.chosen == [0, 1, 0, 1]
    ids, mask = tokenize(words, ["a dog on grass", "a owl on grass", "a owl on grass", "a drum on grass"], 8)
    assert torch.equal(batch.input_ids, ids) and torch.equal(batch.attention_mask, mask)
    assert batch.image_ids.tolist() == [0, 1, 2, 3] and [pair.image_id for pair in batch.pairs] == [0, 1, 2, 3]


def test_both_views_are_the_whole_clean_picture(look, painted):
    (batch,) = look(3)
    assert batch.images.shape == (2, 3, 3, 16, 16) and torch.equal(batch.images[0], batch.images[1])
    pixels, truth = CenterView(16, with_truth=True)(painted(3)[2])
    assert torch.equal(batch.images[0, 2], pixels) and torch.equal(batch.object_maps[2], truth)


# A pair alone in the last batch would be its own neighbour: a wrong caption that is right.
@pytest.mark.parametrize(("size", "sizes"), [(8, [3, 3, 2]), (7, [3, 4]), (6, [3, 3]), (4, [4]), (2, [2]), (1, [1])])
def test_every_pair_is_there_once_and_none_alone(look, size, sizes):
    batches = look(size, batch=3)
    assert [len(b.pairs) for b in batches] == [len(b.input_ids) for b in batches] == sizes
    assert [pair.image_id for b in batches for pair in b.pairs] == list(range(size))


def test_no_more_than_asked_for_and_no_more_than_there_are(painted, words):
    sizes = dict(resolution=16, max_length=8, batch=4)
    assert sum(len(b.pairs) for b in held_out_batches(painted(9), words, count=6, **sizes)) == 6
    assert sum(len(b.pairs) for b in held_out_batches(painted(5), words, count=100, **sizes)) == 5


def test_every_wrong_caption_is_another_one(look):
    for batch in look(13, batch=4):
        wrong = batch.with_captions_of_neighbours()
        assert torch.equal(wrong.images, batch.images) and wrong.pairs is batch.pairs
        assert (wrong.input_ids != batch.input_ids).any(dim=1).all()


def test_the_wrong_caption_is_the_next_that_reads_differently(look):
    (batch,) = look(4)  # dog, owl, owl, drum: the second picture's next neighbour is described alike
    assert torch.equal(batch.with_captions_of_neighbours().input_ids, batch.input_ids[[1, 3, 3, 0]])


def test_where_all_captions_are_alike_none_is_wrong(look):
    (batch,) = look(3)
    batch.input_ids = batch.input_ids[:1].repeat(3, 1)
    assert torch.equal(batch.with_captions_of_neighbours().input_ids, batch.input_ids)


def test_padding_goes_with_its_caption(look):
    (batch,) = look(3)  # dog, owl, owl
    batch.attention_mask = torch.arange(batch.input_ids.shape[1]) < torch.tensor([[3], [4], [5]])
    assert batch.with_captions_of_neighbours().attention_mask.sum(dim=1).tolist() == [4, 3, 3]


def test_photos_have_no_truth(painted, words):
    class Photos(painted):
        def __getitem__(self, index):
            from dataclasses import replace

            return replace(super().__getitem__(index), truth=None)

    (batch,) = held_out_batches(Photos(3), words, resolution=16, max_length=8, count=3)
    assert batch.object_maps == [None, None, None]
