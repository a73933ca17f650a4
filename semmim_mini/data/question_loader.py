r"""Batches of questions for fine-tuning, each a pure function of (seed, step).

    question ─► input_ids (b, l)
    picture  ─► one view  (1, b, 3, h, w), whole: what is asked for must stay in it
    answers  ─► answer_ids (a, w), weights (a), and which question each belongs to (a)

The loader is pre-training's (`data/loader.py`); here is what differs. Views [C; F: ALBEF crops half of the picture away, too]:

- No crop. "How many?", "is there a …?" and "where?" are about the whole picture, and after a crop the given answer may be wrong.
  Oblong photos are squeezed into the square, in evaluation as in training [F: ALBEF's view for evaluation].
- Mirroring, except where the question or an answer names a side, or where something is to be read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from transformers import PreTrainedTokenizerBase

from semmim_mini.data.loader import Batch, PretrainLoader
from semmim_mini.data.pairs import Pair
from semmim_mini.data.questions import Asked, Questions
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView, View, names_a_side

_READING = re.compile(r"\b(says?|reads?|written|writing|words?|letters?|name|brand|logo|sign|clock|time)\b", re.IGNORECASE)


class WholeView(CenterView):
    """The one view for evaluation: the whole picture; an oblong one is squeezed into the square."""

    def _square(self, x: Tensor, interpolation: InterpolationMode) -> Tensor:
        return F.resize(x, [self.resolution] * 2, interpolation, antialias=True)


class MirroredView:
    """The one view for training: the whole picture, half of the time in a mirror where no answer changes by it."""

    def __init__(self, resolution: int):
        self.whole = WholeView(resolution)

    def __call__(self, pair: Pair, asked: Asked, draw: torch.Generator) -> View:
        """A view (1, 3, r, r) of `pair` in which the answers stay right."""
        pixels, mirrored = self.whole(pair).pixels, torch.rand(1, generator=draw).item() < 0.5
        if mirrored and may_mirror(asked, tuple(asked.question.weights)):
            pixels = pixels.flip(-1)
        return View(pixels[None], None)


def may_mirror(question: str, answers: tuple[str, ...]) -> bool:
    """Whether the answers stay right in a mirror."""
    return not (names_a_side(" ".join([question, *answers])) or _READING.search(question))


@dataclass(kw_only=True)
class QuestionBatch(Batch):
    """A batch whose captions are questions. Questions have any number of answers, so answers have rows of their own."""

    answer_ids: Int[Tensor, "a w"]  # [CLS] answer [SEP], then padding
    answer_mask: Bool[Tensor, "a w"]
    answer_weights: Float[Tensor, "a"]  # the share of people who gave this answer
    answer_of: Int[Tensor, "a"]  # the row of its question

    @classmethod
    def of(cls, batch: Batch, tokenizer: PreTrainedTokenizerBase, max_length: int) -> "QuestionBatch":
        """The batch with the answers that its questions carry."""
        given = [(row, *pair) for row, asked in enumerate(batch.captions) for pair in asked.question.weights.items()]
        rows, answers, weights = zip(*given, strict=True) if given else ((), (), ())
        ids, mask = tokenize(tokenizer, answers or [""], max_length)
        return cls(
            **vars(batch),
            answer_ids=ids[: len(rows)],
            answer_mask=mask[: len(rows)],
            answer_weights=torch.tensor(weights),
            answer_of=torch.tensor(rows, dtype=torch.long),
        )

    def _slice(self, rows: slice, skipped: list[str]) -> "QuestionBatch":
        mine = (self.answer_of >= rows.start) & (self.answer_of < rows.stop)
        questions = Batch(**{f.name: getattr(self, f.name) for f in fields(Batch)})._slice(rows, skipped)
        names = ("answer_ids", "answer_mask", "answer_weights")
        answers = {name: getattr(self, name)[mine] for name in names}
        return QuestionBatch(**vars(questions), **answers, answer_of=self.answer_of[mine] - rows.start)


class QuestionLoader(PretrainLoader):
    """Iterates `QuestionBatch`es; arguments and errors are `PretrainLoader`'s."""

    def __init__(self, questions: Questions, tokenizer: PreTrainedTokenizerBase, views: MirroredView, **options):
        super().__init__(questions, tokenizer, views, **options)

    def __iter__(self) -> Iterator[QuestionBatch]:
        for batch in super().__iter__():
            yield QuestionBatch.of(batch, self.tokenizer, self.max_length)
