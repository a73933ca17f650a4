r"""Lists of answers that a model may choose from, and what one would answer without looking.

training questions ──► how often each answer was given ──► the most frequent, most frequent first
                                                     ├──► the most frequent for each kind of question
                                                     └──► the most frequent for each question's very words

The last is the reference that matters [F: the language priors of VQA, Goyal et al.]: who has heard all training questions and
never looks. Whatever a model reaches below it can have been learned without eyes.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from semmim_mini.data.picture_files import whole_letters
from semmim_mini.data.questions import Questions
from semmim_mini.errors import UserError

OFTEN = 5  # times that the same words must have been asked before their commonest answer counts for something


@dataclass(frozen=True)
class AnswerList:
    """The answers a model may choose from, and what one would answer without looking.

    `majority` is the most frequent training answer of each kind of question, `blind` that of the same words, for words that came up
    often; both empty for lists that come without.
    """

    answers: tuple[str, ...]
    majority: dict[str, str]
    blind: dict[str, str] = field(default_factory=dict)

    def guess(self, kind: str, text: str) -> str:
        """What one answers who has heard all training questions and does not look."""
        return self.blind.get(text) or self.majority.get(kind, "")

    def to_json(self) -> str:
        return json.dumps({"answers": self.answers, "majority": self.majority, "blind": self.blind}, indent=1, ensure_ascii=False)


def make_answer_list(questions: Questions, most: int = 3_128, count: int = 1_000_000) -> AnswerList:
    """The `most` frequent answers, most frequent first [F: the 3,128 of VQA v2; scenes have a few hundred and keep all].

    Args:
        questions: of training. Not of the split that is evaluated: the list would give its answers away.
        count: questions to look at, at most.

    Raises:
        UserError: questions without answers.
    """
    every, asked = Counter(), Counter()
    kinds, texts = defaultdict(Counter), defaultdict(Counter)
    for question in questions.sample(count):
        asked[question.text] += 1
        for answer, people in question.answers:
            if answer.strip():
                every[answer] += people
                kinds[question.kind][answer] += people
                texts[question.text][answer] += people
    if not every:
        raise UserError(f"{questions.name} has no answers to make a list of; take a split with annotations, such as train")
    ranked = sorted(every, key=lambda answer: (-every[answer], answer))
    majority = {kind: _commonest(own) for kind, own in sorted(kinds.items())}
    blind = {text: _commonest(own) for text, own in sorted(texts.items()) if asked[text] >= OFTEN}
    return AnswerList(tuple(ranked[:most]), majority, blind)


def _commonest(answers: Counter) -> str:
    return min(answers, key=lambda answer: (-answers[answer], answer))


def read_answer_list(path: Path) -> AnswerList:
    """A list as `AnswerList.to_json` makes it, or a plain JSON list of texts as other projects keep it.

    Raises:
        UserError: missing, or of another form.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"the answer list {path} cannot be read: {error.strerror}; make one from training questions") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}; it needs a list of answers") from None
    content = content if isinstance(content, dict) else {"answers": content}
    answers, majority, blind = content.get("answers"), content.get("majority", {}), content.get("blind", {})
    formed = isinstance(answers, list) and isinstance(majority, dict) and isinstance(blind, dict)
    texts = [*answers, *majority, *majority.values(), *blind, *blind.values()] if formed else [None]
    if not answers or not all(isinstance(text, str) and text.strip() and text == whole_letters(text) for text in texts):
        raise UserError(f"{path} is no answer list; it needs a JSON list of one text or more, such as ['yes', 'no']")
    return AnswerList(tuple(dict.fromkeys(answers)), majority, blind)
