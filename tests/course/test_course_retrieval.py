"""Checkers of notebook 09: the right answer passes, typical wrong ones are told their mistake."""

import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import retrieval
from semmim_mini.course.retrieval import check_class_weights, check_ranks, check_recalls, check_rerank


def ranks(similarity, right, tie=True, first=1, best=max):
    found = []
    for row, own in zip(similarity.tolist(), right.tolist(), strict=True):
        mine = best(x for x, is_own in zip(row, own, strict=True) if is_own)
        found.append(first + sum(not is_own and (x > mine or (tie and x == mine)) for x, is_own in zip(row, own, strict=True)))
    return torch.tensor(found)


def by_place_in_the_file(similarity, right):
    found = []
    for row, own in zip(similarity.tolist(), right.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        found.append(1 + next(place for place, j in enumerate(order) if own[j]))
    return torch.tensor(found)


def recalls(similarity, owners, k, enough=any):
    def hits(row, own):
        order = sorted(range(len(row)), key=lambda j: -row[j])[:k]
        return enough([j in order for j in range(len(row)) if own[j]])

    images = [hits(row, (owners == i).tolist()) for i, row in enumerate(similarity.tolist())]
    texts = [hits(row, [i == int(owner) for i in range(len(similarity))]) for row, owner in zip(similarity.T.tolist(), owners, strict=True)]
    return sum(images) / len(images), sum(texts) / len(texts)


def rerank(similarity, scores, c, rest=True):
    found = []
    for near, match in zip(similarity.tolist(), scores.tolist(), strict=True):
        order = sorted(range(len(near)), key=lambda j: -near[j])
        found.append(sorted(order[:c], key=lambda j: -match[j]) + (order[c:] if rest else []))
    return torch.tensor(found)


def weights(features, unit=True):
    mean = sum(features) / len(features)
    return mean / mean.norm(dim=1, keepdim=True) if unit else mean


NUMBER = 9
RIGHT = [
    (check_ranks, ranks),
    (check_recalls, recalls),
    (check_recalls, lambda *given: torch.tensor(recalls(*given))),
    (check_rerank, rerank),
    (check_class_weights, weights),
    (check_class_weights, lambda features: torch.nn.functional.normalize(features.sum(dim=0), dim=1)),
]
WRONG = [
    (check_ranks, lambda s, r: ranks(s, r, tie=False), "ties count for the model"),
    (check_ranks, by_place_in_the_file, "stands first in the file"),
    (check_ranks, lambda s, r: ranks(s, r, first=0), "ranks begin at 0"),
    (check_ranks, lambda s, r: ranks(s, r, best=min), r"the \*worst\* right answer"),
    (check_ranks, lambda s, r: ranks(-s, r), "turned round"),
    (check_ranks, lambda s, r: ranks(s, r)[:, None], "expected shape"),
    (check_recalls, lambda *given: (recalls(*given, enough=all)[0], recalls(*given)[1]), r"\*all\* captions"),
    (check_recalls, lambda *given: recalls(*given)[::-1], "changed places"),
    (check_recalls, lambda s, o, k: recalls(s, o, k - 1), "one place is missing"),
    (check_recalls, lambda s, o, k: (recalls(s, o, k, enough=lambda found: found[0])[0], recalls(s, o, k)[1]), "only the first caption"),
    (check_recalls, lambda s, o, k: (recalls(s, o, k, enough=lambda found: sum(found) / len(found))[0], recalls(s, o, k)[1]),
     "share of an image's captions"),
    (check_recalls, lambda *given: recalls(*given)[0], "expected 2 results"),
    (check_rerank, lambda s, m, c: rerank(m, m, len(s[0])), "everything is put in order anew"),
    (check_rerank, lambda s, m, c: rerank(s, m, c, rest=False), "is lost"),
    (check_rerank, lambda s, m, c: rerank(m, s, c), "similarity chooses the c candidates"),
    (check_rerank, lambda s, m, c: rerank(s, -m, c), "worst first"),
    (check_rerank, lambda s, m, c: rerank(s, s, c), "the old order"),
    (check_class_weights, lambda f: weights(f, unit=False), "inside the sphere"),
    (check_class_weights, lambda f: f.sum(dim=0), "the longest class would win"),
    (check_class_weights, lambda f: weights(f.transpose(0, 1)), "mean over classes"),
    (check_class_weights, lambda f: f[0].clone(), "only the first template"),
]  # fmt: skip
LISTS = (
    (check_ranks, retrieval.RANKS_MISTAKES),
    (check_recalls, retrieval.RECALLS_MISTAKES),
    (check_rerank, retrieval.RERANK_MISTAKES),
    (check_class_weights, retrieval.CLASS_WEIGHTS_MISTAKES),
)
