"""Batches of questions: pure functions of seed and step, with all answers, in views that keep them true."""

import pickle
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.data.question_loader import MirroredView, QuestionBatch, QuestionLoader, WholeView, may_mirror
from semmim_mini.data.questions import Asked, VisualQuestion
from semmim_mini.data.text import train_wordpiece
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError

ANSWERS = [(("red", 7), ("dark red", 3)), (("two", 1),), (), (("yes", 6), ("no", 3), ("", 1)), (("a dog", 1),)]


class TenQuestions:
    """Ten noisy pictures with a question each; picture 7 cannot be read when `broken`."""

    name = "ten questions"

    def __init__(self, broken: bool = False, answers=ANSWERS):
        self.broken, self.answers = broken, answers

    def __len__(self) -> int:
        return 10

    def captions(self, index: int) -> tuple[Asked]:
        text = "what is it?" if index % 2 else f"which of these {index} things is here?"
        return (Asked(VisualQuestion(text, self.answers[index % len(self.answers)], "other", 1000 + index, 100 + index)),)

    def __getitem__(self, index: int) -> Pair:
        pixels = torch.randint(256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return Pair(tv_tensors.Image(pixels), self.captions(index), 100 + index, f"picture {index}")

    def read(self, index: int) -> tuple[Pair, list[str]]:
        return (self[8], ["picture 7"]) if self.broken and index == 7 else (self[index], [])


TOKENIZER = train_wordpiece(["what is it? which of these things is here? 0123456789", "red dark two yes no a dog"], 120)


def loader(questions=None, **options) -> QuestionLoader:
    options = dict(batch_size=4, seed=1, start_step=0, stop_step=4, max_length=12) | options
    return QuestionLoader(questions or TenQuestions(), TOKENIZER, MirroredView(16), **options)


def same(one: QuestionBatch, other: QuestionBatch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(QuestionBatch)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def answers_by_question(batch: QuestionBatch) -> list[list[tuple[str, float]]]:
    """What the answer rows say, read back from the tokens."""
    found = [[] for _ in batch.captions]
    rows = zip(batch.answer_of.tolist(), batch.answer_ids, batch.answer_mask, batch.answer_weights.tolist(), strict=True)
    for row, ids, mask, weight in rows:
        assert ids[0] == TOKENIZER.cls_token_id and ids[mask][-1] == TOKENIZER.sep_token_id
        found[row].append((TOKENIZER.decode(ids[mask], skip_special_tokens=True), weight))
    return found


def test_a_batch_holds_questions_and_all_their_answers():
    batch = next(iter(loader(batch_size=10)))
    assert batch.images.shape == (1, 10, 3, 16, 16) and batch.images.dtype == torch.float32
    for asked, ids, words, image_id in zip(batch.captions, batch.input_ids, batch.attention_mask, batch.image_ids, strict=True):
        assert TOKENIZER(asked)["input_ids"] == ids[words].tolist() and asked.question.image_id == image_id
    wanted = {0: [("red", 0.7), ("dark red", 0.3)], 1: [("two", 1.0)], 2: [], 3: [("yes", 0.6), ("no", 0.3)], 4: [("a dog", 1.0)]}
    for asked, found in zip(batch.captions, answers_by_question(batch), strict=True):
        expected = wanted[asked.question.question_id % 5]
        assert [a for a, _ in found] == [a for a, _ in expected]
        assert [w for _, w in found] == pytest.approx([w for _, w in expected])


def test_workers_and_resuming_change_nothing():
    alone, helped, resumed = list(loader()), list(loader(workers=2)), list(loader(start_step=2))
    assert len(alone) == len(helped) == 4 and len(resumed) == 2
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
    assert all(same(a, b) for a, b in zip(alone[2:], resumed, strict=True))


def test_processes_partition_the_global_batch():
    for whole, *parts in zip(loader(), loader(rank=0, world=2), loader(rank=1, world=2), strict=True):
        assert torch.equal(torch.cat([part.images for part in parts], dim=1), whole.images)
        assert [a for part in parts for a in answers_by_question(part)] == answers_by_question(whole)


@given(st.integers(0, 50), st.sampled_from([1, 2, 5, 10]))
def test_slices_keep_each_answer_with_its_question(seed, parts):
    batch = next(iter(loader(batch_size=10, seed=seed)))
    slices = batch.split(parts)
    assert all(isinstance(part, QuestionBatch) and len(part.image_ids) == 10 // parts for part in slices)
    assert [a for part in slices for a in answers_by_question(part)] == answers_by_question(batch)
    assert [str(q) for part in slices for q in part.captions] == [str(q) for q in batch.captions]


def test_unreadable_pictures_are_told_once():
    batches = list(loader(TenQuestions(broken=True), batch_size=5, stop_step=2))
    assert [name for batch in batches for part in batch.split(5) for name in part.skipped] == ["picture 7"]
    numbers = [q.question.question_id for batch in batches for q in batch.captions]
    assert sorted(numbers) == [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1008, 1008, 1009]


def test_a_batch_without_any_answer_is_a_batch():
    batch = next(iter(loader(TenQuestions(answers=[()]))))
    assert batch.answer_ids.shape[0] == len(batch.answer_of) == len(batch.answer_weights) == 0


def test_batches_move_and_pickle():
    batch = next(iter(loader()))
    moved = batch.to("meta")
    tensors = [x for x in vars(moved).values() if isinstance(x, torch.Tensor)]
    assert isinstance(moved, QuestionBatch) and len(tensors) == 10 and all(x.device.type == "meta" for x in tensors)
    assert same(pickle.loads(pickle.dumps(batch)), batch)


def test_impossible_batches_are_refused():
    with pytest.raises(UserError, match=r"ten questions has 10 pairs, fewer than data.batch_size=11"):
        loader(batch_size=11)


# Views ------------------------------------------------------------------------------------------------------------------


def test_the_whole_picture_is_seen():
    # Only the last column of a wide picture is white. A square cut out of its middle would not show it.
    pixels = torch.zeros(3, 8, 24, dtype=torch.uint8)
    pixels[:, :, -1] = 255
    pair = Pair(tv_tensors.Image(pixels), ("?",), 0, "wide")
    assert WholeView(8)(pair).pixels[:, :, -1].min() > -0.9
    assert CenterView(8)(pair).pixels.max() == -1
    square = Pair(tv_tensors.Image(pixels[:, :, -8:]), ("?",), 0, "square")
    torch.testing.assert_close(WholeView(8)(square).pixels, CenterView(8)(square).pixels)


def views_of(question: str, *answers: str) -> list[torch.Tensor]:
    """The different views of a picture in twenty draws."""
    pair = TenQuestions()[0]
    asked = Asked(VisualQuestion(question, tuple((answer, 1) for answer in answers), "other", 0, 0))
    drawn = [MirroredView(16)(pair, asked, torch.Generator().manual_seed(seed)).pixels for seed in range(20)]
    assert all(view.shape == (1, 3, 16, 16) for view in drawn)
    return [view for i, view in enumerate(drawn) if not any(torch.equal(view, other) for other in drawn[:i])]


def test_views_are_the_picture_and_its_mirror_image_where_no_answer_changes():
    one, other = views_of("what is above the dog?", "bus")
    whole = WholeView(16)(TenQuestions()[0]).pixels
    assert {bool(torch.equal(view[0], whole)) for view in (one, other)} == {True, False}
    torch.testing.assert_close(one, other.flip(-1))


@pytest.mark.parametrize(
    "question, answers",
    [
        ("is the dog to the left of the bus?", ("yes",)),
        ("where is the dog?", ("in the middle", "at the top right")),
        ("what does the sign say?", ("stop",)),
        ("What time is it?", ("3:15",)),
    ],
)
def test_no_mirror_where_an_answer_would_change(question, answers):
    (view,) = views_of(question, *answers)
    assert torch.equal(view[0], WholeView(16)(TenQuestions()[0]).pixels)
    assert not may_mirror(question, answers)


@pytest.mark.parametrize("question, answer", [("is the man upright?", "yes"), ("how many copyrights?", "2"), ("which cause?", "already")])
def test_words_that_only_hold_such_words_allow_the_mirror(question, answer):
    assert may_mirror(question, (answer,))
