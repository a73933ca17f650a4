r"""VQA accuracy: how far an answer agrees with what ten people said [F: Antol et al. 2015, the official evaluation].

An answer that three of ten people gave is fully right, one that two gave two thirds, and so on. To be comparable with a person, who
is compared with nine others, it is averaged over the ten ways of leaving one person out:

    people who gave it      0     1     2     3    ≥ 4
    accuracy                0    0.3   0.6   0.9    1        with ten people: (m · min((m−1)/3, 1) + (10−m) · min(m/3, 1)) / 10

Answers are compared after `normalise`, which makes "Two dogs!", "2 dogs" and "the 2 dogs" one answer, by the official rules down to
their oddities. If all ten people wrote exactly the same, neither side is normalised: the answer must then be that, letter for letter.

Scenes have one right answer and one annotator who knows: 1 if the answer is equal after `normalise`, else 0.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# In the order of the official evaluation; colon and apostrophe stay.
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# Lower-case contractions that are put right when one apostrophe of theirs is missing. "She'd" and other common
# ones are not in the official list, so they are not here; nor are "I'm" and "I've", whose capital makes them unreachable there.
CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd
    how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't
    'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
    they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
    who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


@cache
def _contraction() -> dict[str, str]:
    """From each contraction with one apostrophe missing to the right form; one entry of the official list goes the other way."""
    places = ((right, match.start()) for right in CONTRACTIONS.split() for match in re.finditer("'", right))
    return {right[:at] + right[at + 1 :]: right for right, at in places} | {"somebody'd": "somebodyd"}


def normalise(answer: str) -> str:
    """An answer as the official evaluation compares it: punctuation, lower case, number words, articles, contractions, in this order."""
    words = (_without_punctuation(_tidy(answer))).lower().split()
    digits = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
    words = [digits.get(word, word) for word in words]
    return " ".join(_contraction().get(word, word) for word in words if word not in ARTICLES)


def _tidy(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(answer: str) -> str:
    """A mark beside a space is taken out, one inside a word becomes a space: "yes, it is" but "t shirt".

    A comma between digits makes every mark go without a space: "1,000" is one number. Points go unless a digit follows.
    """
    in_number = re.search(r"\d,\d", answer) is not None
    cleaned = answer
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        cleaned = cleaned.replace(mark, "" if beside_space or in_number else " ")
    return re.sub(r"\.(?!\d)", "", cleaned)


def vqa_accuracy(answer: str, given: Sequence[tuple[str, int]]) -> float:
    """Accuracy of an answer, from 0 to 1, against the answers of people, each with how many gave it.

    With one person there is nobody left out to compare with: that is a scene, and the rule is equality.
    """
    people = sum(count for _, count in given)
    if people == 1:
        return float(normalise(answer) == normalise(given[0][0]))
    answer, said = _tidy(answer), Counter()
    for text, count in given:
        said[_tidy(text)] += count
    if len(said) > 1:
        answer = normalise(answer)
        agree = sum(count for text, count in said.items() if normalise(text) == answer)
    else:
        agree = said[answer]
    one_of_them_out, another_out = min((agree - 1) / 3, 1), min(agree / 3, 1)
    return (agree * one_of_them_out + (people - agree) * another_out) / people
