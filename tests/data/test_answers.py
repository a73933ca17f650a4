"""Lists of answers: made by counting, written and read."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.data.answers import OFTEN, AnswerList, make_answer_list, read_answer_list
from semmim_mini.data.questions import VisualQuestion
from semmim_mini.errors import UserError


class Given:
    """Questions that have only answers: (kind, answers) each."""

    name = "given/train"

    def __init__(self, *rows):
        self.rows = [VisualQuestion("?", answers, kind, number, 0) for number, (kind, answers) in enumerate(rows)]

    def sample(self, count: int):
        return iter(self.rows[:count])


GIVEN = Given(
    ("number", (("2", 6), ("two", 4))),
    ("number", (("3", 10),)),
    ("number", (("2", 4), ("", 6))),
    ("other", (("red", 5), ("blue", 5))),
)


def test_by_hand():
    # 2 and 3 were given ten times each, then blue and red five times, two four times. The blank answer is none.
    answers = make_answer_list(GIVEN)
    assert answers == AnswerList(("2", "3", "blue", "red", "two"), {"number": "2", "other": "blue"})


def test_only_the_most_frequent_and_only_the_first_questions():
    assert make_answer_list(GIVEN, most=3).answers == ("2", "3", "blue")
    assert make_answer_list(GIVEN, count=1) == AnswerList(("2", "two"), {"number": "2"})


def test_the_commonest_answer_to_the_same_words_counts_when_they_came_up_often():
    given = Given(*[("colour", (("red", 1),))] * 3, *[("colour", (("blue", 1),))] * (OFTEN - 3), ("colour", (("blue", 9),)))
    given.rows[-1] = replace(given.rows[-1], text="asked once")
    answers = make_answer_list(given)
    assert answers.blind == {"?": "red"} and answers.majority == {"colour": "blue"}
    assert [answers.guess("colour", "?"), answers.guess("colour", "asked once"), answers.guess("number", "never")] == ["red", "blue", ""]


def test_questions_without_answers_make_no_list():
    with pytest.raises(UserError, match="given/train has no answers to make a list of; take a split with annotations"):
        make_answer_list(Given(("not annotated", ())))


TEXT = st.text(min_size=1, max_size=8).filter(str.strip)


@given(
    st.lists(TEXT, min_size=1, max_size=9, unique=True), st.dictionaries(TEXT, TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=3)
)
def test_what_is_written_is_read(tmp_path_factory, answers, majority, blind):
    path = tmp_path_factory.mktemp("lists") / "answers.json"
    path.write_text(AnswerList(tuple(answers), majority, blind).to_json(), encoding="utf-8")
    assert read_answer_list(path) == AnswerList(tuple(answers), majority, blind)


def test_a_plain_list_will_do(tmp_path):
    (tmp_path / "answer_list.json").write_text('["yes", "no", "yes"]')
    assert read_answer_list(tmp_path / "answer_list.json") == AnswerList(("yes", "no"), {})


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '["yes", 3]',
        '["yes", " "]',
        '["yes", "\\ud800"]',
        '{"answers": "yes"}',
        '{"answers": ["yes"], "majority": ["no"]}',
        '{"answers": ["yes"], "blind": {"?": 3}}',
        "3",
        "null",
    ],
)
def test_other_forms_are_refused(tmp_path, content):
    (tmp_path / "answers.json").write_text(content)
    with pytest.raises(UserError, match=r"answers.json is no answer list; it needs a JSON list"):
        read_answer_list(tmp_path / "answers.json")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=r"the answer list .*gone.json cannot be read: No such file"):
        read_answer_list(tmp_path / "gone.json")
    (tmp_path / "half.json").write_text(json.dumps(["yes", "no"])[:-3])
    with pytest.raises(UserError, match=r"half.json is not valid JSON"):
        read_answer_list(tmp_path / "half.json")
