"""Checkers of notebook 08: the right answer passes, typical wrong ones are told their mistake."""

import math

import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.cluster import expected_mutual_information

from semmim_mini.course import semantics
from semmim_mini.course.semantics import check_ami, check_gradcam, check_neighbours, check_pointing


def entropy(counts, log=math.log):
    total = float(counts.sum())
    return -sum(c / total * log(c / total) for c in counts.flatten().tolist() if c)


def ami(table, expected, below=lambda a, b: (a + b) / 2, log=math.log, above=1.0, under=1.0):
    rows, columns = (entropy(table.sum(dim=i), log) for i in (1, 0))
    mutual = rows + columns - entropy(table, log)
    return (mutual - above * expected) / (below(rows, columns) - under * expected)


def gradcam(weights, slopes, tokens, kept=lambda x: max(x, 0.0), first=1):
    h, length, keys = weights.shape
    found = torch.zeros(keys - 1)
    chosen = [(i, j) for i in range(h) for j in range(length) if tokens[j]]
    for i, j in chosen:
        for patch in range(keys - 1):
            at = patch + first
            found[patch] += weights[i, j, at] * kept(float(slopes[i, j, at])) / len(chosen)
    return found


def points(maps, target, tie=False):
    hits = []
    for row, inside in zip(maps, target, strict=True):
        on, off = float(row[inside].max()), float(row[~inside].max())
        hits.append(on > off or (tie and on == off))
    return torch.tensor(hits)


def votes(train, labels, test, k, temperature, weigh=True, lengths=(True, True), furthest=False):
    def unit(x, is_unit):
        return x / x.norm(dim=1, keepdim=True) if is_unit else x

    found = torch.zeros(len(test), int(labels.max()) + 1)
    for i, row in enumerate(unit(test, lengths[0])):
        cosine = [(float(row @ other), int(label)) for other, label in zip(unit(train, lengths[1]), labels, strict=True)]
        for similarity, label in sorted(cosine, reverse=not furthest)[:k]:
            found[i, label] += math.exp(similarity / temperature) if weigh else 1.0
    return found


NUMBER = 8
RIGHT = [
    (check_ami, ami),
    (check_ami, lambda table, expected: torch.tensor(ami(table, expected))),
    (check_gradcam, gradcam),
    (check_pointing, points),
    (check_pointing, lambda maps, target: points(maps, target).long()),
    (check_neighbours, votes),
]
WRONG = [
    (check_ami, lambda table, expected: ami(table, 0.0), "this is NMI"),
    (check_ami, lambda table, expected: ami(table, expected, under=0.0), "above the line only"),
    (check_ami, lambda table, expected: ami(table, expected, below=max), "the larger entropy"),
    (check_ami, lambda table, expected: ami(table, expected, below=lambda a, b: (a * b) ** 0.5), "geometric mean"),
    (check_ami, lambda table, expected: ami(table, expected, log=math.log2), "to base 2"),
    (check_ami, lambda table, expected: [ami(table, expected)], "expected"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, t, kept=lambda x: x), r"speak \*against\* the match"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, t, kept=abs), "absolute gradient"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, t, kept=lambda x: x).relu(), "clamp comes after the mean"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, t, kept=lambda x: 1.0), "the attention alone"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, t, first=0), "the last patch is left out"),
    (check_gradcam, lambda w, s, t: gradcam(w, s, ~t), "numbers differ"),
    (check_pointing, lambda maps, target: target[range(len(maps)), maps.argmax(dim=1)], "argmax takes the first"),
    (check_pointing, lambda maps, target: points(maps, target, tie=True), "ties count for the map"),
    (check_pointing, lambda maps, target: points(-maps, target), "the lowest patch"),
    (check_pointing, lambda maps, target: ~points(maps, target), "changed places"),
    (check_pointing, lambda maps, target: maps.where(target, 0).amax(1) > maps.where(~target, 0).amax(1), "use -inf"),
    (check_neighbours, lambda *given: votes(*given, lengths=(False, False)), "products are no cosines"),
    (check_neighbours, lambda *given: votes(*given, lengths=(True, False)), "only the test features"),
    (check_neighbours, lambda *given: votes(*given, weigh=False), "one vote"),
    (check_neighbours, lambda *given: votes(*given, furthest=True), "the k furthest"),
    (check_neighbours, lambda train, labels, test, k, tau: votes(train, labels, test, len(train), tau), "all training features vote"),
    (check_neighbours, lambda train, labels, test, k, tau: votes(train, labels, test, k, 1.0), "`temperature` is not used"),
]  # fmt: skip
LISTS = (
    (check_ami, semantics.AMI_MISTAKES),
    (check_gradcam, semantics.GRADCAM_MISTAKES),
    (check_pointing, semantics.POINTING_MISTAKES),
    (check_neighbours, semantics.NEIGHBOURS_MISTAKES),
)


def test_the_exercise_is_scikit_learns_ami():
    draw = torch.Generator().manual_seed(0)
    things, codes = torch.randint(4, (200,), generator=draw), torch.randint(9, (200,), generator=draw)
    codes[:80] = things[:80]
    table = torch.zeros(4, 9, dtype=torch.long).index_put_((things, codes), torch.ones(200, dtype=torch.long), accumulate=True)
    expected = expected_mutual_information(table.numpy(), 200)
    assert math.isclose(ami(table, expected), adjusted_mutual_info_score(things.numpy(), codes.numpy()), rel_tol=1e-6)
    check_ami(lambda table, expected: ami(table, expected))
