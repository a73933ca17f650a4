"""The course's pictures: small PNGs, the same bytes every time, and the numbers that they claim."""

import io

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from semmim_mini.course.image_encoder_pictures import attention_on, cls_attention_maps, head_maps, image_as_patches, trunk_and_branches
from semmim_mini.course.pairs_pictures import (
    coloured_caption,
    concept_pairs,
    hidden_words,
    scene_gallery,
    scene_with_captions,
    truth_of_a_scene,
    views_of_a_scene,
    who_meets_whom,
)
from semmim_mini.course.pictures import SHOWN, picture, png
from semmim_mini.course.welcome import minute_config
from semmim_mini.data.scene_splits import pair_split
from semmim_mini.data.scene_truth import named_patches
from semmim_mini.data.sources import open_pairs
from semmim_mini.data.text import Vocabulary, mask_tokens, tokenize, train_wordpiece
from semmim_mini.data.views import TwoViews
from semmim_mini.figures.style import WIDTH


@pytest.fixture(scope="module")
def scenes():
    return open_pairs("scenes", "train", resolution=32, size=8)


def line():
    figure = Figure(figsize=(3, 1))
    figure.add_subplot().plot([1, 2])
    return figure


def test_pictures_are_small_and_always_the_same():
    assert png(line()) == png(line())
    opened = Image.open(io.BytesIO(png(line())))
    assert opened.mode == "P" and set(opened.info) <= {"transparency"}  # neither date nor version


def test_a_shown_picture_has_words_and_a_width():
    data, metadata = picture(line(), "A line.")._repr_mimebundle_()
    assert metadata["image/png"] == {"width": 3 * SHOWN, "alt": "A line."} and "image/png" in data


def test_pictures_of_pairs(scenes):
    pair = scenes[3]
    truth = truth_of_a_scene(pair, 8, (1, 4))
    assert truth.number["second"] == float(named_patches(pair.truth, 4, 8).float().mean())
    views = TwoViews(32, with_truth=True)(pair, pair.captions[0], torch.Generator().manual_seed(0))
    drawn = [scene_gallery(scenes, rows=1), scene_with_captions(pair), truth, views_of_a_scene(pair, 0, views)]
    assert all(d.figure.get_figwidth() == WIDTH and len(png(d.figure)) > 1000 for d in drawn)


def test_a_caption_keeps_its_words_when_coloured(scenes):
    for i in range(8):
        for index, caption in enumerate(scenes[i].captions):
            runs = coloured_caption(scenes[i], index)
            assert "".join(text for text, _ in runs) == caption
            assert sum(colour is not None for _, colour in runs) == len(scenes[i].truth.mentions[index])


def test_the_matrix_of_splits_counts_each_pair_once():
    names = ["bear", "cat", "dog", "elephant", "fish", "guitar"]
    owners = [pair_split(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    number = who_meets_whom(names).number
    assert number == pytest.approx({split: owners.count(split) / 15 for split in ("train", "val", "test")})


def test_pairs_of_concepts_are_those_of_the_scene(scenes):
    for i, found in enumerate(concept_pairs(scenes, 8)):
        names = {thing.concept for thing in scenes[i].truth.objects}
        assert {name for both in found for name in both} == (names if len(names) > 1 else set())
        assert len(found) == len(names) * (len(names) - 1) // 2 and all(a < b for a, b in found)


def test_hidden_words_counts_what_is_asked(scenes):
    captions = [caption for i in range(8) for caption in scenes.captions(i)]
    tokenizer = train_wordpiece(captions, 300)
    ids, words = tokenize(tokenizer, captions[:3], 20)
    masked, labels = mask_tokens(ids, words, Vocabulary.of(tokenizer), 0.3, torch.Generator().manual_seed(0))
    assert hidden_words(tokenizer, ids, masked, labels).number["asked"] == pytest.approx(int((labels != -100).sum()) / int(words.sum()))


def test_pictures_of_the_encoder():
    images, objects = torch.zeros(2, 3, 16, 16), torch.tensor([[True, False, False, False]]).repeat(2, 1)
    before, after = torch.full((2, 4), 0.25), torch.tensor([[0.4, 0.1, 0.1, 0.2]]).repeat(2, 1)
    number = cls_attention_maps(images, objects, before, after, 8).number
    assert number == pytest.approx({"before": 0.25, "after": 0.5, "objects": 0.25})
    assert attention_on(after, objects) == pytest.approx(0.5)
    assert image_as_patches(images[0], 8, torch.tensor([True, False, False, False])).number == {"n": 4.0, "hidden": 0.25}
    assert trunk_and_branches(4, 2).number == {"shared": 6.0, "apart": 8.0}


def test_attention_over_all_keys_alike_is_spread_over_all_of_them():
    weights = torch.full((2, 5, 5), 0.2)
    weights[1] = torch.eye(5)
    assert head_maps(torch.zeros(3, 16, 16), weights, query=0, patch=8).number == pytest.approx({"least_keys": 1.0, "most_keys": 5.0})


def test_the_run_of_the_welcome_has_every_term_and_time_to_see_it():
    config = minute_config()
    weights = {name: term for name, term in vars(config.losses).items() if hasattr(term, "weight") and term.weight > 0}
    assert set(weights) == {"itc", "itm", "mlm", "consensus", "mim", "caption"}
    assert all(term.start <= 0.5 for term in weights.values()) and config.run.steps <= 100
