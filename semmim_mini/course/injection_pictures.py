"""Pictures of notebook 06: attention that goes to words, masks as matrices, what travels through them, and what leaks to [CLS]."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.course.injection import squared
from semmim_mini.figures.attention import FORBIDDEN
from semmim_mini.figures.style import (
    BLUE,
    GREY,
    HEAT,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    heat,
    line_height,
    outline,
    percent,
    styled,
    wrap,
)

SCENES, SIDE_LABELS = 5, 0.75  # drawn of a batch; inches left of them


@styled
def word_share_maps(images: Tensor, captions: list[str], shares: dict[str, Tensor], objects: Tensor, even: float, patch: int) -> Drawn:
    """How much of each patch's attention goes to words, a row of maps for each layer; the first five scenes are drawn.

    Args:
        shares: for each layer's name (b, n), shares of attention, of all images that the numbers speak of.
        objects: (b, n) bool, patches that show an object.
        even: the share of words among the keys that a patch may look at.

    Returns:
        The mean share of each layer; `even`; and of the last layer the mean on patches with and without an object.
    """
    (name, last), top = list(shares.items())[-1], max(float(share[:SCENES].max()) for share in shares.values())
    number = {label: float(share.mean()) for label, share in shares.items()} | {"even": even}
    number |= {"on objects": float(last[objects].mean()), "on background": float(last[~objects].mean())}
    tile = (WIDTH - 2 * MARGIN - SIDE_LABELS) / SCENES - 0.1
    lines, below = [wrap(caption, tile, SMALL) for caption in captions[:SCENES]], (len(shares) + 1) * (tile + 0.1)
    sheet = Sheet(
        f"In {name} a patch gives {percent(number[name])} of its attention to words; an even spread would give {percent(even)}",
        below + max(map(len, lines)) * line_height(SMALL),
        f"Darkest: nothing goes to words; brightest: {percent(top)} of a patch's attention, mean over heads. One scale for all maps. "
        "Orange: objects, known from the scene.",
    )
    for row, label in enumerate(("picture", *shares)):
        sheet.text(MARGIN, row * (tile + 0.1) + tile / 2 - 0.08, label, weight="bold")
    for i, caption in enumerate(lines):
        left = MARGIN + SIDE_LABELS + i * (tile + 0.1)
        _column(sheet, left, tile, images[i], [share[i] for share in shares.values()], objects[i], patch, top)
        for k, line in enumerate(caption):
            sheet.text(left, below + k * line_height(SMALL), line, SMALL)
    return Drawn(sheet.figure, number)


def _column(sheet: Sheet, left: float, tile: float, image: Tensor, shares: list[Tensor], objects: Tensor, patch: int, top: float) -> None:
    """A scene and below it a map for each layer, objects outlined in all."""
    side = math.isqrt(len(objects))
    axes = [sheet.picture(left, 0, tile, as_picture(image))]
    for row, share in enumerate(shares, start=1):
        axes.append(sheet.picture(left, row * (tile + 0.1), tile, heat(share, patch), cmap=HEAT, vmin=0, vmax=top))
    for each in axes:
        outline(each, objects.reshape(side, side).numpy(), patch, ORANGE)


# masks as matrices ----------------------------------------------------------------------------------------------------

Frame = tuple[int, int, int, int]  # column, row, width, height of what is outlined, in cells


@styled
def isolation_matrices(opened: Tensor, shielded: Tensor, words: list[str]) -> Drawn:
    """Masks of the three kinds of isolation, a cell for each pair of tokens; number: text tokens that the row of [CLS] is open to.

    Args:
        opened, shielded: (q, s) bool, of an encoder that hides nothing from [CLS], and of one that hides the words.
        words: names of the text tokens.
    """
    q, s = opened.shape
    panels = {"none": opened, "mask": shielded, "fork, for [CLS]": opened[:, :q], "fork, for patches": opened}
    number = {name: float(matrix[0, q:].sum()) for name, matrix in panels.items()}
    counts = [f"{number[key]:.0f} under {key.split(',')[0]}" for key in list(panels)[:3]]
    sheet = Sheet(
        f"Words that [CLS] may look at: {', '.join(counts)}",
        0.8 + 0.2 * q,
        "Rows ask, columns answer. Blue: image keys. Orange: words. Grey: closed. Outlined: the [CLS] that is read; at the right, the "
        "patches that are.",
    )
    left, names = MARGIN + 0.45, _names(q, words)
    for i, (name, matrix) in enumerate(panels.items()):
        rows = (1, q - 1) if name == "fork, for patches" else (0, 1)
        axes = _panel(sheet, left, 0.2, name, matrix, names, q, (0, rows[0], matrix.shape[1], rows[1]), labelled=i == 0)
        if rows[0]:
            axes.add_patch(Rectangle((0, 0), s, 1, facecolor="white", alpha=0.65, zorder=2))  # nobody reads this [CLS]
        left += 0.2 * s + 0.3
    return Drawn(sheet.figure, number)


@styled
def reach_product(allowed: Tensor, words: list[str], word: int) -> Drawn:
    """The boolean product of a mask with itself, and the way of one word to [CLS] in it; numbers: ways in one layer, and in two."""
    q, s = allowed.shape
    step = squared(allowed)
    ways, column = step.float() @ step.float(), q + word
    number = {"one": float(step[0, column]), "two": float(ways[0, column])}
    sheet = Sheet(
        f"Ways from \u201c{words[word]}\u201d to [CLS]: {number['one']:.0f} in one layer, {number['two']:.0f} in two",
        0.8 + 0.26 * s,
        "A cell of the product asks: is there a token that [CLS] looks at (row at the left) and that knew "
        f"\u201c{words[word]}\u201d before (column in the middle)?",
    )
    left, names = MARGIN + 0.45, _names(q, words)
    panels = {"the next layer, S": (0, 0, s, 1), "known after one, S": (column, 0, 1, s), "known after two, S · S": (column, 0, 1, 1)}
    for i, ((name, frame), sign) in enumerate(zip(panels.items(), ("×", "=", ""), strict=True)):
        _panel(sheet, left, 0.26, name, ways > 0 if i == 2 else step, names, q, frame, labelled=i == 0)
        left += 0.26 * s + 0.42
        sheet.text(left - 0.21, 0.62 + 0.13 * s, sign, size=14, align="center")
    return Drawn(sheet.figure, number)


def _names(queries: int, words: list[str]) -> list[str]:
    return ["[CLS]", *(f"p{i}" for i in range(1, queries)), *words]


def _panel(
    sheet: Sheet, left: float, cell: float, title: str, matrix: Tensor, names: list[str], image: int, frame: Frame, labelled: bool
) -> Axes:
    """A matrix with its title, tokens named above and, where `labelled`, at the left; the first `image` columns are image keys."""
    rows, keys = matrix.shape
    sheet.text(left, 0, title, weight="bold")
    axes = sheet.axes(left, 0.7, cell * keys, cell * rows)
    colours = np.array([to_rgb(BLUE if key < image else ORANGE) for key in range(keys)])
    cells = np.where(matrix.numpy()[..., None], colours[None], to_rgb(FORBIDDEN))
    axes.imshow(cells, extent=(0, keys, rows, 0), interpolation="nearest", aspect="auto")
    axes.vlines(range(1, keys), 0, rows, color="white", linewidth=1)
    axes.hlines(range(1, rows), 0, keys, color="white", linewidth=1)
    axes.add_patch(Rectangle(frame[:2], *frame[2:], fill=False, edgecolor=INK, linewidth=2, clip_on=False, zorder=3))
    axes.set_xticks(np.arange(keys) + 0.5, names[:keys], rotation=90)
    axes.set_yticks(np.arange(rows) + 0.5, names[:rows] if labelled else [""] * rows)
    _as_table(axes, keys, rows)
    return axes


def _as_table(axes: Axes, columns: int, rows: int) -> None:
    """Rows from the top, names above and at the left, no frame."""
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    axes.spines[:].set_visible(False)


# what leaks -----------------------------------------------------------------------------------------------------------


@styled
def leak_tables(changes: dict[str, Tensor]) -> Drawn:
    """By how much [CLS] moves when the caption is swapped: rows m, columns layers, a table for each isolation.

    Args:
        changes: for each isolation (m, layer), the largest change of a feature of [CLS] after that layer.

    Returns:
        The largest change in each table.
    """
    number = {name: float(table.max()) for name, table in changes.items()}
    told = ", ".join(f"{_exact(change)} under {name}" for name, change in number.items())
    sheet = Sheet(
        f"A feature of [CLS] moves, when the caption is swapped, by up to {told}",
        1.95,
        "Rows: m, the first layer that reads. Columns: after which layer. 0 is exact, to the last bit; grey: no layer has read yet.",
    )
    for i, (name, table) in enumerate(changes.items()):
        left, depth = MARGIN + 0.55 + i * 2.75, len(table)
        sheet.text(left, 0.02, name, weight="bold")
        axes = sheet.axes(left, 0.5, 2.55, 1.4)
        _changes(axes, table, max(number.values()))
        axes.set_xticks(np.arange(depth) + 0.5, [f"layer {layer}" for layer in range(depth)])
        axes.set_yticks(np.arange(depth) + 0.5, [f"m = {m}" for m in range(depth)] if i == 0 else [""] * depth)
    return Drawn(sheet.figure, number)


def _changes(axes: Axes, table: Tensor, top: float) -> None:
    for (m, layer), value in np.ndenumerate(table.numpy()):
        shade = 0.2 + 0.8 * value / top if value else 0.0
        face = tuple(shade * channel + 1 - shade for channel in to_rgb(ORANGE)) if value else to_rgb(PALE if layer < m else "#CFE3F1")
        axes.add_patch(Rectangle((layer, m), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5))
        ink = GREY if layer < m else "white" if shade > 0.6 else INK
        axes.text(layer + 0.5, m + 0.5, _exact(value), ha="center", va="center", fontsize=SMALL, color=ink)
    _as_table(axes, *table.shape)


def _exact(change: float) -> str:
    """Two digits, and 0 for nothing but zero."""
    return "0" if change == 0 else f"{change:.2f}" if change >= 0.005 else "<0.01"
