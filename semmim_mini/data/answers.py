r"""Lists of answers that a model may choose from, and what one would answer without looking.

training questions ──► how often each answer was given ──► the most frequent, most frequent first
                                                     └──► the most frequent for each kind of question
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from semmim_mini.data.questions import Questions
from semmim_mini.errors import UserError


@dataclass(frozen=True)
class AnswerList:
    """The answers a model may choose from, and what one would answer without looking.

    `majority` is the most frequent training answer of each kind of question; empty for lists that come without.
    """

    answers: tuple[str, ...]
    majority: dict[str, str]

    def to_json(self) -> str:
        return json.dumps({"answers": self.answers, "majority": self.majority}, indent=1, ensure_ascii=False)


def make_answer_list(questions: Questions, most: int = 3_128, count: int = 1_000_000) -> AnswerList:
    """The `most` frequent answers, most frequent first [F: the 3,128 of VQA v2; scenes have a few hundred and keep all].

    Args:
        questions: of training. Not of the split that is evaluated: the list would give its answers away.
        count: questions to look at, at most.

    Raises:
        UserError: questions without answers.
    """
    every, kinds = Counter(), {}
    for question in questions.sample(count):
        for answer, people in question.answers:
            if answer.strip():
                every[answer] += people
                kinds.setdefault(question.kind, Counter())[answer] += people
    if not every:
        raise UserError(f"{questions.name} has no answers to make a list of; take a split with annotations, such as train")
    ranked = sorted(every, key=lambda answer: (-every[answer], answer))
    majority = {kind: min(own, key=lambda answer: (-own[answer], answer)) for kind, own in sorted(kinds.items())}
    return AnswerList(tuple(ranked[:most]), majority)


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
    answers, majority = content.get("answers"), content.get("majority", {})
    texts = [*answers, *majority, *majority.values()] if isinstance(answers, list) and isinstance(majority, dict) else [None]
    if not answers or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{path} is no answer list; it needs a JSON list of one text or more, such as ['yes', 'no']")
    return AnswerList(tuple(dict.fromkeys(answers)), majority)
