"""Answering questions: the loss by hand, ranking against a naive twin, learning a handful of questions, and the figures."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.answers import AnswerList, make_answer_list
from semmim_mini.data.pairs import Pair
from semmim_mini.data.question_loader import MirroredView, QuestionLoader, WholeView
from semmim_mini.data.questions import Asked, VisualQuestion
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.decoding import Decoding
from semmim_mini.tasks.vqa import AnswerStep, evaluate_vqa, generate_answers, log_likelihood, rank_answers, read_questions
from semmim_mini.training.schedules import plan_at

COLOURS = {"red": (230, 20, 20), "blue": (20, 20, 230), "dark green": (10, 90, 10), "white": (250, 250, 250)}
WORDS = ["what colour is it? is it red? how many are there? yes no two three", *COLOURS]
SETTINGS = [f"losses.{term}.weight=0" for term in ("itc", "itm", "mlm", "consensus", "mim", "caption")]
SETTINGS += ["losses.answer.weight=1", "losses.queue=0", "task.name=vqa", "data.max_length=10"]


class Coloured:
    """Plain pictures in four colours; two questions about each, the same words every time: only the picture tells the answer."""

    name = "coloured"

    def __init__(self, people: int = 1, annotated: bool = True):
        self.people, self.annotated = people, annotated

    def __len__(self) -> int:
        return 8

    def captions(self, index: int) -> tuple[Asked]:
        colour = [*COLOURS][index % 4]
        text, answer, kind = (
            ("what colour is it?", colour, "other") if index < 4 else ("is it red?", "yes" if colour == "red" else "no", "yes/no")
        )
        answers = ((answer, self.people),) if self.annotated else ()
        return (Asked(VisualQuestion(text, answers, kind, 50 + index, index % 4)),)

    def __getitem__(self, index: int) -> Pair:
        pixels = torch.tensor([*COLOURS.values()][index % 4], dtype=torch.uint8)[:, None, None].expand(3, 16, 16)
        return Pair(tv_tensors.Image(pixels), self.captions(index), index % 4, f"picture {index}")

    def sample(self, count: int):
        return (self.captions(index)[0].question for index in range(min(count, 8)))


TOKENIZER = train_wordpiece(WORDS, 200)  # enough for whole words
ANSWERS = ["no", "yes", "two", "three", "red", "blue", "dark green", "white", "dark red", "two three"]


def make(tiny, *settings: str) -> SemMIM:
    torch.manual_seed(0)
    return SemMIM(tiny(*SETTINGS, *settings), len(TOKENIZER))


@pytest.fixture(scope="module")
def model(tiny) -> SemMIM:
    """Untrained, but with answers that depend on question and picture much more than fresh weights let them."""
    model = make(tiny).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch_of(questions=None, size: int = 8):
    loader = QuestionLoader(
        questions or Coloured(), TOKENIZER, MirroredView(16), batch_size=size, seed=0, start_step=0, stop_step=1, max_length=10
    )
    return next(iter(loader))


def asked(images_of=(0, 1, 6)) -> tuple[torch.Tensor, list[str]]:
    pairs = [Coloured()[i] for i in images_of]
    return torch.stack([WholeView(16)(pair).pixels for pair in pairs]), [str(pair.captions[0]) for pair in pairs]


# The loss ---------------------------------------------------------------------------------------------------------------


def test_log_likelihood_by_hand():
    # Three words of p = 1/2, 1/4, 1/8; the second answer has only the first of them.
    p = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.125, 0.125, 0.75]])
    wanted = torch.tensor([[0, 1, 0], [0, -100, -100]])
    found = log_likelihood(p.log().expand(2, 3, 3), wanted)
    torch.testing.assert_close(found.exp(), torch.tensor([1 / 64, 1 / 2]))


def test_the_loss_weighs_answers_by_people_and_questions_equally(model):
    class Disagreeing(Coloured):
        def captions(self, index):
            answers = [(("red", 7), ("dark red", 3)), (("blue", 9), ("", 1)), (("no", 1),), ()][index % 4]
            return (Asked(VisualQuestion("what colour is it?", answers, "other", index, index)),)

    batch = batch_of(Disagreeing())
    loss = 0
    for row, question in enumerate(batch.captions):  # one answer at a time, padding nowhere
        ids, words = batch.input_ids[row : row + 1], batch.attention_mask[row : row + 1]
        states = read_questions(model, batch.images[0, row : row + 1], ids, words)
        for answer, weight in question.question.weights.items():
            tokens = torch.tensor([TOKENIZER(answer)["input_ids"]])
            log_p = model.answerer(tokens, tokens > 0, states)[0].log_softmax(dim=-1)
            loss -= weight * sum(log_p[i, tokens[0, i + 1]] for i in range(tokens.shape[1] - 1)) / 8
    out = AnswerStep(model)(batch, plan_at(model.config, 0), seed=0)
    assert set(out.losses) == {"answer"} and not out.remember
    torch.testing.assert_close(out.losses["answer"], loss)


def test_micro_batches_add_up_to_the_batch(model):
    batch, step, plan = batch_of(), AnswerStep(model), plan_at(model.config, 0)
    parts = [step(part, plan, 0).losses["answer"] for part in batch.split(4)]
    torch.testing.assert_close(sum(parts) / 4, step(batch, plan, 0).losses["answer"])


def test_accuracy_counts_answers_whose_every_word_is_the_likeliest(model):
    batch = batch_of()
    states = read_questions(model, batch.images[0], batch.input_ids, batch.attention_mask)
    right = []
    for row, ids, mask in zip(batch.answer_of, batch.answer_ids, batch.answer_mask, strict=True):
        best = model.answerer(ids[mask][None], mask[mask][None], states[row][None], batch.attention_mask[row][None])[0].argmax(dim=-1)
        right.append(torch.equal(best[:-1], ids[mask][1:]))
    accuracy = AnswerStep(model)(batch, plan_at(model.config, 0), 0).metrics["answer_accuracy"]
    assert accuracy.item() == pytest.approx(sum(right) / 8) and not accuracy.requires_grad


def test_a_batch_without_answers_costs_nothing(model):
    loss = AnswerStep(model)(batch_of(Coloured(annotated=False)), plan_at(model.config, 0), 0).losses["answer"]
    loss.backward()
    assert loss.item() == 0
    model.zero_grad()


def test_gradients_reach_what_answers_and_nothing_else(model):
    step, plan = AnswerStep(model), plan_at(model.config, 0)
    step(batch_of(), plan, 0).losses["answer"].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for part in ("student.image.", "student.text.", "fusion.", "answerer."):
        assert any(name.startswith(part) for name in moved), part
    assert all(name.startswith(("student.image.", "student.text.", "fusion.", "answerer.")) for name in moved)
    assert not step.needs_teacher(plan) and step.remember({}) is None
    model.zero_grad()


def test_padding_of_question_and_answer_changes_nothing(model):
    batch = batch_of()
    longer = {name: F.pad(getattr(batch, name), (0, 2)) for name in ("input_ids", "attention_mask", "answer_ids", "answer_mask")}
    step, plan = AnswerStep(model), plan_at(model.config, 0)
    padded = type(batch)(**{**vars(batch), **longer})
    torch.testing.assert_close(step(padded, plan, 0).losses["answer"], step(batch, plan, 0).losses["answer"])


# Ranking and writing ----------------------------------------------------------------------------------------------------


def naive_scores(model, images, questions, answers) -> torch.Tensor:
    """log p of every answer to every question, each alone."""
    scores = torch.empty(len(questions), len(answers))
    with torch.no_grad():
        for i, question in enumerate(questions):
            ids, words = tokenize(TOKENIZER, [question], 10)
            states = read_questions(model, images[i : i + 1], ids, words)
            for j, answer in enumerate(answers):
                tokens = torch.tensor([TOKENIZER(answer)["input_ids"]])
                log_p = model.answerer(tokens, tokens > 0, states)[0, :-1].log_softmax(dim=-1)
                scores[i, j] = log_p.gather(1, tokens[0, 1:, None]).sum()
    return scores


@settings(max_examples=15)
@given(st.integers(1, 14), st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=10, unique=True), st.sampled_from([1, 3, 1024]))
def test_ranking_equals_the_naive_twin(model, top, answers, block):
    images, questions = asked()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semmim_mini.tasks.vqa.BLOCK", block)
        ranked = rank_answers(model, TOKENIZER, images, questions, answers, top)
    scores, k = naive_scores(model, images, questions, answers), min(top, len(answers))
    torch.testing.assert_close(ranked.log_likelihood, scores.gather(1, ranked.candidates), rtol=1e-4, atol=1e-4)
    assert ranked.candidates.shape == (3, k) and (ranked.candidates.diff(dim=1) > 0).all()
    if k == len(answers):  # exact: the best of all
        assert ranked.texts == [answers[i] for i in scores.argmax(dim=1).tolist()]
    # Which answers were looked at: those with the likeliest first words.
    first = torch.stack([naive_first(model, image, question, answers) for image, question in zip(images, questions, strict=True)])
    for row, chosen in zip(first, ranked.candidates, strict=True):
        left = [i for i in range(len(answers)) if i not in chosen.tolist()]
        assert not left or row[chosen].min() >= row[left].max() - 1e-5


def naive_first(model, image, question, answers) -> torch.Tensor:
    ids, words = tokenize(TOKENIZER, [question], 10)
    with torch.no_grad():
        states = read_questions(model, image[None], ids, words)
        start = torch.tensor([[TOKENIZER.cls_token_id]])
        log_p = model.answerer(start, start > 0, states)[0, 0].log_softmax(dim=-1)
    return torch.stack([log_p[TOKENIZER(answer)["input_ids"][1]] for answer in answers])


def test_equally_likely_answers_are_ranked_by_their_place(model):
    images, questions = asked()
    assert rank_answers(model, TOKENIZER, images, questions, ["red", "Red"]).texts == ["red"] * 3
    assert rank_answers(model, TOKENIZER, images, questions, ["Red", "red"]).texts == ["Red"] * 3


def test_answers_do_not_depend_on_the_rest_of_the_batch(model):
    images, questions = asked()
    together = generate_answers(model, TOKENIZER, images, questions), rank_answers(model, TOKENIZER, images, questions, ANSWERS).texts
    for i in range(3):
        alone = images[i : i + 1], questions[i : i + 1]
        assert generate_answers(model, TOKENIZER, *alone) == together[0][i : i + 1]
        assert rank_answers(model, TOKENIZER, *alone, ANSWERS).texts == together[1][i : i + 1]


def test_impossible_rankings_are_refused(model):
    images, questions = asked()
    with pytest.raises(UserError, match="at least one answer and top ≥ 1; there are 0 answers"):
        rank_answers(model, TOKENIZER, images, questions, [])
    with pytest.raises(UserError, match="there are 10 answers and top=0"):
        rank_answers(model, TOKENIZER, images, questions, ANSWERS, top=0)


# Learning ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tiny) -> tuple[SemMIM, list[float]]:
    """After seventy steps on the eight questions; a little wider than the smallest configuration, which takes twice as many."""
    model, batch, losses = make(tiny, "text.width=48", "image.width=48"), batch_of(), []
    step, plan = AnswerStep(model), plan_at(model.config, 0)
    optimizer = torch.optim.AdamW([p for _, p in model.trainable()], lr=4e-3)
    for _ in range(70):
        loss = step(batch, plan, 0).losses["answer"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def test_a_handful_of_questions_is_learned(learned):
    model, losses = learned
    assert losses[-1] < 0.3 < 3 < losses[0]
    answers = make_answer_list(Coloured())
    for method in ("rank", "generate"):
        found = evaluate_vqa(model, TOKENIZER, Coloured(), answers=answers, method=method)
        assert found["overall"]["accuracy"] == 1, method


def test_answers_come_from_the_picture(learned):
    # The right questions with the next picture: no colour is right any more.
    images, questions = asked(range(4))
    assert rank_answers(learned[0], TOKENIZER, images.roll(1, 0), questions, ANSWERS).texts == ["white", "red", "blue", "dark green"]


def test_answers_come_from_the_question(learned):
    images, questions = asked((0, 4))
    assert torch.equal(images[0], images[1])
    assert rank_answers(learned[0], TOKENIZER, images, questions, ANSWERS).texts == ["red", "yes"]


def test_decoding_can_be_chosen(learned):
    images, questions = asked(range(4))
    greedy = generate_answers(learned[0], TOKENIZER, images, questions, Decoding(method="greedy", max_length=8))
    assert greedy == ["red", "blue", "dark green", "white"]


# Figures ----------------------------------------------------------------------------------------------------------------


class AnswersRed:
    """In place of a model's ranking: everything is red."""

    def __init__(self, model, tokenizer, images, questions, answers, top):
        self.texts = ["red"] * len(questions)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_figures_by_hand(model, monkeypatch, batch):
    monkeypatch.setattr("semmim_mini.tasks.vqa.rank_answers", AnswersRed)
    # One of four colours is red, no yes/no question is answered. "dark green" is in no list. Most answers were "no".
    answers = AnswerList(("no", "yes", "red", "blue", "white"), {"other": "blue", "yes/no": "no"}, {"is it red?": "yes"})
    found = evaluate_vqa(model, TOKENIZER, Coloured(), answers=answers, batch=batch)
    assert found == {
        "method": "rank",
        "n_answers": 5,
        "overall": {"accuracy": 1 / 8, "n": 8, "majority": 4 / 8, "blind": 2 / 8, "chance": 1 / 5, "ceiling": 7 / 8},
        "kinds": {
            "other": {"accuracy": 1 / 4, "n": 4, "majority": 1 / 4, "blind": 1 / 4, "chance": 1 / 5, "ceiling": 3 / 4},
            "yes/no": {"accuracy": 0, "n": 4, "majority": 3 / 4, "blind": 1 / 4, "chance": 1 / 5, "ceiling": 1},
        },
    }
    few = evaluate_vqa(model, TOKENIZER, Coloured(), 2, answers=AnswerList(("red",), {}))
    assert few["overall"] == {"accuracy": 1 / 2, "n": 2, "majority": None, "blind": None, "chance": 1, "ceiling": 1 / 2}


@pytest.mark.parametrize("batch", [4, 8])
def test_what_is_left_with_another_image_was_not_seen(learned, batch):
    found = evaluate_vqa(learned[0], TOKENIZER, Coloured(), answers=AnswerList(tuple(ANSWERS), {}), wrong_images=True, batch=batch)
    # The next picture has another colour; "is it red?" is no about two of the three that are not red, and white's next is red.
    figures = {kind: (figures["accuracy"], figures["wrong_image"]) for kind, figures in found["kinds"].items()}
    assert figures == {"other": (1, 0), "yes/no": (1, 2 / 4)} and found["overall"]["wrong_image"] == 2 / 8


def test_a_batch_about_one_image_has_no_other(learned):
    found = evaluate_vqa(learned[0], TOKENIZER, Coloured(), 1, answers=AnswerList(tuple(ANSWERS), {}), wrong_images=True)
    assert found["overall"]["wrong_image"] is None


def test_several_people_are_scored_by_the_official_rule(model, monkeypatch):
    monkeypatch.setattr("semmim_mini.tasks.vqa.rank_answers", AnswersRed)
    found = evaluate_vqa(model, TOKENIZER, Coloured(people=3), 1, answers=AnswerList(("red",), {}))
    assert found["overall"]["accuracy"] == pytest.approx(2 / 3)


def test_repeated_questions_count_once(model):
    class Twice(Coloured):
        def __len__(self):
            return 16

        def captions(self, index):
            return super().captions(index % 8)

    found = evaluate_vqa(model, TOKENIZER, Twice(), answers=AnswerList(("red",), {}), batch=5)
    assert found["overall"]["n"] == 8 and [kind["n"] for kind in found["kinds"].values()] == [4, 4]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_model_as_it_was(model, training):
    model.train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    evaluate_vqa(model, TOKENIZER, Coloured(), 3, method="generate")
    assert model.training == training and all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    model.eval()


def test_the_official_result_file(model, tmp_path):
    file = tmp_path / "results.json"
    found = evaluate_vqa(model, TOKENIZER, Coloured(annotated=False), answers=AnswerList(("red", "no"), {}), results=file)
    entries = json.loads(file.read_text())
    assert [entry["question_id"] for entry in entries] == [*range(50, 58)]
    assert all(set(entry) == {"question_id", "answer"} and entry["answer"] in ("red", "no") for entry in entries)
    assert found["overall"] == dict.fromkeys(("accuracy", "majority", "blind", "chance", "ceiling")) | {"n": 8} and found["kinds"] == {}


def test_impossible_evaluations_are_refused(model, tiny):
    with pytest.raises(UserError, match="method='guess' is unknown; choose one of rank, generate"):
        evaluate_vqa(model, TOKENIZER, Coloured(), method="guess")
    with pytest.raises(UserError, match="needs a list of answers"):
        evaluate_vqa(model, TOKENIZER, Coloured())
    with pytest.raises(UserError, match="coloured has no annotations to score by; evaluate val, or name a result file"):
        evaluate_vqa(model, TOKENIZER, Coloured(annotated=False), method="generate")


def test_a_model_that_cannot_answer_says_what_to_do(tiny):
    silent = make(tiny, "losses.answer.weight=0")
    for use in (
        lambda: AnswerStep(silent),
        lambda: rank_answers(silent, TOKENIZER, *asked(), ANSWERS),
        lambda: generate_answers(silent, TOKENIZER, *asked()),
        lambda: evaluate_vqa(silent, TOKENIZER, Coloured(), method="generate"),
    ):
        with pytest.raises(UserError, match=r"no answer decoder .*; make one with: semmim-mini finetune vqa"):
            use()
