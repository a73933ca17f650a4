"""Questions of scenes: which place holds which question, without drawing a pixel, the same in any order and any process."""

import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_shapes import make_shapes

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.questions import PLACES, Asked, SceneQuestions, VisualQuestion, open_questions
from semmim_mini.data.scene_questions import KINDS
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.errors import UserError

SCENES = 20
SHAPES = make_shapes()


def scenes(size: int = SCENES, split: str = "train") -> SceneDataset:
    return SceneDataset(split, size=size, seed=3, resolution=16, cutouts=SHAPES)


def ids(questions: SceneQuestions, indices) -> list[int]:
    return [questions.captions(i)[0].question.question_id for i in indices]


def test_a_source_of_questions_is_a_source_of_pairs():
    questions = SceneQuestions(scenes())
    assert isinstance(questions, Pairs) and len(questions) == SCENES * PLACES
    assert questions.name == "scenes/train/questions"


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_question_has_a_place_and_is_the_truth(split):
    source = scenes(split=split)
    questions = SceneQuestions(source, places=18)  # at least as many as any scene has
    for scene in range(SCENES):
        pair = source[scene]
        places = [questions.captions(place * SCENES + scene)[0] for place in range(18)]
        asked = {(str(q), q.question.answers, q.question.kind) for q in places}
        assert asked == {(q.question, ((q.answer, 1),), q.kind) for q in pair.truth.questions}
        # The number of a question is its place in the truth, whatever the order of places.
        for q in places:
            truth = pair.truth.questions[q.question.question_id - 100 * pair.image_id]
            assert (truth.question, q.question.image_id) == (str(q), pair.image_id)


@settings(max_examples=15)
@given(st.integers(0, SCENES * PLACES - 1))
def test_an_item_is_its_scene_with_its_question(index):
    questions = SceneQuestions(scenes())
    pair, scene = questions[index], scenes()[index % SCENES]
    assert torch.equal(pair.image, scene.image) and pair.image_id == scene.image_id and pair.truth is None
    # From the text alone, by another object that has seen nothing yet: the same question.
    assert pair.captions == SceneQuestions(scenes()).captions(index)
    assert pair.captions[0].question == SceneQuestions(scenes()).captions(index)[0].question


def test_nothing_depends_on_what_was_asked_before_or_on_the_cache():
    forward, backward, cached = SceneQuestions(scenes()), SceneQuestions(scenes()), SceneQuestions(scenes(), cache=True)
    indices = range(len(forward))
    assert ids(forward, indices) == ids(backward, reversed(indices))[::-1]
    for index in (3, 3 + SCENES, 3):
        assert torch.equal(cached[index].image, forward[index].image) and cached[index].captions == forward[index].captions


def test_a_cache_draws_every_scene_once(monkeypatch):
    drawn = []
    draw = SceneDataset.__getitem__
    monkeypatch.setattr(SceneDataset, "__getitem__", lambda self, index: drawn.append(index) or draw(self, index))
    questions = SceneQuestions(scenes(4), cache=True)
    for index in range(len(questions)):
        questions[index]
    assert drawn == [0, 1, 2, 3]


def test_counting_looks_at_no_scene_and_reading_questions_draws_none(monkeypatch):
    questions = SceneQuestions(scenes(10**6))
    monkeypatch.setattr("semmim_mini.data.scenes.draw", lambda *args: pytest.fail("pixels were drawn"))
    questions.captions(7)
    assert len(list(questions.sample(30))) == 30
    monkeypatch.setattr(SceneDataset, "layout", lambda *args: pytest.fail("a layout was made"))
    assert len(questions) == 10**6 * PLACES


def test_pickles_are_small_and_equal():
    questions = SceneQuestions(scenes(), cache=True)
    questions[0], questions[1]
    copy = pickle.loads(pickle.dumps(questions))
    assert not copy._pictures and not copy._questions and copy.cache
    assert torch.equal(copy[25].image, questions[25].image)
    asked = questions.captions(25)[0]
    again = pickle.loads(pickle.dumps(asked))
    assert isinstance(again, Asked) and again == str(asked) and again.question == asked.question == copy.captions(25)[0].question


def test_the_first_places_are_other_scenes_and_the_kinds_take_turns():
    questions = SceneQuestions(scenes(100))
    first = [questions.captions(i)[0].question for i in range(100)]
    assert len({q.image_id for q in first}) == 100
    count = Counter(q.kind for q in first)
    assert set(count) == set(KINDS) and min(count.values()) >= 10
    for scene in range(20):
        own = questions.of_scene(scene)
        kinds = {q.kind for q in own}
        assert {q.kind for q in own[: len(kinds)]} == kinds  # one of each, before a second of any


def test_a_sample_has_no_question_twice():
    questions = SceneQuestions(scenes())
    everything = list(questions.sample(10**9))
    assert len({q.question_id for q in everything}) == len(everything) == sum(len(questions.of_scene(i)) for i in range(SCENES))


@pytest.mark.parametrize("index", [SCENES * PLACES, -SCENES * PLACES - 1])
def test_there_is_an_end(index):
    with pytest.raises(IndexError):
        SceneQuestions(scenes())[index]
    with pytest.raises(IndexError):
        SceneQuestions(scenes()).captions(index)


def test_weights_are_shares_of_people_and_blank_answers_have_none():
    question = VisualQuestion("how many?", (("2", 5), ("two", 3), (" ", 2)), "number", 1, 2)
    assert question.weights == {"2": 0.5, "two": 0.3}
    assert VisualQuestion("how many?", (), "not annotated", 1, 2).weights == {}


@settings(max_examples=12)
@given(st.sampled_from(["train", "val", "test", "test_pictures"]), st.integers(1, 9), st.integers(0, 3))
def test_scenes_are_opened_by_name(split, size, seed):
    questions = open_questions("scenes", split, resolution=16, seed=seed, size=size)
    assert len(questions) == size * PLACES and questions.name == f"scenes/{split}/questions"
    assert (questions.scenes.seed, questions.scenes.resolution) == (seed, 16)


@pytest.mark.parametrize("spec", ["photos", "vqa", "vqa:", "scenes:x", "flickr8k:here"])
def test_unknown_sources_are_refused(spec):
    with pytest.raises(UserError, match=r"is no source of questions; it takes one of these forms: scenes, vqa:QUESTIONS.json"):
        open_questions(spec, "train", resolution=16)
