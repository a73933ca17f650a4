"""The core of the checkers: what counts as right, and what is said of the rest."""

import pytest
import torch

from semmim_mini.course.checking import Case, Mistake, NotYet, compare, difference

CASES = [Case(x=torch.arange(4.0) + i, factor=i + 2) for i in range(3)]
MISTAKES = (Mistake(lambda x, factor: x + factor, "you add"), Mistake(lambda x, factor: x[9], "never runs"))


def right(x, factor):
    return x * factor


def test_a_right_answer_is_told(capsys):
    compare("Exercise 1.1", lambda x, factor: factor * x, right, CASES, MISTAKES)
    assert capsys.readouterr().out == "Exercise 1.1: right, in 3 cases of different sizes.\n"


def test_no_answer_stops_nothing(capsys):
    compare("Exercise 1.1", lambda x, factor: None, right, CASES, MISTAKES)
    assert "no answer yet" in capsys.readouterr().out


def in_place(x, factor):
    x *= factor
    return x


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (lambda x, factor: factor + x, "^you add$"),
        (lambda x, factor: x * factor + 1, r"4 of 4 numbers differ; at \(0,\) expected 0.0000, got 1.0000 \(seen with x of shape"),
        (lambda x, factor: (x * factor)[None], r"expected shape \(4,\), got \(1, 4\)"),
        (lambda x, factor: (x * factor).tolist(), "expected a tensor, got list"),
        (lambda x, factor: x * factor if factor == 2 else None, "nothing came back; is a `return` missing"),
        (lambda x: x, "your function stopped with TypeError"),
        (lambda x, factor: x @ x[:2], "your function stopped with RuntimeError"),
        (in_place, "changes its argument `x` in place"),
    ],
)
def test_a_wrong_answer_is_told_why(student, message):
    with pytest.raises(NotYet, match=message):
        compare("Exercise 1.1", student, right, CASES, MISTAKES)


def test_a_mistake_must_fit_every_case():
    """Right in one case and like a known mistake in another is not that mistake."""
    with pytest.raises(NotYet, match="numbers differ"):
        compare("Exercise 1.1", lambda x, factor: x + factor if factor == 3 else x * factor, right, CASES, MISTAKES)


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), "changed places"),
        (torch.tensor([True]), torch.tensor([1.0]), "True and False"),
        (torch.tensor([True]), torch.tensor([False]), "expected True, got False"),
        ((1, 2), (1, 3), "result 1: expected 2, got 3"),
        ((1, 2), 1, "expected 2 results"),
        (0.5, 0.6, "expected 0.5000"),
        (True, False, "expected True, got False"),
        ("a", "b", "expected 'a'"),
    ],
)
def test_differences_in_words(expected, got, text):
    assert text in difference(expected, got)
    assert difference(expected, expected) == ""


def test_rounding_is_no_difference():
    assert difference(torch.tensor([0.1 + 0.2]), torch.tensor([0.3 + 1e-7])) == "" and difference(0.3, 0.1 + 0.2) == ""


def test_notebooks_show_the_message_alone():
    assert NotYet("two things")._render_traceback_() == ["Not yet: two things"]
