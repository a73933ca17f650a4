"""Pictures of notebook 10: the numbers that they claim, on captions and decoders whose numbers are known."""

import pytest
import torch

from semmim_mini.course.captioning_pictures import beside_references, captioned_scenes, judged, perplexities, rarity, word_by_word
from semmim_mini.course.decoding_pictures import cached_steps, nuclei, word_tree
from semmim_mini.course.pictures import png
from semmim_mini.data.sources import open_pairs
from semmim_mini.figures.style import GREEN, ORANGE, WIDTH


@pytest.fixture(scope="module")
def pairs():
    scenes = open_pairs("scenes", "test", resolution=32, size=5)
    return [scenes[i] for i in range(5)]


def drawn_well(drawn) -> bool:
    return drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def title(drawn) -> str:
    return " ".join(text.get_text() for text in drawn.figure.texts)


def test_perplexity_of_a_caption_by_hand():
    drawn = word_by_word(torch.zeros(3, 16, 16), ["a", "[SEP]"], right=[0.5, 0.5], wrong=[0.25, 0.25])
    assert drawn.number == pytest.approx({"right": 2.0, "wrong": 4.0}) and drawn_well(drawn)
    assert "2.0 with its image, 4.0 with another one" in title(drawn)


def test_perplexities_name_the_least():
    drawn = perplexities({"all alike": 900.0, "frequencies": 60.0, "decoder": 1.0})  # no doubt at all has a bar, too
    assert drawn.number["frequencies"] == 60.0 and "decoder: 1.0" in title(drawn) and drawn_well(drawn)


def test_true_words_are_green_and_others_orange(pairs):
    thing, colour = pairs[0].truth.objects[0].concept, pairs[0].truth.objects[0].colors[0]
    caption = f"a {colour} {thing}, and a zeppelin"
    assert judged(caption, pairs[0]) == [("a ", None), (colour, GREEN), (" ", None), (f"{thing},", GREEN), (" and a zeppelin", None)]
    elsewhere = next(pair for pair in pairs if thing not in {other.concept for other in pair.truth.objects})
    assert (f"{thing},", ORANGE) in judged(caption, elsewhere)


def test_captions_of_the_data_are_true(pairs):
    drawn = captioned_scenes(torch.zeros(5, 3, 16, 16), [pair.captions[0] for pair in pairs], pairs)
    assert drawn.number == {"thing": 1.0, "colour": 1.0} and drawn_well(drawn)


def test_scores_keep_their_names():
    table = {"BLEU-4": {"model": 0.1, "constant": 0.2}, "CIDEr": {"model": 0.0, "constant": 0.0}}
    drawn = beside_references(table, "Scores")
    assert drawn.number == {"BLEU-4, model": 0.1, "BLEU-4, constant": 0.2, "CIDEr, model": 0.0, "CIDEr, constant": 0.0}
    assert drawn_well(drawn)


def test_rarity_names_the_ends():
    drawn = rarity({"a": 0.0, "bus": 3.0}, images=20)
    assert drawn.number == {"lightest": 0.0, "heaviest": 3.0} and "“bus” weighs 3.0, “a” 0.0" in title(drawn) and drawn_well(drawn)


def test_a_tree_by_hand():
    drawn = word_tree({"a": (0.6, {"bus": 0.5, "dog": 0.5}), "red": (0.4, {"bus": 1.0})})
    assert drawn.number == pytest.approx({"greedy": 0.3, "best": 0.4}) and drawn_well(drawn)
    same = word_tree({"a": (0.6, {"bus": 0.9, "dog": 0.1}), "red": (0.4, {"bus": 1.0})})
    assert same.number == pytest.approx({"greedy": 0.54, "best": 0.54})


def test_a_nucleus_counts_the_word_that_reaches_it():
    words = [f"word{i}" for i in range(12)]
    sure, unsure = [1.0] + [0.0] * 11, [0.5, 0.3, 0.1] + [0.1 / 9] * 9
    drawn = nuclei({"sure": (words, sure), "unsure": (words, unsure)}, top_p=0.85)
    assert drawn.number == {"sure": 1.0, "unsure": 3.0} and drawn_well(drawn)


def test_a_cache_saves_a_triangle():
    drawn = cached_steps(12)
    assert drawn.number == {"without": 78.0, "with": 12.0} and drawn_well(drawn)
