r"""A comparison read back, and the few statistics that a small number of seeds allows.

    python -m semmim_mini.course.comparison runs/ablation/ablation.csv                  the paper's claims with intervals, as Markdown
    python -m semmim_mini.course.comparison runs/ablation/ablation.csv --against A8     all other rows, as of a sweep, beside one

    ablation.csv ─► rows × seeds × figures ─► differences, seed by seed ─► interval (t, bootstrap) · exact p · what power there was

Seeds pair rows: the same seed gives every row the same scenes, the same order and the same first weights of what they share [C]. What a
seed adds to both rows of a pair cancels in their difference.
"""

import argparse
import csv
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from semmim_mini.ablation.table import BY_NAME
from semmim_mini.data.cutouts import samples_folder
from semmim_mini.errors import UserError

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and where it may lie."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether 0 is inside, in words."""
        if self.low <= 0 <= self.high:
            return "contains 0"
        return "above 0" if self.low > 0 else "below 0"


class Claim(NamedTuple):
    """Something the paper states [S], the two rows that differ in it, and the figures that would show it."""

    text: str
    row: str
    without: str
    figures: tuple[str, ...]


TASKS = ("r1_image_to_text", "r1_text_to_image", "vqa_accuracy", "cider")
CODES = ("ami_within", "alike_across")
CLAIMS = (
    Claim("semantic targets are better than pixels", "A4", "A1", TASKS),
    Claim("agreement gives patch codes meaning", "A3", "A2", CODES),
    Claim("one shared space hands it to patches", "A4", "A3", CODES),
    Claim("masks guided by text help", "A5", "A4", TASKS),
    Claim("text in masked modelling helps", "A6", "A4", TASKS),
    Claim("text in the targets helps", "A7", "A4", TASKS),
    Claim("all of it together helps", "A8", "A0", TASKS),
)
SWEPT = ("r1_image_to_text", "r1_text_to_image", "ami_within", "follows")  # what one setting of A8 may change


class Comparison:
    """What `semmim-mini ablate` has written.

    Args:
        path: ablation.csv.

    Raises:
        UserError: not there, or not of this form.
    """

    def __init__(self, path: Path):
        self.settings: dict[str, tuple[str, ...]] = {}
        self._figures: dict[tuple[str, str], dict[int, float]] = {}
        try:
            with open(path, encoding="utf-8", newline="") as file:
                for line in csv.DictReader(file):
                    self.settings[line["row"]] = tuple(line["settings"].split())
                    self._figures.setdefault((line["row"], line["metric"]), {})[int(line["seed"])] = float(line["value"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
            raise UserError(
                f"{path} is no table of semmim-mini ablate ({type(error).__name__}: {error!s:.200}); run it, or copy the file"
            ) from None

    @property
    def rows(self) -> list[str]:
        return list(self.settings)

    def seeds(self, row: str) -> list[int]:
        """Of a row, in order."""
        return sorted({seed for (name, _), values in self._figures.items() if name == row for seed in values})

    def has(self, row: str, figure: str) -> bool:
        return (row, figure) in self._figures

    def values(self, row: str, figure: str) -> Float[Tensor, "seeds"]:
        """A figure of every seed of a row, in order; nothing where the row has no such figure."""
        found = self._figures.get((row, figure), {})
        return torch.tensor([found[seed] for seed in sorted(found)], dtype=torch.float64)

    def difference(self, row: str, without: str, figure: str) -> Float[Tensor, "seeds"]:
        """Row minus row, for each seed that both have."""
        one, other = (self._figures.get((name, figure), {}) for name in (row, without))
        return torch.tensor([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())], dtype=torch.float64)


def shipped_comparison() -> Comparison:
    """The comparison that comes with the kit: preset `tiny`, some minutes of training a cell."""
    return Comparison(samples_folder() / "ablation" / "ablation.csv")


# Intervals and tests --------------------------------------------------------------------------------------------------


def t_quantile(n: int, level: float = LEVEL) -> float:
    """How many standard errors a mean of n may be off, if n numbers also had to tell the spread."""
    return float(stats.t.ppf((1 + level) / 2, n - 1))


def t_interval(differences: Float[Tensor, "n"], level: float = LEVEL) -> Interval:
    """mean ± t · s / √n; needs n ≥ 2. Right for normal differences, however few."""
    n, mean = len(differences), float(differences.mean())
    half = t_quantile(n, level) * float(differences.std()) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def bootstrap_interval(values: Float[Tensor, "n"], draws: int = 10_000, level: float = LEVEL, seed: int = 0) -> Interval:
    """The middle of the means of `draws` samples of n drawn with replacement (percentile bootstrap)."""
    generator = torch.Generator().manual_seed(seed)
    means = values[torch.randint(len(values), (draws, len(values)), generator=generator)].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=means.dtype)).tolist()
    return Interval(float(values.mean()), low, high)


def sign_flip_p(differences: Float[Tensor, "n"]) -> float:
    """Exact two-sided p: if the two rows were alike, every difference might as well have had the other sign.

    The share of all 2ⁿ ways to set the signs whose mean is at least as far from 0 as what was seen; so never below 2 / 2ⁿ.
    """
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=len(differences))), dtype=differences.dtype)
    means = (signs * differences).mean(dim=1).abs()
    return float((means >= means[0] - 1e-12).double().mean())  # the first way is what was seen


# Power ----------------------------------------------------------------------------------------------------------------


def power_of(effect: float, seeds: int, level: float = LEVEL) -> float:
    """How often a t interval of `seeds` differences excludes 0, if their true mean is `effect` standard deviations."""
    if effect == 0:
        return 1 - level  # where the non-central distribution is none
    return float(stats.ncf.sf(t_quantile(seeds, level) ** 2, 1, seeds - 1, seeds * effect**2))  # of t², both sides at once


def seeds_for(effect: float, power: float = 0.8, level: float = LEVEL, most: int = 10_000) -> int:
    """The fewest seeds (2 or more) with that power, for an effect in standard deviations of the differences."""
    return next(n for n in range(2, most) if power_of(effect, n, level) >= power)


# Claims ---------------------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """One claim by one figure."""

    claim: Claim
    figure: str
    differences: list[float]
    alone: Interval  # at 95 %
    among_all: Interval  # so wide that all of them together hold at 95 % (Bonferroni)


def judge(comparison: Comparison, claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Every claim by each of its figures, as far as the comparison has both rows with two seeds or more."""
    asked = [(claim, figure, comparison.difference(claim.row, claim.without, figure)) for claim in claims for figure in claim.figures]
    told = [(claim, figure, found) for claim, figure, found in asked if len(found) > 1]
    strict = 1 - (1 - LEVEL) / max(len(told), 1)
    return [Judged(claim, figure, found.tolist(), t_interval(found), t_interval(found, strict)) for claim, figure, found in told]


def against(comparison: Comparison, row: str) -> tuple[Claim, ...]:
    """Every other row minus `row`, by its settings in the place of a claim.

    Raises:
        UserError: the comparison has no such row.
    """
    if row not in comparison.rows:
        raise UserError(f"--against {row!r} is no row of this comparison; choose from {', '.join(comparison.rows)}")
    return tuple(Claim(" ".join(comparison.settings[name]), name, row, SWEPT) for name in comparison.rows if name != row)


def as_markdown(judged: Sequence[Judged], first: str = "claim") -> str:
    """A line for each claim and figure: the difference with its 95 % interval, and what that says. `first` heads what is compared."""
    lines = [f"| {first} | rows | figure | difference | 95 % interval | of every seed |", "|---|---|---|---|---|---|"]
    for one in judged:
        metric = BY_NAME[one.figure]
        scale, digits = (100, 1) if metric.unit == "%" else (1, 3)
        mean, low, high = (f"{scale * x:+.{digits}f}" for x in one.alone)
        seeds = ", ".join(f"{scale * x:+.{digits}f}" for x in one.differences)
        certain = "**" if one.alone.verdict != "contains 0" else ""
        rows = f"{one.claim.row} − {one.claim.without}"
        unit = " (points)" if metric.unit == "%" else ""
        lines.append(f"| {one.claim.text} | {rows} | {metric.title}{unit} | {certain}{mean}{certain} | {low} to {high} | {seeds} |")
    found = sum(one.alone.verdict != "contains 0" for one in judged)
    strict = sum(one.among_all.verdict != "contains 0" for one in judged)
    end = f"Of {len(judged)} intervals {found} exclude 0 (set bold), {strict} of them also when all are to hold together (Bonferroni)."
    return "\n".join([*lines, "", end])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.course.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="ablation.csv, as semmim-mini ablate writes it")
    parser.add_argument("--against", metavar="ROW", help="every other row minus this one, in place of the paper's claims")
    parsed = parser.parse_args(arguments)
    try:
        comparison = Comparison(parsed.file)
        if parsed.against is None:
            print(as_markdown(judge(comparison)))
        else:
            print(as_markdown(judge(comparison, against(comparison, parsed.against)), first="settings"))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
