"""Pictures of notebook 03 about words: which stack reads what, and what words cost with and without the image."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

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
    Sheet,
    styled,
)

FORBIDDEN = "#E4E4E4"

# Who reads what -------------------------------------------------------------------------------------------------------

TOP, LOW, LONG = 1.85, 0.65, 2.2  # heights of the two rows, and the length of a stack


@styled
def two_stacks(image_layers: int, text_layers: int, fusion_layers: int) -> Drawn:
    """The image encoder above, BERT cut in two below, and where the losses sit; numbers: layers of BERT without and with the image."""
    height = 2.75
    sheet = Sheet(f"One BERT, cut in two: {text_layers} layers read words alone, {fusion_layers} read words and image", height)
    axes = sheet.axes(MARGIN, 0, WIDTH - 2 * MARGIN, height)
    axes.set(xlim=(0, 8), ylim=(0, 8 * height / (WIDTH - 2 * MARGIN)), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _stack(axes, 1.1, TOP, image_layers, "image encoder", BLUE)
    _stack(axes, 1.1, LOW, text_layers, "text encoder", GREEN)
    readers = _stack(axes, 4.1, LOW, fusion_layers, "fusion encoder", ORANGE, first=text_layers)
    for y, text in ((TOP, "patches"), (LOW, "token ids")):
        _words(axes, 0.4, y, text, GREY)
        _arrow(axes, (0.75, y), (1.08, y))
    _arrow(axes, (3.26, LOW), (4.06, LOW))
    axes.plot([3.26, readers[-1]], [TOP, TOP], color=GREY, linewidth=1)
    for x in readers:
        _arrow(axes, (x, TOP), (x, LOW + 0.27))
    _words(axes, 5.2, TOP + 0.2, "keys and values: image tokens", GREY)
    _arrow(axes, (3.55, TOP - 0.02), (3.55, LOW + 0.02), INK, "<|-|>")
    _words(axes, 3.63, (TOP + LOW) / 2, "ITC", INK, weight="bold", ha="left")
    for y, text in ((LOW + 0.17, "[CLS] → ITM"), (LOW - 0.17, "words → MLM")):
        _arrow(axes, (6.26, LOW), (6.52, y))
        _words(axes, 6.55, y, text, INK, weight="bold", ha="left")
    return Drawn(sheet.figure, {"alone": float(text_layers), "with_image": float(fusion_layers)})


def _stack(axes: Axes, left: float, y: float, layers: int, name: str, colour: str, first: int = 0) -> list[float]:
    """Layers as boxes in a row, counted from `first`; returns their middles."""
    width = LONG / layers
    middles = [left + (i + 0.5) * width - 0.04 for i in range(layers)]
    for i, x in enumerate(middles, start=first):
        axes.add_patch(Rectangle((x + 0.04 - width / 2, y - 0.25), width - 0.08, 0.5, facecolor=colour, edgecolor="none"))
        _words(axes, x, y, f"layer {i}", "white", fontsize=SMALL)
    _words(axes, left + LONG / 2, y + (0.45 if y == TOP else -0.45), name, colour, weight="bold")
    return middles


def _words(axes: Axes, x: float, y: float, text: str, colour: str, **how) -> None:
    axes.text(x, y, text, **({"ha": "center", "va": "center", "color": colour} | how))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY, style: str = "-|>") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": style, "color": colour, "shrinkA": 0, "shrinkB": 0})


@styled
def who_reads_what(words: int, padding: int, patches: int) -> Drawn:
    """Query × key matrices of the three stacks of text; numbers: keys that [CLS] and the last word of a caption may read in each.

    Args:
        words: tokens of the caption with [CLS] and [SEP].
        padding: tokens behind them.
        patches: n; the image has a [CLS] besides.
    """
    length, image = words + padding, 1 + patches
    real, seen = np.arange(length) < words, np.ones((length, image), dtype=bool)
    text, causal = np.tile(real, (length, 1)), np.tri(length, dtype=bool) & real
    stacks = {"text encoder": (text,), "fusion encoder": (text, seen), "caption decoder": (causal, seen)}
    left, gap = 0.75, 0.35
    cell = (WIDTH - MARGIN - left - 2 * gap - 0.2) / (3 * length + 2 * image)
    height, number = 1.6 * cell * length, {}
    sheet = Sheet(
        "Who reads what: rows ask, columns answer. Nobody reads padding",
        height + 0.95,
        "Green: words. Blue: image tokens, read by cross-attention. Grey: not allowed. Pale rows: what padding itself would read; nobody "
        "uses the result.",
    )
    for name, blocks in stacks.items():
        sheet.text(left, 0.02, name, weight="bold")
        for block, colour, inner in zip(blocks, (GREEN, BLUE), (words, image), strict=False):
            axes = sheet.axes(left, 0.28, cell * block.shape[1], height)
            _allowed(axes, block, colour, words)
            _columns(axes, "words" if colour == GREEN else "patches", inner)
            if not number:
                _rows(axes, words, padding)
            left += cell * block.shape[1] + 0.1
            for query, row in (("cls", 0), ("last", words - 1)):
                key = f"{name.split()[0]}_{query}"
                number[key] = number.get(key, 0.0) + float(block[row].sum())
        left += gap - 0.1
    return Drawn(sheet.figure, number)


def _allowed(axes: Axes, allowed: np.ndarray, colour: str, words: int) -> None:
    queries, keys = allowed.shape
    cells = np.where(allowed[..., None], to_rgb(colour), to_rgb(FORBIDDEN))
    cells[words:] = 0.3 * cells[words:] + 0.7  # what padding asks for
    axes.imshow(cells, extent=(0, keys, queries, 0), interpolation="nearest", aspect="auto")
    axes.vlines(range(1, keys), 0, queries, color="white", linewidth=0.8)
    axes.hlines(range(1, queries), 0, keys, color="white", linewidth=0.8)
    axes.set(xlim=(0, keys), ylim=(queries, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _rows(axes: Axes, words: int, padding: int) -> None:
    for place, name in ((0.5, "[CLS]"), ((1 + words) / 2, "words"), (words + padding / 2, "padding")):
        axes.text(-0.4, place, name, ha="right", va="center", fontsize=SMALL)


def _columns(axes: Axes, name: str, inner: int) -> None:
    """Below a matrix: [CLS], `name` up to key `inner`, and padding where there are more."""
    keys, below = axes.get_xlim()[1], axes.get_ylim()[0] + 0.15
    how = dict(ha="center", va="top", fontsize=SMALL, color=GREY)
    axes.text(0.5, below, "[CLS]", rotation=90, **how)
    axes.text((1 + inner) / 2, below, name, **how)
    if keys > inner:
        axes.text((inner + keys) / 2, below, "padding", rotation=90, **how)


# What words cost ------------------------------------------------------------------------------------------------------


@styled
def paid_for_words(table: dict[str, dict[str, float]]) -> Drawn:
    """A bar for each loss of each kind of words, the last of a kind a reference; numbers: the losses, as `kind, which`."""
    names = list(next(iter(table.values())))
    colours = dict(zip(names, (BLUE, ORANGE, INK), strict=False))
    left, row, between = 2.4, 0.23, 0.16
    sheet = Sheet(
        "What words cost, in nats: with the right image, with a wrong one, and by their frequencies alone",
        0.28 + len(table) * (len(names) * row + between),
    )
    longest = max(value for paid in table.values() for value in paid.values())
    for i, (name, colour) in enumerate(colours.items()):
        sheet.text(left + 1.5 * i, 0, name, color=colour, weight="bold")
    top = 0.28
    for kind, paid in table.items():
        sheet.text(MARGIN, top + len(names) * row / 2 - 0.09, kind)
        for name, value in paid.items():
            width = (WIDTH - left - 0.7) * value / longest
            bar = sheet.axes(left, top, width, row - 0.04)
            bar.set(xticks=[], yticks=[], facecolor=colours[name])
            bar.spines[:].set_visible(False)
            sheet.text(left + width + 0.06, top + 0.02, f"{value:.2f}", SMALL)
            top += row
        top += between
    return Drawn(sheet.figure, {f"{kind}, {name}": value for kind, paid in table.items() for name, value in paid.items()})
