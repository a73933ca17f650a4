"""VQA v2: the official files in small, and every mistake they can hold."""

import json
import logging
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.questions import open_questions
from semmim_mini.data.vqa_files import VqaQuestions
from semmim_mini.errors import UserError

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def note(number: int, *answers: str, kind: str = "other", start: str = "what") -> dict:
    given = [{"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(answers, start=1)]
    return {"question_id": number, "question_type": start, "answer_type": kind, "answers": given, "multiple_choice_answer": answers[0]}


def ask(number: int, image: int, text: str) -> dict:
    return {"question_id": number, "image_id": image, "question": text}


QUESTIONS = [ask(90, 9, "What  is it?"), ask(91, 9, "How many?"), ask(250, 25, "Is it red?")]
NOTES = [note(250, *["yes"] * 9, "no", kind="yes/no"), note(90, *["bus"] * 4, *["a bus"] * 6), note(91, *["2"] * 10, kind="number")]


def write(folder, subset: str = "train2014", questions=QUESTIONS, notes=NOTES, pictures=(9, 25)) -> str:
    """The files of one split; returns the source's spec."""
    named = folder / f"v2_OpenEnded_mscoco_{subset}_questions.json", folder / f"v2_mscoco_{subset}_annotations.json"
    named[0].write_text(json.dumps({"info": {}, "data_subtype": subset, "questions": questions}))
    if notes is not None:
        named[1].write_text(json.dumps({"info": {}, "annotations": notes}))
    where = subset.replace("-dev", "")
    (folder / "images" / where).mkdir(parents=True, exist_ok=True)
    for image_id in pictures:
        Image.new("RGB", (12, 8), (image_id, 0, 0)).save(folder / "images" / where / f"COCO_{where}_{image_id:012d}.jpg")
    return f"vqa:{named[0]}:{named[1]}:{folder / 'images'}"


def opened(spec: str, split: str = "train", **options) -> VqaQuestions:
    return open_questions(spec, split, resolution=16, **options)


def test_questions_with_pictures_and_answers(tmp_path):
    questions = opened(write(tmp_path))
    assert isinstance(questions, Pairs) and len(questions) == 3 and questions.name == "vqa/train2014"
    assert [str(questions.captions(i)[0]) for i in range(3)] == ["What is it?", "How many?", "Is it red?"]
    first, _, last = (questions[i] for i in range(3))
    assert (first.image_id, last.image_id, first.name) == (9, 25, "COCO_train2014_000000000009.jpg")
    assert first.image.shape == (3, 8, 12) and abs(int(last.image[0].float().mean()) - 25) <= 2
    question = first.captions[0].question
    assert question.answers == (("a bus", 6), ("bus", 4)) and question.weights == {"a bus": 0.6, "bus": 0.4}
    assert (question.question_id, question.kind, question.question_type) == (90, "other", "what")
    assert last.captions[0].question.kind == "yes/no"
    again = pickle.loads(pickle.dumps(questions))
    assert again.captions(1)[0].question == questions.captions(1)[0].question


def test_pictures_may_lie_in_one_folder(tmp_path):
    write(tmp_path)
    files = [tmp_path / f"v2_{name}.json" for name in ("OpenEnded_mscoco_train2014_questions", "mscoco_train2014_annotations")]
    assert len(VqaQuestions(*files, tmp_path / "images" / "train2014")) == 3


@pytest.mark.parametrize(
    "split, subset, annotated", [("val", "val2014", True), ("test", "test2015", False), ("test-dev", "test-dev2015", False)]
)
def test_the_split_replaces_the_one_in_the_names(tmp_path, split, subset, annotated):
    write(tmp_path, subset, QUESTIONS[:2], NOTES if annotated else None, pictures=[9])
    questions = opened(write(tmp_path), split)
    assert len(questions) == 2 and questions[0].name == f"COCO_{subset.replace('-dev', '')}_000000000009.jpg"
    question = questions[0].captions[0].question
    assert (question.answers, question.kind) == ((("a bus", 6), ("bus", 4)), "other") if annotated else ((), "not annotated")


def test_a_sample_is_spread_over_the_file(tmp_path):
    questions = opened(write(tmp_path))
    assert [q.question_id for q in questions.sample(2)] == [90, 250]
    assert [q.question_id for q in questions.sample(1)] == [90] and len(list(questions.sample(99))) == 3


# Bad pictures -----------------------------------------------------------------------------------------------------------


def test_questions_about_missing_pictures_are_left_out_and_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        questions = opened(write(tmp_path, pictures=[25]), max_bad_share=0.5)
    assert [str(questions.captions(i)[0]) for i in range(len(questions))] == ["Is it red?"]
    assert "COCO_train2014_000000000009.jpg' (missing)" in caplog.text
    with pytest.raises(UserError, match=r"1 of 2 pictures cannot be used, above data.max_bad_share=0.01"):
        opened(write(tmp_path, pictures=[]))


def test_an_unreadable_picture_gives_way_to_another_with_its_own_question(tmp_path):
    spec = write(tmp_path)
    (tmp_path / "images" / "train2014" / "COCO_train2014_000000000025.jpg").write_bytes(b"half a picture")
    questions = opened(spec, max_bad_share=0.5)
    pair, passed = questions.read(2)
    assert passed == ["COCO_train2014_000000000025.jpg"] and pair.image_id == 9 == pair.captions[0].question.image_id
    assert questions.read(2)[0].captions == pair.captions == ("What is it?",)
    assert questions.read(0)[1] == []


# Bad files --------------------------------------------------------------------------------------------------------------


def refused(tmp_path, message: str, **files) -> None:
    with pytest.raises(UserError, match=message):
        opened(write(tmp_path, **files))


def test_a_question_without_annotation_is_named(tmp_path):
    refused(tmp_path, r"annotations.json has no annotation for question 91 of .*questions.json; take both of one split", notes=NOTES[:2])


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"question_id": "x", "image_id": 9, "question": "?"}, r"questions\[0\] has question_id 'x'; VQA v2 has a value of type int"),
        ({"question_id": 1, "question": "?"}, r"questions\[0\] has image_id None"),
        ({"question_id": 1, "image_id": 9, "question": ["?"]}, r"questions\[0\] has question \['\?'\]"),
        ("what?", r"questions\[0\] has question_id None"),
        ({"question_id": 90, "image_id": 2**63, "question": "?"}, r"question 90 has image_id a number of 64 bits, none of COCO's"),
        ({"question_id": 90, "image_id": -1, "question": "?"}, r"question 90 has image_id -1, none of COCO's"),
    ],
)
def test_malformed_questions_are_named(tmp_path, entry, message):
    refused(tmp_path, message, questions=[entry])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"answers": []}, r"annotations\[0\] has answers \[\], not objects with a text 'answer'"),
        ({"answers": ["bus"]}, r"annotations\[0\] has answers \['bus'\]"),
        ({"answers": [{"answer": 3}]}, r"annotations\[0\] has answers"),
        ({"answers": "bus"}, r"annotations\[0\] has answers 'bus'; VQA v2 has a value of type list there"),
        ({"answer_type": None}, r"annotations\[0\] has answer_type None"),
    ],
)
def test_malformed_annotations_are_named(tmp_path, change, message):
    refused(tmp_path, message, notes=[NOTES[0] | change])


def test_half_characters_are_left_out(tmp_path):
    """As lone surrogates of JSON are, which no tokenizer takes."""
    question = opened(
        write(tmp_path, questions=[QUESTIONS[0] | {"question": "what\ud800 bus?"}], notes=[note(90, "re\ud83dd", "red")])
    ).questions[0]
    assert question.text == "what bus?" and question.answers == (("red", 2),)


def test_empty_files_are_refused(tmp_path):
    refused(tmp_path, "has no list 'questions' with anything in it", questions=[])
    refused(tmp_path, "has no list 'annotations' with anything in it", notes=[])


def test_missing_files_and_folders_are_named(tmp_path):
    refused(tmp_path, r"the annotations file .*train2014_annotations.json cannot be read: No such file", notes=None)
    spec = write(tmp_path)
    with pytest.raises(UserError, match=r"the questions file .*val2014_questions.json cannot be read"):
        opened(spec, "val")
    with pytest.raises(UserError, match=r"the picture folder .*nowhere does not exist"):
        opened(spec.replace("images", "nowhere"))


@pytest.mark.parametrize("subtype", ["abstract_v002", None, 3])
def test_other_pictures_than_cocos_are_refused(tmp_path, subtype):
    spec = write(tmp_path)
    (tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json").write_text(json.dumps({"data_subtype": subtype, "questions": QUESTIONS}))
    with pytest.raises(UserError, match=r"has data_subtype .*, none of test-dev2015, test2015, train2014, val2014"):
        opened(spec)


@pytest.mark.parametrize(
    "spec, split, message",
    [
        ("vqa:questions.json", "train", "is incomplete; write it as vqa:QUESTIONS.json:ANNOTATIONS.json:IMAGES_DIR"),
        ("vqa:a_train2014.json:b.json:images", "train", "the name b.json says no split; keep the official names"),
        ("vqa:a_train2014.json:b_train2014.json:images", "test_pictures", "VQA v2 has no split 'test_pictures'; choose one of train, val"),
    ],
)
def test_impossible_sources_are_refused(spec, split, message):
    with pytest.raises(UserError, match=message):
        opened(spec, split)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["questions", "question_id", "image_id", "question"]), inner)
    ),
    max_leaves=8,
)


@FUZZ
@given(content=JSON, broken=st.binary(max_size=20), whole=st.booleans())
def test_whatever_the_file_holds_the_error_is_for_people(tmp_path, content, broken, whole):
    spec = write(tmp_path)
    file = tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json"
    file.write_bytes(json.dumps(content).encode() if whole else broken)
    with pytest.raises(UserError, match=r"train2014_questions.json"):
        opened(spec)


@FUZZ
@given(st.lists(st.sampled_from(["yes", "no", "Yes", " ", "two"]), min_size=1, max_size=10))
def test_counts_keep_every_answer(tmp_path, answers):
    question = opened(write(tmp_path, questions=QUESTIONS[:1], notes=[note(90, *answers)]))[0].captions[0].question
    assert sorted(answer for answer, count in question.answers for _ in range(count)) == sorted(answers)
    assert sum(question.weights.values()) == pytest.approx(sum(map(bool, map(str.strip, answers))) / len(answers))
