"""Captions are true, and their mentions say which words name what. Truth is worked out here again, from boxes and pixels alone."""

import re
from itertools import pairwise

import pytest
from scene_shapes import make_shapes

from semmim_mini.data.scene_language import Phrase, article, join
from semmim_mini.data.scenes import SceneDataset

SCENES = 250
NUMBERS = {"two": 2, "three": 3, "four": 4}
COLORS = {"black", "blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow"}
RELATIONS = {
    **dict.fromkeys(("to the left of", "left of", "on the left of"), "left"),
    **dict.fromkeys(("to the right of", "right of", "on the right of"), "right"),
    **dict.fromkeys(("above", "higher than"), "above"),
    **dict.fromkeys(("below", "lower than"), "below"),
    **dict.fromkeys(("behind", "partly hidden by", "half hidden behind"), "behind"),
    **dict.fromkeys(("in front of", "partly covering"), "front"),
    **dict.fromkeys(("next to", "beside", "close to"), "beside"),
}
PLACES = ("at the top left", "at the top right", "at the bottom left", "at the bottom right")
PLACES += ("at the top", "at the bottom", "on the left", "on the right", "in the middle")


@pytest.fixture(scope="module", params=["shapes", "embedded"])
def scenes(request):
    data = SceneDataset("train", cutouts=make_shapes() if request.param == "shapes" else None)
    names = {}
    for concept in data.catalogue.concepts:
        names[concept.name] = {*concept.names, concept.plural}
    return names, [(data[i], data.layout(i)) for i in range(SCENES)]


def told(scenes):
    """Every caption with its mentions and its scene."""
    for pair, layout in scenes[1]:
        for caption, mentions in zip(pair.captions, pair.truth.mentions, strict=True):
            yield caption, mentions, pair.truth.objects, layout


def between(caption, one, other):
    """The words after one mention and before the next (or the end), without is and are."""
    return re.sub(r"^(is|are)\b", "", caption[one.end : other.start if other else None].strip()).strip()


def center(thing):
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2


def ahead(relation, one, other):
    (x1, y1), (x2, y2) = center(one), center(other)
    return {"left": x2 - x1, "right": x1 - x2, "above": y2 - y1, "below": y1 - y2}[relation]


def test_five_different_lower_case_sentences_of_4_to_18_words(scenes):
    for pair, _ in scenes[1]:
        assert len(pair.captions) == len(set(pair.captions)) == 5
        for caption in pair.captions:
            assert caption == caption.lower() and 4 <= len(caption.split()) <= 18
            assert "  " not in caption and " ," not in caption and caption.strip() == caption


def test_one_names_all_and_two_name_a_part(scenes):
    for pair, _ in scenes[1]:
        named = [{i for mention in mentions for i in mention.objects} for mentions in pair.truth.mentions]
        everything = set(range(len(pair.truth.objects)))
        assert everything in named and all(named)
        if len(everything) > 1:
            assert sum(objects < everything for objects in named) >= 2


def test_mentions_name_their_objects_all_of_them_and_no_others(scenes):
    for caption, mentions, objects, _ in told(scenes):
        for mention in mentions:
            words = caption[mention.start : mention.end]
            concepts = {objects[i].concept for i in mention.objects}
            assert len(concepts) == 1
            concept = concepts.pop()
            assert any(words.endswith(name) for name in scenes[0][concept])
            assert set(mention.objects) == {i for i, thing in enumerate(objects) if thing.concept == concept}
            count = next((NUMBERS[word] for word in words.split() if word in NUMBERS), None)
            assert (count or 1) == len(mention.objects) or words.startswith("the ")


def test_nothing_is_named_outside_the_mentions(scenes):
    every_name = {name for names in scenes[0].values() for name in names} - {"orange"}
    for caption, mentions, _, _ in told(scenes):
        rest = list(caption)
        for mention in mentions:
            rest[mention.start : mention.end] = "·" * (mention.end - mention.start)
        assert not set(re.findall(r"[a-z'-]+", "".join(rest))) & every_name


def test_colours_are_the_objects_colours(scenes):
    said = 0
    for caption, mentions, objects, _ in told(scenes):
        for mention, following in zip(mentions, (*mentions[1:], None), strict=True):
            predicate = between(caption, mention, following)
            words = set(caption[mention.start : mention.end].split()) | (set(predicate.split()) if "background" not in predicate else set())
            for color in words & COLORS:
                said += 1
                assert all(color in objects[i].colors for i in mention.objects)
    assert said > SCENES


def test_a_background_is_named_as_it_is_painted(scenes):
    said = 0
    for caption, _, _, layout in told(scenes):
        if found := re.search(r"(on|against) an? (\w+) background", caption):
            said += 1
            kind = {"striped": "stripes", "checked": "checks"}.get(found[2], "plain")
            assert layout.background.kind == kind and (kind != "plain" or layout.background.word == found[2])
    assert said > SCENES / 10


def test_relations_hold_with_a_margin(scenes):
    seen = set()
    for caption, mentions, objects, layout in told(scenes):
        for one, other in pairwise(mentions):
            relation = RELATIONS.get(between(caption, one, other))
            if relation is None:
                continue
            seen.add(relation)
            for i, j in ((i, j) for i in one.objects for j in other.objects):
                assert relation_holds(relation, i, j, objects, layout), (caption, objects)
    assert seen == set(RELATIONS.values())


def relation_holds(relation, i, j, objects, layout):
    if relation in ("behind", "front"):
        back, front = (i, j) if relation == "behind" else (j, i)
        return back < front and 0.15 <= layout.hidden[back, front] <= 0.60
    if relation == "beside":
        (l1, t1, r1, b1), (l2, t2, r2, b2) = objects[i].box, objects[j].box
        return max(l1, l2) - min(r1, r2) <= 0.12 and min(b1, b2) > max(t1, t2) and layout.hidden[i, j] + layout.hidden[j, i] < 0.05
    return ahead(relation, objects[i], objects[j]) > 0.15


def test_places_are_where_the_words_say(scenes):
    seen, first = set(), 0
    for caption, mentions, objects, _ in told(scenes):
        if place := next((place for place in PLACES if caption.startswith(f"{place} there")), None):
            first += 1
            assert all(stands(place, center(objects[i])) for i in mentions[0].objects)
        for mention, following in zip(mentions, (*mentions[1:], None), strict=True):
            words = re.sub(r"(,| and| , and there (is|are))$", "", between(caption, mention, following)).strip(" ,")
            place = next((place for place in PLACES if words == place or words.startswith((f"{place} on a", f"{place} against a"))), None)
            if place:
                seen.add(place)
                assert all(stands(place, center(objects[i])) for i in mention.objects)
    assert seen == set(PLACES) and first > 5


def stands(place, at):
    x, y = at
    across, down = ("left" in place, "right" in place), ("top" in place, "bottom" in place)
    return across == (x < 0.4, x > 0.6) and down == (y < 0.4, y > 0.6)


def test_every_left_and_right_was_checked_above(scenes):
    """No caption says left or right in a form that the two tests before would overlook."""
    known = sorted((*RELATIONS, *PLACES), key=len, reverse=True)
    for caption, _, _, _ in told(scenes):
        rest = caption
        for words in known:
            rest = rest.replace(words, "")
        assert not re.search(r"\b(left|right|top|bottom|behind|above|below)\b", rest), caption


def test_a_good_share_may_be_mirrored(scenes):
    sided = [bool(re.search(r"\b(left|right)\b", caption)) for caption, _, _, _ in told(scenes)]
    assert 0.1 < sum(sided) / len(sided) < 0.67


def test_verbs_and_articles_agree(scenes):
    for caption, mentions, _, _ in told(scenes):
        for verb in re.finditer(r"\b(there|here) (is|are) ", caption):
            following = next(mention for mention in mentions if mention.start == verb.end())
            assert (verb[2] == "are") == (len(following.objects) > 1)
        assert not re.search(r"\ba [aeio]|\ban (?!hour)[^aeiou]", caption), caption


def test_join_counts_its_own_characters():
    caption = join(["there is", Phrase("a dog", (0,)), ",", "and", Phrase("two red cars", (1, 2))])
    assert caption.text == "there is a dog, and two red cars"
    assert [(caption.text[m.start : m.end], m.objects) for m in caption.mentions] == [("a dog", (0,)), ("two red cars", (1, 2))]


@pytest.mark.parametrize("words", ["an hourglass", "a unicorn", "an owl", "a house", "an orange unicorn", "an umbrella"])
def test_articles_by_sound(words):
    assert article(words.split(" ", 1)[1]) == words.split()[0]


def test_long_names_still_make_five_captions():
    # No two names share a word, or the things would never meet.
    things = [(name, (name,), f"{name}s") for name in (f"p{i} of q{i}" for i in range(12))]
    data = SceneDataset("train", size=80, cutouts=make_shapes(things))
    for index in range(80):
        captions = data.captions(index)
        assert len(set(captions)) == 5 and all(4 <= len(caption.split()) <= 18 for caption in captions)
