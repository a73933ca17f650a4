"""Pictures of notebook 10 about captions and their scores: words beside images, what is true, scores beside references, rare words."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from semmim_mini.course.caption_truth import KINDS, claims, share_true
from semmim_mini.data.pairs import Pair
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARGIN,
    ORANGE,
    SMALL,
    WIDTH,
    Drawn,
    Run,
    Sheet,
    as_picture,
    line_height,
    percent,
    styled,
    wrap_runs,
)


@styled
def word_by_word(image: Tensor, words: Sequence[str], right: Sequence[float], wrong: Sequence[float]) -> Drawn:
    """The probability of each word of a true caption, after those before it, with its image and with another one.

    Returns:
        Perplexity of this caption with the `right` and the `wrong` image.
    """
    number = {name: math.exp(-float(np.log(paid).mean())) for name, paid in (("right", right), ("wrong", wrong))}
    sheet = Sheet(
        f"Perplexity of this caption: {number['right']:.1f} with its image, {number['wrong']:.1f} with another one",
        2.6,
        "Each pair of bars is one question: these words stand before, which comes next? [CLS] is given, [SEP] ends the caption.",
    )
    sheet.picture(MARGIN, 0.2, 1.75, as_picture(image))
    axes = sheet.axes(MARGIN + 2.4, 0.2, WIDTH - 2 * MARGIN - 2.4, 1.75)
    for name, paid, colour, shift in (("its image", right, BLUE, -0.2), ("another image", wrong, ORANGE, 0.2)):
        axes.bar(np.arange(len(words)) + shift, paid, width=0.38, color=colour, label=name)
    axes.set(xlim=(-0.6, len(words) - 0.4), ylim=(0, 1.05), yticks=(0, 0.5, 1))
    axes.set_yticklabels([percent(share) for share in (0, 0.5, 1)])
    axes.set_xticks(range(len(words)), words, rotation=30, ha="right", color=INK)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.2), ncols=2, frameon=False, fontsize=SMALL)
    return Drawn(sheet.figure, number)


@styled
def perplexities(values: Mapping[str, float]) -> Drawn:
    """Perplexities as bars on a logarithmic scale; numbers: the values."""
    best = min(values, key=values.get)
    title = f"In doubt between how many words? {best}: {values[best]:.1f}"
    sheet = Sheet(
        title, 0.3 * len(values) + 0.15, "Perplexity of the next word on held-out captions, logarithmic scale from 1, which is no doubt."
    )
    left = 2.9
    longest = max(map(math.log, values.values()))
    for i, (name, value) in enumerate(values.items()):
        width = (WIDTH - left - MARGIN - 0.6) * math.log(value) / longest
        sheet.text(left - 0.1, 0.3 * i + 0.06, name, align="right")
        bar = sheet.axes(left, 0.3 * i, max(width, 0.01), 0.24)
        bar.set(xticks=[], yticks=[], facecolor=BLUE if name == best else "#BBBBBB")
        bar.spines[:].set_visible(False)
        sheet.text(left + width + 0.06, 0.3 * i + 0.06, f"{value:.1f}" if value < 100 else f"{value:.0f}", SMALL)
    return Drawn(sheet.figure, dict(values))


# Captions under their scenes ------------------------------------------------------------------------------------------


def judged(caption: str, pair: Pair) -> list[Run]:
    """The caption in colours: words that are true of the scene, words that are not, and words that claim nothing."""
    runs, at = [], 0
    for claim in claims(caption, pair):
        end = claim.end + caption[claim.end :].startswith(",")
        runs += [(caption[at : claim.start], None), (caption[claim.start : end], GREEN if claim.true else ORANGE)]
        at = end
    return [*runs, (caption[at:], None)]


@styled
def captioned_scenes(images: Tensor, captions: Sequence[str], pairs: Sequence[Pair], columns: int = 4) -> Drawn:
    """Scenes with the captions that a model wrote; numbers: the shares of things and of colours in these captions that are true."""
    number, rows = share_true(captions, pairs), -(-len(captions) // columns)
    tile = (WIDTH - 2 * MARGIN - 0.15 * (columns - 1)) / columns
    size = 0.72 * tile
    lines = [wrap_runs(judged(caption, pair), tile, SMALL) for caption, pair in zip(captions, pairs, strict=True)]
    deep = [max(map(len, lines[row * columns : (row + 1) * columns])) * line_height(SMALL) + 0.2 for row in range(rows)]
    told = " and ".join(f"{percent(number[kind])} of the {kind}s" for kind in KINDS)
    sheet = Sheet(
        f"Unselected: true are {told} in these {len(captions)} captions",
        rows * size + sum(deep),
        "Green: true of the scene. Orange: not. Plain: nothing that these two measures judge (places, numbers and relations among them).",
    )
    top = 0.0
    for row in range(rows):
        for column in range(min(columns, len(captions) - row * columns)):
            left, place = MARGIN + column * (tile + 0.15), row * columns + column
            sheet.picture(left, top, size, as_picture(images[place]))
            sheet.lines(left, top + size + 0.05, lines[place], SMALL)
        top += size + deep[row]
    return Drawn(sheet.figure, number)


# Scores ---------------------------------------------------------------------------------------------------------------


@styled
def beside_references(table: Mapping[str, Mapping[str, float]], title: str, note: str = "") -> Drawn:
    """For each measure a group of bars, one for each who wrote captions, scaled to the group's longest.

    Args:
        table: by measure, then by who; the first is the one that is judged.

    Returns:
        Every value as `measure, who`.
    """
    names, left, row, gap = list(next(iter(table.values()))), 3.3, 0.22, 0.16
    colours = dict(zip(names, (BLUE, *("#BBBBBB", "#888888", "#5A5A5A")), strict=False))
    sheet = Sheet(title, len(table) * (len(names) * row + gap), note)
    top = 0.02
    for measure, values in table.items():
        sheet.text(MARGIN, top + len(names) * row / 2 - 0.11, measure, weight="bold")
        longest = max(values.values()) or 1.0
        for name, value in values.items():
            width = (WIDTH - left - MARGIN - 0.6) * value / longest
            sheet.text(left - 0.08, top + 0.02, name, SMALL, "right", color=INK if name == names[0] else GREY)
            bar = sheet.axes(left, top, max(width, 0.01), row - 0.04)
            bar.set(xticks=[], yticks=[], facecolor=colours[name])
            bar.spines[:].set_visible(False)
            sheet.text(left + width + 0.06, top + 0.02, f"{value:.3f}", SMALL)
            top += row
        top += gap
    return Drawn(sheet.figure, {f"{measure}, {name}": value for measure, values in table.items() for name, value in values.items()})


@styled
def rarity(weights: Mapping[str, float], images: int) -> Drawn:
    """What CIDEr lets each word of a caption weigh; numbers: the lightest and the heaviest."""
    number = {"lightest": min(weights.values()), "heaviest": max(weights.values())}
    light, heavy = (next(word for word, weight in weights.items() if weight == number[end]) for end in ("lightest", "heaviest"))
    sheet = Sheet(
        f"CIDEr: \u201c{heavy}\u201d weighs {number['heaviest']:.1f}, \u201c{light}\u201d {number['lightest']:.1f}",
        1.9,
        f"Weight of a word: log({images} images / images with it in a reference). A word that stands under every image weighs nothing.",
    )
    axes = sheet.axes(MARGIN + 0.6, 0.1, WIDTH - 2 * MARGIN - 0.6, 1.45)
    axes.bar(range(len(weights)), list(weights.values()), color=BLUE, width=0.7)
    for place, weight in enumerate(weights.values()):
        axes.text(place, weight + 0.06, f"{weight:.1f}", ha="center", fontsize=SMALL)
    axes.set(xlim=(-0.6, len(weights) - 0.4), ylim=(0, 1.15 * number["heaviest"]), ylabel="weight")
    axes.set_xticks(range(len(weights)), list(weights), color=INK)
    axes.tick_params(axis="x", length=0)
    return Drawn(sheet.figure, number)
