"""Pictures of notebook 12: rows as a ladder, luck among equals, intervals, power, and what a step costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from semmim_mini.ablation.rows import Row
from semmim_mini.config import Config
from semmim_mini.course.comparison import Interval, power_of
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    PURPLE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    percent,
    styled,
    text_width,
)

INNER = WIDTH - 2 * MARGIN
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


# 1: the ladder ----------------------------------------------------------------------------------------------------------


def parts_of(config: Config) -> dict[str, str]:
    """What a row has of each part, in a word; empty where it has not."""
    losses, masked = config.losses, config.losses.mim.weight > 0
    on_codes = masked and losses.mim_target == "codes"
    agrees = losses.consensus.weight > 0
    return {
        "MIM on": losses.mim_target if masked else "",
        "consensus": "yes" if agrees else "",
        "one space": "yes" if agrees and on_codes and config.space.shared else "",
        "text: mask": "yes" if masked and config.masking.strategy.startswith("text") else "",
        "text: student": "yes" if masked and losses.mim_student_text else "",
        "text: targets": "yes" if on_codes and losses.mim_target_text else "",
    }


@styled
def ladder(rows: Sequence[Row], base: Config) -> Drawn:
    """Rows by the parts that they have, beside ITC, ITM, MLM and captioning, which all of them have; number: parts, by row."""
    table = {row.name: parts_of(row.config(base)) for row in rows}
    number = {name: float(sum(bool(word) for word in parts.values())) for name, parts in table.items()}
    heads, left, step = list(next(iter(table.values()))), 2.35, 0.27
    width = (INNER - left) / len(heads)
    sheet = Sheet("What each row has", 0.28 + step * len(rows))
    for j, head in enumerate(heads):
        sheet.text(MARGIN + left + (j + 0.5) * width, 0, head, SMALL - 1, "center", weight="bold")
    for i, row in enumerate(rows):
        top = 0.26 + i * step
        sheet.text(MARGIN, top, row.name, SMALL, weight="bold")
        sheet.text(MARGIN + 0.35, top, row.title, SMALL - 1, color=GREY)
        for j, head in enumerate(heads):
            word = table[row.name][head]
            axes = sheet.axes(MARGIN + left + j * width + 0.04, top - 0.03, width - 0.08, step - 0.05)
            axes.set(xticks=[], yticks=[], facecolor=BLUE if word else PALE)
            axes.spines[:].set_visible(False)
            axes.text(0.5, 0.47, word, ha="center", va="center", fontsize=SMALL - 1, color="white", transform=axes.transAxes)
    return Drawn(sheet.figure, number)


# 3: luck ----------------------------------------------------------------------------------------------------------------


@styled
def luck(leads: Mapping[str, Float[Tensor, "trials"]]) -> Drawn:
    """By how many spreads the luckiest of several equal rows leads the first one; numbers: the means, by name."""
    number = {name: float(found.mean()) for name, found in leads.items()}
    said = "; ".join(f"{name}: {mean:.1f} spreads" for name, mean in number.items())
    sheet = Sheet(f"Lead of the luckiest row, all rows being the same method. {said}", 1.95, "A spread: the standard deviation over seeds.")
    axes = sheet.axes(MARGIN + 0.5, 0.1, INNER - 0.7, 1.4)
    edges = np.linspace(-2, 5, 71)
    for (name, found), colour in zip(leads.items(), COLOURS, strict=False):
        share = np.histogram(found.numpy(), edges)[0] / len(found)
        axes.stairs(share, edges, color=colour, linewidth=1.8)
        axes.axvline(number[name], color=colour, linewidth=1, linestyle="--")
    for i, (name, colour) in enumerate(zip(leads, COLOURS, strict=False)):
        axes.text(0.99, 0.95 - 0.14 * i, name, color=colour, ha="right", va="top", fontsize=SMALL, weight="bold", transform=axes.transAxes)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(xlim=(-2, 5), xlabel="spreads ahead of the first row", yticks=[])
    return Drawn(sheet.figure, number)


# 4: intervals -----------------------------------------------------------------------------------------------------------


@styled
def intervals(found: Mapping[str, Interval], points: Mapping[str, Sequence[float]], title: str, note: str = "") -> Drawn:
    """Means with their intervals, single seeds as dots, and 0; number: how many intervals exclude it.

    Args:
        points: by the same labels, the differences that an interval was made of.
    """
    number = {"excludes_0": float(sum(interval.verdict != "contains 0" for interval in found.values())), "intervals": float(len(found))}
    sheet = Sheet(title, 0.27 * len(found) + 0.5, note)
    left = max(text_width(label, SMALL) for label in found) + 0.15
    axes = sheet.axes(MARGIN + left, 0, INNER - left - 0.2, 0.27 * len(found))
    axes.axvline(0, color=INK, linewidth=1)
    for i, (label, interval) in enumerate(found.items()):
        colour = GREY if interval.verdict == "contains 0" else ORANGE
        axes.plot([interval.low, interval.high], [i, i], color=colour, linewidth=2)
        axes.plot([interval.mean] * 2, [i - 0.26, i + 0.26], color=colour, linewidth=2)
        axes.plot(points[label], [i] * len(points[label]), "o", color=BLUE, alpha=0.6, markersize=4.5, markeredgewidth=0)
    axes.set(ylim=(len(found) - 0.5, -0.5))
    axes.set_yticks(range(len(found)), list(found))
    axes.tick_params(axis="y", length=0)
    return Drawn(sheet.figure, number)


# 6: power ---------------------------------------------------------------------------------------------------------------


@styled
def power_curves(seeds: Sequence[int]) -> Drawn:
    """How often an effect is found, by its size and the number of seeds; numbers: the effect found in 80 %, in spreads, by seeds."""
    effects, number = np.linspace(0.05, 5, 100), {}
    sheet = Sheet("How often a t interval excludes 0", 2.5, "Effect: true difference over the standard deviation of differences by seed.")
    axes = sheet.axes(MARGIN + 0.55, 0.1, INNER - 1.7, 1.9)
    for i, (n, colour) in enumerate(zip(seeds, COLOURS, strict=False)):
        power = np.array([power_of(float(effect), n) for effect in effects])
        number[str(n)] = float(effects[int((power >= 0.8).argmax())])
        axes.plot(effects, power, color=colour, linewidth=2)
        axes.plot([number[str(n)]] * 2, [0, 0.8], color=colour, linewidth=1, linestyle=(0, (2, 2)))
        label = f"{n} seeds"
        axes.text(1.02, 0.95 - 0.13 * i, label, color=colour, va="top", fontsize=SMALL, weight="bold", transform=axes.transAxes)
    axes.axhline(0.8, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 5), ylim=(0, 1), xlabel="effect, in spreads")
    axes.set_yticks([0.05, 0.5, 0.8, 1], [percent(x) for x in (0.05, 0.5, 0.8, 1)])
    return Drawn(sheet.figure, number)


# 8: equal steps, equal time ---------------------------------------------------------------------------------------------


@styled
def costs(points: Mapping[str, tuple[Sequence[float], Sequence[float]]], titles: tuple[str, str]) -> Drawn:
    """A figure of every row, a dot a seed, rows in the order of what their step costs; number: mean cost over the first row's."""
    first = np.mean(next(iter(points.values()))[0])
    number = {name: float(np.mean(cost) / first) for name, (cost, _) in points.items()}
    dearest, order = max(number, key=number.get), sorted(points, key=number.get)
    sheet = Sheet(f"A step of {dearest} costs {number[dearest]:.2f} times as much as one of {next(iter(points))}", 1 + 0.22 * len(order))
    axes = sheet.axes(MARGIN + 1.2, 0.1, INNER - 1.5, 0.4 + 0.22 * len(order))
    for place, name in enumerate(order):
        axes.axhline(place, color=PALE, linewidth=0.8, zorder=0)
        value = points[name][1]
        axes.plot(value, [place] * len(value), "o", color=BLUE, alpha=0.5, markersize=5, markeredgewidth=0)
        axes.plot(np.mean(value), place, "|", color=INK, markersize=13, markeredgewidth=1.8)
    axes.set_yticks(range(len(order)), [f"{name}   {np.mean(points[name][0]):.2f}" for name in order])
    axes.invert_yaxis()  # cheap above, dear below
    axes.set(xlabel=titles[1], ylabel=titles[0])
    return Drawn(sheet.figure, number)
