r"""Visual question answering: the fusion encoder reads the question with the image in view, a decoder writes the answer [F: ALBEF, BLIP].

    image ──► image encoder ───────────────┐
    question ──► text encoder ──► fusion encoder ──► question states ──► answer decoder ──► "two"
                                                        (b, l, d)       [CLS] two [SEP]

Training: cross-entropy of the answer's words; of several answers that people gave, each counts by the share of people [F].

Two ways to answer. `rank` chooses from a list, and cannot answer what is not in it. `generate` writes freely, and may write nonsense.
The field's numbers for VQA v2 are from ranking the 3,128 most frequent training answers [F: ALBEF, BLIP].

    all answers ── p(first word) ──► the likeliest `top` ── log p(whole answer) ──► the likeliest

The first word of every answer costs one pass of the decoder, so thousands of answers are no more work than `top` [F: ALBEF].
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from semmim_mini.data.answers import AnswerList
from semmim_mini.data.pairs import Pair
from semmim_mini.data.question_loader import WholeView
from semmim_mini.data.questions import Questions, VisualQuestion
from semmim_mini.data.text import tokenize
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.text_encoder import CaptionDecoder
from semmim_mini.tasks.decoding import Decoding, generate
from semmim_mini.tasks.vqa_score import normalise, vqa_accuracy
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.schedules import Plan
from semmim_mini.training.step import StepOutput

BLOCK = 1024  # answers that are scored at once: their logits over the vocabulary are what takes memory
METHODS = ("rank", "generate")


def require_answerer(model: SemMIM) -> CaptionDecoder:
    """The model's answer decoder; a `UserError` where it has none."""
    if model.answerer is None:
        raise UserError(
            "this model has no answer decoder (losses.answer.weight=0 where it was trained); "
            "make one with: semmim-mini finetune vqa --checkpoint RUN --data scenes --out DIR"
        )
    return model.answerer


def read_questions(
    model: SemMIM, images: Float[Tensor, "b 3 h w"], ids: Int[Tensor, "b l"], words: Bool[Tensor, "b l"]
) -> Float[Tensor, "b l d"]:
    """Questions as the fusion encoder reads them with their images in view."""
    return model.fusion(model.student.text(ids, words), words, model.student.image(images))


def answer_logits(decoder: CaptionDecoder, ids: Tensor, words: Tensor, states: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (a, w, vocab) before each word of each answer, and those words (a, w); −100 where there is none."""
    length = int(words.sum(dim=1).max()) if len(words) else 1
    ids, words = ids[:, :length], words[:, :length]
    logits = decoder(ids, words, states, seen)[:, :-1].float()
    return logits, ids[:, 1:].masked_fill(~words[:, 1:], -100)


def log_likelihood(logits: Float[Tensor, "a w vocab"], wanted: Int[Tensor, "a w"]) -> Float[Tensor, "a"]:
    """log p of each whole answer, its [SEP] included."""
    return -F.cross_entropy(rearrange(logits, "a w vocab -> a vocab w"), wanted, reduction="none").sum(dim=1)


# Training -------------------------------------------------------------------------------------------------------------


class AnswerStep(nn.Module):
    """Losses of one batch of questions; takes `SemMIMStep`'s place in the loop."""

    def __init__(self, model: SemMIM):
        super().__init__()
        require_answerer(model)
        self.model = model

    def forward(self, batch, plan: Plan, seed: int) -> StepOutput:
        """The loss `answer`: −log p of each answer, by the share of people who gave it; mean over questions, in nats.

        Args:
            batch: `data.question_loader.QuestionBatch` of this process's slice. The slices are equally large, so that the mean over
                processes is the mean over all questions.
            seed: unused; what is random in a step of answering was drawn with the batch.
        """
        states = read_questions(self.model, batch.images[0], batch.input_ids, batch.attention_mask)
        rows, weights = batch.answer_of, batch.answer_weights / len(batch.image_ids)
        if not len(rows):  # nothing to learn, but every process needs a loss with gradients
            return StepOutput({"answer": 0 * states.sum()}, {"answer_accuracy": weights.sum()})
        logits, wanted = answer_logits(
            self.model.answerer, batch.answer_ids, batch.answer_mask, states[rows], seen=batch.attention_mask[rows]
        )
        right = ((logits.argmax(dim=-1) == wanted) | (wanted == -100)).all(dim=1)
        loss = -(weights * log_likelihood(logits, wanted)).sum()
        return StepOutput({"answer": loss}, {"answer_accuracy": (weights * right).sum().detach()})

    def needs_teacher(self, plan: Plan) -> bool:
        """Answers are given by people."""
        return False

    def remember(self, notes: dict[str, Tensor]) -> None:
        """No queue, no centre."""


# Answering ------------------------------------------------------------------------------------------------------------


class Ranked(NamedTuple):
    """The answers chosen for b questions, and what they were chosen from."""

    texts: list[str]
    candidates: Int[Tensor, "b top"]  # places in the list of answers, ascending
    log_likelihood: Float[Tensor, "b top"]  # of each candidate as a whole


@torch.no_grad()
def rank_answers(
    model: SemMIM, tokenizer, images: Float[Tensor, "b 3 h w"], questions: Sequence[str], answers: Sequence[str], top: int = 128
) -> Ranked:
    """The likeliest answer of a list to each question about its image; of equally likely ones the first.

    Args:
        top: answers that are scored as a whole, chosen by the likelihood of their first word. From the number of answers on
            nothing is left out, and the result is exact.

    Raises:
        UserError: no answer decoder, no answers, top below 1.
    """
    if not answers or top < 1:
        raise UserError(f"ranking needs at least one answer and top ≥ 1; there are {len(answers)} answers and top={top}")
    decoder, (states, seen) = require_answerer(model), _states(model, tokenizer, images, questions)
    ids, words = (x.to(states.device) for x in tokenize(tokenizer, answers, model.config.data.max_length))
    b, k = len(states), min(top, len(answers))
    start = ids[:1, :1].expand(b, 1)
    first = decoder(start, torch.ones_like(start, dtype=torch.bool), states, seen)[:, 0].float().log_softmax(dim=-1)[:, ids[:, 1]]
    candidates = first.topk(k, dim=1).indices.sort(dim=1).values
    rows, places = torch.arange(b, device=states.device).repeat_interleave(k), rearrange(candidates, "b k -> (b k)")
    scores = [
        log_likelihood(*answer_logits(decoder, ids[place], words[place], states[row], seen[row]))
        for row, place in zip(rows.split(BLOCK), places.split(BLOCK), strict=True)
    ]
    scores = rearrange(torch.cat(scores), "(b k) -> b k", b=b)
    best = candidates.gather(1, scores.argmax(dim=1, keepdim=True))
    return Ranked([answers[place] for place in best[:, 0].tolist()], candidates, scores)


@torch.no_grad()
def generate_answers(
    model: SemMIM, tokenizer, images: Float[Tensor, "b 3 h w"], questions: Sequence[str], decoding: Decoding | None = None
) -> list[str]:
    """An answer in the decoder's own words to each question about its image.

    Args:
        decoding: three beams of at most ten tokens by default [F: BLIP], by log p alone, which is what `rank_answers` goes by [C].
    """
    decoder, (states, seen) = require_answerer(model), _states(model, tokenizer, images, questions)
    decoding = decoding or Decoding(max_length=min(10, model.config.data.max_length), no_repeat=0, length_penalty=0.0)
    return generate(decoder, states, tokenizer, decoding, seen=seen).texts


def _states(model: SemMIM, tokenizer, images: Tensor, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Question states, and which of them are there."""
    device = next(model.parameters()).device
    ids, words = (x.to(device) for x in tokenize(tokenizer, questions, model.config.data.max_length))
    return read_questions(model, images.to(device), ids, words), words


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluate_vqa(
    model: SemMIM,
    tokenizer,
    questions: Questions,
    limit: int | None = None,
    *,
    answers: AnswerList | None = None,
    method: str = "rank",
    top: int = 128,
    results: Path | None = None,
    wrong_images: bool = False,
    batch: int = 64,
) -> dict:
    """Accuracy over the first `limit` questions, and for each kind of question.

    Args:
        answers: to rank; for `generate` only what the figures are compared with. From training data (`make_answer_list`).
        results: a file for the official result format, `[{"question_id": …, "answer": …}]`.
        wrong_images: also ask every question about another question's image, which takes as long again.

    Returns:
        `overall` and each of `kinds`: `accuracy` and `n`, beside `majority` (always the most frequent training answer to this kind of
        question), `blind` (that to the question's very words, where they came up often) and `chance` (1 / number of answers); `ceiling` is
        what ranking could reach, as some right answers are in no list. `wrong_image`, where asked for, is what is left unseen.
        Without annotations all of these are None and `kinds` is empty: only the result file is of use.

    Raises:
        UserError: no answer decoder, no list to rank, an unknown method, no annotations and no result file.
    """
    if method not in METHODS:
        raise UserError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    if method == "rank" and answers is None:
        raise UserError("method='rank' needs a list of answers; make one from training questions, or choose method='generate'")
    require_answerer(model)
    was_training = model.training
    model.eval()
    try:
        found = []
        for pairs in _batches(questions, limit, batch):
            if results is None and not all(pair.captions[0].question.answers for pair in pairs):
                raise UserError(f"{questions.name} has no annotations to score by; evaluate val, or name a result file to write")
            found += _answered(model, tokenizer, pairs, answers, method, top, wrong_images)
    finally:
        model.train(was_training)
    if results is not None:
        write_text(Path(results), json.dumps([{"question_id": a.question.question_id, "answer": a.text} for a in found]))
    kinds = sorted({answered.question.kind for answered in found if answered.question.answers})
    return {
        "method": method,
        "n_answers": len(answers.answers) if answers else None,
        "overall": _figures(found, answers, wrong_images),
        "kinds": {kind: _figures([a for a in found if a.question.kind == kind], answers, wrong_images) for kind in kinds},
    }


def _batches(questions: Questions, limit: int | None, batch: int) -> Iterator[list[Pair]]:
    """The first `limit` questions, without those that come again: questions of poor scenes, or in place of unreadable pictures."""
    known, waiting = set(), []
    for index in range(min(len(questions), limit or len(questions))):
        if questions.captions(index)[0].question.question_id in known:
            continue
        pair = questions[index]
        number = pair.captions[0].question.question_id
        if number not in known:
            known.add(number)
            waiting.append(pair)
        if len(waiting) == batch:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


class Answered(NamedTuple):
    """A question with the model's answers."""

    question: VisualQuestion
    text: str
    elsewhere: str | None  # the answer with another question's image; None where there is none, or where nobody asked


def _answered(
    model: SemMIM, tokenizer, pairs: list[Pair], answers: AnswerList | None, method: str, top: int, elsewhere: bool
) -> list[Answered]:
    """The questions of a batch, answered."""
    view, asked = WholeView(model.config.data.resolution), [pair.captions[0] for pair in pairs]
    images = torch.stack([view(pair).pixels for pair in pairs])

    def answer(images: Tensor) -> list[str]:
        if method == "rank":
            return rank_answers(model, tokenizer, images, asked, answers.answers, top).texts
        return generate_answers(model, tokenizer, images, asked)

    wrong: list[str | None] = [None] * len(pairs)
    places = _places_of_other_images([pair.image_id for pair in pairs])
    if elsewhere and places is not None:
        wrong = answer(images[places])
    return [Answered(a.question, text, other) for a, text, other in zip(asked, answer(images), wrong, strict=True)]


def _places_of_other_images(ids: Sequence[int]) -> list[int] | None:
    """For each question of a batch the next one about another image, the first coming after the last; None if all are about one."""
    b = len(ids)
    if len(set(ids)) == 1:
        return None
    return [next((i + k) % b for k in range(1, b) if ids[(i + k) % b] != ids[i]) for i in range(b)]


def _figures(found: list[Answered], answers: AnswerList | None, elsewhere: bool) -> dict:
    """Mean accuracy of answered questions, and what it has to be compared with."""
    scored = [(a.question, a.text) for a in found if a.question.answers]
    figures = {"accuracy": _mean([vqa_accuracy(answer, q.answers) for q, answer in scored]), "n": len(found)}
    if elsewhere:
        wrong = [vqa_accuracy(a.elsewhere, a.question.answers) for a in found if a.question.answers and a.elsewhere is not None]
        figures["wrong_image"] = _mean(wrong)
    if answers is None:
        return figures | {"majority": None, "blind": None, "chance": None, "ceiling": None}
    listed = {normalise(answer) for answer in answers.answers}
    best = [max((vqa_accuracy(a, q.answers) for a, _ in q.answers if normalise(a) in listed), default=0.0) for q, _ in scored]
    return figures | {
        "majority": _mean([vqa_accuracy(answers.majority.get(q.kind, ""), q.answers) for q, _ in scored]) if answers.majority else None,
        "blind": _mean([vqa_accuracy(answers.guess(q.kind, q.text), q.answers) for q, _ in scored]) if answers.blind else None,
        "chance": 1 / len(answers.answers) if scored else None,
        "ceiling": _mean(best),
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
