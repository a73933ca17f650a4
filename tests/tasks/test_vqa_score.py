"""VQA accuracy against a table worked out by hand from the official rules, and against leaving people out one by one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.tasks.vqa_score import normalise, vqa_accuracy

# What was written, and what the official evaluation compares.
TABLE = [
    # case, spaces, line ends
    ("Red", "red"),
    ("  dark   red ", "dark red"),
    ("dark\nred", "dark red"),
    ("dark\tred", "dark red"),
    ("", ""),
    # articles, wherever they stand; not parts of words
    ("a dog", "dog"),
    ("The dog and an owl", "dog and owl"),
    ("the", ""),
    ("theatre", "theatre"),
    ("A", ""),
    # number words from zero to ten, and none
    ("two", "2"),
    ("Ten dogs", "10 dogs"),
    ("none", "0"),
    ("zero", "0"),
    ("eleven", "eleven"),
    ("twotwo", "twotwo"),
    ("one and a half", "1 and half"),
    # points: kept before a digit
    ("1.5", "1.5"),
    (".5", ".5"),
    ("yes.", "yes"),
    ("U.S.A.", "usa"),
    ("5.", "5"),
    ("no. 3", "no 3"),
    # commas: between digits they, and every other mark, go without a space
    ("1,000", "1000"),
    ("1,000,000", "1000000"),
    ("1,000-2,000", "10002000"),
    ("yes, it is", "yes it is"),
    ("red,white", "red white"),
    ("red ,white", "red white"),
    # other marks: a space inside a word, nothing beside a space
    ("t-shirt", "t shirt"),
    ("50/50", "50 50"),
    ("black/white", "black white"),
    ("black / white", "black white"),
    ("yes!", "yes"),
    ("what?", "what"),
    ("(red)", "red"),
    ('"stop"', "stop"),
    ("red & white", "red & white"),
    ("50%", "50%"),
    ("#1", "#1"),
    ("$5", "$5"),
    ("10:30", "10:30"),
    ("a-frame", "frame"),  # the mark goes first, and what is left is an article
    ("well-known - maybe", "wellknown maybe"),  # the mark stands beside a space once, so it goes without a space everywhere
    # apostrophes stay, and contractions without theirs get it back
    ("don't", "don't"),
    ("dont", "don't"),
    ("Isnt it", "isn't it"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("couldntve", "couldntve"),
    ("twas", "'twas"),
    ("oclock", "o'clock"),
    ("yall'd've", "y'all'd've"),
    ("somebody'd", "somebodyd"),
    ("shed", "shed"),
    ("well", "well"),
    ("its", "its"),
    ("im", "im"),
    ("dog's", "dog's"),
]


@pytest.mark.parametrize("written, compared", TABLE)
def test_normalisation_by_hand(written, compared):
    assert normalise(written) == compared


@pytest.mark.parametrize("agree, accuracy", [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (5, 1), (10, 1)])
def test_ten_people_by_hand(agree, accuracy):
    # Three agree: left out one of them (3 times of 10), two remain, 2/3; left out another (7 times), 1. Together (3·2/3 + 7)/10 = 0.9.
    given = [("red", agree), ("blue", 10 - agree)] if 0 < agree < 10 else [("red" if agree else "blue", 10)]
    assert vqa_accuracy("red", given) == pytest.approx(accuracy)


def test_answers_are_compared_normalised():
    given = [("two", 1), ("2", 1), ("2.", 1), ("a 2", 1), ("three", 6)]
    assert vqa_accuracy("Two", given) == 1 and vqa_accuracy("3", given) == 1 and vqa_accuracy("four", given) == 0


def test_where_all_said_the_same_letters_count():
    assert vqa_accuracy("2", [("two", 10)]) == 0  # the official evaluation normalises neither side then
    assert vqa_accuracy("two", [("two", 10)]) == vqa_accuracy(" two\n", [("two", 7), ("two ", 3)]) == 1
    assert vqa_accuracy("Two", [("two", 10)]) == 0
    assert vqa_accuracy("2", [("two", 9), ("three", 1)]) == 1


def test_ties_are_both_right():
    assert vqa_accuracy("red", [("red", 5), ("blue", 5)]) == vqa_accuracy("blue", [("red", 5), ("blue", 5)]) == 1


def test_fewer_than_ten_people_by_hand():
    # Of four people two agree: one of them left out, 1/3 (2 times); another, 2/3 (2 times).
    assert vqa_accuracy("red", [("red", 2), ("blue", 2)]) == pytest.approx(0.5)
    # Of three who agree two remain whoever is left out.
    assert vqa_accuracy("red", [("red", 3)]) == pytest.approx(2 / 3)


def test_one_right_answer_is_right_or_wrong():
    assert vqa_accuracy("Three", [("three", 1)]) == vqa_accuracy("3", [("three", 1)]) == vqa_accuracy("the dog", [("dog", 1)]) == 1
    assert vqa_accuracy("dogs", [("dog", 1)]) == vqa_accuracy("", [("dog", 1)]) == 0


def leave_one_out(answer: str, given: list[str]) -> float:
    """The definition, person by person."""
    if len(set(given)) > 1:
        answer, given = normalise(answer), [normalise(other) for other in given]
    rest = [given[:i] + given[i + 1 :] for i in range(len(given))]
    return sum(min(others.count(answer) / 3, 1) for others in rest) / len(given)


WORDS = st.sampled_from(["2", "two", "two.", "the two", "red", "a red", "t-shirt", "t shirt"])


@given(WORDS, st.lists(WORDS, min_size=2, max_size=12))
def test_equals_leaving_people_out_one_by_one(answer, given):
    assert vqa_accuracy(answer, list(Counter(given).items())) == pytest.approx(leave_one_out(answer, given))


@given(st.text(max_size=30))
def test_there_is_always_a_tidy_answer(text):
    normal = normalise(text)
    assert normal == " ".join(normal.split()) and not {"a", "an", "the", "two"} & set(normal.split())
