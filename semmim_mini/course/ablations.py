"""Checkers of notebook 12, ablations: a paired interval, a bootstrap, an exact test of few numbers, and how many seeds it takes."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, as_numbers, as_whole, cases_of, compare
from semmim_mini.course.comparison import sign_flip_p, t_interval, t_quantile

# 12.1 -----------------------------------------------------------------------------------------------------------------


def check_paired(student: Callable[[Tensor, Tensor, float], tuple[float, float, float]]) -> None:
    """`student(one, other, quantile)`, figures of two rows by seed (n,) → mean of one − other, and both ends of its t interval."""

    def case(generator, draw):
        n = draw(3, 6)
        luck = 3 * torch.randn(n, generator=generator)  # what a seed does to both rows
        one, other = (luck + torch.randn(n, generator=generator) + shift for shift in (1.0, 0.0))
        return Case(one=one, other=other, quantile=t_quantile(n))

    compare("Exercise 12.1", lambda *given: as_numbers(student(*given)), _paired, cases_of(case), PAIRED_MISTAKES)


def _paired(one: Tensor, other: Tensor, quantile: float) -> tuple[float, float, float]:
    return tuple(t_interval(one - other))


def _about(mean: Tensor, half: Tensor) -> tuple[float, float, float]:
    return float(mean), float(mean - half), float(mean + half)


def _written_out(one, other, quantile, spread=torch.std, root=math.sqrt) -> tuple[float, float, float]:
    found = one - other
    return _about(found.mean(), quantile * spread(found) / root(len(found)))


PAIRED_MISTAKES = (
    Mistake(
        lambda one, other, quantile: _about(one.mean() - other.mean(), quantile * ((one.var() + other.var()) / len(one)).sqrt()),
        "the spread is that of two independent rows; what a seed does to both cancels in their difference: subtract seed by seed first, "
        "and take the spread of the differences",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, 1.96),
        "1.96 is for a known spread; yours comes from the same few numbers, so use `quantile`",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, quantile, spread=lambda x: x.std(correction=0)),
        "the spread divides by n; of numbers that also had to tell their own mean it is n − 1, which `.std()` does by itself",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, quantile, root=lambda n: 1.0),
        "this is where single differences lie; the interval is about their *mean*: divide by √n",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, quantile, root=float),
        "the spread is divided by n; a mean's standard error is s / √n",
    ),
    Mistake(
        lambda one, other, quantile: _paired(other, one, quantile),
        "the difference is turned round: one − other, so that above 0 means that `one` has more",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, quantile, spread=torch.var),
        "this is the variance; its root has the unit of the difference",
    ),
    Mistake(
        lambda one, other, quantile: _written_out(one, other, quantile / 2),
        "the interval is half as wide as it should be: mean − quantile · s / √n to mean + quantile · s / √n",
    ),
)

# 12.2 -----------------------------------------------------------------------------------------------------------------


def check_bootstrap(student: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    """`student(values (n,), picks (draws, n))` → where the middle 95 % of the means of the samples `values[picks[i]]` lie."""

    def case(generator, draw):
        n = draw(3, 9)
        values = torch.randn(n, generator=generator).exp()  # skewed, so that mirrored intervals differ
        return Case(values=values, picks=torch.randint(n, (draw(100, 300), n), generator=generator))

    compare("Exercise 12.2", lambda *given: as_numbers(student(*given)), _bootstrap, cases_of(case), BOOTSTRAP_MISTAKES)


def _bootstrap(values: Tensor, picks: Tensor, share: float = 0.025, of=lambda samples: samples.mean(dim=1)) -> tuple[float, float]:
    low, high = torch.quantile(of(values[picks]), torch.tensor([share, 1 - share])).tolist()
    return low, high


def _mirrored(values: Tensor, picks: Tensor) -> tuple[float, float]:
    low, high = _bootstrap(values, picks)
    return 2 * float(values.mean()) - high, 2 * float(values.mean()) - low


def _by_spread(values: Tensor, picks: Tensor) -> tuple[float, float]:
    means = values[picks].mean(dim=1)
    return float(means.mean() - 1.96 * means.std()), float(means.mean() + 1.96 * means.std())


BOOTSTRAP_MISTAKES = (
    Mistake(
        lambda values, picks: _bootstrap(values, picks, share=0.05),
        "these are the middle 90 %; 95 % leave 2.5 % out at each end",
    ),
    Mistake(
        lambda values, picks: _bootstrap(values, picks, of=torch.flatten),
        "these are quantiles of the picked values themselves; take the mean of each sample first",
    ),
    Mistake(
        lambda values, picks: _bootstrap(values, picks, of=lambda samples: samples.mean(dim=0)),
        "the mean runs over the draws; each *row* of `picks` is a sample: mean(dim=1)",
    ),
    Mistake(
        lambda values, picks: _bootstrap(values, picks, of=lambda samples: samples.median(dim=1).values),
        "these are medians of the samples; the interval is for the mean",
    ),
    Mistake(
        lambda values, picks: _bootstrap(values, picks, share=0.0),
        "these are the smallest and the largest mean; leave 2.5 % out at each end",
    ),
    Mistake(
        lambda values, picks: _bootstrap(values, picks)[::-1],
        "low and high have changed places",
    ),
    Mistake(_mirrored, "the interval is mirrored at the mean (the `basic` bootstrap); asked for are the quantiles themselves"),
    Mistake(_by_spread, "this is mean ± 1.96 spreads; take the quantiles of the means: nothing says that they are normal"),
)

# 12.3 -----------------------------------------------------------------------------------------------------------------


def check_sign_flip(student: Callable[[Tensor], float]) -> None:
    """`student(differences (n,))` → share of all 2ⁿ ways to set their signs whose mean is at least as far from 0 as the one seen."""

    def case(generator, draw):
        n = draw(3, 7)
        size = torch.randint(1, 9, (n,), generator=generator).double() / 8  # eighths: sums are exact, and ties happen
        sign = torch.where(torch.rand(n, generator=generator) < 0.75, 1.0, -1.0)
        return Case(differences=size * sign)

    def number(differences):
        answer = student(differences)
        return float(answer) if isinstance(answer, Tensor) and answer.numel() == 1 else answer

    compare("Exercise 12.3", number, sign_flip_p, cases_of(case), SIGN_FLIP_MISTAKES)


def _all_signs(differences: Tensor) -> Tensor:
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=len(differences))), dtype=differences.dtype)
    return (signs * differences.abs()).sum(dim=1)


def _share(found: Tensor) -> float:
    return float(found.double().mean())


def _sign_test(differences: Tensor) -> float:
    """Only which sign each has."""
    n, above = len(differences), int((differences > 0).sum())
    tail = sum(math.comb(n, k) for k in range(max(above, n - above), n + 1)) / 2**n
    return min(1.0, 2 * tail)


SIGN_FLIP_MISTAKES = (
    Mistake(
        lambda differences: _share(_all_signs(differences).abs() > differences.sum().abs()),
        "what was seen is one of the 2ⁿ ways itself, and its mirror another: count `at least as far` (>=), or p can be 0",
    ),
    Mistake(
        lambda differences: _share(_all_signs(differences) >= differences.sum()),
        "only one side is counted; before looking, a difference below 0 would have surprised you as much: compare absolute values",
    ),
    Mistake(
        _sign_test,
        "this looks at the signs only (the sign test); flip them, but compare the *means*: large differences say more than small ones",
    ),
    Mistake(
        lambda differences: 1 - _share(_all_signs(differences).abs() >= differences.sum().abs()),
        "this is 1 − p: the share of ways that are *less* far from 0",
    ),
    Mistake(
        lambda differences: float((_all_signs(differences).abs() >= differences.sum().abs()).sum()),
        "this is how many ways there are; p is their share of all 2ⁿ",
    ),
    Mistake(
        lambda differences: min(1.0, 2 * _share(_all_signs(differences).abs() >= differences.sum().abs())),
        "doubled once too often: absolute values count both sides already",
    ),
)

# 12.4 -----------------------------------------------------------------------------------------------------------------


def check_seeds(student: Callable[[float, float, float, float], int]) -> None:
    """`student(effect, spread, z_level, z_power)` → seeds, ((z_level + z_power) · spread / effect)², rounded up."""

    def case(generator, draw):
        return Case(effect=draw(2, 9) / 10, spread=draw(5, 17) / 10, z_level=(1.96, 2.576)[draw(0, 1)], z_power=(0.842, 1.282)[draw(0, 1)])

    compare("Exercise 12.4", lambda *given: as_whole(student(*given)), _seeds, cases_of(case), SEEDS_MISTAKES)


def _seeds(effect: float, spread: float, z_level: float, z_power: float) -> int:
    return math.ceil(((z_level + z_power) * spread / effect) ** 2)


SEEDS_MISTAKES = (
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil((z_level * spread / effect) ** 2),
        "`z_power` is not used: with so many seeds the interval excludes 0 in half of all comparisons only",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.floor(((z_level + z_power) * spread / effect) ** 2),
        "rounded down; a seed too few has less power than was asked for: math.ceil",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: round(((z_level + z_power) * spread / effect) ** 2),
        "rounded to the nearest; a seed too few has less power than was asked for: math.ceil",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil((z_level + z_power) * spread / effect),
        "the square is missing: half the effect needs four times the seeds, because the error of a mean falls with √n",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil((z_level + z_power) ** 2 * spread / effect),
        "spread / effect belongs inside the square",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil(2 * ((z_level + z_power) * spread / effect) ** 2),
        "the factor 2 is for two independent groups; `spread` is that of paired differences already",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil(((z_level + z_power) * effect / spread) ** 2),
        "effect and spread have changed places: a larger effect needs fewer seeds",
    ),
    Mistake(
        lambda effect, spread, z_level, z_power: math.ceil((z_level**2 + z_power**2) * (spread / effect) ** 2),
        "add the two z first, then square",
    ),
)
