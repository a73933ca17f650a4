"""Pictures of notebook 04 about agreement and collapse: pairs of views, temperatures, a teacher's memory, four runs side by side."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.figures.curves import label_ends
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    HEAT,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    PURPLE,
    SMALL,
    WIDTH,
    YELLOW,
    Drawn,
    Sheet,
    as_picture,
    styled,
    text_width,
)

COLOURS = (BLUE, ORANGE, YELLOW, GREEN, PURPLE)  # of runs, in the order given
INNER = WIDTH - 2 * MARGIN


@styled
def pairs_of_views(views: Float[Tensor, "v 3 h w"], loss: Float[Tensor, "v v"], other: float, blind: float) -> Drawn:
    """What each pair of views pays: rows are the teacher's views, columns the student's, the diagonal crossed out.

    Args:
        views: of one image, as an example.
        loss: cross-entropy of the teacher's code of view u with the student's of view w, mean over images.
        other: the same for views of two different images.
        blind: ln k.

    Returns:
        Mean over the ordered pairs of different views (`pairs`), over the diagonal (`itself`), and `other` and `blind` as given.
    """
    count, cell, left = len(views), 0.92, MARGIN + 1.35
    itself = torch.eye(count, dtype=torch.bool)
    number = {"pairs": float(loss[~itself].mean()), "itself": float(loss[itself].mean()), "other": other, "blind": blind}
    sheet = Sheet(
        f"{count} views make {count * (count - 1)} ordered pairs: they pay {number['pairs']:.1f} nats, a blind student {blind:.1f}",
        0.3 + (count + 1) * cell,
        "Rows: the view that the teacher reads. Columns: the view that the student reads. Numbers: means over images, in nats.",
    )
    for i, view in enumerate(views):
        sheet.picture(left + (1 + i) * cell, 0.3, cell - 0.06, as_picture(view))
        sheet.picture(left, 0.3 + (1 + i) * cell, cell - 0.06, as_picture(view))
    axes = sheet.axes(left + cell, 0.3 + cell, count * cell - 0.06, count * cell - 0.06)
    _matrix(axes, loss)
    sheet.text(left + cell * (1 + count / 2), 0, "the student reads", SMALL, "center", color=GREY)
    sheet.text(MARGIN, 0.3 + cell * (1 + count / 2) - 0.1, "the teacher reads", SMALL, color=GREY)
    lines = (("two views of one image", "pairs", BLUE), ("a view and itself: left out", "itself", GREY))
    lines += (("blind: ln k", "blind", ORANGE), ("views of two images", "other", INK))
    for i, (name, key, colour) in enumerate(lines):
        top = 0.5 + cell + 0.45 * i
        sheet.text(left + (1.2 + count) * cell, top, f"{number[key]:.1f}", color=colour, weight="bold")
        sheet.text(left + (1.2 + count) * cell + 0.45, top, name, color=colour)
    return Drawn(sheet.figure, number)


def _matrix(axes: Axes, loss: Tensor) -> None:
    """Cells with their numbers; those of the diagonal hatched."""
    count = len(loss)
    axes.set(xlim=(0, count), ylim=(count, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for u in range(count):
        for w in range(count):
            how = {"facecolor": PALE, "hatch": "///", "edgecolor": "white"} if u == w else {"facecolor": "#CFE3F1", "edgecolor": "white"}
            axes.add_patch(Rectangle((w, u), 1, 1, linewidth=3, **how))
            colour, box = (GREY, {"facecolor": PALE, "edgecolor": "none", "pad": 2}) if u == w else (INK, None)
            axes.text(w + 0.5, u + 0.5, f"{loss[u, w]:.1f}", ha="center", va="center", color=colour, bbox=box)


@styled
def temperatures(logits: Float[Tensor, "k"], scale: Sequence[float]) -> Drawn:
    """Cosines with k prototypes, and the code that softmax makes of them at each temperature.

    Returns:
        For each temperature, as `at_0.1`, the number of prototypes that the code is spread over, e^entropy.
    """
    codes = [(logits / tau).softmax(dim=0) for tau in scale]
    spread = [float(torch.special.entr(code).sum().exp()) for code in codes]
    width = (INNER - 0.4) / (1 + len(scale)) - 0.3
    sheet = Sheet(
        f"One image, {len(scale)} temperatures: its code is spread over {spread[0]:.1f} to {spread[-1]:.1f} of {len(logits)} prototypes",
        2.05,
        "Number of prototypes: e to the power of the entropy, from 1 for a code that is sure to k for one that says nothing.",
    )
    heads = [("cosines", ""), *((f"τ = {tau:g}", f"{n:.1f} prototypes") for tau, n in zip(scale, spread, strict=True))]
    for i, (values, (head, below)) in enumerate(zip((logits, *codes), heads, strict=True)):
        axes = sheet.axes(MARGIN + 0.3 + i * (width + 0.32), 0.28, width, 1.3)
        axes.bar(range(len(values)), values.numpy(), color=GREY if i == 0 else BLUE)
        axes.set(ylim=(-1, 1) if i == 0 else (0, 1), xticks=[], yticks=(-1, 0, 1) if i == 0 else (0, 1))
        axes.set_title(head, loc="center", pad=5)
        sheet.text(MARGIN + 0.3 + i * (width + 0.32) + width / 2, 1.68, below, SMALL, "center", color=GREY)
    return Drawn(sheet.figure, {f"at_{tau:g}": n for tau, n in zip(scale, spread, strict=True)})


@styled
def memory_of_a_teacher(momenta: Sequence[float], steps: int = 300) -> Drawn:
    """How much of today's teacher is left after j more steps, for each momentum; number: the half-lives in steps."""
    number = {f"half_life_{m:g}": math.log(0.5) / math.log(m) for m in momenta}
    lives = [f"{life:.0f}" for life in number.values()]
    sheet = Sheet(f"A teacher forgets: half of it is replaced after {', '.join(lives[:-1])} or {lives[-1]} steps", 2.2)
    axes, later = sheet.axes(MARGIN + 0.45, 0.05, INNER - 2.2, 1.7), np.arange(steps + 1)
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle="--")
    for m, life, colour in zip(momenta, number.values(), COLOURS, strict=False):
        axes.plot(later, m**later, color=colour, linewidth=2)
        axes.plot(life, 0.5, "o", color=colour)
    axes.set(xlim=(0, steps), ylim=(0, 1.02), yticks=(0, 0.5, 1), xlabel="steps later", ylabel="share that is left")
    ends = [(m**steps, f"μ = {m:g}: {life} steps", colour) for m, life, colour in zip(momenta, lives, COLOURS, strict=False)]
    label_ends(axes, [*ends, (0.5, "half", GREY)])
    return Drawn(sheet.figure, number)


@styled
def runs_side_by_side(runs: Mapping[str, Sequence[dict]], k: int) -> Drawn:
    """Loss, entropy of one target, distance of the mean target from uniform, and prototypes in use, of several runs.

    Args:
        runs: for each its records: `loss`, and what `training.step.describe` says of the targets under the name `cls`.

    Returns:
        Of each run `NAME` the means over the last tenth: `NAME loss`, `NAME entropy`, `NAME distance`, `NAME used`.
    """
    highest = math.log(k)
    panels = (
        ("Loss, in nats", "loss", "loss", (highest, "blind: ln k")),
        ("Entropy of one target", "entropy", "cls_entropy", (highest, "says\nnothing: ln k")),
        ("Mean target, KL to uniform", "distance", "cls_kl_to_uniform", (highest, "one code\nfor all: ln k")),
        ("Prototypes in use", "used", "cls_prototypes_used", (k, f"all: {k}")),
    )
    number = {f"{name} {short}": _late([r[key] for r in log]) for name, log in runs.items() for _, short, key, _ in panels}
    lowest = min(runs, key=lambda name: number[f"{name} loss"])
    loss, used = number[f"{lowest} loss"], number[f"{lowest} used"]
    sheet = Sheet(
        f"The lowest loss, {loss:.2f}, is that of “{lowest}”, which uses {used:.0f} of {k} prototypes",
        0.3 + 2 * 2.25,
        "Means of ten steps. Dashed: bounds. Healthy: an entropy between the bounds, a distance near 0, many prototypes.",
    )
    left = MARGIN
    for name, colour in zip(runs, COLOURS, strict=False):
        sheet.text(left, 0, name, color=colour, weight="bold")
        left += text_width(name, bold=True) + 0.35
    for i, (title, _, key, bound) in enumerate(panels):
        axes = sheet.axes(MARGIN + 0.35 + i % 2 * 4.55, 0.62 + i // 2 * 2.2, 2.95, 1.5)
        axes.set_title(title, pad=6, color=INK)
        _courses(axes, [[r[key] for r in log] for log in runs.values()], bound)
        if i > 1:
            axes.set_xlabel("step", labelpad=1)
    return Drawn(sheet.figure, number)


def _courses(axes: Axes, courses: list[list[float]], bound: tuple[float, str]) -> None:
    for values, colour in zip(courses, COLOURS, strict=False):
        smooth = np.convolve(values, np.full(10, 0.1), "valid")
        axes.plot(np.arange(len(smooth)) + 5, smooth, color=colour, linewidth=2)
    axes.axhline(bound[0], color=GREY, linewidth=1.2, linestyle="--")
    axes.set(xlim=(0, max(map(len, courses))), ylim=(-0.04 * bound[0], 1.4 * bound[0]))
    label_ends(axes, [(*bound, GREY)])


def _late(values: Sequence[float]) -> float:
    """Mean of the last tenth."""
    tail = values[-max(1, len(values) // 10) :]
    return sum(tail) / len(tail)


@styled
def answers(tables: Mapping[str, Float[Tensor, "things k"]], known: Mapping[str, float]) -> Drawn:
    """What the teachers of several runs answer: for each thing (a row) its mean target over the k prototypes (columns).

    Args:
        tables: for each run; columns are sorted by the thing that uses them most.
        known: for each run, the AMI of codes with things.

    Returns:
        For each run the number of prototypes that are some thing's highest.
    """
    number = {name: float(len(table.argmax(dim=1).unique())) for name, table in tables.items()}
    things, k = next(iter(tables.values())).shape
    width = (INNER - 0.1) / len(tables) - 0.2
    height = width * things / k
    sheet = Sheet(
        f"What a teacher answers when it is shown {things} things: {', '.join(f'{n:.0f}' for n in number.values())} different codes",
        0.26 + height + 0.46,
        "Rows: things. Columns: prototypes, sorted by the thing that uses them most. Dark: little weight, bright: much.",
    )
    for i, ((name, table), colour) in enumerate(zip(tables.items(), COLOURS, strict=False)):
        left = MARGIN + 0.1 + i * (width + 0.2)
        sheet.text(left, 0, name, color=colour, weight="bold")
        axes = sheet.axes(left, 0.26, width, height)
        axes.imshow(table[:, _sorted_columns(table)].numpy(), cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        sheet.text(left, 0.32 + height, codes(number[name]), SMALL)
        sheet.text(left, 0.49 + height, f"knows the thing: AMI {max(known[name], 0):.2f}", SMALL, color=GREY)
    return Drawn(sheet.figure, number)


def codes(count: float) -> str:
    """So many codes, in words."""
    return "1 code" if count == 1 else f"{count:.0f} codes"


def _sorted_columns(table: Tensor) -> Tensor:
    """By the thing that gives a column most, columns of one thing from much to little."""
    weight, thing = table.max(dim=0)
    return torch.from_numpy(np.lexsort((-weight.numpy(), thing.numpy())))
