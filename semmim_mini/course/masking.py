"""Checkers of notebook 05, text-guided masking: how many patches, which ones, what words attend to, and what a mask is worth."""

from collections.abc import Callable

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, as_numbers, cases_of, compare
from semmim_mini.instruments.mask_numbers import selectivity
from semmim_mini.objectives.masking import cross_relevance, hide_highest, mask_counts
from semmim_mini.training.masks import content_tokens

# 5.1 ------------------------------------------------------------------------------------------------------------------

# n, low, high, share. Fixed ratios whose product with n falls just short of a whole number, in double or in single precision;
# drawn ones; and few patches, where floor(r·n) may be 0.
RATIOS = (
    (100, 0.29, 0.29, 1.0), (100, 0.59, 0.59, 1.0), (64, 0.3, 0.3, 1.0), (64, 0.1, 0.5, 0.5), (6, 0.1, 0.3, 0.7), (49, 0.2, 0.6, 0.8)
)  # fmt: skip


def check_counts(student: Callable[[int, float, float, float, Tensor], Tensor]) -> None:
    """`student(n, low, high, share, draws (b, 2))` → patches to hide in each sample, (b,): 0, or floor(r·n), at least one."""
    cases = []
    for seed, (n, low, high, share) in enumerate(RATIOS):
        draws = torch.rand(12, 2, generator=torch.Generator().manual_seed(seed))
        draws[0] = torch.tensor([0.95, 0.02])  # unmasked wherever some are
        cases.append(Case(n=n, low=low, high=high, share=share, draws=draws))
    compare("Exercise 5.1", student, _counts, cases, COUNTS_MISTAKES)


def _counts(n: int, low: float, high: float, share: float, draws: Tensor) -> Tensor:
    return mask_counts(n, (low, high), share, draws)


def _written_out(n, low, high, share, draws, whole=torch.floor, least=1, slack=1e-9, which=(0, 1)) -> Tensor:
    """`mask_counts` with its choices as arguments."""
    r = low + (high - low) * draws[:, which[1]].double()
    return whole(r * n + slack).long().clamp(least, n) * (draws[:, which[0]] < share)


def _single_precision(n: int, low: float, high: float, share: float, draws: Tensor) -> Tensor:
    r = low + (high - low) * draws[:, 1]
    return (r * n).floor().long().clamp(1, n) * (draws[:, 0] < share)


BINARY = (
    "some counts are one too small where r·n should be whole: in binary 0.29 · 100 is 28.999…96. "
    "Work in double precision (.double()) and add something tiny (1e-9) before you round down"
)
COUNTS_MISTAKES = (
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, low, high, share, draws, whole=torch.round),
        "r·n is rounded to the nearest whole number; the rule is floor: never more than the ratio allows",
    ),
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, low, high, share, draws, whole=torch.ceil, slack=-1e-9),
        "r·n is rounded up; the rule is floor, with at least one",
    ),
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, low, high, share, draws, least=0),
        "a masked sample hides nothing where r·n is below 1; at least one patch, or it teaches nothing (clamp)",
    ),
    Mistake(lambda n, low, high, share, draws: _written_out(n, low, high, share, draws, slack=0.0), BINARY),
    Mistake(_single_precision, BINARY),
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, low, high, 2.0, draws),
        "every sample is masked; the first draw decides: masked where draws[:, 0] < share",
    ),
    Mistake(
        lambda n, low, high, share, draws: (_written_out(n, low, high, 2.0, draws) * (draws[:, 0] < share)).clamp(1, n),
        "samples that stay whole lose a patch: `at least one` is for masked samples only, so it comes before the decision",
    ),
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, low, high, share, draws, which=(1, 0)),
        "the draws have changed places: the first decides whether a sample is masked, the second how much of it",
    ),
    Mistake(
        lambda n, low, high, share, draws: _written_out(n, 0.0, high, share, draws),
        "r runs from 0 to high; it runs from low: low + (high - low) · draw",
    ),
)

# 5.2 ------------------------------------------------------------------------------------------------------------------


def check_hide(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(scores (b, n), counts (b,))` → (b, n) bool, the `counts` highest of each row; ties go to the earlier patch."""

    def case(generator, draw):
        b, n = draw(3, 5), draw(9, 16)
        scores = torch.randint(0, 6, (b, n), generator=generator).float() / 4  # so few values that many are tied
        counts = torch.randint(2, n - 1, (b,), generator=generator)
        counts[0] = 0  # a sample that is not masked
        return Case(scores=scores, counts=counts)

    compare("Exercise 5.2", student, hide_highest, cases_of(case), HIDE_MISTAKES)


def _ranks(scores: Tensor) -> Tensor:
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def _threshold(scores: Tensor, counts: Tensor) -> Tensor:
    """The lowest score that is hidden; where nothing is, above all."""
    ordered = scores.sort(dim=1, descending=True).values
    last = ordered.gather(1, (counts - 1).clamp_min(0)[:, None])
    return last.masked_fill(counts[:, None] == 0, float("inf"))


def _by_number(chosen: Tensor, scores: Tensor) -> Tensor:
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, chosen, True)


HIDE_MISTAKES = (
    Mistake(
        lambda scores, counts: scores >= _threshold(scores, counts),
        "too many are hidden where scores are tied: everything at the threshold goes. Compare ranks with the count, not scores "
        "with a threshold",
    ),
    Mistake(
        lambda scores, counts: scores > _threshold(scores, counts),
        "too few are hidden: what stands at the threshold itself stays. Compare ranks with the count, not scores with a threshold",
    ),
    Mistake(lambda scores, counts: hide_highest(-scores, counts), "the lowest scores are hidden; descending=True"),
    Mistake(
        lambda scores, counts: scores.argsort(dim=1, descending=True, stable=True) < counts[:, None],
        "argsort once says which patch stands at each place of the order; you need the place of each patch: argsort of the argsort",
    ),
    Mistake(
        lambda scores, counts: _ranks(scores.flip(1)).flip(1) < counts[:, None],
        "of tied patches the later one is hidden; the earlier goes first: argsort(..., stable=True)",
    ),
    Mistake(lambda scores, counts: _ranks(scores) <= counts[:, None], "one too many in each row: ranks begin at 0, so rank < count"),
    Mistake(
        lambda scores, counts: _ranks(scores) < counts.max(),
        "every row hides as many as the one that hides most; each has a count of its own: counts[:, None]",
    ),
    Mistake(lambda scores, counts: ~hide_highest(scores, counts), "this marks the patches that stay; True means hidden"),
    Mistake(
        lambda scores, counts: _ranks(scores.flatten()[None])[0].reshape(scores.shape) < counts.sum(),
        "ranks run over the whole batch, so one sample hides nearly everything and another nothing; rank each row by itself: dim=1",
    ),
)

# 5.3 ------------------------------------------------------------------------------------------------------------------


def check_word_relevance(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(weights (layers, b, h, l, n), words (b, l) bool)` → (b, n): mean over layers, heads and words; [CLS], [SEP] are none."""

    def case(generator, draw):
        layers, b, h, length, n = draw(2, 3), draw(3, 4), draw(2, 4), draw(8, 10), draw(9, 16)
        weights = (2 * torch.randn(layers, b, h, length, 1 + n, generator=generator)).softmax(dim=-1)[..., 1:]  # [CLS] left out
        tokens = torch.randint(4, length, (b, 1), generator=generator)
        return Case(weights=weights, words=torch.arange(length) < tokens)

    compare("Exercise 5.3", student, _word_relevance, cases_of(case), WORD_RELEVANCE_MISTAKES)


def _word_relevance(weights: Tensor, words: Tensor) -> Tensor:
    return cross_relevance(weights, content_tokens(words))


def _without(words: Tensor, cls: bool = True, sep: bool = True) -> Tensor:
    """Real tokens without [CLS], without [SEP], as asked."""
    last = words & ~words.roll(-1, dims=1).masked_fill(torch.arange(words.shape[1]) == words.shape[1] - 1, False)
    first = torch.arange(words.shape[1]) == 0
    return words & ~(first & cls) & ~(last & sep)


WORD_RELEVANCE_MISTAKES = (
    Mistake(
        lambda weights, words: weights.mean(dim=(0, 2, 3)),
        "`words` is not used: [CLS], [SEP] and padding take part. Padding attends somewhere, too, and is about nothing",
    ),
    Mistake(
        lambda weights, words: cross_relevance(weights, words),
        "[CLS] and [SEP] take part; they are real tokens, but about nothing in the picture",
    ),
    Mistake(
        lambda weights, words: cross_relevance(weights, _without(words, sep=False)),
        "[SEP] takes part: it is the last True of each row, at another place in every row",
    ),
    Mistake(
        lambda weights, words: cross_relevance(weights, _without(words, cls=False)),
        "[CLS] takes part: it is the first token of each row",
    ),
    Mistake(
        lambda weights, words: weights[:, :, :, 1:-1].mean(dim=(0, 2, 3)),
        "1:-1 cuts every row at the same place; captions differ in length, so [SEP] and padding of the shorter ones take part. "
        "`words` says which tokens are real",
    ),
    Mistake(
        lambda weights, words: torch.einsum("kbhln,bl->bn", weights, content_tokens(words).float()),
        "this is a sum over layers, heads and words; long captions would have larger scores. Take the mean",
    ),
    Mistake(
        lambda weights, words: _word_relevance(weights, words) * content_tokens(words).sum(dim=1, keepdim=True) / words.shape[1],
        "the sum is divided by l, padding included; divide by each row's own number of words",
    ),
    Mistake(
        lambda weights, words: _word_relevance(weights[-1:], words),
        "only the last layer is read; the score is the mean over all of them",
    ),
    Mistake(
        lambda weights, words: _word_relevance(weights[:, :, :1], words),
        "only the first head is read; the score is the mean over all of them",
    ),
    Mistake(
        lambda weights, words: _word_relevance(weights / weights.sum(dim=3, keepdim=True), words),
        "the weights are normalised over the words (dim=3): each patch now shares itself out among words. Nothing needs normalising here; "
        "each word has shared out its attention among the patches (dim=4) already",
    ),
    Mistake(
        lambda weights, words: weights.mean(dim=(0, 2)).masked_fill(~content_tokens(words)[..., None], 0.0).amax(dim=1),
        "this is the maximum over words; the score is their mean",
    ),
)  # fmt: skip

# 5.4 ------------------------------------------------------------------------------------------------------------------


def check_selectivity(student: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> None:
    """`student(mask, named, objects)`, each (b, n) bool → selectivity, and what a blind mask would reach; two numbers over all scenes."""

    def case(generator, draw):
        b, n = draw(4, 6), draw(20, 36)
        kinds = torch.rand(b, n, generator=generator)
        objects = kinds < torch.linspace(0.3, 0.7, b)[:, None]  # scenes differ in how much there is
        named = objects & (torch.rand(b, n, generator=generator) < torch.linspace(0.9, 0.3, b)[:, None])  # and in how much is named
        likes = torch.rand(b, n, generator=generator) + 0.5 * named + 0.3 * objects
        mask = hide_highest(likes, torch.arange(b) + n // 4)
        return Case(mask=mask, named=named, objects=objects)

    compare("Exercise 5.4", lambda *given: as_numbers(student(*given)), selectivity, cases_of(case), SELECTIVITY_MISTAKES)


def _ratio(above: Tensor, below: Tensor) -> float:
    return float(above.sum() / below.sum())


def _with_blind(first: Callable[[Tensor, Tensor, Tensor], float]) -> Callable[[Tensor, Tensor, Tensor], tuple[float, float]]:
    """A wrong first number beside the right second one."""
    return lambda mask, named, objects: (first(mask, named, objects), selectivity(mask, named, objects)[1])


def _with_selectivity(second: Callable[[Tensor, Tensor, Tensor], float]) -> Callable[[Tensor, Tensor, Tensor], tuple[float, float]]:
    """A wrong second number beside the right first one."""
    return lambda mask, named, objects: (selectivity(mask, named, objects)[0], second(mask, named, objects))


SELECTIVITY_MISTAKES = (
    Mistake(
        _with_blind(lambda mask, named, objects: _ratio(mask & named, mask)),
        "the first number is the share of *all* hidden patches that are named; selectivity asks about the hidden object patches only",
    ),
    Mistake(
        _with_blind(lambda mask, named, objects: _ratio(mask & named, objects)),
        "the first number divides by all object patches, hidden or not; only hidden ones count",
    ),
    Mistake(
        _with_blind(lambda mask, named, objects: _ratio(mask & named, named)),
        "the first number is the share of named patches that are hidden (recall); selectivity goes the other way: of the hidden object "
        "patches, how many are named",
    ),
    Mistake(
        _with_blind(lambda mask, named, objects: float(((mask & named).sum(1) / (mask & objects).sum(1)).mean())),
        "the first number is a mean of ratios: a scene with one hidden object patch counts as much as one with ten. Sum over scenes "
        "first, divide once",
    ),
    Mistake(
        _with_selectivity(lambda mask, named, objects: _ratio(named, objects)),
        "the second number is the scenes' own share. A mask that hides more objects where everything is named gains on it without "
        "reading: weight each scene's share by the object patches that the mask hides there",
    ),
    Mistake(
        _with_selectivity(lambda mask, named, objects: float((named.sum(1) / objects.sum(1)).mean())),
        "the second number gives each scene the same weight; weight it by the object patches that the mask hides there",
    ),
    Mistake(
        _with_selectivity(lambda mask, named, objects: _ratio(mask.sum(1) * named.sum(1) / objects.sum(1), mask)),
        "the second number weights scenes by all hidden patches; the blind mask is to hide as many *object* patches as yours",
    ),
    Mistake(
        lambda mask, named, objects: selectivity(mask, named, objects)[::-1],
        "the two numbers have changed places: first the mask's selectivity, then the blind one",
    ),
)
