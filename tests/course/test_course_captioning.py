"""Notebook 10: the right answer passes, typical wrong ones are told their mistake, and what is called true of a scene is."""

import math
from collections import Counter

import pytest
import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import captioning
from semmim_mini.course.caption_truth import claims, share_true
from semmim_mini.course.captioning import check_beam_step, check_bleu, check_nucleus, check_shift
from semmim_mini.data.sources import open_pairs
from semmim_mini.tasks.caption_scores import score_captions
from semmim_mini.tasks.decoding import Decoding, nucleus

# The answers ----------------------------------------------------------------------------------------------------------


def shift(ids, words):
    wanted = ids[:, 1:].clone()
    wanted[~words[:, 1:]] = -100
    return ids[:, :-1], wanted


def beam_by_loops(running, log_probs):
    every = [(running[k].item() + x, k, v) for k, row in enumerate(log_probs.tolist()) for v, x in enumerate(row)]
    best = sorted(every, reverse=True)[: len(running)]
    return tuple(torch.tensor(column) for column in zip(*best, strict=True))


def beam(running, log_probs):
    total, place = (running[:, None] + log_probs).flatten().topk(len(running))
    return total, place // log_probs.shape[1], place % log_probs.shape[1]


def nucleus_by_loops(probs, top_p):
    rows = []
    for row in probs.tolist():
        kept, total = {}, 0.0
        for word in sorted(range(len(row)), key=lambda i: -row[i]):
            if total < top_p:
                kept[word] = row[word]
                total += row[word]
        rows.append([kept.get(i, 0.0) / total for i in range(len(row))])
    return torch.tensor(rows)


def nucleus_by_rank(probs, top_p):
    share, word = probs.sort(dim=-1, descending=True)
    share = share.masked_fill(share.cumsum(dim=-1) - share >= top_p, 0.0)
    share = share / share.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter(1, word, share)


def bleu(caption, references, n, clip=True, penalty=True):
    total = 0.0
    for i in range(1, n + 1):
        mine, *others = (Counter(zip(*(words[j:] for j in range(i)))) for words in (caption, *references))  # noqa: B905
        most = {gram: max(other[gram] for other in others) for gram in mine}
        right = sum(min(count, most[gram]) if clip else count * (most[gram] > 0) for gram, count in mine.items())
        total += math.log(max(right, 1e-30) / sum(mine.values())) / n
    closest = min((len(words) for words in references), key=lambda length: (abs(length - len(caption)), length))
    return math.exp(total + min(0.0, 1 - closest / len(caption)) * penalty)


NUMBER = 10
RIGHT = [
    (check_shift, shift),
    (check_beam_step, beam_by_loops),
    (check_beam_step, beam),
    (check_nucleus, nucleus_by_loops),
    (check_nucleus, nucleus_by_rank),
    (check_bleu, bleu),
]
WRONG = [
    (check_shift, lambda i, w: (i, i), r"expected shape \([0-9]+, [0-9]+\)"),
    (check_shift, lambda i, w: (i[:, :-1], i[:, :-1].masked_fill(~w[:, :-1], -100)), "nothing is shifted"),
    (check_shift, lambda i, w: (i[:, :-1], i[:, 1:]), "padding is asked for"),
    (check_shift, lambda i, w: (i[:, :-1], shift(i, w)[1].masked_fill(i[:, 1:] == 3, -100)), "learn to stop"),
    (check_shift, lambda i, w: (i[:, :-1], i[:, 1:] * w[:, 1:]), r"0 is the id of \[PAD\]"),
    (check_beam_step, lambda r, p: beam(r * 0, p), "`running` is not used"),
    (check_beam_step, lambda r, p: beam(r, p.exp()), "a probability is added to a logarithm"),
    (check_beam_step, lambda r, p: (beam(r, p)[0], beam(r, p)[2], beam(r, p)[1]), "have changed places in the answer"),
    (check_beam_step, lambda r, p: ((r[:, None] + p).amax(1), torch.arange(len(r)), p.argmax(1)), "k greedy searches"),
    (check_beam_step, lambda r, p: beam(r, p)[0], "expected 3 results"),
    (check_nucleus, lambda p, t: p * (nucleus_by_rank(p, t) > 0), "do not add up to 1"),
    (check_nucleus, lambda p, t: nucleus_by_rank(p.sort(dim=-1, descending=True).values, t), "still in sorted order"),
    (check_nucleus, lambda p, t: (p == p.amax(1, keepdim=True)).float(), "that is greedy"),
    (check_nucleus, lambda p, t: p, "[0-9]+ of [0-9]+ numbers differ"),
    (check_bleu, lambda c, r, n: bleu(c, r, n, clip=False), "not clipped"),
    (check_bleu, lambda c, r, n: bleu(c, r, n, penalty=False), "too short is missing"),
    (check_bleu, lambda c, r, n: bleu(c, r[:1], n), "only the first reference"),
    (check_bleu, lambda c, r, n: bleu(c, r, 1), "expected [0-9.]+, got"),
]  # fmt: skip
LISTS = (
    (check_shift, captioning.SHIFT_MISTAKES),
    (check_beam_step, captioning.BEAM_STEP_MISTAKES),
    (check_nucleus, captioning.NUCLEUS_MISTAKES),
    (check_bleu, captioning.BLEU_MISTAKES),
)


# What the checkers take for right is the library's --------------------------------------------------------------------


def test_bleu_is_pycocoevalcaps():
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        words = [captioning.WORDS[i] for i in torch.randint(len(captioning.WORDS), (30,), generator=draw)]
        caption, references = words[:7], [words[2:11], words[:5], words[11:17]]
        twice = {image: " ".join(caption) for image in (0, 1)}  # of one image alone it takes the mean length of the references
        score = score_captions(twice, {image: [" ".join(reference) for reference in references] for image in (0, 1)})
        assert captioning._bleu(caption, references, 2) == pytest.approx(score["bleu2"], abs=1e-6)


def test_the_nucleus_is_what_the_library_draws_from():
    probs = torch.tensor([[0.5, 0.1, 0.3, 0.1]])
    assert captioning._nucleus(probs, 0.7)[0].tolist() == pytest.approx([0.625, 0.0, 0.375, 0.0])
    many = 2_000
    choose = nucleus(Decoding("nucleus", top_p=0.7), many, torch.Generator().manual_seed(0))
    drawn = torch.bincount(choose(probs.log().expand(many, 4), 1), minlength=4) / many
    torch.testing.assert_close(drawn, captioning._nucleus(probs, 0.7)[0], atol=0.04, rtol=0)


# Words that are true --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes():
    pairs = open_pairs("scenes", "test", resolution=32, size=40)
    return [pairs[i] for i in range(40)]


def test_words_of_a_caption_by_hand(scenes):
    pair = next(pair for pair in scenes if all("red" not in thing.colors for thing in pair.truth.objects))
    thing, colour = pair.truth.objects[0].concept, pair.truth.objects[0].colors[0]
    said = f"a {colour} {thing} and a red zeppelin on a red background"
    found = [(claim.kind, said[claim.start : claim.end], claim.true) for claim in claims(said, pair)]
    assert found == [("colour", colour, True), ("thing", thing, True), ("colour", "red", False)]  # no cutout is called zeppelin


def test_all_words_of_true_captions_are_true(scenes):
    for choice in range(5):
        assert share_true([pair.captions[choice] for pair in scenes], scenes) == {"thing": 1.0, "colour": 1.0}


def test_words_about_another_scene_are_mostly_false(scenes):
    found = share_true([pair.captions[0] for pair in scenes], scenes[1:] + scenes[:1])
    assert found["thing"] < 0.2 and found["colour"] < 0.7


def test_nothing_said_is_no_share(scenes):
    assert math.isnan(share_true(["we can see"], scenes[:1])["thing"]) and claims("", scenes[0]) == []
