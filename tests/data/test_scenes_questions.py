"""Every question has one right answer, found again here from the objects alone."""

import re
from collections import Counter

import pytest
from scene_shapes import make_shapes

from semmim_mini.data.scenes import SceneDataset

SCENES = 250
NUMBERS = ["zero", "one", "two", "three", "four"]
WHERE = {
    "to the left of": "left",
    "to the right of": "right",
    "above": "above",
    "below": "below",
    "behind": "behind",
    "in front of": "front",
}
RELATION = "|".join(WHERE)


@pytest.fixture(scope="module", params=["shapes", "embedded"])
def scenes(request):
    data = SceneDataset("val", cutouts=make_shapes() if request.param == "shapes" else None)
    plurals = {concept.plural: concept.name for concept in data.catalogue.concepts}
    return plurals, [(data[i].truth, data.layout(i)) for i in range(SCENES)]


def asked(scenes, kind):
    return [(q.question, q.answer, truth.objects, layout) for truth, layout in scenes[1] for q in truth.questions if q.kind == kind]


def center(thing):
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2


def the(objects, concept):
    """The index of the one object that "the …" can mean."""
    (index,) = [i for i, thing in enumerate(objects) if thing.concept == concept]
    return index


def holds(relation, i, j, objects, layout):
    """Without any margin: what a strict judge could still call true."""
    (x1, y1), (x2, y2) = center(objects[i]), center(objects[j])
    if relation in ("behind", "front"):
        back, front = (i, j) if relation == "behind" else (j, i)
        return layout.hidden[back, front] > 0.03
    return {"left": x1 < x2, "right": x1 > x2, "above": y1 < y2, "below": y1 > y2}[relation]


def test_every_kind_is_asked(scenes):
    kinds = Counter(question.kind for truth, _ in scenes[1] for question in truth.questions)
    assert set(kinds) == {"what", "where", "how many", "which colour", "yes/no"} and min(kinds.values()) > SCENES / 2
    assert all(len(truth.questions) >= 3 for truth, _ in scenes[1])
    assert all(type(q.answer) is str and q.question.endswith("?") for truth, _ in scenes[1] for q in truth.questions)


def test_no_question_is_asked_twice(scenes):
    for truth, _ in scenes[1]:
        assert len({question.question for question in truth.questions}) == len(truth.questions)


def test_what(scenes):
    for question, answer, objects, layout in asked(scenes, "what"):
        relation, concept = re.fullmatch(rf"what is ({RELATION}) the (.+)\?", question).groups()
        here = the(objects, concept)
        found = [objects[i].concept for i in range(len(objects)) if i != here and holds(WHERE[relation], i, here, objects, layout)]
        assert found == [answer]


def test_where(scenes):
    for question, answer, objects, _ in asked(scenes, "where"):
        concept = re.fullmatch(r"(?:where|on which side) is the (.+)\?", question)[1]
        x, y = center(objects[the(objects, concept)])
        assert ("left" in answer) == (x < 0.4) and ("right" in answer) == (x > 0.6)
        if question.startswith("where"):
            assert ("top" in answer) == (y < 0.4) and ("bottom" in answer) == (y > 0.6)


def test_how_many(scenes):
    plurals, _ = scenes
    for question, answer, objects, _ in asked(scenes, "how many"):
        plural = re.fullmatch(r"how many (.+) are there\?", question)[1]
        count = len(objects) if plural == "things" else sum(thing.concept == plurals[plural] for thing in objects)
        assert NUMBERS[count] == answer
    assert {answer for _, answer, _, _ in asked(scenes, "how many")} == set(NUMBERS)


def test_which_colour(scenes):
    plurals, _ = scenes
    for question, answer, objects, layout in asked(scenes, "which colour"):
        name = re.fullmatch(r"which colour (?:is|are) the (.+)\?", question)[1]
        if name == "background":
            assert layout.background.kind == "plain" and layout.background.word == answer
            continue
        meant = [thing for thing in objects if thing.concept in (name, plurals.get(name))]
        assert meant and all(thing.colors == (answer,) for thing in meant)


def test_yes_and_no(scenes):
    plurals, _ = scenes
    answers = {"presence": Counter(), "relation": Counter(), "colour": Counter()}
    for question, answer, objects, layout in asked(scenes, "yes/no"):
        if found := re.fullmatch(r"(?:is there an?|are there any) (.+)\?", question):
            form, truth = "presence", any(thing.concept in (found[1], plurals.get(found[1])) for thing in objects)
        elif found := re.fullmatch(rf"is the (.+) ({RELATION}) the (.+)\?", question):
            form, truth = "relation", holds(WHERE[found[2]], the(objects, found[1]), the(objects, found[3]), objects, layout)
        else:
            found = re.fullmatch(r"is the (.+) (\w+)\?", question)
            form, truth = "colour", found[2] in objects[the(objects, found[1])].colors
        answers[form][answer] += 1
        assert answer == ("yes" if truth else "no"), question
    for form, counts in answers.items():
        assert 0.38 < counts["yes"] / counts.total() < 0.62, form


def test_absent_things_have_no_name_in_common_with_present_ones(scenes):
    for question, answer, objects, _ in asked(scenes, "yes/no"):
        found = re.fullmatch(r"is there an? (.+)\?", question)
        if found and answer == "no":
            assert not set(found[1].split()) & {word for thing in objects for word in thing.concept.split()} - {"of"}
