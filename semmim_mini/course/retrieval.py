"""Checkers of notebook 09, retrieval: ranks that no constant model can win, both directions, re-ranking, and weights of classes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, as_numbers, cases_of, compare
from semmim_mini.tasks.zero_shot import average

# 9.1 ------------------------------------------------------------------------------------------------------------------


def check_ranks(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(similarity (q, s), right (q, s) bool)` → (q,): 1 + wrong answers that score at least as high as the best right one."""

    def case(generator, draw):
        q, s = draw(12, 20), draw(10, 16)
        similarity = torch.randint(-3, 3, (q, s), generator=generator).float() / 4  # so few values that many are tied
        similarity[0] = 0.5  # a model that returns a constant
        right = torch.rand(q, s, generator=generator) < 0.25
        right[:, 1], right[:, -1] = True, False
        right[1, :4], right[1, 4:] = True, False
        return Case(similarity=similarity, right=right)

    compare("Exercise 9.1", student, _ranks, cases_of(case), RANKS_MISTAKES)


def _best(similarity: Tensor, right: Tensor) -> Tensor:
    return similarity.masked_fill(~right, float("-inf")).amax(dim=1, keepdim=True)


def _ranks(similarity: Tensor, right: Tensor) -> Tensor:
    return 1 + ((similarity >= _best(similarity, right)) & ~right).sum(dim=1)


def _by_sorting(similarity: Tensor, right: Tensor) -> Tensor:
    """The first right answer in descending order; ties in the order of the columns."""
    order = similarity.argsort(dim=1, descending=True, stable=True)
    return 1 + right.gather(1, order).int().argmax(dim=1)


RANKS_MISTAKES = (
    Mistake(
        lambda similarity, right: 1 + ((similarity > _best(similarity, right)) & ~right).sum(dim=1),
        "ties count for the model: one that returns a constant would be right every time. A wrong answer with the same score stands before "
        "the right one: >=",
    ),
    Mistake(
        _by_sorting,
        "of tied answers the one that stands first in the file wins; its place there says nothing about the model. Count wrong answers "
        "that score at least as high (>=)",
    ),
    Mistake(
        lambda similarity, right: (similarity >= _best(similarity, right)).sum(dim=1),
        "the query's own right answers are counted as ahead of it; count wrong ones only, and add 1",
    ),
    Mistake(
        lambda similarity, right: 1 + (similarity >= _best(similarity, right)).sum(dim=1),
        "the best right answer is counted as ahead of itself; count wrong ones only: & ~right",
    ),
    Mistake(lambda similarity, right: _ranks(similarity, right) - 1, "ranks begin at 0; the first place is 1"),
    Mistake(
        lambda similarity, right: 1
        + ((similarity >= similarity.masked_fill(~right, float("inf")).amin(dim=1, keepdim=True)) & ~right).sum(dim=1),
        "this is the rank of the *worst* right answer; one right answer at the top is enough",
    ),
    Mistake(
        lambda similarity, right: 1 + ((similarity >= (similarity * right).amax(dim=1, keepdim=True)) & ~right).sum(dim=1),
        "wrong answers are put out of the way with 0, but cosines may be negative, and then 0 wins; use -inf (masked_fill)",
    ),
    Mistake(
        lambda similarity, right: _ranks(-similarity, right),
        "the order is turned round: a high similarity comes first",
    ),
    Mistake(
        lambda similarity, right: 1
        + ((similarity >= similarity.gather(1, right.int().argmax(dim=1, keepdim=True))) & ~right).sum(dim=1),
        "only the first right answer of each query is looked at; take the best of all",
    ),
)  # fmt: skip

# 9.2 ------------------------------------------------------------------------------------------------------------------


def check_recalls(student: Callable[[Tensor, Tensor, int], tuple[float, float]]) -> None:
    """`student(similarity (images, texts), owners (texts,), k)` → R@k image→text and text→image; no two scores are equal."""

    def case(generator, draw):
        images = draw(12, 20)
        owners = torch.arange(images).repeat_interleave(torch.randint(2, 6, (images,), generator=generator))
        similarity = torch.randn(images, len(owners), generator=generator)
        own = owners[None] == torch.arange(images)[:, None]
        return Case(similarity=similarity + 1.2 * own, owners=owners, k=draw(2, 4))

    compare("Exercise 9.2", lambda *given: as_numbers(student(*given)), _recalls, cases_of(case), RECALLS_MISTAKES)


def _own(similarity: Tensor, owners: Tensor) -> Tensor:
    return owners[None] == torch.arange(len(similarity))[:, None]


def _first(similarity: Tensor, right: Tensor, k: int) -> Tensor:
    """Which of the first k of each row are right (q, k)."""
    return right.gather(1, similarity.topk(k, dim=1).indices)


def _to_text(similarity: Tensor, owners: Tensor, k: int) -> float:
    return _first(similarity, _own(similarity, owners), k).any(dim=1).float().mean().item()


def _to_image(similarity: Tensor, owners: Tensor, k: int) -> float:
    return _first(similarity.T, _own(similarity, owners).T, k).any(dim=1).float().mean().item()


def _recalls(similarity: Tensor, owners: Tensor, k: int) -> tuple[float, float]:
    return _to_text(similarity, owners, k), _to_image(similarity, owners, k)


def _with_to_image(first: Callable[[Tensor, Tensor, int], float]) -> Callable[[Tensor, Tensor, int], tuple[float, float]]:
    """A wrong image→text beside the right text→image."""
    return lambda similarity, owners, k: (first(similarity, owners, k), _to_image(similarity, owners, k))


def _all_own(similarity: Tensor, owners: Tensor, k: int) -> float:
    own = _own(similarity, owners)
    return (_first(similarity, own, k).sum(dim=1) == own.sum(dim=1)).float().mean().item()


def _share_of_own(similarity: Tensor, owners: Tensor, k: int) -> float:
    own = _own(similarity, owners)
    return (_first(similarity, own, k).sum(dim=1) / own.sum(dim=1)).mean().item()


def _first_caption(similarity: Tensor, owners: Tensor, k: int) -> float:
    own = _own(similarity, owners)
    first = F.one_hot(own.int().argmax(dim=1), own.shape[1]).bool()
    return _first(similarity, first, k).any(dim=1).float().mean().item()


def _per_image(similarity: Tensor, owners: Tensor, k: int) -> float:
    """Text→image, each image one vote instead of each caption."""
    hits = _first(similarity.T, _own(similarity, owners).T, k).any(dim=1).float()
    return torch.stack([hits[owners == i].mean() for i in range(len(similarity))]).mean().item()


RECALLS_MISTAKES = (
    Mistake(
        _with_to_image(_all_own),
        "image→text: *all* captions of an image have to be among the first k here; any one of them is enough",
    ),
    Mistake(
        _with_to_image(_share_of_own),
        "image→text: this is the share of an image's captions that are found; an image is right or wrong, by its best caption",
    ),
    Mistake(
        _with_to_image(lambda similarity, owners, k: _first(similarity, _own(similarity, owners), k).float().mean().item()),
        "image→text: this is precision, the share of right ones among the first k; recall asks whether there is any",
    ),
    Mistake(
        _with_to_image(_first_caption),
        "image→text: only the first caption of each image counts as right; all of its captions do",
    ),
    Mistake(
        lambda similarity, owners, k: (_to_text(similarity, owners, k), _per_image(similarity, owners, k)),
        "text→image: every image has one vote here, however many captions it has; the queries are captions, and each has one",
    ),
    Mistake(
        lambda similarity, owners, k: _recalls(similarity, owners, k)[::-1],
        "the two directions have changed places: image→text ranks captions for each image, along the rows",
    ),
    Mistake(
        lambda similarity, owners, k: _recalls(similarity, owners, k - 1),
        "one place is missing: the first k answers count, the k-th included",
    ),
    Mistake(
        lambda similarity, owners, k: _recalls(similarity, owners, k + 1),
        "one place too many: the first k answers count, no more",
    ),
    Mistake(
        lambda similarity, owners, k: (_to_text(similarity, owners, k),) * 2,
        "both numbers are image→text; for text→image each caption ranks the images, along the columns: similarity.T",
    ),
)

# 9.3 ------------------------------------------------------------------------------------------------------------------


def check_rerank(student: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """`student(similarity (q, s), scores (q, s), c)` → (q, s), in order: the c most similar by `scores`, all others as before."""

    def case(generator, draw):
        q, s = draw(4, 7), draw(9, 14)
        similarity, scores = (torch.randn(q, s, generator=generator) for _ in range(2))
        return Case(similarity=similarity, scores=3 * scores, c=draw(3, 5))

    compare("Exercise 9.3", student, _rerank, cases_of(case), RERANK_MISTAKES)


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(dim=1, descending=True)


def _rerank(similarity: Tensor, scores: Tensor, c: int, sign: int = 1) -> Tensor:
    order = _order(similarity)
    nearest = order[:, :c]
    return torch.cat([nearest.gather(1, _order(sign * scores.gather(1, nearest))), order[:, c:]], dim=1)


def _places(similarity: Tensor, scores: Tensor, c: int) -> Tensor:
    """The order within the candidates, as if it were the answers themselves."""
    order = _order(similarity)
    return torch.cat([_order(scores.gather(1, order[:, :c])), order[:, c:]], dim=1)


def _rest_by_scores(similarity: Tensor, scores: Tensor, c: int) -> Tensor:
    order = _order(similarity)
    parts = [part.gather(1, _order(scores.gather(1, part))) for part in (order[:, :c], order[:, c:])]
    return torch.cat(parts, dim=1)


RERANK_MISTAKES = (
    Mistake(
        lambda similarity, scores, c: _order(scores),
        "everything is put in order anew; only the c most similar are read by the fusion encoder, the others' scores would not exist",
    ),
    Mistake(
        lambda similarity, scores, c: _rerank(similarity, scores, c)[:, :c],
        "what stands behind the c candidates is lost; a right answer there still has a rank. Append the rest of the order",
    ),
    Mistake(
        _places,
        "these are places among the candidates, not answers: take the candidates in that order, nearest.gather(1, …)",
    ),
    Mistake(_rest_by_scores, "behind the candidates the order has changed, too; it stays that of the similarity"),
    Mistake(
        lambda similarity, scores, c: _rerank(scores, similarity, c),
        "the two have changed places: similarity chooses the c candidates, scores order them",
    ),
    Mistake(
        lambda similarity, scores, c: torch.cat([_order(scores)[:, :c], _order(similarity)[:, c:]], dim=1),
        "the c best by `scores` are taken, whether they are near or not, and some answers come twice; candidates are chosen by similarity",
    ),
    Mistake(
        lambda similarity, scores, c: _rerank(similarity, scores, c, sign=-1),
        "the candidates come worst first; descending=True",
    ),
    Mistake(
        lambda similarity, scores, c: _order(similarity),
        "`scores` is not used: this is the old order",
    ),
)  # fmt: skip

# 9.4 ------------------------------------------------------------------------------------------------------------------


def check_class_weights(student: Callable[[Tensor], Tensor]) -> None:
    """`student(features (templates, c, p))`, each of length 1 → (c, p), length 1: the mean over templates, brought back to the sphere."""

    def case(generator, draw):
        size = draw(2, 4), draw(5, 7), draw(8, 10)
        return Case(features=F.normalize(torch.randn(size, generator=generator), dim=-1))

    compare("Exercise 9.4", student, average, cases_of(case), CLASS_WEIGHTS_MISTAKES)


CLASS_WEIGHTS_MISTAKES = (
    Mistake(
        lambda features: features.mean(dim=0),
        "the mean lies inside the sphere, and deeper the less the templates agree: such a class would lose by its length. Normalise again",
    ),
    Mistake(
        lambda features: features.sum(dim=0),
        "a sum has any length; the longest class would win. Bring each to length 1 (F.normalize)",
    ),
    Mistake(
        lambda features: F.normalize(features.mean(dim=0), dim=0),
        "the columns have length 1, not the classes: normalise along the last axis, dim=-1",
    ),
    Mistake(
        lambda features: F.normalize(features.mean(dim=1), dim=-1),
        "this is the mean over classes; average over templates, the first axis",
    ),
    Mistake(lambda features: features[0], "only the first template is used"),
    Mistake(
        lambda features: F.normalize(features.amax(dim=0), dim=-1),
        "this is the largest of each dimension; take the mean over templates",
    ),
    Mistake(
        lambda features: F.normalize(features.median(dim=0).values, dim=-1),
        "this is the median of each dimension; take the mean over templates",
    ),
)
