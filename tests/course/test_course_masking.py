"""Checkers of notebook 05: the right answer passes, typical wrong ones are told their mistake."""

import math

import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import masking
from semmim_mini.course.masking import check_counts, check_hide, check_selectivity, check_word_relevance


def counts(n, low, high, share, draws, whole=math.floor, least=1, slack=1e-9):
    made = [(first, max(least, whole((low + (high - low) * second) * n + slack))) for first, second in draws.tolist()]
    return torch.tensor([count if first < share else 0 for first, count in made])


def hide(scores, wanted, sign=-1, later=1):
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, count in enumerate(wanted.tolist()):
        order = sorted(range(scores.shape[1]), key=lambda i: (sign * scores[row, i].item(), later * i))
        mask[row, order[:count]] = True
    return mask


def kth(scores, wanted):
    """The score of the last patch to be hidden; where there is none, above all."""
    return torch.stack([s.topk(max(int(k), 1)).values[-1] if k else torch.tensor(9.0) for s, k in zip(scores, wanted, strict=True)])[
        :, None
    ]


def relevance(weights, words, first=1, last=1):
    rows = [w[:, :, first : int(real.sum()) - last].mean(dim=(0, 1, 2)) for w, real in zip(weights.unbind(1), words, strict=True)]
    return torch.stack(rows)


def selectivity(mask, named, objects):
    inside, hidden, blind = 0, 0, 0.0
    for m, of, things in zip(mask.tolist(), named.tolist(), objects.tolist(), strict=True):
        both = sum(a and b for a, b in zip(m, things, strict=True))
        inside, hidden = inside + sum(a and b for a, b in zip(m, of, strict=True)), hidden + both
        blind += both * sum(of) / sum(things)
    return inside / hidden, blind / hidden


NUMBER = 5
RIGHT = [
    (check_counts, counts),
    (check_hide, hide),
    (check_word_relevance, relevance),
    (check_selectivity, selectivity),
    (check_selectivity, lambda *given: [torch.tensor(x) for x in selectivity(*given)]),
    (check_selectivity, lambda *given: torch.tensor(selectivity(*given))),
]
WRONG = [
    (check_counts, lambda *given: counts(*given, whole=round), "rounded to the nearest"),
    (check_counts, lambda *given: counts(*given, whole=math.ceil, slack=-1e-9), "rounded up"),
    (check_counts, lambda *given: counts(*given, least=0), "at least one patch"),
    (check_counts, lambda *given: counts(*given, slack=0), "in binary 0.29 · 100"),
    (check_counts, lambda n, low, high, share, draws: ((low + (high - low) * draws[:, 1]) * n).int().clamp(1) * (draws[:, 0] < share),
     "double precision"),
    (check_counts, lambda n, low, high, share, draws: counts(n, low, high, 9, draws), "every sample is masked"),
    (check_counts, lambda n, low, high, share, draws: counts(n, low, high, share, draws).clamp_min(1), "samples that stay whole"),
    (check_counts, lambda n, low, high, share, draws: counts(n, low, high, share, draws.flip(1)), "changed places"),
    (check_hide, lambda s, c: s >= kth(s, c), "too many are hidden"),
    (check_hide, lambda s, c: s > kth(s, c), "too few are hidden"),
    (check_hide, lambda s, c: hide(s, c, sign=1), "lowest scores"),
    (check_hide, lambda s, c: hide(s, c, later=-1), "the earlier goes first"),
    (check_hide, lambda s, c: hide(s, c).float(), "dtype bool"),
    (check_hide, lambda s, c: hide(s, c + 1), "one too many"),
    (check_hide, lambda s, c: (-s).argsort(dim=1, stable=True) < c[:, None], "argsort of the argsort"),
    (check_word_relevance, lambda w, r: w.mean(dim=(0, 2, 3)), "padding take part"),
    (check_word_relevance, lambda w, r: relevance(w, r, first=0, last=0), r"\[CLS\] and \[SEP\] take part"),
    (check_word_relevance, lambda w, r: relevance(w, r, last=0), r"\[SEP\] takes part"),
    (check_word_relevance, lambda w, r: relevance(w, r, first=0), r"\[CLS\] takes part"),
    (check_word_relevance, lambda w, r: relevance(w[-1:], r), "only the last layer"),
    (check_word_relevance, lambda w, r: relevance(w / w.sum(dim=3, keepdim=True), r), "normalised over the words"),
    (check_word_relevance, lambda w, r: relevance(w, r) * (r.sum(1, keepdim=True) - 2), "expected"),
    (check_selectivity, lambda m, n, o: ((m & n).sum() / m.sum(), selectivity(m, n, o)[1]), r"\*all\* hidden patches"),
    (check_selectivity, lambda m, n, o: (((m & n).sum(1) / (m & o).sum(1)).mean(), selectivity(m, n, o)[1]), "a mean of ratios"),
    (check_selectivity, lambda m, n, o: (selectivity(m, n, o)[0], n.sum() / o.sum()), "the scenes' own share"),
    (check_selectivity, lambda m, n, o: selectivity(m, n, o)[::-1], "changed places"),
    (check_selectivity, lambda m, n, o: selectivity(m, n, o)[0], "expected 2 results"),
]  # fmt: skip
LISTS = (
    (check_counts, masking.COUNTS_MISTAKES),
    (check_hide, masking.HIDE_MISTAKES),
    (check_word_relevance, masking.WORD_RELEVANCE_MISTAKES),
    (check_selectivity, masking.SELECTIVITY_MISTAKES),
)
