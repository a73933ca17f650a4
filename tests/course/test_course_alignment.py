"""Checkers and pictures of notebook 03: right answers pass, typical wrong ones are told their mistake, pictures show their numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import alignment
from semmim_mini.course.alignment import check_enqueue, check_info_nce, check_negatives, check_unigram_entropy
from semmim_mini.course.alignment_pictures import (
    base_rate,
    caption_bars,
    losses_beside_chance,
    pulls,
    ring,
    similarity_matrices,
    similarity_table,
    temperatures,
)
from semmim_mini.course.pictures import png
from semmim_mini.course.text_pictures import paid_for_words, two_stacks, who_reads_what
from semmim_mini.figures.style import WIDTH


def info_nce(similarity, ids, key_ids, temperature, dim=1, positives=lambda same, row: same, of=lambda log_p: -log_p.mean()):
    """Row by row; `positives` chooses among the keys of the same picture, `of` makes a loss of their log-probabilities."""
    logits, losses = F.log_softmax(similarity / temperature, dim=dim), []
    for row in range(len(ids)):
        same = positives((key_ids == ids[row]).nonzero().flatten().tolist(), row)
        losses.append(of(logits[row, same]))
    return torch.stack(losses).mean()


def rotate(queue, rows, pointer, wrap=True, after=0):
    queue = queue.clone()
    for i, row in enumerate(rows):
        if wrap or pointer + i < len(queue):
            queue[(pointer + i) % len(queue)] = row
    return queue, (pointer + len(rows) + after) % len(queue)


def negatives(similarity, ids, key_ids, uniform, noise=lambda u: -(-u.log()).log(), same=lambda a, b: a == b):
    chosen = []
    for row in range(len(ids)):
        others = [key for key in range(len(key_ids)) if not same(int(ids[row]), int(key_ids[key]))]
        score = similarity[row] + noise(uniform[row])
        chosen.append(max(others, key=lambda key: float(score[key])) if others else -1)
    return torch.tensor(chosen)


def entropy(tokens, log=math.log):
    return -sum(tokens.count(t) / len(tokens) * log(tokens.count(t) / len(tokens)) for t in set(tokens))


NUMBER = 3
RIGHT = [
    (check_info_nce, info_nce),
    (check_enqueue, rotate),
    (check_negatives, negatives),
    (check_unigram_entropy, lambda ids, words: entropy(ids[words].tolist())),
]
WRONG = [
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, 1.0), "the temperature is missing"),
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, t, of=lambda x: -x.exp().mean().log()), "average the probabilities"),
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, t, of=lambda x: -x.logsumexp(0)), "add up the probabilities"),
    (check_info_nce, lambda s, a, b, t: F.cross_entropy(s / t, torch.arange(len(s))), "only the diagonal counts as positive"),
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, t, dim=0), "softmax runs over the queries"),
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, t, of=lambda x: -x.sum()), "added up; the truth is a distribution"),
    (check_info_nce, lambda s, a, b, t: info_nce(s, a, b, t).item(), "expected a tensor, got float"),
    (check_enqueue, lambda q, rows, p: rotate(q, rows, p, wrap=False), "rows that do not fit before the end are lost"),
    (check_enqueue, lambda q, rows, p: rotate(q, rows, 0), "always written from place 0"),
    (check_enqueue, lambda q, rows, p: (rotate(q, rows, p)[0], p + len(rows)), "runs out of the ring"),
    (check_enqueue, lambda q, rows, p: rotate(q, rows, p, after=-1), "overwrites the newest row"),
    (check_enqueue, lambda q, rows, p: (torch.cat([q[len(rows) :], rows]), (p + len(rows)) % len(q)), "all rows move up"),
    (check_enqueue, lambda q, rows, p: (q.index_copy_(0, (p + torch.arange(len(rows))) % len(q), rows), 0), "in place; make a new one"),
    (check_negatives, lambda s, a, b, u: negatives(s, a, b, u, same=lambda x, y: False), "nothing is excluded"),
    (check_negatives, lambda s, a, b, u: negatives(s, a, b, u, noise=torch.zeros_like), "always the hardest negative"),
    (check_negatives, lambda s, a, b, u: negatives(s, a, b, u, noise=lambda x: (-x.log()).log()), "sign of the noise"),
    (check_negatives, lambda s, a, b, u: negatives(s, a, b, u, noise=lambda x: -x.log()), "one logarithm is missing"),
    (check_negatives, lambda s, a, b, u: negatives(0 * s, a, b, u), "similarity is not used"),
    (check_negatives, lambda s, a, b, u: negatives(s, a, b, u).clamp_min(0), "return -1 there"),
    (check_unigram_entropy, lambda ids, words: entropy(ids.flatten().tolist()), "padding is counted"),
    (check_unigram_entropy, lambda ids, words: entropy(ids[words].tolist(), math.log2), r"in bits \(log2\)"),
    (check_unigram_entropy, lambda ids, words: math.log(len(set(ids[words].tolist()))), "how many different words"),
    (check_unigram_entropy, lambda ids, words: math.exp(entropy(ids[words].tolist())), "the perplexity"),
]  # fmt: skip
LISTS = (
    (check_info_nce, alignment.INFO_NCE_MISTAKES),
    (check_enqueue, alignment.ENQUEUE_MISTAKES),
    (check_negatives, alignment.NEGATIVES_MISTAKES),
    (check_unigram_entropy, alignment.ENTROPY_MISTAKES),
)


# Pictures -------------------------------------------------------------------------------------------------------------


def test_who_reads_how_many_keys():
    # Four real tokens, two of padding, nine patches and the image's [CLS].
    number = who_reads_what(words=4, padding=2, patches=9).number
    assert number == {"text_cls": 4, "text_last": 4, "fusion_cls": 14, "fusion_last": 14, "caption_cls": 11, "caption_last": 14}


def test_accuracy_is_the_share_of_rows_that_are_highest_on_the_diagonal():
    right, half = torch.eye(2), torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    number = similarity_matrices({"before": half, "after": right}).number
    assert number == {"before": 0.5, "after": 1.0, "chance": 0.5}
    assert similarity_table(torch.zeros(2, 3, 8, 8), ["a cat", "two dogs"], half).number == {"accuracy": 0.5, "chance": 0.5}


def test_softmax_at_a_temperature_by_hand():
    # At τ = 1 logits ln 3 and 0 give 3/4, at τ = 1/2 they give 9/10.
    number = temperatures(torch.tensor([math.log(3.0), 0.0]), (1.0, 0.5)).number
    assert number == pytest.approx({"own_1": 0.75, "own_0.5": 0.9, "chance": 0.5})


def test_a_positive_gradient_pushes_apart():
    gradient = torch.tensor([[-1.0, 0.2, 0.5], [0.2, -1.0, 0.2], [0.3, 0.2, -1.0]])
    drawn = pulls({"diagonal": gradient, "ids": -gradient}, torch.tensor([7, 8, 7]))
    assert drawn.number == pytest.approx({"diagonal": -0.4, "ids": 0.4})


def test_a_ring_loses_what_it_has_no_place_for():
    states = [torch.tensor([0, 1, -1]), torch.tensor([3, 1, 2])]
    assert ring(states[:1], [2]).number == {"lost": 0} and ring(states, [2, 1]).number == {"lost": 1}


def test_bars_add_up_what_true_captions_get():
    shares = {"truth": torch.tensor([1.0, 0.0, 0.0]), "belief": torch.tensor([0.5, 0.2, 0.3])}
    drawn = caption_bars(torch.zeros(3, 8, 8), ["a", "b", "c"], shares, torch.tensor([True, False, True]), "Title")
    assert drawn.number == pytest.approx({"truth": 1.0, "belief": 0.8})


def test_late_means_the_last_fifth():
    number = losses_beside_chance({"falls": [5.0] * 8 + [1.0, 2.0]}, 3.0, "ITC", smooth=2).number
    assert number == pytest.approx({"falls": 1.5, "chance": 3.0})


def test_every_picture_is_a_sheet():
    table = {"names": {"right": 1.0, "wrong": 2.0}, "others": {"right": 0.5, "wrong": 0.5}}
    drawn = [two_stacks(4, 2, 2), base_rate(), paid_for_words(table)]
    assert all(d.figure.get_figwidth() == WIDTH and len(png(d.figure)) > 1000 for d in drawn)
    assert drawn[0].number == {"alone": 2, "with_image": 2} and drawn[1].number["coin"] == pytest.approx(math.log(2))
    assert drawn[2].number["names, wrong"] == 2.0
