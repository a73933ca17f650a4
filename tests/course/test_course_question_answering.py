"""Notebook 11: the right answer passes, typical wrong ones are told their mistake, and pictures have the numbers that they claim."""

from collections import Counter, defaultdict

import pytest
import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import question_answering
from semmim_mini.course.pictures import png
from semmim_mini.course.question_answering import check_accuracy, check_guesser, check_likelihood, check_normalise, commonest, hits
from semmim_mini.course.question_pictures import accuracy_rule, answer_shares, asked_scene, by_kind, question_maps
from semmim_mini.data.questions import VisualQuestion
from semmim_mini.figures.style import WIDTH

# The answers ----------------------------------------------------------------------------------------------------------

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(WORDS)} | {"none": "0"}


def guess(train, test, fallback=True):
    counts, everything = defaultdict(Counter), Counter(answer for _, answer in train)
    for key, answer in train:
        counts[key][answer] += 1
    said = [(counts.get(key, everything if fallback else None) or Counter([None])).most_common(1)[0][0] for key, _ in test]
    return sum(a == answer for a, (_, answer) in zip(said, test, strict=True)) / len(test)


def tidy(answer):
    for mark in ",.!?":
        answer = answer.replace(mark, "")
    words = [word for word in answer.lower().split() if word not in ("a", "an", "the")]
    return " ".join(DIGITS.get(word, word) for word in words)


def accuracy(answer, people):
    ways = [people[:i] + people[i + 1 :] for i in range(len(people))]
    return sum(min(others.count(answer) / 3, 1) for others in ways) / len(ways)


def by_formula(answer, people):
    m = people.count(answer)
    return (m * min((m - 1) / 3, 1) + (10 - m) * min(m / 3, 1)) / 10


def likelihood(log_probs, wanted):
    rows = [sum(log_probs[a, w, v] for w, v in enumerate(row) if v >= 0) for a, row in enumerate(wanted.tolist())]
    return torch.stack(rows)


NUMBER = 11
RIGHT = [
    (check_guesser, guess),
    (check_normalise, tidy),
    (check_accuracy, accuracy),
    (check_accuracy, by_formula),
    (check_likelihood, likelihood),
    (check_likelihood, lambda p, w: -torch.nn.functional.cross_entropy(p.mT, w, reduction="none").sum(dim=1)),
]
WRONG = [
    (check_guesser, lambda train, test: guess([("", a) for _, a in train], [("", a) for _, a in test]), "the keys are not used"),
    (check_guesser, lambda train, test: guess(test, test), "an oracle"),
    (check_guesser, lambda train, test: guess(train, test, fallback=False), "always counts as wrong"),
    (check_guesser, lambda train, test: guess(train, test) * len(test), "return their share"),
    (check_normalise, lambda answer: tidy(answer.replace("None", "nil")).replace("nil", "none"), "none is a number, too"),
    (check_normalise, lambda answer: answer.lower(), "expected"),
    (check_normalise, lambda answer: tidy(answer.replace("one", "1")), "expected"),
    (check_normalise, lambda answer: tidy(answer).split(), "expected"),
    (check_accuracy, lambda answer, people: min(people.count(answer) / 3, 1), "nobody is left out"),
    (check_accuracy, lambda answer, people: people.count(answer) / 10, "the share of people"),
    (check_accuracy, lambda answer, people: float(answer in people), "expected [0-9.]+, got"),
    (check_likelihood, lambda p, w: likelihood(p, w) / (w >= 0).sum(dim=1), "sure. Add up"),
    (check_likelihood, lambda p, w: likelihood(p, w[:, :1]), "only the first word"),
    (check_likelihood, lambda p, w: likelihood(p, w.clamp_min(0)), "padding takes part"),
    (check_likelihood, lambda p, w: likelihood(p, w).argmax(), "expected shape"),
]  # fmt: skip
LISTS = (
    (check_guesser, question_answering.GUESSER_MISTAKES),
    (check_normalise, question_answering.NORMALISE_MISTAKES),
    (check_accuracy, question_answering.ACCURACY_MISTAKES),
    (check_likelihood, question_answering.LIKELIHOOD_MISTAKES),
)


def test_the_commonest_answers_by_hand():
    train = [("where", "left"), ("where", "right"), ("where", "right"), ("what", "dog"), ("what", "cat")]
    assert commonest(train) == {"where": "right", "what": "cat"}  # of equally common ones the first in the alphabet
    assert hits(train, [("where", "right"), ("where", "left"), ("what", "cat"), ("who", "right")]) == [True, False, True, True]


# The pictures ---------------------------------------------------------------------------------------------------------


def asked(kind, answer, number=0):
    return VisualQuestion(f"{kind}?", ((answer, 1),), kind, question_id=number, image_id=0)


def drawn_well(drawn) -> bool:
    return drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def test_questions_of_a_scene_are_counted():
    drawn = asked_scene(torch.zeros(3, 16, 16), [asked("what", "dog"), asked("where", "left"), asked("what", "cat")])
    assert drawn.number == {"what": 2.0, "where": 1.0} and drawn_well(drawn)


def test_shares_of_answers_by_hand():
    questions = [asked("where", answer) for answer in ("left", "left", "right", "top")] + [asked("what", x) for x in "abcdefgh"]
    drawn = answer_shares(questions)
    assert drawn.number == {"where": 0.5, "what": 1 / 8} and drawn_well(drawn)


def test_accuracies_keep_their_names():
    drawn = by_kind({"model": {"what": 0.1, "all": 0.3}, "guesser": {"what": 0.0, "all": 0.4}}, "Accuracy")
    assert drawn.number == {"what, model": 0.1, "all, model": 0.3, "what, guesser": 0.0, "all, guesser": 0.4} and drawn_well(drawn)


def test_the_rule_is_full_from_four_people_on():
    drawn = accuracy_rule([by_formula("red", ["red"] * m + ["blue"] * (10 - m)) for m in range(11)])
    assert drawn.number == {"leaving out": 4.0, "simple": 3.0} and drawn_well(drawn)


def test_maps_of_questions_tell_all_three_shares():
    number = {"own": 0.3, "other": 0.25, "chance": 0.1}
    drawn = question_maps(torch.zeros(2, 3, 16, 16), ["where is the cat?"] * 2, torch.rand(2, 4), torch.eye(4).bool()[:2], number)
    assert drawn.number == number and drawn_well(drawn)
    assert all(share in drawn.figure.texts[0].get_text() + drawn.figure.texts[1].get_text() for share in ("30", "25", "10"))


def test_a_wrong_rule_is_no_rule():
    with pytest.raises(StopIteration):
        accuracy_rule([0.5] * 11)  # never fully right
