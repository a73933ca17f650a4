"""What every notebook's checkers must do; a test module imports these and names its NUMBER, RIGHT, WRONG and LISTS (see `conftest.py`)."""

import re

import pytest

from semmim_mini.course.checking import NotYet

__all__ = [
    "test_a_wrong_answer_is_told_its_mistake",
    "test_every_known_mistake_is_told_apart_from_the_others",
    "test_no_answer_is_no_mistake",
    "test_the_right_answer_passes",
]


def test_the_right_answer_passes(right_answer, request, capsys):
    check, student = right_answer
    check(student)
    assert re.match(rf"Exercise {request.module.NUMBER}\.\d: right, in \d+ cases", capsys.readouterr().out)


def test_a_wrong_answer_is_told_its_mistake(wrong_answer):
    check, student, message = wrong_answer
    with pytest.raises(NotYet, match=message):
        check(student)


def test_every_known_mistake_is_told_apart_from_the_others(known_mistake):
    check, mistake = known_mistake
    with pytest.raises(NotYet) as caught:
        check(mistake.wrong)
    assert str(caught.value) == mistake.message


def test_no_answer_is_no_mistake(checker, capsys):
    checker(lambda *given: None)
    assert "no answer yet" in capsys.readouterr().out
