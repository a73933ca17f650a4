"""Notebook 12: its checkers tell mistakes apart."""

import math

import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import ablations
from semmim_mini.course.ablations import check_bootstrap, check_paired, check_seeds, check_sign_flip


def paired(one, other, quantile, by_seed=True, correction=1):
    gain = [float(a - b) for a, b in zip(one, other, strict=True)]
    n, mean = len(gain), sum(gain) / len(gain)
    variance = sum((x - mean) ** 2 for x in gain) / (n - correction)
    if not by_seed:
        variance = float(one.var() + other.var())
    half = quantile * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def bootstrap(values, picks, out=0.025, whole=False):
    means = values if whole else torch.stack([values[row].mean() for row in picks])
    return torch.quantile(means, out).item(), torch.quantile(means, 1 - out).item()


def sign_flip(differences, strict=False, sides=2):
    seen, ways = float(differences.sum()), []
    for number in range(2 ** len(differences)):
        signed = [x if number >> i & 1 else -x for i, x in enumerate(differences.tolist())]
        total = abs(sum(signed)) if sides == 2 else sum(signed)
        ways.append(total > abs(seen) if strict else total >= (abs(seen) if sides == 2 else seen))
    return sum(ways) / len(ways)


def seeds(effect, spread, z_level, z_power, power=2, rounded=math.ceil):
    return rounded(((z_level + z_power) * spread / effect) ** power)


NUMBER = 12
RIGHT = [
    (check_paired, paired),
    (check_paired, lambda *given: torch.tensor(paired(*given))),
    (check_bootstrap, bootstrap),
    (check_sign_flip, sign_flip),
    (check_sign_flip, lambda differences: torch.tensor(sign_flip(differences))),
    (check_seeds, seeds),
    (check_seeds, lambda *given: float(seeds(*given))),
]
WRONG = [
    (check_paired, lambda *given: paired(*given, by_seed=False), "subtract seed by seed first"),
    (check_paired, lambda one, other, quantile: paired(one, other, 1.96), "so use `quantile`"),
    (check_paired, lambda *given: paired(*given, correction=0), "n − 1"),
    (check_paired, lambda one, other, quantile: paired(other, one, quantile), "turned round"),
    (check_bootstrap, lambda *given: bootstrap(*given, out=0.05), "middle 90 %"),
    (check_bootstrap, lambda values, picks: bootstrap(values[picks].mean(dim=0), picks, whole=True), r"mean\(dim=1\)"),
    (check_bootstrap, lambda values, picks: bootstrap(values[picks].flatten(), picks, whole=True), "mean of each sample first"),
    (check_sign_flip, lambda differences: sign_flip(differences, strict=True), "or p can be 0"),
    (check_sign_flip, lambda differences: sign_flip(differences, sides=1), "only one side is counted"),
    (check_sign_flip, lambda differences: 1 - sign_flip(differences), "1 − p"),
    (check_seeds, lambda *given: seeds(*given, power=1), "the square is missing"),
    (check_seeds, lambda *given: seeds(*given, rounded=int), "rounded down"),
    (check_seeds, lambda effect, spread, z, power: seeds(effect, spread, z, 0), "`z_power` is not used"),
]
LISTS = (
    (check_paired, ablations.PAIRED_MISTAKES),
    (check_bootstrap, ablations.BOOTSTRAP_MISTAKES),
    (check_sign_flip, ablations.SIGN_FLIP_MISTAKES),
    (check_seeds, ablations.SEEDS_MISTAKES),
)
