"""Checkers of notebook 08, patch semantics: agreement beyond chance, Grad-CAM, the pointing game, and neighbours that vote."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.tasks.grounding import score

# 8.1 ------------------------------------------------------------------------------------------------------------------


def check_ami(student: Callable[[Tensor, float], float]) -> None:
    """`student(table (things, codes), expected)` → adjusted mutual information; `expected` is the mutual information under chance."""

    def case(generator, draw):
        things, codes = draw(3, 5), draw(6, 9)
        table = torch.randint(1, 6, (things, codes), generator=generator)
        table[torch.rand(things, codes, generator=generator) < 0.4] = 0  # things and codes that never meet
        table[:, 0] += 1  # every thing is shown
        table[0] += 1  # every code is used
        table[0, 0] += 20  # the background has more patches than any object
        return Case(table=table, expected=0.3 * _mutual(table))

    compare("Exercise 8.1", lambda *given: _number(student(*given)), _ami, cases_of(case), AMI_MISTAKES)


def _number(answer):
    """A tensor of one number is as good as a number."""
    return float(answer) if isinstance(answer, Tensor) and answer.numel() == 1 else answer


def _entropy(counts: Tensor) -> float:
    return float(torch.special.entr(counts.double() / counts.sum()).sum())


def _mutual(table: Tensor) -> float:
    return _entropy(table.sum(dim=1)) + _entropy(table.sum(dim=0)) - _entropy(table.flatten())


def _ami(table: Tensor, expected: float) -> float:
    return _adjusted(table, expected, lambda one, other: (one + other) / 2)


def _adjusted(table: Tensor, expected: float, best: Callable[[float, float], float]) -> float:
    return (_mutual(table) - expected) / (best(_entropy(table.sum(dim=1)), _entropy(table.sum(dim=0))) - expected)


def _ratio_of_entropies(table: Tensor) -> float:
    return (_entropy(table.sum(dim=1)) + _entropy(table.sum(dim=0))) / 2


AMI_MISTAKES = (
    Mistake(
        lambda table, expected: _mutual(table) / _ratio_of_entropies(table),
        "this is NMI: `expected` is not used, so that many codes look better than few. Take chance away above and below the line",
    ),
    Mistake(
        lambda table, expected: (_mutual(table) - expected) / _ratio_of_entropies(table),
        "chance is taken away above the line only; below it the same, or a perfect dictionary would not reach 1",
    ),
    Mistake(
        lambda table, expected: _mutual(table) - expected,
        "this is the mutual information beyond chance, in nats; divide it by the most that it could be, or nobody can say if it is much",
    ),
    Mistake(
        lambda table, expected: _adjusted(table, expected, max),
        "below the line stands the larger entropy; scikit-learn and this library take the mean of both",
    ),
    Mistake(
        lambda table, expected: _adjusted(table, expected, min),
        "below the line stands the smaller entropy: things cut into many codes, each pure, would count as perfect. Take the mean of both",
    ),
    Mistake(
        lambda table, expected: _adjusted(table, expected, lambda one, other: math.sqrt(one * other)),
        "below the line stands the geometric mean of the entropies; here it is the plain one, (H(things) + H(codes)) / 2",
    ),
    Mistake(
        lambda table, expected: _adjusted(table, expected, lambda one, other: one + other),
        "below the line stands the sum of both entropies; it is their mean",
    ),
    Mistake(
        lambda table, expected: (_mutual(table) / math.log(2) - expected) / (_ratio_of_entropies(table) / math.log(2) - expected),
        "your logarithms are to base 2, but `expected` is in nats: use the natural logarithm",
    ),
)

# 8.2 ------------------------------------------------------------------------------------------------------------------


def check_gradcam(student: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """`student(weights (h, l, 1+n), slopes (h, l, 1+n), tokens (l,) bool)` → (n,): the phrase's Grad-CAM, mean over heads and tokens."""

    def case(generator, draw):
        h, length, n = draw(2, 4), draw(5, 8), draw(9, 16)
        weights = (2 * torch.randn(h, length, 1 + n, generator=generator)).softmax(dim=-1)
        slopes = torch.randn(h, length, 1 + n, generator=generator)
        tokens = torch.rand(length, generator=generator) < 0.4
        tokens[1:3], tokens[0] = True, False
        return Case(weights=weights, slopes=slopes, tokens=tokens)

    compare("Exercise 8.2", student, _gradcam, cases_of(case), GRADCAM_MISTAKES)


def _gradcam(weights: Tensor, slopes: Tensor, tokens: Tensor) -> Tensor:
    return _of_phrase(weights * slopes.clamp_min(0), tokens)


def _of_phrase(maps: Tensor, tokens: Tensor) -> Tensor:
    return maps[:, tokens, 1:].mean(dim=(0, 1))


AVERAGED_FIRST = (
    "attention and gradient are averaged before they are multiplied; a head that looks here and one that is heard there would give a "
    "map that no head has. Multiply first"
)
GRADCAM_MISTAKES = (
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(weights * slopes, tokens),
        "negative gradients count, too: patches that speak *against* the match cancel those that speak for it. Clamp the gradient at 0",
    ),
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(weights * slopes.abs(), tokens),
        "the absolute gradient is used: a patch that speaks against the match is drawn as bright as one that speaks for it. Clamp at 0",
    ),
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(weights * slopes, tokens).clamp_min(0),
        "the clamp comes after the mean, where heads and words have cancelled each other; clamp the gradient first",
    ),
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(weights, tokens) * _of_phrase(slopes, tokens).clamp_min(0),
        AVERAGED_FIRST,
    ),
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(weights, tokens) * _of_phrase(slopes.clamp_min(0), tokens),
        AVERAGED_FIRST,
    ),
    Mistake(lambda weights, slopes, tokens: _of_phrase(weights, tokens), "the gradient is not used: this is the attention alone"),
    Mistake(
        lambda weights, slopes, tokens: _of_phrase(slopes.clamp_min(0), tokens),
        "the attention is not used: this is the gradient alone, high also where nobody looked",
    ),
    Mistake(
        lambda weights, slopes, tokens: _gradcam(weights, slopes, torch.ones_like(tokens)),
        "all tokens take part; `tokens` says which ones belong to the phrase",
    ),
    Mistake(
        lambda weights, slopes, tokens: (weights * slopes.clamp_min(0))[:, tokens, :-1].mean(dim=(0, 1)),
        "the last patch is left out; it is the first key, [CLS] of the image, that is no patch",
    ),
    Mistake(
        lambda weights, slopes, tokens: (weights * slopes.clamp_min(0))[:, tokens, 1:].sum(dim=(0, 1)),
        "this is a sum over heads and tokens; long phrases would have brighter maps. Take the mean",
    ),
)

# 8.3 ------------------------------------------------------------------------------------------------------------------


def check_pointing(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(maps (w, n), target (w, n) bool)` → (w,) bool: the highest patch is on the target; a tie with a patch off it is a miss."""

    def case(generator, draw):
        w, n = draw(24, 40), draw(9, 16)
        maps = torch.randint(-4, 3, (w, n), generator=generator).float() / 2  # so few values that many are tied
        maps[::2] -= 3  # cosines may all be negative
        maps[0] = -0.5  # a map that says nothing
        target = torch.rand(w, n, generator=generator) < 0.4
        target[:, 0], target[:, 1] = True, False
        return Case(maps=maps, target=target)

    compare("Exercise 8.3", lambda *given: _as_bool(student(*given)), _points, cases_of(case), POINTING_MISTAKES)


def _as_bool(answer):
    """0 and 1 are as good as False and True."""
    return answer.bool() if isinstance(answer, Tensor) and ((answer == 0) | (answer == 1)).all() else answer


def _points(maps: Tensor, target: Tensor) -> Tensor:
    return score(maps, target)[0].bool()


def _at_highest(maps: Tensor, target: Tensor) -> Tensor:
    return target.gather(1, maps.argmax(dim=1, keepdim=True)).squeeze(1)


def _best(maps: Tensor, inside: Tensor) -> Tensor:
    return maps.masked_fill(~inside, float("-inf")).amax(dim=1)


POINTING_MISTAKES = (
    Mistake(
        _at_highest,
        "of tied patches argmax takes the first, wherever it lies: a map that is the same everywhere is right as often as the object "
        "covers that corner. A tie with a patch off the object is a miss",
    ),
    Mistake(
        lambda maps, target: _best(maps, target) >= _best(maps, ~target),
        "ties count for the map, so that one which is the same everywhere is always right; on the object must be *higher* than off it: >",
    ),
    Mistake(lambda maps, target: _points(-maps, target), "the lowest patch is taken; pointing asks for the highest"),
    Mistake(
        lambda maps, target: (maps * target).amax(dim=1) > (maps * ~target).amax(dim=1),
        "patches are put out of the way with 0, but scores may be negative (cosines are), and then 0 wins; use -inf (masked_fill)",
    ),
    Mistake(
        lambda maps, target: (maps * target).sum(dim=1) / target.sum(dim=1) > (maps * ~target).sum(dim=1) / (~target).sum(dim=1),
        "this compares the mean on the object with the mean off it; the pointing game looks at the single highest patch",
    ),
    Mistake(lambda maps, target: ~_points(maps, target), "hits and misses have changed places: True is a hit"),
)

# 8.4 ------------------------------------------------------------------------------------------------------------------


def check_neighbours(student: Callable[[Tensor, Tensor, Tensor, int, float], Tensor]) -> None:
    """`student(train (s, d), labels (s,), test (t, d), k, temperature)` → votes (t, labels.max() + 1) of the k nearest by cosine."""

    def case(generator, draw):
        s, t, d, classes = draw(20, 30), draw(4, 7), draw(4, 6), draw(3, 5)
        train = torch.randn(s, d, generator=generator) * torch.rand(s, 1, generator=generator).add(0.1).mul(5)  # of all lengths
        labels = torch.randint(classes, (s,), generator=generator)
        labels[:classes] = torch.arange(classes)
        return Case(train=train, labels=labels, test=torch.randn(t, d, generator=generator), k=draw(4, 7), temperature=0.5)

    compare("Exercise 8.4", student, _votes, cases_of(case), NEIGHBOURS_MISTAKES)


def _votes(train: Tensor, labels: Tensor, test: Tensor, k: int, temperature: float) -> Tensor:
    return _counted(F.normalize(test, dim=1) @ F.normalize(train, dim=1).T, labels, k, lambda cosine: (cosine / temperature).exp())


def _counted(similarity: Tensor, labels: Tensor, k: int, weight: Callable[[Tensor], Tensor], largest: bool = True) -> Tensor:
    nearest, who = similarity.topk(k, dim=1, largest=largest)
    votes = torch.zeros(len(similarity), int(labels.max()) + 1)
    return votes.scatter_add(1, labels[who], weight(nearest))


def _distances(train: Tensor, labels: Tensor, test: Tensor, k: int, temperature: float) -> Tensor:
    return _counted(-torch.cdist(test, train), labels, k, lambda nearer: (nearer / temperature).exp())


def _overwritten(train: Tensor, labels: Tensor, test: Tensor, k: int, temperature: float) -> Tensor:
    nearest, who = (F.normalize(test, dim=1) @ F.normalize(train, dim=1).T).topk(k, dim=1)
    votes = torch.zeros(len(test), int(labels.max()) + 1)
    votes[torch.arange(len(test))[:, None], labels[who]] += (nearest / temperature).exp()
    return votes


NEIGHBOURS_MISTAKES = (
    Mistake(
        lambda train, labels, test, k, tau: _counted(test @ train.T, labels, k, lambda x: (x / tau).exp()),
        "products are no cosines: long features are everybody's neighbours. Bring both sides to length 1 first (F.normalize)",
    ),
    Mistake(
        lambda train, labels, test, k, tau: _counted(F.normalize(test, dim=1) @ train.T, labels, k, lambda x: (x / tau).exp()),
        "only the test features have length 1; long training features are still everybody's neighbours",
    ),
    Mistake(_distances, "neighbours are found by Euclidean distance; here they are by cosine"),
    Mistake(
        lambda train, labels, test, k, tau: _counted(
            F.normalize(test, dim=1) @ F.normalize(train, dim=1).T, labels, k, torch.ones_like
        ),
        "all k neighbours have one vote; a nearer one has more to say: exp(cosine / temperature)",
    ),
    Mistake(
        lambda train, labels, test, k, tau: _votes(train, labels, test, k, 1.0),
        "`temperature` is not used: exp(cosine / temperature)",
    ),
    Mistake(
        lambda train, labels, test, k, tau: _votes(train, labels, test, k, 1 / tau),
        "the cosine is multiplied by the temperature; divide by it",
    ),
    Mistake(
        lambda train, labels, test, k, tau: _votes(train, labels, test, len(train), tau),
        "all training features vote; only the k nearest do",
    ),
    Mistake(
        lambda train, labels, test, k, tau: _counted(
            F.normalize(test, dim=1) @ F.normalize(train, dim=1).T, labels, k, lambda x: (x / tau).exp(), largest=False
        ),
        "these are the k furthest; a high cosine is near",
    ),
    Mistake(
        _overwritten,
        "votes for the same label are lost: with an index that comes twice, `votes[…] += …` keeps only the last. scatter_add adds them up",
    ),
)  # fmt: skip
