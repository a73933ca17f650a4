"""Pictures of notebook 03 about alignment: similarity as a matrix, pulls and pushes, a ring, captions with their odds, losses."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    HEAT,
    INK,
    MARGIN,
    OBJECT_COLOURS,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    line_height,
    percent,
    styled,
    wrap,
    wrap_runs,
)
from semmim_mini.objectives.matching import CHANCE

TUG = LinearSegmentedColormap.from_list("tug", (ORANGE, "white", BLUE))  # apart, nothing, together

# Similarity -----------------------------------------------------------------------------------------------------------


@styled
def similarity_table(images: Tensor, captions: Sequence[str], similarity: Tensor) -> Drawn:
    """Pictures and their captions beside the matrix of cosines; numbers: share of images nearest to their own caption, and chance."""
    count, left = len(images), 4.2
    tile = (WIDTH - MARGIN - left) / count
    number = {"accuracy": _accuracy(similarity), "chance": 1 / count}
    sheet = Sheet(
        f"{round(count * number['accuracy'])} of {count} images are nearest to their own caption; chance is 1 of {count}",
        0.25 + count * tile + 0.05,
        "Rows: images. Columns: captions, by number. Outlined: pairs that belong together. Numbers: cosines.",
    )
    axes = sheet.axes(left, 0.25, count * tile, count * tile)
    _heat(axes, similarity, numbers=True)
    for i, caption in enumerate(captions):
        top = 0.25 + i * tile
        sheet.picture(MARGIN, top + 0.03, tile - 0.06, as_picture(images[i]))
        lines = wrap_runs([(f"{i + 1}", OBJECT_COLOURS[0]), (caption, None)], left - MARGIN - tile - 0.2, SMALL)
        sheet.lines(MARGIN + tile + 0.02, top + (tile - len(lines) * line_height(SMALL)) / 2, lines, SMALL)
        sheet.text(left + (i + 0.5) * tile, 0.03, f"{i + 1}", align="center", color=OBJECT_COLOURS[0], weight="bold")
    return Drawn(sheet.figure, number)


def _accuracy(similarity: Tensor) -> float:
    return float((similarity.argmax(dim=1) == torch.arange(len(similarity))).float().mean())


def _heat(axes: Axes, values: Tensor, numbers: bool, cmap=HEAT, limits: tuple[float, float] | None = None) -> None:
    count = len(values)
    low, high = limits or (float(values.min()), float(values.max()))
    axes.imshow(values.numpy(), extent=(0, count, count, 0), cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i in range(count if numbers else 0):
        axes.add_patch(Rectangle((i + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor=ORANGE, linewidth=2))
        for j in range(count):
            dark = float(values[i, j]) < low + 0.6 * (high - low)
            axes.text(j + 0.5, i + 0.5, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=SMALL, color="white" if dark else INK)


@styled
def similarity_matrices(matrices: dict[str, Tensor]) -> Drawn:
    """Matrices of cosines side by side, own pairs on the diagonal; numbers: in-batch accuracy of each, and chance."""
    count, size = len(matrices), min(2.75, (WIDTH - 2 * MARGIN) / len(matrices) - 0.2)
    number = {name: _accuracy(matrix) for name, matrix in matrices.items()} | {"chance": 1 / len(next(iter(matrices.values())))}
    said = ", ".join(f"{name} {percent(number[name])}" for name in matrices)
    sheet = Sheet(
        f"Images nearest to their own caption: {said}; chance {percent(number['chance'])}",
        0.25 + size,
        "Rows: images. Columns: captions, in the same order, so that pairs lie on the diagonal. Bright: similar, scaled for each matrix.",
    )
    across = (WIDTH - 2 * MARGIN) / count
    for i, (name, matrix) in enumerate(matrices.items()):
        left = MARGIN + i * across + (across - size) / 2
        sheet.text(left + size / 2, 0, name, align="center", weight="bold")
        _heat(sheet.axes(left, 0.22, size, size), matrix, numbers=False)
    return Drawn(sheet.figure, number)


@styled
def temperatures(cosines: Tensor, taus: Sequence[float]) -> Drawn:
    """Softmax of the same cosines at several temperatures, the caption's own first; numbers: the share that it gets."""
    width, height = (WIDTH - 2 * MARGIN - 0.45 * (len(taus) - 1)) / len(taus), 1.5
    shares = {tau: (cosines / tau).softmax(dim=0) for tau in taus}
    number = {f"own_{tau:g}": float(share[0]) for tau, share in shares.items()} | {"chance": 1 / len(cosines)}
    sheet = Sheet(
        f"One cosine in {len(cosines)} is the right one, a little higher than the others; what softmax makes of it depends on τ",
        height + 0.55,
        f"Orange: the own caption, cosine {cosines[0]:.2f}; the others lie between {cosines[1:].min():.2f} and {cosines[1:].max():.2f}.",
    )
    for i, (tau, share) in enumerate(shares.items()):
        axes = sheet.axes(MARGIN + 0.3 + i * (width + 0.45), 0.25, width - 0.3, height)
        axes.bar(range(len(share)), share.numpy(), color=[ORANGE, *[BLUE] * (len(share) - 1)])
        axes.set(ylim=(0, 1), xticks=[], yticks=(0, 0.5, 1))
        sheet.text(MARGIN + 0.3 + i * (width + 0.45), 0, f"τ = {tau:g}: own {percent(float(share[0]))}", weight="bold")
    return Drawn(sheet.figure, number)


@styled
def pulls(gradients: dict[str, Tensor], ids: Tensor) -> Drawn:
    """What gradient descent does to each similarity of a batch, (b, b) for each loss.

    Args:
        gradients: of a loss with respect to the similarities; its negative is what descent does.
        ids: (b,) image identity of each pair.

    Returns:
        The mean force on the pairs of one picture that are not on the diagonal; above 0 they are pulled together.
    """
    size, twins = 2.6, (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)
    number = {name: float(-gradient[twins].mean()) for name, gradient in gradients.items()}
    limit = max(float(gradient.abs().max()) for gradient in gradients.values())
    verdict = ", ".join(f"“{name}” {'pulls them together' if force > 0 else 'pushes them apart'}" for name, force in number.items())
    sheet = Sheet(
        f"A picture and another of its captions: {verdict}",
        0.65 + size,
        "Blue: pulled together. Orange: pushed apart. Outlined: pairs of one picture.",
    )
    across = (WIDTH - 2 * MARGIN) / len(gradients)
    for i, (name, gradient) in enumerate(gradients.items()):
        left = MARGIN + i * across + (across - size) / 2
        sheet.text(left + size / 2, 0, name, align="center", weight="bold")
        axes = sheet.axes(left, 0.62, size, size)
        _heat(axes, -gradient, numbers=False, cmap=TUG, limits=(-limit, limit))
        _name_pairs(axes, ids)
    return Drawn(sheet.figure, number)


def _name_pairs(axes: Axes, ids: Tensor) -> None:
    """Picture numbers along the rows (images) and columns (captions), an outline around each pair of one picture."""
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(np.arange(len(ids)) + 0.5, [str(x) for x in ids.tolist()])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="caption of picture", ylabel="picture")
    axes.tick_params(length=0)
    for row, column in (ids[:, None] == ids).nonzero().tolist():
        axes.add_patch(Rectangle((column + 0.04, row + 0.04), 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.5))


@styled
def ring(states: Sequence[Tensor], pointers: Sequence[int]) -> Drawn:
    """A queue after each batch that was written: numbered features in their places, the newest coloured; number: features lost so far.

    Args:
        states: (places,) number of the feature in each place after each batch, −1 where none was written.
        pointers: where the next batch will begin.
    """
    places = len(states[0])
    width, row = (WIDTH - 2 * MARGIN - 1.5) / places, 0.5
    newest = [int(state.max()) for state in states]
    number = {"lost": float(max(0, newest[-1] + 1 - places))}
    sheet = Sheet(
        f"A ring of {places} places: {newest[-1] + 1} features were written, the newest {places} are there",
        row * len(states) + 0.1,
        "Orange: written by the last batch. The triangle: where the next one begins.",
    )
    for i, (state, pointer) in enumerate(zip(states, pointers, strict=True)):
        before = newest[i - 1] if i else -1
        sheet.text(MARGIN, i * row + 0.08, f"batch {i + 1}, {newest[i] - before} rows")
        axes = sheet.axes(MARGIN + 1.5, i * row, width * places, row)
        axes.set(xlim=(0, places), ylim=(row, 0), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        for place, value in enumerate(state.tolist()):
            colour, ink = (ORANGE, "white") if value > before else (PALE, INK)
            axes.add_patch(Rectangle((place + 0.04, 0), 0.92, 0.32, facecolor=colour, edgecolor="none"))
            axes.text(place + 0.5, 0.16, "" if value < 0 else value, ha="center", va="center", color=ink, fontsize=SMALL)
        axes.plot(pointer + 0.5, 0.4, "^", color=INK, markersize=5)
    return Drawn(sheet.figure, number)


# Odds and losses ------------------------------------------------------------------------------------------------------


@styled
def caption_bars(image: Tensor, captions: Sequence[str], shares: dict[str, Tensor], true: Tensor, title: str) -> Drawn:
    """A picture and captions, each with a bar for every distribution over them; numbers: what true captions get of each.

    Args:
        captions: those to draw, the picture's own first.
        shares: (captions,) of each distribution.
        true: (captions,) bool, names only things that the picture shows.
    """
    side, left, text = 1.9, MARGIN + 2.1, 3.1
    width = (WIDTH - MARGIN - left - text - 0.1) / len(shares)
    lines = [wrap(caption, text - 0.15, SMALL, bold=True) for caption in captions]
    heights = [max(0.3, len(x) * line_height(SMALL) + 0.08) for x in lines]
    note = "Green: names only things that the picture shows. First: the picture's own caption."
    sheet = Sheet(title, 0.25 + max(side, sum(heights)), note)
    sheet.picture(MARGIN, 0.25, side, as_picture(image))
    for i, name in enumerate(shares):
        sheet.text(left + text + i * width, 0, name, SMALL, weight="bold")
    top = 0.25
    for row, height in enumerate(heights):
        how = {"color": GREEN, "weight": "bold"} if true[row] else {}
        for k, line in enumerate(lines[row]):
            sheet.text(left, top + k * line_height(SMALL), line, SMALL, **how)
        for i, share in enumerate(shares.values()):
            _bar(sheet, left + text + i * width, top, width - 0.6, float(share[row]), GREEN if true[row] else GREY)
        top += height
    return Drawn(sheet.figure, {name: float(share[true].sum()) for name, share in shares.items()})


def _bar(sheet: Sheet, left: float, top: float, width: float, share: float, colour: str) -> None:
    axes = sheet.axes(left, top, width, 0.16)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=PALE, edgecolor="none"))
    axes.add_patch(Rectangle((0, 0), share, 1, facecolor=colour, edgecolor="none"))
    sheet.text(left + width + 0.05, top, percent(share), SMALL)


@styled
def base_rate() -> Drawn:
    """Loss of a head that answers "they match" with one probability for every pair; numbers: its least, and that of a coin."""
    p = np.linspace(0.02, 0.98, 97)
    loss = -(np.log(p) + 2 * np.log(1 - p)) / 3
    number = {"least": CHANCE, "coin": float(np.log(2))}
    sheet = Sheet(f"The best that a head can do without looking: say 1/3 every time, and pay {CHANCE:.4f} nats", 2.4)
    axes = sheet.axes(MARGIN + 0.5, 0.1, WIDTH - 2 * MARGIN - 0.6, 1.85)
    axes.plot(p, loss, color=BLUE, linewidth=2)
    axes.set(xlim=(0, 1), ylim=(0.4, 1.6), xlabel='probability of "they match", the same for every pair', ylabel="loss in nats")
    for at, value, name, side in ((1 / 3, CHANCE, "1/3: 0.6365", 0.5), (0.5, np.log(2), "1/2: ln 2 = 0.6931", 0.95)):
        axes.plot(at, value, "o", color=ORANGE, markersize=7)
        axes.annotate(name, (at, value), (at, value + side * 0.7), ha="center", arrowprops={"arrowstyle": "-", "color": GREY})
    return Drawn(sheet.figure, number)


@styled
def losses_beside_chance(runs: dict[str, Sequence[float]], chance: float, name: str, smooth: int = 10) -> Drawn:
    """Losses of a few short runs, means of `smooth` steps, beside what a guesser pays; numbers: the mean of each run's last fifth."""
    number = {run: float(np.mean(losses[-len(losses) // 5 :])) for run, losses in runs.items()} | {"chance": chance}
    said = ", ".join(f"{run} {number[run]:.2f}" for run in runs)
    sheet = Sheet(f"{name} late in the run: {said}; a guesser pays {chance:.2f}", 2.6)
    axes = sheet.axes(MARGIN + 0.65, 0.1, WIDTH - 2 * MARGIN - 2.35, 2.05)
    for (run, losses), colour in zip(runs.items(), OBJECT_COLOURS, strict=False):
        mean = np.convolve(losses, np.ones(smooth) / smooth, mode="valid")
        axes.plot(np.arange(len(mean)) + smooth, mean, color=colour, linewidth=2, label=run)
    axes.axhline(chance, color=INK, linestyle="--", linewidth=1, label="guessing")
    axes.set(xlabel="step", ylabel="loss in nats")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), frameon=False, fontsize=SMALL)
    return Drawn(sheet.figure, number)
