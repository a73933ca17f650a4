"""Pictures of notebook 04 about codes: a batch being balanced, prototypes on a circle, one hidden patch and three questions about it."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from semmim_mini.course.local_semantics_pictures import codes
from semmim_mini.figures.patterns import crop
from semmim_mini.figures.style import (
    BLUE,
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
    hidden,
    outline,
    styled,
)

INNER = WIDTH - 2 * MARGIN
UNUSED = "#CCCCCC"


@styled
def balancing(stages: Mapping[str, Float[Tensor, "rows k"]]) -> Drawn:
    """An assignment of rows to prototypes while Sinkhorn–Knopp scales it, sums of columns above, sums of rows beside.

    Returns:
        Largest and smallest sum of a column, at the first stage and at the last.
    """
    tables = list(stages.values())
    rows, k = tables[0].shape
    number = {}
    for name, table in (("first", tables[0]), ("last", tables[-1])):
        number |= {f"{name}_most": float(table.sum(dim=0).max()), f"{name}_least": float(table.sum(dim=0).min())}
    width, bar = INNER / len(tables) - 0.42, 0.55
    height = 1.35 * width * rows / k / 2
    first, last = (f"{number[f'{when}_most']:.1f} and {number[f'{when}_least']:.1f}" for when in ("first", "last"))
    sheet = Sheet(
        f"{rows} rows share {k} prototypes: at first the best and the least liked get {first} rows, balanced {last}",
        0.3 + bar + height + 0.1,
        f"Bars: sums, dashed where they should be: {rows / k:g} for a column, 1 for a row. Bright: much.",
    )
    for i, (name, table) in enumerate(stages.items()):
        left = MARGIN + i * (width + 0.42)
        sheet.text(left + width / 2, 0, name, SMALL, "center", weight="bold")
        above, beside = sheet.axes(left, 0.25, width, bar), sheet.axes(left + width + 0.04, 0.3 + bar, 0.24, height)
        _sums(above, [t.sum(dim=0) for t in tables], i, rows / k, along=True)
        _sums(beside, [t.sum(dim=1) for t in tables], i, 1.0, along=False)
        axes = sheet.axes(left, 0.3 + bar, width, height)
        axes.imshow(table.numpy(), cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    return Drawn(sheet.figure, number)


def _sums(axes: Axes, sums: list[Tensor], stage: int, wanted: float, along: bool) -> None:
    """Bars beside the edge of a table that they are the sums of, on one scale for all stages."""
    places, end = np.arange(len(sums[stage])), 1.05 * max(float(s.max()) for s in sums)
    if along:
        axes.bar(places, sums[stage].numpy(), color=BLUE)
        axes.axhline(wanted, color=ORANGE, linewidth=1.2, linestyle="--")
        axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(0, end))
    else:
        axes.barh(places, sums[stage].numpy(), color=BLUE)
        axes.axvline(wanted, color=ORANGE, linewidth=1.2, linestyle="--")
        axes.set(ylim=(len(places) - 0.5, -0.5), xlim=(0, end))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


@styled
def on_the_circle(spaces: Mapping[str, tuple[Float[Tensor, "points 2"], Float[Tensor, "k 2"]]], things: Int[Tensor, "points"]) -> Drawn:
    """Encoding spaces with a bottleneck of two: where tokens land, coloured by what they show, and the prototypes, as rays.

    Args:
        spaces: for each its directions and unit prototypes.
        things: what each point shows.

    Returns:
        For each space the number of prototypes that are some point's nearest.
    """
    number = {name: float(len((points @ rays.T).argmax(dim=1).unique())) for name, (points, rays) in spaces.items()}
    size = INNER / len(spaces) - 0.15
    in_use = ", ".join(f"{n:.0f}" for n in number.values())
    sheet = Sheet(
        f"An encoding space of two dimensions: {in_use} prototypes in use",
        0.25 + size,
        "Points: images, coloured by the thing they show, set off a little so that they do not cover each other. Rays: prototypes; "
        "dark ones are some point's nearest.",
    )
    colours = [OBJECT_COLOURS[t % len(OBJECT_COLOURS)] for t in things.tolist()]
    for i, (name, (points, rays)) in enumerate(spaces.items()):
        left = MARGIN + i * (size + 0.15)
        sheet.text(left + size / 2, 0, f"{name}: {codes(number[name])}", SMALL, "center", weight="bold")
        _circle(sheet.axes(left, 0.25, size, size), points, rays, colours)
    return Drawn(sheet.figure, number)


def _circle(axes: Axes, points: Tensor, rays: Tensor, colours: list[str]) -> None:
    """Points on a circle, each a little off it, and rays, dark where they are some point's nearest."""
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=PALE, linewidth=1.5))
    used = set((points @ rays.T).argmax(dim=1).tolist())
    for j, (x, y) in enumerate(rays.tolist()):
        axes.plot((0, 1.25 * x), (0, 1.25 * y), color=INK if j in used else UNUSED, linewidth=1.3, zorder=1)
    apart = 0.16 * (torch.rand(len(points), 1, generator=torch.Generator().manual_seed(0)) - 0.5)
    placed = (points * (1 + apart)).numpy()
    axes.scatter(placed[:, 0], placed[:, 1], s=14, c=colours, edgecolors="white", linewidths=0.3, zorder=2)


@styled
def three_questions(
    images: Float[Tensor, "b 3 h w"], where: tuple[int, int], patch: int, answers: Mapping[str, tuple[str, np.ndarray | Tensor, Tensor]]
) -> Drawn:
    """One hidden patch, what each kind of target asks for, and patches of other images that would be answered the same.

    Args:
        where: image and patch.
        patch: its side in px.
        answers: for each kind of target a line about it, the target itself (a picture, or a code, whose largest weights are drawn as
            bars), and patches of other images, counted over all images.

    Returns:
        For each kind, how many such patches are shown.
    """
    row, place = where
    side, scene, tile, high = images.shape[-1] // patch, 2.2, 0.8, 1.12
    mask = (torch.arange(side**2) == place).reshape(side, side).numpy()
    sheet = Sheet("One hidden patch, three questions about it", 3 * high + 0.02, "Framed: a patch, in the middle of its neighbours.")
    sheet.text(MARGIN, 0, "the student sees", SMALL, weight="bold")
    axes = sheet.picture(MARGIN, 0.2, scene, hidden(as_picture(images[row]), mask, patch))
    outline(axes, mask, patch, ORANGE)
    for line, words in enumerate(("Right: the target, and beside it", "patches of other scenes that", "have the same answer.")):
        sheet.text(MARGIN, 0.3 + scene + 0.17 * line, words, SMALL, color=GREY)
    for i, (name, (line, target, others)) in enumerate(answers.items()):
        left, top = MARGIN + scene + 0.35, i * high
        sheet.text(left, top, f"{name}: {line}", SMALL, weight="bold")
        _target(sheet, left, top + 0.2, tile, target)
        for j, other in enumerate(others.tolist()):
            image, at = divmod(other, side**2)
            framed = sheet.picture(left + 1.0 + j * (tile + 0.06), top + 0.2, tile, crop(images[image], at, patch))
            outline(framed, np.pad([[True]], 1), patch, ORANGE)
    return Drawn(sheet.figure, {name: float(len(others)) for name, (_, _, others) in answers.items()})


def _target(sheet: Sheet, left: float, top: float, size: float, target: np.ndarray | Tensor, most: int = 8) -> None:
    """A target: pixels as they are, a code as bars of its largest weights."""
    if isinstance(target, np.ndarray):
        sheet.picture(left, top, size, target)
        return
    axes = sheet.axes(left, top, size, size)
    axes.bar(range(most), target.topk(most).values.numpy(), color=BLUE)
    axes.set(xticks=[], yticks=[], xlim=(-0.7, most - 0.3))


def same_answer(answers: Int[Tensor, "patches"], image: Int[Tensor, "patches"], patch: int, most: int = 6) -> Int[Tensor, "others"]:
    """Patches of other images with the answer of `patch`, at most one an image, in their order."""
    alike = (answers == answers[patch]) & (image != image[patch])
    places = alike.nonzero().flatten()
    first = [i for i, place in enumerate(places) if i == 0 or image[place] != image[places[i - 1]]]
    return places[first][:most]
