"""Checkers of notebook 11, question answering: a guesser, normalised answers, the accuracy rule, and how likely an answer is."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.objectives.masked_language import IGNORE
from semmim_mini.tasks.vqa import log_likelihood
from semmim_mini.tasks.vqa_score import ARTICLES, NUMBERS, normalise, vqa_accuracy

Asked = Sequence[tuple[str, str]]  # what is known of each question (its kind, or its text), and its answer

# 11.1 -----------------------------------------------------------------------------------------------------------------


def check_guesser(student: Callable[[Asked, Asked], float]) -> None:
    """`student(train, test)`, lists of (key, answer) → share of test questions that the commonest training answer of the key gets right."""

    def case(generator, draw):
        keys = ["what", "where", "how many", "which colour"][: draw(3, 4)]
        train = [("yes/no", "yes")] * 12 + [("yes/no", "no")] * 9  # "yes" is the commonest of all
        for i, key in enumerate(keys):
            train += [(key, f"{key} {answer}") for answer, count in zip("abc", (5, 3, 1), strict=True) for _ in range(count + i % 2)]
        test = [(key, f"{key} {'abc'[draw(0, 2)]}") for key in keys for _ in range(draw(3, 6))]
        test += [(key, f"{key} b") for key in keys for _ in range(draw(2, 4))] + [("why", "yes"), ("why", "no"), ("when", "yes")]
        return Case(train=train, test=test)

    compare("Exercise 11.1", student, _guesser, cases_of(case), GUESSER_MISTAKES)


def commonest(asked: Asked) -> dict[str, str]:
    """The commonest answer of each key; of equally common ones the first in the alphabet."""
    counts: dict[str, Counter] = {}
    for key, answer in asked:
        counts.setdefault(key, Counter())[answer] += 1
    return {key: min(own, key=lambda answer: (-own[answer], answer)) for key, own in counts.items()}


def hits(train: Asked, test: Asked) -> list[bool]:
    """Whether the commonest training answer to each test question's key is right; for unknown keys the commonest of all."""
    guess, fallback = commonest(train), commonest([("", answer) for _, answer in train])[""]
    return [guess.get(key, fallback) == answer for key, answer in test]


def _guesser(train: Asked, test: Asked) -> float:
    return _mean(hits(train, test))


def _mean(values: Sequence) -> float:
    return sum(values) / len(values)


def _without_keys(asked: Asked) -> Asked:
    return [("", answer) for _, answer in asked]


def _only_known(train: Asked, test: Asked) -> float:
    known = {key for key, _ in train}
    return _mean(hits(train, [(key, answer) for key, answer in test if key in known]))


def _unknown_wrong(train: Asked, test: Asked) -> float:
    known = {key for key, _ in train}
    return _mean([hit and key in known for hit, (key, _) in zip(hits(train, test), test, strict=True)])


def _mean_of_keys(train: Asked, test: Asked) -> float:
    right: dict[str, list[bool]] = {}
    for (key, _), hit in zip(test, hits(train, test), strict=True):
        right.setdefault(key, []).append(hit)
    return _mean([_mean(own) for own in right.values()])


GUESSER_MISTAKES = (
    Mistake(
        lambda train, test: _guesser(_without_keys(train), _without_keys(test)),
        "the keys are not used: this guesser says the commonest answer of all, whatever it is asked",
    ),
    Mistake(
        lambda train, test: _guesser(test, test),
        "the commonest answers come from the test questions; a guesser that has seen the answers is an oracle. Count in `train`",
    ),
    Mistake(
        lambda train, test: _guesser(train, train),
        "this is how often the guesser is right on `train`; count there, and measure on `test`",
    ),
    Mistake(
        _only_known,
        "questions with an unknown key are left out of the mean; the guesser has to answer them, too: the commonest training answer of all",
    ),
    Mistake(
        _unknown_wrong,
        "a question with an unknown key always counts as wrong; there the guesser says the commonest training answer of all",
    ),
    Mistake(_mean_of_keys, "this is a mean over keys; every question counts once, so common kinds weigh more"),
    Mistake(lambda train, test: float(sum(hits(train, test))), "this is a number of questions; return their share"),
)

# 11.2 -----------------------------------------------------------------------------------------------------------------

MARKS = ",.!?"
WRITTEN = (
    "The two bones, and an Apple!",
    "A  theatre, Seven cats?",
    "Ten  ants on the tent.",
    "None, the Zero and a stone!",
    "An antenna, Five dogs.",
    "the  Nine  bananas, a Crane?",
)


def check_normalise(student: Callable[[str], str]) -> None:
    """`student(answer)` → lower case, without , . ! ? and articles, number words as digits (none is 0), single spaces."""
    compare("Exercise 11.2", student, normalise, [Case(answer=answer) for answer in WRITTEN], NORMALISE_MISTAKES)


def _normalised(answer: str, lower=str.lower, marks=MARKS, articles=ARTICLES, numbers=NUMBERS, none=True, blank="") -> str:
    """The rules with their choices as arguments."""
    digits = {word: str(i) for i, word in enumerate(numbers)} | ({"none": "0"} if none else {})
    words = lower("".join(blank if letter in marks else letter for letter in answer)).split()
    return " ".join(digits.get(word, word) for word in words if word not in articles)


def _inside_words(answer: str, replaced: dict[str, str]) -> str:
    text = "".join(letter for letter in answer.lower() if letter not in MARKS)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def _digits_inside(answer: str) -> str:
    return _normalised(_inside_words(answer, {word: str(i) for i, word in enumerate(NUMBERS)}))


def _articles_inside(answer: str) -> str:
    return _normalised(_inside_words(answer, dict.fromkeys(("the", "an", "a"), "")))


def _capital_articles(answer: str) -> str:
    kept = " ".join(word for word in answer.split() if word not in ARTICLES)
    return _normalised(kept, articles=())


NORMALISE_MISTAKES = (
    Mistake(lambda answer: _normalised(answer, lower=str), "capital letters stay, and with them The and Two: lower case comes first"),
    Mistake(_capital_articles, "The and An stay at the beginning: articles are taken out before capital letters are made small"),
    Mistake(lambda answer: _normalised(answer, marks=""), 'punctuation stays; "red," and "red" would be two answers'),
    Mistake(lambda answer: _normalised(answer, articles=()), "articles stay: a, an and the go, wherever they stand"),
    Mistake(lambda answer: _normalised(answer, numbers=(), none=False), "number words stay; zero to ten become digits, and none is 0"),
    Mistake(lambda answer: _normalised(answer, none=False), "none is a number, too: 0"),
    Mistake(lambda answer: _normalised(answer, numbers=NUMBERS[:-1]), "ten is missing: zero to ten become digits"),
    Mistake(
        _digits_inside,
        "number words inside other words are replaced: bones is not b1s. Split into words first, and compare whole words",
    ),
    Mistake(
        _articles_inside,
        "articles inside other words are taken out: theatre is no tre. Split into words first, and compare whole words",
    ),
    Mistake(
        lambda answer: re.sub(r"\b(the|an|a)\b", "", " ".join(_normalised(word, articles=()) for word in answer.split(" "))).strip(),
        'where a word was taken out, two spaces stay; put the words together with one space: " ".join(…)',
    ),
)

# 11.3 -----------------------------------------------------------------------------------------------------------------


def check_accuracy(student: Callable[[str, Sequence[str]], float]) -> None:
    """`student(answer, people)`, ten answers of people → mean over the ten ways to leave one out of min(agreeing / 3, 1)."""
    cases = []
    for seed, agree in enumerate((0, 1, 2, 3, 4, 7)):
        people = ["red"] * agree + ["blue", "green", "dark red", "blue", "pink", "blue", "grey", "brown", "blue", "blue"][: 10 - agree]
        order = torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist()
        cases.append(Case(answer="red", people=[people[i] for i in order]))
    compare("Exercise 11.3", student, _accuracy, cases, ACCURACY_MISTAKES)


def _accuracy(answer: str, people: Sequence[str]) -> float:
    return vqa_accuracy(answer, [(said, 1) for said in people])


def _left_out(answer: str, people: Sequence[str], score: Callable[[int], float]) -> list[float]:
    """`score(agreeing)` of the nine others, for each of the ten."""
    return [score(sum(said == answer for j, said in enumerate(people) if j != i)) for i in range(len(people))]


def _third(agree: int) -> float:
    return min(agree / 3, 1.0)


ACCURACY_MISTAKES = (
    Mistake(
        lambda answer, people: _third(people.count(answer)),
        "nobody is left out: with all ten at once, three who agree give 1. Leave out each person in turn and take the mean of the ten",
    ),
    Mistake(lambda answer, people: people.count(answer) / len(people), "this is the share of people who agree; three of nine are enough"),
    Mistake(
        lambda answer, people: float(answer == Counter(people).most_common(1)[0][0]),
        "this asks for the commonest answer only; the rule gives part of a point for one or two people, and a whole one from three on",
    ),
    Mistake(
        lambda answer, people: _mean(_left_out(answer, people, lambda agree: agree / 3)),
        "more than 1 for an answer that many gave: min(agreeing / 3, 1) for each of the ten, before the mean",
    ),
    Mistake(
        lambda answer, people: _mean(_left_out(answer, people, lambda agree: float(agree >= 3))),
        "one or two people who agree give nothing here; they give a third and two thirds",
    ),
    Mistake(
        lambda answer, people: _third(people.count(answer) - 1) if answer in people else 0.0,
        "only those who agree are left out; leaving out one of the others is a way, too, and there are ten in all",
    ),
)

# 11.4 -----------------------------------------------------------------------------------------------------------------


def check_likelihood(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(log_probs (a, w, v), wanted (a, w))` → log p of each whole answer (a,); `wanted` is −100 where there is no word."""

    def case(generator, draw):
        a, w, v = draw(4, 6), draw(3, 5), draw(6, 9)
        log_probs = (2 * torch.randn(a, w, v, generator=generator)).log_softmax(dim=-1)
        lengths = torch.tensor([w, 2, *(draw(2, w) for _ in range(a - 2))])[:, None]
        wanted = torch.randint(v, (a, w), generator=generator).masked_fill(torch.arange(w) >= lengths, IGNORE)
        return Case(log_probs=log_probs, wanted=wanted)

    compare("Exercise 11.4", student, log_likelihood, cases_of(case), LIKELIHOOD_MISTAKES)


def _of_words(log_probs: Tensor, wanted: Tensor) -> Tensor:
    """log p of each word (a, w), 0 where there is none."""
    return log_probs.gather(2, wanted.clamp_min(0)[..., None])[..., 0] * (wanted != IGNORE)


def _without_end(log_probs: Tensor, wanted: Tensor) -> Tensor:
    count = (wanted != IGNORE).sum(dim=1, keepdim=True)
    return _of_words(log_probs, wanted.masked_fill(torch.arange(wanted.shape[1]) >= count - 1, IGNORE)).sum(dim=1)


LIKELIHOOD_MISTAKES = (
    Mistake(
        lambda log_probs, wanted: _of_words(log_probs, wanted).sum(dim=1) / (wanted != IGNORE).sum(dim=1),
        "this is the mean over an answer's words: no probability of anything, and it favours long answers whose ends are sure. Add up",
    ),
    Mistake(
        lambda log_probs, wanted: _of_words(log_probs, wanted).mean(dim=1),
        "this divides by the longest answer's number of words; log p of a whole answer is the sum over its own words",
    ),
    Mistake(
        lambda log_probs, wanted: log_probs.gather(2, wanted.clamp_min(0)[..., None])[..., 0].sum(dim=1),
        "padding takes part: where `wanted` is -100 there is no word, and nothing may be added",
    ),
    Mistake(
        _without_end,
        '[SEP] is left out: without the end, "left" would be as likely as "left" and everything that goes on from it',
    ),
    Mistake(lambda log_probs, wanted: _of_words(log_probs, wanted)[:, 0], "only the first word of each answer is looked at"),
    Mistake(
        lambda log_probs, wanted: -_of_words(log_probs, wanted).sum(dim=1), "this is -log p, a loss; the likeliest answer has the highest"
    ),
    Mistake(
        lambda log_probs, wanted: _of_words(log_probs, wanted).sum(dim=1).exp(),
        "this is p and not log p; of long answers it is 0 in floating point",
    ),
    Mistake(
        lambda log_probs, wanted: (_of_words(log_probs, wanted).exp() * (wanted != IGNORE)).sum(dim=1),
        "probabilities are added up; that all words of an answer come is a product of them, a sum of logarithms",
    ),
    Mistake(
        lambda log_probs, wanted: (log_probs.amax(dim=-1) * (wanted != IGNORE)).sum(dim=1),
        "these are the likeliest words, whatever the answer says; look up the words that are wanted (gather)",
    ),
)
