"""Pictures of notebook 10 about decoding: a tree where greedy loses, a nucleus, and what a cache saves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from semmim_mini.figures.style import BLUE, GREEN, GREY, INK, MARGIN, ORANGE, PALE, SMALL, WIDTH, Drawn, Sheet, percent, styled

Tree = Mapping[str, tuple[float, Mapping[str, float]]]  # a first word, its probability, and those of the words after it


@styled
def word_tree(tree: Tree) -> Drawn:
    """All captions of two words with their probabilities; numbers: that of the `greedy` one and of the `best`."""
    captions = {(first, then): p * q for first, (p, after) in tree.items() for then, q in after.items()}
    first = max(tree, key=lambda word: tree[word][0])
    chosen = first, max(tree[first][1], key=tree[first][1].get)
    best = max(captions, key=captions.get)
    number = {"greedy": captions[chosen], "best": captions[best]}
    sheet = Sheet(
        f"Greedy writes \u201c{' '.join(chosen)}\u201d, {percent(number['greedy'])}; the likeliest is \u201c{' '.join(best)}\u201d, "
        f"{percent(number['best'])}",
        0.36 * len(captions) + 0.1,
        "Orange: what greedy takes at each place. Green: the likeliest caption. At the right, the probability of the whole: a product.",
    )
    axes = sheet.axes(MARGIN, 0, WIDTH - 2 * MARGIN, 0.36 * len(captions) + 0.05)
    axes.set(xlim=(0, 9), ylim=(len(captions) - 0.4, -0.6), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    rows = {caption: row for row, caption in enumerate(captions)}
    middle = (len(captions) - 1) / 2
    _node(axes, 0.4, middle, "[CLS]", INK)
    for word, (p, after) in tree.items():
        place = float(np.mean([rows[word, then] for then in after]))
        colour = ORANGE if word == chosen[0] else GREEN if word == best[0] else GREY
        _branch(axes, (0.8, middle), (2.6, place), p, colour)
        _node(axes, 3.0, place, word, colour)
        for then, q in after.items():
            caption = word, then
            colour = ORANGE if caption == chosen else GREEN if caption == best else GREY
            _branch(axes, (3.4, place), (5.6, rows[caption]), q, colour)
            _node(axes, 6.0, rows[caption], then, colour)
            axes.text(6.8, rows[caption], f"{p:.2f} × {q:.2f} = {p * q:.2f}", va="center", color=colour)
    return Drawn(sheet.figure, number)


def _branch(axes: Axes, start: tuple[float, float], end: tuple[float, float], share: float, colour: str) -> None:
    axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=0.8 + 3 * share)
    near = 0.62  # of the way: branches of one node are apart there
    x, y = (a + near * (b - a) for a, b in zip(start, end, strict=True))
    axes.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=SMALL, backgroundcolor="white")


def _node(axes: Axes, x: float, y: float, word: str, colour: str) -> None:
    axes.text(x, y, word, ha="center", va="center", color=colour, weight="bold")


@styled
def nuclei(places: Mapping[str, tuple[Sequence[str], Sequence[float]]], top_p: float, shown: int = 12) -> Drawn:
    """The likeliest next words at some places of a caption, those in the nucleus coloured; numbers: how many words are in each.

    Args:
        places: for what stands before, the words of the vocabulary and their probabilities, likeliest first.
    """
    number = {before: float(1 + (np.cumsum(shares) < top_p).sum()) for before, (_, shares) in places.items()}
    sheet = Sheet(
        f"Words whose probabilities reach {percent(top_p)}: " + ", ".join(f"{int(number[before])}" for before in places),
        0.25 + 0.19 * shown + 0.1,
        f"The {shown} likeliest next words, each panel after other words. Blue: in the nucleus. Grey: never drawn.",
    )
    width = (WIDTH - 2 * MARGIN) / len(places)
    for i, (before, (words, shares)) in enumerate(places.items()):
        left = MARGIN + i * width
        sheet.text(left, 0, f"\u201c{before} …\u201d: {int(number[before])} words", SMALL, weight="bold")
        for row, (word, share) in enumerate(zip(words[:shown], shares[:shown], strict=True)):
            top = 0.25 + 0.19 * row
            sheet.text(left + 0.85, top, word, SMALL, "right")
            long = (width - 1.6) * share / max(shares[0], 0.01)
            bar = sheet.axes(left + 0.92, top + 0.01, max(long, 0.01), 0.14)
            bar.set(xticks=[], yticks=[], facecolor=BLUE if row < number[before] else "#BBBBBB")
            bar.spines[:].set_visible(False)
            sheet.text(left + 0.97 + long, top, percent(share) if share >= 0.005 else "<1\u00a0%", SMALL, color=GREY)
    return Drawn(sheet.figure, number)


@styled
def cached_steps(words: int) -> Drawn:
    """Which positions pass through the layers at each step, without and with a cache; numbers: how many in all."""
    number = {"without": words * (words + 1) / 2, "with": float(words)}
    cell = 0.2
    sheet = Sheet(
        f"{words} words: {number['without']:.0f} positions through the layers without a cache, {number['with']:.0f} with one",
        cell * words + 0.5,
        "A row for each step, a column for each position. Blue: computed. Pale: its keys and values are remembered.",
    )
    for i, name in enumerate(("everything again", "only the last word")):
        left = MARGIN + 0.5 + i * 4.4
        sheet.text(left, 0, name, weight="bold")
        axes = sheet.axes(left, 0.25, cell * words, cell * words)
        for step in range(words):
            for place in range(step + 1):
                new = i == 0 or place == step
                axes.add_patch(Rectangle((place, step), 1, 1, facecolor=BLUE if new else PALE, edgecolor="white", linewidth=1))
        axes.set(xlim=(0, words), ylim=(words, 0), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        sheet.text(left - 0.1, 0.25, "step 1", SMALL, "right", color=GREY)
        sheet.text(left - 0.1, 0.25 + cell * (words - 1), f"{words}", SMALL, "right", color=GREY)
    return Drawn(sheet.figure, number)
